"""Data of one's own: an array in a .npy, .npz or text file, split by a seed or already split."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field, model_validator

from bvae_cli.datasets import numpy_files, text_table
from bvae_cli.datasets.base import DatasetSpec, Splits
from bvae_cli.datasets.files import require_file
from bvae_cli.datasets.values import Rows, checked_labels, checked_rows
from bvae_cli.errors import InputOutputError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
SUFFIXES = (".npy", ".npz", *TEXT_SUFFIXES)

_SPLITS = ("train", "validation", "test")
_DATA_NAMES = ("x", "data", "images")
_LABEL_NAMES = ("y", "labels")
_FEWEST_ROWS = 3


class Arrays(DatasetSpec):
    """Rows of values in [0, 1] from a file: bits become uint8, anything else float32.

    ``.npy``: one array, rows × features, or rows × height × width and so on. ``.npz``: one array (``x``, ``data``,
    ``images``, or the only one) with labels in ``y`` or ``labels`` if any; or ``train``, ``validation`` and ``test``
    with ``train_labels`` and so on, which are taken as they are. ``.csv``, ``.tsv``, ``.txt``: numbers separated by
    comma, semicolon, tab or blanks, with or without a header line.

    >>> Arrays(path="bits.csv", validation=0.2).test
    0.1
    """

    summary: ClassVar[str] = "your own .npy, .npz or .csv file of values in 0…1"

    path: Annotated[Path, AfterValidator(Path.expanduser)] = Field(description="File: .npy, .npz, .csv, .tsv or .txt.")
    validation: float = Field(0.1, gt=0, lt=1, description="Share of the rows for validation.")
    test: float = Field(0.1, gt=0, lt=1, description="Share of the rows for the test.")
    split_seed: int = Field(0, ge=0, lt=2**63, description="Seed of the division into training, validation and test.")

    @model_validator(mode="after")
    def _rows_left_for_training(self) -> Self:
        if self.validation + self.test >= 1:
            raise UsageError(
                f"validation {self.validation:g} and test {self.test:g} leave no rows for training.",
                "Their sum must be less than 1.",
            )
        return self

    def check(self) -> None:
        """Raise InputOutputError where the file is missing, empty or of an unknown suffix; nothing of it is read."""
        require_file(self.path)
        if self._suffix not in SUFFIXES:
            raise InputOutputError(
                f"The suffix of {self.path} does not say what it holds.",
                f"Give it one of {', '.join(SUFFIXES)}.",
            )

    def load(self) -> Splits:
        """Read the file. Raises InputOutputError, naming the first bad cell, where it cannot."""
        self.check()
        if self._suffix == ".npz":
            return self._from_npz()
        if self._suffix == ".npy":
            rows = checked_rows(numpy_files.read_npy(self.path), str(self.path))
        else:
            line_of = functools.partial(text_table.line_number, self.path)
            rows = checked_rows(text_table.read_table(self.path), str(self.path), line_of, text_table.COUNTED)
        return self._divided(rows, None)

    @property
    def _suffix(self) -> str:
        return self.path.suffix.casefold()

    def _from_npz(self) -> Splits:
        names = numpy_files.npz_names(self.path)
        if set(names) & set(_SPLITS):
            return self._already_divided(names)
        data_name = self._data_name(names)
        label_name = next((name for name in _LABEL_NAMES if name in names), None)
        arrays = numpy_files.read_npz(self.path, [data_name, label_name] if label_name else [data_name])
        rows = checked_rows(arrays[data_name], self._named(data_name))
        if label_name is None:
            return self._divided(rows, None)
        return self._divided(rows, checked_labels(arrays[label_name], len(rows.values), self._named(label_name)))

    def _data_name(self, names: list[str]) -> str:
        others = [name for name in names if name not in _LABEL_NAMES]
        candidates = [name for name in _DATA_NAMES if name in names] or others
        if len(candidates) == 1:
            return candidates[0]
        found = f"it has {', '.join(names)}" if names else "it has none"
        raise InputOutputError(
            f"{self.path} does not say which of its arrays is the data: {found}.",
            "Name the one of all rows 'x', with labels in 'y' if any; or give 'train', 'validation' and 'test'.",
        )

    def _already_divided(self, names: list[str]) -> Splits:
        if missing := [split for split in _SPLITS if split not in names]:
            raise InputOutputError(
                f"{self.path} has no array '{missing[0]}'.",
                "Give all of 'train', 'validation' and 'test', or one array 'x' to be divided here.",
            )
        labelled = [split for split in _SPLITS if _label_name(split) in names]
        arrays = numpy_files.read_npz(self.path, [*_SPLITS, *map(_label_name, labelled)])
        parts = {split: checked_rows(arrays[split], self._named(split)) for split in _SPLITS}
        shapes = {split: part.feature_shape for split, part in parts.items()}
        if len(set(shapes.values())) > 1:
            said = ", ".join(f"{split} {' × '.join(map(str, shape))}" for split, shape in shapes.items())
            raise InputOutputError(f"The rows in {self.path} differ in shape: {said}.", "Give all the same features.")
        labels = {
            split: checked_labels(arrays[_label_name(split)], len(parts[split].values), self._named(_label_name(split)))
            for split in labelled
        }
        # One type for all three: the splits are of one kind, even where one of them happens to be all 0 and 1.
        bits = all(part.values.dtype == "uint8" for part in parts.values())
        values = {split: part.values.astype("uint8" if bits else "float32") for split, part in parts.items()}
        return self._splits(values, shapes["train"], labels)

    def _divided(self, rows: Rows, labels: NDArray[np.int64] | None) -> Splits:
        import numpy as np

        total = len(rows.values)
        if total < _FEWEST_ROWS:
            raise InputOutputError(
                f"{self.path} has too few rows to divide: {total}.",
                f"At least {_FEWEST_ROWS} are needed, one each for training, validation and test.",
            )
        order = np.random.Generator(np.random.PCG64(self.split_seed)).permutation(total)
        validation, test = split_sizes(total, self.validation, self.test)
        parts = dict(zip(_SPLITS, np.split(order, [total - validation - test, total - test]), strict=True))
        return self._splits(
            {split: rows.values[part] for split, part in parts.items()},
            rows.feature_shape,
            {} if labels is None else {split: labels[part] for split, part in parts.items()},
        )

    def _splits(
        self, values: dict[str, NDArray[Any]], feature_shape: tuple[int, ...], labels: dict[str, NDArray[np.int64]]
    ) -> Splits:
        import torch

        label_tensors = {split: torch.from_numpy(part) for split, part in labels.items()}
        return Splits(
            train=torch.from_numpy(values["train"]),
            validation=torch.from_numpy(values["validation"]),
            test=torch.from_numpy(values["test"]),
            feature_shape=feature_shape,
            source=str(self.path),
            licence=self.licence,
            train_labels=label_tensors.get("train"),
            validation_labels=label_tensors.get("validation"),
            test_labels=label_tensors.get("test"),
        )

    def _named(self, array: str) -> str:
        return f"'{array}' in {self.path}"


def split_sizes(rows: int, validation: float, test: float) -> tuple[int, int]:
    """Return how many of at least 3 rows are for validation and for the test; training keeps at least one.

    >>> split_sizes(100, 0.1, 0.2), split_sizes(3, 0.1, 0.1)
    ((10, 20), (1, 1))
    """
    for_validation = min(max(1, round(rows * validation)), rows - 2)
    for_test = min(max(1, round(rows * test)), rows - 1 - for_validation)
    return for_validation, for_test


def _label_name(split: str) -> str:
    return f"{split}_labels"
