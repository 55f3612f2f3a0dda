"""The Golay codes: both have the words of the generator polynomial, and no other length is one."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bvae_cli.codes import gf2
from bvae_cli.codes.golay import Golay

# x¹¹ + x¹⁰ + x⁶ + x⁵ + x⁴ + x² + 1, the lowest coefficient first.
GENERATOR = (1, 0, 1, 0, 1, 1, 1, 0, 0, 0, 1, 1)


@pytest.mark.parametrize("n", [23, 24])
def test_the_rows_are_those_of_the_shifted_polynomial_reduced(n: int) -> None:
    shifts = [(0,) * shift + GENERATOR + (0,) * (11 - shift) for shift in range(12)]
    rows = [(*row, 1) if n == 24 else row for row in shifts]  # the polynomial has seven terms
    matrix = Golay(n=n).generator_matrix()
    assert len(matrix) == 12
    assert gf2.unit_columns(matrix) == tuple(range(12))
    assert gf2.rank((*matrix, *rows)) == 12


def test_the_default_has_a_parity_bit_and_other_lengths_are_refused() -> None:
    assert Golay().n == 24
    for n in (22, 25):
        with pytest.raises(ValidationError):
            Golay(n=n)
