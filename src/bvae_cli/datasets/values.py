"""From any numeric array to the rows of a data set: checked to lie in [0, 1], flattened, as bits where all are bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from bvae_cli.errors import InputOutputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bvae_cli.mapped_table import MappedTable

_LARGEST_GREY = 255
_VALUES_AT_ONCE = 2**21


class Table(NamedTuple):
    """``values`` is ``[rows, D]``, uint8 where all are bits, else float32; ``feature_shape`` has the product D."""

    values: NDArray[Any]
    feature_shape: tuple[int, ...]


def checked_rows(
    array: NDArray[Any], where: str, line_of: Callable[[int], int] | None = None, counted: str = "counted from 1"
) -> Table:
    """Return a numeric array of rows × features, or rows × height × width and so on, as a ``Table``.

    ``where`` names the array in a sentence, ``line_of`` gives a row's number to a person (by default counted from 1),
    ``counted`` says how. Raises InputOutputError for fewer than two dimensions, no rows, no features, and for a value
    that is NaN, infinite or outside [0, 1], naming the first.
    """
    _require_table(array, where)
    feature_shape = tuple(array.shape[1:])
    values = array.reshape(len(array), -1)
    # NaN makes both extremes NaN, and so both comparisons false.
    if not (values.min() >= 0 and values.max() <= 1):
        raise _bad_value(values, feature_shape, where, line_of or (lambda row: row + 1), counted)
    return Table(values.astype("uint8" if _all_bits(values) else "float32"), feature_shape)


def checked_table(table: MappedTable, feature_shape: tuple[int, ...], where: str) -> bool:
    """Return whether every value of a table in a file is a bit, a few megabytes at once.

    Raises InputOutputError as ``checked_rows`` does.
    """
    are_bits = True
    for start in range(0, table.shape[0], rows := max(1, _VALUES_AT_ONCE // table.shape[1])):
        part = table.take(slice(start, start + rows)).reshape(-1, *feature_shape)
        are_bits &= checked_rows(part, where, lambda row, start=start: start + row + 1).values.dtype == "uint8"  # type: ignore[misc]
    return are_bits


def checked_labels(array: NDArray[Any], rows: int, where: str) -> NDArray[np.int64]:
    """Return labels as int64 ``[rows]``. Raises InputOutputError where they are not one whole number per row."""
    if array.ndim != 1 or array.dtype.kind not in "biu" or len(array) != rows:
        raise InputOutputError(
            f"{where} is not one whole number for each of the {rows} rows: "
            f"its shape is {array.shape}, its type {array.dtype}.",
            "Take it out, or give one integer a row.",
        )
    return array.astype("int64")


def _require_table(array: NDArray[Any], where: str) -> None:
    if array.ndim == 1 and array.dtype.kind in "iu":
        raise InputOutputError(
            f"{where} holds labels, it seems, not data: one whole number for each of {len(array)} rows.",
            "Give an array of rows × features.",
        )
    if array.ndim < 2:
        raise InputOutputError(
            f"{where} has the shape {array.shape}, not rows × features.", "Reshape it; a single feature is a column."
        )
    if not len(array):
        raise InputOutputError(f"{where} has no rows.", "Give more rows.")
    if not math.prod(array.shape[1:]):
        raise InputOutputError(f"{where} has zero features: its shape is {array.shape}.", "Give at least one.")


def _all_bits(values: NDArray[Any]) -> bool:
    return values.dtype.kind in "biu" or bool(((values == 0) | (values == 1)).all())


def _bad_value(
    values: NDArray[Any], feature_shape: tuple[int, ...], where: str, line_of: Callable[[int], int], counted: str
) -> InputOutputError:
    import numpy as np

    bad = ~((values >= 0) & (values <= 1))
    row, column = (int(index) for index in np.unravel_index(bad.argmax(), bad.shape))
    value = values[row, column].item()
    what = "not a number (NaN)" if math.isnan(value) else f"{value:g}, outside 0…1"
    if math.isinf(value):
        what = "infinite"
    place = f"Row {line_of(row)}, column {column + 1}"
    if len(feature_shape) > 1:
        indices = ", ".join(str(int(index) + 1) for index in np.unravel_index(column, feature_shape))
        place += f" (at {indices} of {' × '.join(map(str, feature_shape))})"
    return InputOutputError(f"{place} of {where} is {what} ({counted}).", _hint_for(values))


def _hint_for(values: NDArray[Any]) -> str:
    import numpy as np

    if not np.isfinite(values).all():
        return "Fill or drop the values that are missing or infinite."
    if values.min() >= 0 and values.max() <= _LARGEST_GREY and bool((values == np.floor(values)).all()):
        packed = "; packed bits are named packed:path=FILE,features=BITS" if values.dtype == "uint8" else ""
        return f"They look like 8-bit grey: divide them by {_LARGEST_GREY}{packed}."
    return "Scale the data to 0…1."
