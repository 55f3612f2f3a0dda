"""Precision, recall and average precision beside those of every order of the ties."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bvae_cli.retrieval.nearest import CodesInMemory, Neighbours, nearest
from bvae_cli.retrieval.relevance import (
    average_precision,
    average_precision_at_k,
    counts_by_distance,
    measure_relevance,
    recall_at_k,
    soft_average_precision,
)

from ..helpers import property_settings
from . import brute


@pytest.mark.parametrize(
    "groups", [[[1]], [[0, 1]], [[1, 0], [1]], [[0, 0], [1, 1, 0]], [[1, 1], [], [0, 1, 0, 1]], [[0], [0, 1, 1, 1], [1, 0]]]
)
def test_average_precision_with_ties_is_the_mean_over_every_order_of_them(groups: list[list[int]]) -> None:
    orders = [list(itertools.chain(*order)) for order in itertools.product(*map(itertools.permutations, groups))]
    expected = sum(brute.average_precision([bool(hit) for hit in order]) for order in orders) / Fraction(len(orders))
    counts = np.array([[[group.count(0), group.count(1)] for group in groups]])
    assert average_precision(counts) == pytest.approx([float(expected)], rel=1e-12)


@property_settings
@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(1, 12))
def test_average_precision_of_a_list_divides_by_what_could_be_in_it(relevant: list[bool], more: int) -> None:
    there = sum(relevant) + more
    total = brute.average_precision(relevant) * sum(relevant) if any(relevant) else Fraction(0)
    expected = float(total / min(there, len(relevant)))
    assert average_precision_at_k(np.array([relevant]), np.array([there])) == pytest.approx([expected])


@property_settings
@given(st.lists(st.booleans(), min_size=2, max_size=12), st.integers(0, 3))
def test_recall_grows_with_the_list_to_the_share_that_it_holds(relevant: list[bool], more: int) -> None:
    there = np.array([sum(relevant) + more + 1])
    shares = [recall_at_k(np.array([relevant[:k]]), there)[0] for k in range(1, len(relevant) + 1)]
    assert np.diff(shares) == pytest.approx(np.array(relevant[1:]) / there)
    assert shares[-1] == pytest.approx(sum(relevant) / (sum(relevant) + more + 1))


def test_codes_are_counted_by_distance_and_label_without_the_query_itself() -> None:
    codes = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 1, 1]], np.uint8)
    labels, wanted = np.array([7, 7, 8, 7]), np.array([7, 9])
    queries = brute.packed([[0, 0, 0], [1, 1, 1]])
    counts = counts_by_distance(CodesInMemory(brute.packed(codes)), queries, labels, wanted, 3)
    assert counts[0].tolist() == [[0, 1], [1, 1], [0, 0], [0, 1]]
    assert counts[1].tolist() == [[1, 0], [0, 0], [2, 0], [1, 0]]
    without = counts_by_distance(CodesInMemory(brute.packed(codes)), queries, labels, wanted, 3, np.array([0, 1]))
    assert without[0].tolist() == [[0, 0], [1, 1], [0, 0], [0, 1]]
    assert without[1].tolist() == [[1, 0], [0, 0], [1, 0], [1, 0]]


def test_a_query_whose_label_nothing_has_is_left_out_of_the_means() -> None:
    codes = CodesInMemory(brute.packed([[0, 0], [0, 1], [1, 1]]))
    labels, wanted = np.array([1, 2, 1]), np.array([1, 5])
    queries = brute.packed([[0, 0], [0, 0]])
    found, there = nearest(codes, queries, 2), np.array([2, 0])
    precisions = average_precision(counts_by_distance(codes, queries, labels, wanted, 2))
    assert np.isnan(precisions[1])
    measured = measure_relevance(found, labels, wanted, there, precisions)
    assert measured is not None
    assert (measured.queries, measured.k, measured.precision, measured.average_precision_at_k) == (1, 2, 0.5, 0.5)
    assert measured.recall == 0.5
    assert measured.average_precision == pytest.approx((1 + 2 / 3) / 2)
    nothing = Neighbours(found.ids[1:], found.distances[1:])
    assert measure_relevance(nothing, labels, wanted[1:], there[1:], precisions[1:]) is None


@property_settings
@given(
    st.lists(st.lists(st.integers(0, 1), min_size=3, max_size=3), min_size=2, max_size=6),
    st.lists(st.sampled_from([-2.0, -0.5, 0.5, 1.5]), min_size=3, max_size=3),
    st.booleans(),
)
def test_average_precision_of_soft_queries_is_the_mean_over_every_order_of_equally_probable_codes(
    bits: list[list[int]], logits: list[float], leaves_out: bool
) -> None:
    labels = np.arange(len(bits)) % 2
    without = 1 if leaves_out else None
    there = [number for number in range(len(bits)) if number != without]
    distances = {number: brute.penalty(logits, bits[number]) for number in there}
    ranks = [[number for number in there if distances[number] == value] for value in sorted(set(distances.values()))]
    orders = [list(itertools.chain(*order)) for order in itertools.product(*map(itertools.permutations, ranks))]
    precisions = [brute.average_precision([labels[number] == 0 for number in order]) for order in orders]
    found = soft_average_precision(
        CodesInMemory(brute.packed(bits)),
        np.array([logits], np.float32),
        labels,
        np.array([0]),
        None if without is None else np.array([without]),
    )
    assert found == pytest.approx([float(sum(precisions) / Fraction(len(orders)))], rel=1e-12)
