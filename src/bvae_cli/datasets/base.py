"""The contract of a data set: a cheap, validated description (``DatasetSpec``) that loads ``Splits`` of tensors."""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict

from bvae_cli.config import VALUES, LikelihoodName
from bvae_cli.datasets.rows import Rows, extremes, first_rows, pieces

if TYPE_CHECKING:
    from torch import Tensor

# Symbols are numbered by int16.
MOST_CATEGORIES = 2**15
# Above it, float32 does not hold every whole number.
LARGEST_VALUE_OF_COUNTS = 2**24
SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Splits:
    """A data set, divided once and for all into training, validation and test rows.

    Each split is ``[rows, D]``, a tensor or ``Rows`` that stay in their file. ``likelihood`` is the one that fits the
    values, and says what they are:

    * ``bernoulli``: uint8 where every value of all splits is a bit (0 or 1), else float32 in [0, 1];
    * ``gaussian``: finite float32;
    * ``poisson`` or ``negative-binomial``: counts, whole float32 from 0 to 2^24;
    * ``categorical``: symbols, int16 numbers, those of column d from 0 to ``categories[d]`` − 1. ``vocabulary`` names the
      symbols where they have names; it is the same for all columns.

    Labels, where there are any, are int64 ``[rows]``. ``feature_shape`` is the shape of one row as a person sees it, for
    instance (28, 28); its product is D. With ``fresh_bits`` the training values are probabilities, and every training epoch
    draws its own bits from them (dynamic binarisation); validation and test are bits all the same, drawn once, so that
    every number measured on them is a likelihood of bits. Where the splits were divided from the rows of one file,
    ``order`` holds the number there of each row of training, validation and test, in this order, int64 ``[all rows]``.
    """

    train: Tensor | Rows
    validation: Tensor | Rows
    test: Tensor | Rows
    feature_shape: tuple[int, ...]
    source: str
    licence: str
    likelihood: LikelihoodName = "bernoulli"
    train_labels: Tensor | None = None
    validation_labels: Tensor | None = None
    test_labels: Tensor | None = None
    fresh_bits: bool = False
    order: Tensor | None = None
    categories: tuple[int, ...] = ()
    vocabulary: tuple[str, ...] = ()

    @property
    def features(self) -> int:
        """Number of values D in one row."""
        return int(self.train.shape[1])

    def digest(self) -> str:
        """Return the sha256 of every value of the three splits, their shapes and types (labels do not count)."""
        facts = f"{self.feature_shape} {self.likelihood} {self.fresh_bits}"
        sha = hashlib.sha256((f"{facts} {self.categories} {self.vocabulary}" if self.categories else facts).encode())
        for split in (self.train, self.validation, self.test):
            sha.update(f"{tuple(split.shape)} {split.dtype}".encode())
            for piece in pieces(split):
                sha.update(piece.contiguous().numpy().data)
        return sha.hexdigest()

    def split(self, name: SplitName) -> Tensor | Rows:
        """Return one split by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    def all_rows(self) -> Rows:
        """Return every row: in the order of the file that they were divided from, else split after split."""
        from bvae_cli.datasets.mapped import joined

        return joined([self.train, self.validation, self.test], None if self.order is None else self.order.argsort())

    def texts_of(self, rows: Tensor) -> list[str]:
        """Return rows of symbols as text, by the vocabulary: characters one behind the other, longer names with blanks."""
        between = "" if all(len(symbol) == 1 for symbol in self.vocabulary) else " "
        return [between.join(self.vocabulary[number] for number in row) for row in rows.long().tolist()]

    def limited(self, subset: int) -> Splits:
        """Return the same data with at most ``subset`` training rows, the first ones (0 keeps them all)."""
        if not subset:
            return self
        labels = None if self.train_labels is None else self.train_labels[:subset]
        return replace(self, train=first_rows(self.train, subset), train_labels=labels, order=None)

    def problem(self) -> str | None:
        """Return what breaks the contract above, as the end of "the data set gave …", or None where nothing does."""
        import torch

        if (problem := self._problem_of_kind()) is not None:
            return problem
        for name in ("train", "validation", "test"):
            split = getattr(self, name)
            if not isinstance(split, torch.Tensor | Rows) or len(split.shape) != 2:
                return f"a {name} split that is not a tensor [rows, D]"
            if split.shape[0] == 0 or split.shape[1] == 0:
                return f"an empty {name} split"
            if split.shape[1] != self.train.shape[1]:
                return f"{self.train.shape[1]} values in a row of train and {split.shape[1]} in one of {name}"
            if self.likelihood == "categorical" and len(self.categories) != split.shape[1]:
                return f"{len(self.categories)} numbers of categories for {split.shape[1]} columns"
            if (problem := self._problem_of_values(name, split)) is not None:
                return problem
        if math.prod(self.feature_shape) != self.features:
            return f"rows of {self.features} values with the feature shape {tuple(self.feature_shape)}"
        return None

    def _problem_of_kind(self) -> str | None:
        if self.likelihood not in VALUES:
            return f"the likelihood '{self.likelihood}', which is none of {', '.join(VALUES)}"
        if self.fresh_bits and self.likelihood != "bernoulli":
            return f"fresh_bits with the likelihood {self.likelihood}"
        if self.likelihood != "categorical":
            given = next((name for name in ("categories", "vocabulary") if getattr(self, name)), None)
            return None if given is None else f"{given} with the likelihood {self.likelihood}"
        bad = next((number for number in self.categories if not 1 <= number <= MOST_CATEGORIES), None)
        if bad is not None:
            return f"a column of {bad:,} categories, where there are 1 to {MOST_CATEGORIES:,}"
        if self.vocabulary and set(self.categories) != {len(self.vocabulary)}:
            return f"a vocabulary of {len(self.vocabulary)} symbols for columns of {sorted(set(self.categories))}"
        if len(set(self.vocabulary)) < len(self.vocabulary):
            return "a vocabulary that names a symbol twice"
        return None

    def _problem_of_values(self, name: str, split: Tensor | Rows) -> str | None:
        import torch

        wanted = {"bernoulli": (torch.uint8, torch.float32), "categorical": (torch.int16,)}
        if split.dtype not in wanted.get(self.likelihood, (torch.float32,)):
            said = {"bernoulli": "bits are uint8 and anything else is float32", "categorical": "symbols are int16"}
            return f"a {name} split of {split.dtype}, where {said.get(self.likelihood, 'numbers are float32')}"
        low, high = extremes(split)
        if self.likelihood == "bernoulli":
            return None if low >= 0 and high <= 1 else f"values outside 0…1 in its {name} split: from {low:g} to {high:g}"
        if not (math.isfinite(low) and math.isfinite(high)):
            return f"values in its {name} split that are not numbers, or infinite"
        if self.likelihood == "gaussian":
            return None
        if low < 0:
            return f"negative values in its {name} split: {low:g}"
        if self.likelihood == "categorical":
            sizes = torch.tensor(self.categories)
            beyond = any(bool((piece >= sizes.to(piece.device)).any()) for piece in pieces(split))
            return f"a symbol in its {name} split beyond the categories of its column" if beyond else None
        if high > LARGEST_VALUE_OF_COUNTS:
            return f"counts above {LARGEST_VALUE_OF_COUNTS:,} in its {name} split: {high:g}"
        whole = all(bool((piece == piece.floor()).all()) for piece in pieces(split))
        return None if whole else f"counts in its {name} split that are not whole numbers"


def unit_of(feature_shape: Sequence[int]) -> str:
    """Return the unit of a loss of rows of this shape: nats per image where they are pictures.

    >>> unit_of((28, 28)), unit_of((12,))
    ('nats per image', 'nats per row')
    """
    return "nats per image" if len(feature_shape) > 1 else "nats per row"


def place_in(column: int, feature_shape: tuple[int, ...]) -> str:
    """Say where in a row the value number ``column``, from 0, is, as a person counts.

    >>> place_in(29, (28, 28))
    '2, 2 of 28 × 28'
    """
    indices = []
    for size in reversed(feature_shape):
        column, index = divmod(column, size)
        indices.append(index + 1)
    return f"{', '.join(map(str, reversed(indices)))} of {' × '.join(map(str, feature_shape))}"


class DatasetSpec(BaseModel):
    """What a person says to get a data set: the options are the fields, each with bounds and a description.

    Importing the module of a spec, and building the spec, must not import torch or numpy: both happen in ``load``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_version: ClassVar[int] = 1
    summary: ClassVar[str] = ""
    licence: ClassVar[str] = "not stated"

    @abstractmethod
    def load(self) -> Splits:
        """Read the data. Raises InputOutputError, naming the file and the first bad cell, where it cannot."""

    def entropy(self) -> float | None:
        """Return the entropy of a row in nats, where the distribution of the rows is known exactly; else None."""
        return None

    def log_prob(self, rows: Tensor) -> Tensor | None:
        """Return log p(x) of rows in nats, ``[rows, D] -> [rows]`` float64, where it is known exactly; else None."""
        return None

    def for_likelihood(self, name: str) -> Self:
        """Return what reads the data for a likelihood that a person named, or ``auto``.

        Most data sets are what they are, and return themselves, also where the likelihood does not fit their values: who
        trains on them is then told so. Nothing is read.
        """
        return self

    def for_one_pass(self) -> Self:
        """Return what reads the same rows with as little memory as it can, for one who goes over them once."""
        return self

    def check(self) -> None:
        """Look, without reading everything, whether ``load`` can work: raise InputOutputError for a missing file."""
