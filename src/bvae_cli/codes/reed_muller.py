"""Reed–Muller codes."""

from __future__ import annotations

import itertools
from math import comb
from typing import ClassVar, Self

from pydantic import Field, model_validator

from bvae_cli.codes.base import Block
from bvae_cli.codes.blocks import BlockSpec
from bvae_cli.codes.gf2 import Matrix, reduced
from bvae_cli.errors import UsageError


class ReedMuller(BlockSpec):
    """RM(r, m): the values on {0, 1}^m of all polynomials of degree at most r.

    (n, k, d) = (2^m, Σ_{i ≤ r} C(m, i), 2^{m−r}). Muller 1954; Reed 1954; MacWilliams and Sloane 1977, ch. 13. The rows are
    reduced, so that a codeword shows every information bit.

    >>> ReedMuller(r=1, m=4).block()
    Block(n=16, k=5, min_distance=8)
    """

    family: ClassVar[str] = "reed-muller"
    summary: ClassVar[str] = "polynomials of degree at most r in m bits; low rate and large distance for small r"

    r: int = Field(1, ge=0, le=8, description="Largest degree of the polynomials.")
    m: int = Field(4, ge=1, le=9, description="Variables: a block has 2^m bits.")

    @model_validator(mode="after")
    def _degree_below_the_variables(self) -> Self:
        if self.r > self.m:
            raise UsageError(f"r={self.r} is more than m={self.m}.", "Polynomials in m bits have at most degree m.")
        return self

    def block(self) -> Block:
        """Return (2^m, Σ_{i ≤ r} C(m, i), 2^{m−r})."""
        return Block(2**self.m, sum(comb(self.m, degree) for degree in range(self.r + 1)), 2 ** (self.m - self.r))

    def generator_matrix(self) -> Matrix:
        """Return the values of all monomials, reduced."""
        points = range(2**self.m)
        monomials = [
            variables for degree in range(self.r + 1) for variables in itertools.combinations(range(self.m), degree)
        ]
        values = tuple(tuple(int(all(point >> v & 1 for v in variables)) for point in points) for variables in monomials)
        return reduced(values)[0]
