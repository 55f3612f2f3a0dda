"""The nearest codes of each query, exactly: pass after pass over blocks of codes, in several threads.

A query's neighbours are the codes of least distance, the lower number first where distances are equal, so that the answer is
one answer whatever the threads, the blocks and the engine.
"""

from __future__ import annotations

import contextlib
import os
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bvae_cli.retrieval import words as words_module
from bvae_cli.retrieval.words import words_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Words of the codes of a block, in bytes: with fewer the threads wait for the interpreter between numpy's calls, which are
# short then, and with more they leave the cache of a core. Of wide codes a block has so many rows all the same.
_BYTES_OF_A_BLOCK, _FEWEST_OF_A_BLOCK = 2**21, 2**15
# Those of a thread's first block: the nearest of few codes already leave most of the others out.
_ROWS_OF_THE_FIRST = 2**10
# Codes that a thread takes at once.
_ROWS_OF_A_CHUNK = 2**17
# Distances that take about a thousandth of a second: for fewer no thread is started.
_WORTH_A_THREAD = 2**20
# Where fewer than so many of the codes of a block can still be near, the others are left alone from there on.
FEW = 1 / 4

OnRows = Callable[[int, int], None]


class Codes(Protocol):
    """Packed codes that are read some at once."""

    def __len__(self) -> int:
        """Return how many there are."""

    def packed(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return codes by number, uint8 ``[stop - start, bytes]``."""


class CodesInMemory:
    """Packed codes ``[rows, bytes]`` in memory."""

    def __init__(self, packed: NDArray[np.uint8]) -> None:
        self._packed = packed

    def __len__(self) -> int:
        return len(self._packed)

    def packed(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return a view of them."""
        return self._packed[start:stop]


@dataclass(frozen=True)
class Neighbours:
    """The ``k`` nearest codes of each query: ``ids`` int64 ``[queries, k]``, and ``distances`` beside them, ascending."""

    ids: NDArray[np.int64]
    distances: NDArray[Any]


class Block(Protocol):
    """Some codes, prepared for all queries."""

    @abstractmethod
    def near(self, query: int, below: float) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return the places in the block, ascending, and distances of all codes whose distance is less than ``below``."""


Prepare = Callable[["NDArray[np.uint8]"], Block]


class HammingBlock:
    """Some codes as words; the distance of a query is the number of bits that differ."""

    def __init__(self, queries: NDArray[np.uint64], packed: NDArray[np.uint8]) -> None:
        self._queries, self._words = queries, words_of(packed)
        rows = self._words.shape[1]
        self._differing = np.empty(rows, np.uint64)
        self._count, self._more = np.empty(rows, np.uint8), np.empty(rows, np.uint8)

    def near(self, query: int, below: float) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Count word after word, and of the codes that are too far by then no more."""
        # A limit of numpy's own, or one that is no whole number, would turn the counts into its type first.
        limit = 64 * len(self._words) + 1 if below == np.inf else int(below)
        distances, places = self._count, np.empty(0, np.int64)
        for number, wanted in enumerate(self._queries[query]):
            np.bitwise_xor(self._words[number], wanted, out=self._differing)
            words_module.count_ones(self._differing, self._count if number == 0 else self._more)
            if number:
                distances = np.add(distances, self._more, dtype=_type(number))
            places = np.flatnonzero(distances < limit)
            if len(places) < FEW * len(distances):
                return self._go_on(query, number + 1, places, distances[places].astype(np.int64), limit)
        return places, distances[places].astype(np.int64)

    def _go_on(
        self, query: int, number: int, places: NDArray[np.int64], distances: NDArray[np.int64], limit: int
    ) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Count the words from ``number`` on of the codes at some places alone."""
        for later in range(number, len(self._words)):
            differing = self._words[later][places] ^ self._queries[query, later]
            distances += words_module.count_ones(differing, np.empty(len(places), np.uint8))
        near = distances < limit
        return places[near], distances[near]


def _type(place: int) -> type[np.unsignedinteger[Any]]:
    """Return a type that holds the sum of so many words' ones, and one more word's."""
    return np.uint8 if 64 * (place + 1) < 2**8 else np.uint16 if 64 * (place + 1) < 2**16 else np.uint32


def nearest(
    codes: Codes,
    queries: NDArray[np.uint8],
    k: int,
    *,
    threads: int = 0,
    without: NDArray[np.int64] | None = None,
    on_rows: OnRows | None = None,
) -> Neighbours:
    """Return the ``k`` codes of least Hamming distance to each packed query ``[queries, bytes]``.

    ``without`` is the number of one code for each query that is left out of its neighbours. ``threads`` is 0 for as many as
    there are processors. Needs memory for the neighbours and for a block of codes for each thread, whatever their number.
    """
    words = np.ascontiguousarray(words_of(np.ascontiguousarray(queries)).T)
    found = scan(codes, len(queries), k, lambda packed: HammingBlock(words, packed), threads, without, on_rows)
    return Neighbours(found.ids, found.distances.astype(np.int64))


def scan(
    codes: Codes,
    queries: int,
    k: int,
    prepare: Prepare,
    threads: int = 0,
    without: NDArray[np.int64] | None = None,
    on_rows: OnRows | None = None,
) -> Neighbours:
    """Return the ``k`` codes of least distance to each of so many queries, by the distances of prepared blocks."""
    most = _rows_of_a_block(codes)
    takers = min(_processors() if threads == 0 else threads, -(-len(codes) * queries // _WORTH_A_THREAD))
    chunks = _Chunks(len(codes), max(1, min(max(_ROWS_OF_A_CHUNK, 2 * most), -(-len(codes) // takers))), on_rows)

    def work() -> list[_Best]:
        best = [_Best(k, None if without is None else int(without[query])) for query in range(queries)]
        size = min(_ROWS_OF_THE_FIRST, most)
        with chunks.stopped_by_what_goes_wrong():
            for start, stop in chunks:
                packed, first = codes.packed(start, stop), 0
                while first < len(packed):
                    block = prepare(packed[first : first + size])
                    for query, kept in enumerate(best):
                        kept.add(start + first, *block.near(query, kept.below))
                    first, size = first + size, min(2 * size, most)
        return best

    if takers == 1 or len(chunks) == 1:
        found = [work()]
    else:
        with ThreadPoolExecutor(min(takers, len(chunks))) as pool:
            futures = [pool.submit(work) for _ in range(min(takers, len(chunks)))]
            with chunks.stopped_by_what_goes_wrong():  # an interruption, which comes here
                found = [future.result() for future in futures]
    joined = [_joined([best[query] for best in found], k) for query in range(queries)]
    return Neighbours(np.stack([ids for ids, _ in joined]), np.stack([distances for _, distances in joined]))


def _rows_of_a_block(codes: Codes) -> int:
    bytes_of_words: int = 8 * max(1, -(-codes.packed(0, 0).shape[1] // 8))
    return max(_FEWEST_OF_A_BLOCK, _BYTES_OF_A_BLOCK // bytes_of_words)


class _Chunks:
    """Spans of rows, each given to one thread, to each in ascending order."""

    def __init__(self, rows: int, size: int, on_rows: OnRows | None) -> None:
        self._rows, self._size, self._on_rows = rows, size, on_rows
        self._next, self._lock = 0, threading.Lock()

    def __len__(self) -> int:
        return (self._rows + self._size - 1) // self._size

    @contextlib.contextmanager
    def stopped_by_what_goes_wrong(self) -> Iterator[None]:
        """Give out no more after an exception of the body: the pool waits for all of its threads."""
        try:
            yield
        except BaseException:
            with self._lock:
                self._next = self._rows
            raise

    def __iter__(self) -> Iterator[tuple[int, int]]:
        while True:
            with self._lock:
                start = self._next
                if start >= self._rows:
                    return
                self._next = stop = min(start + self._size, self._rows)
                if self._on_rows is not None:
                    self._on_rows(stop, self._rows)
            yield start, stop


class _Best:
    """The nearest codes of one query so far, among codes that come in ascending order of their numbers."""

    def __init__(self, k: int, without: int | None) -> None:
        self._k, self._without = k, without
        self.ids = np.empty(0, np.int64)
        self.distances: NDArray[Any] = np.empty(0)
        self.below: float = np.inf

    def add(self, first: int, places: NDArray[np.int64], distances: NDArray[Any]) -> None:
        """Add codes, by their places behind number ``first``; what comes later and is as far as the last is no nearer."""
        if self._without is not None:
            others = places != self._without - first
            places, distances = places[others], distances[others]
        if not len(places):
            return
        if len(places) > self._k:
            # Most of a first block is far; the stable sort of what is left keeps the order of the numbers.
            near = distances <= np.partition(distances, self._k - 1)[self._k - 1]
            places, distances = places[near], distances[near]
        ids = np.concatenate([self.ids, places + first])
        distances = np.concatenate([self.distances, distances])
        order = distances.argsort(kind="stable")[: self._k]
        self.ids, self.distances = ids[order], distances[order]
        if len(order) == self._k:
            self.below = self.distances[-1].item()


def _joined(parts: list[_Best], k: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
    ids = np.concatenate([part.ids for part in parts])
    distances = np.concatenate([part.distances for part in parts])
    order = np.lexsort((ids, distances))[:k]
    return ids[order], distances[order]


def _processors() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
