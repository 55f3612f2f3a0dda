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
    """List every run found in a folder and below it: code, data, best bound, epochs, state."""
    from bvae_cli.cli.render import say, show_json, show_table
    from bvae_cli.workflows.listing import summarize_runs

    found = summarize_runs(folder)
    if json:
        show_json(found)
        return
    rows = [
        (run.folder, run.code, run.data, run.seed, _bound(run.best_validation_loss), run.best_epoch, run.epochs, run.state)
        for run in found
    ]
    if rows:
        show_table(("folder", "code", "data", "seed", "best −ELBO (nats)", "best epoch", "epochs", "state"), rows)
    else:
        say(f"There is no run in {folder}. `bvae train` makes one.")


def _bound(loss: float | None) -> str:
    return "–" if loss is None else f"{loss:.2f}"
