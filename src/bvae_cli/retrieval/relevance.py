"""How well neighbours agree with labels: precision and recall at k, mean average precision of whole rankings with ties."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bvae_cli.retrieval.nearest import HammingBlock, Neighbours
from bvae_cli.retrieval.soft import SoftBlock, penalties
from bvae_cli.retrieval.words import words_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bvae_cli.retrieval.nearest import Codes

_ROWS_OF_A_CHUNK = 2**15
_DISTANCES_AT_ONCE = 2**24


@dataclass(frozen=True)
class Relevance:
    """Means over the queries of which the codes hold at least one relevant, ``queries`` of them.

    ``precision`` and ``recall`` are those of the first k; ``average_precision_at_k`` is that of the list of k;
    ``average_precision`` that of the ranking of all codes.
    """

    queries: int
    k: int
    precision: float
    recall: float
    average_precision_at_k: float
    average_precision: float


def relevant_neighbours(found: Neighbours, labels: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which neighbours have the label that their query has, ``[queries, k]``."""
    relevant: NDArray[np.bool_] = labels[found.ids] == wanted[:, None]
    return relevant


def recall_at_k(relevant: NDArray[np.bool_], there: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return recall@k = Σ_{i ≤ k} rel(i) / R of lists ``[queries, k]``, with ``there`` R relevant codes in all.

    >>> recall_at_k(np.array([[True, False, True]]), np.array([5]))
    array([0.4])
    """
    values: NDArray[np.float64] = relevant.sum(1) / there
    return values


def average_precision_at_k(relevant: NDArray[np.bool_], there: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return AP@k = Σ_{i ≤ k} P(i) rel(i) / min(R, k) of lists ``[queries, k]``, with ``there`` R relevant codes in all.

    >>> average_precision_at_k(np.array([[True, False, True]]), np.array([5])).round(4)
    array([0.5556])
    """
    k = relevant.shape[1]
    precision = relevant.cumsum(1) / np.arange(1, k + 1)
    values: NDArray[np.float64] = (precision * relevant).sum(1) / np.minimum(there, k)
    return values


def average_precision(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the expected average precision of rankings whose ties are broken by chance.

    ``counts [queries, distances, 2]`` are the codes at each distance, those that are not relevant and those that are. A
    group of n codes at one distance, r of them relevant, behind N codes with R relevant, adds
    (r / n) Σ_{i=1}^{n} (R + 1 + (i − 1)(r − 1)/(n − 1)) / (N + i) to the sum of precisions (McSherry and Najork 2008), so
    that it depends on the distances alone, and not on the order of a file. NaN where nothing is relevant.

    >>> average_precision(np.array([[[0, 1], [1, 1]]])).round(4)
    array([0.9167])
    """
    from scipy.special import digamma

    relevant, size = counts[..., 1].astype(float), counts.sum(-1).astype(float)
    before, relevant_before = size.cumsum(-1) - size, relevant.cumsum(-1) - relevant
    # Σ (a + (i − 1) c)/(N + i) = c n + (a − c (N + 1)) (ψ(N + n + 1) − ψ(N + 1)).
    slope = np.divide(relevant - 1, size - 1, out=np.zeros_like(size), where=size > 1)
    harmonic = digamma(before + size + 1) - digamma(before + 1)
    inner = slope * size + (relevant_before + 1 - slope * (before + 1)) * harmonic
    share = np.divide(relevant, size, out=np.zeros_like(size), where=size > 0)
    there = relevant.sum(-1)
    values: NDArray[np.float64] = np.divide((share * inner).sum(-1), there, out=np.full_like(there, np.nan), where=there > 0)
    return values


def counts_by_distance(
    codes: Codes,
    queries: NDArray[np.uint8],
    labels: NDArray[np.int64],
    wanted: NDArray[np.int64],
    width: int,
    without: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Return how many codes are at each distance of each packed query, not relevant and relevant.

    The counts are ``[queries, width + 1, 2]``.
    """
    counts = np.zeros((len(queries), width + 1, 2), np.int64)
    words = np.ascontiguousarray(words_of(np.ascontiguousarray(queries)).T)
    for start in range(0, len(codes), _ROWS_OF_A_CHUNK):
        stop = min(start + _ROWS_OF_A_CHUNK, len(codes))
        block = HammingBlock(words, codes.packed(start, stop))
        for query, label in enumerate(wanted):
            _, distances = block.near(query, np.inf)
            key = 2 * distances + (labels[start:stop] == label)
            counts[query] += np.bincount(key, minlength=2 * (width + 1)).reshape(-1, 2)
            if without is not None and start <= without[query] < stop:
                counts[query].reshape(-1)[key[without[query] - start]] -= 1
    return counts


def soft_average_precision(
    codes: Codes,
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    wanted: NDArray[np.int64],
    without: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """Return the expected average precision of the ranking of all codes by their posterior given each query's logits.

    Logits are ``[queries, bits]``, the distances those of ``soft_nearest``; equal ones are ties. All distances of some
    queries are held at once.
    """
    tables, total = penalties(logits), len(codes)
    values = np.empty(len(logits))
    at_once = max(1, _DISTANCES_AT_ONCE // total)
    for first in range(0, len(logits), at_once):
        some = range(first, min(first + at_once, len(logits)))
        distances = np.empty((len(some), total))
        for start in range(0, total, _ROWS_OF_A_CHUNK):
            stop = min(start + _ROWS_OF_A_CHUNK, total)
            block = SoftBlock(tables, codes.packed(start, stop))
            for row, query in enumerate(some):
                _, distances[row, start:stop] = block.near(query, np.inf)
        for row, query in enumerate(some):
            key = 2 * np.unique(distances[row], return_inverse=True)[1] + (labels == wanted[query])
            kept = key if without is None else np.delete(key, without[query])
            counts = np.bincount(kept, minlength=2 * total).reshape(1, -1, 2)
            values[query] = average_precision(counts)[0]
    return values


def measure_relevance(
    found: Neighbours,
    labels: NDArray[np.int64],
    wanted: NDArray[np.int64],
    there: NDArray[np.int64],
    of_whole_rankings: NDArray[np.float64],
) -> Relevance | None:
    """Return the means over the queries with a relevant code among all, None where there is no such query.

    ``there`` is the number R of relevant codes of each query, ``of_whole_rankings`` the average precision of all codes.
    """
    known = there > 0
    if not known.any():
        return None
    relevant = relevant_neighbours(found, labels, wanted)[known]
    return Relevance(
        queries=int(known.sum()),
        k=found.ids.shape[1],
        precision=float(relevant.mean()),
        recall=float(recall_at_k(relevant, there[known]).mean()),
        average_precision_at_k=float(average_precision_at_k(relevant, there[known]).mean()),
        average_precision=float(of_whole_rankings[known].mean()),
    )
