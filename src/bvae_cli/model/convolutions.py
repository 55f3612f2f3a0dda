"""Networks of convolutions for pictures: what stands before and behind the linear layers of an encoder and a decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bvae_cli.errors import UsageError

_PLANES = 2
_MOST_COLOURS = 4


class Picture(NamedTuple):
    """The shape of a row as a picture."""

    height: int
    width: int
    colours: int

    def halved(self) -> Picture:
        """Return the size of the picture that a convolution of stride 2 leaves."""
        return Picture(self.height // 2, self.width // 2, self.colours)


def picture_of(feature_shape: Sequence[int], features: int) -> Picture:
    """Return rows of a shape as pictures: height × width, or height × width × colours, of which there are at most four.

    Raises UsageError for rows that are none.
    """
    shape = tuple(feature_shape)
    colours = shape[_PLANES] if len(shape) == _PLANES + 1 else 1
    is_picture = len(shape) in (_PLANES, _PLANES + 1) and features == math.prod(shape)
    if not is_picture or not 1 <= colours <= _MOST_COLOURS:
        raise UsageError(
            f"Convolutions are for pictures; a row of these data has {features} values in the shape "
            f"{' × '.join(map(str, shape))}.",
            "Take --network mlp, or give data of the shape height × width (× colours).",
        )
    return Picture(shape[0], shape[1], colours)


def sizes_of(picture: Picture, halvings: int) -> list[Picture]:
    """Return the sizes of a picture that is halved so many times, the whole one first.

    Raises UsageError where nothing is left of it.
    """
    sizes = [picture]
    for _ in range(halvings):
        sizes.append(sizes[-1].halved())
    if min(sizes[-1].height, sizes[-1].width) < 1:
        most = min(picture.height, picture.width).bit_length() - 1
        raise UsageError(
            f"A picture of {picture.height} × {picture.width} cannot be halved {halvings} times.",
            f"Take --depth {most} at most." if most else "Take --network mlp.",
        )
    return sizes


class Convolutions(nn.Module):
    """Layers on pictures, from rows and to rows: ``[..., inputs] -> [..., outputs]``, values with the colours last.

    ``positions`` says for each convolution at how many places its weights are used.
    """

    def __init__(self, inputs: Picture, layers: Sequence[nn.Module], positions: Sequence[int]) -> None:
        super().__init__()
        self.inputs = inputs
        self.layers = nn.Sequential(*layers)
        self.positions = tuple(positions)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the pictures that the layers make of the pictures, as rows."""
        # With the colours last in memory, which is how rows have them, convolutions are fastest too.
        pictures = rows.reshape(-1, *self.inputs).permute(0, 3, 1, 2)
        made: Tensor = self.layers(pictures)
        return made.permute(0, 2, 3, 1).reshape(*rows.shape[:-1], -1)

    def convolutions(self) -> list[tuple[nn.Conv2d | nn.ConvTranspose2d, int]]:
        """Return each convolution with the number of places at which its weights are used."""
        found = [layer for layer in self.layers if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
        return list(zip(found, self.positions, strict=True))


class Offset(nn.Module):
    """x + b, with b one number for each feature: ``[..., E] -> [..., E]``. Convolutions have one for each colour only."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """Return x + b."""
        return x + self.bias


def strided_encoder(picture: Picture, channels: int, halvings: int, activation: nn.Module) -> tuple[Convolutions, int]:
    """Return convolutions 4 × 4 of stride 2, of so many channels, then twice as many …, and the length of what they give."""
    sizes, widths = sizes_of(picture, halvings), _widths(picture.colours, channels, halvings)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), activation]
    return Convolutions(picture, layers, [size.height * size.width for size in sizes[1:]]), _length(sizes[-1], widths[-1])


def strided_decoder(picture: Picture, channels: int, halvings: int, activation: nn.Module) -> tuple[Convolutions, int]:
    """Return the transposed convolutions of ``strided_encoder``, from the last to the first, and the length they take."""
    sizes = sizes_of(picture, halvings)[::-1]
    widths = _widths(picture.colours, channels, halvings)[::-1]
    layers, positions = _growing(sizes, widths, activation)
    return Convolutions(_sized(sizes[0], widths[0]), layers[:-1], positions), _length(sizes[0], widths[0])


def dcgan_encoder(picture: Picture, channels: int, halvings: int, activation: nn.Module) -> tuple[Convolutions, int]:
    """Return a convolution 3 × 3, then 2 × 2 of stride 2 with twice the channels each, and the length of what they give.

    That of the published coded DVAE has 64, 128 and 256 channels.
    """
    sizes = sizes_of(picture, halvings)
    widths = _widths(channels, 2 * channels, halvings)
    layers: list[nn.Module] = [nn.Conv2d(picture.colours, channels, 3, padding=1), activation]
    for inputs, outputs in pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 2, stride=2), activation]
    return Convolutions(picture, layers, [size.height * size.width for size in sizes]), _length(sizes[-1], widths[-1])


def dcgan_decoder(picture: Picture, channels: int, halvings: int, activation: nn.Module) -> tuple[Convolutions, int]:
    """Return a convolution 1 × 1, transposed ones 4 × 4 of stride 2 with half the channels each, then 1 × 1 to the colours.

    That of the published coded DVAE has 1024, 512, 256, 128 and 64 channels, from 3 × 3 to 28 × 28.
    """
    sizes = sizes_of(picture, halvings)[::-1]
    widths = [channels * 2**step for step in range(halvings, -1, -1)]
    growing, positions = _growing(sizes, widths, activation)
    first, whole = sizes[0].height * sizes[0].width, picture.height * picture.width
    layers = [
        nn.Conv2d(2 * widths[0], widths[0], 1),
        activation,
        *growing,
        nn.Conv2d(widths[-1], picture.colours, 1),
    ]
    begins = _sized(sizes[0], 2 * widths[0])
    return Convolutions(begins, layers, [first, *positions, whole]), _length(sizes[0], 2 * widths[0])


def _growing(sizes: Sequence[Picture], widths: Sequence[int], activation: nn.Module) -> tuple[list[nn.Module], list[int]]:
    """Return transposed convolutions that double a picture's size, each with an activation, and the places of each."""
    layers: list[nn.Module] = []
    for (small, large), (inputs, outputs) in zip(pairwise(sizes), pairwise(widths), strict=True):
        # An odd size lost its last line when it was halved.
        lost = (large.height - 2 * small.height, large.width - 2 * small.width)
        layers += [nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, output_padding=lost), activation]
    return layers, [size.height * size.width for size in sizes[:-1]]


def _widths(first: int, second: int, halvings: int) -> list[int]:
    return [first, *[second * 2**step for step in range(halvings)]]


def _sized(size: Picture, channels: int) -> Picture:
    return Picture(size.height, size.width, channels)


def _length(size: Picture, channels: int) -> int:
    return size.height * size.width * channels
