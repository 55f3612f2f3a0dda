"""``bvae report``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bvae_cli.cli.options import Json, named_path, single_command


def build(arguments: Sequence[str], lenient: bool) -> Any:
    """Build the command."""
    return single_command(_report, "report")


def _report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", parser=named_path, help="Folder of a comparison.")],
    json: Json = False,
) -> None:
    """Draw the report and the figures of a comparison again, without training or measuring anything."""
    from bvae_cli.cli.comparison import show_comparison
    from bvae_cli.cli.render import show_facts, show_json
    from bvae_cli.comparisons import ComparisonFolder
    from bvae_cli.report.page import write_report

    there = ComparisonFolder(folder)
    comparison = there.load()
    report = write_report(there, comparison)
    if json:
        show_json(comparison.model_dump(mode="json"))
    else:
        show_comparison(comparison)
        show_facts([("report", report)])
