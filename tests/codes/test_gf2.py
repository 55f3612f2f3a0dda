"""Matrices, weights and cosets over GF(2), against brute force on small codes and tables of large ones."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bvae_cli.codes import gf2
from bvae_cli.codes.bch import Bch
from bvae_cli.codes.blocks import BlockSpec
from bvae_cli.codes.golay import Golay
from bvae_cli.codes.hamming import Hamming
from bvae_cli.codes.reed_muller import ReedMuller
from tests.helpers import property_settings

Rows = tuple[tuple[int, ...], ...]


@st.composite
def matrices(draw: st.DrawFn) -> Rows:
    n, k = draw(st.integers(1, 8)), draw(st.integers(1, 6))
    return tuple(tuple(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))) for _ in range(k))


def span(rows: Rows) -> set[tuple[int, ...]]:
    n = len(rows[0])
    return {
        tuple(sum(row[column] for row in chosen) % 2 for column in range(n))
        for size in range(len(rows) + 1)
        for chosen in itertools.combinations(rows, size)
    }


@given(rows=matrices())
@property_settings
def test_reduction_keeps_the_words_and_counts_the_rank(rows: Rows) -> None:
    reduced, pivots = gf2.reduced(rows)
    words = span(rows)
    assert len(words) == 2 ** len(pivots) == 2 ** gf2.rank(rows)
    if reduced:
        assert span(reduced) == words
    for index, pivot in enumerate(pivots):
        assert [row[pivot] for row in reduced] == [int(other == index) for other in range(len(reduced))]


@given(rows=matrices())
@property_settings
def test_the_dual_holds_exactly_the_words_that_are_orthogonal_to_all(rows: Rows) -> None:
    n = len(rows[0])
    orthogonal = {
        word
        for word in itertools.product((0, 1), repeat=n)
        if all(sum(a * b for a, b in zip(word, row, strict=True)) % 2 == 0 for row in rows)
    }
    dual = gf2.dual(rows)
    assert (span(dual) if dual else {(0,) * n}) == orthogonal


@given(rows=matrices())
@property_settings
def test_weights_leaders_and_the_way_back_are_those_of_brute_force(rows: Rows) -> None:
    rows = gf2.reduced(rows)[0]
    if not rows:
        return
    n = len(rows[0])
    words = span(rows)
    weights = Counter(map(sum, words))
    assert gf2.weight_distribution(rows) == tuple(weights[w] for w in range(n + 1))
    cosets: dict[frozenset[tuple[int, ...]], list[tuple[int, ...]]] = {}
    for word in itertools.product((0, 1), repeat=n):
        coset = frozenset(tuple(a ^ b for a, b in zip(word, c, strict=True)) for c in words)
        cosets.setdefault(coset, []).append(word)
    lightest = Counter(min(map(sum, coset)) for coset in cosets)
    checks = gf2.dual(rows)
    assert gf2.coset_leaders(checks, n) == tuple(lightest[w] for w in range(max(lightest) + 1))
    leaders = gf2.leaders_of_cosets(checks, n, 10_000)
    assert leaders is not None
    expected = [{word for word in coset if sum(word) == min(map(sum, coset))} for coset in cosets]
    found = [{gf2.as_bits(word, n) for word in of_one} for of_one in leaders]
    assert sorted(map(sorted, found)) == sorted(map(sorted, expected))
    unencoder = gf2.unencoder(rows)
    for bits in itertools.product((0, 1), repeat=len(rows)):
        word = tuple(sum(bit * row[column] for bit, row in zip(bits, rows, strict=True)) % 2 for column in range(n))
        back = tuple(sum(bit * unencoder[place][i] for place, bit in enumerate(word)) % 2 for i in range(len(rows)))
        assert back == bits


# MacWilliams and Sloane 1977, ch. 1 and 2; the BCH codes from the tables of coset leaders in the method of this project.
LEADERS: list[tuple[BlockSpec, tuple[int, ...]]] = [
    (Hamming(r=3), (1, 7)),
    (Hamming(r=3, extended=True), (1, 8, 7)),
    (Golay(n=23), (1, 23, 253, 1771)),
    (Golay(n=24), (1, 24, 276, 2024, 1771)),
    (ReedMuller(r=1, m=4), (1, 16, 120, 560, 875, 448, 28)),
    (Bch(n=15, t=2), (1, 15, 105, 135)),
    (Bch(n=31, t=3), (1, 31, 465, 4495, 13020, 14756)),
]


@pytest.mark.parametrize(
    ("spec", "leaders"), LEADERS, ids=lambda value: value.label() if isinstance(value, BlockSpec) else ""
)
def test_coset_leaders_are_those_of_the_tables(spec: BlockSpec, leaders: tuple[int, ...]) -> None:
    checks = spec.parity_check_matrix()
    assert checks is not None
    assert gf2.coset_leaders(checks, spec.block().n) == leaders


# Weight distributions: MacWilliams and Sloane 1977, ch. 1 (Hamming), ch. 2 §6 (Golay), ch. 13 (Reed–Muller), ch. 9 (BCH).
@pytest.mark.parametrize(
    ("spec", "weights"),
    [
        (Golay(n=24), {0: 1, 8: 759, 12: 2576, 16: 759, 24: 1}),
        (Golay(n=23), {0: 1, 7: 253, 8: 506, 11: 1288, 12: 1288, 15: 506, 16: 253, 23: 1}),
        (ReedMuller(r=1, m=5), {0: 1, 16: 62, 32: 1}),
        (Bch(n=15, t=2), {0: 1, 5: 18, 6: 30, 7: 15, 8: 15, 9: 30, 10: 18, 15: 1}),
        (Hamming(r=4, extended=True), {0: 1, 4: 140, 6: 448, 8: 870, 10: 448, 12: 140, 16: 1}),
    ],
    ids=str,
)
def test_weight_distributions_are_those_of_the_tables(spec: BlockSpec, weights: dict[int, int]) -> None:
    matrix = spec.generator_matrix()
    assert matrix is not None
    counted = gf2.weight_distribution(matrix)
    assert counted is not None
    assert {weight: count for weight, count in enumerate(counted) if count} == weights


@pytest.mark.parametrize(
    ("n", "t", "k"),
    # Lin and Costello 2004, table 6.1.
    [
        (7, 1, 4),
        (15, 1, 11),
        (15, 2, 7),
        (15, 3, 5),
        (31, 2, 21),
        (31, 3, 16),
        (31, 5, 11),
        (31, 7, 6),
        (63, 3, 45),
        (63, 5, 36),
        (127, 9, 71),
    ],
)
def test_bch_codes_have_the_sizes_of_the_tables(n: int, t: int, k: int) -> None:
    matrix = Bch(n=n, t=t).generator_matrix()
    assert matrix is not None
    assert (len(matrix), len(matrix[0])) == (k, n)


def test_the_bit_error_rate_of_hamming_is_its_closed_form() -> None:
    for epsilon in (0.001, 0.01, 0.1, 0.4):
        expected = 9 * epsilon**2 - 26 * epsilon**3 + 30 * epsilon**4 - 12 * epsilon**5
        assert Hamming(r=3).hard_bit_error_rate(epsilon) == pytest.approx(expected, rel=1e-12)


def test_what_cannot_be_counted_is_said_to_be_unknown() -> None:
    assert gf2.weight_distribution(tuple(tuple(int(i == j % 20) for j in range(40)) for i in range(20))) is None
    assert Golay(n=24).hard_bit_error_rate(0.05) is None
    assert Golay(n=24).hard_block_error_rate(0.05) is not None


def test_one_word_has_its_own_weight_for_distance() -> None:
    assert gf2.min_distance(((1, 0, 1, 1),)) == 3
    assert gf2.min_distance(((1,),)) == 1
    assert gf2.weight_distribution(((1, 0, 1, 1),)) == (1, 0, 0, 1, 0)


@pytest.mark.parametrize(("k", "checks", "counted"), [(16, 17, True), (17, 17, False), (18, 16, True), (18, 17, False)])
def test_a_code_is_counted_where_its_words_or_those_of_its_dual_are_at_most_65536(
    k: int, checks: int, counted: bool
) -> None:
    rows = tuple((*(int(a == b) for b in range(k)), *(int(a == b % k) for b in range(checks))) for a in range(k))
    distance, weights = gf2.min_distance(rows), gf2.weight_distribution(rows)
    assert (distance is not None) == (weights is not None) == counted
    if weights is not None:
        # An information bit is sent once, and once more by each check on it.
        assert distance == next(weight for weight, count in enumerate(weights) if weight and count) == min(map(sum, rows))
        assert sum(weights) == 2**k


def test_half_a_coin_is_all_that_is_left_of_coin_flips() -> None:
    for spec in (Hamming(r=3), Hamming(r=3, extended=True), Bch(n=15, t=2), ReedMuller(r=1, m=3)):
        assert spec.hard_bit_error_rate(0.5) == pytest.approx(0.5)
