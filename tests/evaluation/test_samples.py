import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bvae_cli.evaluation.samples import novelty, uniqueness
from tests.helpers import property_settings

rows = st.integers(1, 20).flatmap(
    lambda width: st.tuples(
        st.lists(st.lists(st.integers(0, 1), min_size=width, max_size=width), min_size=1, max_size=12),
        st.lists(st.lists(st.integers(0, 1), min_size=width, max_size=width), min_size=1, max_size=12),
    )
)


def test_uniqueness_by_hand():
    assert uniqueness(torch.tensor([[0, 1], [0, 1], [1, 1], [1, 0]])) == 0.75
    assert uniqueness(torch.zeros(5, 3)) == 0.2
    assert uniqueness(torch.eye(6)) == 1.0


def test_novelty_by_hand_counts_each_distinct_sample_once():
    samples = torch.tensor([[0, 1, 0]] * 5 + [[1, 1, 0], [1, 1, 1]])
    training = torch.tensor([[0, 1, 0], [0, 0, 0]])
    assert novelty(samples, training) == pytest.approx(2 / 3)
    assert novelty(samples, samples.flip(0)) == 0.0
    assert novelty(samples, torch.zeros(1, 3)) == 1.0


def test_rows_that_differ_in_the_last_of_a_width_that_fills_no_byte_are_distinct():
    for width in (1, 7, 8, 9, 784):
        two = torch.zeros(2, width)
        two[1, -1] = 1
        assert uniqueness(two) == 1.0
        assert novelty(two, two[:1]) == 0.5


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float32])
def test_training_bytes_and_sampled_floats_are_compared_by_their_bits(dtype):
    assert novelty(torch.tensor([[0.0, 1.0], [1.0, 1.0]]), torch.tensor([[0, 1]]).to(dtype)) == 0.5


def test_grey_training_rows_are_taken_as_their_nearest_bits():
    assert novelty(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.4, 0.6]])) == 0.0


@given(pair=rows)
@property_settings
def test_both_shares_are_those_of_plain_sets(pair):
    samples, training = pair
    distinct, known = set(map(tuple, samples)), set(map(tuple, training))
    assert uniqueness(torch.tensor(samples)) == pytest.approx(len(distinct) / len(samples))
    assert novelty(torch.tensor(samples), torch.tensor(training)) == pytest.approx(len(distinct - known) / len(distinct))
