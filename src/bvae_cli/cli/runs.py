"""``bvae runs``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bvae_cli.cli.options import Json, named_path, single_command


def build(arguments: Sequence[str], lenient: bool) -> Any:
    """Build the command."""
    return single_command(_runs, "runs")


def _runs(
    folder: Annotated[
        Path, typer.Argument(parser=named_path, metavar="FOLDER", help="Folder that holds the folders of runs.")
    ] = Path("weights"),
    json: Json = False,
) -> None:
    """List every run found in a folder and below it: code, data, best loss, epochs, state, and in what they differ."""
    from bvae_cli.cli.render import say, show_json, show_table
    from bvae_cli.workflows.listing import differing, summarize_runs

    found = summarize_runs(folder)
    if json:
        show_json(found)
        return
    differ = differing(found)
    columns = ("folder", "code", "data", "seed", "best val_loss (nats)", "best epoch", "epochs", "state")
    rows = [
        (run.folder, run.code, run.data, run.seed, _loss(run.best_validation_loss), run.best_epoch, run.epochs, run.state)
        for run in found
    ]
    if any(differ):
        show_table((*columns, "differs in"), [(*row, settings) for row, settings in zip(rows, differ, strict=True)])
    elif rows:
        show_table(columns, rows)
    else:
        say(f"There is no run in {folder}. `bvae train` makes one.")


def _loss(loss: float | None) -> str:
    return "–" if loss is None else f"{loss:.2f}"
