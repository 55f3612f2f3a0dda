"""The binary Golay codes."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from bvae_cli.codes.blocks import BlockSpec
from bvae_cli.codes.gf2 import Matrix, as_bits, reduced

# x¹¹ + x¹⁰ + x⁶ + x⁵ + x⁴ + x² + 1 generates the cyclic code of length 23 (MacWilliams and Sloane 1977, ch. 16 §2).
_GENERATOR = 0b110001110101


class Golay(BlockSpec):
    """(23, 12, 7), perfect, or (24, 12, 8) with a parity bit; three errors corrected (Golay 1949).

    Row i of G is x^i times x¹¹ + x¹⁰ + x⁶ + x⁵ + x⁴ + x² + 1, which divides x²³ − 1; the rows are reduced, so that a
    codeword shows every information bit.

    >>> Golay(n=24).block()
    Block(n=24, k=12, min_distance=8)
    """

    family: ClassVar[str] = "golay"
    summary: ClassVar[str] = "twelve information bits in 23 or 24; corrects three wrong bits"

    n: int = Field(24, ge=23, le=24, description="Length of a block, 23 or 24.")

    def generator_matrix(self) -> Matrix:
        """Return the shifts of the generator polynomial, each with its parity where n = 24."""
        rows = [as_bits(_GENERATOR << shift, 23) for shift in range(12)]
        return reduced(tuple((*row, sum(row) % 2) for row in rows) if self.n == 24 else tuple(rows))[0]
