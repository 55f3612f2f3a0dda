"""8-bit pictures as the values of a data set: grey/255, thresholded, or with fresh bits in every epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from bvae_cli.datasets.base import Splits
from bvae_cli.errors import InputOutputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

Binarize = Literal["none", "threshold", "fresh"]
BINARIZE: Any = Field(
    "none", description="none: grey/255; threshold: bit = grey > 127; fresh: new bits in every training epoch."
)
THRESHOLD = 127

_LARGEST_GREY = 255
_OFFICIAL_VALIDATION_ROWS = 10_000
_EVALUATION_BITS_SEED = 0


class Part(NamedTuple):
    """Pictures ``[rows, height, width, …]`` uint8, and one label for each, if there are any."""

    images: NDArray[np.uint8]
    labels: NDArray[Any] | None


def values_of(images: NDArray[np.uint8], binarize: Binarize, *, training: bool = False) -> Tensor:
    """Return pictures as rows ``[rows, D]``: uint8 bits, or float32 grey values in [0, 1].

    With "fresh" the training rows are the probabilities from which every epoch draws its bits, and all others are bits
    that are drawn once.
    """
    import torch

    rows = torch.from_numpy(images).flatten(start_dim=1)
    if binarize == "threshold":
        return (rows > THRESHOLD).to(torch.uint8)
    grey = rows.float().div_(_LARGEST_GREY)
    if binarize == "none" or training:
        return grey
    generator = torch.Generator().manual_seed(_EVALUATION_BITS_SEED)
    return (torch.rand(grey.shape, generator=generator) < grey).to(torch.uint8)


def splits_of(train: Part, validation: Part, test: Part, binarize: Binarize, **facts: Any) -> Splits:
    """Return the splits of three parts; ``facts`` are the source, the licence and what else ``Splits`` takes."""
    import torch

    parts = {"train": train, "validation": validation, "test": test}
    rows: dict[str, Any] = {name: values_of(part.images, binarize, training=name == "train") for name, part in parts.items()}
    labels: dict[str, Any] = {
        f"{name}_labels": torch.from_numpy(part.labels.astype("int64"))
        for name, part in parts.items()
        if part.labels is not None
    }
    return Splits(**rows, **labels, feature_shape=train.images.shape[1:], fresh_bits=binarize == "fresh", **facts)


def training_and_test(train: Part, test: Part, binarize: Binarize, where: str, **facts: Any) -> Splits:
    """Return the splits of a training and a test part, the last of the training rows being those for validation.

    Raises InputOutputError where the pictures of the two differ in size, or the training has fewer than two.
    """
    if train.images.shape[1:] != test.images.shape[1:]:
        sizes = (" × ".join(map(str, part.images.shape[1:])) for part in (train, test))
        raise InputOutputError(
            f"Training and test images in {where} have different sizes: {' and '.join(sizes)}.",
            "Put the files of one data set into the folder.",
        )
    total = len(train.images)
    if total < 2:
        raise InputOutputError(f"The training images in {where} are too few: {total}.", "At least 2 are needed.")
    kept = total - validation_rows(total)
    first, last = (
        Part(train.images[rows], None if train.labels is None else train.labels[rows])
        for rows in (slice(kept), slice(kept, None))
    )
    return splits_of(first, last, test, binarize, **facts)


def validation_rows(rows: int) -> int:
    """Return how many of the last training rows are for validation: 10,000 of at least 20,000 rows, else a sixth.

    >>> validation_rows(60_000), validation_rows(600)
    (10000, 100)
    """
    return _OFFICIAL_VALIDATION_ROWS if rows >= 2 * _OFFICIAL_VALIDATION_ROWS else max(1, rows // 6)
