"""The files that ``encode`` writes, some rows at once: an array of numpy, or a table of Parquet."""

from __future__ import annotations

from typing import Any, BinaryIO, Protocol

import numpy
from numpy.lib import format as npy_format
from numpy.typing import NDArray

# Of a table: groups of fewer rows cost more to read, groups of more take more memory to write.
_ROWS_OF_A_GROUP = 2**16


class EncodedFile(Protocol):
    """Takes rows some at once, ``[rows, columns]``, and is whole when it is closed."""

    def write(self, values: NDArray[Any]) -> None:
        """Take the next rows."""

    def close(self) -> None:
        """Write what is left."""


class ArrayFile:
    """A .npy file, ``[rows, columns]``."""

    def __init__(self, file: BinaryIO, rows: int, columns: int, dtype: str) -> None:
        self._file = file
        kind = npy_format.dtype_to_descr(numpy.dtype(dtype))
        npy_format.write_array_header_1_0(file, {"shape": (rows, columns), "fortran_order": False, "descr": kind})

    def write(self, values: NDArray[Any]) -> None:
        """Take the next rows."""
        self._file.write(values.tobytes())

    def close(self) -> None:
        """Nothing is left."""


class ParquetFile:
    """A table of Parquet: a column for each bit or number, named ``b1``, ``b2`` …; or one, ``code``, of packed bytes."""

    def __init__(self, file: BinaryIO, columns: int, dtype: str, packed: bool) -> None:
        import pyarrow
        from pyarrow import parquet

        self._arrow, self._packed = pyarrow, packed
        self._waiting: list[NDArray[Any]] = []
        self._count = 0
        kinds = {"uint8": pyarrow.bool_(), "float32": pyarrow.float32(), "float16": pyarrow.float16()}
        if packed:
            fields = [("code", pyarrow.binary(columns))]
        else:
            fields = [(f"b{number}", kinds[dtype]) for number in range(1, columns + 1)]
        self._schema = pyarrow.schema(fields)
        self._is_of_bits = dtype == "uint8" and not packed
        self._writer = parquet.ParquetWriter(file, self._schema)

    def write(self, values: NDArray[Any]) -> None:
        """Take the next rows; they are written when they make a group."""
        self._waiting.append(values)
        self._count += len(values)
        if self._count >= _ROWS_OF_A_GROUP:
            self._write_group()

    def close(self) -> None:
        """Write the last group and the footer."""
        if self._count:
            self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        values = numpy.concatenate(self._waiting)
        self._waiting, self._count = [], 0
        if self._packed:
            columns = [self._arrow.array([row.tobytes() for row in values], self._schema.field(0).type)]
        else:
            by_column = numpy.ascontiguousarray((values.astype(bool) if self._is_of_bits else values).T)
            columns = [self._arrow.array(column) for column in by_column]
        self._writer.write_table(self._arrow.table(columns, schema=self._schema))
