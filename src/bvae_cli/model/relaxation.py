"""Gradient estimators: how a loss that sees sampled bits passes its gradient to their logits.

Every estimator estimates E_{b ~ Bernoulli(σ(l))}[f(b)] for each row of a batch, from one uniform draw for each bit, in a
form whose gradient with respect to l is that estimator's. ``f`` maps bits ``[B, K]`` to a loss ``[B]`` and may be called
more than once; further dimensions may stand before B, such as that of several models. The bits are 0/1 (or between, where
an estimator is relaxed). Nothing is drawn here: the caller gives the noise, so that a run is decided by its seed alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

Loss = Callable[[Tensor], Tensor]

# Keeps log(u) and log(1 − u) finite in float32.
_SMALLEST_UNIFORM = 1e-6
# Inverse temperature b of the smoothing exponentials of `dvae`.
DVAE_INVERSE_TEMPERATURE = 15.0


class ExpectedLoss(Protocol):
    """``(f, logits [B, K], uniform [B, K], temperature) -> [B]``, differentiable in the logits and in what f uses."""

    def __call__(self, f: Loss, logits: Tensor, uniform: Tensor, temperature: float | Tensor) -> Tensor:
        """Estimate the expected loss of each row."""


class Estimator(NamedTuple):
    """An estimator, and whether its gradient is unbiased and its bits hard.

    ``decodings`` is how often f is called, ``pathwise`` whether the logits get their gradient through f and the bits.
    """

    expected_loss: ExpectedLoss
    unbiased: bool
    hard: bool
    decodings: int = 1
    pathwise: bool = True


def relaxed_bits(logits: Tensor, uniform: Tensor, temperature: float | Tensor) -> Tensor:
    """Binary concrete variables σ((l + ln u − ln(1 − u)) / τ); Maddison et al. 2017, appendix B."""
    uniform = uniform.clamp(_SMALLEST_UNIFORM, 1 - _SMALLEST_UNIFORM)
    return torch.sigmoid((logits + uniform.log() - torch.log1p(-uniform)) / temperature)


def gumbel(f: Loss, logits: Tensor, uniform: Tensor, temperature: float | Tensor) -> Tensor:
    """Relaxed bits, pathwise gradient (Maddison et al. 2017; Jang et al. 2017). Biased: f sees no hard bit."""
    return f(relaxed_bits(logits, uniform, temperature))


def gumbel_straight_through(f: Loss, logits: Tensor, uniform: Tensor, temperature: float | Tensor) -> Tensor:
    """Hard bits, the gradient of the relaxed ones (Jang et al. 2017, §2.2)."""
    relaxed = relaxed_bits(logits, uniform, temperature)
    return f((relaxed > 0.5).to(relaxed.dtype) + _gradient_only(relaxed))


def straight_through(f: Loss, logits: Tensor, uniform: Tensor, temperature: float | Tensor) -> Tensor:
    """Hard bits, df/dl = p(1 − p) · df/db with p = σ(l) (Bengio et al. 2013, §4). Exact where f is linear in each bit."""
    probabilities = torch.sigmoid(logits)
    return f((uniform < probabilities).to(logits.dtype) + _gradient_only(probabilities))


def reinmax(f: Loss, logits: Tensor, uniform: Tensor, temperature: float | Tensor) -> Tensor:
    """Hard bits, df/dl = ½ (1 − P(b)) · df/db, P(b) the probability of the drawn value (Liu et al. 2023, 2304.08612).

    This is the trapezoid rule for f(1) − f(0): unbiased where f is quadratic in the bit.
    """
    bits = (uniform < torch.sigmoid(logits)).to(logits.dtype)
    weight = 0.5 * torch.sigmoid(((1 - 2 * bits) * logits).detach())
    return f(bits + _gradient_only(weight * logits))


def disarm(f: Loss, logits: Tensor, uniform: Tensor, temperature: float | Tensor) -> Tensor:
    """Hard bits in an antithetic pair (b, b̃), unbiased (Dong et al. 2020, 2006.10680, eq. 9).

    b = 1[u > 1 − p], b̃ = 1[u < p], df/dl = ½ (f(b) − f(b̃)) (−1)^b̃ 1[b ≠ b̃] σ(|l|). The value is the mean of both.
    """
    probabilities = torch.sigmoid(logits.detach())
    bits = (uniform > 1 - probabilities).to(logits.dtype)
    antithetic = (uniform < probabilities).to(logits.dtype)
    loss, antithetic_loss = f(bits), f(antithetic)
    signs = (1 - 2 * antithetic) * (bits != antithetic)
    weight = 0.5 * (loss - antithetic_loss).detach().unsqueeze(-1) * signs * torch.sigmoid(logits.detach().abs())
    return 0.5 * (loss + antithetic_loss) + _gradient_only((weight * logits).sum(-1))


def smoothed_bits(logits: Tensor, uniform: Tensor, inverse_temperature: float = DVAE_INVERSE_TEMPERATURE) -> Tensor:
    """Bits smoothed by truncated exponentials, by the inverse of the mixture's distribution function.

    ζ has the density (1 − q) e^{−bζ} b/(1 − e^{−b}) + q e^{b(ζ−1)} b/(1 − e^{−b}) on [0, 1], q = σ(l); Vahdat et al. 2018,
    appendix. Written so that neither branch cancels: finite, with finite gradients, for l = −100 … 30 in float32.
    """
    shrink = math.exp(-inverse_temperature)
    q, p = torch.sigmoid(logits), torch.sigmoid(-logits)
    linear = uniform * (1 - shrink) + q * shrink - p
    root = (linear * linear + 4 * p * q * shrink).clamp_min(torch.finfo(logits.dtype).tiny).sqrt()
    upper = linear > 0
    # Each branch divides by what the other makes zero, so both are masked before they divide.
    for_upper = 2 * q * shrink / torch.where(upper, linear + root, 1.0)
    for_lower = (root - linear) / torch.where(upper, 1.0, 2 * p)
    exponential = torch.where(upper, for_upper, for_lower).clamp(shrink, 1.0)
    return -exponential.log() / inverse_temperature


def dvae(f: Loss, logits: Tensor, uniform: Tensor, temperature: float | Tensor) -> Tensor:
    """Smoothed bits, pathwise gradient (Rolfe 2017; Vahdat et al. 2018). Biased: f sees no hard bit."""
    return f(smoothed_bits(logits, uniform))


def _gradient_only(value: Tensor) -> Tensor:
    """Return a tensor of zeros whose gradient is that of ``value``: added to hard bits it leaves them exactly hard."""
    return value - value.detach()


ESTIMATORS: dict[str, Estimator] = {
    "gumbel": Estimator(gumbel, unbiased=False, hard=False),
    "gumbel-st": Estimator(gumbel_straight_through, unbiased=False, hard=True),
    "st": Estimator(straight_through, unbiased=False, hard=True),
    "reinmax": Estimator(reinmax, unbiased=False, hard=True),
    "disarm": Estimator(disarm, unbiased=True, hard=True, decodings=2, pathwise=False),
    "dvae": Estimator(dvae, unbiased=False, hard=False),
}
