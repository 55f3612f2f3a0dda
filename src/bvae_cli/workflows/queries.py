"""What is searched for: codes or logits of a file, codewords repaired where their code is named, all of the codes' width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from bvae_cli.code_rows import CodeRows, doubtful_logits, open_codes
from bvae_cli.errors import BvaeError, InputOutputError, UsageError
from bvae_cli.numpy_files import read_npy
from bvae_cli.trained import EncodedSplit, require_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bvae_cli.codes.base import Code
    from bvae_cli.config import PluginRef
    from bvae_cli.datasets.base import Splits
    from bvae_cli.trained import SearchConfig
    from bvae_cli.workflows.coded import Coded

OnNote = Callable[[str], None]
# Numbers of rows that a sentence names.
_TOLD = 10
_VALUES_AT_ONCE = 2**21


@dataclass(frozen=True)
class Queries:
    """What is searched for: packed bits ``[queries, bytes]`` or logits ``[queries, bits]``, and where each came from.

    ``rows`` are their numbers among the ``total`` of the file or split; ``unsure`` those of them that hold more damage than
    the code always corrects; ``labels`` are None where none are known, ``data`` is the data set that they were encoded of.
    """

    rows: NDArray[np.int64]
    total: int
    packed: NDArray[np.uint8] | None
    logits: NDArray[np.float32] | None
    width: int
    said: str
    unsure: NDArray[np.int64]
    labels: NDArray[np.int64] | None = None
    data: Splits | None = None


def opened(config: SearchConfig, named: frozenset[str], on_note: OnNote) -> tuple[CodeRows, Queries]:
    """Open the codes that are searched and what is searched for, which are then of one width; damage is told ``on_note``.

    Raises UsageError, InputOutputError where they are not and no code is named that makes them so.
    """
    assert config.query is not None  # or rows of data are encoded
    if config.names_a_code(named):
        from bvae_cli.workflows.coded import coded

        owner = coded(config, named, with_model=False)
        codes, query = owner.open(config.codes, config.bits), owner.open(config.query, None)
        require_bits(codes)
        repairs = query.kind != "logits" and query.width == owner.code.n != owner.code.k
        if codes.width != query.width or repairs:
            return codes, _translated(owner, codes, query, config, on_note)
    else:
        codes, query = _opened_alike(config)
    queries = _queries(config, query, chosen_rows(config, len(query), str(query.path)))
    if queries.logits is not None and (doubt := doubtful_logits(query.path, queries.logits)):
        on_note(doubt)
    return codes, queries


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
    """Return the numbers of the rows that are queries. Raises UsageError for one that is not there."""
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
        total=len(query),
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
    return read_labels(config.query_labels, len(query), f"rows in {query.path}", config.dataset)[rows]


def _taken(take: Callable[[int, int], NDArray[Any]], query: CodeRows, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return rows by number, ``[rows, ...]``, of which those that are not asked for do not stay in memory."""
    if len(rows) == len(query) and (rows == np.arange(len(query))).all():
        return np.concatenate([take(start, stop) for start, stop in query.spans()])
    return np.concatenate([take(row, row + 1) for row in rows.tolist()])


def _translated(owner: Coded, codes: CodeRows, query: CodeRows, config: SearchConfig, on_note: OnNote) -> Queries:
    """Return queries as long as the codes: information bits are encoded, code logits decoded, codewords repaired."""
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
        return Queries(rows, len(query), packed, None, code.n, f"{query.path}, encoded", none, labels)
    reason = code.spec.no_soft_decoder() if query.kind == "logits" else code.spec.no_hard_decoder()
    if reason is not None:
        raise UsageError(
            reason,
            "`bvae codes show NAME` says which decoders a code has; without a model and a code nothing is repaired, and "
            "words are searched as they are.",
        )
    if query.kind == "logits":
        decoded = code.soft_decode(torch.from_numpy(_taken(query.logits, query, rows))).numpy()
        return Queries(rows, len(query), None, decoded, code.k, f"{query.path}, decoded", none, labels)
    packed, sure = _repaired(code, _taken(query.bits, query, rows), codes.width)
    unsure = rows[~sure]
    if len(unsure):
        on_note(_doubt(owner, query, unsure, len(rows)))
    became = "repaired" if codes.width == code.n else "decoded"
    return Queries(rows, len(query), packed, None, codes.width, f"{query.path}, {became}", unsure, labels)


def _repaired(code: Code, received: NDArray[np.uint8], width: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return what words ``[rows, N]`` are decided for, packed codewords or information bits by width, and which are sure."""
    import torch

    packed: list[NDArray[np.uint8]] = []
    sure: list[NDArray[np.bool_]] = []
    for some in torch.from_numpy(received).split(max(1, _VALUES_AT_ONCE // code.n)):
        decided = code.decode(some.float())
        codewords = code.encode(decided)
        sure.append(code.is_guaranteed(codewords != some).numpy())
        words = codewords if width == code.n else decided
        packed.append(np.packbits(words.to(torch.uint8).numpy(), axis=1))
    return np.concatenate(packed), np.concatenate(sure)


def _doubt(owner: Coded, query: CodeRows, unsure: NDArray[np.int64], queries: int) -> str:
    first = ", ".join(map(str, unsure[:_TOLD].tolist())) + (", …" if len(unsure) > _TOLD else "")
    return (
        f"{len(unsure)} of {queries} queries in {query.path} hold more damage than {owner.label} always repairs (rows "
        f"{first}): their neighbours may be those of another word."
    )


def read_labels(
    path: Path, rows: int, of: str, dataset: PluginRef | None = None, data: Splits | None = None
) -> NDArray[np.int64]:
    """Read a whole number for each of so many rows, from a file or of the split of a data set that ``path`` names.

    Raises InputOutputError where a file is not of these, UsageError where a data set has no labels or other rows.
    """
    if str(path) in get_args(EncodedSplit):
        from bvae_cli.workflows.split_labels import labels_of_split

        return labels_of_split(str(path), rows, of, dataset, data)
    require_labels(path)
    labels = read_npy(path)
    if labels.shape != (rows,) or labels.dtype.kind not in "biu":
        raise InputOutputError(
            f"{path} has the shape {labels.shape} of {labels.dtype}; labels are whole numbers, one for each of {rows} {of}.",
            "Save them as an int64 array of one dimension.",
        )
    return labels.astype(np.int64)
