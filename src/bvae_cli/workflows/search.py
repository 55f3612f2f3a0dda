"""Search codes for the nearest of each query, and compare their labels."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bvae_cli import files
from bvae_cli.code_rows import CodeRows
from bvae_cli.errors import UsageError
from bvae_cli.retrieval import faiss_engine
from bvae_cli.retrieval.nearest import Neighbours, nearest
from bvae_cli.retrieval.relevance import (
    Relevance,
    average_precision,
    counts_by_distance,
    measure_relevance,
    soft_average_precision,
)
from bvae_cli.retrieval.soft import soft_nearest
from bvae_cli.retrieval.words import COUNTS_BITS
from bvae_cli.workflows.queries import OnNote, Queries, opened, read_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bvae_cli.trained import SearchConfig

OnRows = Callable[[int, int], None]
# Whether codes are those of the queries is looked at for about so many queries, and so many codes beside each one's own.
_COMPARED_QUERIES, _CODES_BESIDE = 1000, 4
# Of queries that are nearer to their own: of other rows half are, of own ones nearly all.
_MOSTLY = 3 / 4


@dataclass(frozen=True)
class SearchResult:
    """The neighbours: ``ids`` and ``distances`` ``[queries, k]``, of the queries with the numbers ``rows``.

    Distances are differing bits, or of ``soft`` queries nats. ``relevance`` is None without labels.
    """

    codes: Path
    searched: int
    bits: int
    packed: bool
    queries: str
    rows: NDArray[np.int64]
    unsure: NDArray[np.int64]
    soft: bool
    k: int
    ids: NDArray[np.int64]
    distances: NDArray[Any]
    engine: str
    relevance: Relevance | None
    labels: NDArray[np.int64] | None
    query_labels: NDArray[np.int64] | None
    file: Path | None
    seconds: float


def search(
    config: SearchConfig,
    named: frozenset[str] = frozenset(),
    on_note: OnNote | None = None,
    on_rows: OnRows | None = None,
) -> SearchResult:
    """Find the nearest codes of each query, exactly; ``seconds`` are those of the search alone.

    Raises UsageError for what does not fit each other, InputOutputError where files cannot be read or written.
    """
    tell = on_note or (lambda note: None)
    codes, queries = _queries(config, named, tell)
    without = queries.rows if config.exclude_self else None
    _require_enough(config, codes, queries)
    if config.exclude_self:
        _require_own(codes, queries, tell)
    labels = None
    if config.labels is not None:
        of = f"rows in {codes.path}"
        labels = read_labels(config.labels, len(codes), of, config.dataset, queries.data)
    engine = _engine(config, queries)
    started = time.perf_counter()
    found = _found(codes, queries, config, engine, without, on_rows)
    seconds = time.perf_counter() - started
    relevance = None if labels is None else _relevance(codes, queries, found, labels, without)
    if config.output is not None:
        files.write_file(config.output, _archive(queries.rows, found))
    return SearchResult(
        codes=codes.path,
        searched=len(codes),
        bits=codes.width,
        packed=codes.kind == "packed",
        queries=queries.said,
        rows=queries.rows,
        unsure=queries.unsure,
        soft=queries.logits is not None,
        k=config.neighbours,
        ids=found.ids,
        distances=found.distances,
        engine=engine,
        relevance=relevance,
        labels=labels,
        query_labels=queries.labels,
        file=config.output,
        seconds=seconds,
    )


def _queries(config: SearchConfig, named: frozenset[str], on_note: OnNote) -> tuple[CodeRows, Queries]:
    if config.query is not None:
        return opened(config, named, on_note)
    from bvae_cli.workflows.encoded_queries import encoded_queries  # which needs torch

    return encoded_queries(config, named, on_note)


def _require_enough(config: SearchConfig, codes: CodeRows, queries: Queries) -> None:
    there = len(codes) - config.exclude_self
    if config.neighbours > there:
        raise UsageError(
            f"-k {config.neighbours} asks for more neighbours than there are: {codes.path} holds {len(codes)} codes.",
            f"Take -k {there} at most." if there else "Search more codes.",
        )
    if config.exclude_self and queries.total != len(codes):
        raise UsageError(
            f"--exclude-self leaves out code i for query row i, but queries are of {queries.total:,} rows ({queries.said}) "
            f"and {codes.path} holds {len(codes):,} codes.",
            "Name the rows that were encoded, as with --split all, or leave it out.",
        )
    if config.labels is not None and queries.labels is None:
        raise UsageError(f"There are no labels of the queries: {queries.said} has none.", "Name them with --query-labels.")


def _require_own(codes: CodeRows, queries: Queries, on_note: OnNote) -> None:
    """Raise UsageError where code i is not that of query row i, or tell ``on_note`` where a file of queries leaves it open.

    No file of codes says which rows it is of. What a model says of the rows that were encoded is what the file holds of
    them; queries of a file may be damaged.
    """
    own, others = _distances_to_own(codes, queries)
    # By how much they are nearer says little: signs of logits are no codewords.
    if not own.any() or (own <= others).mean() >= _MOSTLY:
        return
    what = "--exclude-self leaves out code i for query row i, but"
    how = "differ as much as those of other rows do"
    if queries.data is None:
        on_note(f"{what} in {queries.said} and {codes.path} those of one number {how}: they seem to be of other rows.")
        return
    raise UsageError(
        f"{what} what the model says of {queries.said} and the codes of these numbers in {codes.path} {how}.",
        "Name the rows that were encoded, as --split train, or leave it out.",
    )


def _distances_to_own(codes: CodeRows, queries: Queries) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how many bits of queries differ from the codes of their numbers, and in the mean from those beside these."""
    own, others = [], []
    for place in range(0, len(queries.rows), max(1, len(queries.rows) // _COMPARED_QUERIES)):
        row = int(queries.rows[place])
        first = max(0, min(row - _CODES_BESIDE // 2, len(codes) - _CODES_BESIDE - 1))
        beside = codes.bits(first, min(first + _CODES_BESIDE + 1, len(codes)))
        differ = (beside != _bits_of(queries, place)).sum(1)
        own.append(differ[row - first])
        others.append(np.delete(differ, row - first).mean())
    return np.array(own, np.float64), np.array(others, np.float64)


def _bits_of(queries: Queries, place: int) -> NDArray[np.uint8]:
    """Return a query as bits, one of logits as their signs."""
    if queries.logits is not None:
        signs: NDArray[np.uint8] = (queries.logits[place] > 0).view(np.uint8)
        return signs
    assert queries.packed is not None
    return np.unpackbits(queries.packed[place], count=queries.width)


def _engine(config: SearchConfig, queries: Queries) -> str:
    if queries.logits is not None:
        if config.engine == "faiss":
            raise UsageError("faiss searches by Hamming distance, and these queries are soft.", "Leave --engine out.")
        return "numpy"
    if config.engine != "auto":
        return config.engine
    return "numpy" if COUNTS_BITS or not faiss_engine.is_installed() else "faiss"


def _found(
    codes: CodeRows,
    queries: Queries,
    config: SearchConfig,
    engine: str,
    without: NDArray[np.int64] | None,
    on_rows: OnRows | None,
) -> Neighbours:
    k, threads = config.neighbours, config.threads
    if queries.logits is not None:
        return soft_nearest(codes, queries.logits, k, threads=threads, without=without, on_rows=on_rows)
    assert queries.packed is not None
    by = faiss_engine.nearest_by_faiss if engine == "faiss" else nearest
    return by(codes, queries.packed, k, threads=threads, without=without, on_rows=on_rows)


def _relevance(
    codes: CodeRows,
    queries: Queries,
    found: Neighbours,
    labels: NDArray[np.int64],
    without: NDArray[np.int64] | None,
) -> Relevance | None:
    wanted = queries.labels
    assert wanted is not None
    values, of_each = np.unique(labels, return_counts=True)
    place = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
    there = np.where(values[place] == wanted, of_each[place], 0)
    if without is not None:
        there = there - (labels[without] == wanted)
    if queries.logits is not None:
        precisions = soft_average_precision(codes, queries.logits, labels, wanted, without)
    else:
        assert queries.packed is not None
        precisions = average_precision(counts_by_distance(codes, queries.packed, labels, wanted, codes.width, without))
    return measure_relevance(found, labels, wanted, there, precisions)


def _archive(rows: NDArray[np.int64], found: Neighbours) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, ids=found.ids, distances=found.distances, queries=rows)
    return buffer.getvalue()
