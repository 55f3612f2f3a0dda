"""``bvae evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bvae_cli.cli.options import Given, Json, Quiet, Verbose, command_for, named_path
from bvae_cli.errors import UsageError
from bvae_cli.trained import OF_DRAWING, SampleConfig


def build(arguments: Sequence[str], lenient: bool) -> Any:
    """Build the command with the options of the code that ``arguments`` name."""
    return command_for(
        SampleConfig,
        _evaluate,
        "evaluate",
        arguments,
        lenient,
        leave_out=OF_DRAWING,
    )


def _evaluate(
    given: Given,
    folder: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER|FILE]", parser=named_path, help="A run's folder or its weights.")
    ] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Measure a trained model on its validation or test split, with standard errors over images.

    For up to 12 information bits, or 16 where that can be afforded, log p(x) is summed over all words beside the bounds.
    """
    from bvae_cli.cli.quality import quality_rows
    from bvae_cli.cli.render import say, show_json, show_table

    if folder is not None:
        if "weights" in given.layer.values:
            raise UsageError("The weights are named twice.", "Give the folder, or --weights.")
        given.layer.values["weights"] = str(folder)
    resolved = given.resolve(SampleConfig)
    for note in resolved.notes:
        say(f"Note: {note}", quiet)
    say("bvae evaluate: loading torch and the model …", quiet)

    from bvae_cli.workflows.measuring import measure

    quality = measure(resolved.config, given.named, lambda note: say(f"Note: {note}", quiet))
    if json:
        show_json(quality)
        return
    title = f"{quality.rows:,} {quality.split} rows, code {quality.code}, {quality.weights}"
    show_table(("quantity", "value", "± s.e.", "meaning"), quality_rows(quality), title)
