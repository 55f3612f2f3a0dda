"""``bvae search``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bvae_cli.cli.options import Given, Json, Quiet, Verbose, command_for, named_path
from bvae_cli.files import require_new
from bvae_cli.trained import SearchConfig

if TYPE_CHECKING:
    from bvae_cli.workflows.search import SearchResult


def build(arguments: Sequence[str], lenient: bool) -> Any:
    """Build the command with the options of the code that ``arguments`` name."""
    return command_for(SearchConfig, _search, "search", arguments, lenient, leave_out=("query",))


def _search(
    given: Given,
    query: Annotated[
        Path | None,
        typer.Argument(
            metavar="[QUERY]",
            parser=named_path,
            help="A .npy or .parquet file of codes or of logits; without it rows are encoded.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write the file anew where it is there already.")] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Find the nearest codes of each query by Hamming distance, exactly; of equally near ones the first in the file.

    A query of logits is soft: codes are ranked by their posterior probability. No model is needed where queries and codes
    are of one length; with a model or a code, queries that are codewords are repaired first, whether codewords or
    information bits are searched, and codes of data are found by naming its rows.
    """
    from bvae_cli.cli.render import say, show_json

    if query is not None:
        given.layer.values["query"] = str(query)
    resolved = given.resolve(SearchConfig)
    config: SearchConfig = resolved.config
    for note in resolved.notes:
        say(f"Note: {note}", quiet)
    config.require_files()
    if config.output is not None:
        require_new(config.output, overwrite, config.inputs)
    if config.query is None or config.names_a_code(given.named):
        say("bvae search: loading torch and the code …", quiet)

    from bvae_cli.cli.row_progress import rows_shown
    from bvae_cli.workflows.search import search

    with rows_shown("searched", quiet) as on_rows:
        result = search(config, given.named, lambda note: say(f"Note: {note}", quiet), on_rows)
    if json:
        show_json(_as_json(result))
    else:
        _show(result)


def _show(result: SearchResult) -> None:
    from bvae_cli.cli.render import show_facts, show_line, show_table

    if result.file is None:
        columns = ["query", "rank", "id", "nats" if result.soft else "bits that differ"]
        show_table([*columns, *(["label"] if result.labels is not None else [])], _rows(result))
        show_line("")
    show_facts(_facts(result))


def _rows(result: SearchResult) -> Iterator[list[object]]:
    for row, ids, distances in zip(result.rows, result.ids, result.distances, strict=True):
        for rank, (number, distance) in enumerate(zip(ids, distances, strict=True), 1):
            label = [] if result.labels is None else [str(result.labels[number])]
            yield [str(row), str(rank), str(number), f"{distance:.6g}", *label]


def _facts(result: SearchResult) -> Iterator[tuple[str, object]]:
    packed = ", packed" if result.packed else ""
    yield "searched", f"{result.codes}, {result.searched:,} codes of {result.bits} bits{packed}"
    kind = "soft, by logits" if result.soft else "by Hamming distance"
    yield "queries", f"{len(result.rows):,} of {result.queries}, {kind}"
    if len(result.unsure):
        yield "not sure", f"{len(result.unsure):,} queries hold more damage than the code always repairs"
    measured = result.relevance
    if measured is not None:
        yield f"precision@{measured.k}", f"{measured.precision:.4f}"
        yield f"recall@{measured.k}", f"{measured.recall:.4f}"
        yield f"mAP@{measured.k}", f"{measured.average_precision_at_k:.4f}"
        yield "mAP", f"{measured.average_precision:.4f}, of the ranking of all codes, ties in any order"
        if measured.queries < len(result.rows):
            yield "without", f"{len(result.rows) - measured.queries:,} queries whose label no code has"
    elif result.labels is not None:
        yield "precision", "not measured: no code has the label of any query"
    if result.file is not None:
        yield "written", f"{result.file}, ids and distances {len(result.rows)} × {result.k}"
    yield "time", f"{result.seconds:.3f} s, {result.engine}"


def _as_json(result: SearchResult) -> dict[str, Any]:
    return {
        "codes": result.codes,
        "searched": result.searched,
        "bits": result.bits,
        "packed": result.packed,
        "queries": result.queries,
        "soft": result.soft,
        "k": result.k,
        "neighbours": [
            {"query": row, "ids": ids, "distances": distances}
            for row, ids, distances in zip(result.rows.tolist(), result.ids.tolist(), result.distances.tolist(), strict=True)
        ],
        "unsure": result.unsure.tolist(),
        "relevance": result.relevance,
        "file": result.file,
        "engine": result.engine,
        "seconds": result.seconds,
    }
