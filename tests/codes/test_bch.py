"""BCH codes: cyclic, systematic, with roots where they are said to be, and options that are no code."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bvae_cli.codes import gf2
from bvae_cli.codes.bch import Bch
from bvae_cli.errors import UsageError

# Primitive polynomials (Lin and Costello 2004, table 2.7), by length.
PRIMITIVE = {3: 0b111, 7: 0b1011, 15: 0b10011, 31: 0b100101, 63: 0b1000011, 127: 0b10001001, 255: 0b100011101}


def powers_of_alpha(n: int) -> list[int]:
    powers, value = [], 1
    for _ in range(n):
        powers.append(value)
        value <<= 1
        if value > n:
            value ^= PRIMITIVE[n]
    assert value == 1
    assert len(set(powers)) == n
    return powers


@pytest.mark.parametrize(
    ("n", "t"), [(3, 1), (7, 1), (7, 3), (15, 1), (15, 2), (15, 3), (31, 3), (63, 5), (127, 9), (255, 4)]
)
def test_every_row_has_the_roots_that_are_said_and_shows_one_information_bit(n: int, t: int) -> None:
    """c(x) = m(x) x^{n−k} + remainder: the coefficient of x^{n−k+i} is information bit i, those below are checks."""
    matrix = Bch(n=n, t=t).generator_matrix()
    k = len(matrix)
    powers = powers_of_alpha(n)
    for index, row in enumerate(matrix):
        assert row[:k] == tuple(int(other == index) for other in range(k))
        polynomial = (*row[k:], *row[:k])
        for root in range(1, 2 * t + 1):
            value = 0
            for degree, coefficient in enumerate(polynomial):
                value ^= powers[root * degree % n] * coefficient
            assert value == 0
    assert gf2.rank(matrix) == k


def test_a_length_that_is_none_is_answered_with_the_two_nearest() -> None:
    for n, near in ((16, "15, 7"), (24, "31, 15"), (1, "3, 7"), (300, "255, 127")):
        with pytest.raises(UsageError, match=rf"^n={n} is not 2\^m − 1; nearest valid: {near}\.$"):
            Bch(n=n, t=1)


def test_what_leaves_no_information_bit_is_refused_and_what_leaves_one_is_not() -> None:
    assert Bch(n=15, t=7).block().k == 1
    with pytest.raises(UsageError, match=r"bch\(n=15, t=8\) has no information bits left") as caught:
        Bch(n=15, t=8)
    assert caught.value.hint == "Take a smaller t or a longer n."
    assert (Bch().n, Bch().t) == (15, 2)


@pytest.mark.parametrize("t", [0, 128])
def test_a_number_of_errors_out_of_bounds_is_refused(t: int) -> None:
    with pytest.raises(ValidationError):
        Bch(n=255, t=t)
