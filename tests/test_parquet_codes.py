"""Codes in Parquet files are what the same codes are in arrays, and what is no such table is refused with its first row."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bvae_cli import code_rows
from bvae_cli.code_rows import open_codes
from bvae_cli.errors import InputOutputError, UsageError
from bvae_cli.parquet_codes import ParquetCodes

pa = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

WIDTHS = {"code bits": 12, "information bits": 4}
GROUP = 7


def bits_of(rows: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, (rows, width), dtype=np.uint8)


def columns_of(values: np.ndarray) -> dict[str, Any]:
    return {f"b{number}": column for number, column in enumerate(values.T, 1)}


def strings_of(bits: np.ndarray) -> list[bytes]:
    return [row.tobytes() for row in np.packbits(bits, axis=1)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "codes.parquet"


def write(path: Path, columns: dict[str, Any], rows_of_a_group: int = GROUP) -> Path:
    parquet.write_table(pa.table(columns), path, row_group_size=rows_of_a_group)
    return path


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "mixed"])
@pytest.mark.parametrize("width", [1, 12, 16, 19])
def test_columns_of_bits_are_bits(path: Path, dtype: str, width: int) -> None:
    bits = bits_of(30, width)
    columns = columns_of(bits if dtype == "mixed" else bits.astype(dtype))
    if dtype == "mixed":
        columns["b1"] = bits[:, 0].astype(bool)
    for widths in ({"bits": width}, {}):
        codes = open_codes(write(path, columns), widths)
        assert (codes.kind, codes.width, len(codes)) == ("bits", width, 30)
        for start, stop in ((0, 30), (5, 23), (29, 30), (3, 4), (7, 14), (8, 8)):
            assert np.array_equal(codes.bits(start, stop), bits[start:stop])
            assert np.array_equal(codes.packed(start, stop), np.packbits(bits[start:stop], axis=1))


@pytest.mark.parametrize("kind", ["fixed", "binary", "large_binary", "binary_view"])
@pytest.mark.parametrize("rows_of_a_group", [1, GROUP, 100])
def test_a_column_of_byte_strings_is_packed_bits(path: Path, kind: str, rows_of_a_group: int) -> None:
    bits = bits_of(30, 12)
    of_type = pa.binary(2) if kind == "fixed" else getattr(pa, kind)()
    try:
        write(path, {"code": pa.array(strings_of(bits), of_type)}, rows_of_a_group)
    except pa.ArrowNotImplementedError:
        pytest.skip("this pyarrow writes no views")
    codes = open_codes(path, WIDTHS)
    assert (codes.kind, codes.width, len(codes)) == ("packed", 12, 30)
    for start, stop in ((0, 30), (5, 23), (29, 30)):
        assert np.array_equal(codes.bits(start, stop), bits[start:stop])
        assert np.array_equal(codes.packed(start, stop), np.packbits(bits[start:stop], axis=1))
    assert open_codes(path, {}).width == 16


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_columns_of_floating_point_numbers_are_logits(path: Path, dtype: str) -> None:
    logits = np.random.default_rng(0).normal(size=(30, 12)).astype(dtype)
    logits[3, 4] = np.inf
    codes = open_codes(write(path, columns_of(logits)), WIDTHS)
    assert (codes.kind, codes.table.dtype) == ("logits", dtype)
    assert np.array_equal(codes.logits(2, 25), logits[2:25].astype(np.float32))
    assert np.array_equal(codes.bits(2, 25), logits[2:25] > 0)


def test_numbers_of_columns_and_not_their_order_say_which_bit_each_is(path: Path) -> None:
    bits = bits_of(9, 12)
    columns = columns_of(bits)
    write(path, {name: columns[name] for name in sorted(columns, reverse=True)})
    assert np.array_equal(open_codes(path, WIDTHS).bits(0, 9), bits)


def test_a_table_says_itself_whether_its_bits_are_packed(path: Path, tmp_path: Path) -> None:
    """An array of these bytes could be either."""
    widths = {"code bits": 16, "information bits": 2}
    bits = np.array([[1, 0], [1, 1]], np.uint8)
    np.save(tmp_path / "codes.npy", bits)
    with pytest.raises(UsageError, match="two ways"):
        open_codes(tmp_path / "codes.npy", widths)
    assert open_codes(write(path, columns_of(bits)), widths).width == 2
    assert open_codes(write(path, {"code": [row.tobytes() for row in bits]}), widths).width == 16
    with pytest.raises(UsageError, match="two ways: 7 bits eight to a byte or 8 bits eight to a byte"):
        open_codes(write(path, {"code": [b"\xfe"]}), {"code bits": 8, "information bits": 7})


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "padding": ({"code": [b"\x03\xf0", b"\x01\x08"]}, "Row 1 of .* packed code of 12 bits: the last 4"),
    "another length": (columns_of(bits_of(2, 11)), "rows of 11 bool; codes of the model have 12 code bits"),
    "another length of logits": (
        columns_of(np.ones((2, 11)) / 2),
        "rows of 11 logits; codes of the model have 12 code bits",
    ),
    "another length, packed": ({"code": [b"abc"]}, r"rows of 3 uint8; codes of .* \(2 or 1 bytes packed\)"),
    "lengths": ({"code": [b"\x03\xf0"] * 8 + [b"\x01"]}, r"Row 8 of .* has 1 bytes, and the first has 2\."),
    "no bit": (columns_of(np.eye(12, dtype=np.int8) * np.arange(12, dtype=np.int8)), r"Row 2 of .* holds 2\.\n.*0 and 1"),
    "less than a bit": (columns_of(-np.eye(12, dtype=np.int64)[::-1]), "Row 0 of .* holds -1"),
    "no value": (columns_of(bits_of(9, 12)) | {"b3": [1] * 8 + [None]}, r"Row 8 of .* has no value in the column 'b3'\."),
    "no logit": (
        columns_of(np.ones((9, 12)) / 2) | {"b12": [0.5, None, *[0.5] * 7]},
        "Row 1 .* no value in the column 'b12'",
    ),
    "no string": ({"code": [b"\x03\xf0", None]}, "Row 1 of .* has no value in the column 'code'"),
    "no first string": (
        {"code": pa.array([None, b"\x03\xf0"], pa.binary())},
        "Row 0 of .* has no value in the column 'code'",
    ),
    "no number": (columns_of(np.full((2, 12), np.nan)), "Row 0 of .* holds nan"),
    "bits as real numbers": (columns_of(np.eye(12)), "0 and 1 as floating-point numbers"),
    "bits and logits": (columns_of(np.ones((2, 12))) | {"b4": [1, 0]}, "bits in the column 'b4' and logits in 'b1'"),
    "another column": (columns_of(bits_of(2, 12)) | {"y": [1, 2]}, "The column 'y' of .* is no part of a code.*b1, b2, …"),
    "a column beside": (
        {"code": [b"ab"], "y": [1]},
        "The column 'y' of .* is no part of a code.*packed in one column 'code'",
    ),
    "a column left out": ({"b1": [1], "b3": [0]}, "The column 'b3' of .* is no part of a code"),
    "counted from 0": ({"b0": [1], "b1": [0]}, "The column 'b0' of"),
    "text": ({"b1": ["a"]}, "The column 'b1' of .* is of the type string"),
    "numbers as codes": ({"code": [1, 2]}, "The column 'code' of .* is of the type int64"),
    "no rows": (columns_of(bits_of(0, 12)), r"shape \(0, 12\)"),
    "no packed rows": ({"code": pa.array([], pa.binary())}, r"shape \(0, 0\)"),
    "no columns": ({}, "has no column"),
}


@pytest.mark.parametrize(("columns", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_table_of_such_codes_is_refused_with_its_first_row(
    path: Path, columns: dict[str, Any], words: str
) -> None:
    write(path, columns)
    with pytest.raises(InputOutputError, match=f"(?s){words}") as refusal:
        _read(path, WIDTHS)
    assert str(path) in refusal.value.message
    assert refusal.value.hint


def test_two_columns_of_one_name_are_refused(path: Path) -> None:
    parquet.write_table(pa.table([pa.array([1]), pa.array([0])], names=["b1", "b1"]), path)
    with pytest.raises(InputOutputError, match="two columns of one name"):
        open_codes(path, {})


def test_a_missing_an_empty_and_a_damaged_file_are_refused(path: Path) -> None:
    with pytest.raises(InputOutputError, match="There is no file"):
        open_codes(path, {})
    path.write_bytes(b"")
    with pytest.raises(InputOutputError, match="is empty"):
        open_codes(path, {})
    content = write(path, columns_of(bits_of(100, 12))).read_bytes()
    for damaged in (content[:-9], content[: len(content) // 2], b"PAR1" + bytes(60) + b"PAR1", content[:40] + content[60:]):
        path.write_bytes(damaged)
        with pytest.raises(InputOutputError, match="is not a Parquet file, or is damaged: "):
            _read(path, {})


def test_a_footer_of_less_than_no_rows_is_refused(path: Path) -> None:
    content = bytearray(write(path, columns_of(bits_of(30, 12)), 30).read_bytes())
    # In the encoding of footers a field of 64 bits behind its neighbour, and 30; then −30.
    place = content.rindex(b"\x16\x3c")
    content[place + 1] = 0x3B
    path.write_bytes(content)
    with pytest.raises(InputOutputError, match="a group of its rows has -30"):
        open_codes(path, {})


def _read(path: Path, widths: dict[str, int]) -> None:
    codes = open_codes(path, widths, "the model")
    for start, stop in codes.spans():
        codes.packed(start, stop)


def test_a_table_that_unpacks_to_far_more_than_it_is_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bvae_cli.sources._LARGE", 2**20)
    zeros = {"code": [bytes(64)] * 2**15}
    assert len(open_codes(write(path, zeros, 2**14), {})) == 2**15  # one group at a time is unpacked
    with pytest.raises(InputOutputError, match="would unpack to"):
        open_codes(write(path, zeros, 2**15), {})


def test_one_group_of_rows_is_in_memory_at_a_time_and_is_read_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_rows, "_BYTES_AT_ONCE", 36)  # three rows at once
    table = ParquetCodes(write(path, columns_of(bits_of(30, 12))))
    read: list[list[int]] = []
    original = table._table.iter_batches

    def counting(size: int, row_groups: list[int], columns: list[str]) -> Any:
        read.append(row_groups)
        return original(size, row_groups=row_groups, columns=columns)

    monkeypatch.setattr(table._table, "iter_batches", counting, raising=False)
    for start in range(0, 30, 3):
        table.take(slice(start, start + 3))
        assert table._held is not None
        assert len(table._held[1]) <= GROUP
    assert read == [[0], [1], [2], [3], [4]]


def test_threads_that_read_in_turn_all_get_their_rows(path: Path) -> None:
    bits = bits_of(200, 12)
    codes = open_codes(write(path, columns_of(bits)), WIDTHS)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda start: codes.bits(start, start + 10), range(0, 200, 10)))
    assert np.array_equal(np.concatenate(found), bits)


def test_a_table_that_is_written_while_it_is_read_is_refused(path: Path) -> None:
    codes = open_codes(write(path, columns_of(bits_of(30, 12))), WIDTHS)
    assert codes.bits(0, 9).shape == (9, 12)
    os.utime(path, ns=(0, 0))
    with pytest.raises(InputOutputError, match="has changed since it was opened"):
        codes.bits(9, 10)
