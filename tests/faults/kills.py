"""Kills: around every write, rename and step, several times in a row, and by SIGKILL at any moment.

A killed process says nothing and cleans nothing up. The same command again must end as if nothing had happened.
"""

from __future__ import annotations

import functools
import math
import random
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .commands import Command, Reference, Stage, differences, halves, run, snapshot, started, wait_for
from .shim import KILLED, Event, Kill, Kind, Verdict
from .size import Size
from .table import Row
from .trials import SECONDS_FOR_A_TRIAL, Outcome, row_of, sampled, spread

_NEVER = math.inf
_LONGEST_CHAIN = 4


@dataclass(frozen=True)
class Point:
    """Where a process is killed: around an event, or at a step."""

    event: int | None
    how: Kill = Kill.BEFORE
    step: int | None = None

    def __str__(self) -> str:
        return f"at step {self.step}" if self.event is None else f"{self.how.value} event {self.event}"

    def policy(self, event: Event) -> Verdict:
        """Kill at the event."""
        return self.how if event.number == self.event else None

    def stops(self, step: int) -> bool:
        """Kill at the step."""
        return step == self.step


def commands(stage: Stage) -> list[Command]:
    """Return the commands that are killed; those that read a finished run find it."""
    plain = stage.train("train")
    given = stage.folder / "given"
    words = ("--write", "codewords", "-o", "words.npy")
    if not given.exists():
        with stage.workplace(plain) as place:
            run(plain, place)
            run(Command("", ("encode", str(next((place / "weights").iterdir())), *words)), place)
            shutil.copytree(place, given)
    compare = ("--seeds", "2", "--workers", "1", "--iwae-samples", "2", "--calibration-bins", "2")
    measured = ("--noise-epsilon", "0", "--bootstrap-samples", "100")
    comparison = stage.train("compare", *compare, *measured, epochs=2).arguments[1:]
    measured_little = ("--iwae-samples", "1", "--subset", "4")
    weights = f"weights/{next((given / 'weights').iterdir()).name}"
    return [
        plain,
        stage.train("train by the Python API", api=True),
        replace(plain, name="train, then resume", resumed=True),
        stage.train("train --save-every-epoch", "--save-every-epoch"),
        stage.train("train --seeds 2", "--seeds", "2", "--workers", "1", epochs=2),
        Command("encode", ("encode", "-w", weights, "--output", "codes.npy"), given, ("--overwrite",)),
        Command(
            "export",
            ("export", "-w", weights, "--to", "torch", "--output", "out", *measured_little),
            given,
            ("--overwrite",),
        ),
        Command(
            "decode",
            ("decode", "words.npy", weights, "--flip", "0.1", "-o", "repaired.npy", "--unsure", "unsure.npy"),
            given,
            ("--overwrite",),
        ),
        Command(
            "search", ("search", "words.npy", "--in", "words.npy", "-k", "2", "-o", "found.npz"), given, ("--overwrite",)
        ),
        Command("datasets pack", ("datasets", "pack", str(stage.data), "packed.npz"), None, ("--overwrite",)),
        Command("compare", ("compare", *comparison)),
    ]


def points_of(stage: Stage, command: Command) -> list[Point]:
    """Return every point at which a command can be killed: before each event, amid each write, at each step, at the end."""
    reference = stage.reference(command)
    points = []
    for event in reference.log:
        points.append(Point(event.number))
        if event.kind is Kind.WRITE and len(event.data) > 1:
            points.append(Point(event.number, Kill.HALF))
    points.append(Point(reference.log[-1].number, Kill.AFTER))
    points += [Point(None, step=step) for step in range(1, reference.steps + 1)]
    # Before there is a state there is nothing that `bvae resume` could go on from.
    return [point for point in points if not command.resumed or _kept_at(reference, point)]


def _kept_at(reference: Reference, point: Point) -> int:
    """Return how many steps are in the state that is there at a point."""
    if point.step is not None:
        return reference.kept_steps(sum(steps < point.step for steps in reference.steps_at))
    return reference.kept_steps(sum(event.number < (point.event or 0) for event in reference.log))


def injected(stage: Stage, size: Size) -> list[Row]:
    """Kill every command at points spread evenly over all that it has."""
    rows = []
    shares = {"train": (90, 8), "train by the Python API": (60, 6), "train, then resume": (40, 3), "compare": (12, 1)}
    for command in commands(stage):
        points = points_of(stage, command)
        chosen = sampled(points, size.of(*shares.get(command.name, (30, 3))))
        rows.append(_row_of_points(stage, command, chosen, f"of {len(points)} points", size.jobs))
    return rows


def few(stage: Stage, count: int) -> Row:
    """Kill the training at so many of its points, and amid as many writes: enough to see a build broken on purpose."""
    command = stage.train("train")
    points = points_of(stage, command)
    chosen = [*sampled(points, count), *sampled([point for point in points if point.how is Kill.HALF], count)]
    return _row_of_points(stage, command, chosen, f"of {len(points)} points")


def _row_of_points(stage: Stage, command: Command, points: Sequence[Point], note: str, jobs: int = 1) -> Row:
    outcomes = spread(points, functools.partial(_killed_once, stage, command), jobs, _NEVER)
    return row_of(f"kill: {command.name}", outcomes, note)


def _killed_once(stage: Stage, command: Command, point: Point) -> Outcome:
    outcome = Outcome(f"{command.name}, killed {point}")
    reference = stage.reference(command)
    with stage.workplace(command) as place:
        killed = run(command, place, point.policy, stop_at=point.stops, seconds=reference.limit)
        outcome.saw(killed)
        if killed.code != KILLED:
            outcome.amiss(f"was not killed but ended with exit code {killed.code}")
        taken = _finish(outcome, stage, command, place)
        kept = _kept_at(reference, point)
        if reference.steps and reference.steps - taken < kept:
            outcome.amiss(f"goes on after step {reference.steps - taken}, though {kept} were saved", lost=True)
    return outcome


def _finish(outcome: Outcome, stage: Stage, command: Command, place: Path) -> int:
    """Look at what a kill has left, run the command again, and compare; return how many steps it took."""
    for name in halves(place):
        outcome.amiss(f"{name} is not whole")
    reference = stage.reference(command)
    ended = run(command, place, again=True, seconds=reference.limit)
    outcome.saw(ended)
    if ended.code:
        outcome.amiss(f"the command again ends with exit code {ended.code}: {ended.err.strip()[-300:]}")
    outcome.compare(differences(reference.left, snapshot(place)))
    return ended.value[2] if ended.value else 0


def chains(stage: Stage, size: Size) -> list[Row]:
    """Kill what goes on after a kill, up to four times in a row, at moments drawn from a seed; as long as there is time."""
    command = stage.train("train")
    least = [size.seed * 1_000_000 + number for number in range(size.of(30, 2))]
    try_one = functools.partial(_killed_often, stage, command)
    end = size.end()
    outcomes = spread(least, try_one, size.jobs, _NEVER)
    if not size.short:
        outcomes += spread(range(least[-1] + 1, least[-1] + 100_000), try_one, size.jobs, end)
    kills = sum(int(one.what.split()[-2]) for one in outcomes)
    return [row_of("kill: train, again and again", outcomes, f"{kills} kills")]


def _killed_often(stage: Stage, command: Command, seed: int) -> Outcome:
    draw = random.Random(seed)
    outcome = Outcome("")
    events = len(stage.reference(command).log)
    kills = 0
    with stage.workplace(command) as place:
        for _ in range(draw.randint(2, _LONGEST_CHAIN)):
            point = Point(draw.randrange(events), draw.choice(list(Kill)))
            ended = run(command, place, point.policy)
            outcome.saw(ended)
            kills += ended.code == KILLED
            if ended.code not in (0, KILLED):
                outcome.amiss(f"ended with exit code {ended.code}: {ended.err.strip()[-300:]}")
        _finish(outcome, stage, command, place)
    outcome.what = f"train, chain of seed {seed}, {kills} kills"
    return outcome


def real(stage: Stage, size: Size) -> list[Row]:
    """Send SIGKILL to processes as a person starts them, at moments drawn from a seed, while they train."""
    command = stage.train("train for longer", epochs=60)
    begun = time.monotonic()
    stage.reference(command, log=False)
    seconds = time.monotonic() - begun
    seeds = [size.seed * 1000 + number for number in range(size.of(32, 2))]
    outcomes = spread(seeds, functools.partial(_killed_by_signal, stage, command, seconds), size.jobs, _NEVER)
    return [row_of("SIGKILL: train", outcomes, "a process of its own, at any moment")]


def _killed_by_signal(stage: Stage, command: Command, seconds: float, seed: int) -> Outcome:
    moment = random.Random(seed).uniform(0, seconds)
    outcome = Outcome(f"{command.name}, SIGKILL {moment:.3f} s after its folder is there (seed {seed})")
    with stage.workplace(command) as place:
        process = started(command, place)
        begun = wait_for(lambda: (place / "weights").exists() or process.poll() is not None)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        _, err = process.communicate(timeout=SECONDS_FOR_A_TRIAL)
        if not begun or process.returncode not in (0, -signal.SIGKILL):
            outcome.amiss(f"ended with exit code {process.returncode}: {err.strip()[-300:]}")
        _finish(outcome, stage, command, place)
    return outcome


def rows(stage: Stage, size: Size) -> list[Row]:
    """Return the rows of all kills."""
    parts: list[Callable[[Stage, Size], list[Row]]] = [injected, chains, real]
    return [row for part in parts for row in part(stage, size)]
