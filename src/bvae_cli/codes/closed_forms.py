"""Error rates of codes in closed form, in plain Python floats: no torch, no numpy.

ε is the probability that a binary symmetric channel flips a bit; σ the deviation of Gaussian noise on a signal of ±1.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, erfc, exp, expm1, log, log1p, log2, sqrt
from statistics import NormalDist


def majority_bit_error_rate(copies: int, epsilon: float) -> float:
    r"""Bit error rate of a repetition code under hard majority, ties broken by a fair coin.

    :math:`\sum_{i > R/2} \binom{R}{i} ε^i (1-ε)^{R-i}`, and for even R half of the term :math:`i = R/2`. With R = 2 this
    is exactly ε: a majority of two copies corrects nothing.

    >>> round(majority_bit_error_rate(3, 0.05), 5)
    0.00725
    >>> majority_bit_error_rate(2, 0.05)
    0.05
    """
    if copies == 2:
        return epsilon  # exactly, where the sum of the two terms would round
    wrong = sum(
        comb(copies, errors) * epsilon**errors * (1 - epsilon) ** (copies - errors)
        for errors in range(copies // 2 + 1, copies + 1)
    )
    if copies % 2 == 0:
        wrong += 0.5 * comb(copies, copies // 2) * (epsilon * (1 - epsilon)) ** (copies // 2)
    return wrong


def summed_logits_bit_error_rate(copies: int, epsilon: float) -> float:
    """Bit error rate of a repetition code under soft decoding, Q(√R · Q⁻¹(ε)).

    The copies cross a channel with Gaussian noise, of the strength at which a single bit sent alone is wrong with
    probability ε; the receiver adds the logits.

    >>> round(summed_logits_bit_error_rate(2, 0.158655254), 4)
    0.0786
    """
    if epsilon <= 0.0:
        return 0.0
    return q_function(sqrt(copies) * -NormalDist().inv_cdf(epsilon))


def q_function(x: float) -> float:
    """Probability Q(x) that a standard normal variable exceeds x."""
    return 0.5 * erfc(x / sqrt(2))


def nearest_codeword_block_error_rate(leaders: Sequence[int], length: int, epsilon: float) -> float:
    """Block error rate of a linear code decoded to a nearest codeword, Σ_i (C(n, i) − a_i) ε^i (1−ε)^{n−i}.

    ``leaders[i]`` is a_i, the number of coset leaders of weight i (MacWilliams and Sloane 1977, ch. 1 §5). Patterns that
    are not corrected are summed: one less those that are would lose all digits of a small rate.

    >>> round(nearest_codeword_block_error_rate([1, 7], 7, 0.05), 6)
    0.044381
    >>> f"{nearest_codeword_block_error_rate([1, 7], 7, 1e-9):.3g}"
    '2.1e-17'
    """
    if epsilon <= 0.0:
        return 0.0
    wrong = [comb(length, i) - (leaders[i] if i < len(leaders) else 0) for i in range(length + 1)]
    # Through logarithms: a number of patterns may be larger than any float.
    logs = [log(count) + i * log(epsilon) + (length - i) * log1p(-epsilon) for i, count in enumerate(wrong) if count]
    return min(1.0, sum(map(exp, logs)))


def any_of(count: int, rate: float) -> float:
    """Probability 1 − (1 − rate)^count that any of ``count`` independent events of probability ``rate`` happens."""
    return 1.0 if rate >= 1.0 else -expm1(count * log1p(-rate))


def any_of_each(rates: Sequence[float]) -> float:
    """Probability 1 − ∏ (1 − rate) that any of independent events happens.

    >>> round(any_of_each([0.1, 0.05]), 6)
    0.145
    """
    return 1.0 if any(rate >= 1.0 for rate in rates) else -expm1(sum(log1p(-rate) for rate in rates))


def channel_capacity(epsilon: float) -> float:
    """Capacity 1 − H₂(ε) of a binary symmetric channel, in bits for each bit sent.

    >>> round(channel_capacity(0.05), 3)
    0.714
    """
    if epsilon in (0.0, 1.0):
        return 1.0
    return 1.0 + epsilon * log2(epsilon) + (1 - epsilon) * log2(1 - epsilon)
