"""``bvae datasets``: list, show, check, and pack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bvae_cli import registry
from bvae_cli.cli.listing import show_plugins
from bvae_cli.cli.options import Json, Quiet, Verbose, complete_datasets, named_path, single_command
from bvae_cli.config import VALUES, PluginRef, parse_dataset
from bvae_cli.errors import UsageError, unknown_name
from bvae_cli.files import require_new
from bvae_cli.folders import require_not_among_pictures

_ACTIONS = ("list", "show", "check", "pack")
# Symbols of a vocabulary that are told.
_MOST_SYMBOLS = 40


def build(arguments: Sequence[str], lenient: bool) -> Any:
    """Build the command."""
    return single_command(_datasets, "datasets")


def _actions(incomplete: str) -> list[str]:
    return [name for name in _ACTIONS if name.startswith(incomplete)]


def _likelihoods(incomplete: str) -> list[str]:
    return [name for name in VALUES if name.startswith(incomplete)]


def _datasets(
    action: Annotated[
        str, typer.Argument(metavar="list|show|check|pack", help="What to do.", autocompletion=_actions)
    ] = "list",
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME|PATH",
            help="The data, as --dataset of `bvae train` takes them.",
            autocompletion=complete_datasets,
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE.npz", parser=named_path, help="pack: the file to write.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE.png", parser=named_path, help="show: draw some rows of each split into this file."
        ),
    ] = None,
    likelihood: Annotated[
        str | None,
        typer.Option(
            "--likelihood",
            metavar="NAME",
            help="show, check: read the values as for this likelihood, as `bvae train --likelihood` does.",
            autocompletion=_likelihoods,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="pack, show: write the file anew where it is there already.")
    ] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """List the installed data sets, show one of them, check one, or pack one for training on more rows than memory holds.

    `list` shows every data set with its origin, licence and options; a broken one says what is wrong with it. `show` loads
    one and tells its source, licence, rows, values, labels, digest, and its entropy where that is known; --out draws some
    rows of each split, two lines of pictures each: real values and counts as grey, symbols by their numbers. `check` runs
    the checks that plugin authors have (bvae_cli.testing) and fails where one of them does. `pack` writes data of bits
    eight to a byte, divided as they are, with labels and licence: `bvae train --dataset FILE.npz` then trains the very run
    that it would train on the data themselves.
    """
    if action not in _ACTIONS:
        raise unknown_name("action", action, _ACTIONS)
    if out is not None and action != "show":
        raise UsageError(f"`bvae datasets {action}` has no use for --out.", "It is for `bvae datasets show`.")
    if overwrite and action != "pack" and out is None:
        raise UsageError(
            f"`bvae datasets {action}` has no use for --overwrite.", "It is for `bvae datasets pack`, and `show --out`."
        )
    if likelihood is not None and action not in ("show", "check"):
        raise UsageError(
            f"`bvae datasets {action}` has no use for --likelihood.", "It is for `bvae datasets show` and `check`."
        )
    if action == "list":
        if source is not None:
            raise UsageError("`bvae datasets list` takes no name.", f"`bvae datasets show {source}` shows one data set.")
        show_plugins("data set", json)
        return
    if action == "pack":
        if source is None or file is None:
            raise UsageError(
                "`bvae datasets pack` needs the data and the file to write.", "As in: pack bits.npy packed.npz."
            )
        _pack(source, file, overwrite, quiet, json)
        return
    if source is None or file is not None:
        raise UsageError(f"`bvae datasets {action}` takes one data set.", f"As in: {action} binarized-mnist.")
    if action == "show":
        _show(source, likelihood, out, overwrite, quiet, json)
    else:
        _check(source, likelihood, quiet, json)


def _named(source: str, likelihood: str | None) -> PluginRef:
    """Return the data set, as it is read for a likelihood."""
    reference: PluginRef = parse_dataset(source)
    spec: Any = reference.spec("data set")
    if likelihood is not None:
        if likelihood not in VALUES:
            raise unknown_name("likelihood", likelihood, list(VALUES))
        with registry.blaming("data set", reference.type):
            read = spec.for_likelihood(likelihood)
        if read != spec:
            spec, reference = read, PluginRef(type=reference.type, options=read.model_dump(mode="json"))
    spec.check()
    return reference


def _show(source: str, likelihood: str | None, out: Path | None, overwrite: bool, quiet: bool, as_json: bool) -> None:
    from bvae_cli.cli.render import plain, say, say_how_drawn, show_facts, show_json

    if out is not None and out.suffix.casefold() != ".png":
        raise UsageError(f"Pictures are written as a .png file; got '{out}'.", f"As in {out.stem}.png.")
    reference = _named(source, likelihood)
    if out is not None:
        require_new(out, overwrite, reference.paths("data set"))
        require_not_among_pictures(out, reference.paths("data set"))
    say(f"bvae datasets show: {reference.label()}; loading torch …", quiet)

    from bvae_cli.workflows.building import require_fitting
    from bvae_cli.workflows.describing import describe

    description = describe(reference)
    facts = description.facts
    if likelihood is not None:
        require_fitting(likelihood, facts.likelihood, facts.dataset)
    if out is not None:
        from bvae_cli.files import write_file
        from bvae_cli.report.figures import Captions, drawn_as, image_grid

        names = zip(("training", "validation", "test"), description.lines, strict=True)
        captions = Captions(rows=[text for name, lines in names for text in (name, *[""] * (lines - 1))])
        grid = image_grid(
            description.rows, facts.feature_shape, description.columns, row_groups=description.lines, captions=captions
        )
        write_file(out, grid)
        say_how_drawn(drawn_as(facts.feature_shape), quiet)
    if as_json:
        show_json({**plain(facts), "picture": None if out is None else str(out)})
        return
    shape = _shape(facts.feature_shape)
    mean = "" if facts.mean is None else f", mean {facts.mean:.4g}"
    show_facts(
        [
            ("data set", facts.dataset),
            ("what", facts.summary),
            ("source", facts.source),
            ("licence", facts.licence),
            ("rows", f"{facts.training_rows:,} training, {facts.validation_rows:,} validation, {facts.test_rows:,} test"),
            ("row", f"{facts.features:,} values{shape}; {facts.constant:,} are the same in all training rows"),
            ("values", f"{facts.values}{mean}; likelihood {facts.likelihood}"),
            *_told(facts.vocabulary, facts.first_rows),
            ("labels", "none" if facts.labels is None else f"{facts.labels:,} different ones"),
            ("entropy", "not known" if facts.entropy is None else f"{facts.entropy:.6g} nats a row, exactly"),
            *_known(facts.log_prob),
            ("digest", facts.digest),
            *([("picture", str(out))] if out is not None else []),
        ]
    )


def _shape(sizes: Sequence[int]) -> str:
    """Return the shape of a row behind a comma; nothing where the number of its values says it."""
    return f", {' × '.join(map(str, sizes))}" if len(sizes) > 1 else ""


def _known(log_prob: float | None) -> list[tuple[str, str]]:
    if log_prob is None:
        return []
    return [("log p(x)", f"{log_prob:.6g} nats, mean of the test rows; no model stays above it")]


def _told(vocabulary: Sequence[str], rows: Sequence[str]) -> list[tuple[str, str]]:
    """Return the symbols and some rows, where the symbols have names; what cannot be printed is escaped."""
    if not vocabulary:
        return []
    symbols = _printed(" ".join(vocabulary[:_MOST_SYMBOLS])) + (" …" if len(vocabulary) > _MOST_SYMBOLS else "")
    return [("symbols", symbols), *(("first rows" if not number else "", _printed(row)) for number, row in enumerate(rows))]


def _printed(text: str) -> str:
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _check(source: str, likelihood: str | None, quiet: bool, as_json: bool) -> None:
    from bvae_cli.cli.outcomes import outcome_facts, require_passed, show_outcomes
    from bvae_cli.cli.render import say, show_json

    reference = _named(source, likelihood)
    spec = reference.spec("data set")
    say(f"bvae datasets check: {reference.label()}; loading torch …", quiet)

    from bvae_cli.conformance.data import DataSubject, outcomes_of

    with registry.blaming("data set", reference.type):
        outcomes = list(outcomes_of(DataSubject(spec)))
    if as_json:
        show_json([outcome_facts("dataset", reference.label(), outcome) for outcome in outcomes])
    else:
        show_outcomes(reference.label(), outcomes)
    require_passed(reference.label(), outcomes)


def _pack(source: str, file: Path, overwrite: bool, quiet: bool, as_json: bool) -> None:
    from bvae_cli.cli.render import amount, say, shell_word, show_facts, show_json

    if file.suffix != ".npz":
        raise UsageError(f"Packed bits are written as an .npz file; got '{file}'.", f"As in {file.stem}.npz.")
    reference: PluginRef = parse_dataset(source)
    require_new(file, overwrite, reference.paths("data set"))
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
            ("row", f"{result.features:,} bits{_shape(result.feature_shape)}"),
            ("size", f"{amount(result.bytes)}B"),
            ("licence", result.licence),
        ]
    )
    say(f"Next: bvae train --dataset {shell_word(result.file)}", quiet)
