"""Rows of bits that stay packed, eight to a byte, in the memory of a device, and are expanded where they are taken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor

from bvae_cli.datasets.rows import Rows, pieces


def read_by_the_host(rows: Tensor | Rows) -> TypeGuard[Rows]:
    """Say whether rows stay in a file, from which the host reads each batch."""
    return isinstance(rows, Rows) and not isinstance(rows, ResidentBits)


class ResidentBits:
    """``Rows`` of D bits, kept as ``packed [rows, ⌈D/8⌉]`` uint8 (``numpy.packbits`` along the row) on their device.

    An eighth of the memory of a tensor of the same rows; taking them asks nothing of the host, so that a step that takes
    some can be recorded.

    >>> rows = ResidentBits.of(torch.tensor([[1, 0, 1], [0, 0, 1]], dtype=torch.uint8), "cpu")
    >>> rows[torch.tensor([1, 0, 1])]
    tensor([[0, 0, 1],
            [1, 0, 1],
            [0, 0, 1]], dtype=torch.uint8)
    """

    dtype = torch.uint8

    def __init__(self, packed: Tensor, features: int) -> None:
        self._packed, self._features = packed, features
        # numpy.packbits has the first value in the highest bit.
        self._shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=packed.device)

    @staticmethod
    def of(rows: Tensor | Rows, device: torch.device | str) -> ResidentBits:
        """Bring rows of bits to a device, a few megabytes at once."""
        columns = -(-rows.shape[1] // 8)
        packed = torch.empty(len(rows), columns, dtype=torch.uint8, device=device)
        start = 0
        for piece in pieces(rows):
            packed[start : start + len(piece)] = torch.from_numpy(np.packbits(piece.cpu().numpy(), axis=1)).to(device)
            start += len(piece)
        return ResidentBits(packed, rows.shape[1])

    @staticmethod
    def bytes_of(rows: Tensor | Rows) -> int:
        """Return the memory that rows of bits would take."""
        return len(rows) * -(-rows.shape[1] // 8)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (rows, D)."""
        return (len(self), self._features)

    @property
    def device(self) -> torch.device:
        """Return where the rows are."""
        return self._packed.device

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        if isinstance(rows, slice):
            return self._expanded(self._packed[rows])
        return self._expanded(self._packed.index_select(0, rows.flatten()).view(*rows.shape, -1))

    def split(self, size: int) -> Iterator[Tensor]:
        """Take all rows in their order, ``size`` at once."""
        return (self._expanded(some) for some in self._packed.split(size))

    def batches(self, order: Tensor, size: int) -> Iterator[Tensor]:
        """Take the rows with the numbers ``order [n]``, ``size`` at once."""
        return (self[numbers] for numbers in order.split(size))

    def first(self, count: int) -> ResidentBits:
        """Return the first ``count`` rows."""
        return ResidentBits(self._packed[:count], self._features)

    def to(self, device: torch.device | str) -> ResidentBits:
        """Return the same rows on another device."""
        return ResidentBits(self._packed.to(device), self._features)

    @property
    def nbytes(self) -> int:
        """Return the bytes that the rows take."""
        return self._packed.nbytes

    def _expanded(self, packed: Tensor) -> Tensor:
        """Return the bits, ``[..., ⌈D/8⌉] -> [..., D]``."""
        bits = packed.unsqueeze(-1).bitwise_right_shift(self._shifts).bitwise_and_(1)
        return bits.flatten(-2)[..., : self._features]
