"""Trials in processes of their own, forked from one that has imported everything: one takes tenths of a second."""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from .table import Row

# A trial of the tiny commands takes less than a second; on a machine that others load too it may take several.
SECONDS_FOR_A_TRIAL = 60.0
_UNCAUGHT = 98
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Ended:
    """How a process ended: exit code (negative: the signal), what it said, what it handed back, its peak memory in MiB."""

    code: int
    out: str
    err: str
    value: Any
    hung: bool
    peak: float

    @property
    def traced(self) -> bool:
        """Whether it showed a traceback."""
        return "Traceback (most recent call last)" in self.out + self.err


@dataclass
class Outcome:
    """What a trial came to, step by step; ``problems`` say in words what went ill."""

    what: str
    lost: bool = False
    traced: bool = False
    hung: bool = False
    wrong: bool = False
    identical: bool | None = None
    peak: float = 0.0
    problems: list[str] = field(default_factory=list)

    def saw(self, ended: Ended) -> None:
        """Note what counts of every process: its memory, a traceback, a hang."""
        self.peak = max(self.peak, ended.peak)
        if ended.traced:
            self.traced = True
            self.problems.append(f"traceback: {ended.err.strip().splitlines()[-1]}")
        if ended.hung:
            self.hung = True
            self.problems.append("hangs")

    def amiss(self, problem: str, lost: bool = False) -> None:
        """Note a broken promise."""
        self.lost |= lost
        self.wrong |= not lost
        self.problems.append(problem)

    def compare(self, differences: Sequence[str]) -> None:
        """Note in what the end differs from that of an undisturbed run."""
        self.identical = not differences
        self.problems += [f"differs: {difference}" for difference in differences[:4]]


def row_of(name: str, outcomes: Iterable[Outcome], note: str = "", compared: bool = True) -> Row:
    """Count outcomes into a row of the table."""
    outcomes = list(outcomes)
    return Row(
        name=name,
        tried=len(outcomes),
        lost=sum(one.lost for one in outcomes),
        tracebacks=sum(one.traced for one in outcomes),
        hangs=sum(one.hung for one in outcomes),
        identical=sum(bool(one.identical) for one in outcomes) if compared else None,
        peak=max((one.peak for one in outcomes), default=0.0),
        note=note,
        wrong=sum(one.wrong for one in outcomes),
        details=tuple(f"{one.what}: {'; '.join(one.problems)}" for one in outcomes if one.problems),
    )


def forked(work: Callable[[], tuple[int, Any]], seconds: float = SECONDS_FOR_A_TRIAL) -> Ended:
    """Do work in a child of this process; it returns its exit code and a value that is handed back.

    It is killed when its time is over.
    """
    with contextlib.ExitStack() as stack:
        out, err, value = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            _be_the_child(work, out.fileno(), err.fileno(), value.fileno())
        status, usage, hung = _waited_for(child, seconds)
        said = [_content(file).decode(errors="replace") for file in (out, err)]
        handed = _content(value)
        code = os.waitstatus_to_exitcode(status)
        return Ended(code, *said, pickle.loads(handed) if handed else None, hung, usage.ru_maxrss / 1024)


def _be_the_child(work: Callable[[], Any], out: int, err: int, value: int) -> None:
    code = _UNCAUGHT
    write = os.write
    try:
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123
            os.dup2(nothing.fileno(), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            code, result = work()
            handed = pickle.dumps(result)
            while handed:
                handed = handed[write(value, handed) :]
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _waited_for(child: int, seconds: float) -> tuple[int, resource.struct_rusage, bool]:
    descriptor = os.pidfd_open(child)
    try:
        hung = not select.select([descriptor], [], [], seconds)[0]
    finally:
        os.close(descriptor)
    if hung:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    return status, usage, hung


def _content(file: Any) -> bytes:
    file.seek(0)
    return file.read()


def spread(trials: Sequence[_Item], try_one: Callable[[_Item], Outcome], jobs: int, until: float) -> list[Outcome]:
    """Try each of the trials, so many side by side; none is begun after ``until`` (of the monotonic clock)."""

    def share(number: int) -> list[Outcome]:
        mine = []
        for trial in trials[number::jobs]:
            if time.monotonic() > until:
                break
            mine.append(try_one(trial))
        return mine

    if jobs == 1:
        return share(0)
    with contextlib.ExitStack() as stack:
        children = []
        for number in range(jobs):
            file = stack.enter_context(tempfile.TemporaryFile())
            sys.stdout.flush()
            child = os.fork()
            if child == 0:
                _work_for_the_parent(lambda number=number: share(number), file.fileno())
            children.append((child, file))
        outcomes: list[Outcome] = []
        failed = []
        for child, file in children:
            _, status = os.waitpid(child, 0)
            failed += [status] if status else []
            content = _content(file)
            outcomes += pickle.loads(content) if content else []
    if failed:
        raise RuntimeError(f"{len(failed)} of {jobs} processes of the harness itself failed")
    return outcomes


def _work_for_the_parent(work: Callable[[], Any], descriptor: int) -> None:
    code = 1
    try:
        handed = pickle.dumps(work())
        while handed:
            handed = handed[os.write(descriptor, handed) :]
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


@contextlib.contextmanager
def emptied(parent: Path) -> Iterator[Path]:
    """Give a new empty folder, and take it away with everything in it."""
    with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def sampled(items: Sequence[_Item], count: int) -> list[_Item]:
    """Return so many of the items, evenly spread and always with the first and the last; all where there are fewer."""
    if count >= len(items):
        return list(items)
    if count <= 1:
        return list(items[:count])
    return [items[round(place * (len(items) - 1) / (count - 1))] for place in range(count)]
