"""``bvae decode``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bvae_cli.cli.options import Given, Json, Quiet, Verbose, command_for, named_path
from bvae_cli.errors import UsageError
from bvae_cli.files import require_new
from bvae_cli.sources import require_file
from bvae_cli.trained import DecodeConfig

if TYPE_CHECKING:
    from bvae_cli.workflows.decode import Damage, DecodeResult


def build(arguments: Sequence[str], lenient: bool) -> Any:
    """Build the command with the options of the code that ``arguments`` name."""
    return command_for(DecodeConfig, _decode, "decode", arguments, lenient, leave_out=("codes", "dataset", "subset"))


def _decode(
    given: Given,
    codes: Annotated[
        Path,
        typer.Argument(metavar="CODES", parser=named_path, help="A .npy or .parquet file of codewords or of code logits."),
    ],
    folder: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER|FILE]", parser=named_path, help="A run's folder or its weights.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write files anew where they are there already.")] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Repair damaged codes by the code, and say how many bits were repaired and of which rows it cannot be sure.

    The code is that of the weights, or the one that --ecc and --latent (or -n) name, which needs no weights. Of bits the
    nearest codeword is taken, of logits the most probable information bits.
    """
    from bvae_cli.cli.render import say, show_json

    if folder is not None:
        if "weights" in given.layer.values:
            raise UsageError("The weights are named twice.", "Give the folder, or --weights.")
        given.layer.values["weights"] = str(folder)
    given.layer.values["codes"] = str(codes)
    resolved = given.resolve(DecodeConfig)
    config: DecodeConfig = resolved.config
    for note in resolved.notes:
        say(f"Note: {note}", quiet)
    config.require_code(given.named)
    config.require_output(given.named)
    require_file(config.codes)
    for path in (config.output, config.unsure):
        if path is not None:
            require_new(path, overwrite, config.inputs)
    say("bvae decode: loading torch and the code …", quiet)

    from bvae_cli.cli.row_progress import rows_shown
    from bvae_cli.workflows.decode import decode

    with rows_shown("decoded", quiet) as on_rows:
        result = decode(config, given.named, lambda note: say(f"Note: {note}", quiet), on_rows)
    if json:
        show_json(result)
    else:
        _show(result)


def _show(result: DecodeResult) -> None:
    from bvae_cli.cli.render import show_facts, show_line, show_table

    show_facts(_facts(result))
    if result.damage is not None:
        show_line("")
        show_table(*_beside_the_closed_form(result.damage))


def _facts(result: DecodeResult) -> Iterator[tuple[str, object]]:
    from bvae_cli.cli.render import percent

    packed = ", packed" if result.packed else ""
    yield "codes", f"{result.codes}, {result.held} of {result.rows:,} rows, {result.width} in each{packed}"
    told = "distance not known, nothing is guaranteed"
    if result.corrects is not None:
        told = f"always repairs {result.corrects} in a block"
    yield "code", f"{result.code}, {told}" + (f", {result.weights}" if result.weights else "")
    if result.repaired is None:
        yield "repaired", "nothing: information bits alone show no damage"
    else:
        yield "untouched", f"{result.untouched:,} rows are codewords"
        yield "repaired", f"{result.repaired:,} rows, {result.repaired_bits:,} bits"
    yield "not sure", _unsure(result)
    if result.likely is not None:
        of = (("information bits", result.likely.hard_bit), ("rows", result.likely.hard_word))
        shares = [f"{percent(rate)} of the {what}" for what, rate in of if rate is not None]
        if shares:
            repaired = f"{percent(result.repaired_rate)} of the bits were repaired, and by chance no fewer were flipped"
            yield "expected", f"{' and '.join(shares)} wrong or more, seen or not: {repaired}"
    if result.expected_wrong_bits is not None:
        yield "expected", f"{result.expected_wrong_bits:.4g} wrong information bits in all, if the logits are calibrated"
    if result.file is not None:
        yield "written", f"{result.file}, {result.written}, {result.rows} × {result.columns} {result.dtype}"
    if result.unsure_file is not None:
        yield "numbers", f"{result.unsure_file}, of the rows that are not sure"
    yield "time", f"{result.seconds:.1f} s"


def _unsure(result: DecodeResult) -> str:
    if not result.unsure:
        return "0 rows"
    why = "more repaired in a block than the code always repairs"
    if result.doubt is not None:
        why = f"an information bit is wrong with more than {result.doubt:g}"
    numbers = ", ".join(map(str, result.first_unsure))
    more = ", …" if result.unsure > len(result.first_unsure) else ""
    return f"{result.unsure:,} rows ({why}): {numbers}{more}"


def _beside_the_closed_form(damage: Damage) -> tuple[list[str], list[list[object]], str]:
    from bvae_cli.cli.render import percent

    rows: list[list[object]] = []
    for name, measured, known in (
        ("wrong information bits", damage.measured.bit_error_rate, damage.closed_form.hard_bit),
        ("words with a wrong bit", damage.measured.word_error_rate, damage.closed_form.hard_word),
    ):
        rows.append([name, percent(measured.mean), percent(measured.standard_error), percent(known)])
    title = (
        f"{damage.flipped_bits:,} bits flipped (each with probability {damage.epsilon:g}, seed {damage.seed}); "
        f"{damage.wrong_and_sure:,} rows are wrong and seem sure"
    )
    return ["after decoding", "measured", "± s.e.", "closed form"], rows, title
