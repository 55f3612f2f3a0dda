"""From any numeric array to the rows of a data set: checked to be what a likelihood says that they are, and flattened."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from bvae_cli.config import VALUES, LikelihoodName, ValueKind
from bvae_cli.datasets.base import LARGEST_VALUE_OF_COUNTS, MOST_CATEGORIES, place_in
from bvae_cli.errors import InputOutputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bvae_cli.mapped_table import MappedTable

_LARGEST_GREY = 255
_LARGEST_FLOAT32 = (2 - 2.0**-23) * 2.0**127
_VALUES_AT_ONCE = 2**21


class Table(NamedTuple):
    """``values`` is ``[rows, D]``, of the type that ``Splits`` has for them; ``feature_shape`` has the product D."""

    values: NDArray[Any]
    feature_shape: tuple[int, ...]


class _Kind(NamedTuple):
    """The values that a likelihood takes; ``refusal`` ends "The value is 3, …", ``rule`` says which they are."""

    low: float
    high: float
    whole: bool
    refusal: str
    rule: str
    called: str


_KINDS: dict[ValueKind, _Kind] = {
    "bits": _Kind(0, 1, False, "outside 0…1", "Scale the data to 0…1.", "values in 0…1"),
    "reals": _Kind(
        -_LARGEST_FLOAT32, _LARGEST_FLOAT32, False, "beyond what float32 holds", "Scale the data.", "real values"
    ),
    "counts": _Kind(
        0,
        LARGEST_VALUE_OF_COUNTS,
        True,
        "no count",
        f"Counts are whole numbers from 0 to {LARGEST_VALUE_OF_COUNTS:,}.",
        "counts",
    ),
    "symbols": _Kind(
        0,
        MOST_CATEGORIES - 1,
        True,
        "no number of a symbol",
        f"Symbols are numbered 0, 1, 2 … up to {MOST_CATEGORIES - 1:,}.",
        "symbols",
    ),
}
# In the order in which a sentence offers them.
_OFFERED: tuple[LikelihoodName, ...] = ("gaussian", "poisson", "categorical")


def checked_rows(
    array: NDArray[Any],
    where: str,
    line_of: Callable[[int], int] | None = None,
    counted: str = "counted from 1",
    likelihood: LikelihoodName = "bernoulli",
) -> Table:
    """Return a numeric array of rows × features, or rows × height × width and so on, as a ``Table``.

    ``where`` names the array in a sentence, ``line_of`` gives a row's number to a person (by default counted from 1),
    ``counted`` says how. Raises InputOutputError for fewer than two dimensions, no rows, no features, and for a value
    that is NaN, infinite or none that the likelihood takes, naming the first.
    """
    _require_table(array, where)
    feature_shape = tuple(array.shape[1:])
    values = array.reshape(len(array), -1)
    place = first_bad(values, likelihood)
    if place is not None:
        row, column = place
        said = _said((line_of or (lambda number: number + 1))(row), column, feature_shape)
        raise refused_value(values[row, column].item(), said, where, counted, likelihood, hint_for(values, likelihood))
    return Table(values.astype(dtype_for(values, likelihood)), feature_shape)


def checked_table(
    table: MappedTable, feature_shape: tuple[int, ...], where: str, likelihood: LikelihoodName = "bernoulli"
) -> bool:
    """Return whether every value of a table in a file is held as a bit, looking at a few megabytes at once.

    Raises InputOutputError as ``checked_rows`` does.
    """
    are_bits = True
    for _, part in _parts(table):
        if first_bad(part, likelihood) is not None:
            # Which value is named, and the hint, are matters of all of them.
            place = first_bad(table, likelihood)
            assert place is not None  # a part has one
            row, column = place
            said, value = _said(row + 1, column, feature_shape), table[row : row + 1][0, column].item()
            raise refused_value(value, said, where, "counted from 1", likelihood, hint_for(table, likelihood))
        are_bits &= dtype_for(part, likelihood) == "uint8"
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


def categories_of(parts: Iterable[NDArray[np.int16]]) -> tuple[int, ...]:
    """Return how many symbols each column has, the largest number in all parts and one more: ``[rows, D]`` each -> D."""
    import numpy as np

    largest = np.stack([part.max(0) for part in parts]).max(0)
    return tuple((largest.astype(np.int64) + 1).tolist())


def first_bad(values: NDArray[Any] | MappedTable, likelihood: LikelihoodName) -> tuple[int, int] | None:
    """Return row and column, from 0, of the first value of ``[rows, D]`` that the likelihood does not take, or None.

    Where values are missing or infinite it is the first of those: what else is to be said of the values waits for them.
    """
    import numpy as np

    kind = _KINDS[VALUES[likelihood]]
    low, high = _extremes(values)
    # NaN makes both extremes NaN, and so both comparisons false.
    if low >= kind.low and high <= kind.high and not (kind.whole and not _are_whole(values)):
        return None
    all_finite = math.isfinite(low) and math.isfinite(high)
    for start, part in _parts(values):
        numbers = part.astype(np.float64)
        if not all_finite:
            bad = ~np.isfinite(numbers)
        else:
            bad = ~((numbers >= kind.low) & (numbers <= kind.high))
            if kind.whole:
                bad |= numbers != np.floor(numbers)
        if bad.any():
            row, column = (int(index) for index in np.unravel_index(bad.argmax(), bad.shape))
            return start + row, column
    raise AssertionError("the extremes are those of the values")


def refused_value(
    value: float, place: str, where: str, counted: str, likelihood: LikelihoodName, hint: str
) -> InputOutputError:
    """Return the error for a value that the likelihood does not take; ``place`` says which of ``where``."""
    if math.isnan(value):
        what = "not a number (NaN)"
    elif math.isinf(value):
        what = "infinite"
    else:
        what = f"{_written(value)}, {_KINDS[VALUES[likelihood]].refusal}"
    return InputOutputError(f"{place} of {where} is {what} ({counted}).", hint)


def hint_for(values: NDArray[Any] | MappedTable, likelihood: LikelihoodName) -> str:
    """Return what to do about values that the likelihood does not take, naming those that would."""
    low, high = _extremes(values)
    if not (math.isfinite(low) and math.isfinite(high)):
        return "Fill or drop the values that are missing or infinite."
    whole = _are_whole(values)
    fitting = [
        f"{name} ({kind.called})"
        for name in _OFFERED
        if (kind := _KINDS[VALUES[name]]) is not _KINDS[VALUES[likelihood]] and kind.low <= low and high <= kind.high
        if whole or not kind.whole
    ]
    rule = _KINDS[VALUES[likelihood]].rule
    are_bytes = whole and low >= 0 and high <= _LARGEST_GREY and (high > _LARGEST_GREY // 2 or values.dtype == "uint8")
    if likelihood == "bernoulli" and are_bytes:
        packed = "; packed bits are named packed:path=FILE,features=BITS" if values.dtype == "uint8" else ""
        rule = f"They look like 8-bit grey: divide them by {_LARGEST_GREY}{packed}."
    return f"{rule} Or say what they are: --likelihood {_listed(fitting)}." if fitting else rule


def dtype_for(values: NDArray[Any], likelihood: LikelihoodName) -> str:
    """Return the type in which ``Splits`` has values that the likelihood takes."""
    if likelihood == "categorical":
        return "int16"
    return "uint8" if likelihood == "bernoulli" and _all_bits(values) else "float32"


def _written(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 2**63 else f"{value:g}"


def _listed(words: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _said(row: int, column: int, feature_shape: tuple[int, ...]) -> str:
    """Name a value by its row, as a person counts, and its column, from 0."""
    if len(feature_shape) == 1:
        return f"Row {row}, column {column + 1}"
    return f"Row {row}, column {column + 1} (at {place_in(column, feature_shape)})"


def _extremes(values: NDArray[Any] | MappedTable) -> tuple[float, float]:
    """Return the least and the largest value; both are NaN where one value is."""
    import numpy as np

    found = np.array([[part.min(), part.max()] for _, part in _parts(values)], np.float64)
    return float(found[:, 0].min()), float(found[:, 1].max())


def _parts(values: NDArray[Any] | MappedTable) -> Iterator[tuple[int, NDArray[Any]]]:
    """Go through rows, some millions of values at once, each part with the number of its first row."""
    rows = max(1, _VALUES_AT_ONCE // values.shape[1])
    return ((start, values[start : start + rows]) for start in range(0, values.shape[0], rows))


def _are_whole(values: NDArray[Any] | MappedTable) -> bool:
    import numpy as np

    return values.dtype.kind in "biu" or all(bool((part == np.floor(part)).all()) for _, part in _parts(values))


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
