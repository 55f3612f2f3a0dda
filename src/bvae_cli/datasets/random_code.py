"""Words of a random linear code, as they are or over a channel that flips bits: the distribution is known exactly."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from bvae_cli.datasets.drawn import Drawn, uniform, words_of
from bvae_cli.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# The syndromes of rows with flipped bits are enumerated: 2^(n−k) of them.
_MOST_CHECKS = 20


class RandomCode(Drawn):
    """A word of a random linear code [n, k], each of the 2^k with the same probability, with bits flipped at random.

    The generator matrix is [1, A] with random bits A of ``code_seed``. The syndrome of a row x = (u, v) is s(x) = u A + v.
    A word has the syndrome 0, so that s(x) is that of the flips alone, and all rows with one syndrome have the same
    probability: log p(x) = log P(s(x)) − k ln 2, and the entropy is k ln 2 + H(s).

    >>> RandomCode(n=20, k=8).entropy() / math.log(2)
    8.0
    """

    summary: ClassVar[str] = "words of a random linear code, with or without flipped bits, drawn; log p(x) is known"
    licence: ClassVar[str] = "none needed"

    n: int = Field(24, ge=1, le=4096, description="Bits in a row.")
    k: int = Field(10, ge=0, le=62, description="Information bits: there are 2^k words.")
    epsilon: float = Field(0.0, ge=0, le=0.5, description="Probability that a bit is flipped; above 0, n − k is at most 20.")
    code_seed: int = Field(0, ge=0, lt=2**63, description="Seed of the code.")

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        if self.k > self.n:
            raise UsageError(f"k {self.k} is more than n {self.n}.", "A word has at least its information bits.")
        if self.epsilon and self.n - self.k > _MOST_CHECKS:
            raise UsageError(
                f"With flipped bits log p(x) takes 2^(n−k) syndromes; n − k = {self.n - self.k} is too much for that.",
                f"Take n − k of at most {_MOST_CHECKS}, or epsilon=0.",
            )
        return self

    def generator_matrix(self) -> Tensor:
        """Return the generator matrix [1, A], ``[k, n]`` uint8."""
        import torch

        generator = torch.Generator().manual_seed(self.code_seed)
        random = torch.randint(2, (self.k, self.n - self.k), generator=generator, dtype=torch.uint8)
        return torch.cat([torch.eye(self.k, dtype=torch.uint8), random], 1)

    def draw(self, rows: int, generator: torch.Generator) -> Tensor:
        """Draw words, ``[rows, n]`` uint8."""
        import torch

        words = self._encoded(words_of(torch.randint(2**self.k, (rows,), generator=generator), self.k))
        if not self.epsilon:
            return words
        return words ^ (torch.rand(words.shape, generator=generator) < self.epsilon).to(torch.uint8)

    def log_prob(self, rows: Tensor) -> Tensor:
        """Return log p(x) in nats, ``[rows, n] -> [rows]`` float64, minus infinity for what is no word and cannot be one."""
        import torch

        rows = rows.to(torch.uint8)
        syndromes = (self._encoded(rows[:, : self.k]) ^ rows)[:, self.k :]
        if not self.epsilon:
            return uniform((syndromes == 0).all(1), -self.k * math.log(2))
        powers = 2 ** torch.arange(self.n - self.k - 1, -1, -1)
        return self._syndrome_probabilities()[(syndromes.long() * powers).sum(1)].log() - self.k * math.log(2)

    def entropy(self) -> float:
        """Return the entropy in nats: k ln 2, and with flipped bits that of the syndrome."""
        if not self.epsilon:
            return self.k * math.log(2)
        probabilities = self._syndrome_probabilities()
        return self.k * math.log(2) - float((probabilities * probabilities.log()).sum())

    def shape(self) -> tuple[int, ...]:
        """Return (n,)."""
        return (self.n,)

    def _encoded(self, information: Tensor) -> Tensor:
        """Return the words of information bits, ``[..., k] -> [..., n]``; a sum of at most 62 bits fits into a byte."""
        return (information.float() @ self.generator_matrix().float()).to(information.dtype) & 1

    def _syndrome_probabilities(self) -> Tensor:
        """Return P(s) of the flips, ``[2^(n−k)]`` float64, bit after bit: a flip of bit i adds column i of the checks."""
        import torch

        checks = self.n - self.k
        unit = torch.eye(checks, dtype=torch.uint8)
        columns = torch.cat([self.generator_matrix()[:, self.k :], unit]).long() @ (2 ** torch.arange(checks - 1, -1, -1))
        numbers = torch.arange(2**checks)
        probabilities = (numbers == 0).double()
        for column in columns.tolist():
            probabilities = (1 - self.epsilon) * probabilities + self.epsilon * probabilities[numbers ^ column]
        return probabilities
