"""``bvae plot``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bvae_cli.cli.options import named_path, single_command
from bvae_cli.config import PluginRef
from bvae_cli.errors import BvaeError, UsageError
from bvae_cli.files import require_new, write_file
from bvae_cli.folders import PICTURES, require_not_among_pictures

if TYPE_CHECKING:
    from bvae_cli.runs import Run

_FORMATS = ("png", "svg", "pdf")


def build(arguments: Sequence[str], lenient: bool) -> Any:
    """Build the command."""
    return single_command(_plot, "plot")


def _plot(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER…", parser=named_path, help="Folders of runs.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            parser=named_path,
            help="File to write: .png, .svg or .pdf [default: loss_curves.png in the folder].",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write the file of --out anew where it is there already.")
    ] = False,
) -> None:
    """Draw training loss, validation loss, KL and β of one or several runs against the epoch."""
    file = out if out is not None else (folders[0] if len(folders) == 1 else Path()) / "loss_curves.png"
    file_format = file.suffix.removeprefix(".").lower()
    if file_format not in _FORMATS:
        raise UsageError(f"'{file.suffix}' is not a format of a figure.", f"Name a file in one of: .{', .'.join(_FORMATS)}.")

    if out is not None:
        require_new(out, overwrite)

    from bvae_cli.runs import Run, read_record

    data = [_data(Run(folder)) for folder in folders]
    if file.suffix.casefold() in PICTURES:
        require_not_among_pictures(file, [path for one in data for path in _paths(one)])

    from bvae_cli.report.figures import loss_curves

    names = [folder.resolve().name for folder in folders]
    labels = names if len(set(names)) == len(names) else [str(folder) for folder in folders]
    records = {label: read_record(folder) for label, folder in zip(labels, folders, strict=True)}
    empty = [name for name, record in records.items() if not record["beta"]]
    if empty:
        raise UsageError(f"{empty[0]} has no finished epoch to draw.", "Train it first.")
    write_file(file, loss_curves(records, file_format, _unit(data)))
    print(file)


def _data(run: Run) -> dict[str, Any]:
    """Return what a run's configuration says of its data; nothing where somebody else wrote something else."""
    data = (run.config() or {}).get("data")
    return data if isinstance(data, dict) else {}


def _paths(data: dict[str, Any]) -> list[Path]:
    """Return the files and folders that a run's data are of; none where its data set cannot be asked."""
    try:
        return PluginRef(type=data["type"], options=data["options"]).paths("data set")
    except (KeyError, ValueError, BvaeError):
        return []


def _unit(data: Iterable[dict[str, Any]]) -> str:
    """Return the unit of the losses of all runs: nats per image where the rows of each are pictures."""
    from bvae_cli.datasets.base import unit_of

    shapes = [one.get("feature_shape") for one in data]
    units = {unit_of(shape if isinstance(shape, list) else ()) for shape in shapes}
    return units.pop() if len(units) == 1 else unit_of(())
