"""The measurement itself; that it agrees with the closed forms of each code is tested with that code."""

import math
from statistics import NormalDist

import pytest
import torch

from bvae_cli.codes.repetition import Repetition
from bvae_cli.codes.uncoded import Uncoded, UncodedCode
from bvae_cli.evaluation import channel
from bvae_cli.evaluation.channel import measure_channel
from tests.helpers import SMALL_CODES, Hamming, every_small_code, joint_threshold


class Listening(UncodedCode):
    """An uncoded latent that keeps what was sent and what arrived."""

    def __init__(self, n: int) -> None:
        super().__init__(Uncoded(), n)
        self.sent, self.arrived = [], []

    def encode(self, bits):
        self.sent.append(bits)
        return bits

    def decode(self, bits, generator=None):
        self.arrived.append(bits)
        return bits

    def soft_decode(self, logits):
        self.arrived.append(logits)
        return logits


@every_small_code
def test_a_channel_without_flips_makes_no_errors(spec, n):
    measured = measure_channel(spec.build(n), 0.0, 500, "hard")
    assert (measured.bit_error_rate.mean, measured.word_error_rate.mean) == (0.0, 0.0)
    assert (measured.bit_error_rate.standard_error, measured.word_error_rate.standard_error) == (0.0, 0.0)


def test_a_channel_that_flips_everything_turns_every_bit():
    for spec in (Uncoded(), Repetition(R=3)):
        measured = measure_channel(spec.build(6), 1.0, 500, "hard")
        assert (measured.bit_error_rate.mean, measured.word_error_rate.mean) == (1.0, 1.0)


def test_words_are_uniform_and_flips_have_their_probability():
    # Four bits sent, and the flips: five checks, jointly at 1 %.
    code, words, epsilon = Listening(4), 50_000, 0.13
    measured = measure_channel(code, epsilon, words, "hard", seed=3)
    sent, arrived = torch.cat(code.sent), torch.cat(code.arrived)
    assert sent.shape == arrived.shape == (words, 4)
    z = (sent.double().mean(0) - 0.5) / (0.5 / math.sqrt(words))
    flips = (sent != arrived).double()
    z_flips = (flips.mean().item() - epsilon) / math.sqrt(epsilon * (1 - epsilon) / (4 * words))
    assert max(z.abs().max().item(), abs(z_flips)) < joint_threshold(5)
    assert measured.bit_error_rate.mean == pytest.approx(flips.mean().item(), rel=1e-12)
    assert measured.word_error_rate.mean == pytest.approx((flips.sum(-1) > 0).double().mean().item(), rel=1e-12)


def test_received_logits_are_the_calibrated_ones_of_gaussian_noise():
    """log p(y given 1) − log p(y given 0) = 2y/σ²: of mean ±2/σ² and variance 4/σ², with σ = 1 / Q⁻¹(ε)."""
    code, words, epsilon = Listening(4), 50_000, 0.1
    measure_channel(code, epsilon, words, "soft", seed=3)
    deviation = 1 / NormalDist().inv_cdf(1 - epsilon)
    towards = ((2 * torch.cat(code.sent) - 1) * torch.cat(code.arrived)).double().flatten()
    count = len(towards)
    mean, variance = 2 / deviation**2, 4 / deviation**2
    assert abs(towards.mean().item() - mean) < joint_threshold(3) * math.sqrt(variance / count)
    assert abs(towards.var().item() - variance) < joint_threshold(3) * variance * math.sqrt(2 / count)
    wrong = (towards < 0).double().mean().item()
    assert abs(wrong - epsilon) < joint_threshold(3) * math.sqrt(epsilon * (1 - epsilon) / count)


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("name", SMALL_CODES)
def test_a_seed_decides_the_measurement_and_the_global_generator_is_left_alone(name, kind):
    spec, n = SMALL_CODES[name]
    code, state = spec.build(n), torch.get_rng_state()
    first, again, other = (measure_channel(code, 0.2, 400, kind, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert torch.equal(torch.get_rng_state(), state)


def test_standard_errors_of_shares_by_hand():
    code = Listening(4)
    measured = measure_channel(code, 0.3, 1000, "hard")
    shares = (torch.cat(code.sent) != torch.cat(code.arrived)).double().mean(-1)
    words = (shares > 0).double()
    for found, values in ((measured.bit_error_rate, shares), (measured.word_error_rate, words)):
        mean = math.fsum(values.tolist()) / 1000
        variance = math.fsum((value - mean) ** 2 for value in values.tolist()) / 1000
        assert found.mean == pytest.approx(mean, rel=1e-12)
        assert found.standard_error == pytest.approx(math.sqrt(variance / 1000), rel=1e-9)


def test_standard_errors_are_those_of_words_where_the_bits_of_a_block_err_together():
    """The spread of 300 measurements; it is known to 1/√600, and three of these are allowed."""
    code, repeats = Hamming().build(7), 300
    measured = [measure_channel(code, 0.1, 500, "hard", seed) for seed in range(repeats)]
    means = torch.tensor([one.bit_error_rate.mean for one in measured])
    expected = measured[0].bit_error_rate.standard_error
    bits_alone = math.sqrt(means.mean().item() * (1 - means.mean().item()) / (4 * 500))
    assert means.std().item() == pytest.approx(expected, rel=3 / math.sqrt(2 * repeats) + 0.05)
    assert means.std().item() > 1.15 * bits_alone


def test_words_sent_in_many_pieces_are_all_sent(monkeypatch):
    monkeypatch.setattr(channel, "_VALUES_AT_ONCE", 40)
    code = Listening(4)
    measured = measure_channel(code, 0.25, 1003, "hard")
    assert [len(piece) for piece in code.sent] == [10] * 100 + [3]
    wrong = torch.cat(code.sent) != torch.cat(code.arrived)
    assert measured.words == 1003
    assert measured.bit_error_rate.mean == pytest.approx(wrong.double().mean().item(), rel=1e-12)
    assert len({piece.numpy().tobytes() for piece in code.sent[:100]}) == 100


def test_no_gradient_is_kept_of_a_measurement():
    code = Listening(3)
    measure_channel(code, 0.1, 10, "soft")
    assert not code.arrived[0].requires_grad
