import math
from statistics import NormalDist

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bvae_cli.codes.base import Block
from bvae_cli.codes.repetition import Repetition
from bvae_cli.evaluation.channel import measure_channel
from tests.helpers import joint_threshold, property_settings

WORDS = 10**6
INFORMATION_BITS = 2
COPIES = range(1, 8)
# The rarest error is still counted hundreds of times, so that its count is close to normal.
SENT = [("hard", 0.05), ("hard", 0.2), ("soft", 0.1), ("soft", 0.25)]
# A bit error rate and a word error rate each.
CHECKS = len(COPIES) * len(SENT) * 2


def expected_bit_error_rate(copies: int, epsilon: float, channel: str) -> float:
    """Closed forms written out again, apart from those of the package."""
    if channel == "soft":
        normal = NormalDist()
        return normal.cdf(math.sqrt(copies) * normal.inv_cdf(epsilon))
    terms = [math.comb(copies, i) * epsilon**i * (1 - epsilon) ** (copies - i) for i in range(copies + 1)]
    return math.fsum(term for i, term in enumerate(terms) if 2 * i > copies) + math.fsum(
        term / 2 for i, term in enumerate(terms) if 2 * i == copies
    )


@pytest.mark.parametrize(("channel", "epsilon"), SENT)
@pytest.mark.parametrize("copies", COPIES)
def test_measured_errors_of_a_million_words_are_those_of_the_closed_form(copies, channel, epsilon):
    """The 56 checks fail together with probability 1 %: each is held to 3.75 standard errors (Bonferroni).

    At three standard errors for each, a right program would fail one time in seven. The standard errors are those of
    the closed form, not of the measurement.
    """
    code = Repetition(R=copies).build(copies * INFORMATION_BITS)
    measured = measure_channel(code, epsilon, WORDS, channel, seed=1000 + copies)
    bit_rate = expected_bit_error_rate(copies, epsilon, channel)
    word_rate = 1 - (1 - bit_rate) ** INFORMATION_BITS
    bit_error = math.sqrt(bit_rate * (1 - bit_rate) / (INFORMATION_BITS * WORDS))
    word_error = math.sqrt(word_rate * (1 - word_rate) / WORDS)
    assert joint_threshold(CHECKS) == pytest.approx(3.75, abs=0.01)
    assert abs(measured.bit_error_rate.mean - bit_rate) < joint_threshold(CHECKS) * bit_error
    assert abs(measured.word_error_rate.mean - word_rate) < joint_threshold(CHECKS) * word_error
    # The errors that stand beside the measured rates are the true ones, to a tenth (hundreds of errors were counted).
    assert measured.bit_error_rate.standard_error == pytest.approx(bit_error, rel=0.1)
    assert measured.word_error_rate.standard_error == pytest.approx(word_error, rel=0.1)
    assert measured.words == WORDS


@given(copies=st.integers(1, 30), epsilon=st.floats(0.001, 0.5))
@property_settings
def test_a_spec_says_the_closed_forms(copies, epsilon):
    spec = Repetition(R=copies)
    hard = expected_bit_error_rate(copies, epsilon, "hard")
    assert spec.hard_bit_error_rate(epsilon) == pytest.approx(hard, rel=1e-9)
    assert spec.hard_block_error_rate(epsilon) == pytest.approx(hard, rel=1e-9)
    soft = expected_bit_error_rate(copies, epsilon, "soft")
    assert spec.soft_bit_error_rate(epsilon) == pytest.approx(soft, rel=1e-6, abs=1e-15)


@given(copies=st.integers(1, 100), words=st.integers(1, 20))
@property_settings
def test_a_block_is_one_bit_in_as_many_copies(copies, words):
    code = Repetition(R=copies).build(copies * words)
    assert (code.k, code.min_distance, code.correctable) == (words, copies, (copies - 1) // 2)
    assert code.rate == pytest.approx(1 / copies)


def test_the_copies_of_a_bit_lie_a_word_apart():
    assert Repetition(R=3).build(6).encode(torch.tensor([1, 0])).tolist() == [1, 0, 1, 0, 1, 0]


def test_every_pattern_of_fewer_flips_than_half_is_corrected_and_more_are_not():
    for copies in (3, 4, 5, 7):
        code = Repetition(R=copies).build(copies)
        for flips in range(copies + 1):
            received = torch.tensor([1] * flips + [0] * (copies - flips))
            for turn in range(copies):
                if 2 * flips != copies:
                    assert code.decode(received.roll(turn)).item() == int(2 * flips > copies)


def test_a_majority_of_many_copies_of_small_integers_does_not_overflow():
    code = Repetition(R=1024).build(1024)
    for dtype in (torch.uint8, torch.int8, torch.bfloat16, torch.float16, torch.bool):
        for ones in (0, 100, 255, 300, 511, 513, 700, 900, 1024):
            received = (torch.arange(1024) < ones).to(dtype)
            assert code.decode(received).item() == (ones > 512)


def test_halves_of_a_tie_go_to_one_and_to_zero_equally_often_at_every_position():
    # Ten positions for two codes, jointly at 1 %; a tie broken always the same way would be thousands of errors away.
    rows, bits = 40_000, 10
    for copies in (2, 4):
        code = Repetition(R=copies).build(copies * bits)
        half = torch.cat([torch.ones(copies // 2 * bits), torch.zeros(copies // 2 * bits)])
        decided = code.decode(half.expand(rows, -1), torch.Generator().manual_seed(copies))
        z = (decided.mean(0) - 0.5) / (0.5 / math.sqrt(rows))
        assert z.abs().max() < joint_threshold(20)


def test_coins_of_neighbouring_bits_and_rows_are_independent():
    rows, bits = 50_000, 4
    code = Repetition(R=2).build(2 * bits)
    tie = torch.cat([torch.ones(bits), torch.zeros(bits)]).expand(rows, -1)
    signs = 2 * code.decode(tie, torch.Generator().manual_seed(11)).double() - 1
    pairs = [(signs[:, a] * signs[:, b]).mean() for a in range(bits) for b in range(a)]
    pairs += [(signs[1:, a] * signs[:-1, a]).mean() for a in range(bits)]
    z = torch.stack(pairs).abs().max() * math.sqrt(rows)
    assert z < joint_threshold(len(pairs))


def test_without_a_generator_the_coin_is_the_same_at_every_call_and_fair_over_a_batch():
    code = Repetition(R=2).build(2)
    ties = torch.tensor([1.0, 0.0]).expand(40_000, -1)
    first = code.decode(ties)
    assert torch.equal(first, code.decode(ties))
    assert abs(first.mean().item() - 0.5) < joint_threshold(1) * 0.5 / math.sqrt(40_000)


def test_a_coin_is_only_thrown_where_the_copies_tie():
    code = Repetition(R=4).build(4)
    for seed in range(20):
        decided = code.decode(torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]]), torch.Generator().manual_seed(seed))
        assert decided.tolist() == [[1], [0]]


@given(copies=st.integers(1, 9), seed=st.integers(0, 1000))
@property_settings
def test_the_posterior_is_the_sum_of_the_copies(copies, seed):
    logits = torch.randn(copies, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    decoded = Repetition(R=copies).build(3 * copies).soft_decode(logits.flatten())
    expected = [math.fsum(logits[:, bit].tolist()) for bit in range(3)]
    assert decoded.tolist() == pytest.approx(expected, abs=1e-12)


def test_copies_that_are_infinitely_sure_of_opposite_values_say_nothing():
    code = Repetition(R=2).build(4)
    decoded = code.soft_decode(torch.tensor([math.inf, math.inf, -math.inf, math.inf]))
    assert decoded.tolist() == [0.0, 2e4]


def test_a_number_that_is_none_is_not_hidden():
    assert Repetition(R=3).build(3).soft_decode(torch.tensor([1.0, math.nan, 2.0])).isnan().all()


def test_two_copies_are_said_to_correct_nothing_by_majority():
    remark = Repetition(R=2).remark()
    assert "corrects nothing" in remark
    assert "3 dB" in remark


@pytest.mark.parametrize("copies", [4, 6, 10])
def test_an_even_number_of_copies_is_said_to_waste_one(copies):
    assert Repetition(R=copies).remark() == (
        f"R={copies} by majority makes exactly the errors of R={copies - 1}: the last copy only makes ties."
    )


def test_an_odd_number_of_copies_needs_no_remark_and_a_single_one_is_called_uncoded():
    assert Repetition(R=3).remark() is None
    assert "uncoded" in Repetition(R=1).remark()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_many_copies_in_half_precision_are_added_in_single_precision(dtype: torch.dtype) -> None:
    assert Repetition(R=1024).build(1024).soft_decode(torch.ones(1, 1024, dtype=dtype)).item() == 1024
    contradicting = torch.full((1, 64), torch.inf, dtype=dtype)
    contradicting[:, ::2] = -torch.inf
    assert Repetition(R=64).build(64).soft_decode(contradicting).item() == 0


def test_it_is_said_how_copies_are_put_together_and_that_it_costs_sums_alone():
    spec = Repetition(R=4)
    assert spec.soft_decoding() == "the logits of the copies are added, exact"
    assert spec.hard_decoding() == "the majority of the copies, a fair coin where they tie"
    assert spec.soft_cost() == 0.0
    assert Repetition(R=1024).block() == Block(n=1024, k=1, min_distance=1024)
    assert Repetition().R == 3
    for copies in (0, 1025):
        with pytest.raises(ValidationError):
            Repetition(R=copies)
