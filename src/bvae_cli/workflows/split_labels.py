"""Labels of a split of a data set, by its name."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bvae_cli.config import PluginRef
from bvae_cli.datasets.base import Splits
from bvae_cli.errors import UsageError
from bvae_cli.workflows.building import load_splits


def labels_of_split(split: str, rows: int, of: str, dataset: PluginRef | None, data: Splits | None) -> NDArray[np.int64]:
    """Return the labels of a split of a data set, which are those of so many rows.

    Raises UsageError where it has none, or other rows.
    """
    if data is None:
        assert dataset is not None  # or the configuration was refused
        data = load_splits(dataset)
    labels = labels_of(data, split)
    if labels is None:
        raise UsageError(f"{data.source} has no labels.", "Name a .npy of a whole number for each row.")
    if len(labels) != rows:
        raise UsageError(
            f"There are {len(labels):,} of {named_rows(split)} of {data.source}, and {rows:,} {of}.",
            "Name the split that was encoded whole, or a .npy of labels.",
        )
    return labels


def named_rows(split: str) -> str:
    """Return what the rows of a split, or all of them, are called."""
    return "all rows" if split == "all" else f"the {split} rows"


def labels_of(splits: Splits, split: str) -> NDArray[np.int64] | None:
    """Return the labels of a split, or of all rows in the order of their file; None where there are none."""
    found = [splits.train_labels, splits.validation_labels, splits.test_labels]
    if split != "all":
        chosen = found[("train", "validation", "test").index(split)]
        return None if chosen is None else chosen.numpy()
    if any(labels is None for labels in found):
        return None
    joined = torch.cat([labels for labels in found if labels is not None])
    return (joined if splits.order is None else joined[splits.order.argsort()]).numpy()
