"""The same training written plainly: autograd through the terms' definitions, ``torch.optim.Adam``, one step after another.

It shares the networks and the bound of the validation with the project, and nothing of the step.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from bvae_cli.model.bvae import BinaryVAE
from bvae_cli.workflows.fit import validation_loss

_WARM_UP_EPOCHS = 10


def plain_products() -> None:
    """Let torch multiply matrices by its own choice of a library again."""
    settings = getattr(torch.backends.mkldnn, "matmul", None)
    if settings is not None:
        settings.fp32_precision = "none"


def training_loss(model: BinaryVAE, x: Tensor, uniform: Tensor, beta: float) -> Tensor:
    """Mean over the batch of −log p(x given bits) + β KL, of an uncoded model, with the gradient of ReinMax."""
    logits = model.encode(x).logits
    bits = (uniform < logits.sigmoid()).to(x.dtype)
    # ½ (1 − P(bit)): what ReinMax weighs the gradient of a bit with (Liu et al. 2023).
    weight = 0.5 * torch.sigmoid((1 - 2 * bits) * logits).detach()
    decoded = model.outputs(bits + weight * (logits - logits.detach()))
    reconstruction = functional.binary_cross_entropy_with_logits(decoded, x, reduction="none").sum(-1)
    entropy = torch.distributions.Bernoulli(logits=logits, validate_args=False).entropy()
    loss: Tensor = (reconstruction + beta * (math.log(2) - entropy).sum(-1)).mean()
    return loss


def train_slowly(
    model: BinaryVAE, train: Tensor, validation: Tensor, *, epochs: int, batch: int, lr: float, seed: int
) -> float:
    """Train an uncoded model; return its validation loss. Order and noise come from the generator as they do in ``Fit``."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for epoch in range(epochs):
        beta = min(1.0, epoch / _WARM_UP_EPOCHS)
        for rows in torch.randperm(len(train), generator=generator).split(batch):
            x = train[rows].float()
            uniform = torch.rand(len(x), model.code.k, generator=generator)
            optimizer.zero_grad()
            training_loss(model, x, uniform, beta).backward()
            optimizer.step()
    return validation_loss(model.eval(), validation)
