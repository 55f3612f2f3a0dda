"""A table of numbers that stays in its file: rows one after another are read, others taken from a memory map."""

from __future__ import annotations

import errno
import mmap
import os
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bvae_cli.sources import Unchanged, reading

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A mapped page counts as memory of the process until it is let go: so many bytes of them may be held at once.
_PAGES_HELD = 2**24
# A page that is missing comes with its neighbours, at most so many bytes of them (the kernel's fault_around_bytes).
_BYTES_OF_A_FAULT = 2**16


class MappedTable:
    """A table ``[rows, columns]`` of numbers in a file, from the byte ``offset`` on, row by row.

    What is read is copied, and pages of the map are let go before they are more than 16 MiB, so that the memory of the
    process does not grow with the file. They stay in the system's cache of files, where there is room.
    """

    def __init__(self, path: Path, offset: int, rows: int, columns: int, dtype: np.dtype[Any]) -> None:
        self.path = path
        with reading(path):
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            weakref.finalize(self, os.close, self._descriptor)
            self._unchanged = Unchanged(self._descriptor, path)
            self._map = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)
        self._offset = offset
        self._values = np.frombuffer(self._map, dtype, rows * columns, offset).reshape(rows, columns)
        self._span = max(1, _PAGES_HELD // max(1, columns * dtype.itemsize))
        self._lets_go = len(self._map) > _PAGES_HELD and hasattr(mmap, "MADV_DONTNEED")

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (rows, columns)."""
        return self._values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of the numbers."""
        return self._values.dtype

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        return self.take(rows)

    @property
    def bytes_in_a_row(self) -> int:
        """Return what a row takes in the file."""
        return self._values.strides[0]

    def take(self, rows: NDArray[np.int64] | slice) -> NDArray[Any]:
        """Return a copy of rows by their numbers ``[n]``, or of those of a slice.

        Raises InputOutputError where the file is not what it was when it was opened: a page that is gone would end the
        process.
        """
        self._unchanged.require()
        if isinstance(rows, slice):
            return self._read(rows)
        if self._lets_go:
            return self._taken_in_order(rows)
        values = self._values.take(rows, axis=0)
        self._let_go()
        return values

    def _read(self, rows: slice) -> NDArray[Any]:
        """Read the rows of a slice past the map: a missing page would hold the interpreter and with it all threads."""
        start, stop, step = rows.indices(self.shape[0])
        if step != 1 or not hasattr(os, "preadv"):
            values = self._values[rows].copy()
            self._let_go()
            return values
        values = np.empty((max(0, stop - start), self.shape[1]), self.dtype)
        left, place = values.reshape(-1).view(np.uint8).data, self._offset + start * self.bytes_in_a_row
        with reading(self.path):
            while left:
                count = os.preadv(self._descriptor, [left], place)
                if not count:
                    self._unchanged.require()
                    raise OSError(errno.EIO, "the file ends before its rows do")
                left, place = left[count:], place + count
        return values

    def _taken_in_order(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Read rows in the order of the file, and let the pages go now and then."""
        in_order = rows.argsort()
        rows = rows[in_order]
        fewest = _PAGES_HELD // _BYTES_OF_A_FAULT
        ends = np.searchsorted(rows, np.arange(self._span, self.shape[0] + self._span, self._span))
        if len(ends) * fewest > len(rows):
            ends = np.arange(fewest, len(rows) + fewest, fewest)
        values = np.empty((len(rows), self.shape[1]), self._values.dtype)
        start = 0
        for end in ends.tolist():
            if end > start:
                values[in_order[start:end]] = self._values.take(rows[start:end], axis=0)
                self._let_go()
                start = end
        return values

    def _let_go(self) -> None:
        if self._lets_go:
            self._map.madvise(mmap.MADV_DONTNEED)
