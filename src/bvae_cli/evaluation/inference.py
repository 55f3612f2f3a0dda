"""The errors of the model: what its encoder makes of its own images, and what is left of an image that it encodes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from bvae_cli.datasets.rows import Rows
from bvae_cli.evaluation.statistics import Estimate, estimate
from bvae_cli.model.bvae import BinaryVAE

CALIBRATION_BINS = 10
_ROWS = 2000


@dataclass(frozen=True)
class InferenceErrors:
    """Bit and word error rates of the model on its own samples, and the expected calibration error of its bits.

    ``active_bit_error_rate`` counts active bits only; it is None where the model has none.
    """

    bit_error_rate: Estimate
    active_bit_error_rate: Estimate | None
    word_error_rate: Estimate
    calibration_error: float
    words: int


@dataclass(frozen=True)
class Reconstruction:
    """How far the decoder's answer to the most probable word is from the row: ``error``, in what ``error_name`` says.

    With the Bernoulli likelihood PSNR in dB (data range 1), and the share of wrong pixels.
    """

    psnr: Estimate | None
    error: Estimate
    error_name: str


class InferenceDraws(NamedTuple):
    """What became of words drawn from the prior: wrong bits ``[words, K]``, and the confidence in each bit."""

    wrong_bits: Tensor
    confidence: Tensor

    def of_active(self, active: Tensor) -> Tensor | None:
        """Return each word's share of wrong bits among the active, ``[words]``; None where no bit is ``active [K]``."""
        return self.wrong_bits[:, active.cpu()].double().mean(-1) if active.any() else None


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: share of bits, mean confidence and accuracy in each bin (None where a bin is empty).

    ECE = Σ_b share_b · abs(accuracy_b − confidence_b) (Naeini et al. 2015).
    """

    share: list[float]
    confidence: list[float | None]
    accuracy: list[float | None]

    @property
    def expected_calibration_error(self) -> float:
        """Return the ECE."""
        bins = zip(self.share, self.confidence, self.accuracy, strict=True)
        gaps = [share * abs(right - sure) for share, sure, right in bins if sure is not None and right is not None]
        return round(math.fsum(gaps), 12)


def measure_inference(model: BinaryVAE, words: int, active: Tensor, generator: Generator) -> InferenceErrors:
    """m ~ prior, x ~ p(x given C(m)), m̂ = 1[λ > 0]: share of wrong bits and of words with any wrong bit.

    ``active [K]`` says which bits are active, as ``latent.active`` does. The others tell nothing of an image and are a coin
    each, so that a model with many of them has a high error rate however well it reads the rest.
    """
    draws = draw_inference(model, words, generator)
    of_active = draws.of_active(active)
    return InferenceErrors(
        bit_error_rate=estimate(draws.wrong_bits.double().mean(-1)),
        active_bit_error_rate=None if of_active is None else estimate(of_active),
        word_error_rate=estimate(draws.wrong_bits.any(-1)),
        calibration_error=expected_calibration_error(draws.confidence, ~draws.wrong_bits),
        words=words,
    )


@torch.no_grad()
def draw_inference(model: BinaryVAE, words: int, generator: Generator) -> InferenceDraws:
    """Draw words from the prior and images from the words, and read the images back."""
    wrong, confidence = [], []
    for start in range(0, words, _ROWS):
        samples = model.sample(min(_ROWS, words - start), generator)
        posterior = model.encode(samples.rows)
        wrong.append((posterior.information_bits != samples.information_bits).cpu())
        confidence.append(torch.sigmoid(posterior.logits.abs()).cpu())
    return InferenceDraws(torch.cat(wrong), torch.cat(confidence))


def expected_calibration_error(confidence: Tensor, correct: Tensor, bins: int = CALIBRATION_BINS) -> float:
    """Σ_b (n_b / n) · abs(accuracy_b − mean confidence_b) over equal-width bins of the confidence in [½, 1].

    Naeini et al. 2015. A confidence on an edge belongs to the upper bin.

    >>> expected_calibration_error(torch.tensor([0.75, 0.75]), torch.tensor([True, False]))
    0.25
    """
    return reliability(confidence, correct, bins).expected_calibration_error


def reliability(confidence: Tensor, correct: Tensor, bins: int = CALIBRATION_BINS) -> Reliability:
    """Return the reliability diagram over equal-width bins of the confidence in [½, 1], of tensors of any one shape."""
    confidence, correct = confidence.flatten().cpu().double(), correct.flatten().cpu().double()
    # Multiplied before subtracting: 0.6 − 0.5 rounds below its edge.
    index = (confidence * 2 * bins - bins).long().clamp(0, bins - 1)
    count, sure, right = (
        torch.zeros(bins, dtype=torch.float64).index_add_(0, index, values).tolist()
        for values in (torch.ones_like(confidence), confidence, correct)
    )
    return Reliability(
        share=[number / len(confidence) for number in count],
        confidence=[total / number if number else None for total, number in zip(sure, count, strict=True)],
        accuracy=[total / number if number else None for total, number in zip(right, count, strict=True)],
    )


@torch.no_grad()
def measure_reconstruction(model: BinaryVAE, x: Tensor | Rows) -> Reconstruction:
    """Encode ``x [rows, D]`` to its most probable word, decode its codeword, and compare."""
    likelihood, psnr, errors = model.likelihood, [], []
    for chunk in x.split(_ROWS):
        target = chunk.float()
        decoded = model.decode(model.code.encode(model.encode(target).information_bits))
        errors.append(likelihood.error(decoded, target))
        if likelihood.name == "bernoulli":
            psnr.append(peak_signal_to_noise_ratio(decoded, target))
    return Reconstruction(estimate(torch.cat(psnr)) if psnr else None, estimate(torch.cat(errors)), likelihood.error_name)


def peak_signal_to_noise_ratio(decoded: Tensor, target: Tensor) -> Tensor:
    """−10 log₁₀ of the mean square error of each row, ``[rows, D] -> [rows]`` in dB, for a data range of 1."""
    error = (decoded - target).square().mean(-1)
    return -10 * torch.log10(error.clamp_min(torch.finfo(error.dtype).tiny))
