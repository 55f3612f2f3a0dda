"""Packed bits: what a file holds is what was packed, whichever way it is read, and what cannot be so is refused."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bvae_cli.datasets import divided as divided_module
from bvae_cli.datasets.arrays import Arrays
from bvae_cli.datasets.base import Splits
from bvae_cli.datasets.mapped import MappedRows
from bvae_cli.datasets.packed import Packed, write_packed

from ..helpers import property_settings
from .refusal import refused

in_one_folder = settings(property_settings, suppress_health_check=[HealthCheck.function_scoped_fixture])
BITS = np.random.default_rng(0).integers(0, 2, (50, 12), dtype=np.uint8)


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def packed(values: np.ndarray) -> np.ndarray:
    return np.packbits(values.reshape(len(values), -1), axis=1)


@pytest.mark.parametrize("mapped", ["always", "never"])
@pytest.mark.parametrize("kind", ["npy", "npz", "arrays", "plain"])
def test_packed_and_plain_bits_are_one_data_set_however_they_are_read(kind: str, mapped: str, tmp_path: Path) -> None:
    np.save(tmp_path / "bits.npy", BITS)
    expected = Arrays(path=tmp_path / "bits.npy", mapped="never", split_seed=3).load()
    np.save(tmp_path / "packed.npy", packed(BITS))
    file = npz(tmp_path / "packed.npz", x=packed(BITS), feature_shape=[12])
    options: dict[str, Any] = {"mapped": mapped, "split_seed": 3}
    spec = {
        "npy": lambda: Packed(path=tmp_path / "packed.npy", features=12, **options),
        "npz": lambda: Packed(path=file, **options),
        "arrays": lambda: Arrays(path=file, **options),
        "plain": lambda: Arrays(path=tmp_path / "bits.npy", **options),
    }[kind]()
    splits = spec.load()
    assert isinstance(splits.train, MappedRows if mapped == "always" else torch.Tensor)
    assert splits.problem() is None
    assert splits.digest() == expected.digest()
    assert splits.feature_shape == (12,)
    assert torch.equal(splits.all_rows()[:], torch.from_numpy(BITS))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [40, 5, 5]


@in_one_folder
@given(
    sizes=st.tuples(st.integers(1, 20), st.integers(1, 5), st.integers(1, 5)),
    feature_shape=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    labelled=st.booleans(),
    mapped=st.sampled_from(["always", "never", "auto"]),
    seed=st.integers(0, 1000),
)
def test_what_is_written_is_read_again(
    sizes: tuple[int, ...], feature_shape: list[int], labelled: bool, mapped: Any, seed: int, tmp_path: Path
) -> None:
    random = np.random.default_rng(seed)
    names = ("train", "validation", "test")
    rows = {
        name: torch.from_numpy(random.integers(0, 2, (size, math.prod(feature_shape)), dtype=np.uint8))
        for name, size in zip(names, sizes, strict=True)
    }
    labels = {f"{name}_labels": torch.arange(len(part)) for name, part in rows.items()} if labelled else {}
    splits = Splits(**rows, **labels, feature_shape=tuple(feature_shape), source="a source: é", licence="MIT")
    with (tmp_path / "p.npz").open("wb") as file:
        write_packed(file, splits)
    read = Packed(path=tmp_path / "p.npz", mapped=mapped).load()
    assert read.digest() == splits.digest()
    assert (read.feature_shape, read.source, read.licence) == (splits.feature_shape, splits.source, splits.licence)
    for name in names:
        assert torch.equal(read.split(name)[:], rows[name])  # type: ignore[arg-type]
        if labelled:
            assert torch.equal(getattr(read, f"{name}_labels"), labels[f"{name}_labels"])
    assert torch.equal(read.all_rows()[:], torch.cat(list(rows.values())))
    with np.load(tmp_path / "p.npz", allow_pickle=False) as plain:
        bits = np.unpackbits(plain["test"], axis=1, count=math.prod(plain["feature_shape"]))
    assert (bits == rows["test"].numpy()).all()


def test_equal_data_are_equal_files_whenever_they_are_written() -> None:
    splits = Splits(
        *(torch.from_numpy(BITS[part]) for part in (slice(0, 9), slice(9, 12), slice(12, 50))),
        feature_shape=(3, 4),
        source="s",
        licence="l",
    )
    file = io.BytesIO()
    write_packed(file, splits)
    with zipfile.ZipFile(file) as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.testzip() is None


def test_labels_stay_with_their_rows(tmp_path: Path) -> None:
    rows = np.eye(16, dtype=np.uint8)
    file = npz(tmp_path / "p.npz", x=packed(rows), y=np.arange(16), feature_shape=[4, 4])
    splits = Packed(path=file, mapped="always").load()
    for name in ("train", "validation", "test"):
        labels = getattr(splits, f"{name}_labels")
        assert torch.equal(splits.split(name)[:].argmax(1), labels)


def test_large_rows_are_mapped_by_themselves_and_small_ones_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "plain.npy", BITS)
    file = npz(tmp_path / "p.npz", x=packed(BITS), feature_shape=[12])
    for limit, kind in ((BITS.nbytes, MappedRows), (BITS.nbytes + 1, torch.Tensor)):
        monkeypatch.setattr(divided_module, "MAPPED_FROM", limit)
        for path in (tmp_path / "plain.npy", file):
            splits = Arrays(path=path).load()
            assert all(isinstance(part, kind) for part in (splits.train, splits.validation, splits.test))
    monkeypatch.setattr(divided_module, "MAPPED_FROM", 1)
    assert isinstance(Arrays(path=file, mapped="never").load().train, torch.Tensor)


def test_what_cannot_be_mapped_is_read_unless_it_must_be_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(divided_module, "MAPPED_FROM", 1)
    np.savez_compressed(tmp_path / "p.npz", x=packed(BITS), feature_shape=[12])
    np.save(tmp_path / "columns.npy", np.asfortranarray(BITS))
    np.savez(tmp_path / "grey.npz", x=BITS)
    (tmp_path / "text.csv").write_text("0,1\n" * 4)
    for name, why in {
        "p.npz": "compressed",
        "columns.npy": "column by column",
        "grey.npz": "without packed bits",
        "text.csv": "text",
    }.items():
        assert isinstance(Arrays(path=tmp_path / name).load().train, torch.Tensor)
        with refused(name, "cannot be mapped", why):
            Arrays(path=tmp_path / name, mapped="always").load()


def test_grey_values_are_mapped_as_numbers(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((20, 2, 3))
    np.save(tmp_path / "grey.npy", values)
    splits = Arrays(path=tmp_path / "grey.npy", mapped="always").load()
    assert splits.train.dtype == torch.float32
    assert splits.feature_shape == (2, 3)
    assert splits.digest() == Arrays(path=tmp_path / "grey.npy").load().digest()


@pytest.mark.parametrize("value", [2, float("nan"), -0.5])
def test_a_bad_value_of_a_mapped_file_is_named_with_its_row(
    value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bvae_cli.datasets.values._VALUES_AT_ONCE", 9)
    values = np.zeros((20, 2, 3), dtype="float32")
    values[13, 1, 2] = value
    np.save(tmp_path / "v.npy", values)
    with refused("Row 14, column 6 (at 2, 3 of 2 × 3)", "v.npy"):
        Arrays(path=tmp_path / "v.npy", mapped="always").load()


# --- what is refused


@pytest.mark.parametrize("mapped", ["always", "never"])
@pytest.mark.parametrize(
    ("arrays", "options", "words"),
    [
        ({"x": packed(BITS)}, {}, ("does not say how many bits", "feature_shape", "features=784")),
        ({"x": packed(BITS), "feature_shape": [20]}, {}, ("'x' in", "2 bytes in a row", "20 bits have 3", "9 to 16")),
        ({"x": packed(BITS)}, {"features": 17}, ("2 bytes in a row", "17 bits have 3")),
        ({"x": packed(BITS), "feature_shape": [11]}, {}, ("beyond its 11 bits", "'x' in")),
        ({"x": packed(BITS), "feature_shape": [3, 4]}, {"features": 11}, ("rows of 12 bits, not 11",)),
        ({"x": packed(BITS), "feature_shape": [3.5]}, {}, ("feature_shape", "not the shape of a row")),
        ({"x": packed(BITS), "feature_shape": [0]}, {}, ("feature_shape", "not the shape of a row")),
        ({"x": packed(BITS).astype("int64"), "feature_shape": [12]}, {}, ("does not hold packed bits", "int64")),
        ({"x": packed(BITS)[0], "feature_shape": [12]}, {}, ("does not hold packed bits", "(2,)")),
        ({"x": packed(BITS), "z": packed(BITS), "feature_shape": [12], "x2": BITS}, {}, None),
        ({"a": packed(BITS), "b": packed(BITS), "feature_shape": [12]}, {}, ("does not say which", "a, b")),
        ({"train": packed(BITS), "test": packed(BITS), "feature_shape": [12]}, {}, ("no array 'validation'",)),
        ({"x": packed(BITS), "y": np.arange(3), "feature_shape": [12]}, {}, ("'y' in", "each of the 50 rows")),
        ({"x": packed(BITS), "feature_shape": [12], "licence": 3}, {}, ("'licence' in", "not text")),
        ({"x": packed(BITS[:2]), "feature_shape": [12]}, {}, ("too few rows to divide: 2",)),
    ],
)
def test_a_file_that_does_not_hold_such_rows_is_refused(
    arrays: dict[str, Any], options: dict[str, Any], words: tuple[str, ...] | None, mapped: Any, tmp_path: Path
) -> None:
    spec = Packed(path=npz(tmp_path / "p.npz", **arrays), mapped=mapped, **options)
    if words is None:  # 'x' is the data, whatever else is there
        assert len(spec.load().train) == 40
        return
    with refused(*words):
        spec.load()


def test_bits_beyond_the_last_are_named_with_their_row(tmp_path: Path) -> None:
    values = packed(np.zeros((40_000, 12), dtype=np.uint8))
    values[39_000:, 1] = 1
    values[39_500, 1] = 7
    np.save(tmp_path / "p.npy", values)
    for mapped in ("always", "never"):
        with refused("Row 39001", "beyond its 12 bits"):
            Packed(path=tmp_path / "p.npy", features=12, mapped=mapped).load()


def test_a_npy_file_must_be_told_its_bits_and_another_suffix_is_none(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", packed(BITS))
    with refused("p.npy does not say how many bits", "features=784"):
        Packed(path=tmp_path / "p.npy").load()
    (tmp_path / "p.csv").write_text("1")
    with refused("suffix", ".npz, .npy"):
        Packed(path=tmp_path / "p.csv").check()
    with refused("There is no file"):
        Packed(path=tmp_path / "q.npz").check()


@pytest.mark.parametrize("name", ["p.npy", "p.npz"])
def test_a_file_that_is_cut_off_is_refused_wherever_it_is_cut(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "p.npy":
        np.save(path, packed(BITS))
    else:
        npz(path, x=packed(BITS), feature_shape=[12])
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with refused(name):
            Packed(path=path, features=12, mapped="always").load()


def test_packed_bits_that_are_taken_for_numbers_are_recognised(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", packed(BITS))
    with refused("outside 0…1", "packed:path="):
        Arrays(path=tmp_path / "p.npy").load()
