"""The networks of encoder and decoder."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky-relu": lambda: nn.LeakyReLU(0.2),
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


class CenteredEncoder(nn.Module):
    """A multilayer perceptron on x − mean(x): ``[..., E] -> [..., N]`` logits of the code bits."""

    mean: Tensor

    def __init__(self, mean: Tensor, hidden: int, depth: int, latent: int, activation: str) -> None:
        super().__init__()
        self.register_buffer("mean", mean.clone())
        self.layers = perceptron([mean.numel(), *[hidden] * depth, latent], activation)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the code bits."""
        logits: Tensor = self.layers(x - self.mean)
        return logits


class CenteredDecoder(nn.Module):
    """A multilayer perceptron on code bits as ±1: ``[..., N] -> [..., E]``, what the likelihood takes of a row.

    The last bias starts at ``bias`` ``[E]``, so that training begins where the best constant model stands.
    """

    def __init__(self, bias: Tensor, hidden: int, depth: int, latent: int, activation: str) -> None:
        super().__init__()
        self.layers = perceptron([latent, *[hidden] * depth, bias.numel()], activation)
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.bias.copy_(bias)

    def forward(self, code_bits: Tensor) -> Tensor:
        """Return what the likelihood takes; ``code_bits`` are 0…1."""
        outputs: Tensor = self.layers(2 * code_bits - 1)
        return outputs


def perceptron(widths: list[int], activation: str) -> nn.Sequential:
    """Linear layers of the given widths with an activation between them, none after the last."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])
