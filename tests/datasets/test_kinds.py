"""Arrays of real values, counts and symbols, from every kind of file, and what is refused of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from scipy import sparse

from bvae_cli.config import LikelihoodName, TrainConfig
from bvae_cli.datasets import values as values_module
from bvae_cli.datasets.arrays import Arrays
from bvae_cli.datasets.base import Splits
from bvae_cli.datasets.mapped import MappedRows
from bvae_cli.errors import UsageError

from .refusal import refused

NAMES: tuple[LikelihoodName, ...] = get_args(LikelihoodName)
TYPES = {
    "bernoulli": torch.uint8,
    "gaussian": torch.float32,
    "poisson": torch.float32,
    "negative-binomial": torch.float32,
    "categorical": torch.int16,
}


def table(likelihood: str, rows: int = 20) -> np.ndarray:
    """Rows of 6 values that the likelihood takes, with a symbol in the first column that is always the same."""
    random = np.random.default_rng(0)
    if likelihood == "gaussian":
        return random.normal(size=(rows, 6)) * 100
    values = random.integers(0, 2 if likelihood == "bernoulli" else 7, (rows, 6))
    values[:, 0] = 0
    return values


def _csv(path: Path, values: np.ndarray) -> None:
    np.savetxt(path, values, delimiter=",", fmt="%.17g")


def _divided(folder: Path, values: np.ndarray) -> dict[str, Any]:
    np.savez(folder / "x.npz", train=values[:14], validation=values[14:17], test=values[17:])
    return {"path": folder / "x.npz"}


def _files(folder: Path, values: np.ndarray) -> dict[str, Any]:
    np.save(folder / "train.npy", values[:14])
    _csv(folder / "validation.csv", values[14:17])
    np.savez(folder / "test.npz", x=values[17:])
    others = {"validation_file": folder / "validation.csv", "test_file": folder / "test.npz"}
    return {"path": folder / "train.npy", **others}


def _parquet(folder: Path, values: np.ndarray) -> dict[str, Any]:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    parquet.write_table(pa.table({f"c{number}": column for number, column in enumerate(values.T)}), folder / "x.parquet")
    return {"path": folder / "x.parquet"}


def _saved(folder: Path, name: str, save: Callable[[Path], object]) -> dict[str, Any]:
    save(folder / name)
    return {"path": folder / name}


SOURCES: dict[str, Callable[[Path, np.ndarray], dict[str, Any]]] = {
    ".npy": lambda folder, values: _saved(folder, "x.npy", lambda path: np.save(path, values)),
    ".npz": lambda folder, values: _saved(folder, "x.npz", lambda path: np.savez(path, x=values)),
    ".npz, divided": _divided,
    ".csv": lambda folder, values: _saved(
        folder, "x.csv", lambda path: np.savetxt(path, values, delimiter=",", fmt="%.17g")
    ),
    "sparse": lambda folder, values: _saved(
        folder, "x.npz", lambda path: sparse.save_npz(path, sparse.coo_matrix(values).tocsc())
    ),
    "files": _files,
    "parquet": _parquet,
}


def together(splits: Splits) -> torch.Tensor:
    return torch.cat([torch.as_tensor(part[:]) for part in (splits.train, splits.validation, splits.test)])


@pytest.mark.parametrize("likelihood", NAMES)
@pytest.mark.parametrize("source", SOURCES)
def test_every_file_gives_the_values_of_every_likelihood(tmp_path: Path, source: str, likelihood: LikelihoodName) -> None:
    values = table(likelihood)
    splits = Arrays(**SOURCES[source](tmp_path, values), likelihood=likelihood).load()
    assert splits.problem() is None
    assert splits.likelihood == likelihood
    rows = together(splits)
    assert rows.dtype is TYPES[likelihood]
    wanted = values.astype(np.float32)
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, wanted.tolist()))
    assert splits.categories == (tuple((values.max(0) + 1).tolist()) if likelihood == "categorical" else ())
    assert splits.vocabulary == ()


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson", "negative-binomial"])
def test_real_values_and_counts_stay_in_their_file(tmp_path: Path, likelihood: LikelihoodName) -> None:
    np.save(tmp_path / "x.npy", table(likelihood))
    mapped, read = (Arrays(path=tmp_path / "x.npy", mapped=how, likelihood=likelihood).load() for how in ("always", "never"))
    assert isinstance(mapped.train, MappedRows)
    assert mapped.digest() == read.digest()


def test_symbols_are_read_into_memory_and_cannot_be_mapped(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", table("categorical"))
    assert isinstance(Arrays(path=tmp_path / "x.npy", likelihood="categorical").load().train, torch.Tensor)
    with refused("cannot be mapped: it is a table of symbols", "mapped=always"):
        Arrays(path=tmp_path / "x.npy", likelihood="categorical", mapped="always").load()


@pytest.mark.parametrize("mapped", ["always", "never"])
@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_packed_bits_are_real_values_and_counts_as_well(tmp_path: Path, likelihood: LikelihoodName, mapped: Any) -> None:
    bits = table("bernoulli").astype(np.uint8)
    np.savez(tmp_path / "x.npz", x=np.packbits(bits, axis=1), feature_shape=[2, 3])
    splits = Arrays(path=tmp_path / "x.npz", likelihood=likelihood, mapped=mapped).load()
    assert (splits.likelihood, splits.feature_shape, splits.problem()) == (likelihood, (2, 3), None)
    assert sorted(together(splits).tolist()) == sorted(bits.tolist())
    with refused("holds packed bits, no symbols"):
        Arrays(path=tmp_path / "x.npz", likelihood="categorical").load()


REFUSED: list[tuple[LikelihoodName, float, tuple[str, ...]]] = [
    ("bernoulli", -0.25, ("is -0.25, outside 0…1", "Scale the data", "--likelihood gaussian (real values).")),
    ("bernoulli", 300, ("is 300, outside 0…1", "gaussian (real values), poisson (counts) or categorical (symbols).")),
    ("bernoulli", 7, ("is 7, outside 0…1", "Scale the data to 0…1.", "poisson (counts)")),
    ("bernoulli", 200, ("is 200, outside 0…1", "divide them by 255", "poisson (counts)")),
    ("gaussian", float("nan"), ("not a number (NaN)", "Fill or drop")),
    ("gaussian", float("-inf"), ("is infinite", "Fill or drop")),
    ("gaussian", 1e39, ("is 1e+39, beyond what float32 holds", "Scale the data.")),
    ("poisson", -1, ("is -1, no count", "whole numbers from 0 to 16,777,216", "--likelihood gaussian")),
    ("negative-binomial", 0.5, ("is 0.5, no count", "--likelihood gaussian (real values).")),
    ("poisson", 2**24 + 1, ("is 16777217, no count", "gaussian")),
    ("poisson", float("nan"), ("not a number", "Fill or drop")),
    ("categorical", -1, ("is -1, no number of a symbol", "0, 1, 2 … up to 32,767", "gaussian")),
    ("categorical", 0.5, ("is 0.5, no number of a symbol", "gaussian")),
    ("categorical", 2**15, ("is 32768, no number of a symbol", "poisson (counts)")),
]


@pytest.mark.parametrize(("likelihood", "value", "words"), REFUSED)
@pytest.mark.parametrize("source", [".npy", ".csv", "sparse", ".npz, divided", "parquet"])
def test_a_value_that_the_likelihood_does_not_take_is_named_with_those_that_would(
    tmp_path: Path, source: str, likelihood: LikelihoodName, value: float, words: tuple[str, ...]
) -> None:
    values = table("bernoulli").astype(np.float64)
    values[3, 4] = value
    place = "Row 4, column 5 of"
    with refused(place, *words):
        Arrays(**SOURCES[source](tmp_path, values), likelihood=likelihood).load()


def test_a_bad_value_of_a_mapped_file_is_named_too(tmp_path: Path) -> None:
    values = table("poisson").astype(np.float32).reshape(-1, 2, 3)
    values[7, 1, 0] = 1.5
    np.save(tmp_path / "x.npy", values)
    with refused("Row 8, column 4 (at 2, 1 of 2 × 3) of", "is 1.5, no count"):
        Arrays(path=tmp_path / "x.npy", mapped="always", likelihood="poisson").load()


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({9: float("nan"), 2: -0.5}, ("Row 10, column 2", "not a number (NaN)", "Fill or drop")),
        ({9: float("inf"), 2: 300.0}, ("Row 10, column 2", "infinite", "Fill or drop")),
        ({2: 2.0, 9: -3.5}, ("Row 3, column 2", "is 2, outside", "Scale the data", "--likelihood gaussian (real values).")),
        ({2: 2.0, 9: 200.0}, ("Row 3, column 2", "is 2, outside", "divide them by 255")),
    ],
)
@pytest.mark.parametrize("mapped", ["always", "never"])
def test_message_and_hint_are_of_one_value_and_the_same_of_a_mapped_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapped: Any, bad: dict[int, float], words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(values_module, "_VALUES_AT_ONCE", 12)
    values = table("bernoulli").astype(np.float64)
    for row, value in bad.items():
        values[row, 1] = value
    np.save(tmp_path / "x.npy", values)
    with refused(*words):
        Arrays(path=tmp_path / "x.npy", mapped=mapped).load()


@pytest.mark.parametrize("kind", ["bits", "grey", "pictures", "packed", "symbols", "empty", "three files"])
def test_for_one_pass_the_rows_stay_in_their_file_and_are_the_same(tmp_path: Path, kind: str) -> None:
    bits, path, options = table("bernoulli").astype(np.uint8), tmp_path / "x.npy", {}
    if kind == "packed":
        path = tmp_path / "x.npz"
        np.savez(path, x=np.packbits(bits, axis=1), feature_shape=[2, 3])
    else:
        made = {"grey": bits * 0.5, "pictures": bits.reshape(-1, 2, 3), "empty": bits[:0]}
        np.save(path, made.get(kind, bits))
    if kind == "symbols":
        options["likelihood"] = "categorical"
    if kind == "three files":
        options |= {"validation_file": path, "test_file": path}
    spec = Arrays(path=path, **options)  # type: ignore[arg-type]
    if kind == "empty":
        with refused("has no rows"):
            spec.for_one_pass().load()
        return
    here, there = spec.load(), spec.for_one_pass().load()
    assert there.digest() == here.digest()
    assert torch.equal(torch.as_tensor(there.all_rows()[:]), torch.as_tensor(here.all_rows()[:]))
    assert isinstance(there.train, MappedRows) == (kind != "symbols")
    assert not isinstance(here.train, MappedRows)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split_file": "s.txt", "validation": 0.3}, r"validation=0\.3 would do nothing: split_file"),
        ({"split_file": "s.txt", "split_seed": 4}, "split_seed=4 would do nothing: split_file"),
        ({"test_file": "t.npy", "test": 0.2}, r"test=0\.2 would do nothing: the test rows are those of test_file"),
        ({"test_file": "t.npy", "validation_file": "v.npy", "validation": 0.2}, r"validation=0\.2 would do nothing"),
    ],
)
def test_a_share_that_another_option_decides_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Arrays(path="x.npy", **options)
    assert Arrays(path="x.npy", test_file="t.npy", validation=0.3).validation == 0.3


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "float16", "float64", ">f4", ">i4"])
def test_counts_and_symbols_may_be_of_any_numeric_type(tmp_path: Path, dtype: str) -> None:
    values = table("poisson")
    np.save(tmp_path / "x.npy", values.astype(dtype))
    for likelihood in ("poisson", "categorical", "gaussian"):
        splits = Arrays(path=tmp_path / "x.npy", likelihood=likelihood).load()
        assert sorted(together(splits).tolist()) == sorted(values.tolist())


def test_the_largest_values_are_taken(tmp_path: Path) -> None:
    for likelihood, largest in (("poisson", 2**24), ("categorical", 2**15 - 1), ("gaussian", float(np.finfo("f4").max))):
        values = table("bernoulli").astype(np.float64)
        values[0, 1] = largest
        np.savetxt(tmp_path / "x.csv", values, fmt="%.17g")
        splits = Arrays(path=tmp_path / "x.csv", likelihood=likelihood).load()
        assert float(together(splits).max()) == largest
        assert splits.problem() is None


def test_counts_of_one_place_of_a_sparse_matrix_are_added_up(tmp_path: Path) -> None:
    places = np.repeat(np.arange(9), 2)
    matrix = sparse.coo_matrix((np.full(18, 200, np.uint8), (places, places % 3)), shape=(9, 3))
    sparse.save_npz(tmp_path / "x.npz", matrix)
    assert float(together(Arrays(path=tmp_path / "x.npz", likelihood="poisson").load()).max()) == 400


# What a person names


def test_a_likelihood_that_is_named_says_what_the_values_are() -> None:
    spec = Arrays(path="x.npy")
    for name in ("auto", "bernoulli"):
        assert spec.for_likelihood(name) is spec
    for name in NAMES[1:]:
        read = spec.for_likelihood(name)
        assert read == Arrays(path="x.npy", likelihood=name)
        assert read.for_likelihood("gaussian") is read


def test_the_configuration_of_a_run_holds_what_was_named() -> None:
    config = TrainConfig(dataset="x.npy", likelihood="poisson")
    assert config.dataset.options["likelihood"] == "poisson"
    assert TrainConfig(dataset="x.npy").dataset.options["likelihood"] == "bernoulli"


def test_what_the_values_are_is_no_part_of_what_decided_earlier_runs(tmp_path: Path) -> None:
    assert "dataset" not in TrainConfig(dataset="x.npy").deciding()
    np.save(tmp_path / "x.npy", np.arange(24).reshape(6, 4) % 3 % 2)
    # The digest of data that were loaded before there were other likelihoods.
    digest = "cd279bc58d98fc12f971cae471f74864ae6fcdeb7c70b3207d02a091c9d78a98"
    assert Arrays(path=tmp_path / "x.npy").load().digest() == digest


def test_options_without_the_likelihood_are_those_of_earlier_files() -> None:
    options = Arrays(path="x.npy").model_dump(mode="json")
    del options["likelihood"]
    assert Arrays.model_validate(options) == Arrays(path="x.npy")
