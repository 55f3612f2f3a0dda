"""A soak: training and comparing in a loop in one process, whose memory, file handles and threads must stay as they are."""

from __future__ import annotations

import gc
import os
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bvae_cli.cli import main

from .commands import Command, Stage
from .kills import commands
from .size import Size
from .table import Row
from .trials import forked

_TRAININGS_A_ROUND = 4
# What an allocator moves by from round to round without anything being kept.
_NOISE_MIB = 4.0
_SECONDS_TO_SPARE = 120.0
_FEWEST_ROUNDS = 6


@dataclass(frozen=True)
class Sample:
    """What the process holds after a round: memory in MiB, file handles, threads."""

    memory: float
    handles: int
    threads: int


def sample() -> Sample:
    """Return what this process holds now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Sample(
        pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        len(list(Path("/proc/self/fd").iterdir())),
        len(list(Path("/proc/self/task").iterdir())),
    )


def verdict_of(samples: Sequence[Sample]) -> tuple[bool, str]:
    """Say whether what a process holds is flat over its rounds after the first third, and in words how it went."""
    warm = samples[len(samples) // 3 :]
    memory = [one.memory for one in warm]
    slope = statistics.linear_regression(range(len(memory)), memory).slope if len(memory) > 1 else 0.0
    half = len(memory) // 2
    growth = statistics.median(memory[half:]) - statistics.median(memory[: half or 1])
    handles, threads = ([getattr(one, name) for one in warm] for name in ("handles", "threads"))
    # A thread that has been told to end may still be there when it is counted.
    kept = [statistics.median(many[half:]) - min(many[: half or 1]) for many in (handles, threads)]
    flat = growth <= _NOISE_MIB and max(kept) <= 0
    words = (
        f"{len(samples)} rounds, {memory[0]:.0f} → {memory[-1]:.0f} MiB ({slope:+.2f} a round), "
        f"handles {min(handles)}…{max(handles)}, threads {min(threads)}…{max(threads)}"
    )
    return flat, words


def rows(stage: Stage, size: Size) -> list[Row]:
    """Return the row of a soak that fills its time."""
    every = {command.name: command for command in commands(stage)}
    training, comparing = every["train"], every["compare"]
    with stage.workplace(training) as place:
        ended = forked(lambda: _soaked(training, comparing, place, size), size.seconds + _SECONDS_TO_SPARE)
    samples: list[Sample] = ended.value or []
    flat, words = verdict_of(samples) if len(samples) > 1 else (False, f"ended with {ended.code}: {ended.err[-300:]}")
    details = () if flat and not ended.code else (words,)
    return [
        Row(
            name="soak: train and compare",
            tried=len(samples),
            lost=0,
            tracebacks=int(ended.traced),
            hangs=int(ended.hung),
            identical=None,
            peak=ended.peak,
            note=words,
            wrong=len(details),
            details=details,
        )
    ]


def _soaked(training: Command, comparing: Command, place: Path, size: Size) -> tuple[int, Any]:
    os.chdir(place)
    samples: list[Sample] = []
    _done(comparing, "warm")  # once in any case: it imports what draws
    end = size.end()
    while time.monotonic() < end or len(samples) < _FEWEST_ROUNDS:
        number = len(samples)
        for turn in range(_TRAININGS_A_ROUND):
            _done(training, f"{number}-{turn}")
        if not size.short:
            _done(comparing, str(number))
        samples.append(sample())
    return 0, samples


def _done(command: Command, number: str) -> None:
    places = ("--output-dir", f"weights-{number}")
    places += ("--results-dir", f"results-{number}") if command.name == "compare" else ()
    try:
        main([*command.arguments, *places])
    except SystemExit as stop:
        if stop.code:
            raise RuntimeError(f"{command.name} ends with exit code {stop.code}") from None
    shutil.rmtree(f"weights-{number}")
