import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bvae_cli.evaluation.paired import over_images, paired, verdict
from bvae_cli.evaluation.statistics import Interval
from tests.helpers import property_settings


def test_seeds_are_paired_in_their_order():
    effect = paired([1.0, 5.0, 9.0], [0.0, 3.0, 10.0])
    assert effect.differences == [1.0, 2.0, -1.0]
    assert effect.mean == pytest.approx(2 / 3)
    # Of the 8 sign patterns of (1, 2, −1), those with abs(sum) ≥ 2: ++−, −−+, ++ +, −−−, −++ has 0, … six in all by hand.
    assert effect.p_value == pytest.approx(
        sum(abs(a + 2 * b - c) >= 2 for a in (1, -1) for b in (1, -1) for c in (1, -1)) / 8
    )
    assert effect.ratio is None
    assert effect.image_interval is None


def test_one_seed_of_each_gives_a_difference_and_no_claim_about_training():
    effect = paired([1.0], [3.0], is_rate=True)
    assert (effect.mean, effect.seed_interval, effect.p_value) == (-2.0, None, None)
    assert effect.ratio.mean == pytest.approx(1 / 3)
    assert effect.ratio.interval is None


def test_a_ratio_of_rates_is_their_geometric_mean_with_the_interval_of_the_logarithm():
    effect = paired([0.02, 0.01], [0.1, 0.1], is_rate=True)
    logs = [math.log(0.2), math.log(0.1)]
    half = 12.706 * abs(logs[0] - logs[1]) / 2  # t of one degree, times s/√2
    assert effect.ratio.mean == pytest.approx(math.sqrt(0.02))
    assert effect.ratio.interval.low == pytest.approx(math.exp(sum(logs) / 2 - half), rel=1e-3)
    assert effect.ratio.interval.high == pytest.approx(math.exp(sum(logs) / 2 + half), rel=1e-3)


def test_an_arm_without_an_error_has_no_ratio():
    assert paired([0.0, 0.1], [0.1, 0.1], is_rate=True).ratio is None


def test_identical_arms_are_no_difference_with_p_1():
    effect = paired([1.5, 2.5, 3.5], [1.5, 2.5, 3.5], is_rate=True)
    assert (effect.mean, effect.p_value, effect.seed_interval) == (0.0, 1.0, Interval(0.0, 0.0))
    assert effect.ratio.mean == 1.0
    assert verdict(effect.mean, 1.0, "higher") == "not shown"


@given(values=st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=2, max_size=8))
@property_settings
def test_exchanging_the_arms_turns_the_sign_and_nothing_else(values):
    one, other = zip(*values, strict=True)
    forth, back = paired(one, other), paired(other, one)
    assert back.mean == -forth.mean
    assert back.p_value == pytest.approx(forth.p_value)
    assert back.seed_interval.low == pytest.approx(-forth.seed_interval.high)


def test_over_images_the_image_is_resampled_and_the_seeds_are_averaged():
    # Two seeds whose difference is opposite in every image: averaged it is 1 everywhere, so resampling changes nothing.
    arm = [np.array([3.0, -1.0, 3.0]), np.array([-1.0, 3.0, -1.0])]
    reference = [np.zeros(3), np.zeros(3)]
    assert over_images(arm, reference, 500) == Interval(1.0, 1.0)


@pytest.mark.parametrize(
    ("mean", "p_value", "better", "said"),
    [
        (2.0, 0.05, "higher", "better"),
        (2.0, 0.0501, "higher", "not shown"),
        (2.0, 0.01, "lower", "worse"),
        (-2.0, 0.01, "lower", "better"),
        (-2.0, 0.01, "higher", "worse"),
        (0.0, 0.01, "higher", "not shown"),
        (2.0, None, "higher", "not shown"),
    ],
)
def test_a_difference_is_shown_where_its_adjusted_p_is_at_most_five_percent(mean, p_value, better, said):
    assert verdict(mean, p_value, better) == said
