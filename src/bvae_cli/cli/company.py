"""One command in several processes: who talks, and how all of them end together.

The first process talks. Another one says how it ended only where nobody else does: most mistakes are everybody's, and the
launcher ends the others as soon as one has failed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bvae_cli import ranks
from bvae_cli.cli.process import ignore_stops
from bvae_cli.errors import BvaeError, ExitCode, TerminatedError

if TYPE_CHECKING:
    from bvae_cli.workflows.distributed import Group, ProcessGroup

# Before the processes know each other, one that fails can only wait whether the launcher ends it, for another has.
_SECONDS_FOR_THE_LAUNCHER = 10.0
_SECONDS_FOR_THE_OTHERS = 3.0


@contextlib.contextmanager
def only_the_first_talks() -> Iterator[None]:
    """Let what any other process prints be heard by nobody while the body runs."""
    if ranks.is_first():
        yield
        return
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,  # noqa: PTH123 - devnull is no path on every system
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def wait_to_tell() -> None:
    """Return when it is for this process to say how it ended; the launcher may end it before, for another has said it.

    What is said then is the last word: the launcher asks the others to stop, but they have nothing to add.
    """
    if ranks.is_alone():
        return
    if not ranks.is_first() and sys.stderr is not sys.__stderr__:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # One after another, so that of those on one machine the first to speak is the only one.
        time.sleep(_SECONDS_FOR_THE_LAUNCHER + ranks.local_rank())
        _give_voice()
    ignore_stops()


@contextlib.contextmanager
def joined(device: str) -> Iterator[Group]:
    """Join the processes that were started with this one, to train on ``device``; leave them so that one tells why."""
    from bvae_cli.workflows.distributed import ProcessGroup, opened

    with opened(ranks.here(), device, on_lost=ignore_stops) as group:
        try:
            yield group
        except BaseException as error:
            if isinstance(group, ProcessGroup):
                _leave(group, error)
            raise


def _leave(group: ProcessGroup, error: BaseException) -> None:
    if group.rank == 0:
        group.tells()
        return
    if isinstance(error, KeyboardInterrupt):
        # At once: the first process may be waiting for this one, and hears of its own signal only then.
        sys.exit(ExitCode.TERMINATED if isinstance(error, TerminatedError) else ExitCode.INTERRUPTED)
    ignore_stops()
    if group.is_told(_SECONDS_FOR_THE_OTHERS):
        sys.exit(error.exit_code if isinstance(error, BvaeError) else ExitCode.FAILED)
    _give_voice()


def _give_voice() -> None:
    if sys.__stderr__ is not None:
        sys.stderr = sys.__stderr__
