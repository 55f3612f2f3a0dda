"""Simplex codes: any two codewords are equally far apart."""

from typing import ClassVar

from pydantic import Field

from bvae_cli.codes.blocks import BlockSpec


class Simplex(BlockSpec):
    """(n, k, d) = (2^r − 1, r, 2^{r−1}), the dual of the Hamming code; MacWilliams and Sloane 1977, ch. 1 §9.

    The columns of G are the numbers 1 … 2^r − 1.

    >>> Simplex(r=3).block()
    Block(n=7, k=3, min_distance=4)
    """

    family: ClassVar[str] = "simplex"
    summary: ClassVar[str] = "r information bits in 2^r − 1; any two codewords are 2^(r−1) apart"

    r: int = Field(3, ge=2, le=8, description="Information bits of a block; its length is 2^r − 1.")

    def generator_matrix(self):
        """Return the columns 1 … 2^r − 1, row by row."""
        return tuple(tuple(column >> row & 1 for column in range(1, 2**self.r)) for row in range(self.r))
