"""Single parity checks: one check bit finds one wrong bit and corrects none."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from bvae_cli.codes.blocks import BlockSpec
from bvae_cli.codes.gf2 import Matrix


class Parity(BlockSpec):
    """k information bits and their sum: (n, k, d) = (k + 1, k, 2); MacWilliams and Sloane 1977, ch. 1 §9.

    The checked bits of a block must add up to an even number. Hard decoding corrects nothing for certain (t = 0); soft
    decoding turns the least certain bit where the check fails.

    >>> Parity(k=4).block()
    Block(n=5, k=4, min_distance=2)
    >>> round(Parity(k=4).hard_block_error_rate(0.05), 6)
    0.185494
    """

    family: ClassVar[str] = "parity"
    summary: ClassVar[str] = "one check bit for k information bits; finds one wrong bit"

    k: int = Field(4, ge=1, le=1024, description="Information bits of a block; its length is one more.")

    def generator_matrix(self) -> Matrix:
        """Return [I | 1]."""
        return tuple((*(int(row == column) for column in range(self.k)), 1) for row in range(self.k))

    def remark(self) -> str:
        """Say what one check cannot do."""
        return (
            "One check finds a single wrong bit and cannot tell which it is. Hard decoding then turns one of the bits at "
            "random, and makes more bit errors than no code. Soft decoding gains, because it doubts the least certain bit."
        )
