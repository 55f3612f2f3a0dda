import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

from bvae_cli.evaluation.samples import frechet_distance, novelty, uniqueness
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


def test_the_frechet_distance_of_two_gaussians_of_one_dimension_is_that_of_their_means_and_deviations():
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(4000, 1, generator=generator, dtype=torch.float64)
    other = 2 * torch.randn(4000, 1, generator=generator, dtype=torch.float64) + 3
    # (μ₁ − μ₂)² + (σ₁ − σ₂)², with the moments of the very samples.
    expected = (one.mean() - other.mean()) ** 2 + (one.std() - other.std()) ** 2
    assert frechet_distance(one, other) == pytest.approx(float(expected), rel=1e-9)


def test_the_frechet_distance_agrees_with_the_root_of_the_product_of_the_covariances():
    generator = torch.Generator().manual_seed(4)
    one = torch.randn(300, 5, generator=generator, dtype=torch.float64) @ torch.rand(5, 5, generator=generator).double()
    other = torch.rand(200, 5, generator=generator, dtype=torch.float64) + 0.5
    first, second = numpy.cov(one.numpy(), rowvar=False), numpy.cov(other.numpy(), rowvar=False)
    offset = (one.mean(0) - other.mean(0)).numpy()
    root = linalg.sqrtm(first @ second).real
    expected = offset @ offset + numpy.trace(first + second - 2 * root)
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(one, one) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one), rel=1e-9)
