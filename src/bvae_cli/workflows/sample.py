"""Draw samples from a trained model, with the quality of the model beside them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch

from bvae_cli import files
from bvae_cli.evaluation.samples import comparable, novelty, uniqueness
from bvae_cli.model.bvae import Samples
from bvae_cli.model.likelihoods import Likelihood
from bvae_cli.trained import SampleConfig
from bvae_cli.workflows.measuring import OnNote, Quality, measure_on, prepare
from bvae_cli.workflows.sheets import require_bits


@dataclass(frozen=True)
class SampleResult:
    """Where the samples are, how various and new they are, and the quality of the model that made them.

    ``novelty`` is None where the training data are neither bits nor symbols: nothing there equals a sample but by chance.
    ``pictures`` are what a picture shows of the means, ``[count, D]`` in 0…1. Symbols that have names are also written as
    text, a sample a line, into ``text_file``.
    """

    file: Path
    text_file: Path | None
    count: int
    uniqueness: float
    novelty: float | None
    quality: Quality
    pictures: Any
    feature_shape: tuple[int, ...]


def sample(config: SampleConfig, named: frozenset[str] = frozenset(), on_note: OnNote | None = None) -> SampleResult:
    """Write ``samples_seed_S.npz``, whose name tells what else was asked for, and return what it holds:
    ``information_bits``, ``codewords``, ``samples``, and ``probabilities``, or ``means`` where rows are neither bits nor
    symbols.

    Raises InputOutputError where weights or data cannot be read or the folder cannot be written, UsageError for a fixed bit
    that the model does not have, and for a temperature at which its likelihood cannot be drawn from.
    """
    rebuilt, x, splits = prepare(config, named, on_note)
    generator = torch.Generator(x.device).manual_seed(config.seed)
    fixed = {bit - 1: value for bit, value in config.fixed.items()}
    require_bits(rebuilt, config.fixed, "fix")
    samples = rebuilt.model.sample(config.num_samples, generator, config.temperature, fixed)
    folder = config.out if config.out is not None else rebuilt.weights.parent / "samples"
    file = folder / f"{config.file_stem(named)}.npz"
    likelihood = rebuilt.model.likelihood
    files.write_file(file, _packed(samples, likelihood))
    text_file = file.with_suffix(".txt") if splits.vocabulary else None
    if text_file is not None:
        files.write_file(text_file, "".join(f"{text}\n" for text in splits.texts_of(samples.rows)).encode())
    return SampleResult(
        file=file,
        text_file=text_file,
        count=config.num_samples,
        uniqueness=uniqueness(samples.rows),
        novelty=novelty(samples.rows, splits.train) if comparable(splits.train, likelihood.row_dtype) else None,
        quality=measure_on(rebuilt, x, config),
        pictures=likelihood.shades(likelihood.rows_of(samples.means)).cpu().numpy(),
        feature_shape=splits.feature_shape,
    )


def _packed(samples: Samples, likelihood: Likelihood) -> bytes:
    tensors = {
        likelihood.told: samples.means,
        "samples": samples.rows.to(likelihood.row_dtype),
        "information_bits": samples.information_bits.to(torch.uint8),
        "codewords": samples.codewords.to(torch.uint8),
    }
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: values.cpu().numpy() for name, values in tensors.items()}
    numpy.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
