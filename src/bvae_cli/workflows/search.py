"""Search codes for the nearest of each query: files are opened, queries encoded or repaired, labels compared."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bvae_cli import files
from bvae_cli.code_rows import CodeRows, open_codes
from bvae_cli.errors import BvaeError, InputOutputError, UsageError
from bvae_cli.numpy_files import read_npy
from bvae_cli.retrieval import faiss_engine
from bvae_cli.retrieval.nearest import Neighbours, nearest
from bvae_cli.retrieval.relevance import Relevance, counts_by_distance, measure_relevance
from bvae_cli.retrieval.soft import soft_nearest
from bvae_cli.retrieval.words import COUNTS_BITS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bvae_cli.trained import SearchConfig
    from bvae_cli.workflows.coded import Coded

OnRows = Callable[[int, int], None]
OnNote = Callable[[str], None]


@dataclass(frozen=True)
class Queries:
    """What is searched for: packed bits ``[queries, bytes]`` or logits ``[queries, bits]``, and where each came from.

    ``rows`` are their numbers in the file or split; ``unsure`` those of them that hold more damage than the code always
    corrects; ``labels`` are None where none are known.
    """

    rows: NDArray[np.int64]
    packed: NDArray[np.uint8] | None
    logits: NDArray[np.float32] | None
    width: int
    said: str
    unsure: NDArray[np.int64]
    labels: NDArray[np.int64] | None = None


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
    codes, queries = _opened(config, named, on_note or (lambda note: None))
    without = queries.rows if config.exclude_self else None
    _require_enough(config, codes, queries)
    labels = None if config.labels is None else read_labels(config.labels, len(codes), f"codes in {codes.path}")
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


def _opened(config: SearchConfig, named: frozenset[str], on_note: OnNote) -> tuple[CodeRows, Queries]:
    if config.query is None:
        from bvae_cli.workflows.encoded_queries import encoded_queries

        return encoded_queries(config, named, on_note)
    if config.names_a_code(named):
        from bvae_cli.workflows.coded import coded

        owner = coded(config, named, with_model=False)
        codes, query = owner.open(config.codes, config.bits), owner.open(config.query, None)
        require_bits(codes)
        if codes.width != query.width:
            return codes, _translated(owner, codes, query, config, on_note)
    else:
        codes, query = _opened_alike(config)
    return codes, _queries(config, query, chosen_rows(config, len(query), str(query.path)))


def _opened_alike(config: SearchConfig) -> tuple[CodeRows, CodeRows]:
    """Open codes and queries of one width, which one of the two files may tell of the other."""
    assert config.query is not None
    widths = {} if config.bits is None else {"bits": config.bits}
    codes, query = open_codes(config.codes, widths), open_codes(config.query, widths)
    require_bits(codes)
    if codes.width == query.width:
        return codes, query
    ways = [
        (one, other)
        for one, other in (
            (_reopened(config.codes, query.width), query),
            (codes, _reopened(config.query, codes.width)),
        )
        if one is not None and other is not None
    ]
    if len(ways) != 1:
        raise UsageError(
            f"{codes.path} seems to hold codes of {codes.width} bits and {query.path} of {query.width}.",
            "Say with --bits how many bits both have, or name the model or the code.",
        )
    return ways[0]


def _reopened(path: Path, width: int) -> CodeRows | None:
    try:
        codes = open_codes(path, {"bits": width})
        for start, stop in codes.spans():
            codes.packed(start, stop)
    except BvaeError:
        return None
    return codes


def require_bits(codes: CodeRows) -> None:
    """Raise InputOutputError where what is to be searched is no bits."""
    if codes.kind == "logits":
        raise InputOutputError(
            f"{codes.path} holds logits; codes that are searched are bits.",
            "Write them with `bvae encode --write information-bits` or codewords; logits can be the QUERY.",
        )


def chosen_rows(config: SearchConfig, there: int, where: str) -> NDArray[np.int64]:
    """Return the numbers of the rows that are queries."""
    if not config.rows:
        return np.arange(there)
    chosen = np.array(config.chosen, np.int64)
    if (chosen >= there).any():
        raise UsageError(
            f"--rows names row {int(chosen[chosen >= there][0])}; {where} has {there:,} rows.", f"They are 0 to {there - 1}."
        )
    return chosen


def _queries(config: SearchConfig, query: CodeRows, rows: NDArray[np.int64]) -> Queries:
    soft = query.kind == "logits"
    take = query.logits if soft else query.packed
    values = _taken(take, query, rows)
    return Queries(
        rows=rows,
        packed=None if soft else values,
        logits=values if soft else None,
        width=query.width,
        said=str(query.path),
        unsure=np.empty(0, np.int64),
        labels=_labels_of(config, query, rows),
    )


def _labels_of(config: SearchConfig, query: CodeRows, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
    if config.query_labels is None:
        return None
    return read_labels(config.query_labels, len(query), f"rows in {query.path}")[rows]


def _taken(take: Callable[[int, int], NDArray[Any]], query: CodeRows, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return rows by number, ``[rows, ...]``, of which those that are not asked for do not stay in memory."""
    if len(rows) == len(query) and (rows == np.arange(len(query))).all():
        return np.concatenate([take(start, stop) for start, stop in query.spans()])
    return np.concatenate([take(row, row + 1) for row in rows.tolist()])


def _translated(owner: Coded, codes: CodeRows, query: CodeRows, config: SearchConfig, on_note: OnNote) -> Queries:
    """Return queries as long as the codes: information bits are encoded, codewords and code logits decoded."""
    import torch

    code, rows = owner.code, chosen_rows(config, len(query), str(query.path))
    labels, none = _labels_of(config, query, rows), np.empty(0, np.int64)
    if query.width == code.k:
        if query.kind == "logits":
            raise UsageError(
                f"{query.path} holds logits of information bits, and {codes.path} codewords.",
                "Take code logits (`bvae encode --write code-logits`) or search information bits.",
            )
        bits = torch.from_numpy(_taken(query.bits, query, rows)).float()
        packed = np.packbits(code.encode(bits).to(torch.uint8).numpy(), axis=1)
        return Queries(rows, packed, None, code.n, f"{query.path}, encoded", none, labels)
    reason = code.spec.no_soft_decoder() if query.kind == "logits" else code.spec.no_hard_decoder()
    if reason is not None:
        raise UsageError(reason, "`bvae codes show NAME` says which decoders a code has.")
    if query.kind == "logits":
        decoded = code.soft_decode(torch.from_numpy(_taken(query.logits, query, rows))).numpy()
        return Queries(rows, None, decoded, code.k, f"{query.path}, decoded", none, labels)
    received = torch.from_numpy(_taken(query.bits, query, rows)).float()
    decided = code.decode(received)
    sure = code.is_guaranteed(code.encode(decided) != received).numpy()
    packed = np.packbits(decided.to(torch.uint8).numpy(), axis=1)
    unsure = rows[~sure]
    if len(unsure):
        on_note(_doubt(owner, query, unsure, len(rows)))
    return Queries(rows, packed, None, code.k, f"{query.path}, decoded", unsure, labels)


def _doubt(owner: Coded, query: CodeRows, unsure: NDArray[np.int64], queries: int) -> str:
    first = ", ".join(map(str, unsure[:10].tolist())) + (", …" if len(unsure) > 10 else "")
    return (
        f"{len(unsure)} of {queries} queries in {query.path} hold more damage than {owner.label} always repairs (rows "
        f"{first}): their neighbours may be those of another word."
    )


def _require_enough(config: SearchConfig, codes: CodeRows, queries: Queries) -> None:
    there = len(codes) - config.exclude_self
    if config.neighbours > there:
        raise UsageError(
            f"-k {config.neighbours} asks for more neighbours than there are: {codes.path} holds {len(codes)} codes.",
            f"Take -k {there} at most." if there else "Search more codes.",
        )
    if config.exclude_self and (queries.rows >= len(codes)).any():
        row = int(queries.rows[queries.rows >= len(codes)][0])
        raise UsageError(
            f"--exclude-self: query row {row} is no row of {codes.path}, which holds {len(codes)} codes.",
            "Leave it out where the queries are not the codes themselves.",
        )
    if config.labels is not None and queries.labels is None:
        raise UsageError(f"There are no labels of the queries: {queries.said} has none.", "Name them with --query-labels.")


def read_labels(path: Path, rows: int, of: str) -> NDArray[np.int64]:
    """Read a whole number for each of so many rows. Raises InputOutputError where a file is not of these."""
    labels = read_npy(path)
    if labels.shape != (rows,) or labels.dtype.kind not in "biu":
        raise InputOutputError(
            f"{path} has the shape {labels.shape} of {labels.dtype}; labels are whole numbers, one for each of {rows} {of}.",
            "Save them as an int64 array of one dimension.",
        )
    return labels.astype(np.int64)


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
    counts = None
    if queries.packed is not None:
        counts = counts_by_distance(codes, queries.packed, labels, wanted, codes.width, without)
    return measure_relevance(found, labels, wanted, there, counts)


def _archive(rows: NDArray[np.int64], found: Neighbours) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, ids=found.ids, distances=found.distances, queries=rows)
    return buffer.getvalue()
