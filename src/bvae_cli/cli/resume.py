"""``bvae resume``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bvae_cli.cli.company import joined
from bvae_cli.cli.options import Json, Quiet, Verbose, named_path, single_command

_MACHINE = "Machine"


def build(arguments: Sequence[str], lenient: bool) -> Any:
    """Build the command."""
    return single_command(_resume, "resume")


def _resume(
    folder: Annotated[
        Path, typer.Argument(parser=named_path, metavar="FOLDER", help="Folder of the run, below --output-dir of `train`.")
    ],
    device: Annotated[
        str | None, typer.Option("--device", rich_help_panel=_MACHINE, help="Another device than the run was started with.")
    ] = None,
    threads: Annotated[
        str | None,
        typer.Option("--threads", metavar="INTEGER", rich_help_panel=_MACHINE, help="Other CPU threads than it was."),
    ] = None,
    checkpoint_every: Annotated[
        str | None,
        typer.Option(
            "--checkpoint-every",
            metavar="TIME|STEPS",
            rich_help_panel="Output",
            help="Save the state after so much time (as 30s, 5m, 1h) or so many steps (as 500steps).",
        ),
    ] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Go on with an unfinished run, by the name of its folder.

    The run goes on with the options that it was started with, and ends bit for bit as if it had never been interrupted,
    where it goes on on the same machine. The same `bvae train` again does the same.
    """
    from bvae_cli.cli.render import say, shell_word, show_json
    from bvae_cli.runs import Run
    from bvae_cli.workflows.resuming import unfinished

    options = {"device": device, "threads": threads, "checkpoint_every": checkpoint_every}
    found = unfinished(folder, {name: value for name, value in options.items() if value is not None})
    if found is not None:
        say(f"bvae resume: {found.folder}; loading torch …", quiet)

    from bvae_cli.cli.train import show_result
    from bvae_cli.workflows.observing import finished_result

    if found is None:
        result = finished_result(folder, Run(folder).result() or {})
    else:
        from bvae_cli.cli.progress import observer_for
        from bvae_cli.workflows.train import train

        config = found.config
        with (
            found.where_it_was_started(),
            joined(config.device) as group,
            observer_for(config.epochs, config.patience, quiet, verbose) as observer,
        ):
            result = train(config, observer, group=group, folder=found.folder)
    if json:
        show_json(result)
    else:
        show_result(result)
    if found is None:
        say("This run was finished before; nothing was trained.", quiet)
    say(f"Next: bvae sample --weights {shell_word(result.folder)}", quiet)
