"""Showing: tables and JSON on stdout, talk on stderr, a progress bar where somebody watches."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bvae_cli.paths import readable

# Where nobody watches, a table is as wide as it needs to be: a log must not lose the ends of paths.
_UNWATCHED_WIDTH = 200
# A longer word, which is a path or a list, may go on in the next line of its cell; a figure never does.
_LONGEST_FIGURE = 16
_BETWEEN_COLUMNS = 3


class PlainConsole(Console):
    """A console that lets a reader who went away be seen: rich would end the process, as failed."""

    def on_broken_pipe(self) -> None:
        """Let the error through to the boundary of the application."""
        raise  # noqa: PLE0704 - rich calls this where it has caught the BrokenPipeError


def say(line: str, quiet: bool = False) -> None:
    """Print a line of talk; where nobody can hear it any more, the work goes on all the same."""
    if not quiet:
        with contextlib.suppress(OSError):
            print(readable(line), file=sys.stderr, flush=True)


def say_how_drawn(how: str | None, quiet: bool) -> None:
    """Tell a person how rows are drawn that are no pictures; nothing where ``how`` is None."""
    if how is not None:
        say(f"The rows are no pictures: each is drawn as {how}.", quiet)


def is_watched() -> bool:
    """Say whether somebody watches stderr on a terminal that can write over a line."""
    return sys.stderr.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def shell_word(path: object) -> str:
    """Return a path as a shell reads it, on one line.

    >>> print(shell_word("weights/run 1"), shell_word("two\\nlines"))
    'weights/run 1' $'two\\nlines'
    """
    text = str(path)
    if readable(text) == text:
        return shlex.quote(text)
    return "$'" + readable(text.replace("\\", "\\\\").replace("'", "\\'")) + "'"


def show_json(value: Any) -> None:
    """Print one JSON object; dataclasses become objects, paths text, and what is not a number null."""
    print(json.dumps(plain(value), indent=2))


def plain(value: Any) -> Any:
    """Turn dataclasses, paths and tuples into what JSON has."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def show_line(line: str) -> None:
    """Print a line on stdout; what is in it is shown and not obeyed."""
    print(readable(line))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """Print a table; cells are taken literally, whatever brackets or escapes they hold.

    Where the terminal is too narrow for its figures, each row is shown as names and values, one a line.
    """
    cells = [[_cell(cell) for cell in row] for row in rows]
    least = _least_widths(columns, cells)
    needed = sum(least) + _BETWEEN_COLUMNS * len(least) - 1
    terminal = shutil.get_terminal_size()
    width = terminal.columns if sys.stdout.isatty() else max(_UNWATCHED_WIDTH, needed)
    # Not told of both, rich takes any terminal that calls itself dumb for one of 80 columns.
    console = PlainConsole(width=width, height=terminal.lines)
    if title:
        print(readable(title))
    if cells and needed > console.width:
        print()
        for row in cells:
            show_facts((name, cell) for name, cell in zip(columns, row, strict=True) if cell)
            print()
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, width in zip(columns, _widths(columns, cells, least, console.width - needed), strict=True):
        table.add_column(Text(readable(column)), overflow="fold", width=width)
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table)


def show_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one a line."""
    listed = [(name, _cell(value)) for name, value in facts]
    width = max(len(name) for name, _ in listed)
    for name, value in listed:
        show_line(f"{name.ljust(width)}  {value}")


def percent(rate: float | None) -> str:
    """Show a rate in percent with three significant digits."""
    return "–" if rate is None else f"{100 * rate:.3g} %"


def amount(number: float) -> str:
    """Show a large number with a unit prefix.

    >>> amount(1234567)
    '1.23 M'
    """
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.3g} {prefix}"
    return f"{number:.0f} "


def _cell(value: object) -> str:
    return "" if value is None else readable(value)


def _least_widths(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the width of each column in which no word that may be a figure is cut."""
    longest = [
        max((cell_len(word) for cell in column for word in cell.split()), default=1)
        for column in zip(columns, *rows, strict=True)
    ]
    return [min(word, _LONGEST_FIGURE) for word in longest]


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]], least: Sequence[int], spare: int) -> list[int]:
    """Return the width of each column: all that it needs, or where that is too much, its part of what is to spare."""
    widths, wanted = list(least), [max(map(cell_len, column)) for column in zip(columns, *rows, strict=True)]
    while spare > 0 and widths != wanted:
        for index in [index for index, width in enumerate(widths) if width < wanted[index]][:spare]:
            widths[index] += 1
            spare -= 1
    return widths
