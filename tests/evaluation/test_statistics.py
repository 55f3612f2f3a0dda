import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bvae_cli.evaluation.statistics import Estimate, estimate
from tests.helpers import property_settings


def test_a_mean_and_its_standard_error_by_hand():
    # s² = (2.25 + 0.25 + 0.25 + 2.25) / 3 = 5/3, and s/√4.
    measured = estimate(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert measured.mean == 2.5
    assert measured.standard_error == pytest.approx(math.sqrt(5 / 3) / 2, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32, torch.bfloat16])
def test_values_of_any_type_are_counted_in_double_precision(dtype):
    # 255 ones and 45 zeros: an 8-bit sum would overflow and a bfloat16 mean round.
    measured = estimate(torch.tensor([1] * 255 + [0] * 45).to(dtype))
    assert measured.mean == pytest.approx(0.85, rel=1e-12)
    assert measured.standard_error == pytest.approx(math.sqrt(0.85 * 0.15 / 299), rel=1e-12)


def test_one_value_has_a_mean_and_no_error():
    assert estimate(torch.tensor([3.0])) == Estimate(3.0, None)


def test_equal_values_have_no_spread():
    assert estimate(torch.full((7,), 0.25)) == Estimate(0.25, 0.0)


@given(values=st.lists(st.floats(-100, 100), min_size=2, max_size=30), shift=st.floats(-50, 50), scale=st.floats(0.1, 10))
@property_settings
def test_a_shift_moves_the_mean_alone_and_a_scale_moves_both(values, shift, scale):
    tensor = torch.tensor(values, dtype=torch.float64)
    plain, moved = estimate(tensor), estimate(tensor * scale + shift)
    assert plain.mean == pytest.approx(math.fsum(values) / len(values), abs=1e-10)
    assert moved.mean == pytest.approx(plain.mean * scale + shift, abs=1e-9)
    assert moved.standard_error == pytest.approx(plain.standard_error * scale, abs=1e-9)
