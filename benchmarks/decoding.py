"""What `bvae decode --flip` repairs of random codewords, beside the closed form: the table of docs/use-the-bits.md.

    python benchmarks/decoding.py [--rows 20000] [--seed 0]

Wrong bits and words in percent, with standard errors. "Not sure" are the rows that the report doubts, "unseen" those that
are wrong without a sign, and "expected" what the report says of wrong rows without knowing ε.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy
import torch

import bvae_cli
from bvae_cli.config import parse_code
from bvae_cli.workflows.building import build_code
from bvae_cli.workflows.decode import DecodeResult

SETTINGS = [
    ("repetition:R=3", 300, 0.01),
    ("repetition:R=3", 300, 0.05),
    ("repetition:R=4", 300, 0.01),
    ("repetition:R=4", 300, 0.05),
    ("hamming:r=3", 105, 0.01),
    ("hamming:r=3", 105, 0.05),
    ("hamming:r=3,extended=true", 120, 0.05),
    ("golay", 120, 0.01),
    ("golay", 120, 0.05),
    ("golay:n=23", 115, 0.05),
    ("bch:n=15,t=2", 105, 0.05),
    ("reed-muller:r=1,m=4", 96, 0.05),
]
_HEAD = "| code | N | ε | wrong bits | closed form | wrong words | closed form | not sure | unseen | expected |"


def write_codewords(path: Path, name: str, latent: int, rows: int, seed: int) -> None:
    """Write random codewords, packed."""
    code = build_code(parse_code(name), latent)
    bits = torch.randint(0, 2, (rows, code.k), generator=torch.Generator().manual_seed(seed)).float()
    numpy.save(path, numpy.packbits(code.encode(bits).to(torch.uint8).numpy(), axis=1))


def row(name: str, latent: int, epsilon: float, result: DecodeResult) -> str:
    """Return a row of the table."""
    assert result.damage is not None
    measured, known = result.damage.measured, result.damage.closed_form
    expected = None if result.likely is None else result.likely.hard_word
    cells = [
        f"`{name}`",
        str(latent),
        str(epsilon),
        f"{100 * measured.bit_error_rate.mean:#.3g} ± {100 * (measured.bit_error_rate.standard_error or 0):#.2g}",
        _percent(known.hard_bit),
        f"{100 * measured.word_error_rate.mean:#.3g} ± {100 * (measured.word_error_rate.standard_error or 0):#.2g}",
        _percent(known.hard_word),
        f"{result.unsure:,}",
        f"{result.damage.wrong_and_sure:,}",
        _percent(expected),
    ]
    return f"| {' | '.join(cells)} |"


def _percent(rate: float | None) -> str:
    return "–" if rate is None else f"{100 * rate:#.3g}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(f"{_HEAD}\n|{'---|' * _HEAD.count(' | ')}---|")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "words.npy"
        for name, latent, epsilon in SETTINGS:
            write_codewords(path, name, latent, arguments.rows, arguments.seed)
            result = bvae_cli.decode(path, ecc=name, latent=latent, flip=epsilon, seed=arguments.seed)
            print(row(name, latent, epsilon, result), flush=True)


if __name__ == "__main__":
    main()
