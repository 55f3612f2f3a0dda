"""Reading a table of numbers from a text file: comma, semicolon, tab or blank separated, with or without a header.

The table is read at once, as plain bits or by numpy; only where neither can, the cells are read one by one, to name
the first bad one. Rows are named by their line in the file, the header and blank lines included, columns from 1.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bvae_cli.errors import InputOutputError
from bvae_cli.sources import open_file, reading, require_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COUNTED = "counting every line from 1, the header too"

_COMMENT = "#"
_DELIMITERS = "\t;,"
_LONGEST_SHOWN = 40
# A line is split into its cells, which take fifty times as much memory.
_LONGEST_LINE = 2**23


class _Layout(NamedTuple):
    """How a table is written: ``delimiter`` is None for blanks, ``header_lines`` counts all lines up to the header."""

    delimiter: str | None
    header_lines: int


def read_table(path: Path, dtype: str = "float32") -> NDArray[Any]:
    """Return the numbers of a text file, ``[rows, columns]``, uint8 where all are bits or ``dtype``; NaN and infinity pass.

    Raises InputOutputError for a missing or empty file, one that is not text or has no rows, for ragged rows and for a
    cell that is not a number.
    """
    import numpy as np

    layout = _layout(path)
    bits = _read_plain_bits(path, layout)
    if bits is not None:
        return bits
    # numpy opens the file itself: it parses a path much faster than lines.
    with reading(path):
        try:
            return np.loadtxt(
                path,
                dtype=dtype,
                delimiter=layout.delimiter,
                skiprows=layout.header_lines,
                comments=_COMMENT,
                quotechar='"',
                ndmin=2,
                encoding="utf-8-sig",
            )
        except ValueError:
            return _read_cells(path, layout, dtype)


def line_number(path: Path, row: int) -> int:
    """Return the line, from 1, of a row, from 0, of the table that ``read_table`` returned."""
    number, _ = next(itertools.islice(_rows(path, _layout(path)), row, None))
    return number


def _layout(path: Path) -> _Layout:
    require_file(path)
    for number, line in _lines(path):
        delimiter = next((candidate for candidate in _DELIMITERS if candidate in line), None)
        cells = _cells(line, delimiter)
        header = not any(_is_number(cell) for cell in cells)
        if header and next(_rows(path, _Layout(delimiter, number)), None) is None:
            break
        return _Layout(delimiter, number if header else 0)
    raise InputOutputError(f"{path} has no rows.", "Write one row of numbers a line.")


def _read_plain_bits(path: Path, layout: _Layout) -> NDArray[np.uint8] | None:
    """Return the table where every cell is one character, 0 or 1, and nothing else is there; otherwise None.

    Such a table is a rectangle of bytes, so it needs no parsing, which is what takes long.
    """
    import numpy as np

    with reading(path), open_file(path) as file:
        content = file.read()
    start = 0
    for _ in range(layout.header_lines):
        start = content.find(b"\n", start) + 1
    # A lone carriage return ends a line as well; then the header's lines are not those just counted.
    if b"\r" in content[:start].replace(b"\r\n", b""):
        return None
    first_line = content[start : content.find(b"\n", start) + 1]
    ending = b"\r\n" if first_line.endswith(b"\r\n") else b"\n"
    line_bytes = len(first_line)
    if not content.endswith(b"\n"):
        content += ending
    if line_bytes < len(ending) + 1 or (len(content) - start) % line_bytes:
        return None
    lines = np.frombuffer(content, np.uint8, offset=start).reshape(-1, line_bytes)
    cells, delimiters = lines[:, : -len(ending) : 2], lines[:, 1 : -len(ending) : 2]
    endings = lines[:, -len(ending) :]
    if line_bytes - len(ending) != 2 * cells.shape[1] - 1:
        return None
    delimiter = ord(layout.delimiter or " ")
    if (delimiters != delimiter).any() or (endings != np.frombuffer(ending, np.uint8)).any():
        return None
    bits = cells - np.uint8(ord("0"))
    return bits if bool((bits <= 1).all()) else None


def _read_cells(path: Path, layout: _Layout, dtype: str) -> NDArray[Any]:
    import numpy as np

    rows: list[NDArray[Any]] = []
    for number, line in _rows(path, layout):
        cells = _cells(line, layout.delimiter)
        if rows and len(cells) != len(rows[0]):
            raise InputOutputError(
                f"Row {number} of {path} has {_count(len(cells))}, {len(rows[0])} expected ({COUNTED}).",
                "Give every row the same number of values.",
            )
        bad = next((column for column, cell in enumerate(cells) if not _is_number(cell)), None)
        if bad is not None:
            raise _not_a_number(path, number, bad + 1, cells[bad])
        rows.append(np.array([float(cell) for cell in cells], dtype))
    return np.stack(rows)


def _not_a_number(path: Path, line: int, column: int, text: str) -> InputOutputError:
    shown = f"{text[:_LONGEST_SHOWN]}…" if len(text) > _LONGEST_SHOWN else text
    what = f"is '{shown}', not a number" if text else "is empty"
    hint = "Only a header line may hold words, and it holds no number. Rows of symbols are named symbols:path=FILE."
    if _is_number(text.replace(",", ".")):
        hint = "Write decimals with a point."
    return InputOutputError(f"Row {line}, column {column} of {path} {what} ({COUNTED}).", hint)


def _rows(path: Path, layout: _Layout) -> Iterator[tuple[int, str]]:
    """Yield the lines that hold values, each with its number in the file."""
    return ((number, line) for number, line in _lines(path) if number > layout.header_lines)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that hold more than blanks and comment, each with its number in the file, from 1."""
    with reading(path), io.TextIOWrapper(open_file(path), "utf-8-sig") as file:
        try:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE + 1), ""), 1):
                if len(line) > _LONGEST_LINE:
                    raise InputOutputError(
                        f"Line {number} of {path} has more than {_LONGEST_LINE:,} characters.",
                        "Write a row a line; rows of so many values are better written with numpy.save.",
                    )
                if "\0" in line:
                    raise InputOutputError(f"{path} is not text.", "Give it the suffix of what it is.")
                content = line.partition(_COMMENT)[0].strip("\r\n ")
                if content:
                    yield number, content
        except UnicodeDecodeError as error:
            raise InputOutputError(
                f"{path} is not text in UTF-8.", "Save it as UTF-8, or give it the suffix of what it is."
            ) from error


def _cells(line: str, delimiter: str | None) -> list[str]:
    if delimiter is None:
        cells = line.split()
    elif '"' in line:
        cells = next(csv.reader([line], delimiter=delimiter))
    else:
        cells = line.split(delimiter)
    return [cell.strip().strip('"') for cell in cells]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _count(values: int) -> str:
    return f"{values} value" if values == 1 else f"{values} values"
