import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bvae_cli.codes.closed_forms import (
    any_of,
    any_of_each,
    channel_capacity,
    majority_bit_error_rate,
    nearest_codeword_block_error_rate,
    q_function,
    summed_logits_bit_error_rate,
)
from tests.helpers import joint_threshold, property_settings

flip_probabilities = st.floats(0.0, 1.0)


def majority_by_enumeration(copies: int, epsilon: Fraction) -> Fraction:
    """Sum, in exact fractions, over all 2^R patterns of flips; a tie is wrong half of the time."""
    wrong = Fraction(0)
    for pattern in itertools.product((0, 1), repeat=copies):
        flips = sum(pattern)
        probability = epsilon**flips * (1 - epsilon) ** (copies - flips)
        if 2 * flips > copies:
            wrong += probability
        elif 2 * flips == copies:
            wrong += probability / 2
    return wrong


@pytest.mark.parametrize("copies", range(1, 11))
@pytest.mark.parametrize(
    "epsilon", [Fraction(0), Fraction(1, 100), Fraction(1, 20), Fraction(3, 10), Fraction(1, 2), Fraction(1)]
)
def test_majority_error_rate_is_the_sum_over_all_patterns_of_flips(copies, epsilon):
    assert majority_bit_error_rate(copies, float(epsilon)) == pytest.approx(
        float(majority_by_enumeration(copies, epsilon)), rel=1e-12, abs=1e-300
    )


def test_three_copies_at_five_percent_make_the_published_error_rate():
    assert majority_bit_error_rate(3, 0.05) == pytest.approx(0.00725, rel=1e-12)
    assert 1 - majority_bit_error_rate(3, 0.05) / 0.05 == pytest.approx(0.855, rel=1e-12)


@given(epsilon=flip_probabilities)
@property_settings
def test_three_copies_follow_their_polynomial(epsilon):
    assert majority_bit_error_rate(3, epsilon) == pytest.approx(3 * epsilon**2 - 2 * epsilon**3, rel=1e-12, abs=1e-300)


@given(epsilon=flip_probabilities)
@property_settings
def test_two_copies_correct_nothing_at_all(epsilon):
    assert majority_bit_error_rate(2, epsilon) == epsilon


@given(half=st.integers(1, 20), epsilon=flip_probabilities)
@property_settings
def test_an_even_number_of_copies_makes_exactly_the_errors_of_one_less(half, epsilon):
    assert majority_bit_error_rate(2 * half, epsilon) == pytest.approx(
        majority_bit_error_rate(2 * half - 1, epsilon), rel=1e-9, abs=1e-300
    )


@given(copies=st.integers(1, 41), epsilon=flip_probabilities)
@property_settings
def test_flipping_every_bit_swaps_right_and_wrong(copies, epsilon):
    assert majority_bit_error_rate(copies, epsilon) + majority_bit_error_rate(copies, 1 - epsilon) == pytest.approx(
        1, abs=1e-12
    )


@pytest.mark.parametrize(
    ("x", "tail"),
    # Abramowitz and Stegun 1964, table 26.1, and the relative precision that a tail needs far out.
    [
        (0.0, 0.5),
        (1.0, 0.15865525393145707),
        (1.959963984540054, 0.025),
        (3.0, 0.0013498980316301),
        (6.0, 9.865876450377e-10),
    ],
)
def test_the_gaussian_tail_has_its_tabled_values(x, tail):
    assert q_function(x) == pytest.approx(tail, rel=1e-12)
    assert q_function(-x) == pytest.approx(1 - tail, rel=1e-12)


def test_two_summed_logits_gain_three_decibels_at_unit_noise():
    alone = q_function(1.0)
    assert alone == pytest.approx(0.159, abs=5e-4)
    assert summed_logits_bit_error_rate(2, alone) == pytest.approx(q_function(math.sqrt(2)), rel=1e-9)
    assert summed_logits_bit_error_rate(2, alone) == pytest.approx(0.079, abs=5e-4)


@given(epsilon=st.floats(1e-6, 0.5))
@property_settings
def test_one_logit_alone_is_wrong_with_the_probability_of_a_flip(epsilon):
    assert summed_logits_bit_error_rate(1, epsilon) == pytest.approx(epsilon, rel=1e-6)


@pytest.mark.parametrize("copies", [2, 3, 5])
def test_summed_logits_err_as_often_as_a_sum_of_gaussians_is_negative(copies):
    # By the distribution of the sum, not through Q⁻¹: R signals of 1 with noise σ sum to N(R, R σ²).
    for deviation in (0.4, 0.7, 1.0, 2.0):
        alone = 0.5 * math.erfc(1 / deviation / math.sqrt(2))
        summed = 0.5 * math.erfc(copies / (math.sqrt(copies) * deviation) / math.sqrt(2))
        assert summed_logits_bit_error_rate(copies, alone) == pytest.approx(summed, rel=1e-7)


@given(copies=st.integers(2, 9), epsilon=st.floats(1e-4, 0.49))
@property_settings
def test_summed_logits_never_lose_to_a_majority(copies, epsilon):
    assert summed_logits_bit_error_rate(copies, epsilon) < majority_bit_error_rate(copies, epsilon)


def test_soft_decoding_without_noise_makes_no_error():
    assert summed_logits_bit_error_rate(3, 0.0) == 0.0
    assert summed_logits_bit_error_rate(3, 0.5) == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize(
    ("leaders", "length", "dimension"),
    [
        ((1, 7), 7, 4),
        ((1, 8, 7), 8, 4),
        ((1, 23, 253, 1771), 23, 12),
        ((1, 24, 276, 2024, 1771), 24, 12),
        ((1, 16, 120, 560, 875, 448, 28), 16, 5),
        ((1, 15, 105, 135), 15, 7),
        ((1, 31, 465, 4495, 13020, 14756), 31, 16),
    ],
)
def test_a_block_is_right_exactly_when_the_flips_are_a_coset_leader(leaders, length, dimension):
    assert sum(leaders) == 2 ** (length - dimension)
    for epsilon in (Fraction(1, 100), Fraction(1, 20), Fraction(1, 4)):
        right = sum(count * epsilon**weight * (1 - epsilon) ** (length - weight) for weight, count in enumerate(leaders))
        assert nearest_codeword_block_error_rate(leaders, length, float(epsilon)) == pytest.approx(
            float(1 - right), rel=1e-9
        )
    # Between flips of one half any word is as likely as any other: one in 2^k is right.
    assert nearest_codeword_block_error_rate(leaders, length, 0.5) == pytest.approx(1 - 2.0**-dimension, rel=1e-12)


def test_a_perfect_code_fails_exactly_when_there_are_more_flips_than_it_corrects():
    for epsilon in (0.01, 0.1):
        more_than_three = sum(math.comb(23, i) * epsilon**i * (1 - epsilon) ** (23 - i) for i in range(4, 24))
        assert nearest_codeword_block_error_rate((1, 23, 253, 1771), 23, epsilon) == pytest.approx(more_than_three, rel=1e-9)


@given(count=st.integers(1, 1000), rate=st.floats(0.0, 1.0))
@property_settings
def test_any_of_several_events_is_the_complement_of_none(count, rate):
    assert any_of(count, rate) == pytest.approx(1 - (1 - rate) ** count, rel=1e-9, abs=1e-13)


def test_any_of_several_rare_events_keeps_its_digits():
    assert any_of(100, 1e-18) == pytest.approx(1e-16, rel=1e-12)
    assert any_of(7, 0.0) == 0.0
    assert any_of(7, 1.0) == 1.0


@pytest.mark.parametrize(("epsilon", "carried"), [(0.01, 91.9), (0.05, 71.4), (0.1, 53.1)])
def test_a_hundred_bits_carry_what_the_method_says(epsilon, carried):
    assert 100 * channel_capacity(epsilon) == pytest.approx(carried, abs=0.05)


@given(epsilon=st.floats(0.0, 1.0))
@property_settings
def test_capacity_is_the_mutual_information_of_a_uniform_bit_and_its_copy(epsilon):
    information = sum(0.5 * p * math.log2(p / 0.5) for p in (epsilon, 1 - epsilon, 1 - epsilon, epsilon) if p > 0)
    assert channel_capacity(epsilon) == pytest.approx(information, abs=1e-12)


def test_majority_error_rate_agrees_with_coins_thrown_by_hand():
    # A direct simulation with other tools than the code's: joint level 1 % over six checks.
    generator = torch.Generator().manual_seed(20)
    words, epsilon = 400_000, 0.2
    for copies in range(1, 7):
        flips = (torch.rand(words, copies, generator=generator) < epsilon).sum(-1)
        coin = torch.rand(words, generator=generator) < 0.5
        wrong = (2 * flips > copies) | ((2 * flips == copies) & coin)
        expected = majority_bit_error_rate(copies, epsilon)
        deviation = math.sqrt(expected * (1 - expected) / words)
        assert abs(wrong.double().mean().item() - expected) < joint_threshold(6) * deviation


def test_small_rates_keep_their_digits() -> None:
    """Two errors in seven bits are not corrected: 21 ε² of the words, and no rounding of 1 − 1."""
    for epsilon in (1e-4, 1e-7, 1e-10):
        rate = nearest_codeword_block_error_rate([1, 7], 7, epsilon)
        assert rate == pytest.approx(21 * epsilon**2, rel=1e-3)
    assert nearest_codeword_block_error_rate([1, 7], 7, 0.0) == 0.0
    assert nearest_codeword_block_error_rate([1, 1023, 1024], 2000, 0.4) == pytest.approx(1.0)


def test_what_happens_for_certain_happens_to_any() -> None:
    assert any_of_each([1.0, 0.25]) == any_of_each([0.25, 1.0]) == 1.0
    assert any_of(3, 1.0) == 1.0
    assert any_of_each([]) == any_of_each([0.0, 0.0]) == 0.0
