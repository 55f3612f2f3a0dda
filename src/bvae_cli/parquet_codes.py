"""Codes in a Parquet file, as ``bvae encode`` writes them: columns of bits or of logits, or one of packed bytes.

A column ``code`` of byte strings holds packed bits, a row a code. Columns ``b1``, ``b2`` …, in whatever order they stand,
hold bits where they are Boolean or whole numbers, and logits where they are floating-point numbers.
"""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bvae_cli.errors import InputOutputError
from bvae_cli.parquet_files import first_missing, open_parquet, reading_parquet, require_all_rows
from bvae_cli.sources import Unchanged, open_file, reading, require_file, require_plausible

if TYPE_CHECKING:
    from numpy.typing import NDArray

PACKED = "code"
_ROWS_OF_A_BATCH = 2**14
_HINT = f"Codes stand in columns b1, b2, …, a bit or a logit in each, or packed in one column '{PACKED}' of byte strings."


class ParquetCodes:
    """A table of codes ``[rows, columns]``: bool for bits, uint8 for packed bytes, or floating-point numbers for logits.

    One group of the file's rows is in memory at a time, the one that was read last, with eight bits to a byte.
    Raises InputOutputError for a file that is missing or damaged, of other columns, or that would unpack to far more than it
    is; where rows are read also for a cell without a value, and for a bit that is neither 0 nor 1.
    """

    def __init__(self, path: Path) -> None:
        require_file(path)
        self.path = path
        with reading(path):
            file = open_file(path)
        weakref.finalize(self, file.close)
        self._unchanged = Unchanged(file.fileno(), path)
        with reading_parquet(path):
            self._table = open_parquet(file, path)
            schema = self._table.schema_arrow
            self._is_packed = PACKED in schema.names
            self._names = _names(path, schema.names)
            self.dtype = _dtype(path, [(name, schema.field(name).type) for name in self._names])
            columns = self._bytes_of_the_first() if self._is_packed else len(self._names)
            of_groups = _rows_of_groups(path, self._table.metadata)
            self._starts = np.cumsum([0, *of_groups])
            self.shape = (int(self._starts[-1]), columns)
            self._held_columns = -(-columns // 8) if self._are_bits else columns
            self._held_dtype = np.dtype(np.uint8) if self._are_bits else self.dtype
            largest = max(of_groups, default=0) * self._held_columns * self._held_dtype.itemsize
            require_plausible(largest, path.stat().st_size, str(path))
        self._lock = threading.Lock()
        self._held: tuple[int, NDArray[Any]] | None = None

    @property
    def bytes_in_a_row(self) -> int:
        """Return what a row takes when it was taken."""
        return self.shape[1] * self.dtype.itemsize

    def take(self, rows: slice) -> NDArray[Any]:
        """Return the rows of a slice, ``[n, columns]``. Raises InputOutputError where they cannot be read."""
        start, stop, _ = rows.indices(self.shape[0])
        parts = [np.empty((0, self._held_columns), self._held_dtype)]
        with self._lock:
            self._unchanged.require()
            while start < stop:
                number = int(np.searchsorted(self._starts, start, side="right")) - 1
                first, end = self._starts[number : number + 2].tolist()
                parts.append(self._group(number)[start - first : stop - first])
                start = min(stop, end)
        values = np.concatenate(parts)
        return np.unpackbits(values, axis=1, count=self.shape[1]).view(np.bool_) if self._are_bits else values

    @property
    def _are_bits(self) -> bool:
        return self.dtype == np.bool_

    def _group(self, number: int) -> NDArray[Any]:
        """Return a group of rows as it is held, ``[rows, bytes]`` of bits and ``[rows, columns]`` of others."""
        if self._held is not None and self._held[0] == number:
            return self._held[1]
        self._held = None
        with reading_parquet(self.path):
            first, end = self._starts[number : number + 2].tolist()
            group = np.empty((end - first, self._held_columns), self._held_dtype)
            done = 0
            for batch in self._table.iter_batches(_ROWS_OF_A_BATCH, row_groups=[number], columns=self._names):
                values = self._values(batch, first + done)
                group[done : done + len(values)] = np.packbits(values, axis=1) if self._are_bits else values
                done += len(values)
            require_all_rows(self.path, end - first, done)
        self._held = number, group
        return group

    def _values(self, batch: Any, start: int) -> NDArray[Any]:
        """Return the rows of a batch that begins with row ``start``, ``[rows, columns]``."""
        for name in self._names:
            missing = first_missing(batch.column(name))
            if missing is not None:
                raise self._no_value(start + missing, name)
        if self._is_packed:
            return self._packed(batch.column(PACKED), start)
        columns = [batch.column(name).to_numpy(zero_copy_only=False) for name in self._names]
        if self._are_bits:
            self._require_bits(columns, start)
        values = np.empty((len(columns), batch.num_rows), self.dtype)
        for value, column in zip(values, columns, strict=True):
            value[:] = column
        return values.T

    def _require_bits(self, columns: list[NDArray[Any]], start: int) -> None:
        wrong = [(column != 0) & (column != 1) for column in columns if column.dtype != np.bool_]
        if any(column.any() for column in wrong):
            row = min(int(column.argmax()) for column in wrong if column.any())
            value = next(column[row] for column in columns if column[row] not in (0, 1))
            raise InputOutputError(
                f"Row {start + row} of {self.path} holds {value}.",
                f"A code is of 0 and 1; packed bits are byte strings in a column '{PACKED}'.",
            )

    def _packed(self, column: Any, start: int) -> NDArray[np.uint8]:
        import pyarrow
        from pyarrow import compute

        size = self.shape[1]
        if not pyarrow.types.is_fixed_size_binary(column.type):
            lengths = compute.binary_length(column.cast(pyarrow.large_binary())).to_numpy()
            if (lengths != size).any():
                row = int((lengths != size).argmax())
                raise InputOutputError(
                    f"Row {start + row} of {self.path} has {lengths[row]} bytes, and the first has {size}.",
                    "Codes of one file have one length.",
                )
            column = column.cast(pyarrow.binary(size))
        values = np.frombuffer(column.buffers()[1], np.uint8)
        return values[column.offset * size : (column.offset + len(column)) * size].reshape(-1, size)

    def _bytes_of_the_first(self) -> int:
        """Return how many bytes a packed code has: all have as many as the first."""
        import pyarrow

        kind = self._table.schema_arrow.field(PACKED).type
        if pyarrow.types.is_fixed_size_binary(kind):
            return int(kind.byte_width)
        batches = (batch.column(PACKED) for batch in self._table.iter_batches(1, columns=[PACKED]))
        first = next((column[0].as_py() for column in batches if len(column)), b"")
        if first is None:
            raise self._no_value(0, PACKED)
        return len(first)

    def _no_value(self, row: int, name: str) -> InputOutputError:
        return InputOutputError(
            f"Row {row} of {self.path} has no value in the column '{name}'.", "Fill or drop what is missing."
        )


def _rows_of_groups(path: Path, metadata: Any) -> list[int]:
    rows = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    if min(rows, default=0) < 0:
        raise InputOutputError(f"{path} is damaged: it says that a group of its rows has {min(rows)}.", "Write it again.")
    return rows


def _names(path: Path, names: list[str]) -> list[str]:
    """Return the names of the columns that make a code, in the order of its bits."""
    expected = [PACKED] if PACKED in names else [f"b{number}" for number in range(1, len(names) + 1)]
    known = set(expected)
    others = [name for name in names if name not in known]
    if others:
        raise InputOutputError(f"The column '{others[0]}' of {path} is no part of a code.", _HINT)
    if not names:
        raise InputOutputError(f"{path} has no column.", _HINT)
    return expected


def _dtype(path: Path, columns: list[tuple[str, Any]]) -> np.dtype[Any]:
    """Return the type of what the columns hold, by name and type: bool for bits, uint8 for packed bytes."""
    from pyarrow import types

    are_packed = columns[0][0] == PACKED
    for name, kind in columns:
        known = (
            types.is_fixed_size_binary(kind)
            or types.is_binary(kind)
            or types.is_large_binary(kind)
            or types.is_binary_view(kind)
            if are_packed
            else types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind)
        )
        if not known:
            raise InputOutputError(f"The column '{name}' of {path} is of the type {kind}.", _HINT)
    if are_packed:
        return np.dtype(np.uint8)
    are_logits = [types.is_floating(kind) for _, kind in columns]
    if not any(are_logits):
        return np.dtype(np.bool_)
    if not all(are_logits):
        bits, logits = columns[are_logits.index(False)][0], columns[are_logits.index(True)][0]
        raise InputOutputError(
            f"{path} holds bits in the column '{bits}' and logits in '{logits}'.",
            "Save a file of each, or all as one of them.",
        )
    return np.dtype(f"f{max(kind.bit_width for _, kind in columns) // 8}")
