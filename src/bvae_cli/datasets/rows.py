"""What a split is used as: rows that are taken by their numbers. A tensor is that already; a mapped file can be another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# What passes over all rows takes so many values at once: little memory, and few calls.
_VALUES_AT_ONCE = 2**21


@runtime_checkable
class Rows(Protocol):
    """Rows ``[rows, D]`` that need not be in memory, of the types that ``Splits`` has.

    What they have in common with a tensor is used of both alike. What is taken of them is a tensor, on ``device``.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (rows, D)."""

    @property
    def dtype(self) -> torch.dtype:
        """Return the type of the rows that are taken."""

    @property
    def device(self) -> torch.device:
        """Return where the rows are that are taken."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """Take rows by their numbers, int64 ``[...] -> [..., D]``, or those of a slice without a step."""

    def split(self, size: int) -> Iterable[Tensor]:
        """Take all rows in their order, ``size`` at once."""

    def batches(self, order: Tensor, size: int) -> Iterable[Tensor]:
        """Take the rows with the numbers ``order [n]``, ``size`` at once."""

    def first(self, count: int) -> Rows:
        """Return the first ``count`` rows, or all where there are no more; nothing is taken."""

    def to(self, device: torch.device | str) -> Rows:
        """Return the same rows, to be taken onto another device; nothing is moved."""


def first_rows(rows: Tensor | Rows, count: int) -> Tensor | Rows:
    """Return the first ``count`` rows, all where there are no more or ``count`` is 0."""
    if not count:
        return rows
    return rows.first(count) if isinstance(rows, Rows) else rows[:count]


def pieces(rows: Tensor | Rows) -> Iterable[Tensor]:
    """Go through all rows in their order, a few megabytes at once."""
    return rows.split(max(1, _VALUES_AT_ONCE // rows.shape[1]))


def taken(rows: Tensor | Rows, numbers: Tensor) -> Tensor:
    """Take rows by their numbers, int64 ``[...] -> [..., D]``."""
    if isinstance(rows, Rows):
        return rows[numbers]
    # Of many rows index_select takes a fraction of the time of [].
    return rows.index_select(0, numbers.flatten()).view(*numbers.shape, rows.shape[1])


def bytes_in_memory(rows: Tensor | Rows) -> int:
    """Return the bytes that the values take in memory: none where they stay in their file."""
    return int(getattr(rows, "nbytes", 0))


def mean_row(rows: Tensor | Rows) -> Tensor:
    """Return the mean of all rows, ``[rows, D] -> [D]`` float32, without a copy of them; summed in float64."""
    import torch

    total = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
    for piece in pieces(rows):
        total += piece.sum(0, dtype=torch.float64)
    return (total / len(rows)).float()


def moments(rows: Tensor | Rows, of: Callable[[Tensor], Tensor] = lambda values: values) -> tuple[Tensor, Tensor]:
    """Return mean and variance of all rows, or of what ``of`` makes of them, ``[rows, D] -> [E], [E]``, in float64.

    The variance is that of the rows themselves, divided by their number. Values are summed as differences from the first
    row: of large values that hardly vary nothing is lost.
    """
    import torch

    first = of(torch.as_tensor(rows[0:1]).double())[0]
    total, squares = torch.zeros_like(first), torch.zeros_like(first)
    for piece in pieces(rows):
        differences = of(piece.double()) - first
        total += differences.sum(0)
        squares += differences.square().sum(0)
    mean = total / len(rows)
    return first + mean, (squares / len(rows) - mean.square()).clamp_min(0)


def extremes(rows: Tensor | Rows) -> tuple[float, float]:
    """Return the least and the largest value; both are NaN where one value is."""
    import torch

    found = torch.tensor([[float(piece.min()), float(piece.max())] for piece in pieces(rows)])
    return float(found[:, 0].min()), float(found[:, 1].max())


class Joined:
    """The rows of several parts as one, ``[Σ rows, D]``: in their order, or row i being number ``numbers[i]`` of them."""

    def __init__(self, parts: Sequence[Tensor | Rows], numbers: Tensor | None = None) -> None:
        self._parts, self._numbers = list(parts), numbers
        self._starts = [0]
        for part in self._parts:
            self._starts.append(self._starts[-1] + len(part))

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (rows, D)."""
        return (len(self), self._parts[0].shape[1])

    @property
    def dtype(self) -> torch.dtype:
        """Return the type that holds the values of all parts: of probabilities and bits, that of the probabilities."""
        import torch

        return reduce(torch.promote_types, (part.dtype for part in self._parts))

    @property
    def device(self) -> torch.device:
        """Return where the rows are that are taken."""
        return self._parts[0].device

    def __len__(self) -> int:
        return self._starts[-1] if self._numbers is None else len(self._numbers)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        import torch

        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            if self._numbers is None:
                starts = zip(self._parts, self._starts, strict=False)
                return torch.cat([part[max(start - first, 0) : max(stop - first, 0)] for part, first in starts])
            numbers = torch.arange(start, max(start, stop))
        else:
            numbers = rows.cpu()
        if self._numbers is not None:
            numbers = self._numbers[numbers]
        # Sorted, the rows of a part are taken at once; copied to their places part by part they would take twice the time.
        in_order, places = numbers.reshape(-1).sort()
        bounds = torch.searchsorted(in_order, torch.tensor(self._starts)).tolist()
        ranges = zip(self._parts, self._starts, pairwise(bounds), strict=False)
        found = torch.cat(
            [taken(part, (in_order[start:stop] - first).to(self.device)) for part, first, (start, stop) in ranges]
        )
        return found.to(self.dtype).index_select(0, places.argsort().to(self.device)).reshape(*numbers.shape, self.shape[1])

    def split(self, size: int) -> Iterator[Tensor]:
        """Take all rows in their order, ``size`` at once."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def batches(self, order: Tensor, size: int) -> Iterator[Tensor]:
        """Take the rows with the numbers ``order [n]``, ``size`` at once."""
        return (self[numbers] for numbers in order.split(size))

    def first(self, count: int) -> Joined:
        """Return the first ``count`` rows; nothing is taken."""
        import torch

        numbers = torch.arange(len(self)) if self._numbers is None else self._numbers
        return Joined(self._parts, numbers[:count])

    def to(self, device: torch.device | str) -> Joined:
        """Return the same rows on another device, or to be taken onto it."""
        return Joined([part.to(device) for part in self._parts], self._numbers)
