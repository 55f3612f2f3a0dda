"""Bounds of the log-likelihood over a data set, in nats per image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from bvae_cli.evaluation.statistics import Estimate, estimate
from bvae_cli.model.bvae import BinaryVAE
from bvae_cli.model.objective import LN2, elbo, iwae, kl_to_uniform, log_likelihood

# Enumeration is quick until here, and is then reported without being asked for.
ENUMERATED_BITS = 12
_ROWS = 2000


@dataclass(frozen=True)
class Bounds:
    """ELBO, IWAE-S and (for K ≤ 12) log p(x), with standard errors over images; bits/dim is −ELBO / (D ln 2)."""

    elbo: Estimate
    iwae: Estimate
    iwae_samples: int
    log_likelihood: Estimate | None
    kl: Estimate
    bits_per_dim: Estimate


class BoundValues(NamedTuple):
    """The same quantities image by image, ``[rows]`` in nats each; ``log_likelihood`` is None above 12 bits."""

    elbo: Tensor
    iwae: Tensor
    log_likelihood: Tensor | None
    kl: Tensor


def measure_bounds(model: BinaryVAE, x: Tensor, iwae_samples: int, generator: Generator) -> Bounds:
    """Measure the bounds on ``x [rows, D]``, uint8 bits or float, with true codewords and hard bits."""
    values = bound_values(model, x, iwae_samples, generator)
    bound = estimate(values.elbo)
    return Bounds(
        elbo=bound,
        iwae=estimate(values.iwae),
        iwae_samples=iwae_samples,
        log_likelihood=None if values.log_likelihood is None else estimate(values.log_likelihood),
        kl=estimate(values.kl),
        bits_per_dim=bits_per_dim(bound, model.features),
    )


@torch.no_grad()
def bound_values(model: BinaryVAE, x: Tensor, iwae_samples: int, generator: Generator) -> BoundValues:
    """Return the bounds of each row of ``x [rows, D]``, uint8 bits or float, with true codewords and hard bits."""
    chunks = [chunk.float() for chunk in x.split(_ROWS)]
    elbos = torch.cat([elbo(model, chunk, generator) for chunk in chunks])
    iwaes = torch.cat([iwae(model, chunk, iwae_samples, generator) for chunk in chunks])
    exact = None
    if model.code.k <= ENUMERATED_BITS:
        exact = torch.cat([log_likelihood(model, chunk) for chunk in chunks])
    kl = torch.cat([kl_to_uniform(model.encode(chunk).logits) for chunk in chunks])
    return BoundValues(elbos, iwaes, exact, kl)


def bits_per_dim(bound: Estimate, features: int) -> Estimate:
    """Return −ELBO / (D ln 2): bits for each value of a row, from a bound in nats for the whole row."""
    scale = 1 / (features * LN2)
    error = None if bound.standard_error is None else bound.standard_error * scale
    return Estimate(-bound.mean * scale, error)
