"""The two terms of the bound that every step computes, each with its gradient in closed form.

Written with autograd's operations they take twice as many passes over the logits of the features, and those passes are,
after the matrix products, what a step on a CPU waits for. A compiler makes one pass of the definitions by itself.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

LN2 = math.log(2.0)
# Each factor is at least ½, so the product is at least 2⁻⁵⁶: far from where single precision ends, at 2⁻¹²⁶.
_FACTORS_OF_A_PRODUCT = 56


def negative_log_likelihood(logits: Tensor, x: Tensor) -> Tensor:
    """−log p(x) of independent Bernoulli features, ``[..., D] -> [...]``: Σ softplus(logit) − x · logit, in nats.

    Its gradient is σ(logit) − x with respect to the logits, and none is given with respect to ``x``.

    >>> negative_log_likelihood(torch.zeros(1, 3), torch.tensor([[0.0, 1.0, 0.5]])) / LN2
    tensor([3.])
    """
    if torch.compiler.is_compiling():
        return (functional.softplus(logits) - x * logits).sum(-1)
    value: Tensor = _NegativeLogLikelihood.apply(logits, x)  # type: ignore[no-untyped-call]
    return value


def kl_to_uniform(logits: Tensor) -> Tensor:
    """KL from independent bits to uniform ones, Σ_k [ln 2 − H(σ(λ_k))], ``[..., K] -> [...]``, in nats, at most K ln 2.

    Its gradient is λ σ(λ) σ(−λ).

    >>> kl_to_uniform(torch.tensor([[0.0, 0.0], [50.0, -50.0]])) / LN2
    tensor([0., 2.])
    """
    if torch.compiler.is_compiling():
        size = logits.abs()
        return (LN2 - functional.softplus(-size) - size * (-size).sigmoid()).sum(-1)
    value: Tensor = _KLToUniform.apply(logits)  # type: ignore[no-untyped-call]
    return value


class _NegativeLogLikelihood(torch.autograd.Function):
    """softplus(a) = max(a, 0) − log max(σ(a), σ(−a)), and the logarithms of many factors are that of their product."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor) -> Tensor:
        probabilities = logits.sigmoid()
        certain = torch.maximum(probabilities, 1 - probabilities)
        value: Tensor = logits.clamp_min(0).sum(-1) - torch.linalg.vecdot(logits, x) - _log_of_product(certain)
        ctx.save_for_backward(probabilities.sub_(x))
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (residual,) = ctx.saved_tensors
        return residual * gradient.unsqueeze(-1), None


class _KLToUniform(torch.autograd.Function):
    """H(σ(λ)) = softplus(−|λ|) + |λ| σ(−|λ|), which loses no digits where |λ| is large."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        size = logits.abs()
        smaller = (-size).sigmoid()
        value = torch.addcmul(functional.softplus(-size), size, smaller).neg_().add_(LN2).sum(-1)
        ctx.save_for_backward(logits, smaller)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        logits, smaller = ctx.saved_tensors
        return torch.addcmul(smaller, smaller, smaller, value=-1).mul_(logits).mul_(gradient.unsqueeze(-1))


def _log_of_product(factors: Tensor) -> Tensor:
    """Return Σ log f over the last dimension, of factors f in [½, 1], ``[..., D] -> [...]``."""
    if (
        factors.is_cuda
    ):  # a logarithm costs nothing beside a pass, and torch compiles its kernel of products when it is called
        return factors.log().sum(-1)
    whole = factors.shape[-1] // _FACTORS_OF_A_PRODUCT * _FACTORS_OF_A_PRODUCT
    groups = factors[..., :whole].unflatten(-1, (-1, _FACTORS_OF_A_PRODUCT)) if whole else factors[..., :0].unsqueeze(-1)
    return groups.prod(-1).log().sum(-1) + factors[..., whole:].prod(-1).log()
