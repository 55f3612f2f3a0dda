"""Showing: tables and JSON on stdout, talk on stderr, a progress bar where somebody watches."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bvae_cli.plain_text import printable

# Where nobody watches, a table is as wide as it needs to be: a log must not lose the ends of paths.
_UNWATCHED_WIDTH = 200


class PlainConsole(Console):
    """A console that lets a reader who went away be seen: rich would end the process, as failed."""

    def on_broken_pipe(self) -> None:
        """Let the error through to the boundary of the application."""
        raise  # noqa: PLE0704 - rich calls this where it has caught the BrokenPipeError


def say(line: str, quiet: bool = False) -> None:
    """Print a line of talk; where nobody can hear it any more, the work goes on all the same."""
    if not quiet:
        with contextlib.suppress(OSError):
            print(printable(line), file=sys.stderr, flush=True)


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
    print(printable(line))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """Print a table; cells are taken literally, whatever brackets or escapes they hold."""
    console = PlainConsole(width=None if sys.stdout.isatty() else _UNWATCHED_WIDTH)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(Text(printable(column)), overflow="fold")
    if title:
        print(printable(title))
    for row in rows:
        table.add_row(*(Text(_cell(cell)) for cell in row))
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
    return "" if value is None else printable(str(value))
