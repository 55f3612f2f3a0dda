import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bvae_cli.codes.repetition import Repetition
from bvae_cli.codes.uncoded import Uncoded
from bvae_cli.evaluation import inference
from bvae_cli.evaluation.inference import (
    InferenceErrors,
    expected_calibration_error,
    measure_inference,
    measure_reconstruction,
    peak_signal_to_noise_ratio,
)
from bvae_cli.model.bvae import BinaryVAE
from tests.helpers import (
    ExtendedHamming,
    Hamming,
    all_words,
    constructed_model,
    every_small_code,
    joint_threshold,
    logit_of,
    posterior_by_enumeration,
    property_settings,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def inference_of(model: BinaryVAE, words: int, generator: torch.Generator) -> InferenceErrors:
    return measure_inference(model, words, torch.ones(model.code.k, dtype=torch.bool), generator)


# Errors of the model


@every_small_code
def test_a_decoder_so_sharp_that_pixels_are_code_bits_is_read_without_errors(spec, n):
    measured = inference_of(constructed_model(spec.build(n), 40.0, 200.0), 500, generator())
    assert measured.bit_error_rate.mean == measured.word_error_rate.mean == 0.0
    assert measured.calibration_error == pytest.approx(0, abs=1e-6)
    assert measured.words == 500


@every_small_code
def test_a_decoder_that_carries_nothing_is_read_wrongly_half_of_the_time(spec, n):
    # Seven codes, two rates each: jointly at 1 %.
    words, code = 20_000, spec.build(n)
    measured = inference_of(constructed_model(code, 40.0, 0.0), words, generator(4))
    # A tie of two copies reads as 0 and is wrong for half of the words too.
    word_rate = 1 - 0.5**code.k
    assert abs(measured.bit_error_rate.mean - 0.5) < joint_threshold(14) * measured.bit_error_rate.standard_error
    assert abs(measured.word_error_rate.mean - word_rate) < joint_threshold(14) * math.sqrt(
        word_rate * (1 - word_rate) / words
    )


@pytest.mark.parametrize(
    ("spec", "n"),
    [(Uncoded(), 4), (Repetition(R=3), 6), (Hamming(), 7), (ExtendedHamming(), 8)],
    ids=["none", "repetition", "hamming(7,4)", "hamming(8,4)"],
)
def test_errors_of_a_noisy_decoder_are_those_of_a_sum_over_all_images(spec, n):
    """Pixel j is code bit j, wrong with probability δ; the encoder gives its logit, so λ is the true posterior.

    By symmetry the word 0 is sent. The four codes, two rates each, fail together with probability 1 %.
    """
    delta, words, code = 0.1, 30_000, spec.build(n)
    bit_rate = word_rate = 0.0
    for image in all_words(n):
        probability = delta ** sum(image) * (1 - delta) ** (n - sum(image))
        logits = posterior_by_enumeration(spec, code.k, [logit_of(delta) * (2 * pixel - 1) for pixel in image])
        # A logit of zero is a tie: wrong for the half of the words in which that bit is 1.
        wrong = [0.5 if abs(logit) < 1e-9 else float(logit > 0) for logit in logits]
        bit_rate += probability * math.fsum(wrong) / code.k
        word_rate += probability * (1 - math.prod(1 - share for share in wrong))
    measured = inference_of(constructed_model(code, logit_of(delta), logit_of(delta)), words, generator(2))
    assert abs(measured.bit_error_rate.mean - bit_rate) < joint_threshold(8) * measured.bit_error_rate.standard_error
    if spec != ExtendedHamming():  # where ties of a block's bits are not independent
        assert abs(measured.word_error_rate.mean - word_rate) < joint_threshold(8) * math.sqrt(
            word_rate * (1 - word_rate) / words
        )
    # A true posterior is calibrated: what is left is the noise of the shares of right bits in ten bins.
    assert measured.calibration_error < 10 * 0.5 / math.sqrt(words)


def test_the_noisy_repetition_has_the_error_rate_of_a_majority():
    delta, words = 0.2, 30_000
    measured = inference_of(constructed_model(Repetition(R=3).build(6), 1.0, logit_of(delta)), words, generator(5))
    expected = 3 * delta**2 - 2 * delta**3
    assert abs(measured.bit_error_rate.mean - expected) < joint_threshold(1) * math.sqrt(
        expected * (1 - expected) / (2 * words)
    )


def test_the_calibration_error_of_a_model_that_is_always_sure_is_its_error_rate():
    measured = inference_of(constructed_model(Uncoded().build(4), 40.0, logit_of(0.2)), 5000, generator())
    assert measured.calibration_error == pytest.approx(measured.bit_error_rate.mean, abs=1e-6)
    assert measured.bit_error_rate.mean == pytest.approx(0.2, abs=0.02)


def test_a_doubtful_model_that_is_always_right_has_the_calibration_error_of_its_doubt():
    measured = inference_of(constructed_model(Uncoded().build(4), logit_of(0.3), 200.0), 1000, generator())
    assert measured.calibration_error == pytest.approx(0.3, abs=1e-6)


def test_inference_in_several_pieces_counts_every_word_once(monkeypatch):
    monkeypatch.setattr(inference, "_ROWS", 300)
    measured = inference_of(constructed_model(Uncoded().build(3), 40.0, logit_of(0.25)), 1000, generator())
    # Rates of 1000 words and of no other number, with the standard error of as many.
    assert (measured.word_error_rate.mean * 1000) % 1 == pytest.approx(0, abs=1e-9)
    p = measured.word_error_rate.mean
    assert measured.word_error_rate.standard_error == pytest.approx(math.sqrt(p * (1 - p) / 999), rel=1e-9)
    assert measured.bit_error_rate.mean == pytest.approx(0.25, abs=0.05)


def test_the_errors_of_active_bits_leave_out_the_bits_that_carry_nothing():
    # Pixel k shows bit k, wrong with probability 0.2, for two bits; the decoder gives the third no pixel to stand on.
    model = constructed_model(Uncoded().build(3), 40.0, logit_of(0.2))
    with torch.no_grad():
        model.decoder.layers[-1].weight[2].zero_()
        model.decoder.layers[-1].bias[2].zero_()
    active = torch.tensor([True, True, False])
    measured = measure_inference(model, 20_000, active, generator(1))
    assert measured.active_bit_error_rate is not None
    errors = [measured.bit_error_rate, measured.active_bit_error_rate]
    for rate, expected, bits in zip(errors, ((0.2 + 0.2 + 0.5) / 3, 0.2), (3, 2), strict=True):
        assert abs(rate.mean - expected) < joint_threshold(2) * 0.5 / math.sqrt(bits * 20_000)
    assert measure_inference(model, 100, ~active & active, generator(1)).active_bit_error_rate is None


def test_inference_is_decided_by_its_generator():
    model, state = constructed_model(Hamming().build(7), 1.0, 1.0), torch.get_rng_state()
    first, again, other = (inference_of(model, 200, generator(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert torch.equal(torch.get_rng_state(), state)


# Calibration


def test_the_calibration_error_of_a_small_table_by_hand():
    # Bins [.55, .60): |1 − (.56 + .58)| = .14; [.70, .75): |1 − .72| = .28; [.95, 1]: |1 − (.97 + .99)| = .96; of five.
    confidence = torch.tensor([0.56, 0.58, 0.72, 0.97, 0.99], dtype=torch.float64)
    correct = torch.tensor([True, False, True, True, False])
    assert expected_calibration_error(confidence, correct) == pytest.approx((0.14 + 0.28 + 0.96) / 5, abs=1e-12)


def test_a_sure_mistake_is_the_worst_and_a_sure_hit_the_best():
    assert expected_calibration_error(torch.ones(4), torch.zeros(4, dtype=torch.bool)) == 1.0
    assert expected_calibration_error(torch.ones(4), torch.ones(4, dtype=torch.bool)) == 0.0
    assert expected_calibration_error(torch.full((4,), 0.5), torch.tensor([True, False] * 2)) == 0.0


@pytest.mark.parametrize("number", range(10))
def test_a_confidence_on_an_edge_belongs_to_the_upper_bin(number):
    """Beside one of the same bin that is wrong, its excess is taken off; in another bin the two would add."""
    edge = round(0.5 + number / 20, 2)
    confidence = torch.tensor([edge, edge + 0.04], dtype=torch.float64)
    together = abs(1 - (2 * edge + 0.04)) / 2
    assert expected_calibration_error(confidence, torch.tensor([True, False])) == pytest.approx(together, abs=1e-9)


@given(pairs=st.lists(st.tuples(st.floats(0.5, 1.0), st.booleans()), min_size=1, max_size=40), bins=st.integers(1, 20))
@property_settings
def test_more_bins_only_see_more_and_one_bin_sees_the_mean(pairs, bins):
    confidence = torch.tensor([confidence for confidence, _ in pairs], dtype=torch.float64)
    correct = torch.tensor([right for _, right in pairs])
    whole = abs(correct.double().mean() - confidence.mean()).item()
    error = expected_calibration_error(confidence, correct, bins)
    assert expected_calibration_error(confidence, correct, 1) == pytest.approx(whole, abs=1e-9)
    assert whole - 1e-9 <= error <= (correct.double() - confidence).abs().mean().item() + 1e-9
    assert expected_calibration_error(confidence.flip(0), correct.flip(0), bins) == pytest.approx(error, abs=1e-9)


# Reconstruction


def test_psnr_by_hand():
    target = torch.tensor([[0.0, 1.0, 1.0, 0.0]] * 3)
    decoded = torch.stack([target[0] * 0.8 + 0.1, torch.full((4,), 0.5), torch.tensor([1.0, 0.0, 0.0, 1.0])])
    # Mean square errors of 0.01, 0.25 and 1.
    assert peak_signal_to_noise_ratio(decoded, target).tolist() == pytest.approx([20.0, 6.0206, 0.0], abs=1e-4)


def test_the_psnr_of_a_perfect_image_is_large_and_finite():
    value = peak_signal_to_noise_ratio(torch.ones(1, 4), torch.ones(1, 4)).item()
    assert 300 < value < math.inf


def test_reconstruction_averages_the_psnr_of_images_and_not_their_errors():
    """Pixels of 0.9 for right code bits: 20 dB. With the first pixel grey the two decoded tenths are (0.4, 0.1) off."""
    model = constructed_model(Uncoded().build(2), 40.0, logit_of(0.1))
    measured = measure_reconstruction(model, torch.tensor([[1.0, 0.0], [0.49, 0.0]]))
    second = -10 * math.log10(((0.49 - 0.1) ** 2 + 0.1**2) / 2)
    assert measured.psnr.mean == pytest.approx((20 + second) / 2, abs=1e-4)
    assert measured.psnr.standard_error == pytest.approx(abs(20 - second) / 2, abs=1e-4)
    assert measured.error.mean == 0.0


def test_a_reconstruction_goes_through_the_nearest_word_and_not_through_the_pixels_themselves():
    """A single wrong copy is outvoted, so one pixel in six differs from the data."""
    model = constructed_model(Repetition(R=3).build(6), 2.0, 200.0)
    x = torch.tensor([[1, 0, 1, 0, 1, 0], [1, 0, 0, 0, 1, 0]], dtype=torch.uint8)
    measured = measure_reconstruction(model, x)
    assert measured.error.mean == pytest.approx(1 / 12)
    assert measured.error.standard_error == pytest.approx(1 / 12)


@every_small_code
def test_codewords_as_images_are_reconstructed_exactly(spec, n):
    code = spec.build(n)
    words = torch.tensor(all_words(code.k))
    measured = measure_reconstruction(constructed_model(code, 5.0, 200.0), code.encode(words).to(torch.uint8))
    assert measured.error.mean == 0.0
    assert measured.psnr.mean > 300
