"""How a model uses its information bits on data: which of them tell anything, how evenly, how surely."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from bvae_cli.datasets.rows import Rows
from bvae_cli.model.bvae import BinaryVAE

ACTIVE_VARIANCE = 0.01
_ROWS = 2000


@dataclass(frozen=True)
class LatentUse:
    """How the information bits are used on data: active bits, mean abs(E σ(λ) − ½), mean entropy in bits."""

    active_bits: int
    information_bits: int
    bit_balance: float
    bit_entropy: float


@torch.no_grad()
def posterior_logits(model: BinaryVAE, x: Tensor | Rows) -> Tensor:
    """Return the logits of the information bits of every row, ``[rows, D] -> [rows, K]``, float64 on the CPU."""
    return torch.cat([model.encode(chunk.float()).logits for chunk in x.split(_ROWS)]).cpu().double()


def latent_use(logits: Tensor) -> LatentUse:
    """Measure, by the posterior logits ``[rows, K]`` of data, how much each bit varies and how sure the encoder is of it."""
    probabilities = logits.sigmoid()
    size = logits.abs()
    entropy = (functional.softplus(-size) + size * torch.sigmoid(-size)) / math.log(2)
    return LatentUse(
        active_bits=int(active(logits).sum()),
        information_bits=logits.shape[-1],
        bit_balance=float((probabilities.mean(0) - 0.5).abs().mean()),
        bit_entropy=float(entropy.mean()),
    )


def active(logits: Tensor) -> Tensor:
    """Return which bits are active, Var_x[σ(λ_k)] > 0.01, ``[rows, K] -> [K]`` (Burda et al. 2016, with their threshold)."""
    return logits.sigmoid().var(0, correction=0) > ACTIVE_VARIANCE
