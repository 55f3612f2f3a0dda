"""Rows that stay in their file: read from a memory map some batches ahead, unpacked batch by batch, and no page is kept.

torch and numpy are needed here, so that a spec imports this inside its ``load``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bvae_cli.datasets.rows import Joined, Rows
from bvae_cli.mapped_table import MappedTable

# Rows that are read at once where the order of many is known: in the order of the file, each page is then needed once.
_BYTES_AHEAD = 2**23


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

    def beside(self, others: Sequence[MappedRows], numbers: NDArray[np.int64] | None) -> MappedRows | None:
        """Return these rows and others as one, or of them those with the numbers; None where not all are of one table."""
        parts = [self, *others]
        if len({(id(part._table), part._bits, part._are_bits, part._device) for part in parts}) > 1:
            return None
        everything = np.arange(self._table.shape[0])
        indices = [everything if part._index is None else part._index for part in parts]
        index = np.concatenate(indices) if numbers is None else np.concatenate(indices)[numbers]
        # Without numbers rows are taken as they lie.
        return self._like(None if np.array_equal(index, everything) else index, self._device)

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


def joined(parts: Sequence[Tensor | Rows], numbers: Tensor | None) -> Rows:
    """Return the rows of several parts as one, ``[Σ rows, D]``: in their order, or row i number ``numbers[i]`` of them.

    Parts of one table in a file are rows of that table: taken in the order of the file, if they are all of it.
    """
    first, *others = parts
    if isinstance(first, MappedRows):
        mapped = [part for part in others if isinstance(part, MappedRows)]
        whole = first.beside(mapped, None if numbers is None else numbers.numpy()) if len(mapped) == len(others) else None
        if whole is not None:
            return whole
    return Joined(parts, numbers)
