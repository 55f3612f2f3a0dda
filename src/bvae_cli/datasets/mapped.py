"""Rows that stay in their file: read from a memory map some batches ahead, unpacked batch by batch, and no page is kept.

torch and numpy are needed here, so that a spec imports this inside its ``load``.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bvae_cli.errors import InputOutputError
from bvae_cli.sources import reading

# A mapped page counts as memory of the process until it is let go: so many bytes of them may be held at once.
_PAGES_HELD = 2**24
# A page that is missing comes with its neighbours, at most so many bytes of them (the kernel's fault_around_bytes).
_BYTES_OF_A_FAULT = 2**16
# Rows that are read at once where the order of many is known: in the order of the file, each page is then needed once.
_BYTES_AHEAD = 2**23


class MappedTable:
    """A table ``[rows, columns]`` of numbers in a file, from the byte ``offset`` on, row by row.

    What is read is copied, and pages are let go before they are more than 16 MiB, so that the memory of the process does not
    grow with the file. They stay in the system's cache of files, where there is room.
    """

    def __init__(self, path: Path, offset: int, rows: int, columns: int, dtype: np.dtype[Any]) -> None:
        self.path = path
        with reading(path):
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            weakref.finalize(self, os.close, self._descriptor)
            self._seen = self._identity()
            self._map = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)
        self._values = np.frombuffer(self._map, dtype, rows * columns, offset).reshape(rows, columns)
        self._span = max(1, _PAGES_HELD // max(1, columns * dtype.itemsize))
        self._lets_go = len(self._map) > _PAGES_HELD and hasattr(mmap, "MADV_DONTNEED")

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (rows, columns)."""
        return self._values.shape

    @property
    def bytes_in_a_row(self) -> int:
        """Return what a row takes in the file."""
        return self._values.strides[0]

    def take(self, rows: NDArray[np.int64] | slice) -> NDArray[Any]:
        """Return a copy of rows by their numbers ``[n]``, or of those of a slice.

        Raises InputOutputError where the file is not what it was when it was opened: a page that is gone would end the
        process.
        """
        self._require_unchanged()
        if isinstance(rows, slice):
            values = self._values[rows].copy()
        elif self._lets_go:
            return self._taken_in_order(rows)
        else:
            values = self._values.take(rows, axis=0)
        self._let_go()
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

    def _identity(self) -> tuple[int, int]:
        state = os.fstat(self._descriptor)
        return state.st_size, state.st_mtime_ns

    def _require_unchanged(self) -> None:
        with reading(self.path):
            unchanged = self._identity() == self._seen
        if not unchanged:
            raise InputOutputError(
                f"{self.path} has changed since it was opened.",
                "Leave a file of data alone while it is in use: write another one, and rename it.",
            )


class MappedRows:
    """``Rows`` of a table in a file: of all its rows, or of those with the numbers ``index`` in that order.

    ``bits`` is D where each row of the table is D packed bits (``numpy.packbits`` along the row: the first value in the
    highest bit, the last byte filled up with 0), else None. Rows are uint8 with ``are_bits``, else float32.
    """

    def __init__(
        self,
        table: MappedTable,
        *,
        bits: int | None = None,
        are_bits: bool = True,
        index: NDArray[np.int64] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._table, self._bits, self._are_bits, self._index = table, bits, are_bits, index
        self._device = torch.device(device)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (rows, D)."""
        return (len(self), self._table.shape[1] if self._bits is None else self._bits)

    @property
    def dtype(self) -> torch.dtype:
        """Return uint8 or float32."""
        return torch.uint8 if self._are_bits else torch.float32

    @property
    def device(self) -> torch.device:
        """Return where the rows are that are taken."""
        return self._device

    def __len__(self) -> int:
        return self._table.shape[0] if self._index is None else len(self._index)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        if isinstance(rows, slice):
            return self._taken(rows if self._index is None else self._index[rows])
        numbers = rows.cpu().numpy()
        flat = numbers.reshape(-1)
        taken = self._taken(flat if self._index is None else self._index[flat])
        return taken.reshape(*numbers.shape, taken.shape[-1])

    def split(self, size: int) -> Iterator[Tensor]:
        """Take all rows in their order, ``size`` at once."""
        if self._index is None:
            return (self[start : start + size] for start in range(0, len(self), size))
        return self._batches(self._index, size)

    def batches(self, order: Tensor, size: int) -> Iterator[Tensor]:
        """Take the rows with the numbers ``order [n]``, ``size`` at once; several batches are read ahead together."""
        numbers = order.cpu().numpy()
        return self._batches(numbers if self._index is None else self._index[numbers], size)

    def first(self, count: int) -> MappedRows:
        """Return the first ``count`` rows; nothing is read."""
        return self.indexed(np.arange(min(count, len(self))))

    def indexed(self, index: NDArray[np.int64]) -> MappedRows:
        """Return the rows with these numbers, in this order; nothing is read."""
        return self._like(index if self._index is None else self._index[index], self._device)

    def as_numbers(self) -> MappedRows:
        """Return the same rows as float32, though all may be bits; nothing is read."""
        return MappedRows(self._table, bits=self._bits, are_bits=False, index=self._index, device=self._device)

    def to(self, device: torch.device | str) -> MappedRows:
        """Return the same rows, each batch of which is moved to ``device``; nothing is moved now."""
        return self._like(self._index, device)

    def _like(self, index: NDArray[np.int64] | None, device: torch.device | str) -> MappedRows:
        return MappedRows(self._table, bits=self._bits, are_bits=self._are_bits, index=index, device=device)

    def _batches(self, places: NDArray[np.int64], size: int) -> Iterator[Tensor]:
        ahead = size * max(1, _BYTES_AHEAD // (size * self._table.bytes_in_a_row))
        for first in range(0, len(places), ahead):
            block = self._table.take(places[first : first + ahead])
            for start in range(0, len(block), size):
                yield self._as_rows(block[start : start + size])

    def _taken(self, rows: NDArray[np.int64] | slice) -> Tensor:
        return self._as_rows(self._table.take(rows))

    def _as_rows(self, values: NDArray[Any]) -> Tensor:
        if self._bits is not None:
            values = np.unpackbits(values, axis=1, count=self._bits)
        taken = torch.from_numpy(values.astype("uint8" if self._are_bits else "float32", copy=False))
        if self._device.type == "cuda":
            return taken.pin_memory().to(self._device, non_blocking=True)
        return taken.to(self._device)
