"""Everything that a comparison measures of one model, in one go and by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

import torch
from torch import Generator, Tensor

from bvae_cli.codes.base import CodeSpec
from bvae_cli.datasets.rows import Rows
from bvae_cli.evaluation.channel import measure_channel
from bvae_cli.evaluation.classifier import Classifier, accuracy, features_of, train_classifier
from bvae_cli.evaluation.inference import Reliability, draw_inference, reliability
from bvae_cli.evaluation.latent import active, latent_use, posterior_logits
from bvae_cli.evaluation.likelihood import bits_per_dim, bound_values
from bvae_cli.evaluation.metrics import at
from bvae_cli.evaluation.samples import comparable, frechet_distance, novelty, uniqueness
from bvae_cli.evaluation.statistics import Estimate, estimate
from bvae_cli.evaluation.storage import store_and_read
from bvae_cli.model.bvae import BinaryVAE
from bvae_cli.model.objective import bitwise_surrogate

_ROWS = 2000


@dataclass(frozen=True)
class Judge:
    """The fixed classifier with its accuracy on real test rows, and its features of them; the same for every model."""

    classifier: Classifier
    accuracy: float
    features: Tensor


@dataclass(frozen=True)
class Assessment:
    """What was measured: by metric a mean with its standard error, and by image (or drawn word) the values behind it."""

    metrics: dict[str, Estimate]
    by_image: dict[str, Tensor]
    reliability: Reliability


def new_judge(train: Tensor | Rows, train_labels: Tensor, test: Tensor | Rows, test_labels: Tensor) -> Judge:
    """Train the judge on real training rows, and read the real test rows with it."""
    classifier = train_classifier(train, train_labels)
    return Judge(classifier, accuracy(classifier, test, test_labels), features_of(classifier, test))


@torch.no_grad()
def assess(
    model: BinaryVAE,
    x: Tensor | Rows,
    *,
    training: Tensor | Rows,
    labels: Tensor | None = None,
    judge: Judge | None = None,
    iwae_samples: int = 64,
    epsilons: Sequence[float] = (0.0,),
    calibration_bins: int = 10,
    sampling: str = "codeword",
    seed: int = 0,
) -> Assessment:
    """Measure a model on rows ``x [rows, D]`` that it was not trained on; every draw is decided by ``seed``.

    ``training`` is what samples are held against for novelty, ``judge`` reads decoded images and samples where there are
    ``labels``. With ``sampling`` ``bitwise`` the surrogate of that training is measured beside the bounds.
    """
    generator = Generator(x.device).manual_seed(seed)
    bounds = bound_values(model, x, iwae_samples, generator)
    draws = draw_inference(model, len(x), generator)
    by_image = {
        "elbo": bounds.elbo,
        "iwae": bounds.iwae,
        "kl": bounds.kl,
        "inference_bit_error_rate": draws.wrong_bits.float().mean(-1),
        "inference_word_error_rate": draws.wrong_bits.any(-1).float(),
    }
    logits = posterior_logits(model, x)
    if (of_active := draws.of_active(active(logits))) is not None:
        by_image["inference_active_bit_error_rate"] = of_active
    if bounds.log_likelihood is not None:
        by_image["log_likelihood"] = bounds.log_likelihood
    if sampling == "bitwise":
        by_image["bitwise_surrogate"] = torch.cat(
            [bitwise_surrogate(model, chunk.float(), generator) for chunk in x.split(_ROWS)]
        )
    for epsilon in epsilons:
        by_image |= _stored(model, x, epsilon, generator, labels, judge)
    by_image = {name: values.float().cpu() for name, values in by_image.items()}
    diagram = reliability(draws.confidence, ~draws.wrong_bits, calibration_bins)
    metrics = {name: estimate(values) for name, values in by_image.items()}
    metrics["bits_per_dim"] = bits_per_dim(metrics["elbo"], model.features)
    metrics["calibration_error"] = Estimate(diagram.expected_calibration_error)
    metrics |= _latent_use(logits) | _channel(model, epsilons, len(x), seed) | _samples(model, len(x), training, judge, seed)
    return Assessment(metrics, by_image, diagram)


def closed_forms(spec: CodeSpec, n: int, epsilons: Sequence[float]) -> dict[str, float]:
    """Return what a code knows of its error rates on ``n`` code bits, under the names of what is measured."""
    known: dict[str, float] = {}
    for epsilon in epsilons:
        rates = spec.error_rates(n, epsilon)
        if rates.hard_bit is not None:
            known[at("channel_bit_error_rate", epsilon)] = known[at("stored_bit_error_rate", epsilon)] = rates.hard_bit
        if rates.hard_word is not None:
            known[at("channel_word_error_rate", epsilon)] = rates.hard_word
    return known


def closed_form_curves(spec: CodeSpec, n: int, points: int = 50) -> dict[str, list[float]]:
    """Return the channel's closed forms along ``epsilon`` from 0.001 to ½, evenly spaced in its logarithm."""
    epsilons = [0.5 * 500 ** (index / (points - 1) - 1) for index in range(points)]
    known = [closed_forms(spec, n, [epsilon]) for epsilon in epsilons]
    names = {name.partition("@")[0] for name in known[0] if name.startswith("channel")}
    curves = {name: [next(v for key, v in row.items() if key.startswith(name)) for row in known] for name in sorted(names)}
    return {"epsilon": epsilons, **curves} if curves else {}


def _stored(
    model: BinaryVAE, x: Tensor | Rows, epsilon: float, generator: Generator, labels: Tensor | None, judge: Judge | None
) -> dict[str, Tensor]:
    classifier = None if judge is None else judge.classifier
    parts: dict[str, list[Tensor]] = {}
    # Some rows at once: what is decoded of all of them is as large as the data.
    for chunk, of_chunk in zip(x.split(_ROWS), repeat(None) if labels is None else labels.split(_ROWS), strict=False):
        read = store_and_read(model, chunk, epsilon, generator, classifier, of_chunk)
        parts.setdefault("stored_nll", []).append(read.negative_log_likelihood)
        if model.likelihood.name == "bernoulli":
            parts.setdefault("stored_psnr", []).append(read.psnr)
        parts.setdefault("stored_bit_error_rate", []).append(read.bit_error_rate)
        if read.recognised is not None:
            parts.setdefault("stored_accuracy", []).append(read.recognised)
    return {at(name, epsilon): torch.cat(values) for name, values in parts.items()}


def _latent_use(logits: Tensor) -> dict[str, Estimate]:
    use = latent_use(logits)
    return {
        "active_bits": Estimate(float(use.active_bits)),
        "bit_balance": Estimate(use.bit_balance),
        "bit_entropy": Estimate(use.bit_entropy),
    }


def _channel(model: BinaryVAE, epsilons: Sequence[float], words: int, seed: int) -> dict[str, Estimate]:
    measured = {}
    for epsilon in epsilons:
        errors = measure_channel(model.code, epsilon, words, "hard", seed)
        measured[at("channel_bit_error_rate", epsilon)] = errors.bit_error_rate
        measured[at("channel_word_error_rate", epsilon)] = errors.word_error_rate
    return measured


def _samples(model: BinaryVAE, count: int, training: Tensor | Rows, judge: Judge | None, seed: int) -> dict[str, Estimate]:
    device = model.encoder.mean.device
    samples = model.sample(count, Generator(device).manual_seed(seed)).rows
    measured = {"sample_uniqueness": Estimate(uniqueness(samples))}
    if comparable(training, model.likelihood.row_dtype):
        measured["sample_novelty"] = Estimate(novelty(samples, training))
    if judge is not None:
        distance = frechet_distance(judge.classifier.features(samples), judge.features)
        measured["sample_frechet_distance"] = Estimate(distance)
    return measured
