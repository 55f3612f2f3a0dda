"""Write ``docs/codes.md`` from the codes themselves; with ``--check``, fail where it differs.

python docs/generate_codes.py [--check]
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from pydantic.fields import FieldInfo

from bvae_cli.codes.base import CodeSpec
from bvae_cli.codes.bch import Bch
from bvae_cli.codes.convolutional import Convolutional
from bvae_cli.codes.golay import Golay
from bvae_cli.codes.hamming import Hamming
from bvae_cli.codes.ldpc import Ldpc
from bvae_cli.codes.matrix import Linear
from bvae_cli.codes.parity import Parity
from bvae_cli.codes.polar import Polar
from bvae_cli.codes.reed_muller import ReedMuller
from bvae_cli.codes.repetition import Repetition
from bvae_cli.codes.uncoded import Uncoded
from bvae_cli.codes.unequal import Unequal

_PAGE = Path(__file__).with_name("codes.md")
SHOWN: list[CodeSpec] = [
    Uncoded(),
    Repetition(R=2),
    Repetition(R=3),
    Repetition(R=5),
    Parity(k=4),
    Hamming(r=3),
    Hamming(r=3, extended=True),
    Hamming(r=4),
    Hamming(r=4, shorten=3),
    Hamming(r=5),
    Golay(n=23),
    Golay(n=24),
    ReedMuller(r=1, m=3),
    ReedMuller(r=1, m=4),
    ReedMuller(r=2, m=4),
    Bch(n=15, t=2),
    Bch(n=15, t=3),
    Bch(n=31, t=2),
    Bch(n=31, t=3),
    Bch(n=63, t=2),
    Ldpc(n=96),
    Ldpc(n=200),
    Linear(matrix="1101000/0110100/1110010/1010001"),
    Unequal(groups="60 repetition:R=5 + 140 hamming:r=3 + 100 none"),
    Convolutional(k=10),
    Convolutional(k=50),
    Convolutional(k=48, termination="terminated"),
    Convolutional(generators="5-7-7", k=50),
    Convolutional(generators="23-35", k=50),
    Convolutional(generators="133-171", k=44, termination="terminated"),
    Polar(n=16, k=8),
    Polar(n=32, k=16),
    Polar(n=64, k=32),
    Polar(n=128, k=64),
]
_INTRODUCTION = """\
# Codes

<!-- Made by `python docs/generate_codes.py`; do not edit. -->

A code turns K information bits of the latent into N code bits. `bvae codes` lists what is installed, `bvae codes show hamming --r 4`
tells all of one code, `bvae codes check NAME` runs the checks of [](write-a-code.md) on it (or on the codes of a file, `my.py`), and
`bvae codes ber none repetition:R=3 hamming --plot rates.svg` measures error rates over flips and over Gaussian noise. A code is named with its options as
`--ecc hamming --r 4`, or in one word as `--ecc hamming:r=4`. Its blocks stand side by side in the latent; a latent size that is not a
whole number of blocks is answered with the nearest that are, and `--pad` leaves the rest uncoded instead. (`repetition` and
`unequal` have no `--pad`: groups say what is left uncoded, as `--ecc unequal --groups "99 repetition:R=3 + 1 none"`.)

Where several codes are named, as in `bvae codes ber`, each has its options behind its name: `name:option=value,option=value`. A value
with commas in it stands in brackets, and what has spaces or brackets in it in the quotes of the shell. An option `n` of a code is said
as `--ecc-n`, because `-n` is the parameter set; behind a name it is `n` still.

```sh
bvae codes ber none bch:n=31,t=2 ldpc:alist=checks.alist
bvae codes ber "unequal:groups=(15 repetition:R=5 + 16 hamming:r=3,extended=true)" repetition:R=3
bvae codes show bch --ecc-n 31 --t 2
```

Whether a code helps a model is another question: see [](evaluation.md), and compare it with the uncoded model of as many information
bits. No code of rate K/N carries more than N(1 − H₂(ε)) information bits through flips: 91.9, 71.4 and 53.1 of 100 at ε = 1, 5, 10 %.

## At a glance

Errors are of one block, each code bit flipped with probability ε, decoded to the nearest codeword, in closed form (“–” where it is not
counted; `bvae check-ecc --measure 100000` measures it). d is the minimum distance, t the number of wrong bits that are always corrected.
"""


def page() -> str:
    """Return the page as it should be."""
    families = list(dict.fromkeys(type(spec) for spec in SHOWN))
    return "\n".join([_INTRODUCTION, _glance(), "## Families\n", *map(_family, families)])


def _glance() -> str:
    lines = [
        "| code | n | k | rate | d | t | bits, ε = 1 % | bits, ε = 5 % | blocks, ε = 1 % | blocks, ε = 5 % | soft decoding |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for spec in SHOWN:
        block = spec.block()
        rates = [
            rate(epsilon) for rate in (spec.hard_bit_error_rate, spec.hard_block_error_rate) for epsilon in (0.01, 0.05)
        ]
        soft = "none that can be afforded" if spec.no_soft_decoder() else spec.soft_decoding()
        cells = [
            f"`{spec.label()}`",
            block.n,
            block.k,
            f"{block.k / block.n:.3f}",
            *map(_known, (block.min_distance, block.correctable)),
        ]
        lines.append("| " + " | ".join(map(str, [*cells, *map(_percent, rates), soft])) + " |")
    return "\n".join([*lines, ""])


def _family(family: type[CodeSpec]) -> str:
    text = inspect.getdoc(family) or ""
    paragraphs = [part for part in text.split("\n\n") if not part.startswith((">>>", "Raises"))]
    lines = [f"### `{family.family}`\n", f"{family.summary[0].upper()}{family.summary[1:]}.\n"]
    lines += [part.replace("``", "`") + "\n" for part in paragraphs]
    options = [(name, info) for name, info in family.model_fields.items() if name != "pad"]
    if options:
        lines += ["| option | default | meaning |", "|---|---|---|"]
        lines += [f"| `{name}` | {_default(info)} | {info.description} |" for name, info in options]
        lines.append("")
    remarks = dict.fromkeys(remark for spec in SHOWN if type(spec) is family and (remark := spec.remark()))
    # A smaller code of a family may be remarked on with the first half of what is said of a larger one.
    whole = [one for one in remarks if not any(other != one and other.startswith(one.rstrip(".")) for other in remarks)]
    lines += [f"{remark}\n" for remark in whole]
    return "\n".join(lines)


def _default(info: FieldInfo) -> str:
    value = "must be given" if info.is_required() else info.default
    return str(value).lower() if isinstance(value, bool) else str(value)


def _known(value: int | None) -> str:
    return "–" if value is None else str(value)


def _percent(rate: float | None) -> str:
    return "–" if rate is None else f"{100 * rate:.3g} %"


def main() -> None:
    """Write the page, or check it."""
    wanted = page()
    if "--check" not in sys.argv[1:]:
        _PAGE.write_text(wanted, encoding="utf-8")
    elif _PAGE.read_text(encoding="utf-8") != wanted:
        sys.exit("docs/codes.md is not what the codes say: run python docs/generate_codes.py")


if __name__ == "__main__":
    main()
