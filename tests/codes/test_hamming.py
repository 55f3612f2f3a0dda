"""Hamming codes and single parity checks: every word of small ones, and the options that are no code."""

from __future__ import annotations

import itertools

import pytest
from pydantic import ValidationError

from bvae_cli.codes.hamming import Hamming
from bvae_cli.errors import UsageError


@pytest.mark.parametrize("r", [2, 3, 4, 10])
def test_the_columns_of_the_checks_are_all_numbers_but_0(r: int) -> None:
    matrix = Hamming(r=r).generator_matrix()
    k = 2**r - 1 - r
    assert [row[:k] for row in matrix] == [tuple(int(other == index) for other in range(k)) for index in range(k)]
    numbers = [sum(bit << place for place, bit in enumerate(row[k:])) for row in matrix]
    assert numbers == [number for number in range(1, 2**r) if number & (number - 1)]


@pytest.mark.parametrize(("shorten", "extended"), list(itertools.product(range(11), [False, True])))
def test_shortening_takes_information_bits_and_the_extension_makes_every_weight_even(shorten: int, extended: bool) -> None:
    spec = Hamming(r=4, shorten=shorten, extended=extended)
    matrix = spec.generator_matrix()
    block = spec.block()
    assert (block.n, block.k) == (15 + extended - shorten, 11 - shorten)
    assert block.min_distance is not None
    assert block.min_distance >= 3 + extended
    assert [row[: block.k] for row in matrix] == [tuple(int(a == b) for b in range(block.k)) for a in range(block.k)]
    if extended:
        assert all(sum(row) % 2 == 0 for row in matrix)


@pytest.mark.parametrize("options", [{"r": 1}, {"r": 11}, {"shorten": -1}])
def test_options_out_of_bounds_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Hamming(**options)


def test_a_block_keeps_one_information_bit_and_what_takes_it_is_refused_with_the_most() -> None:
    assert Hamming(r=3, shorten=3).block().k == 1
    with pytest.raises(UsageError, match=r"shorten=4 leaves no information bit of hamming\(r=3\)") as caught:
        Hamming(r=3, shorten=4)
    assert caught.value.hint == "Shorten by at most 3."


def test_what_is_not_said_is_the_short_code_of_seven() -> None:
    assert Hamming() == Hamming(r=3, extended=False, shorten=0, pad=False)
