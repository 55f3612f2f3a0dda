"""Tables in Parquet files, read with pyarrow a group of rows at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bvae_cli.errors import InputOutputError, is_out_of_memory
from bvae_cli.sources import open_file, reading, require_plausible

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# A footer says how long its parts are; no table of numbers has longer ones.
_LONGEST_TEXT, _MOST_ITEMS = 2**24, 2**20


def read_parquet(
    path: Path, label_names: tuple[str, ...], dtype: str = "float32"
) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    """Return the columns of numbers of a file, ``[rows, columns]``, and the whole numbers of the column of labels, if any.

    Raises InputOutputError for what is no Parquet file or damaged, for a column that is not of numbers, a cell without a
    value, and a file that would unpack to far more than it is.
    """
    from pyarrow import parquet

    with reading(path), open_file(path) as file:
        try:
            table = parquet.ParquetFile(
                file, thrift_string_size_limit=_LONGEST_TEXT, thrift_container_size_limit=_MOST_ITEMS, pre_buffer=False
            )
            return _read(table, path, label_names, dtype)
        except InputOutputError:
            raise
        except Exception as error:  # what pyarrow raises of damaged bytes depends on which of them it is
            if is_out_of_memory(error):
                raise
            raise InputOutputError(
                f"{path} is not a Parquet file, or is damaged: {str(error).splitlines()[0].rstrip('.')}.",
                "Write it again, or give it the suffix of what it is.",
            ) from error


def _read(table: Any, path: Path, label_names: tuple[str, ...], dtype: str) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    import numpy as np
    import pyarrow as pa

    schema, rows = table.schema_arrow, table.metadata.num_rows
    names = list(schema.names)
    label = next((name for name in label_names if name in names), None)
    features = [name for name in names if name != label]
    if len(set(names)) < len(names):
        raise InputOutputError(f"{path} has two columns of one name.", "Give every column a name of its own.")
    for name in features:
        kind = schema.field(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise InputOutputError(f"The column '{name}' of {path} is of the type {kind}, not of numbers.", "Leave it out.")
    require_plausible(rows * len(features) * np.dtype(dtype).itemsize, path.stat().st_size, str(path))
    values = np.empty((rows, len(features)), dtype)
    labels: list[NDArray[Any]] = []
    start = 0
    for batch in table.iter_batches(batch_size=2**14):
        stop = start + batch.num_rows
        for number, name in enumerate(features):
            values[start:stop, number] = _numbers(batch.column(name), path, name, start)
        if label is not None:
            labels.append(np.asarray(_numbers(batch.column(label), path, label, start)))
        start = stop
    if start != rows:
        raise InputOutputError(f"{path} is damaged: it says {rows:,} rows and holds {start:,}.", "Write it again.")
    return values, np.concatenate(labels) if labels else None


def _numbers(column: Any, path: Path, name: str, start: int) -> Any:
    import pyarrow as pa
    from pyarrow import compute

    if column.null_count:
        row = start + int(compute.index(compute.is_null(column), True).as_py()) + 1
        raise InputOutputError(
            f"Row {row}, column '{name}' of {path} has no value (counted from 1).", "Fill or drop what is missing."
        )
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    return column.to_numpy(zero_copy_only=False)
