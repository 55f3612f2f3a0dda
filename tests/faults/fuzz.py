"""Every parser, fed with changed real files: what is not accepted is refused in a sentence, soon and in little memory.

``python -m tests.faults.fuzz --inputs 10000 --seed 0`` prints a row for each parser. An input is known by the seed, the
parser and its number, so that it can be made again; one that fails is kept as files in a folder (``--keep``), which
``--again FOLDER`` reads once more, with the whole traceback.
"""

from __future__ import annotations

import argparse
import os
import pickle
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import IO, Any, NamedTuple

from bvae_cli.errors import BvaeError, ExitCode

from .parsers import PARSERS, Parser
from .samples import Samples, write_samples
from .table import Row

# An input is read in some milliseconds; a shared machine may be slow for a while.
SECONDS_AN_INPUT = 10.0
# What a process may ask of memory beyond what it had when it began: one that wants more gets none.
MEMORY_BEYOND = 512 * 2**20
_BATCH = 250
_BROKEN = 99
_REFUSALS = (ExitCode.USAGE, ExitCode.INPUT_OUTPUT, ExitCode.PLUGIN)


class Ended(NamedTuple):
    """How an input ended: ``accepted``, ``refused``, ``failed``, ``memory``, ``hang`` or ``died``, and what was said."""

    how: str
    said: str


@dataclass
class Tally:
    """What became of a parser's inputs."""

    name: str
    inner: int = 0
    ended: dict[str, int] = field(default_factory=dict)
    failures: dict[str, list[int]] = field(default_factory=dict)
    peak: float = 0.0
    seconds: float = 0.0

    def count(self, number: int, end: Ended) -> None:
        """Note an input."""
        self.ended[end.how] = self.ended.get(end.how, 0) + 1
        if end.how not in ("accepted", "refused"):
            self.failures.setdefault(f"{end.how}: {end.said}", []).append(number)

    def row(self) -> Row:
        """Return the row of the table."""
        of = self.ended.get
        tried = sum(self.ended.values())
        failed = of("failed", 0) + of("memory", 0) + of("died", 0)
        note = f"{of('accepted', 0)} accepted, {of('refused', 0)} refused, {self.inner} behind a right checksum or grammar"
        return Row(f"parser: {self.name}", tried, 0, failed, of("hang", 0), None, round(self.peak), note)


def fuzz(seconds: float, inputs: int, seed: int, keep: Path | None = None, parsers: Sequence[Parser] = PARSERS) -> list[Row]:
    """Feed each parser with so many changed files, at most so many seconds in all; return a row for each.

    ``keep`` is a folder for the inputs that fail.
    """
    return [tally.row() for tally in tallies(seconds, inputs, seed, keep, parsers)]


def tallies(
    seconds: float, inputs: int, seed: int, keep: Path | None = None, parsers: Sequence[Parser] = PARSERS, workers: int = 1
) -> list[Tally]:
    """Feed each parser, several of them at once where there are ``workers``; return what became of each one's inputs."""
    ends = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="bvae-faults-") as place, _quiet():
        samples = write_samples(Path(place))
        feed = partial(_feed, inputs=inputs, seed=seed, samples=samples, place=Path(place), keep=keep, ends=ends)
        if workers == 1:
            return [feed(parser) for parser in parsers]
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(feed, parsers))


def _feed(parser: Parser, inputs: int, seed: int, samples: Samples, place: Path, keep: Path | None, ends: float) -> Tally:
    tally, number, began = Tally(parser.name), 0, time.monotonic()
    while number < inputs and time.monotonic() < ends:
        number = _one_batch(parser, range(number, min(inputs, number + _BATCH)), seed, samples, place, tally)
    tally.seconds = time.monotonic() - began
    if keep is not None:
        for numbers in tally.failures.values():
            made = keep / f"{parser.name.replace(' ', '-')}_{numbers[0]}"
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir(parents=True)
            write_input(parser, numbers[0], seed, samples, made)
    return tally


def write_input(parser: Parser, number: int, seed: int, samples: Samples, folder: Path) -> bool:
    """Write an input into an empty folder; say whether its checksum, archive or grammar is right."""
    chance = Random(f"{seed}/{parser.name}/{number}")
    inner = chance.random() < parser.share_inside
    parser.write(samples, chance, folder, inner)
    return inner


def _one_batch(parser: Parser, numbers: range, seed: int, samples: Samples, place: Path, tally: Tally) -> int:
    """Feed a batch in a process of its own; return the first number that is left: where it died, the one behind it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_fed(parser, numbers, seed, samples, place, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as reports:
        number, done = _followed(reports, numbers, tally, child)
    _, status, usage = os.wait4(child, 0)
    tally.peak = max(tally.peak, usage.ru_maxrss / 1024)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == _BROKEN:
        raise RuntimeError(f"input {number} of {parser.name} could not be made: see above")
    if not done:
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        said = "it does not answer" if killed else f"the process ended with status {status}"
        tally.count(number, Ended("hang" if killed else "died", said))
        tally.inner += Random(f"{seed}/{parser.name}/{number}").random() < parser.share_inside
        return number + 1
    return numbers.stop


def _followed(reports: IO[bytes], numbers: range, tally: Tally, child: int) -> tuple[int, bool]:
    """Count what the process reports; return the number that it is at, and whether it is through."""
    for number in numbers:
        ready, _, _ = select.select([reports], [], [], 3 * SECONDS_AN_INPUT)
        if not ready:
            os.kill(child, signal.SIGKILL)
            return number, False
        try:
            inner, end = pickle.load(reports)
        except EOFError:
            return number, False
        tally.count(number, end)
        tally.inner += inner
    return numbers.stop, True


def _be_fed(parser: Parser, numbers: range, seed: int, samples: Samples, place: Path, writing: int) -> None:
    """Read the inputs of a batch, report each, and end the process."""
    status = _BROKEN
    try:
        folder = Path(tempfile.mkdtemp(dir=place))
        _limit_memory()
        for number in numbers:
            inner = write_input(parser, number, seed, samples, folder)
            end = read_input(parser, folder)
            os.write(writing, pickle.dumps((inner, end)))
            _empty(folder)
        status = 0
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(status)


def read_input(parser: Parser, folder: Path) -> Ended:
    """Let a parser read what is in a folder, and say how it ended."""
    try:
        with _time_limit(SECONDS_AN_INPUT):
            parser.read(folder)
    except BvaeError as error:
        return _judged(error)
    except _TooLongError:
        return Ended("hang", "it takes too long")
    except MemoryError as error:
        return Ended("memory", _where(error))
    except BaseException as error:
        kind = "memory" if "allocate memory" in str(error) else "failed"
        return Ended(kind, _where(error))
    return Ended("accepted", "")


def _judged(error: BvaeError) -> Ended:
    """Say whether a refusal is one: its exit code, a sentence, and nothing in it that a terminal would obey."""
    if error.exit_code not in _REFUSALS:
        return Ended("failed", f"exit code {error.exit_code}: {_where(error)}")
    if not error.message.strip() or error.hint == "":
        return Ended("failed", f"no sentence: {_where(error)}")
    return Ended("refused", "")


def _where(error: BaseException) -> str:
    """Return the kind of an error and where in the program it was raised: alike for the inputs that fail alike."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "bvae_cli" in frame.filename] or frames
    last = ours[-1] if ours else None
    place = f"{Path(last.filename).name}:{last.lineno}" if last is not None else "?"
    words = " ".join(re.sub(r"0x\w+|'[^']*'|\d+", "…", str(error)).split())
    return f"{type(error).__name__} at {place}: {words[:90]}"


class _TooLongError(BaseException):
    """The time of an input is up."""


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def give_up(*_: object) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BEYOND
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@contextmanager
def _quiet() -> Iterator[None]:
    """Let nothing be said by the programs that are fed: warnings of libraries are no failures."""
    with warnings.catch_warnings(), open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123
        warnings.simplefilter("ignore")
        with redirect_stdout(nowhere), redirect_stderr(nowhere):
            yield


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _again(folder: Path) -> None:
    """Read a kept input once more, and let the whole traceback through."""
    name = folder.resolve().name.rpartition("_")[0].replace("-", " ")
    parser = next(parser for parser in PARSERS if parser.name == name)
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "input"
        shutil.copytree(folder, copy, symlinks=True)
        parser.read(copy)
    print("accepted")  # noqa: T201


def _arguments() -> Any:
    reader = argparse.ArgumentParser(prog="python -m tests.faults.fuzz", description="Feed every parser with changed files.")
    reader.add_argument("--inputs", type=int, default=10_000, help="changed files for each parser")
    reader.add_argument("--seed", type=int, default=0)
    reader.add_argument("--seconds", type=float, default=3600.0, help="at most so long in all")
    reader.add_argument("--keep", type=Path, help="folder for the inputs that fail")
    reader.add_argument("--only", nargs="*", default=[], help="names of parsers, or their beginnings")
    reader.add_argument("--workers", type=int, default=1, help="parsers that are fed at once")
    reader.add_argument("--again", type=Path, metavar="FOLDER", help="read a kept input once more")
    return reader.parse_args()


def main() -> int:
    """Feed the parsers, print a row for each and what failed; return 1 where anything did."""
    asked = _arguments()
    if asked.again is not None:
        _again(asked.again)
        return 0
    chosen = [parser for parser in PARSERS if not asked.only or parser.name.startswith(tuple(asked.only))]
    failed = False
    for tally in tallies(asked.seconds, asked.inputs, asked.seed, asked.keep, chosen, asked.workers):
        row = tally.row()
        print(  # noqa: T201
            f"{row.name}: {row.tried} tried, {row.tracebacks} tracebacks, {row.hangs} hangs, peak {row.peak:.0f} MiB, "
            f"{tally.seconds:.0f} s; {row.note}"
        )
        for said, numbers in sorted(tally.failures.items(), key=lambda item: -len(item[1])):
            failed = True
            print(f"    {len(numbers)} × {said} (first: {numbers[0]})")  # noqa: T201
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
