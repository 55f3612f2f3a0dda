"""Older copies: a backup program puts some files of an unfinished run back as they were some steps before.

The same it is where the folder is copied while it is written: some of its files are then older than others. Whatever of
them is older, the same command again must end as if nothing had happened, from no earlier state than the older one.
A finished run is another matter: nobody looks at whether its files belong to its result.
"""

from __future__ import annotations

import functools
import math
import random
from pathlib import Path

from bvae_cli.runs import CONFIG, LOG, LOSS_RECORD, METRICS, OPTIONS, PREVIOUS_STATE, STATE, WEIGHTS

from .commands import Command, Stage, differences, run, snapshot
from .shim import KILLED
from .size import Size
from .table import Row
from .trials import Outcome, row_of, spread

# So many steps after the beginning there are two states, and best weights.
_FIRST_STEP = 9
# What is put back alone, in this order; the rest comes with others.
_ALONE = (WEIGHTS, METRICS, STATE, LOSS_RECORD, PREVIOUS_STATE, LOG, OPTIONS, CONFIG)


def rows(stage: Stage, size: Size) -> list[Row]:
    """Return the row of runs of which some files are older than others."""
    return [few(stage, size.of(60, 6), size.seed, size.jobs)]


def few(stage: Stage, count: int, seed: int = 0, jobs: int = 1) -> Row:
    """Put back files of so many trainings: of each three one file, some files, all that there were."""
    # Its best epoch is the third of six: what is older than that is not made good by a later one.
    command = stage.train("train past its best", "--lr", "0.03", epochs=6)
    seeds = [seed * 1000 + number for number in range(count)]
    outcomes = spread(seeds, functools.partial(_put_back, stage, command), jobs, math.inf)
    return row_of("older copies: train", outcomes, "one file, some files, all files as they were some steps before")


def _chosen(draw: random.Random, seed: int, names: list[str]) -> list[str]:
    """Return those files that are put back."""
    way, number = seed % 3, seed // 3
    if way == 0:
        return [name for name in names if Path(name).name == _ALONE[number % len(_ALONE)]]
    return names if way == 1 else sorted(draw.sample(names, draw.randint(2, len(names) - 1)))


def _put_back(stage: Stage, command: Command, seed: int) -> Outcome:
    draw = random.Random(seed)
    reference = stage.reference(command)
    half = reference.steps // 2
    first, second = draw.randint(_FIRST_STEP, half), draw.randint(half + 2, reference.steps)
    outcome = Outcome("")
    with stage.workplace(command) as place:
        older = _killed(outcome, command, place, first)
        # It goes on after the step before the one at which it was killed.
        _killed(outcome, command, place, second - (first - 1))
        chosen = _chosen(draw, seed, list(older))
        told = "all" if len(chosen) == len(older) else ", ".join(Path(name).name for name in chosen)
        outcome.what = f"{told} of step {first}, put back after a kill at step {second}, seed {seed}"
        if not chosen:
            outcome.amiss("there is no such file: nothing was tried")
        for name in chosen:
            (place / name).write_bytes(older[name])
        ended = run(command, place, seconds=reference.limit)
        outcome.saw(ended)
        if ended.code:
            outcome.amiss(f"the command ends with exit code {ended.code}: {ended.err.strip()[-300:]}")
        outcome.compare(differences(reference.left, snapshot(place)))
        if ended.value and ended.value[2] > reference.steps - (first - 1):
            outcome.amiss(f"takes {ended.value[2]} steps, though {first - 1} of {reference.steps} were saved", lost=True)
    return outcome


def _killed(outcome: Outcome, command: Command, place: Path, steps: int) -> dict[str, bytes]:
    """Run a command, kill it after so many steps, and return every file that there is then, by name."""
    killed = run(command, place, stop_at=lambda taken: taken == steps)
    outcome.saw(killed)
    if killed.code != KILLED:
        outcome.amiss(f"was not killed after {steps} steps but ended with exit code {killed.code}")
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}
