"""Damage to the state of an unfinished run: the one before it takes its place, and the end is the same."""

from __future__ import annotations

import functools
import io
import math
import random
import zipfile
from collections.abc import Callable

from .commands import STATE, Command, Stage, differences, run, snapshot
from .shim import KILLED
from .size import Size
from .table import Row
from .trials import Outcome, row_of, spread

_FIRST_STEP = 6


def _flipped(draw: random.Random, content: bytes) -> bytes:
    place = draw.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]


def _number_changed(draw: random.Random, content: bytes) -> bytes:
    """Flip a bit of a number in an archive that is whole again: what only a digest finds."""
    line, newline, archive = content.partition(b"\n")
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as before, zipfile.ZipFile(made, "w") as after:
        numbers = [info for info in before.infolist() if "/data/" in info.filename]
        changed = max(numbers, key=lambda info: info.file_size).filename
        for info in before.infolist():
            record = before.read(info)
            after.writestr(info.filename, _flipped(draw, record) if info.filename == changed else record)
    return line + newline + made.getvalue()


def _zeroed(draw: random.Random, content: bytes) -> bytes:
    place = draw.randrange(len(content))
    return content[:place] + bytes(min(512, len(content) - place)) + content[place + 512 :]


def _cut(draw: random.Random, content: bytes) -> bytes:
    return content[: draw.randrange(len(content))]


def _exchanged(draw: random.Random, content: bytes) -> bytes:
    return draw.randbytes(len(content))


def _emptied(draw: random.Random, content: bytes) -> bytes:
    return b""


_WAYS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    *(_flipped, _number_changed, _zeroed),
    *(_cut, _exchanged, _emptied),
)


def rows(stage: Stage, size: Size) -> list[Row]:
    """Return the row of states that are damaged, by bits that change, zeros, cutting short and other content."""
    return [few(stage, size.of(60, 6), size.seed, size.jobs)]


def few(stage: Stage, count: int, seed: int = 0, jobs: int = 1) -> Row:
    """Damage the state of so many trainings."""
    command = stage.train("train")
    seeds = [seed * 1000 + number for number in range(count)]
    outcomes = spread(seeds, functools.partial(_damaged, stage, command), jobs, math.inf)
    return row_of("damaged state: train", outcomes, "flipped bits, zeros, cut short, other content, nothing")


def _damaged(stage: Stage, command: Command, seed: int) -> Outcome:
    draw = random.Random(seed)
    reference = stage.reference(command)
    step = draw.randint(_FIRST_STEP, reference.steps)
    damage = _WAYS[seed % len(_WAYS)]
    outcome = Outcome(f"{STATE} {damage.__name__.strip('_')} after a kill at step {step}, seed {seed}")
    with stage.workplace(command) as place:
        killed = run(command, place, stop_at=lambda taken: taken == step)
        outcome.saw(killed)
        states = list(place.rglob(STATE))
        if killed.code != KILLED or len(states) != 1:
            outcome.amiss(f"there is no state after {step} steps")
            return outcome
        before = states[0].read_bytes()
        after = damage(draw, before)
        states[0].write_bytes(after)
        ended = run(command, place)
        outcome.saw(ended)
        if ended.code:
            outcome.amiss(f"the command ends with exit code {ended.code}: {ended.err.strip()[-300:]}")
        if after != before and "damaged" not in ended.err:
            outcome.amiss("does not say that the state is damaged")
        outcome.compare(differences(reference.left, snapshot(place)))
        if ended.value and ended.value[2] >= reference.steps:
            outcome.amiss("begins anew", lost=True)
    return outcome
