"""``bvae sample``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bvae_cli.cli.options import Given, Json, Quiet, Verbose, command_for
from bvae_cli.trained import SHEETS, SampleConfig

_LARGEST_GRID = 400


def build(arguments: Sequence[str], lenient: bool) -> Any:
    """Build the command with the options of the code that ``arguments`` name."""
    return command_for(SampleConfig, _sample, "sample", arguments, lenient)


def _sample(given: Given, verbose: Verbose = False, quiet: Quiet = False, json: Json = False) -> None:
    """Draw samples from a trained model, and measure its quality.

    Writes the samples (probabilities, samples, information_bits, codewords) into an .npz file and their picture into a
    PNG, and prints a table of the model's quality on its validation split. With --sweep, --posterior or --between a sheet
    of pictures is drawn instead, which shows what the bits mean: m1 is the first information bit.
    """
    from bvae_cli.cli.quality import quality_rows
    from bvae_cli.cli.render import percent, plain, say, say_how_drawn, show_facts, show_json, show_table

    resolved = given.resolve(SampleConfig)
    resolved.config.require_use(given.named)
    for note in resolved.notes:
        say(f"Note: {note}", quiet)
    say("bvae sample: loading torch and the model …", quiet)
    if any(getattr(resolved.config, name) for name in SHEETS):
        _show_sheet(resolved.config, given.named, quiet, json)
        return

    from bvae_cli.files import write_file
    from bvae_cli.report.figures import drawn_as, image_grid
    from bvae_cli.workflows.sample import sample

    result = sample(resolved.config, given.named, lambda note: say(f"Note: {note}", quiet))
    picture = result.file.with_suffix(".png")
    write_file(picture, image_grid(result.pictures[:_LARGEST_GRID], result.feature_shape))
    say_how_drawn(drawn_as(result.feature_shape), quiet)
    if json:
        facts = plain(_without_arrays(result))
        show_json({**facts, "picture": str(picture)})
        return
    rows = quality_rows(result.quality)
    rows.append(("uniqueness of the samples", percent(result.uniqueness), "", "share of distinct samples"))
    novelty = percent(result.novelty) if result.novelty is not None else "–"
    rows.append(("novelty of the samples", novelty, "", "share of distinct samples that are not training rows"))
    show_table(("quantity", "value", "± s.e.", "meaning"), rows, _title(result))
    as_text = [] if result.text_file is None else [("as text", result.text_file)]
    show_facts([("samples", result.file), *as_text, ("picture", picture)])
    if result.count > _LARGEST_GRID:
        say(f"The picture shows the first {_LARGEST_GRID} of {result.count} samples.", quiet)


def _show_sheet(config: SampleConfig, named: frozenset[str], quiet: bool, json: bool) -> None:
    from bvae_cli.cli.render import plain, say, say_how_drawn, show_facts, show_json, show_table
    from bvae_cli.files import write_file
    from bvae_cli.report.figures import Captions, drawn_as, image_grid
    from bvae_cli.workflows.sheets import draw_sheet

    sheet = draw_sheet(config, named, lambda note: say(f"Note: {note}", quiet))
    picture = sheet.file.with_suffix(".png")
    captions = Captions(sheet.columns, sheet.lines)
    grid = image_grid(sheet.pictures, sheet.feature_shape, sum(sheet.groups), sheet.groups, captions=captions)
    write_file(picture, grid)
    say_how_drawn(drawn_as(sheet.feature_shape), quiet)
    if json:
        show_json({"sheet": sheet.kind, "file": str(sheet.file), "picture": str(picture), "facts": plain(sheet.facts)})
        return
    columns = tuple(sheet.facts[0])
    rows = [tuple(map(_shown, fact.values())) for fact in sheet.facts]
    show_table(columns, rows, sheet.said)
    show_facts([("numbers", sheet.file), ("picture", picture)])


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _title(result: Any) -> str:
    quality = result.quality
    return (
        f"{result.count} samples; quality on {quality.rows:,} {quality.split} rows, code {quality.code}, {quality.weights}"
    )


def _without_arrays(result: Any) -> dict[str, Any]:
    return {key: value for key, value in result.__dict__.items() if key not in ("pictures", "feature_shape")}
