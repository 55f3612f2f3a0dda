"""A measured mean and how sure it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A mean and its standard error (None where the value is exact or no error can be given)."""

    mean: float
    standard_error: float | None = None


def estimate(values: Tensor) -> Estimate:
    """Return the mean of independent values ``[n]`` and its standard error s/√n, with s of n − 1 degrees of freedom."""
    values = values.cpu().double()  # not every device has float64
    error = float(values.std() / math.sqrt(len(values))) if len(values) > 1 else None
    return Estimate(float(values.mean()), error)
