"""Tables in Parquet files, read with pyarrow a group of rows at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bvae_cli.errors import InputOutputError
from bvae_cli.parquet_files import first_missing, open_parquet, reading_parquet, require_all_rows
from bvae_cli.sources import open_file, reading, require_plausible

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def read_parquet(
    path: Path, label_names: tuple[str, ...], dtype: str = "float32"
) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    """Return the columns of numbers of a file, ``[rows, columns]``, and the whole numbers of the column of labels, if any.

    Raises InputOutputError for what is no Parquet file or damaged, for a column that is not of numbers, a cell without a
    value, and a file that would unpack to far more than it is.
    """
    with reading(path), open_file(path) as file, reading_parquet(path):
        return _read(open_parquet(file, path), path, label_names, dtype)


def _read(table: Any, path: Path, label_names: tuple[str, ...], dtype: str) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    import numpy as np
    import pyarrow as pa

    schema, rows = table.schema_arrow, table.metadata.num_rows
    label = next((name for name in label_names if name in schema.names), None)
    features = [name for name in schema.names if name != label]
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
    require_all_rows(path, rows, start)
    return values, np.concatenate(labels) if labels else None


def _numbers(column: Any, path: Path, name: str, start: int) -> Any:
    import pyarrow as pa

    missing = first_missing(column)
    if missing is not None:
        raise InputOutputError(
            f"Row {start + missing + 1}, column '{name}' of {path} has no value (counted from 1).",
            "Fill or drop what is missing.",
        )
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    return column.to_numpy(zero_copy_only=False)
