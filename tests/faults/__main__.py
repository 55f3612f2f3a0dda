"""``python -m tests.faults``: try everything, print one table, and fail where anything was lost."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

# Before torch is imported: a process with other threads than its own cannot be forked.
os.environ["OMP_NUM_THREADS"] = "1"

from . import calls, copies, damage, kills, power, signals, soak
from .broken import BROKEN
from .commands import Stage, staged
from .fuzz import tallies
from .size import Size
from .table import DETAILS, Row, table_of

_SECONDS_OF_THE_SHORT_FORM = 60.0
_SHORT_INPUTS, _INPUTS = 100, 10_000
# Each parser gets its inputs: this only bounds a machine that has come to a halt.
_SECONDS_OF_FUZZING = 7200.0


def _fuzzed(stage: Stage, size: Size) -> list[Row]:
    """Give damaged and made-up files to every reader."""
    inputs = _SHORT_INPUTS if size.short else _INPUTS
    return [tally.row() for tally in tallies(_SECONDS_OF_FUZZING, inputs, size.seed, workers=size.jobs)]


# With the share of the minutes that each may fill beyond the least that it tries.
PARTS: dict[str, tuple[float, Callable[[Stage, Size], list[Row]]]] = {
    "kills": (0.1, kills.rows),
    "calls": (0.05, calls.rows),
    "power": (0.05, power.rows),
    "damage": (0.0, damage.rows),
    "copies": (0.0, copies.rows),
    "signals": (0.0, signals.rows),
    "soak": (0.15, soak.rows),
    "fuzz": (0.0, _fuzzed),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="about how long; what is least tried may take longer")
    parser.add_argument("--short", action="store_true", help="a sample of everything, as in CI")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="trials side by side")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="one part; repeatable")
    parser.add_argument(
        "--broken", choices=list(BROKEN), help="a build that is broken on purpose, and the part that sees it"
    )
    parser.add_argument("--details", type=int, default=DETAILS, help="how many failures of each row are told of")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 1 where anything went ill, else 0."""
    given = _parser().parse_args(arguments)
    names = given.only or list(PARTS)
    if given.broken:
        broken = BROKEN[given.broken]
        names = given.only or [broken.part]
        sys.stdout.write(f"A build that is broken on purpose: {broken.fault}.\n")
        broken.build()
    whole = _SECONDS_OF_THE_SHORT_FORM if given.short else 60 * given.minutes
    begun = time.monotonic()
    rows: list[Row] = []
    with ExitStack() as stack:
        stage = stack.enter_context(staged())
        for name in names:
            share, part = PARTS[name]
            if given.only:
                share = 1 / len(names)
            sys.stderr.write(f"{time.monotonic() - begun:6.0f} s  {name} …\n")
            made = part(stage, Size(share * whole, given.seed, given.jobs, given.short))
            rows += made
            # Of a run that takes an hour nothing should be lost that was seen until it was broken off.
            sys.stderr.write(table_of(made))
    sys.stdout.write(table_of(rows, given.details))
    failed = [row for row in rows if row.failed]
    verdict = f"{len(failed)} of {len(rows)} rows went ill" if failed else "nothing lost"
    sys.stdout.write(f"{verdict}; {time.monotonic() - begun:.0f} s, seed {given.seed}\n")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
