import dataclasses
import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bvae_cli.evaluation import statistics
from bvae_cli.evaluation.statistics import (
    Estimate,
    Interval,
    bootstrap_interval,
    estimate,
    holm,
    seeds_needed,
    sign_flip_p_value,
    smallest_p_value,
    student_interval,
)
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


def test_estimates_and_intervals_stay_as_they_were_measured():
    for measured in (Estimate(1.0), Interval(0.0, 1.0)):
        for field in dataclasses.fields(measured):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(measured, field.name, 2.0)
    assert Estimate(1.0).standard_error is None


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


# Student's t quantiles at 0.975, from printed tables (Fisher and Yates 1938, table III).
T_QUANTILES = {1: 12.706, 2: 4.303, 4: 2.776, 7: 2.365, 9: 2.262, 30: 2.042}


@pytest.mark.parametrize(("degrees", "quantile"), T_QUANTILES.items())
def test_the_interval_over_seeds_is_that_of_students_tables(degrees, quantile):
    values = [float(value) for value in range(degrees + 1)]
    mean = degrees / 2
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / degrees)
    interval = student_interval(values)
    half = quantile * deviation / math.sqrt(degrees + 1)
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=3e-4)
    assert (interval.high + interval.low) / 2 == pytest.approx(mean)


def test_the_interval_over_seeds_is_that_of_scipys_paired_t_test():
    one, other = [3.1, 2.7, 4.4, 3.9, 2.2], [2.9, 2.8, 3.6, 3.3, 2.1]
    differences = [mine - theirs for mine, theirs in zip(one, other, strict=True)]
    theirs = stats.ttest_rel(one, other).confidence_interval(0.95)
    assert student_interval(differences) == Interval(
        pytest.approx(theirs.low, abs=1e-9), pytest.approx(theirs.high, abs=1e-9)
    )


def test_one_seed_has_no_interval():
    assert student_interval([1.0]) is None
    assert bootstrap_interval([1.0], 100) is None


def test_equal_values_have_an_interval_of_no_width():
    assert student_interval([2.0] * 5) == Interval(2.0, 2.0)
    assert bootstrap_interval([2.0] * 5, 100) == Interval(2.0, 2.0)


def test_the_bootstrap_of_three_values_has_the_quantiles_of_all_27_resamples():
    values = [0.0, 1.0, 5.0]
    means = sorted(sum(drawn) / 3 for drawn in itertools.product(values, repeat=3))
    # 1/27 of the resamples have the least mean, 0, and 1/27 the greatest, 5: each more than 2.5 %.
    assert (means[0], means[-1]) == (0.0, 5.0)
    assert bootstrap_interval(values, 20_000) == Interval(0.0, 5.0)
    # At 90 % the quantiles lie at the second least (1/3, reached by 4/27) and the second greatest (11/3).
    interval = bootstrap_interval(values, 20_000, confidence=0.9)
    assert interval == Interval(pytest.approx(1 / 3), pytest.approx(11 / 3))


def test_two_values_have_a_bootstrap_interval_and_its_ends_are_among_so_many_resamples():
    assert bootstrap_interval([0.0, 1.0], 2000) == Interval(0.0, 1.0)
    # Nearly certain, the ends are the least and the greatest mean that were drawn; 1 of 256 is 0, and 1 of 256 is 11.
    assert bootstrap_interval([0.0, 1.0, 5.0, 11.0], 9999, confidence=1 - 1e-12) == Interval(0.0, 11.0)
    few = bootstrap_interval([0.0, 1.0, 5.0, 11.0], 3, confidence=1 - 1e-12)
    assert 0.0 < few.low < few.high < 11.0


def test_the_bootstrap_counts_values_of_half_precision_in_double_precision():
    values = torch.randn(300, generator=torch.Generator().manual_seed(4)).half()
    assert bootstrap_interval(values, 200) == bootstrap_interval(values.double(), 200)


def test_without_a_seed_the_draws_are_those_of_seed_0():
    values = [float(value) ** 2 for value in range(7)]
    assert bootstrap_interval(values, 50) == bootstrap_interval(values, 50, seed=0) != bootstrap_interval(values, 50, seed=1)
    differences = [1.0] * 13 + [-1.0] * 9
    assert sign_flip_p_value(differences) == sign_flip_p_value(differences, seed=0) != sign_flip_p_value(differences, seed=1)


def test_the_bootstrap_over_many_images_is_the_normal_interval_and_the_same_at_every_call():
    values = torch.randn(4000, generator=torch.Generator().manual_seed(3)).double()
    interval = bootstrap_interval(values, 4000)
    error = float(values.std()) / math.sqrt(4000)
    assert interval.low == pytest.approx(float(values.mean()) - 1.96 * error, abs=0.1 * error)
    assert interval.high == pytest.approx(float(values.mean()) + 1.96 * error, abs=0.1 * error)
    assert bootstrap_interval(values, 4000) == interval


def sign_flips_by_hand(differences):
    """Share of all sign patterns whose sum is at least as far from 0, in exact fractions."""
    exact = [Fraction(value) for value in differences]
    observed = abs(sum(exact))
    patterns = list(itertools.product((1, -1), repeat=len(exact)))
    reached = sum(abs(sum(sign * value for sign, value in zip(signs, exact, strict=True))) >= observed for signs in patterns)
    return reached / len(patterns)


@given(differences=st.lists(st.integers(-20, 20).map(lambda value: value / 4), min_size=1, max_size=9))
@property_settings
def test_the_sign_flip_p_value_is_the_share_of_all_sign_patterns(differences):
    assert sign_flip_p_value(differences) == pytest.approx(sign_flips_by_hand(differences), abs=1e-9)


@pytest.mark.parametrize("seeds", range(1, 12))
def test_the_least_p_value_is_that_of_differences_of_one_sign(seeds):
    differences = [1.0 + index / 7 for index in range(seeds)]
    assert sign_flip_p_value(differences) == pytest.approx(smallest_p_value(seeds), rel=1e-12)


def test_of_more_than_twenty_seeds_a_hundred_thousand_patterns_are_tried(monkeypatch):
    # None of 10^5 random patterns is all of one sign (2^-20 each): two sides of (0 + 1) / (10^5 + 1), never of 0.
    assert sign_flip_p_value([1.0] * 21) == pytest.approx(2 / 100_001, rel=1e-12)
    monkeypatch.setattr(statistics, "_EXACT_SEEDS", 12)
    monkeypatch.setattr(statistics, "_RANDOM_SIGNS", 50)
    assert sign_flip_p_value([1.0] * 12) == smallest_p_value(12)
    assert sign_flip_p_value([1.0] * 13) == pytest.approx(2 / 51, rel=1e-12)


def test_the_sign_flip_p_value_knows_no_unit():
    assert sign_flip_p_value([1e-13, 2e-13, 3e-13, 4e-13]) == 0.125
    assert sign_flip_p_value([1e13, 2e13, 3e13, 4e13]) == 0.125


def test_beyond_twenty_seeds_random_signs_stand_for_all_and_come_near():
    differences = [1.0] * 13 + [-1.0] * 9
    # Sums of 22 signs: P(at least 13 or at most 9 of one kind), a binomial tail.
    exact = 2 * sum(math.comb(22, count) for count in range(13, 23)) / 2**22
    assert sign_flip_p_value(differences) == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 100_000))


def test_five_seeds_never_suffice_and_eight_do_for_six_claims():
    assert smallest_p_value(5) > 0.05
    assert seeds_needed(1) == 6
    assert smallest_p_value(8) <= 0.05 / 6 < smallest_p_value(7)
    assert seeds_needed(6) == 8
    assert seeds_needed(7) == 9
    assert seeds_needed(0) == 6
    assert smallest_p_value(0) == smallest_p_value(1) == 1.0
    assert seeds_needed(1, alpha=1.0) == 1
    assert seeds_needed(1, alpha=smallest_p_value(4)) == 4


def test_holm_by_hand():
    # Sorted: .004 × 4, .01 × 3, .03 × 2, .04 × 1, none below one before it.
    assert holm([0.03, 0.004, 0.04, 0.01]) == pytest.approx([0.06, 0.016, 0.06, 0.03])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.9, 0.95]) == [1.0, 1.0]
    assert holm([]) == []


@given(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=8))
@property_settings
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values):
    # Holm 1979: walk upwards through the sorted values and stop at the first above α / (m − i).
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    rejected = set()
    for rank, index in enumerate(order):
        if (len(p_values) - rank) * p_values[index] > 0.05:
            break
        rejected.add(index)
    assert {index for index, adjusted in enumerate(holm(p_values)) if adjusted <= 0.05} == rejected
