"""``bvae encode``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bvae_cli.cli.options import Given, Json, Quiet, Verbose, command_for
from bvae_cli.config import FILES_OF_ARRAYS
from bvae_cli.errors import UsageError
from bvae_cli.files import require_new
from bvae_cli.trained import EncodeConfig

if TYPE_CHECKING:
    from bvae_cli.workflows.encode import EncodeResult


def build(arguments: Sequence[str], lenient: bool) -> Any:
    """Build the command with the options of the code that ``arguments`` name."""
    return command_for(EncodeConfig, _encode, "encode", arguments, lenient)


def _encode(
    given: Given,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[FOLDER|FILE|DATA]",
            help="A run's folder or its weights; where --weights names them, the data, as --dataset takes them.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write the file anew where it is there already.")] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Encode data with a trained model, into a .npy or .parquet file with a row for each row of the data.

    Data of any size: rows are read, encoded and written some at once. By default every row of the data is encoded, in
    the order of its file, and its information bits are written as 0 and 1.
    """
    from bvae_cli.cli.render import say, show_json

    if source is not None:
        from bvae_cli.runs import holds_weights

        field = "dataset" if "weights" in given.layer.values else "weights"
        if field in given.layer.values:
            raise UsageError(
                "Both DATA and --dataset name data.", "`bvae encode DATA --weights FOLDER`, or FOLDER --dataset DATA."
            )
        if field == "weights" and Path(source).suffix in FILES_OF_ARRAYS:
            raise UsageError(
                f"{source} is data, and no model is named.", f"Name one: bvae encode {source} --weights FOLDER."
            )
        if field == "dataset" and holds_weights(Path(source)):
            raise UsageError(
                "The weights are named twice.", "`bvae encode FOLDER`, or with data `bvae encode DATA --weights FOLDER`."
            )
        given.layer.values[field] = source
    resolved = given.resolve(EncodeConfig)
    config: EncodeConfig = resolved.config
    for note in resolved.notes:
        say(f"Note: {note}", quiet)
    require_new(config.output, overwrite, config.inputs)
    say("bvae encode: loading torch and the model …", quiet)

    from bvae_cli.cli.row_progress import rows_shown
    from bvae_cli.workflows.encode import encode

    with rows_shown("encoded", quiet) as on_rows:
        result = encode(config, given.named, lambda note: say(f"Note: {note}", quiet), on_rows)
    if json:
        show_json(result)
    else:
        _show(result)


def _show(result: EncodeResult) -> None:
    from bvae_cli.cli.render import show_facts

    packed = f", {result.bits_in_a_row} bits packed in each row" if result.packed else ""
    show_facts(
        [
            ("codes", result.file),
            ("holds", f"{result.written} of {result.rows:,} rows ({result.split}) of {result.dataset}"),
            ("array", f"{result.rows} × {result.columns} {result.dtype}{packed}"),
            ("model", f"code {result.code}, {result.weights}"),
            ("time", f"{result.seconds:.1f} s, {result.images_per_second:,.0f} images/s"),
        ]
    )
