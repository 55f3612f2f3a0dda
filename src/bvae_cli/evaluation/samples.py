"""How various, how new and how lifelike samples are."""

from __future__ import annotations

import numpy
import torch
from torch import Tensor

from bvae_cli.datasets.rows import Rows, pieces


def uniqueness(samples: Tensor) -> float:
    """Share of distinct rows among samples ``[S, D]`` (Polykovskiy et al. 2020, MOSES)."""
    return len(_distinct(samples, bool(((samples == 0) | (samples == 1)).all()))) / len(samples)


def novelty(samples: Tensor, training: Tensor | Rows) -> float:
    """Share of the distinct hard samples ``[S, D]`` that are not among the training rows ``[rows, D]`` (MOSES).

    Rows of symbols are int16; all others are taken for bits, as ``comparable`` says of them.
    """
    are_bits = training.dtype is not torch.int16
    distinct = _distinct(samples, are_bits)
    known: set[bytes] = set()
    for piece in pieces(training):
        known |= distinct & _distinct(piece.to(samples.dtype), are_bits)
    return len(distinct - known) / len(distinct)


def comparable(training: Tensor | Rows, row_dtype: torch.dtype) -> bool:
    """Say whether samples, held as ``row_dtype``, can equal training rows but by chance: both are bits, or both symbols."""
    return training.dtype is row_dtype and not row_dtype.is_floating_point


def frechet_distance(some: Tensor, others: Tensor) -> float:
    """Fréchet distance of two sets of features ``[S, F]`` and ``[T, F]``, each taken for Gaussian.

    ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½), Heusel et al. 2017, eq. 6; here the features are those of a classifier trained
    on the data at hand, so the values compare with each other only. 0 for equal sets.

    The trace of the root is Σ √λ over the eigenvalues λ of Σ₁Σ₂, which are real and not negative.
    """
    first, second = (features.detach().cpu().double().numpy() for features in (some, others))
    offset = first.mean(0) - second.mean(0)
    one, two = numpy.atleast_2d(numpy.cov(first, rowvar=False)), numpy.atleast_2d(numpy.cov(second, rowvar=False))
    # Σ₁Σ₂ has the eigenvalues of the symmetric Σ₁^½ Σ₂ Σ₁^½, whose eigenvalues do not stray into the complex plane.
    values, vectors = numpy.linalg.eigh(one)
    root = (vectors * numpy.sqrt(values.clip(0))) @ vectors.T
    crossed = numpy.linalg.eigvalsh(root @ two @ root).clip(0)
    distance = offset @ offset + numpy.trace(one) + numpy.trace(two) - 2 * numpy.sqrt(crossed).sum()
    return max(0.0, float(distance))


def _distinct(rows: Tensor, are_bits: bool) -> set[bytes]:
    values = numpy.packbits((rows > 0.5).cpu().numpy(), axis=-1) if are_bits else rows.cpu().numpy()
    return {row.tobytes() for row in values}
