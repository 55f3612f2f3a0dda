"""Data that are drawn from a known distribution: any number of rows, by a seed, and log p(x) of every one of them."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bvae_cli.datasets.base import DatasetSpec, Splits

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Drawn(DatasetSpec):
    """Rows drawn independently of a distribution p that is known, of bits unless ``kind`` says else.

    A bound on log p(x) can be judged by it.
    """

    rows: int = Field(10_000, ge=1, le=100_000_000, description="Rows for training.")
    validation_rows: int = Field(2_000, ge=1, le=100_000_000, description="Rows for validation.")
    test_rows: int = Field(2_000, ge=1, le=100_000_000, description="Rows for the test.")
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of the rows.")

    @abstractmethod
    def draw(self, rows: int, generator: torch.Generator) -> Tensor:
        """Draw rows, ``[rows, D]``, bits as uint8 or of the type that ``kind`` says."""

    @abstractmethod
    def log_prob(self, rows: Tensor) -> Tensor:
        """Return log p(x) in nats, exactly: ``[rows, D] -> [rows]`` float64, minus infinity where p(x) is 0."""

    @abstractmethod
    def entropy(self) -> float:
        """Return the entropy of a row in nats, exactly: no model's mean log p(x) is above its negative in the long run."""

    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Return the shape of a row."""

    def kind(self) -> dict[str, Any]:
        """Return what ``Splits`` says of values that are no bits: their likelihood, the categories of symbols."""
        return {}

    def load(self) -> Splits:
        """Draw all rows; the training rows are the first ones of the seed."""
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        counts = (self.rows, self.validation_rows, self.test_rows)
        train, validation, test = self.draw(sum(counts), generator).split(list(counts))
        return Splits(
            train=train,
            validation=validation,
            test=test,
            feature_shape=self.shape(),
            source=f"rows drawn with the seed {self.seed}, of an entropy of {self.entropy():.6g} nats each",
            licence=self.licence,
            **self.kind(),
        )


def uniform(possible: Tensor, log_prob: float) -> Tensor:
    """Return ``log_prob`` for the rows that are possible, minus infinity for the others, ``[rows] -> [rows]`` float64."""
    import torch

    return torch.full(possible.shape, log_prob, dtype=torch.float64).masked_fill(~possible, -torch.inf)


def words_of(numbers: Tensor, bits: int) -> Tensor:
    """Return whole numbers as words, the highest bit first: int64 ``[...] -> [..., bits]`` uint8."""
    import torch

    shifts = torch.arange(bits - 1, -1, -1, device=numbers.device)
    return (numbers.unsqueeze(-1) >> shifts & 1).to(torch.uint8)
