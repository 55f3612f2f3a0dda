"""How many rows are done of a file that is gone through; nothing here needs torch."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from bvae_cli.cli.render import is_watched

_SECONDS_BETWEEN_TICKS = 0.1
_SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def rows_shown(done: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Return what shows how many rows are done: on one line of a terminal, elsewhere as a line now and then."""
    watched, told = is_watched(), [time.monotonic()]
    between = _SECONDS_BETWEEN_TICKS if watched else _SECONDS_BETWEEN_LINES

    def show(rows: int, total: int) -> None:
        if quiet or time.monotonic() - told[0] < between:
            return
        told[0] = time.monotonic()
        line = f"{rows:,} of {total:,} rows {done}"
        with suppress(OSError):
            print(f"\r{line}" if watched else line, end="" if watched else "\n", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        if watched and not quiet:
            with suppress(OSError):
                print("\r\x1b[K", end="", file=sys.stderr, flush=True)
