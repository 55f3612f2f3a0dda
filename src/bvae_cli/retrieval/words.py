"""Packed codes as words of 64 bits, and how many bits of words are set."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BYTES = 8

# bitwise_count came with numpy 2.0.
COUNTS_BITS = hasattr(np, "bitwise_count")
_ONES = np.unpackbits(np.arange(2**16, dtype=np.uint16).view(np.uint8).reshape(-1, 2), axis=1).sum(1, dtype=np.uint8)


def words_of(packed: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return packed codes as words, ``[rows, bytes] -> [⌈bytes / 8⌉, rows]``: all the first words, all the second ….

    The last word of a code that is no whole number of words is filled with 0. Which bit stands where in a word does not
    matter, as long as it is the same for all.
    """
    rows, size = packed.shape
    count = -(-size // _BYTES)
    words = np.empty((count, rows), np.uint64)
    if size < _BYTES or not packed.flags.c_contiguous:
        bytes_of_words = np.zeros((rows, count * _BYTES), np.uint8)
        bytes_of_words[:, :size] = packed
        words[:] = bytes_of_words.view(np.uint64).T
        return words
    for place in range(count):
        # The last word is taken from the last eight bytes, so that nothing behind a row is read; what the one before it
        # has already is masked.
        start = min(place * _BYTES, size - _BYTES)
        np.copyto(words[place], np.ndarray((rows,), np.uint64, packed, start, (size,)))
        seen = place * _BYTES - start
        if seen:
            words[place] &= np.array([0] * seen + [255] * (_BYTES - seen), np.uint8).view(np.uint64)[0]
    return words


def _counted_by_table(words: NDArray[np.uint64], out: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Count the ones of words by a table of those of 16 bits."""
    ones = _ONES[words.view(np.uint16)].reshape(-1, 4)
    ones.sum(1, dtype=np.uint8, out=out)
    return out


def _counted_by_numpy(words: NDArray[np.uint64], out: NDArray[np.uint8]) -> NDArray[np.uint8]:
    counted: NDArray[np.uint8] = np.bitwise_count(words, out=out)
    return counted


# Writes the number of ones of each word, ``[n] -> [n]``.
Counter = Callable[[Any, Any], Any]
count_ones: Counter = _counted_by_numpy if COUNTS_BITS else _counted_by_table
