"""How many floating-point operations a training step takes: those of the products with weights, counted exactly."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from bvae_cli.model.bvae import BinaryVAE
from bvae_cli.model.networks import layers_with_weights
from bvae_cli.model.relaxation import ESTIMATORS


@dataclass(frozen=True)
class LayerArithmetic:
    """One layer of ``inputs`` × ``outputs`` weights in a step: FLOP for each image, forward and backward.

    ``passes`` is how often it is applied to an image; ``passes_to_inputs`` says whether its inputs get a gradient. The
    weights of a convolution, inputs × height × width to outputs, are used at many ``positions`` of a picture.
    """

    network: str
    inputs: int
    outputs: int
    passes: int
    passes_to_inputs: bool
    positions: int = 1

    @property
    def forward(self) -> int:
        """2 × weights × positions × passes: a multiplication and an addition for each weight."""
        return 2 * self.inputs * self.outputs * self.positions * self.passes

    @property
    def backward(self) -> int:
        """As much again for the gradient of the weights, and once more for that of the inputs where they get one."""
        return self.forward * (2 if self.passes_to_inputs else 1)


def layers_of_step(model: BinaryVAE, estimator: str) -> list[LayerArithmetic]:
    """Return the linear layers and convolutions of a model in the order of the forward pass, as a training step uses them.

    The encoder's first layer gives its inputs no gradient: they are data. Nor does the decoder's first layer where the
    estimator's gradient does not go through the bits (``disarm``, which decodes twice). The count is that of the products
    with weights alone: activations, the terms of the loss, the optimiser, and whatever the code computes are not in it.

    >>> import torch
    >>> from bvae_cli.codes.repetition import Repetition
    >>> from bvae_cli.model.networks import Architecture
    >>> model = BinaryVAE(Repetition(R=3).build(12), torch.full((5,), 0.5), Architecture(hidden=8, depth=1))
    >>> [(layer.network, layer.forward, layer.backward) for layer in layers_of_step(model, "reinmax")]
    [('encoder', 80, 80), ('encoder', 192, 384), ('decoder', 192, 384), ('decoder', 80, 160)]
    """
    chosen = ESTIMATORS[estimator]
    networks = (
        ("encoder", model.encoder.layers, 1, False),
        ("decoder", model.decoder.layers, chosen.decodings, chosen.pathwise),
    )
    return [
        LayerArithmetic(name, *_weights_of(layer), passes, index > 0 or first_passes, positions)
        for name, layers, passes, first_passes in networks
        for index, (layer, positions) in enumerate(layers_with_weights(layers))
    ]


def _weights_of(layer: nn.Module) -> tuple[int, int]:
    """Return how many inputs the weights of a layer join with how many outputs, at one position."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    # A transposed convolution takes its positions among the inputs.
    inputs = layer.in_channels if isinstance(layer, nn.ConvTranspose2d) else layer.weight[0].numel()
    return inputs, layer.weight.numel() // inputs


def flop_per_image(model: BinaryVAE, estimator: str) -> int:
    """Return the FLOP that a training step takes for each image: see ``layers_of_step`` for what is counted."""
    return sum(layer.forward + layer.backward for layer in layers_of_step(model, estimator))
