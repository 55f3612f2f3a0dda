"""Rows of a file are its rows, by number and by slice, whatever the type, the offset and what a single read brings."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bvae_cli.errors import InputOutputError
from bvae_cli.mapped_table import MappedTable
from tests.helpers import property_settings

needs_preadv = pytest.mark.skipif(not hasattr(os, "preadv"), reason="this system reads by the map alone")


def table_of(path: Path, values: np.ndarray, offset: int = 0) -> MappedTable:
    path.write_bytes(bytes(offset) + values.tobytes())
    return MappedTable(path, offset, *values.shape, values.dtype)


@property_settings
@given(
    rows=st.integers(1, 30),
    columns=st.integers(1, 9),
    offset=st.integers(0, 200),
    dtype=st.sampled_from(["?", "u1", "<i2", ">f4", "<f8"]),
    bounds=st.tuples(*[st.none() | st.integers(-40, 40)] * 2),
    step=st.sampled_from([None, 1, 3, -1]),
)
def test_a_slice_is_that_of_the_rows(
    tmp_path_factory: pytest.TempPathFactory,
    rows: int,
    columns: int,
    offset: int,
    dtype: str,
    bounds: tuple[int | None, int | None],
    step: int | None,
) -> None:
    values = np.random.default_rng(rows).integers(0, 2, (rows, columns)).astype(dtype)
    table = table_of(tmp_path_factory.mktemp("table") / "rows", values, offset)
    taken = table.take(slice(*bounds, step))
    np.testing.assert_array_equal(taken, values[slice(*bounds, step)])
    assert taken.dtype == values.dtype


@needs_preadv
def test_rows_that_come_some_bytes_at_once_are_read_to_their_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(40, dtype=np.int16).reshape(8, 5)
    table, whole = table_of(tmp_path / "rows", values, 3), os.preadv

    def a_few(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        return whole(descriptor, [buffers[0][:7]], offset)

    monkeypatch.setattr(os, "preadv", a_few)
    np.testing.assert_array_equal(table[1:7], values[1:7])


@needs_preadv
def test_a_disk_that_fails_and_a_file_that_ends_early_are_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of(tmp_path / "rows", np.ones((8, 5)))

    def failing(*_: object) -> int:
        raise OSError(5, "Input/output error")

    for broken in (failing, lambda *_: 0):
        monkeypatch.setattr(os, "preadv", broken)
        with pytest.raises(InputOutputError, match=str(tmp_path / "rows")):
            table[:4]


def test_a_system_that_reads_by_the_map_alone_has_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "preadv", raising=False)
    values = np.arange(40, dtype=np.uint8).reshape(8, 5)
    np.testing.assert_array_equal(table_of(tmp_path / "rows", values)[2:6], values[2:6])


def test_a_file_that_has_changed_since_is_refused(tmp_path: Path) -> None:
    table = table_of(tmp_path / "rows", np.ones((8, 5)))
    with (tmp_path / "rows").open("ab") as file:
        file.write(b"more")
    for rows in (slice(0, 2), np.array([1, 2])):
        with pytest.raises(InputOutputError, match="has changed since it was opened"):
            table.take(rows)
