"""Draw samples from a trained model, with the quality of the model beside them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch

from bvae_cli import files
from bvae_cli.evaluation.samples import novelty, uniqueness
from bvae_cli.model.bvae import Samples
from bvae_cli.trained import SampleConfig
from bvae_cli.workflows.measuring import OnNote, Quality, measure_on, prepare
from bvae_cli.workflows.sheets import require_bits


@dataclass(frozen=True)
class SampleResult:
    """Where the samples are, how various and new they are, and the quality of the model that made them.

    ``novelty`` is None where the training data are not bits: nothing there can equal a hard sample.
    """

    file: Path
    count: int
    uniqueness: float
    novelty: float | None
    quality: Quality
    probabilities: Any
    feature_shape: tuple[int, ...]


def sample(config: SampleConfig, named: frozenset[str] = frozenset(), on_note: OnNote | None = None) -> SampleResult:
    """Write ``samples_seed_S.npz`` (probabilities, samples, information_bits, codewords) and return what it holds.

    Raises InputOutputError where weights or data cannot be read or the folder cannot be written, UsageError for a fixed bit
    that the model does not have.
    """
    rebuilt, x, splits = prepare(config, named, on_note)
    generator = torch.Generator(x.device).manual_seed(config.seed)
    fixed = {bit - 1: value for bit, value in config.fixed.items()}
    require_bits(rebuilt, config.fixed, "fix")
    samples = rebuilt.model.sample(config.num_samples, generator, config.temperature, fixed)
    folder = config.out if config.out is not None else rebuilt.weights.parent / "samples"
    file = folder / f"samples_seed_{config.seed}.npz"
    files.write_file(file, _packed(samples))
    are_bits = splits.train.dtype == torch.uint8
    return SampleResult(
        file=file,
        count=config.num_samples,
        uniqueness=uniqueness(samples.images),
        novelty=novelty(samples.images, splits.train) if are_bits else None,
        quality=measure_on(rebuilt, x, config),
        probabilities=samples.probabilities.cpu().numpy(),
        feature_shape=splits.feature_shape,
    )


def _packed(samples: Samples) -> bytes:
    buffer = io.BytesIO()
    numpy.savez_compressed(
        buffer,
        probabilities=samples.probabilities.cpu().numpy(),
        samples=samples.images.to(torch.uint8).cpu().numpy(),
        information_bits=samples.information_bits.to(torch.uint8).cpu().numpy(),
        codewords=samples.codewords.to(torch.uint8).cpu().numpy(),
    )
    return buffer.getvalue()
