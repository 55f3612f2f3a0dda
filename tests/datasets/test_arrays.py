from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as numpy_arrays
from pydantic import ValidationError

from bvae_cli.datasets.arrays import Arrays
from bvae_cli.datasets.base import Splits
from bvae_cli.datasets.divided import split_sizes
from bvae_cli.datasets.text_table import read_table
from bvae_cli.errors import ExitCode, UsageError

from .refusal import refused

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def bits(rows: int = 10, *features: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (rows, *(features or (4,))), dtype=np.uint8)


def together(splits: Splits) -> np.ndarray:
    return torch.cat([splits.train, splits.validation, splits.test]).numpy()


def sorted_rows(values: np.ndarray) -> list[tuple[float, ...]]:
    return sorted(map(tuple, values.tolist()))


def written(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_text(content, encoding="utf-8", newline="")
    elif isinstance(content, dict):
        np.savez(path, **content)
    else:
        np.save(path, content)
    return path


def npy_bytes(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


# The options


@pytest.mark.parametrize(
    "options", [{"validation": 0}, {"validation": 1}, {"test": -0.1}, {"test": float("nan")}, {"split_seed": -1}]
)
def test_an_option_out_of_its_bounds_is_refused(options):
    with pytest.raises(ValidationError):
        Arrays(path="x.npy", **options)


def test_shares_that_leave_no_training_rows_are_refused_as_a_mistake_of_usage():
    with pytest.raises(UsageError, match=r"validation 0\.5 and test 0\.5 leave no rows for training") as caught:
        Arrays(path="x.npy", validation=0.5, test=0.5)
    assert caught.value.exit_code == ExitCode.USAGE


# Dividing


@given(rows=st.integers(3, 5000), validation=st.floats(0.001, 0.998), test=st.floats(0.001, 0.998))
def test_every_split_gets_at_least_one_row(rows, validation, test):
    for_validation, for_test = split_sizes(rows, validation, test)
    assert min(for_validation, for_test, rows - for_validation - for_test) >= 1


@given(rows=st.integers(100, 5000), validation=st.floats(0.01, 0.49), test=st.floats(0.01, 0.49))
def test_every_split_gets_its_share(rows, validation, test):
    for_validation, for_test = split_sizes(rows, validation, test)
    assert abs(for_validation - rows * validation) <= 1
    assert abs(for_test - rows * test) <= 1


@in_one_folder
@given(rows=st.integers(3, 200), seed=st.integers(0, 2**63 - 1), share=st.floats(0.01, 0.49))
def test_the_splits_are_a_partition_of_the_rows_and_labels_stay_with_their_rows(tmp_path, rows, seed, share):
    numbers = np.arange(rows)
    path = written(tmp_path, "rows.npz", {"x": (numbers / rows).astype(np.float32)[:, None], "y": numbers})
    splits = Arrays(path=path, validation=share, test=share, split_seed=seed).load()
    labels = torch.cat([splits.train_labels, splits.validation_labels, splits.test_labels]).numpy()
    assert sorted(labels.tolist()) == list(range(rows))
    assert np.array_equal(together(splits)[:, 0], (labels / rows).astype(np.float32))
    assert splits.problem() is None


def test_the_division_is_decided_by_the_seed(tmp_path):
    path = written(tmp_path, "x.npy", np.linspace(0, 1, 50)[:, None])
    first, again, other = (Arrays(path=path, split_seed=seed).load() for seed in (3, 3, 4))
    assert first.digest() == again.digest()
    assert first.digest() != other.digest()
    assert (len(first.train), len(first.validation), len(first.test)) == (40, 5, 5)


# Types and shapes


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float64", ">f4", ">i2"])
def test_bits_of_any_numeric_type_become_uint8(tmp_path, dtype):
    values = bits()
    splits = Arrays(path=written(tmp_path, "x.npy", values.astype(dtype))).load()
    assert splits.train.dtype == splits.validation.dtype == splits.test.dtype == torch.uint8
    assert sorted_rows(together(splits)) == sorted_rows(values)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f8"])
def test_other_values_become_float32(tmp_path, dtype):
    values = np.random.default_rng(0).random((9, 3)).astype(dtype)
    splits = Arrays(path=written(tmp_path, "x.npy", values)).load()
    assert splits.test.dtype == torch.float32
    assert sorted_rows(together(splits)) == sorted_rows(values.astype("float32"))


@pytest.mark.parametrize("features", [(4,), (2, 3), (3, 2, 2)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_shape_of_a_row_is_kept_and_its_values_are_in_order(tmp_path, features, order):
    values = np.random.default_rng(0).random((8, *features)).astype("float32")
    splits = Arrays(path=written(tmp_path, "x.npy", np.asarray(values, order=order))).load()
    assert splits.feature_shape == features
    assert splits.features == np.prod(features)
    assert sorted_rows(together(splits)) == sorted_rows(values.reshape(8, -1))


def test_source_is_the_path_and_the_licence_is_not_stated(tmp_path):
    splits = Arrays(path=written(tmp_path, "x.npy", bits())).load()
    assert splits.source == str(tmp_path / "x.npy")
    assert splits.licence == "not stated"
    assert splits.train_labels is None


# .npz


@pytest.mark.parametrize("name", ["x", "data", "images", "anything"])
@pytest.mark.parametrize("label_name", ["y", "labels", None])
def test_one_array_with_or_without_labels_is_divided(tmp_path, name, label_name):
    content = {name: bits(10)} | ({label_name: np.arange(10)} if label_name else {})
    splits = Arrays(path=written(tmp_path, "x.npz", content)).load()
    assert sorted_rows(together(splits)) == sorted_rows(content[name])
    assert (splits.train_labels is None) == (label_name is None)


def test_a_named_data_array_is_preferred_to_others_beside_it(tmp_path):
    splits = Arrays(path=written(tmp_path, "x.npz", {"weights": np.ones(4), "x": bits(10)})).load()
    assert sorted_rows(together(splits)) == sorted_rows(bits(10))


def test_arrays_already_divided_are_taken_as_they_are(tmp_path):
    content = {"train": bits(5, 2, 2), "validation": bits(1, 2, 2), "test": bits(2, 2, 2), "test_labels": np.array([4, 2])}
    splits = Arrays(path=written(tmp_path, "x.npz", content)).load()
    assert np.array_equal(splits.train.numpy(), content["train"].reshape(5, 4))
    assert (len(splits.validation), len(splits.test)) == (1, 2)
    assert splits.feature_shape == (2, 2)
    assert splits.test_labels.tolist() == [4, 2]
    assert splits.train_labels is None


def test_divided_arrays_are_all_bits_or_all_float32(tmp_path):
    content = {"train": np.full((3, 2), 0.5), "validation": bits(2, 2), "test": bits(2, 2)}
    splits = Arrays(path=written(tmp_path, "x.npz", content)).load()
    assert splits.train.dtype == splits.validation.dtype == splits.test.dtype == torch.float32


def test_a_compressed_archive_is_read(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", x=bits())
    assert Arrays(path=tmp_path / "x.npz").load().features == 4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"a": bits(), "b": bits()}, ["does not say which of its arrays is the data", "a, b", "'x'"]),
        ({"x": bits(), "images": bits()}, ["does not say which of its arrays is the data", "x, images"]),
        ({"y": np.arange(4)}, ["does not say which of its arrays is the data", "it has y"]),
        ({"x": np.arange(4)}, ["'x' in", "holds labels, it seems, not data"]),
        ({"x": bits(), "y": np.arange(9)}, ["'y' in", "is not one whole number for each of the 10 rows", "(9,)"]),
        ({"x": bits(), "y": np.zeros(10)}, ["'y' in", "is not one whole number for each of the 10 rows", "float64"]),
        ({"x": bits(), "y": bits(10)}, ["'y' in", "is not one whole number for each of the 10 rows", "(10, 4)"]),
        ({"x": np.array([[None]])}, ["'x' in", "holds Python objects, which are never unpickled"]),
        ({"x": bits(), "y": np.array([None] * 10)}, ["'y' in", "never unpickled"]),
        ({"train": bits(), "test": bits()}, ["has no array 'validation'"]),
        ({"train": bits(), "validation": bits(3, 5), "test": bits()}, ["differ in shape", "train 4, validation 5"]),
        ({"train": bits(), "validation": bits(0, 4), "test": bits()}, ["'validation' in", "has no rows"]),
        ({"train": bits(), "validation": bits(), "test": bits() * 2}, ["column", "'test' in", "outside 0…1"]),
        ({"train": bits(), "validation": bits(), "test": bits(), "train_labels": np.arange(3)}, ["'train_labels' in"]),
    ],
)
def test_a_bad_npz_file_is_refused(tmp_path, content, words):
    path = written(tmp_path, "x.npz", content)
    with refused(str(path), *words):
        Arrays(path=path).load()


def test_an_archive_without_arrays_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with refused("does not say which of its arrays is the data: it has none"):
        Arrays(path=tmp_path / "x.npz").load()


def test_an_object_array_that_is_not_the_data_does_not_disturb(tmp_path):
    path = written(tmp_path, "x.npz", {"x": bits(), "notes": np.array([None])})
    assert Arrays(path=path).load().features == 4


def test_a_damaged_archive_is_refused(tmp_path):
    path = written(tmp_path, "x.npz", {"x": bits(100)})
    content = bytearray(path.read_bytes())
    content[300] ^= 255
    path.write_bytes(content)
    with refused("'x' in", str(path), "cannot be unpacked"):
        Arrays(path=path).load()


# .npy


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["is empty"]),
        (b"0,1\n1,0\n", ["is not a .npy file", "give it the suffix of what it is"]),
        (pickle.dumps([[0, 1]]), ["is not a .npy file", "never unpickled"]),
        (b"PK\3\4" + bytes(30), ["is not a .npy file", "give it that suffix"]),
        (npy_bytes(bits())[:-1], ["is cut off", "40 bytes of values, it holds 39"]),
        (npy_bytes(bits())[:40], ["is not a .npy file"]),
        (npy_bytes(bits()).replace(b"(10, 4)", b"(-1, 4)"), ["is not a .npy file"]),
        (np.array([[None, 1]]), ["holds Python objects, which are never unpickled"]),
        (np.array([["0", "1"]]), ["is not numeric", "<U1"]),
        (np.array([[1j]]), ["is not numeric", "complex128"]),
        (np.array([[(1, 2)]], dtype="i4,i4"), ["is not numeric"]),
        (np.arange(5), ["holds labels, it seems, not data", "5 rows"]),
        (np.linspace(0, 1, 5), ["has the shape (5,), not rows × features"]),
        (np.array(1.0), ["has the shape (), not rows × features"]),
        (np.zeros((0, 3)), ["has no rows"]),
        (np.zeros((5, 0)), ["has zero features"]),
        (np.zeros((5, 2, 0)), ["has zero features"]),
        (bits(2), ["has too few rows to divide: 2", "At least 3"]),
    ],
)
def test_a_bad_npy_file_is_refused(tmp_path, content, words):
    path = written(tmp_path, "x.npy", content)
    with refused(str(path), *words):
        Arrays(path=path).load()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, ["is not a number (NaN)", "Fill or drop"]),
        (np.inf, ["is infinite", "Fill or drop"]),
        (-np.inf, ["is infinite"]),
        (-0.25, ["is -0.25, outside 0…1", "Scale the data"]),
        (1.5, ["is 1.5, outside 0…1", "Scale the data"]),
        (255, ["is 255, outside 0…1", "divide them by 255"]),
    ],
)
def test_the_first_bad_cell_is_named_by_row_and_column_from_one(tmp_path, value, words):
    values = np.zeros((6, 4))
    values[2, 3] = value
    values[4, 0] = value
    with refused("Row 3, column 4 of", "counted from 1", *words):
        Arrays(path=written(tmp_path, "x.npy", values)).load()


def test_the_first_bad_cell_of_images_is_named_by_its_place_in_the_image_too(tmp_path):
    values = np.zeros((4, 2, 3), np.uint8)
    values[1, 1, 0] = 200
    with refused("Row 2, column 4 (at 2, 1 of 2 × 3) of", "is 200", "divide them by 255"):
        Arrays(path=written(tmp_path, "x.npy", values)).load()


def test_a_header_that_claims_more_than_memory_holds_is_refused(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 1000000), }"
    header = header.ljust(117) + b"\n"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(80)
    with refused("is cut off", "it holds 80"):
        Arrays(path=written(tmp_path, "x.npy", content)).load()


@in_one_folder
@given(length=st.integers(0, len(npy_bytes(bits())) - 1))
def test_every_proper_beginning_of_a_npy_file_is_refused(tmp_path, length):
    path = written(tmp_path, "x.npy", npy_bytes(bits())[:length])
    with refused(str(path)):
        Arrays(path=path).load()


# Text


@pytest.mark.parametrize("delimiter", [",", ";", "\t", " ", ", ", "   "])
@pytest.mark.parametrize("header", [[], ["a", "b", "c"], ['"a"', '"b"', '"c"']])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ".CSV"])
def test_a_table_is_read_with_any_separator_with_or_without_a_header(tmp_path, delimiter, header, ending, suffix):
    rows = [["0", "0.5", "1"], ["1e-1", "1", "0"], ["0", "0", ".25"]]
    text = "".join(delimiter.join(line) + ending for line in [*([header] if header else []), *rows])
    splits = Arrays(path=written(tmp_path, f"x{suffix}", text)).load()
    assert sorted_rows(together(splits)) == sorted_rows(np.array(rows, np.float32))
    assert splits.feature_shape == (3,)


@pytest.mark.parametrize(
    "text",
    [
        "0,1\n1,0\n1,1\n",
        "0,1\n1,0\n1,1",
        "0,1\r\n1,0\r\n1,1\r\n",
        "a,b\n0,1\n1,0\n1,1\n",
        "a,b\r0,1\n1,0\n1,1\n",
        "\ufeff0,1\n1,0\n1,1\n",
        "\ufeffa,b\n0,1\n1,0\n1,1\n",
        "\n\n# made by hand\na,b\n0,1\n\n1,0\n1,1\n\n",
        "0,1 # first\n1,0\n1,1\n",
        "   \n0,1\n   \n1,0\n1,1\n",
        '"0","1"\n"1","0"\n"1","1"\n',
        "0 1\n1 0\n1 1\n",
        "0  1\n1 0\n1   1\n",
        " 0 1\n 1 0\n 1 1\n",
        "0.0;1.0\n1.0;0.0\n1.0;1.0\n",
    ],
)
def test_every_way_to_write_a_table_of_bits_gives_the_same_bits(tmp_path, text):
    table = read_table(written(tmp_path, "x.csv", text))
    assert table.tolist() == [[0, 1], [1, 0], [1, 1]]


def test_a_single_column_is_a_table_of_one_feature(tmp_path):
    assert read_table(written(tmp_path, "x.csv", "0\n1\n0.5\n")).tolist() == [[0], [1], [0.5]]


def test_a_table_of_bits_is_uint8(tmp_path):
    assert Arrays(path=written(tmp_path, "x.csv", "0,1\n1,0\n1,1\n")).load().train.dtype == torch.uint8


@in_one_folder
@given(
    values=numpy_arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(1, 5)),
        elements=st.sampled_from([0, 1]) | st.floats(0, 1, width=32),
    ),
    delimiter=st.sampled_from([",", ";", "\t", " "]),
    header=st.booleans(),
    ending=st.sampled_from(["\n", "\r\n"]),
    final_ending=st.booleans(),
    blank_lines=st.integers(0, 2),
)
def test_a_written_table_is_read_back(tmp_path, values, delimiter, header, ending, final_ending, blank_lines):
    lines = [delimiter.join(f"{value:.9g}" for value in row) for row in values]
    if header:
        lines.insert(0, delimiter.join(f"name{column}" for column in range(values.shape[1])))
    text = ending * blank_lines + ending.join(lines) + (ending if final_ending else "")
    assert np.array_equal(read_table(written(tmp_path, "x.csv", text)), values)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["is empty"]),
        ("\n \n", ["has no rows"]),
        ("a,b\n", ["has no rows"]),
        ("0,1\n1,0\n1\n", ["Row 3 of", "has 1 value, 2 expected"]),
        ("a,b\n0,1\n\n1,0,1\n", ["Row 4 of", "has 3 values, 2 expected", "the header too"]),
        ("0,1\n1,zero\n", ["Row 2, column 2 of", "is 'zero', not a number", "header"]),
        ("0,one\n1,0\n1,1\n", ["Row 1, column 2 of", "is 'one', not a number"]),
        ("a,b\n0,1\n1,x\n", ["Row 3, column 2 of", "is 'x', not a number"]),
        ("0,1\n1,\n", ["Row 2, column 2 of", "is empty"]),
        ("0;0,5\n1;0,5\n", ["Row 1, column 2 of", "is '0,5', not a number", "decimals with a point"]),
        (f"0,1\n0,{'long' * 30}\n", ["Row 2, column 2", f"is '{'long' * 10}…'"]),
        ("a,b\n\n0,1\n1,nan\n", ["Row 4, column 2 of", "is not a number (NaN)", "the header too"]),
        ("0,1\n-inf,1\n1,1\n", ["Row 2, column 1 of", "is infinite"]),
        ("# note\na b\n0 1\n1 1.5\n", ["Row 4, column 2 of", "is 1.5, outside 0…1", "Scale the data"]),
        ("label,pixel\n5,0\n0,254\n", ["Row 2, column 1 of", "is 5, outside 0…1", "divide them by 255"]),
        ("0,1\n1,0\n", ["has too few rows to divide: 2"]),
        ("0,1\n\0,1\n", ["is not text"]),
    ],
)
def test_a_bad_table_is_refused_by_line_and_column(tmp_path, text, words):
    path = written(tmp_path, "x.csv", text)
    with refused(str(path), *words):
        Arrays(path=path).load()


@pytest.mark.parametrize("content", ["größe\n0\n1\n".encode("latin-1"), "0,1\n1,0\n".encode("utf-16"), npy_bytes(bits())])
def test_what_is_not_text_in_utf8_is_refused(tmp_path, content):
    with refused("is not text in UTF-8", "Save it as UTF-8"):
        Arrays(path=written(tmp_path, "x.csv", content)).load()


def test_bytes_that_are_no_text_far_down_the_file_are_refused(tmp_path):
    content = b"0,1\n" * 100_000 + b"0,\xff\n"
    with refused("is not text in UTF-8"):
        Arrays(path=written(tmp_path, "x.csv", content)).load()


# Any file


@pytest.mark.parametrize("step", [Arrays.check, Arrays.load], ids=["check", "load"])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv"])
def test_a_missing_or_empty_file_is_refused(tmp_path, step, suffix):
    with refused(f"There is no file {tmp_path / 'x'}{suffix}", "Check the path"):
        step(Arrays(path=tmp_path / f"x{suffix}"))
    with refused("is empty"):
        step(Arrays(path=written(tmp_path, f"x{suffix}", b"")))


def test_a_missing_file_is_answered_with_the_nearest_name(tmp_path):
    written(tmp_path, "digits.npy", bits())
    with refused("There is no file", f"Did you mean {tmp_path / 'digits.npy'}?"):
        Arrays(path=tmp_path / "digit.npy").check()


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "x.npy").mkdir()
    with refused("is not a file"):
        Arrays(path=tmp_path / "x.npy").check()


def test_an_unknown_suffix_is_refused_with_those_that_are_read(tmp_path):
    with refused("does not say what it holds", ".npy, .npz, .csv, .tsv, .txt"):
        Arrays(path=written(tmp_path, "x.dat", b"0,1")).check()


@pytest.mark.parametrize("content", [b"0,1\n1,0\n", npy_bytes(bits())])
def test_an_npz_file_that_is_no_archive_is_refused(tmp_path, content):
    with refused("is not an .npz archive"):
        Arrays(path=written(tmp_path, "x.npz", content)).load()


def test_the_home_folder_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Arrays(path="~/x.npy").path == tmp_path / "x.npy"
