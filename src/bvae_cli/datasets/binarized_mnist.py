"""Binarised MNIST, bundled with the package: no network, the same bits everywhere."""

from __future__ import annotations

import importlib.resources
from typing import ClassVar

from bvae_cli import numpy_files
from bvae_cli.datasets.base import DatasetSpec, Splits

_FEATURE_SHAPE = (28, 28)
_PIXELS = 28 * 28
_SPLIT_AT = (50_000, 60_000)


class BinarizedMnist(DatasetSpec):
    """All 70,000 digits of MNIST, a bit being 1 where the grey value is above 127, with labels.

    Training is the first 50,000 images of the official training file, validation its last 10,000, and the test the
    official 10,000 test images.

    >>> splits = BinarizedMnist().load()
    >>> splits.train.shape, splits.train.dtype, splits.feature_shape
    (torch.Size([50000, 784]), torch.uint8, (28, 28))
    """

    summary: ClassVar[str] = "MNIST, 28 x 28, one bit a pixel (grey > 127); bundled"
    licence: ClassVar[str] = "CC BY-SA 3.0"

    def load(self) -> Splits:
        """Unpack the bundled file. Raises InputOutputError where the installation lacks it or it is damaged."""
        import numpy as np
        import torch

        bundled = importlib.resources.files("bvae_cli.datasets") / "data" / "binarized_mnist.npz"
        with importlib.resources.as_file(bundled) as path:
            arrays = numpy_files.read_npz(path, ("images", "labels"))
        bits = np.split(np.unpackbits(arrays["images"], axis=1, count=_PIXELS), _SPLIT_AT)
        labels = np.split(arrays["labels"].astype("int64"), _SPLIT_AT)
        return Splits(
            train=torch.from_numpy(bits[0]),
            validation=torch.from_numpy(bits[1]),
            test=torch.from_numpy(bits[2]),
            feature_shape=_FEATURE_SHAPE,
            source="binarised MNIST (bundled)",
            licence=self.licence,
            train_labels=torch.from_numpy(labels[0]),
            validation_labels=torch.from_numpy(labels[1]),
            test_labels=torch.from_numpy(labels[2]),
        )
