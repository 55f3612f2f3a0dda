"""The same neighbours by faiss, where it is installed (the extra ``search``)."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np

from bvae_cli.errors import UsageError
from bvae_cli.retrieval.nearest import Codes, Neighbours, OnRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROWS_OF_A_CHUNK = 2**20


def is_installed() -> bool:
    """Say whether faiss is there, without importing it."""
    return importlib.util.find_spec("faiss") is not None


def nearest_by_faiss(
    codes: Codes,
    queries: NDArray[np.uint8],
    k: int,
    *,
    threads: int = 0,
    without: NDArray[np.int64] | None = None,
    on_rows: OnRows | None = None,
) -> Neighbours:
    """Return what ``nearest.nearest`` returns, found by ``faiss.knn_hamming`` chunk by chunk of the codes.

    Of codes that are equally far faiss returns any; more are asked of it until all that are as far as the last are there.
    Raises UsageError where faiss is not installed.
    """
    if not is_installed():
        raise UsageError("faiss is not installed.", "pip install 'bvae-cli[search]', or take --engine numpy.")
    import faiss

    if threads:
        faiss.omp_set_num_threads(threads)
    queries = np.ascontiguousarray(queries)
    ids, distances = np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.int64)
    for start in range(0, len(codes), _ROWS_OF_A_CHUNK):
        chunk = np.ascontiguousarray(codes.packed(start, min(start + _ROWS_OF_A_CHUNK, len(codes))))
        found = _nearest_of(faiss, chunk, queries, min(k + (without is not None), len(chunk)))
        ids = np.concatenate([ids, found.ids + start], axis=1)
        distances = np.concatenate([distances, found.distances], axis=1)
        ids, distances = _first(ids, distances, k + (without is not None))
        if on_rows is not None:
            on_rows(start + len(chunk), len(codes))
    if without is not None:
        left_out = ids == without[:, None]
        # Where it is not among them, the last is left out instead.
        left_out[:, -1] |= ~left_out.any(axis=1)
        ids, distances = (values[~left_out].reshape(len(values), -1) for values in (ids, distances))
    return Neighbours(ids, distances)


def _nearest_of(faiss: Any, chunk: NDArray[np.uint8], queries: NDArray[np.uint8], k: int) -> Neighbours:
    """Return the nearest of a chunk, the lower number first where several are equally far."""
    ids, distances = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.int64)
    left, asked = np.arange(len(queries)), min(2 * k + 32, len(chunk))
    while len(left):
        found, at = faiss.knn_hamming(queries[left], chunk, asked)
        at, found = _first(at.astype(np.int64), found.astype(np.int64), asked)
        done = (found[:, -1] > found[:, k - 1]) if asked < len(chunk) else np.ones(len(left), bool)
        ids[left[done]], distances[left[done]] = at[done, :k], found[done, :k]
        left, asked = left[~done], min(4 * asked, len(chunk))
    return Neighbours(ids, distances)


def _first(ids: NDArray[np.int64], distances: NDArray[np.int64], k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first ``k`` of each row by distance, then by number."""
    order = np.lexsort((ids, distances), axis=1)[:, :k]
    return np.take_along_axis(ids, order, 1), np.take_along_axis(distances, order, 1)
