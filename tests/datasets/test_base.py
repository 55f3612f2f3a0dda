from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from bvae_cli.datasets.base import DatasetSpec, Splits


def small_splits(**changes: Any) -> Splits:
    fields: dict[str, Any] = {
        "train": torch.tensor([[0, 1], [1, 0], [1, 1]], dtype=torch.uint8),
        "validation": torch.zeros(2, 2, dtype=torch.uint8),
        "test": torch.ones(1, 2, dtype=torch.uint8),
        "feature_shape": (2,),
        "source": "a table",
        "licence": "none",
        "train_labels": torch.tensor([7, 8, 9]),
    }
    return Splits(**{**fields, **changes})


@pytest.mark.parametrize(
    "construction",
    [
        "from bvae_cli.datasets.base import DatasetSpec",
        "from bvae_cli.datasets.binarized_mnist import BinarizedMnist; BinarizedMnist().check()",
        "from bvae_cli.datasets.idx import Mnist; Mnist(folder='.', binarize='fresh'); Mnist().check()",
        "from bvae_cli.datasets.arrays import Arrays; Arrays(path=__import__('sys').executable + '.npy')",
        "from bvae_cli.datasets.emnist import Emnist; Emnist().check()",
        "from bvae_cli.datasets.cifar10 import Cifar10; Cifar10().check()",
        "from bvae_cli.datasets.omniglot import Omniglot; Omniglot().check()",
        "from bvae_cli.datasets.images import Images; Images(path='.').check()",
        "from bvae_cli.datasets.symbols import Symbols; Symbols(path='x.txt', separator=',')",
        "from bvae_cli.datasets.random_symbols import RandomSymbols; RandomSymbols(epsilon=0.1).check()",
        "import bvae_cli.datasets.arrays as a, pathlib; "
        "p = pathlib.Path('x.csv'); p.write_text('0'); a.Arrays(path=p).check()",
        "import bvae_cli.datasets.idx as i, bvae_cli.errors as e\n"
        "try: i.Mnist(folder='nowhere').check()\nexcept e.InputOutputError: pass\nelse: raise SystemExit(1)",
    ],
)
def test_importing_building_and_checking_a_spec_imports_no_torch_numpy_or_pooch(construction, tmp_path):
    heavy = "import sys; found = {'torch', 'numpy', 'pooch'} & set(sys.modules); assert not found, found"
    done = subprocess.run(
        [sys.executable, "-c", f"{construction}\n{heavy}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_spec_is_frozen_and_refuses_unknown_options():
    class Nothing(DatasetSpec):
        rows: int = 3

        def load(self) -> Splits:
            return small_splits()

    spec = Nothing(rows=4)
    with pytest.raises(ValidationError):
        spec.rows = 5
    with pytest.raises(ValidationError, match="row"):
        Nothing(row=4)
    assert spec.check() is None


def test_features_is_the_length_of_a_row():
    assert small_splits().features == 2


def test_a_split_is_found_by_its_name():
    splits = small_splits()
    assert splits.split("train") is splits.train
    assert splits.split("validation") is splits.validation
    assert splits.split("test") is splits.test


def test_the_digest_is_the_same_for_the_same_values_and_labels_do_not_count():
    assert small_splits().digest() == small_splits(train_labels=None, source="elsewhere").digest()


@pytest.mark.parametrize(
    "change",
    [
        {"train": torch.tensor([[0, 1], [1, 0], [1, 0]], dtype=torch.uint8)},
        {"test": torch.ones(2, 2, dtype=torch.uint8)},
        {"validation": torch.zeros(2, 2)},
        {"feature_shape": (1, 2)},
        {"fresh_bits": True},
    ],
)
def test_the_digest_changes_with_values_shapes_types_and_fresh_bits(change):
    assert small_splits(**change).digest() != small_splits().digest()


def test_the_digest_does_not_depend_on_the_layout_in_memory():
    train = small_splits().train
    assert small_splits(train=train.t().contiguous().t()).digest() == small_splits().digest()


def test_a_limited_data_set_keeps_the_first_training_rows_and_all_others():
    splits = small_splits()
    limited = splits.limited(2)
    assert limited.train.tolist() == [[0, 1], [1, 0]]
    assert limited.train_labels.tolist() == [7, 8]
    assert limited.validation is splits.validation
    assert limited.test is splits.test


def test_a_limit_of_zero_or_above_the_rows_keeps_all_rows():
    splits = small_splits()
    assert splits.limited(0) is splits
    assert splits.limited(99).train.equal(splits.train)


def test_a_limited_data_set_without_labels_stays_without():
    assert small_splits(train_labels=None).limited(1).train_labels is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"train": torch.zeros(0, 2)}, "an empty train split"),
        ({"test": torch.zeros(0, 2)}, "an empty test split"),
        ({"validation": torch.zeros(2, 0)}, "an empty validation split"),
        ({"train": torch.tensor([[0, 2]], dtype=torch.uint8)}, "values outside 0…1 in its train split: from 0 to 2"),
        ({"test": torch.tensor([[0.5, -0.1]])}, "values outside 0…1 in its test split: from -0.1 to 0.5"),
        ({"test": torch.tensor([[0.5, float("nan")]])}, "values outside 0…1 in its test split"),
        ({"train": torch.ones(3, 2, dtype=torch.int64)}, "a train split of torch.int64"),
        ({"train": torch.ones(3, 2, 1)}, r"a train split that is not a tensor \[rows, D\]"),
        ({"validation": [[0, 1]]}, "a validation split that is not a tensor"),
        ({"test": torch.zeros(1, 3)}, "2 values in a row of train and 3 in one of test"),
        ({"feature_shape": (2, 2)}, r"rows of 2 values with the feature shape \(2, 2\)"),
    ],
)
def test_what_breaks_the_contract_is_named(change, problem):
    assert re.match(problem, small_splits(**change).problem() or "")


SYMBOLS: dict[str, Any] = {
    **dict.fromkeys(("train", "validation", "test"), torch.tensor([[0, 1], [2, 0]], dtype=torch.int16)),
    "likelihood": "categorical",
    "categories": (3, 3),
    "vocabulary": ("a", "b", "c"),
}
COUNTS: dict[str, Any] = {
    **dict.fromkeys(("train", "validation", "test"), torch.tensor([[0.0, 2.0**24]])),
    "likelihood": "poisson",
}


@pytest.mark.parametrize(
    ("kind", "change", "problem"),
    [
        (SYMBOLS, {"likelihood": "cauchy"}, "the likelihood 'cauchy', which is none of bernoulli"),
        (SYMBOLS, {"fresh_bits": True}, "fresh_bits with the likelihood categorical"),
        (SYMBOLS, {"categories": ()}, "a vocabulary of 3 symbols for columns of"),
        (SYMBOLS, {"categories": (), "vocabulary": ()}, "0 numbers of categories for 2 columns"),
        (SYMBOLS, {"categories": (3, 4)}, "a vocabulary of 3 symbols for columns of"),
        (SYMBOLS, {"categories": (3, 0), "vocabulary": ()}, "a column of 0 categories"),
        (SYMBOLS, {"categories": (3, 2**15 + 1), "vocabulary": ()}, "a column of 32,769 categories, where there are 1 to"),
        (SYMBOLS, {"categories": (3, 1), "vocabulary": ()}, "a symbol in its train split beyond the categories"),
        (SYMBOLS, {"vocabulary": ("a", "b", "a")}, "a vocabulary that names a symbol twice"),
        (SYMBOLS, {"test": torch.tensor([[0, -1]], dtype=torch.int16)}, "negative values in its test split: -1"),
        (SYMBOLS, {"test": torch.tensor([[0, 1]])}, "a test split of torch.int64, where symbols are int16"),
        (COUNTS, {"test": torch.tensor([[0.0, 1.5]])}, "counts in its test split that are not whole numbers"),
        (COUNTS, {"test": torch.tensor([[0.0, -1.0]])}, "negative values in its test split: -1"),
        (COUNTS, {"test": torch.tensor([[0.0, 2.0**24 + 2]])}, "counts above 16,777,216 in its test split"),
        (COUNTS, {"test": torch.tensor([[0.0, torch.nan]])}, "values in its test split that are not numbers, or infinite"),
        (COUNTS, {"categories": (3, 3)}, "categories with the likelihood poisson"),
        (COUNTS, {"likelihood": "gaussian", "test": torch.tensor([[0.0, torch.inf]])}, "values in its test split that are"),
        (COUNTS, {"likelihood": "gaussian", "vocabulary": ("a",)}, "vocabulary with the likelihood gaussian"),
        (COUNTS, {"test": torch.ones(1, 2, dtype=torch.uint8)}, "a test split of torch.uint8, where numbers are float32"),
    ],
)
def test_what_breaks_the_contract_of_other_kinds_is_named(kind, change, problem):
    assert re.match(problem, small_splits(**{**kind, **change}).problem() or "")


@pytest.mark.parametrize(
    "kind", [SYMBOLS, {**SYMBOLS, "vocabulary": ()}, COUNTS, {**COUNTS, "likelihood": "negative-binomial"}]
)
def test_counts_and_symbols_that_keep_the_contract_have_no_problem(kind):
    assert small_splits(**kind).problem() is None


def test_the_digest_knows_real_values_from_counts_and_symbols_by_their_names():
    splits = small_splits(**COUNTS)
    assert len({small_splits(**{**COUNTS, "likelihood": name}).digest() for name in ("gaussian", "poisson")}) == 2
    assert splits.digest() == small_splits(**COUNTS).digest()
    named = [small_splits(**{**SYMBOLS, "vocabulary": names}).digest() for names in ((), ("a", "b", "c"), ("b", "a", "c"))]
    assert len(set(named)) == 3


def test_splits_that_keep_the_contract_have_no_problem():
    assert small_splits().problem() is None
    assert small_splits(train=torch.tensor([[0.5, 0.0]])).problem() is None
