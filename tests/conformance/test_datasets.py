"""Every data set of ours does what every data set must do; and a data set that does not is told so."""

from __future__ import annotations

import contextlib
import math
import pickle
import socket
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
import torch
from pydantic import Field

from bvae_cli import registry
from bvae_cli.conformance.data import CHECKS, DataSubject, outcome_of, outcomes_of
from bvae_cli.datasets.arrays import Arrays
from bvae_cli.datasets.bars_and_stripes import BarsAndStripes
from bvae_cli.datasets.base import DatasetSpec, Splits
from bvae_cli.datasets.binarized_mnist import BinarizedMnist
from bvae_cli.datasets.cifar10 import Cifar10
from bvae_cli.datasets.emnist import Emnist
from bvae_cli.datasets.idx import FashionMnist, IdxFolder, Kmnist, Mnist
from bvae_cli.datasets.images import Images
from bvae_cli.datasets.omniglot import Omniglot
from bvae_cli.datasets.packed import Packed
from bvae_cli.datasets.random_code import RandomCode
from bvae_cli.datasets.random_symbols import RandomSymbols
from bvae_cli.datasets.symbols import Symbols
from bvae_cli.testing import DatasetConformance
from tests.datasets.pictures import (
    cifar_files,
    emnist_members,
    grey,
    idx_bytes,
    png_bytes,
    write_omniglot,
    write_tar,
    write_zip,
)


class TestBinarizedMnist(DatasetConformance):
    spec = BinarizedMnist()


class TestBarsAndStripes(DatasetConformance):
    spec = BarsAndStripes(rows=500)


class TestRandomCode(DatasetConformance):
    spec = RandomCode(n=12, k=5, epsilon=0.05, rows=500)


class TestRandomSymbols(DatasetConformance):
    spec = RandomSymbols(n=6, k=3, q=4, epsilon=0.05, rows=500)


class _OfFiles(DatasetConformance):
    kind: ClassVar[type[DatasetSpec]]
    place: ClassVar[str] = "folder"
    options: ClassVar[dict[str, Any]] = {}

    def make_spec(self, folder: Path) -> DatasetSpec:
        self.write(folder)
        return self.kind(**{self.place: folder, **self.options})

    def make_missing(self, folder: Path) -> DatasetSpec:
        return self.kind(**{self.place: folder / "none", **self.options})

    def write(self, folder: Path) -> None:
        raise NotImplementedError


class _OfIdx(_OfFiles):
    kind: ClassVar[type[IdxFolder]]
    options: ClassVar[dict[str, Any]] = {"binarize": "fresh"}

    def write(self, folder: Path) -> None:
        for part, rows in (("train", 12), ("t10k", 5)):
            (folder / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(grey(rows)))
            (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(np.arange(rows)))


class TestMnist(_OfIdx):
    kind = Mnist


class TestFashionMnist(_OfIdx):
    kind = FashionMnist
    options: ClassVar[dict[str, Any]] = {"binarize": "threshold"}


class TestKmnist(_OfIdx):
    kind = Kmnist
    options: ClassVar[dict[str, Any]] = {"binarize": "none"}


class TestEmnist(_OfFiles):
    kind = Emnist

    def write(self, folder: Path) -> None:
        write_zip(folder / "gzip.zip", emnist_members())


class TestCifar10(_OfFiles):
    kind = Cifar10

    def write(self, folder: Path) -> None:
        write_tar(folder / "cifar-10-binary.tar.gz", cifar_files())


class TestOmniglot(_OfFiles):
    kind = Omniglot

    def write(self, folder: Path) -> None:
        write_omniglot(folder)


class TestImages(_OfFiles):
    kind, place = Images, "path"
    options: ClassVar[dict[str, Any]] = {"size": 4, "channels": "colour", "binarize": "threshold"}

    def write(self, folder: Path) -> None:
        for number, picture in enumerate(grey(12)):
            (folder / f"label{number % 3}").mkdir(exist_ok=True)
            (folder / f"label{number % 3}" / f"{number}.png").write_bytes(png_bytes(picture))


class TestArrays(DatasetConformance):
    def make_spec(self, folder: Path) -> DatasetSpec:
        np.save(folder / "x.npy", np.random.default_rng(0).integers(0, 2, (40, 9), dtype=np.uint8))
        return Arrays(path=folder / "x.npy", mapped="always")

    def make_missing(self, folder: Path) -> DatasetSpec:
        return Arrays(path=folder / "x.npy")


class _OfKind(_OfFiles):
    """Arrays of one kind of values, in a file that is read or mapped."""

    kind, place = Arrays, "path"
    likelihood: ClassVar[str]
    mapped: ClassVar[str] = "always"

    def make_spec(self, folder: Path) -> DatasetSpec:
        self.write(folder)
        return Arrays(path=folder / "x.npy", mapped=self.mapped).for_likelihood(self.likelihood)

    def write(self, folder: Path) -> None:
        counts = np.random.default_rng(0).poisson(3, (40, 9))
        np.save(folder / "x.npy", counts - 2.5 if self.likelihood == "gaussian" else counts)


class TestArraysOfRealValues(_OfKind):
    likelihood = "gaussian"


class TestArraysOfCounts(_OfKind):
    likelihood = "negative-binomial"


class TestArraysOfSymbols(_OfKind):
    likelihood, mapped = "categorical", "never"


class TestSymbols(_OfFiles):
    kind, place = Symbols, "path"

    def make_spec(self, folder: Path) -> DatasetSpec:
        (folder / "words.txt").write_text("\n".join(f"{word:b}" for word in range(40)))
        (folder / "symbols.txt").write_text("1\n0\n")
        return Symbols(path=folder / "words.txt", vocabulary=folder / "symbols.txt", length=8)


class TestPacked(DatasetConformance):
    def make_spec(self, folder: Path) -> DatasetSpec:
        bits = np.random.default_rng(0).integers(0, 2, (40, 9), dtype=np.uint8)
        np.savez(folder / "x.npz", x=np.packbits(bits, axis=1), feature_shape=[3, 3], y=np.arange(40))
        return Packed(path=folder / "x.npz", mapped="always")

    def make_missing(self, folder: Path) -> DatasetSpec:
        return Packed(path=folder / "x.npz")


def test_every_data_set_of_ours_is_checked_here() -> None:
    classes = [value for name, value in globals().items() if name.startswith("Test")]
    checked = {getattr(one, "kind", None) or type(getattr(one, "spec", None)) for one in classes} | {Arrays, Packed}
    assert len(registry.names("data set")) >= 14
    ours = {row.spec for row in registry.rows("data set") if row.origins[0].distribution == "bvae-cli"}
    assert ours <= checked


# Data sets with a mistake each


class Right(DatasetSpec):
    summary: ClassVar[str] = "right"
    rows: int = Field(20, ge=3, description="Rows.")

    def load(self) -> Splits:
        return Splits(**self.facts())

    def facts(self) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(0)
        bits = torch.randint(2, (self.rows, 6), generator=generator, dtype=torch.uint8)
        return {
            "train": bits,
            "validation": bits[:2],
            "test": bits[:1],
            "feature_shape": (2, 3),
            "source": "drawn",
            "licence": "none",
        }


class Changed(Right):
    """What the data set would be, with some of its facts replaced."""

    def load(self) -> Splits:
        return Splits(**{**self.facts(), **self.changes()})

    def changes(self) -> dict[str, Any]:
        raise NotImplementedError


def changed(**changes: Any) -> DatasetSpec:
    class Mistaken(Changed):
        def changes(self) -> dict[str, Any]:
            return changes

    return Mistaken()


class Undescribed(Right):
    rows: int = 20


class Silent(Right):
    summary: ClassVar[str] = ""


class Forgetful(Right):
    note: str = Field("", description="What is not written.", exclude=True)


class Restless(Right):
    def for_likelihood(self, name: str) -> Self:
        return self.model_copy(update={"rows": self.rows + 1})


class Nameless(Right):
    def for_likelihood(self, name: str) -> Any:
        return self if name == "auto" else None


class Random(Right):
    def load(self) -> Splits:
        return Splits(**{**self.facts(), "train": torch.rand(5, 6)})


class OfAPickle(Right):
    def load(self) -> Splits:
        pickle.loads(pickle.dumps(1))
        return super().load()


class Online(Right):
    def load(self) -> Splits:
        with socket.socket() as connection:
            connection.settimeout(0.1)
            with contextlib.suppress(OSError):
                connection.connect(("127.0.0.1", 9))
        return super().load()


class Careless(Right):
    path: Path = Field(Path("none.npy"), description="A file that check does not look for.")


class WrongEntropy(Right):
    def entropy(self) -> float:
        return 6.0

    def log_prob(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.full((len(rows),), -6.0, dtype=torch.float64)


class WrongLogProb(WrongEntropy):
    """Of a mixture, say, log p(x) is known and the entropy is not."""

    def entropy(self) -> None:
        return None


class WrongSymbols(WrongEntropy):
    """Of the 2 × 2 rows of two columns of symbols each has the probability 1/16, and not 1/4."""

    def load(self) -> Splits:
        rows = torch.tensor([[0, 1], [1, 0], [1, 1]], dtype=torch.int16)
        kind = {"likelihood": "categorical", "categories": (2, 2), "vocabulary": ("a", "b")}
        return Splits(**{**self.facts(), "train": rows, "validation": rows, "test": rows, "feature_shape": (2,), **kind})

    def entropy(self) -> float:
        return math.log(16)

    def log_prob(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.full((len(rows),), -math.log(16), dtype=torch.float64)


class AboveOne(WrongEntropy):
    def log_prob(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.full((len(rows),), 1.0, dtype=torch.float64)


class Density(AboveOne):
    """Rows whose density is e everywhere: no probability, and none that is refused."""

    def load(self) -> Splits:
        rows = {name: self.facts()[name].float() for name in ("train", "validation", "test")}
        return Splits(**{**self.facts(), **rows, "likelihood": "gaussian"})

    def entropy(self) -> float:
        return -1.0


class Failing(Right):
    def load(self) -> Splits:
        raise ZeroDivisionError("a mistake")


def failed(subject: DataSubject, name: str) -> str:
    (check,) = [check for check in CHECKS if check.name == name]
    outcome = outcome_of(check, subject)
    assert outcome.state == "failed"
    return outcome.message


def test_a_data_set_without_a_mistake_passes() -> None:
    outcomes = {outcome.check.name: outcome for outcome in outcomes_of(DataSubject(Right()))}
    # This module imports torch.
    assert "Building it imports PIL, numpy, torch" in outcomes.pop("built_without_torch").message
    assert {outcome.state for outcome in outcomes.values()} == {"passed", "exempt"}


ONES = torch.ones(3, 6)


@pytest.mark.parametrize(
    ("spec", "check", "words"),
    [
        (Undescribed(), "described", "'rows' has no description"),
        (Silent(), "described", "no summary"),
        (Forgetful(note="a"), "options_survive", "comes back as"),
        (Restless(), "options_survive", "for_likelihood('auto') is another spec"),
        (Nameless(), "options_survive", "for_likelihood('bernoulli') is None"),
        (changed(train=torch.full((5, 6), 2.0)), "contract", "values outside 0…1"),
        (changed(feature_shape=(7,)), "contract", "feature shape"),
        (changed(likelihood="gaussian"), "contract", "where numbers are float32"),
        (changed(likelihood="categorical", categories=(2,) * 6), "contract", "symbols are int16"),
        (changed(source=""), "facts", "source or licence"),
        (changed(likelihood="cauchy"), "facts", "'cauchy'"),
        (changed(feature_shape=[2, 3]), "facts", "tuple of int"),
        (changed(categories=[2] * 6), "facts", "categories are no tuple of int"),
        (changed(vocabulary=(0, 1)), "facts", "vocabulary is no tuple of str"),
        (changed(test=torch.zeros(1, 6)), "one_kind_of_values", "torch.float32"),
        (changed(train=ONES, validation=ONES, test=ONES), "one_kind_of_values", "0 and 1, as float32"),
        (changed(fresh_bits=True), "one_kind_of_values", "fresh_bits"),
        (changed(train_labels=torch.arange(3)), "labels_match", "(3,) for 20 rows"),
        (changed(train_labels=torch.zeros(20)), "labels_match", "torch.float32"),
        (changed(order=torch.zeros(23, dtype=torch.int64)), "order_is_of_the_rows", "twice"),
        (Random(), "loads_twice_alike", "other values"),
        (Random(), "leaves_the_random_state", "global random state"),
        (OfAPickle(), "needs_no_pickles", "unpickled"),
        (Online(), "loads_offline_again", "connected to"),
        (WrongEntropy(), "entropy_is_that_of_the_rows", "sums to"),
        (WrongLogProb(), "entropy_is_that_of_the_rows", "sums to"),
        (WrongSymbols(), "entropy_is_that_of_the_rows", "sums to 0.25"),
        (AboveOne(), "entropy_is_that_of_the_rows", "above 0"),
        (Failing(), "contract", "ZeroDivisionError in load"),
    ],
)
def test_a_mistake_is_found_by_its_check(spec: DatasetSpec, check: str, words: str) -> None:
    assert words in failed(DataSubject(spec), check)


def test_a_density_may_be_above_one() -> None:
    (check,) = [check for check in CHECKS if check.name == "entropy_is_that_of_the_rows"]
    assert outcome_of(check, DataSubject(Density())).state == "passed"


def test_a_check_of_files_that_sees_none_missing_is_a_mistake() -> None:
    assert "says nothing of files" in failed(DataSubject(Careless(), Careless()), "missing_files_are_named")


def test_the_names_of_checks_are_all_different() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS) == 16
    assert all(check.meaning for check in CHECKS)
