"""The networks of encoder and decoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from bvae_cli.model.convolutions import (
    Convolutions,
    Offset,
    Picture,
    dcgan_decoder,
    dcgan_encoder,
    strided_decoder,
    strided_encoder,
)

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky-relu": lambda: nn.LeakyReLU(0.2),
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


@dataclass(frozen=True)
class Architecture:
    """How encoder and decoder are built.

    ``mlp``: ``depth`` hidden layers of ``hidden`` units each. ``conv`` and ``dcgan``, for rows that are a ``picture``:
    convolutions that halve it ``depth`` times, of ``channels`` channels at first and twice as many each time, and a linear
    layer of ``hidden`` units between them and the bits.
    """

    hidden: int
    depth: int
    activation: str = "leaky-relu"
    network: str = "mlp"
    channels: int = 32
    picture: Picture | None = None

    def encoder(self, inputs: int, latent: int) -> nn.Sequential:
        """Return layers ``[..., inputs] -> [..., latent]``."""
        if self.picture is None:
            return perceptron([inputs, *[self.hidden] * self.depth, latent], self.activation)
        made = {"conv": strided_encoder, "dcgan": dcgan_encoder}[self.network]
        convolutions, length = made(self.picture, self.channels, self.depth, ACTIVATIONS[self.activation]())
        return nn.Sequential(convolutions, *perceptron([length, self.hidden, latent], self.activation))

    def decoder(self, latent: int, outputs: int) -> nn.Sequential:
        """Return layers ``[..., latent] -> [..., outputs]``, the last of which has a bias for each output."""
        if self.picture is None:
            return perceptron([latent, *[self.hidden] * self.depth, outputs], self.activation)
        made = {"conv": strided_decoder, "dcgan": dcgan_decoder}[self.network]
        activation = ACTIVATIONS[self.activation]()
        convolutions, length = made(self.picture, self.channels, self.depth, activation)
        before = perceptron([latent, self.hidden, length], self.activation)
        return nn.Sequential(*before, activation, convolutions, Offset(outputs))


class CenteredEncoder(nn.Module):
    """A network on x − mean(x): ``[..., E] -> [..., N]`` logits of the code bits."""

    mean: Tensor

    def __init__(self, mean: Tensor, architecture: Architecture, latent: int) -> None:
        super().__init__()
        self.register_buffer("mean", mean.clone())
        self.layers = architecture.encoder(mean.numel(), latent)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the code bits."""
        logits: Tensor = self.layers(x - self.mean)
        return logits


class CenteredDecoder(nn.Module):
    """A network on code bits as ±1: ``[..., N] -> [..., E]``, what the likelihood takes of a row.

    The last bias starts at ``bias`` ``[E]``, so that training begins where the best constant model stands.
    """

    def __init__(self, bias: Tensor, architecture: Architecture, latent: int) -> None:
        super().__init__()
        self.layers = architecture.decoder(latent, bias.numel())
        last = self.layers[-1]
        assert isinstance(last, nn.Linear | Offset)
        with torch.no_grad():
            last.bias.copy_(bias)

    def forward(self, code_bits: Tensor) -> Tensor:
        """Return what the likelihood takes; ``code_bits`` are 0…1."""
        outputs: Tensor = self.layers(2 * code_bits - 1)
        return outputs


def layers_with_weights(layers: nn.Sequential) -> list[tuple[nn.Module, int]]:
    """Return linear layers and convolutions in their order, each with the number of places at which its weights are used."""
    found: list[tuple[nn.Module, int]] = []
    for layer in layers:
        if isinstance(layer, nn.Linear):
            found.append((layer, 1))
        elif isinstance(layer, Convolutions):
            found += layer.convolutions()
    return found


def perceptron(widths: list[int], activation: str) -> nn.Sequential:
    """Linear layers of the given widths with an activation between them, none after the last."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])
