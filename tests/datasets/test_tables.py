"""Arrays in Parquet files and as sparse matrices, and splits by files."""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from bvae_cli.config import parse_dataset
from bvae_cli.datasets.arrays import Arrays
from bvae_cli.errors import UsageError

from .refusal import refused

pa = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402


def bits(rows: int = 30, columns: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (rows, columns), dtype=np.uint8)


def everything(spec: Arrays) -> torch.Tensor:
    splits = spec.load()
    assert splits.problem() is None
    return splits.all_rows()[torch.arange(len(splits.all_rows()))]


# Parquet


def write_parquet(path: Path, **columns: object) -> Path:
    parquet.write_table(pa.table(columns), path, row_group_size=7)
    return path


def test_the_columns_of_a_parquet_file_are_features(tmp_path: Path) -> None:
    array = bits()
    columns = {f"c{number}": array[:, number].astype(bool if number else np.int64) for number in range(6)}
    path = write_parquet(tmp_path / "x.parquet", **columns)
    assert parse_dataset(str(path)).type == "arrays"
    rows = everything(Arrays(path=path))
    assert rows.dtype == torch.uint8
    assert rows.equal(torch.from_numpy(array))


def test_a_column_of_labels_is_no_feature(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).random(30).astype(np.float32)
    path = write_parquet(tmp_path / "x.parquet", a=grey, labels=np.arange(30), b=grey / 2)
    splits = Arrays(path=path).load()
    assert splits.features == 2
    assert splits.train.dtype == torch.float32
    for rows, labels in ((splits.train, splits.train_labels), (splits.test, splits.test_labels)):
        assert rows[:, 0].equal(torch.from_numpy(grey)[labels])


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"a": ["x", "y", "z"]}, ["The column 'a' of", "is of the type string, not of numbers"]),
        ({"a": [0, 1, None]}, ["Row 3, column 'a' of", "has no value"]),
        ({"a": [0.0, 2.0, 1.0]}, ["Row 2, column 1 of", "is 2, outside 0…1"]),
        ({"a": [0, 1, 1], "y": [0.5, 1.5, 2.5]}, ["labels in", "is not one whole number"]),
    ],
)
def test_a_parquet_file_of_other_content_is_refused(tmp_path: Path, columns: dict, words: list[str]) -> None:
    path = write_parquet(tmp_path / "x.parquet", **columns)
    with refused(str(path), *words):
        Arrays(path=path).load()


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    content = write_parquet(tmp_path / "x.parquet", a=[0, 1] * 50).read_bytes()
    for number, damaged in enumerate((content[:-9], b"PAR1" + bytes(60) + b"PAR1", b"plain", content[:40] + content[60:])):
        path = tmp_path / f"{number}.parquet"
        path.write_bytes(damaged)
        with refused(str(path)):
            Arrays(path=path).load()


def test_a_parquet_file_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("bvae_cli.sources._LARGE", 2**20)
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.table({"a": np.zeros(2**21, np.uint8)}), path)
    assert 100 * path.stat().st_size < 2**23
    with refused("would unpack to"):
        Arrays(path=path).load()


def test_without_pyarrow_the_command_that_installs_it_is_named(tmp_path: Path, monkeypatch) -> None:
    path = write_parquet(tmp_path / "x.parquet", a=[0, 1, 1])
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pyarrow" else found(name))
    with pytest.raises(UsageError, match=r"pip install 'bvae-cli\[parquet\]'"):
        Arrays(path=path).check()


# Sparse


@pytest.mark.parametrize("kind", ["csr", "csc", "coo"])
@pytest.mark.parametrize("compressed", [True, False])
def test_a_sparse_matrix_is_what_it_is_dense(tmp_path: Path, kind: str, compressed: bool) -> None:
    array = bits(40, 9)
    path = tmp_path / "x.npz"
    sparse.save_npz(path, sparse.csr_matrix(array).asformat(kind), compressed=compressed)
    rows = everything(Arrays(path=path))
    assert rows.dtype == torch.uint8
    assert rows.equal(torch.from_numpy(array))
    half = (sparse.csr_matrix(array) * 0.5).asformat(kind)
    sparse.save_npz(path, half, compressed=compressed)
    assert everything(Arrays(path=path)).equal(torch.from_numpy(array) * 0.5)


def test_values_at_one_place_are_added(tmp_path: Path) -> None:
    matrix = sparse.coo_matrix(([0.25, 0.5, 1.0, 1.0], ([0, 0, 1, 2], [1, 1, 0, 1])), shape=(3, 2))
    sparse.save_npz(tmp_path / "x.npz", matrix)
    assert everything(Arrays(path=tmp_path / "x.npz")).tolist() == [[0.0, 0.75], [1.0, 0.0], [0.0, 1.0]]


def test_labels_may_stand_beside_a_sparse_matrix(tmp_path: Path) -> None:
    matrix = sparse.csr_matrix(bits(20))
    parts = {"indices": matrix.indices, "indptr": matrix.indptr, "data": matrix.data, "shape": matrix.shape}
    np.savez(tmp_path / "x.npz", format=b"csr", y=np.arange(20), **parts)
    splits = Arrays(path=tmp_path / "x.npz").load()
    assert splits.train.equal(torch.from_numpy(bits(20))[splits.train_labels])


def test_a_sparse_value_out_of_range_is_named(tmp_path: Path) -> None:
    counts = bits(10, 5).astype(np.int64)
    counts[6, 3] = 7
    sparse.save_npz(tmp_path / "x.npz", sparse.csr_matrix(counts))
    with refused("Row 7, column 4 of", "is 7, outside 0…1", "(matrix > 0)"):
        Arrays(path=tmp_path / "x.npz").load()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": [30, 10**12]}, "would be 30 × 1,000,000,000,000 values"),
        ({"shape": [-3, 6]}, "does not say how many rows"),
        ({"shape": [30]}, "does not say how many rows"),
        ({"shape": [2**62, 6]}, "would be"),
        ({"shape": [29, 6]}, "is damaged"),
        ({"shape": [30, 3]}, "is damaged"),
        ({"indices": np.array([0.5])}, "is damaged"),
        ({"format": b"bsr"}, "of the format 'bsr', not one of csr, csc, coo"),
        ({"format": "csx"}, "of the format 'csx'"),
        ({"format": 3}, "is not text"),
        ({"format": np.array([None])}, "Python objects"),
        ({"data": np.array([None])}, "Python objects"),
        ({"indptr": np.arange(31) - 1}, "is damaged"),
    ],
)
def test_a_sparse_matrix_that_lies_is_refused(tmp_path: Path, changes: dict, words: str) -> None:
    matrix = sparse.csr_matrix(bits())
    parts = {
        "indices": matrix.indices,
        "indptr": matrix.indptr,
        "data": matrix.data,
        "shape": matrix.shape,
        "format": b"csr",
    }
    np.savez(tmp_path / "x.npz", **{**parts, **changes})
    with refused(words):
        Arrays(path=tmp_path / "x.npz").load()


def test_other_formats_of_scipy_are_refused_with_what_to_do(tmp_path: Path) -> None:
    for kind in ("bsr", "dia"):
        sparse.save_npz(tmp_path / "x.npz", sparse.csr_matrix(bits()).asformat(kind))
        with refused(f"of the format '{kind}'", "matrix.tocsr()"):
            Arrays(path=tmp_path / "x.npz").load()
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        assert "format.npy" in archive.namelist()


# Splits by files


@pytest.fixture
def table(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", bits(10))
    return tmp_path / "x.npy"


@pytest.mark.parametrize("mapped", ["always", "never"])
def test_a_file_of_words_says_the_split_of_each_row(table: Path, tmp_path: Path, mapped: str) -> None:
    words = ["test", "train", "none", "train", "validation", "train", "test", "none", "train", "validation"]
    (tmp_path / "splits.txt").write_text("\n".join(words) + "\n\n")
    splits = Arrays(path=table, split_file=tmp_path / "splits.txt", mapped=mapped).load()
    rows = torch.from_numpy(bits(10))
    assert splits.train[:].equal(rows[[1, 3, 5, 8]])
    assert splits.validation[:].equal(rows[[4, 9]])
    assert splits.test[:].equal(rows[[0, 6]])
    assert splits.all_rows()[torch.arange(8)].equal(rows[[0, 1, 3, 4, 5, 6, 8, 9]])


def test_a_file_of_row_numbers_says_it_in_its_order(table: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "splits.npz", train=[8, 1, 3], validation=[0], test=[9, 2])
    splits = Arrays(path=table, split_file=tmp_path / "splits.npz").load()
    assert splits.train.equal(torch.from_numpy(bits(10)[[8, 1, 3]]))
    assert splits.test.equal(torch.from_numpy(bits(10)[[9, 2]]))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("s.txt", "train\n" * 9, "has 9 lines for 10 rows"),
        ("s.txt", "train\n" * 10, "puts no row into validation"),
        ("s.txt", "train\nvaildation\n", "Line 2 of"),
        ("s.txt", "train\nvaildation\n", "Did you mean 'validation'?"),
        ("s.txt", "", "is empty"),
        ("s.dat", "train", "is no file of splits"),
        ("s.npz", {"train": [1], "validation": [2]}, "has no array 'test'"),
        ("s.npz", {"train": [1, 2], "validation": [2], "test": [3]}, "names a row that is named before"),
        ("s.npz", {"train": [1, 1], "validation": [2], "test": [3]}, "names a row that is named before"),
        ("s.npz", {"train": [1], "validation": [10], "test": [3]}, "names the row 10; there are 0 to 9"),
        ("s.npz", {"train": [1], "validation": [-1], "test": [3]}, "names the row -1"),
        ("s.npz", {"train": [1], "validation": [], "test": [3]}, "is not a list of row numbers"),
        ("s.npz", {"train": [True], "validation": [0], "test": [3]}, "is not a list of row numbers"),
    ],
)
def test_a_file_of_splits_that_does_not_fit_is_refused(table: Path, tmp_path: Path, name: str, content, words: str) -> None:
    if isinstance(content, str):
        (tmp_path / name).write_text(content)
    else:
        np.savez(tmp_path / name, **content)
    with refused(words):
        Arrays(path=table, split_file=tmp_path / name).load()


def test_splits_may_be_files_of_their_own_of_different_kinds(table: Path, tmp_path: Path) -> None:
    sparse.save_npz(tmp_path / "v.npz", sparse.csr_matrix(bits(4, seed=1)))
    np.savetxt(tmp_path / "t.csv", bits(3, seed=2) / 2, delimiter=",")
    spec = Arrays(path=table, validation_file=tmp_path / "v.npz", test_file=tmp_path / "t.csv")
    spec.check()
    splits = spec.load()
    assert splits.problem() is None
    assert splits.train.equal(torch.from_numpy(bits(10)).float())
    assert splits.validation.equal(torch.from_numpy(bits(4, seed=1)).float())
    assert splits.test.equal(torch.from_numpy(bits(3, seed=2)) / 2)


@pytest.mark.parametrize("mapped", ["always", "never"])
def test_without_a_file_of_validation_rows_the_seed_takes_them_from_training(
    table: Path, tmp_path: Path, mapped: str
) -> None:
    np.save(tmp_path / "t.npy", bits(3, seed=2) / np.float32(2))
    splits = Arrays(path=table, test_file=tmp_path / "t.npy", validation=0.3, split_seed=5, mapped=mapped).load()
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (7, 3, 3)
    assert splits.train.dtype == splits.test.dtype == torch.float32
    both = torch.cat([splits.train[:], splits.validation[:]])
    assert sorted(both.tolist()) == sorted(bits(10).astype(float).tolist())


def test_files_that_contradict_each_other_are_refused(table: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", bits(3, 5))
    with refused("differ in shape: 5 and 6"):
        Arrays(path=table, test_file=tmp_path / "t.npy").load()
    with refused("There is no file"):
        Arrays(path=table, test_file=tmp_path / "none.npy").check()
    with refused("There is no file"):
        Arrays(path=table, split_file=tmp_path / "none.txt").check()
    with pytest.raises(UsageError, match="Leave one of them out"):
        Arrays(path=table, test_file=table, split_file=table)
    with pytest.raises(UsageError, match="no test_file"):
        Arrays(path=table, validation_file=table)
    np.savez(tmp_path / "d.npz", train=bits(), validation=bits(), test=bits())
    (tmp_path / "s.txt").write_text("train\n")
    with refused("is divided already"):
        Arrays(path=tmp_path / "d.npz", split_file=tmp_path / "s.txt").load()


def test_how_rows_are_divided_stands_in_the_configuration(table: Path) -> None:
    spec = parse_dataset(f"arrays:path={table},split_file=s.txt,mapped=never").spec("data set")
    assert spec.model_dump(mode="json")["split_file"] == "s.txt"
    assert Arrays(**spec.model_dump(mode="json")) == spec
