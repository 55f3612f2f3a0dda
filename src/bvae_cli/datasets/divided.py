"""Data in one place: where it is, how it is divided by a seed, and whether the rows of a file stay in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from bvae_cli.datasets.base import DatasetSpec, SplitName, Splits
from bvae_cli.errors import InputOutputError, UsageError
from bvae_cli.paths import expanded
from bvae_cli.sources import require_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from bvae_cli.datasets.mapped import MappedRows
    from bvae_cli.numpy_files import Found

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
LABEL_NAMES = ("y", "labels")
_DATA_NAMES = ("x", "data", "images")
_FEWEST_ROWS = 3
File = TypeVar("File", bound="DividedFile")
# Arrays of an archive that a sentence names.
_MOST_NAMED = 8
# Rows that would take so many bytes of memory stay in their file; fewer are read, which is a little faster.
MAPPED_FROM = 2**28


class Divided(DatasetSpec):
    """What data that are not divided yet need to be told: the shares of validation and test, and the seed."""

    path: Annotated[Path, AfterValidator(expanded)] = Field(description="The file.")
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

    def require_unnamed(self, *names: str, because: str) -> None:
        """Raise UsageError where somebody has set one of these options, which do nothing ``because`` of another one."""
        for name in names:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise UsageError(f"{name}={getattr(self, name)} would do nothing: {because}.", "Leave one of them out.")

    def division(self, total: int) -> dict[SplitName, NDArray[np.int64]]:
        """Return the numbers of the rows of each split. Raises InputOutputError where there are fewer than three rows."""
        import numpy as np

        if total < _FEWEST_ROWS:
            raise InputOutputError(
                f"{self.path} has too few rows to divide: {total}.",
                f"At least {_FEWEST_ROWS} are needed, one each for training, validation and test.",
            )
        validation, test = split_sizes(total, self.validation, self.test)
        parts = np.split(shuffled(total, self.split_seed), [total - validation - test, total - test])
        return dict(zip(SPLITS, parts, strict=True))

    def _without_validation(self, total: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the numbers of training rows that stay there, and of those that are for validation, by seed and share."""
        if total < 2:
            raise InputOutputError(f"{self.path} has too few training rows to divide: {total}.", "At least 2 are needed.")
        order = shuffled(total, self.split_seed)
        kept = total - min(max(1, round(total * self.validation)), total - 1)
        return order[:kept], order[kept:]

    def divided(
        self,
        values: NDArray[Any] | MappedRows,
        feature_shape: tuple[int, ...],
        labels: NDArray[np.int64] | None,
        **more: Any,
    ) -> Splits:
        """Divide the rows ``[rows, D]`` by the seed: a copy of each split in memory, or an index into the file."""
        import numpy as np

        parts = self.division(len(values))
        return self.splits(
            {
                split: values[part] if isinstance(values, np.ndarray) else values.indexed(part)
                for split, part in parts.items()
            },
            feature_shape,
            {} if labels is None else {split: labels[part] for split, part in parts.items()},
            order=order_of(parts),
            **more,
        )

    def splits(
        self,
        values: dict[SplitName, Any],
        feature_shape: tuple[int, ...],
        labels: dict[SplitName, NDArray[np.int64]],
        **more: Any,
    ) -> Splits:
        """Return the splits of arrays, or of ``Rows``, by their names, with the labels of those that have any."""
        import numpy as np
        import torch

        rows: dict[str, Any] = {
            split: torch.from_numpy(part) if isinstance(part, np.ndarray) else part for split, part in values.items()
        }
        label_tensors = {f"{split}_labels": torch.from_numpy(part) for split, part in labels.items()}
        facts: dict[str, Any] = {"feature_shape": feature_shape, "source": str(self.path), "licence": self.licence}
        return Splits(**(rows | label_tensors | facts | more))


class DividedFile(Divided):
    """What a file of data needs to be told: how it is divided, and whether its rows stay in it."""

    mapped: Literal["auto", "always", "never"] = Field(
        "auto", description="Leave the rows in the file and read each batch from there; auto: from 256 MiB of rows on."
    )

    # Then "auto" leaves rows in their file however few they are.
    _one_pass: bool = PrivateAttr(default=False)

    def for_one_pass(self) -> Self:
        """Return what leaves the rows in their file wherever they can stay there, unless it is told where they are."""
        other = self.model_copy()
        other._one_pass = True
        return other

    def _as_this(self, other: File) -> File:
        """Return what reads another file, for one pass where this does."""
        return other.for_one_pass() if self._one_pass else other

    @property
    def suffix(self) -> str:
        """The suffix of the file, in small letters."""
        return self.path.suffix.casefold()

    def require_suffix(self, suffixes: tuple[str, ...]) -> None:
        """Raise InputOutputError where the file is missing, empty or of another suffix; nothing of it is read."""
        require_file(self.path)
        if self.suffix not in suffixes:
            raise InputOutputError(
                f"The suffix of {self.path} does not say what it holds.", f"Give it one of {', '.join(suffixes)}."
            )

    def maps(self, found: Found, bytes_in_memory: int) -> bool:
        """Say whether an array stays in its file. Raises InputOutputError where it must and cannot."""
        if self.mapped == "always" and found.offset is None:
            raise InputOutputError(
                f"{self.path} cannot be mapped: {found.why}.", "Write it with numpy.save or numpy.savez, row by row."
            )
        # Nothing cannot be mapped.
        fewest = 1 if self._one_pass else MAPPED_FROM
        wanted = self.mapped == "always" or (self.mapped == "auto" and bytes_in_memory >= fewest)
        return wanted and found.offset is not None

    def data_name(self, names: list[str]) -> str:
        """Return which of the arrays of an .npz file is the data of all rows."""
        others = [name for name in names if name not in LABEL_NAMES]
        candidates = [name for name in _DATA_NAMES if name in names] or others
        if len(candidates) == 1:
            return candidates[0]
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        found = f"it has {', '.join(names[:_MOST_NAMED])}{more}" if names else "it has none"
        raise InputOutputError(
            f"{self.path} does not say which of its arrays is the data: {found}.",
            "Name the one of all rows 'x', with labels in 'y' if any; or give 'train', 'validation' and 'test'.",
        )

    def require_all_splits(self, names: list[str]) -> None:
        """Raise InputOutputError where the arrays of an .npz file are only some of the three splits."""
        if missing := [split for split in SPLITS if split not in names]:
            raise InputOutputError(
                f"{self.path} has no array '{missing[0]}'.",
                "Give all of 'train', 'validation' and 'test', or one array 'x' to be divided here.",
            )

    def named(self, array: str) -> str:
        """Name an array of the file in a sentence."""
        return f"'{array}' in {self.path}"


def order_of(parts: Mapping[SplitName, NDArray[np.int64]]) -> Tensor:
    """Return the number of each row of training, validation and test, in this order, as ``Splits.order`` has it."""
    import numpy as np
    import torch

    return torch.from_numpy(np.concatenate([parts[split] for split in SPLITS]))


def shuffled(rows: int, seed: int) -> NDArray[np.int64]:
    """Return the numbers of so many rows in the order of a seed."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(seed)).permutation(rows)


def split_sizes(rows: int, validation: float, test: float) -> tuple[int, int]:
    """Return how many of at least 3 rows are for validation and for the test; training keeps at least one.

    >>> split_sizes(100, 0.1, 0.2), split_sizes(3, 0.1, 0.1)
    ((10, 20), (1, 1))
    """
    for_validation = min(max(1, round(rows * validation)), rows - 2)
    for_test = min(max(1, round(rows * test)), rows - 1 - for_validation)
    return for_validation, for_test


def label_name(split: str) -> str:
    """Return the name of the array that holds the labels of a split."""
    return f"{split}_labels"
