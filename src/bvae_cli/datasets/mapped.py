"""Rows that stay in their file: each batch is read from a memory map, packed bits are unpacked, and no page is kept.

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

from bvae_cli.datasets.files import reading
from bvae_cli.errors import InputOutputError

# A mapped page counts as memory of the process until it is let go; of a small file all pages may stay.
_PAGES_KEPT = 2**24


class MappedTable:
    """A table ``[rows, columns]`` of numbers in a file, from the byte ``offset`` on, row by row.

    What is read is copied; the map's own pages are let go after every reading of a file of more than 16 MiB, so that the
    memory of the process does not grow with the file. The pages stay in the system's cache of files, where there is room.
    """

    def __init__(self, path: Path, offset: int, rows: int, columns: int, dtype: np.dtype[Any]) -> None:
        self.path = path
        with reading(path):
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            weakref.finalize(self, os.close, self._descriptor)
            self._seen = self._identity()
            self._map = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)
        self._values = np.frombuffer(self._map, dtype, rows * columns, offset).reshape(rows, columns)
        self._lets_go = len(self._map) > _PAGES_KEPT and hasattr(mmap, "MADV_DONTNEED")

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (rows, columns)."""
        return self._values.shape

    def take(self, rows: NDArray[np.int64] | slice) -> NDArray[Any]:
        """Return a copy of rows by their numbers ``[n]``, or of those of a slice.

        Raises InputOutputError where the file is not what it was when it was opened: a page that is gone would end the
        process.
        """
        self._require_unchanged()
        values = self._values[rows].copy() if isinstance(rows, slice) else self._values.take(rows, axis=0)
        if self._lets_go:
            self._map.madvise(mmap.MADV_DONTNEED)
        return values

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
        return (self[start : start + size] for start in range(0, len(self), size))

    def first(self, count: int) -> MappedRows:
        """Return the first ``count`` rows; nothing is read."""
        return self.indexed(np.arange(min(count, len(self))))

    def indexed(self, index: NDArray[np.int64]) -> MappedRows:
        """Return the rows with these numbers, in this order; nothing is read."""
        return self._like(index if self._index is None else self._index[index], self._device)

    def to(self, device: torch.device | str) -> MappedRows:
        """Return the same rows, each batch of which is moved to ``device``; nothing is moved now."""
        return self._like(self._index, device)

    def _like(self, index: NDArray[np.int64] | None, device: torch.device | str) -> MappedRows:
        return MappedRows(self._table, bits=self._bits, are_bits=self._are_bits, index=index, device=device)

    def _taken(self, rows: NDArray[np.int64] | slice) -> Tensor:
        values = self._table.take(rows)
        if self._bits is not None:
            values = np.unpackbits(values, axis=1, count=self._bits)
        taken = torch.from_numpy(values.astype("uint8" if self._are_bits else "float32", copy=False))
        if self._device.type == "cuda":
            return taken.pin_memory().to(self._device, non_blocking=True)
        return taken.to(self._device)
