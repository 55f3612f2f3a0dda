"""Print, as Markdown, the tables of ``docs/reproduction.md`` from the files of comparisons, an arm a line.

python scripts/reproduction_tables.py docs/data/necst.json elbo log_likelihood stored_nll@0.05
"""

from __future__ import annotations

import sys
from pathlib import Path

from bvae_cli.comparisons import Comparison
from bvae_cli.evaluation.metrics import title_of
from bvae_cli.report.tables import arm_cell, effect_table


def main() -> None:
    """Print the named metrics of every arm, then the claims."""
    comparison = Comparison.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    names = sys.argv[2:]
    _line(["arm", *(title_of(name, comparison.protocol.iwae_samples) for name in names)])
    print("|---" * (1 + len(names)) + "|")
    for arm in comparison.arms:
        _line([arm.name, *(arm_cell(arm, name) for name in names)])
    claims = effect_table(comparison, claims_only=True)
    print()
    _line(claims.columns)
    print("|---" * len(claims.columns) + "|")
    for row in claims.rows:
        _line(row)


def _line(cells: list[str]) -> None:
    print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
