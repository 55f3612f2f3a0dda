"""What a data set is: its facts, and some rows of each split to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bvae_cli import registry
from bvae_cli.config import LikelihoodName, PluginRef
from bvae_cli.datasets.base import SplitName, Splits
from bvae_cli.datasets.rows import Rows, pieces
from bvae_cli.workflows.building import load_splits

_SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
# What is drawn of values that are all the same.
_GREY = 0.5
# Rows that are told as text, and the symbols of each.
_ROWS_TOLD, _SYMBOLS_TOLD = 3, 60


@dataclass(frozen=True)
class DatasetFacts:
    """A data set as it is loaded.

    ``least``, ``largest`` and ``mean`` are those of all training values; symbols have no mean. ``constant`` is how many of
    the features have one value in all training rows, ``labels`` how many different labels there are, None without labels.
    ``categories`` is the least and the largest number of symbols that a column has, None where the values are no symbols;
    where those have names, ``vocabulary`` holds them, and ``first_rows`` the beginning of some training rows as text.
    Where the distribution of the rows is known, ``entropy`` is that of a row, and ``log_prob`` the mean log p(x) of the
    test rows, in nats.
    """

    dataset: str
    summary: str
    source: str
    licence: str
    training_rows: int
    validation_rows: int
    test_rows: int
    feature_shape: tuple[int, ...]
    features: int
    values: str
    least: float
    largest: float
    mean: float | None
    constant: int
    labels: int | None
    likelihood: LikelihoodName
    categories: tuple[int, int] | None
    vocabulary: tuple[str, ...]
    first_rows: tuple[str, ...]
    entropy: float | None
    log_prob: float | None
    digest: str


@dataclass(frozen=True)
class Description:
    """The facts, and rows to draw, ``[rows, D]``: those of a split fill whole lines of ``columns`` pictures with NaN.

    ``lines`` is how many lines each of the three splits has.
    """

    facts: DatasetFacts
    rows: Tensor
    columns: int
    lines: tuple[int, ...]


def describe(reference: PluginRef, columns: int = 20, lines: int = 2) -> Description:
    """Load a data set and look at all of it, a few megabytes at once.

    Raises InputOutputError where it cannot be read, PluginError where its own program fails.
    """
    spec: Any = reference.spec("data set")
    splits = load_splits(reference)
    with registry.blaming("data set", reference.type):
        entropy, logs = spec.entropy(), spec.log_prob(torch.as_tensor(splits.test[:]))
    low, high, total = _extremes(splits.train)
    least, largest = float(low.min()), float(high.max())
    of_symbols = splits.likelihood == "categorical"
    facts = DatasetFacts(
        dataset=reference.shown(),
        summary=spec.summary,
        source=splits.source,
        licence=splits.licence,
        training_rows=len(splits.train),
        validation_rows=len(splits.validation),
        test_rows=len(splits.test),
        feature_shape=tuple(splits.feature_shape),
        features=splits.features,
        values=_values(splits, least, largest),
        least=least,
        largest=largest,
        mean=None if of_symbols else total / (len(splits.train) * splits.features),
        constant=int((low == high).sum()),
        labels=_labels(splits),
        likelihood=splits.likelihood,
        categories=(min(splits.categories), max(splits.categories)) if of_symbols else None,
        vocabulary=splits.vocabulary,
        first_rows=_first_rows(splits),
        entropy=entropy,
        log_prob=None if logs is None else float(logs.mean()),
        digest=splits.digest(),
    )
    dark, light = _range(splits, least, largest)
    some = [_some(splits.split(name), columns, lines, dark, light) for name in _SPLITS]
    return Description(facts, torch.cat(some), columns, tuple(len(part) // columns for part in some))


def _values(splits: Splits, least: float, largest: float) -> str:
    if splits.fresh_bits:
        return "probabilities, of which every training epoch draws its bits"
    if splits.likelihood == "bernoulli":
        return "bits" if splits.train.dtype == torch.uint8 else "numbers in 0…1"
    if splits.likelihood == "gaussian":
        return f"real values {least:.4g}…{largest:.4g}"
    if splits.likelihood != "categorical":
        return f"counts {least:.0f}…{largest:.0f}"
    fewest, most = min(splits.categories), max(splits.categories)
    said = f"{most:,} in each column" if fewest == most else f"{fewest:,} to {most:,} in a column"
    alone = splits.categories.count(1)
    columns = "column has" if alone == 1 else "columns have"
    return f"symbols: {said}" + (f"; {alone:,} {columns} a single one, which says nothing" if alone else "")


def _first_rows(splits: Splits) -> tuple[str, ...]:
    if not splits.vocabulary:
        return ()
    rows = torch.as_tensor(splits.train[:_ROWS_TOLD])[:, :_SYMBOLS_TOLD]
    more = "…" if splits.features > _SYMBOLS_TOLD else ""
    return tuple(text + more for text in splits.texts_of(rows))


def _range(splits: Splits, least: float, largest: float) -> tuple[float, float]:
    """Return the values that are drawn black and white."""
    if splits.likelihood == "bernoulli":
        return 0.0, 1.0
    return (0.0, float(max(splits.categories) - 1)) if splits.likelihood == "categorical" else (least, largest)


def _labels(splits: Splits) -> int | None:
    labels = [part for part in (splits.train_labels, splits.validation_labels, splits.test_labels) if part is not None]
    return len(torch.cat(labels).unique()) if labels else None


def _extremes(rows: Tensor | Rows) -> tuple[Tensor, Tensor, float]:
    """Return the least and the largest value of each feature, ``[D]``, and the sum of all."""
    low = high = None
    total = 0.0
    for piece in pieces(rows):
        least, most = piece.amin(0), piece.amax(0)
        low = least if low is None else torch.minimum(low, least)
        high = most if high is None else torch.maximum(high, most)
        total += float(piece.sum(dtype=torch.float64))
    assert low is not None  # a split is never empty
    assert high is not None
    return low, high, total


def _some(rows: Tensor | Rows, columns: int, lines: int, dark: float, light: float) -> Tensor:
    """Return the first rows as grey in 0…1, filled up with NaN to whole lines."""
    taken = torch.as_tensor(rows[: columns * lines]).double()
    taken = ((taken - dark) / (light - dark)).clamp(0, 1) if light > dark else torch.full_like(taken, _GREY)
    blank = torch.full((-len(taken) % columns, taken.shape[1]), torch.nan)
    return torch.cat([taken.float(), blank])
