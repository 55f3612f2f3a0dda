"""``bvae datasets``: list, and pack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bvae_cli.cli.listing import show_plugins
from bvae_cli.cli.options import Json, Quiet, Verbose, complete_datasets, named_path, single_command
from bvae_cli.config import PluginRef, parse_dataset
from bvae_cli.errors import UsageError, unknown_name
from bvae_cli.files import require_new

_ACTIONS = ("list", "pack")


def build(arguments: Sequence[str], lenient: bool) -> Any:
    """Build the command."""
    return single_command(_datasets, "datasets")


def _actions(incomplete: str) -> list[str]:
    return [name for name in _ACTIONS if name.startswith(incomplete)]


def _datasets(
    action: Annotated[str, typer.Argument(metavar="list|pack", help="What to do.", autocompletion=_actions)] = "list",
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME|PATH",
            help="pack: the data, as --dataset of `bvae train` takes them.",
            autocompletion=complete_datasets,
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE.npz", parser=named_path, help="pack: the file to write.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="pack: write the file anew where it is there already.")
    ] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """List the installed data sets, or pack one into a file for training on more rows than fit into memory.

    `list` shows every data set with its origin, licence and options; a broken one says what is wrong with it. `pack`
    writes data of bits eight to a byte, divided as they are, with labels and licence: `bvae train --dataset FILE.npz` then
    trains the very run that it would train on the data themselves.
    """
    if action not in _ACTIONS:
        raise unknown_name("action", action, _ACTIONS)
    if action == "list":
        if source is not None or overwrite:
            raise UsageError("`bvae datasets list` takes no name and no option but --json.", "It lists all there are.")
        show_plugins("data set", json)
        return
    if source is None or file is None:
        raise UsageError("`bvae datasets pack` needs the data and the file to write.", "As in: pack bits.npy packed.npz.")
    _pack(source, file, overwrite, quiet, json)


def _pack(source: str, file: Path, overwrite: bool, quiet: bool, as_json: bool) -> None:
    from bvae_cli.cli.render import amount, say, shell_word, show_facts, show_json

    if file.suffix != ".npz":
        raise UsageError(f"Packed bits are written as an .npz file; got '{file}'.", f"As in {file.stem}.npz.")
    require_new(file, overwrite)
    reference: PluginRef = parse_dataset(source)
    reference.spec("data set").check()
    say(f"bvae datasets pack: {reference.label()}; loading torch …", quiet)

    from bvae_cli.workflows.packing import pack

    result = pack(reference, file)
    if as_json:
        show_json(result)
        return
    show_facts(
        [
            ("packed", result.file),
            ("rows", f"{result.training_rows:,} training, {result.validation_rows:,} validation, {result.test_rows:,} test"),
            ("row", f"{result.features} bits, {' × '.join(map(str, result.feature_shape))}"),
            ("size", f"{amount(result.bytes)}B"),
            ("licence", result.licence),
        ]
    )
    say(f"Next: bvae train --dataset {shell_word(result.file)}", quiet)
