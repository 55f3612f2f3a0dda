import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bvae_cli.codes.uncoded import Uncoded
from bvae_cli.evaluation.channel import measure_channel
from tests.helpers import joint_threshold, property_settings


@given(n=st.integers(1, 2000))
@property_settings
def test_every_latent_size_fits_and_each_bit_is_an_information_bit(n):
    code = Uncoded().build(n)
    assert (code.n, code.k, code.rate) == (n, n, 1.0)
    assert (code.min_distance, code.correctable) == (1, 0)


def test_all_five_maps_are_the_identity_to_the_last_bit():
    code = Uncoded().build(6)
    logits = torch.tensor([[-math.inf, -1e4, -0.1, 1e-30, 87.0, math.inf]])
    bits = (logits > 0).float()
    probabilities = logits.sigmoid()
    assert torch.equal(code.soft_decode(logits), logits)
    assert torch.equal(code.encode_logits(logits), logits)
    assert torch.equal(code.encode_probs(probabilities), probabilities)
    assert torch.equal(code.encode(bits), bits)
    assert torch.equal(code.decode(bits), bits)


@given(epsilon=st.floats(0.0, 1.0))
@property_settings
def test_nothing_is_corrected_so_every_flip_is_an_error(epsilon):
    spec = Uncoded()
    assert spec.hard_bit_error_rate(epsilon) == spec.hard_block_error_rate(epsilon) == epsilon
    assert spec.soft_bit_error_rate(epsilon) == epsilon


@pytest.mark.parametrize("channel", ["hard", "soft"])
def test_measured_errors_are_the_flips_themselves(channel):
    # Four checks in all, jointly at 1 %.
    words, epsilon, bits = 200_000, 0.08, 4
    measured = measure_channel(Uncoded().build(bits), epsilon, words, channel, seed=4)
    word_rate = 1 - (1 - epsilon) ** bits
    assert abs(measured.bit_error_rate.mean - epsilon) < joint_threshold(4) * math.sqrt(
        epsilon * (1 - epsilon) / (bits * words)
    )
    assert abs(measured.word_error_rate.mean - word_rate) < joint_threshold(4) * math.sqrt(
        word_rate * (1 - word_rate) / words
    )


def test_nothing_is_decoded_and_nothing_is_paid_for_it():
    spec = Uncoded()
    assert spec.soft_decoding() == "the logits themselves, exact"
    assert spec.hard_decoding() == "the bits themselves"
    assert spec.soft_cost() == 0.0
    assert spec.exemptions() == {"soft_extremes": "the identity hands an infinity on as it is"}
    assert spec.summary == "no code: every latent bit is an information bit"
