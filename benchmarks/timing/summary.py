"""Medians, quartiles and ratios of rounds, and the arithmetic of a training step; nothing here needs torch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

FEATURES = 784


class Spread(NamedTuple):
    """Lower quartile, median and upper quartile, linear between values (type 7); of one value, that value."""

    low: float
    middle: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Return the quartiles of values, one or more.

    >>> spread([1.0, 2.0, 3.0, 4.0, 10.0])
    Spread(low=2.0, middle=3.0, high=4.0)
    """
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    return Spread(*statistics.quantiles(values, n=4, method="inclusive"))


def ratios(values: Sequence[float], yardstick: Sequence[float]) -> list[float]:
    """Return value / yardstick of the same round, for every round.

    Raises ValueError where the rounds are not as many.

    >>> ratios([3.0, 4.0], [2.0, 1.0])
    [1.5, 4.0]
    """
    return [value / one for value, one in zip(values, yardstick, strict=True)]


def flop_per_image(hidden: int, latent: int, depth: int, features: int = FEATURES) -> int:
    """Return the FLOP that the matrix products of a training step take for each image.

    With W weights: 2 W forward, 2 W for the weights' gradients, and 2 W for the inputs' gradients, but for those of the
    first layer, whose inputs are the data.

    >>> flop_per_image(hidden=1, latent=1, depth=1, features=10)
    112
    """
    first = features * hidden
    perceptron = first + (depth - 1) * hidden * hidden + hidden * latent
    weights = 2 * perceptron
    return 2 * weights + 2 * weights + 2 * (weights - first)


def significant(value: float, digits: int = 5) -> float:
    """Return a value with so many digits: what a file of measurements keeps.

    >>> significant(123456.789)
    123460.0
    """
    return float(f"{value:.{digits}g}")
