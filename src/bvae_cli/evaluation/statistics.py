"""How sure a measured mean is, and what a paired comparison of several seeds can and cannot show."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
from torch import Tensor

CONFIDENCE = 0.95
# Family-wise error rate of a comparison's claims.
ALPHA = 0.05
# All 2^n signs are tried up to here; beyond, so many random ones.
_EXACT_SEEDS = 20
_RANDOM_SIGNS = 100_000
_RESAMPLED_AT_ONCE = 50
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A mean and its standard error (None where the value is exact or no error can be given)."""

    mean: float
    standard_error: float | None = None


@dataclass(frozen=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float


def estimate(values: Tensor) -> Estimate:
    """Return the mean of independent values ``[n]`` and its standard error s/√n, with s of n − 1 degrees of freedom."""
    values = values.cpu().double()  # not every device has float64
    error = float(values.std() / math.sqrt(len(values))) if len(values) > 1 else None
    return Estimate(float(values.mean()), error)


def student_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """Student's t interval of the mean, d̄ ± t_{n−1} s/√n; None for fewer than two values.

    For paired differences over seeds this is the default: from a handful of seeds percentile and BCa bootstraps are too
    narrow (docs/evaluation.md shows the simulation).

    >>> interval = student_interval([1.0, 2.0, 3.0])
    >>> round(interval.low, 6), round(interval.high, 6)
    (-0.484138, 4.484138)
    """
    from scipy import stats

    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    deviation = float(numpy.std(values, ddof=1))
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1)) * deviation / math.sqrt(len(values))
    return Interval(mean - half, mean + half)


def bootstrap_interval(values: Any, samples: int, seed: int = 0, confidence: float = CONFIDENCE) -> Interval | None:
    """Percentile bootstrap interval of the mean over many units, such as images ``[n]`` (Efron 1979).

    None for fewer than two values. For a handful of units, such as seeds, it is too narrow: use ``student_interval``.
    """
    from scipy import stats

    values = numpy.asarray(values, dtype=numpy.float64)
    if len(values) < 2:
        return None
    if not numpy.ptp(values):
        return Interval(float(values[0]), float(values[0]))
    result = stats.bootstrap(
        (values,),
        numpy.mean,
        n_resamples=samples,
        batch=_RESAMPLED_AT_ONCE,
        confidence_level=confidence,
        method="percentile",
        rng=numpy.random.default_rng(seed),
    )
    return Interval(float(result.confidence_interval.low), float(result.confidence_interval.high))


def sign_flip_p_value(differences: Sequence[float], seed: int = 0) -> float:
    """Two-sided p of the paired permutation test: share of sign patterns whose mean is at least as far from 0.

    Fisher 1935, §21. Exact over all 2^n patterns up to 20 differences, beyond that over 100,000 random ones. Under the
    null a difference is as likely as its negative.

    >>> sign_flip_p_value([1.0, 2.0, 3.0, 4.0])
    0.125
    """
    from scipy import stats

    values = numpy.asarray(differences, dtype=numpy.float64)
    # A single difference and its negative are equally far from 0; so is a mean of 0, which rounding seldom leaves exact.
    if len(values) < 2 or abs(values.mean()) <= _ROUNDING * abs(values).max():
        return 1.0
    exact = len(values) <= _EXACT_SEEDS
    result = stats.permutation_test(
        (values,),
        lambda flipped, axis: numpy.mean(flipped, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=numpy.inf if exact else _RANDOM_SIGNS,
        rng=numpy.random.default_rng(seed),
    )
    return float(result.pvalue)


def smallest_p_value(seeds: int) -> float:
    """Return the least p, 2/2ⁿ, that the exact sign-flip test of n differences can give (1 for none).

    >>> smallest_p_value(8)
    0.0078125
    """
    return min(1.0, 2.0 ** (1 - seeds))


def seeds_needed(claims: int, alpha: float = ALPHA) -> int:
    """Return the least number of seeds with which each of ``claims`` claims could still be significant after Holm.

    >>> seeds_needed(1), seeds_needed(6)
    (6, 8)
    """
    return next(seeds for seeds in itertools.count(1) if smallest_p_value(seeds) <= alpha / max(1, claims))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values of a family of claims: the family's false positive rate stays below α (Holm 1979).

    Sorted upwards, the i-th of m (from 0) is multiplied by m − i; none is below one before it, none above 1.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
