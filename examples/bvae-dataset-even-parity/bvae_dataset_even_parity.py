"""Words of even parity as a data set of bvae."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field

from bvae_cli.datasets.base import DatasetSpec, Splits


class EvenParity(DatasetSpec):
    """Random words with an even number of ones, each with the probability 2^(1 − width)."""

    summary: ClassVar[str] = "random words with an even number of ones; log p(x) is known"
    licence: ClassVar[str] = "CC0"

    width: int = Field(16, ge=2, le=1024, description="Bits in a row.")
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of the rows.")

    def load(self):
        """Draw the rows."""
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        bits = torch.randint(0, 2, (3000, self.width), generator=generator, dtype=torch.uint8)
        bits[:, -1] = bits[:, :-1].sum(-1) % 2
        return Splits(
            train=bits[:2000],
            validation=bits[2000:2500],
            test=bits[2500:],
            feature_shape=(self.width,),
            source=f"random words of even parity, seed {self.seed}",
            licence=self.licence,
        )

    def entropy(self):
        """Return the entropy of a row in nats: all bits but the last are free."""
        return (self.width - 1) * math.log(2)

    def log_prob(self, rows):
        """Return log p(x) in nats, [rows, width] -> [rows] float64."""
        import torch

        odd = rows.sum(-1) % 2 == 1
        return torch.full((len(rows),), -self.entropy(), dtype=torch.float64).masked_fill(odd, -torch.inf)
