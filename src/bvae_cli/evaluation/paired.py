"""The difference of two arms over the same seeds, and what can be said of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy

from bvae_cli.evaluation.metrics import Better
from bvae_cli.evaluation.statistics import ALPHA, Interval, bootstrap_interval, sign_flip_p_value, student_interval

Verdict = Literal["better", "worse", "not shown"]


@dataclass(frozen=True)
class Ratio:
    """Geometric mean over seeds of arm / reference, with Student's t interval of its logarithm."""

    mean: float
    interval: Interval | None


@dataclass(frozen=True)
class Paired:
    """Arm − reference. The seed is the unit of ``seed_interval`` and ``p_value``, the image that of ``image_interval``.

    ``p_value`` is that of the exact sign-flip test, None for a single seed; ``image_interval`` holds for these very models
    and is None where a metric has no value for each image.
    """

    differences: list[float]
    mean: float
    seed_interval: Interval | None
    p_value: float | None
    image_interval: Interval | None
    ratio: Ratio | None


def paired(arm: Sequence[float], reference: Sequence[float], is_rate: bool = False) -> Paired:
    """Compare an arm with its reference, seed by seed; ``is_rate`` adds the ratio of two error rates.

    >>> effect = paired([3.0, 4.0], [1.0, 3.0])
    >>> effect.differences, effect.mean, effect.p_value
    ([2.0, 1.0], 1.5, 0.5)
    """
    differences = [mine - theirs for mine, theirs in zip(arm, reference, strict=True)]
    return Paired(
        differences=differences,
        mean=math.fsum(differences) / len(differences),
        seed_interval=student_interval(differences),
        p_value=sign_flip_p_value(differences) if len(differences) > 1 else None,
        image_interval=None,
        ratio=_ratio(arm, reference) if is_rate else None,
    )


def over_images(arm: Sequence[Any], reference: Sequence[Any], samples: int) -> Interval | None:
    """Bootstrap interval over images of the mean difference of given models; each sequence holds ``[images]`` by seed.

    The values of an image are first averaged over the seeds, so that the images alone are resampled.
    """
    means = [
        numpy.mean([numpy.asarray(values, dtype=numpy.float64) for values in arms], axis=0) for arms in (arm, reference)
    ]
    return bootstrap_interval(means[0] - means[1], samples)


def verdict(mean: float, adjusted_p_value: float | None, better: Better) -> Verdict:
    """Say what a claim comes to: a difference is shown where its adjusted p is at most 0.05."""
    if adjusted_p_value is None or adjusted_p_value > ALPHA or mean == 0:
        return "not shown"
    return "better" if (mean > 0) == (better == "higher") else "worse"


def _ratio(arm: Sequence[float], reference: Sequence[float]) -> Ratio | None:
    if min(*arm, *reference) <= 0:
        return None  # an arm without an error has no logarithm
    logarithms = [math.log(mine / theirs) for mine, theirs in zip(arm, reference, strict=True)]
    interval = student_interval(logarithms)
    bounds = None if interval is None else Interval(math.exp(interval.low), math.exp(interval.high))
    return Ratio(math.exp(math.fsum(logarithms) / len(logarithms)), bounds)
