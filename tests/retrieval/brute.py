"""What a search must find, one code after the other in plain Python."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np


def hamming(one: Sequence[int], other: Sequence[int]) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def penalty(logits: Sequence[float], code: Sequence[int]) -> float:
    """Return Σ |λ| over the bits that are not as the logits say."""
    return math.fsum(abs(logit) for logit, bit in zip(logits, code, strict=True) if bit != (logit > 0))


def ranked(distances: Sequence[float], k: int, without: int | None = None) -> list[tuple[float, int]]:
    """Return distance and number of the k nearest, the lower number first where distances are equal."""
    return sorted((distance, number) for number, distance in enumerate(distances) if number != without)[:k]


def packed(bits: object) -> np.ndarray:
    return np.packbits(np.asarray(bits, np.uint8), axis=1)


def average_precision(relevant: Sequence[bool]) -> Fraction:
    """Return the mean, over the relevant places of one ranking, of the share that is relevant up to there."""
    seen, total = 0, Fraction(0)
    for place, hit in enumerate(relevant, 1):
        if hit:
            seen += 1
            total += Fraction(seen, place)
    return total / seen
