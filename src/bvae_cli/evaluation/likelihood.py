"""Bounds of the log-likelihood over a data set, in nats per row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from bvae_cli.datasets.rows import Rows
from bvae_cli.evaluation.statistics import Estimate, estimate
from bvae_cli.model.bvae import BinaryVAE
from bvae_cli.model.objective import MAX_ENUMERATED_BITS, elbo, iwae, log_likelihood
from bvae_cli.model.terms import LN2, kl_to_uniform

# Enumeration is quick until here; up to the model's own limit it is done where the arithmetic can be afforded.
ENUMERATED_BITS = 12
_AFFORDED_FLOP = 2e12
_ROWS = 2000


@dataclass(frozen=True)
class Bounds:
    """ELBO, IWAE-S and, where all words can be summed over, log p(x), with standard errors over images.

    bits/dim is −ELBO / (D ln 2).
    """

    elbo: Estimate
    iwae: Estimate
    iwae_samples: int
    log_likelihood: Estimate | None
    kl: Estimate
    bits_per_dim: Estimate


class BoundValues(NamedTuple):
    """The same quantities image by image, ``[rows]`` in nats each; ``log_likelihood`` is None where it is not summed."""

    elbo: Tensor
    iwae: Tensor
    log_likelihood: Tensor | None
    kl: Tensor


def measure_bounds(model: BinaryVAE, x: Tensor | Rows, iwae_samples: int, generator: Generator) -> Bounds:
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
def bound_values(model: BinaryVAE, x: Tensor | Rows, iwae_samples: int, generator: Generator) -> BoundValues:
    """Return the bounds of each row of ``x [rows, D]``, uint8 bits or float, with true codewords and hard bits."""
    # Each quantity goes through the rows anew: all of them as float at once may be more than the memory holds.
    elbos = torch.cat([elbo(model, chunk.float(), generator) for chunk in x.split(_ROWS)])
    iwaes = torch.cat([iwae(model, chunk.float(), iwae_samples, generator) for chunk in x.split(_ROWS)])
    exact = None
    if enumerable(model.code.k, len(x), model.likelihood.width):
        exact = torch.cat([log_likelihood(model, chunk.float()) for chunk in x.split(_ROWS)])
    kl = torch.cat([kl_to_uniform(model.encode(chunk.float()).logits) for chunk in x.split(_ROWS)])
    return BoundValues(elbos, iwaes, exact, kl)


def enumerable(bits: int, rows: int, features: int) -> bool:
    """Say whether log p(x) is summed over all words: up to 12 bits always, up to 16 within 2·10¹² operations.

    >>> enumerable(12, 10**9, 784), enumerable(16, 10_000, 784), enumerable(16, 50_000, 784), enumerable(17, 1, 1)
    (True, True, False, False)
    """
    if bits <= ENUMERATED_BITS:
        return True
    return bits <= MAX_ENUMERATED_BITS and 2.0 * rows * features * 2**bits <= _AFFORDED_FLOP


def bits_per_dim(bound: Estimate, features: int) -> Estimate:
    """Return −ELBO / (D ln 2): bits for each value of a row, from a bound in nats for the whole row."""
    scale = 1 / (features * LN2)
    error = None if bound.standard_error is None else bound.standard_error * scale
    return Estimate(-bound.mean * scale, error)
