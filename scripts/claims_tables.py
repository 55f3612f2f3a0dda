"""Print, as Markdown, the tables of ``docs/claims.md`` from a comparison's ``comparison.json``.

python scripts/claims_tables.py docs/data/set_5_repetition_R_3.json
"""

from __future__ import annotations

import sys
from pathlib import Path

from bvae_cli.comparisons import Comparison
from bvae_cli.evaluation.metrics import at
from bvae_cli.report.tables import arm_table, effect_cells, effect_table

_RATES = ("inference_bit_error_rate", "inference_active_bit_error_rate", "inference_word_error_rate")


def main() -> None:
    """Print arms, claims, every ratio of errors, and the tuning grid."""
    comparison = Comparison.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for table in (arm_table(comparison), effect_table(comparison, claims_only=True)):
        print(f"{table.title}:\n")
        _table(table.columns, table.rows)
    noise = [epsilon for epsilon in comparison.protocol.noise_epsilon if epsilon > 0]
    names = [
        *_RATES,
        *(at(base, e) for base in ("channel_bit_error_rate", "stored_bit_error_rate", "stored_nll") for e in noise),
    ]
    print("Errors of the coded arm against each uncoded one:\n")
    _table(
        ["quantity", "against", "difference [95 % over seeds]", "ratio [95 %]", "p"],
        [
            [f"`{effect.metric}`", effect.reference, cells[0], cells[2], cells[3]]
            for name in names
            for effect in comparison.effects
            if effect.metric == name and effect.arm == comparison.arms[-1].name
            for cells in [effect_cells(effect)]
        ],
    )
    print("Tuning:\n")
    settings = [tuned.setting for tuned in comparison.arms[0].tuning]
    _table(
        ["arm", *(", ".join(f"{key}={value}" for key, value in setting.items()) for setting in settings), "chosen"],
        [
            [arm.name, *(f"{tuned.mean_loss:.2f} ({tuned.runs[0].epochs})" for tuned in arm.tuning), str(arm.chosen)]
            for arm in comparison.arms
        ],
    )


def _table(columns: list[str], rows: list[list[str]]) -> None:
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


if __name__ == "__main__":
    main()
