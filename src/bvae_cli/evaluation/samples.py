"""How various and how new samples are."""

from __future__ import annotations

import numpy
from torch import Tensor


def uniqueness(samples: Tensor) -> float:
    """Share of distinct rows among hard samples ``[S, D]`` (Polykovskiy et al. 2020, MOSES)."""
    return len(_distinct(samples)) / len(samples)


def novelty(samples: Tensor, training: Tensor) -> float:
    """Share of the distinct hard samples ``[S, D]`` that are not among the training rows ``[rows, D]`` (MOSES)."""
    distinct = _distinct(samples)
    return len(distinct - _distinct(training)) / len(distinct)


def _distinct(rows: Tensor) -> set[bytes]:
    packed = numpy.packbits((rows > 0.5).cpu().numpy(), axis=-1)
    return {row.tobytes() for row in packed}
