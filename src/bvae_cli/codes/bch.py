"""Primitive BCH codes in the narrow sense."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from bvae_cli.codes.blocks import BlockSpec
from bvae_cli.codes.gf2 import Matrix, as_bits, polynomial_product, polynomial_remainder
from bvae_cli.errors import UsageError

# Primitive polynomials over GF(2) by degree (Lin and Costello 2004, table 2.7).
_PRIMITIVE = {2: 0b111, 3: 0b1011, 4: 0b10011, 5: 0b100101, 6: 0b1000011, 7: 0b10001001, 8: 0b100011101}


class Bch(BlockSpec):
    """Cyclic of length n = 2^m − 1 with roots α, α², …, α^{2t}: at least t errors corrected.

    Bose and Ray-Chaudhuri 1960; Hocquenghem 1959; MacWilliams and Sloane 1977, ch. 9. The information bits come first:
    c = [m, remainder], with the remainder of m(x) x^{n−k} by the generator polynomial.

    >>> Bch(n=15, t=2).block()
    Block(n=15, k=7, min_distance=5)
    """

    family: ClassVar[str] = "bch"
    summary: ClassVar[str] = "cyclic, of length 2^m − 1; corrects t wrong bits"

    n: int = Field(15, description="Length of a block: 3, 7, 15, 31, 63, 127 or 255.")
    t: int = Field(2, ge=1, le=127, description="Wrong bits in a block that are always corrected.")

    @model_validator(mode="after")
    def _length_and_rest(self) -> Self:
        lengths = [2**degree - 1 for degree in _PRIMITIVE]
        if self.n not in lengths:
            near = sorted(lengths, key=lambda length: abs(length - self.n))[:2]
            raise UsageError(f"n={self.n} is not 2^m − 1; nearest valid: {near[0]}, {near[1]}.")
        if self._generator().bit_length() - 1 >= self.n:
            raise UsageError(f"bch(n={self.n}, t={self.t}) has no information bits left.", "Take a smaller t or a longer n.")
        return self

    def _generator(self) -> int:
        """Return the generator polynomial: the least common multiple of the minimal polynomials of the roots."""
        powers = _powers(self.n)
        roots: set[int] = set()
        for power in range(1, 2 * self.t + 1):
            while power % self.n not in roots:
                roots.add(power % self.n)
                power *= 2
        product = [1]
        for root in sorted(roots):
            # Multiply by x − α^root, with coefficients in GF(2^m).
            shifted = [0, *product]
            scaled = [*(_times(coefficient, powers[root], powers) for coefficient in product), 0]
            product = [a ^ b for a, b in zip(shifted, scaled, strict=True)]
        return sum(coefficient << degree for degree, coefficient in enumerate(product))

    def generator_matrix(self) -> Matrix:
        """Return [I | remainders]."""
        generator = self._generator()
        checks = generator.bit_length() - 1
        rows = []
        for index in range(self.n - checks):
            remainder = polynomial_remainder(1 << checks + index, generator)
            rows.append((*(int(other == index) for other in range(self.n - checks)), *as_bits(remainder, checks)))
        return tuple(rows)


def _powers(order: int) -> list[int]:
    """Return α^i for i < 2^m − 1, each as a polynomial in α of degree below m."""
    polynomial = _PRIMITIVE[order.bit_length()]
    powers = [1]
    while len(powers) < order:
        powers.append(polynomial_remainder(powers[-1] << 1, polynomial))
    return powers


def _times(first: int, second: int, powers: list[int]) -> int:
    return polynomial_remainder(polynomial_product(first, second), _PRIMITIVE[len(powers).bit_length()])
