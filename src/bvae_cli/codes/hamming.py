"""Hamming codes, extended and shortened."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from bvae_cli.codes.blocks import BlockSpec
from bvae_cli.codes.gf2 import Matrix
from bvae_cli.errors import UsageError


class Hamming(BlockSpec):
    """(n, k, d) = (2^r − 1, 2^r − 1 − r, 3), one error corrected (Hamming 1950; MacWilliams and Sloane 1977, ch. 1 §7).

    The columns of H are the numbers 1 … 2^r − 1; the information bits come first, c = [m, m A]. ``extended`` adds the
    parity of the whole word, (2^r, 2^r − 1 − r, 4). ``shorten`` leaves out so many information bits, which makes n and k
    less by as many and the distance no smaller.

    >>> Hamming(r=3).block(), Hamming(r=3, extended=True).block()
    (Block(n=7, k=4, min_distance=3), Block(n=8, k=4, min_distance=4))
    >>> Hamming(r=4, shorten=3).block()
    Block(n=12, k=8, min_distance=3)
    """

    family: ClassVar[str] = "hamming"
    summary: ClassVar[str] = "r check bits for up to 2^r − 1 − r information bits; corrects one wrong bit"

    r: int = Field(3, ge=2, le=10, description="Check bits: a block has 2^r − 1 bits.")
    extended: bool = Field(False, description="Add the parity of the whole word: finds a second wrong bit.")
    shorten: int = Field(0, ge=0, description="Information bits to leave out of a block.")

    @model_validator(mode="after")
    def _something_is_left(self) -> Self:
        most = 2**self.r - 2 - self.r
        if self.shorten > most:
            raise UsageError(
                f"shorten={self.shorten} leaves no information bit of hamming(r={self.r}).", f"Shorten by at most {most}."
            )
        return self

    def generator_matrix(self) -> Matrix:
        """Return [I | A], with the numbers that are no powers of 2 as the rows of A."""
        columns = [number for number in range(1, 2**self.r) if number.bit_count() > 1]
        columns = columns[: len(columns) - self.shorten]
        rows = []
        for index, column in enumerate(columns):
            checks = [column >> place & 1 for place in range(self.r)]
            row = [int(other == index) for other in range(len(columns))] + checks
            rows.append((*row, sum(row) % 2) if self.extended else tuple(row))
        return tuple(rows)
