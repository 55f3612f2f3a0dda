"""Print, as Markdown, the table of ``docs/which-code.md`` from a comparison of many codes.

python scripts/families_table.py docs/data/families.json
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from bvae_cli.comparisons import Comparison
from bvae_cli.evaluation.metrics import at


def main() -> None:
    """Print a row for each arm: the mean over its seeds and their standard deviation."""
    comparison = Comparison.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    noise = comparison.protocol.noise_epsilon
    columns = {
        f"IWAE-{comparison.protocol.iwae_samples}": ("iwae", 2, 1),
        "inference BER, %": ("inference_bit_error_rate", 2, 100),
        **{f"stored −log p, ε = {100 * e:g} %": (at("stored_nll", e), 1, 1) for e in noise},
        **{f"stored BER, ε = {100 * e:g} %": (at("stored_bit_error_rate", e), 2, 100) for e in noise if e == 0.05},
    }
    heads = ["code", "K of N", "rate", *columns]
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for arm in comparison.arms:
        cells = [f"`{arm.name.rsplit(' N=', 1)[0]}`", f"{arm.information_bits} of {arm.latent}", f"{arm.rate:.2f}"]
        for metric, digits, scale in columns.values():
            values = [scale * run.metrics[metric].mean for run in arm.runs]
            cells.append(f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}")
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
