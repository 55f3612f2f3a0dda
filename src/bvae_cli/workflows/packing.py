"""Pack a data set of bits into a file that the rows are mapped from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from bvae_cli import files
from bvae_cli.config import PluginRef
from bvae_cli.datasets.base import Splits
from bvae_cli.datasets.packed import write_packed
from bvae_cli.errors import UsageError
from bvae_cli.workflows.building import load_splits


@dataclass(frozen=True)
class PackResult:
    """What was packed: rows of each split, bits in a row, and how large the file is."""

    file: Path
    training_rows: int
    validation_rows: int
    test_rows: int
    features: int
    feature_shape: tuple[int, ...]
    bytes: int
    source: str
    licence: str
    digest: str


def pack(reference: PluginRef, file: Path) -> PackResult:
    """Write the splits of a data set as packed bits, with labels and licence; memory does not grow with the rows.

    What is trained on the file is the run that would be trained on the data set itself. Raises UsageError where the rows are
    not bits, InputOutputError where the data cannot be read or the file not be written.
    """
    splits = load_splits(reference)
    _require_bits(splits, reference)
    with files.new_file(file) as stream:
        write_packed(stream, splits)
    return PackResult(
        file=file,
        training_rows=len(splits.train),
        validation_rows=len(splits.validation),
        test_rows=len(splits.test),
        features=splits.features,
        feature_shape=splits.feature_shape,
        bytes=file.stat().st_size,
        source=splits.source,
        licence=splits.licence,
        digest=splits.digest(),
    )


def _require_bits(splits: Splits, reference: PluginRef) -> None:
    if splits.fresh_bits or any(part.dtype != torch.uint8 for part in (splits.train, splits.validation, splits.test)):
        raise UsageError(
            f"The rows of {reference.label()} are not all bits, and only bits can be packed.",
            "Make them 0 or 1; `mnist:binarize=threshold` does. Real values and counts stay in a .npy file as they are.",
        )
