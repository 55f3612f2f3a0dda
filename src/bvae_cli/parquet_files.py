"""Parquet files, opened strictly with pyarrow (the extra ``parquet``): lengths have bounds, damage becomes a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from bvae_cli.errors import InputOutputError, is_out_of_memory

PARQUET = ".parquet"
# A footer says how long its parts are; no table of numbers has longer ones.
_LONGEST_TEXT, _MOST_ITEMS = 2**24, 2**20


@contextmanager
def reading_parquet(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises in the body of damaged bytes into an InputOutputError that names ``path``."""
    try:
        yield
    except InputOutputError:
        raise
    except Exception as error:  # what pyarrow raises of damaged bytes depends on which of them it is
        if is_out_of_memory(error):
            raise
        said = str(error).splitlines() or [type(error).__name__]
        raise InputOutputError(
            f"{path} is not a Parquet file, or is damaged: {said[0].rstrip('.')}.",
            "Write it again, or give it the suffix of what it is.",
        ) from error


def open_parquet(file: BinaryIO, path: Path) -> Any:
    """Return the ``pyarrow.parquet.ParquetFile`` of an open file, whose columns have a name each.

    Raises InputOutputError, in ``reading_parquet``, for what is no Parquet file, and for two columns of one name.
    """
    from pyarrow import parquet

    table = parquet.ParquetFile(
        file, thrift_string_size_limit=_LONGEST_TEXT, thrift_container_size_limit=_MOST_ITEMS, pre_buffer=False
    )
    names = table.schema_arrow.names
    if len(set(names)) < len(names):
        raise InputOutputError(f"{path} has two columns of one name.", "Give every column a name of its own.")
    return table


def first_missing(column: Any) -> int | None:
    """Return the place of the first cell of a column that has no value, None where all have one."""
    from pyarrow import compute

    return int(compute.index(compute.is_null(column), True).as_py()) if column.null_count else None


def require_all_rows(path: Path, said: int, held: int) -> None:
    """Raise InputOutputError where a footer says another number of rows than the columns hold."""
    if said != held:
        raise InputOutputError(f"{path} is damaged: it says {said:,} rows and holds {held:,}.", "Write it again.")
