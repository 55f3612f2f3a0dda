"""Calls of the system that fail: every write, sync, rename, making of a file and of a folder, each with every reason."""

from __future__ import annotations

import errno
import functools
import math
import random
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .commands import RESULT, Command, Reference, Stage, differences, halves, run, said_well, snapshot
from .kills import commands
from .shim import Event, Kind, Refusal, Verdict
from .size import Size
from .table import Row
from .trials import Outcome, row_of, sampled, spread

_REFUSED = 3
_FAILING = {
    Kind.OPEN,
    Kind.CREATE,
    Kind.WRITE,
    Kind.TRUNCATE,
    Kind.FSYNC,
    Kind.FSYNC_FOLDER,
    Kind.RENAME,
    Kind.LINK,
    Kind.MKDIR,
}
_OPENING = {Kind.OPEN, Kind.CREATE, Kind.TRUNCATE}
_EVERYWHERE = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EMFILE)
_IN_SAMPLES = (errno.EDQUOT, errno.EROFS)
# How many failures are tried in the long form and in the short one: of every reason, and of those tried in samples.
_SHARE = ((25, 3), (8, 1))
_SHARES = {"train": ((120, 10), (40, 4)), "compare": ((6, 0), (2, 0))}
# Events until the folder of a run is made.
_MADE = 4


@dataclass(frozen=True)
class Failure:
    """Which event fails, and why; ``lasting`` where everything fails from there on, as on a disk that stays full."""

    event: int
    kind: Kind
    number: int
    lasting: bool = False
    half: bool = False

    def __str__(self) -> str:
        lasting = " and after" if self.lasting else ""
        half = ", half of it written" if self.half else ""
        return f"{errno.errorcode[self.number]} at event {self.event} ({self.kind}){lasting}{half}"

    def policy(self, event: Event) -> Verdict:
        """Refuse the event, and where that lasts every one after it."""
        later = self.lasting and event.number > self.event and event.kind in _FAILING
        return Refusal(self.number, self.half) if event.number == self.event or later else None


def failures_of(reference: Reference) -> tuple[list[Failure], list[Failure]]:
    """Return every failure that an undisturbed run of a command could meet, and those that are tried in samples.

    A process runs out of handles only where it opens a file. EACCES is what file systems answer that cannot sync a folder.
    """
    every, some = [], []
    for event in reference.log:
        if event.kind not in _FAILING:
            continue
        number, kind = event.number, event.kind
        every += [Failure(number, kind, why) for why in _EVERYWHERE if _meets(kind, why)]
        some += [Failure(number, kind, why) for why in _IN_SAMPLES]
        some += [Failure(number, kind, why, lasting=True) for why in (errno.ENOSPC, errno.EIO, errno.EROFS)]
        if kind is Kind.WRITE and len(event.data) > 1:
            every.append(Failure(number, kind, errno.ENOSPC, half=True))
    return every, some


def _meets(kind: Kind, why: int) -> bool:
    if why == errno.EMFILE:
        return kind in _OPENING
    return why != errno.EACCES or kind is not Kind.FSYNC_FOLDER


def rows(stage: Stage, size: Size) -> list[Row]:
    """Return a row for each command: all failures of the training where there is time for it, of the others a sample."""
    end = size.end()
    made = []
    for command in commands(stage):
        if command.api or command.resumed or (command.name == "compare" and size.short):
            continue
        every, some = failures_of(stage.reference(command))
        plain = command.name == "train"
        shares = _SHARES.get(command.name, _SHARE)
        draw = random.Random(size.seed)
        draw.shuffle(every)
        draw.shuffle(some)
        first, second = size.of(*shares[0]), size.of(*shares[1])
        outcomes = _tried(stage, command, every[:first] + some[:second], size, math.inf)
        if plain and not size.short:
            outcomes += _tried(stage, command, every[first:] + some[second:], size, end)
        note = f"of {len(every) + len(some)} failures"
        made.append(row_of(f"failing calls: {command.name}", outcomes, note))
    return [*made, _vanishing(stage, size)]


def few(stage: Stage, count: int) -> Row:
    """Let so many calls of the training fail, drawn from all that could."""
    command = stage.train("train")
    every, _ = failures_of(stage.reference(command))
    return row_of("failing calls: train", _tried(stage, command, random.Random(0).sample(every, count), Size(0), math.inf))


def _vanishing(stage: Stage, size: Size) -> Row:
    """Let the folder of the run vanish before an event: what was in it is gone, and must not come to be half there."""
    command = stage.train("train")
    numbers = [event.number for event in stage.reference(command).log if event.kind in _FAILING]
    try_one = functools.partial(_vanished, stage, command)
    outcomes = spread(sampled(numbers[_MADE:], size.of(80, 3)), try_one, size.jobs, math.inf)
    return row_of("folder vanishes: train", outcomes, "removed with all that is in it")


def _vanished(stage: Stage, command: Command, number: int) -> Outcome:
    outcome = Outcome(f"{command.name}, its folder vanishes before event {number}")
    reference = stage.reference(command)
    result = next(event.number for event in reference.log if (event.target or "").endswith(RESULT))
    with stage.workplace(command) as place:

        def policy(event: Event) -> Verdict:
            if event.number == number:
                subprocess.run(["rm", "-rf", str(place / "weights")], check=True)
            return None

        ended = run(command, place, policy)
        outcome.saw(ended)
        # Nobody can notice it before anything was written or after everything was.
        done = ended.code == 0 and (number > result or not differences(reference.left, snapshot(place)))
        if not done and (ended.code != _REFUSED or not said_well(ended.err)):
            outcome.amiss(f"ended with exit code {ended.code}: {ended.err.strip()[-200:]}")
        _again(outcome, stage, command, place)
    return outcome


def _tried(stage: Stage, command: Command, failures: Sequence[Failure], size: Size, end: float) -> list[Outcome]:
    return spread(failures, functools.partial(_failed_once, stage, command), size.jobs, end)


def _failed_once(stage: Stage, command: Command, failure: Failure) -> Outcome:
    outcome = Outcome(f"{command.name}, {failure}")
    reference = stage.reference(command)
    with stage.workplace(command) as place:
        failed = run(command, place, failure.policy, seconds=reference.limit)
        outcome.saw(failed)
        if failed.code != _REFUSED:
            outcome.amiss(f"ended with exit code {failed.code}: {failed.err.strip()[-200:]}")
        elif not said_well(failed.err):
            outcome.amiss(f"said no sentence and hint but: {failed.err.strip()[-200:]}")
        for name in halves(place):
            outcome.amiss(f"{name} is not whole")
        taken = _again(outcome, stage, command, place)
        kept = reference.kept_steps(sum(event.number < failure.event for event in reference.log))
        if reference.steps and reference.steps - taken < kept:
            outcome.amiss(f"goes on after step {reference.steps - taken}, though {kept} were saved", lost=True)
    return outcome


def _again(outcome: Outcome, stage: Stage, command: Command, place: Path) -> int:
    """Run the command again and compare; return how many steps it took."""
    reference = stage.reference(command)
    ended = run(command, place, again=True, seconds=reference.limit)
    outcome.saw(ended)
    if ended.code:
        outcome.amiss(f"the command again ends with exit code {ended.code}: {ended.err.strip()[-300:]}")
    outcome.compare(differences(reference.left, snapshot(place)))
    return ended.value[2] if ended.value else 0
