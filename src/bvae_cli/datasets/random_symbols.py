"""Words of a random linear code over q symbols, as they are or with symbols replaced: the distribution is known exactly."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, model_validator

from bvae_cli.datasets.drawn import Drawn, uniform
from bvae_cli.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# The syndromes of rows with replaced symbols are enumerated: q^(n−k) of them.
_MOST_SYNDROMES = 2**16


class RandomSymbols(Drawn):
    """A word of a random linear code [n, k] over the integers modulo q, each of the q^k with the same probability.

    With probability ``epsilon`` a symbol is replaced by one of the q − 1 others. The generator matrix is [1, A] with A drawn
    by ``code_seed``, the syndrome of a row x = (u, v) is s(x) = u A − v. A word has the syndrome 0, so that s(x) is that of
    the replacements alone, and all rows with one syndrome have the same probability: log p(x) = log P(s(x)) − k ln q, and
    the entropy is k ln q + H(s).

    >>> RandomSymbols(n=12, k=5, q=3).entropy() / math.log(3)
    5.0
    """

    summary: ClassVar[str] = "words of a random linear code over q symbols, drawn; log p(x) is known"
    licence: ClassVar[str] = "none needed"

    n: int = Field(12, ge=1, le=256, description="Symbols in a row.")
    k: int = Field(6, ge=0, le=256, description="Information symbols: there are q^k words.")
    q: int = Field(4, ge=2, le=32, description="Different symbols.")
    epsilon: float = Field(
        0.0, ge=0, le=0.5, description="Probability that a symbol is replaced; above 0, q^(n−k) is at most 65,536."
    )
    code_seed: int = Field(0, ge=0, lt=2**63, description="Seed of the code.")

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        if self.k > self.n:
            raise UsageError(f"k {self.k} is more than n {self.n}.", "A word has at least its information symbols.")
        if self.epsilon and self.q ** (self.n - self.k) > _MOST_SYNDROMES:
            raise UsageError(
                f"With replaced symbols log p(x) takes q^(n−k) syndromes; {self.q}^{self.n - self.k} is too much for that.",
                f"Take n − k of at most {int(math.log(_MOST_SYNDROMES, self.q))}, or epsilon=0.",
            )
        return self

    def checks(self) -> Tensor:
        """Return A, ``[k, n − k]`` int64."""
        import torch

        generator = torch.Generator().manual_seed(self.code_seed)
        return torch.randint(self.q, (self.k, self.n - self.k), generator=generator)

    def draw(self, rows: int, generator: torch.Generator) -> Tensor:
        """Draw words, ``[rows, n]`` int16."""
        import torch

        information = torch.randint(self.q, (rows, self.k), generator=generator)
        words = torch.cat([information, self._checked(information)], 1)
        if self.epsilon:
            replaced = torch.rand(words.shape, generator=generator) < self.epsilon
            words = (words + replaced * torch.randint(1, self.q, words.shape, generator=generator)) % self.q
        return words.to(torch.int16)

    def log_prob(self, rows: Tensor) -> Tensor:
        """Return log p(x) in nats, ``[rows, n] -> [rows]`` float64, minus infinity for what is no word and cannot be one."""
        import torch

        rows = rows.long()
        syndromes = (self._checked(rows[:, : self.k]) - rows[:, self.k :]) % self.q
        if not self.epsilon:
            return uniform((syndromes == 0).all(1), -self.k * math.log(self.q))
        powers = self.q ** torch.arange(self.n - self.k - 1, -1, -1)
        return self._syndrome_probabilities().flatten()[(syndromes * powers).sum(1)].log() - self.k * math.log(self.q)

    def entropy(self) -> float:
        """Return the entropy in nats: k ln q, and with replaced symbols that of the syndrome."""
        if not self.epsilon:
            return self.k * math.log(self.q)
        probabilities = self._syndrome_probabilities()
        return self.k * math.log(self.q) - float((probabilities * probabilities.log()).sum())

    def shape(self) -> tuple[int, ...]:
        """Return (n,)."""
        return (self.n,)

    def kind(self) -> dict[str, Any]:
        """Return that the values are symbols, q in each column."""
        return {"likelihood": "categorical", "categories": (self.q,) * self.n}

    def _checked(self, information: Tensor) -> Tensor:
        """Return the checks of information symbols, ``[rows, k] -> [rows, n − k]`` int64; the sums are exact in float64."""
        return (information.double() @ self.checks().double()).long() % self.q

    def _syndrome_probabilities(self) -> Tensor:
        """Return P(s) of the replacements, ``[q, …, q]`` float64 with n − k dimensions, symbol after symbol.

        Replacing symbol i by the a-th other one adds a times column i of the checks to the syndrome.
        """
        import torch

        count = self.n - self.k
        probabilities = torch.zeros((self.q,) * count, dtype=torch.float64)
        probabilities[(0,) * count] = 1
        if not count:
            return probabilities
        for column in torch.cat([self.checks(), torch.eye(count, dtype=torch.int64)]).tolist():
            moved = torch.zeros_like(probabilities)
            for times in range(1, self.q):
                moved += probabilities.roll([times * step for step in column], list(range(count)))
            probabilities = (1 - self.epsilon) * probabilities + self.epsilon / (self.q - 1) * moved
        return probabilities
