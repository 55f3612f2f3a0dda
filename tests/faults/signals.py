"""Signals to commands as a person starts them, at moments drawn from a seed: they save, say how to go on, and end."""

from __future__ import annotations

import functools
import math
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from .commands import RESULT, STATE, Command, Stage, differences, halves, run, snapshot, started, wait_for
from .size import Size
from .table import Row
from .trials import Outcome, row_of, spread

_EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
_GOES_ON = re.compile(r"goes on|bvae resume", re.IGNORECASE)
# A step takes milliseconds, and so does a state; the rest is for a machine that others load too.
_SECONDS_TO_END = 20.0
_SECONDS_TO_END_AT_ONCE = 10.0
_LATEST = 1.0
# What is done to `bvae` before it begins: it is to save no states after epochs by itself. A broken build is made here too,
# for a process that is started anew knows nothing of what was done to this one.
BEFORE_IT_BEGINS = ["from bvae_cli.workflows import recording; recording._SHARE_OF_SAVING = -1"]
_TOO_LATE = ", which came too late"


def rows(stage: Stage, size: Size) -> list[Row]:
    """Return a row for each signal."""
    command = _long_enough(stage)
    trials: dict[str, tuple[int, int, Callable[[int], Outcome]]] = {
        "SIGINT": (10, 1, functools.partial(_stopped, stage, command, signal.SIGINT)),
        "SIGTERM": (10, 1, functools.partial(_stopped, stage, command, signal.SIGTERM)),
        "SIGINT twice": (6, 1, functools.partial(_stopped_twice, stage, command)),
        "SIGUSR1": (5, 1, functools.partial(_warned, stage, _seldom(command))),
    }
    made = []
    for name, (long, short, try_one) in trials.items():
        seeds = [size.seed * 1000 + number for number in range(size.of(long, short))]
        outcomes = spread(seeds, try_one, size.jobs, math.inf)
        late = sum(_TOO_LATE in outcome.what for outcome in outcomes)
        if 2 * late > len(outcomes):
            outcomes[0].amiss(f"{late} of {len(outcomes)} signals found no training any more: nothing was tried")
        made.append(row_of(f"signal: {name}", outcomes, f"while it trains; {late} came when it was done"))
    return made


def few(stage: Stage, count: int) -> Row:
    """Return a row for so many warnings."""
    command = _seldom(_long_enough(stage))
    return row_of("signal: SIGUSR1", [_warned(stage, command, seed) for seed in range(count)], "while it trains")


def _long_enough(stage: Stage) -> Command:
    command = stage.train("train for some seconds", epochs=300)
    stage.reference(command, log=False)
    return command


def _seldom(command: Command) -> Command:
    """Return the command that writes no state but when it is asked for one."""
    option = command.arguments.index("--checkpoint-every") + 1
    return replace(command, arguments=(*command.arguments[:option], "100h", *command.arguments[option + 1 :]))


def _in_training(
    stage: Stage, command: Command, place: Path, seed: int, program: Sequence[str] = ("-m", "bvae_cli")
) -> subprocess.Popen[str]:
    """Start a command, and return at a moment drawn from a seed after it has begun to train."""
    process = started(command, place, program)
    wait_for(lambda: any(place.rglob("training_log.txt")) or process.poll() is not None)
    time.sleep(random.Random(seed).uniform(0, _LATEST))
    return process


def _end(outcome: Outcome, process: subprocess.Popen[str], seconds: float) -> str:
    try:
        _, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        _, err = process.communicate()
        outcome.hung = True
        outcome.problems.append(f"does not end within {seconds:g} s")
    if "Traceback" in err:
        outcome.traced = True
        outcome.problems.append(f"traceback: {err.strip().splitlines()[-1]}")
    return err


def _finish(outcome: Outcome, stage: Stage, command: Command, place: Path) -> int:
    for name in halves(place):
        outcome.amiss(f"{name} is not whole")
    ended = run(command, place, seconds=stage.reference(command).limit)
    outcome.saw(ended)
    if ended.code:
        outcome.amiss(f"the command again ends with exit code {ended.code}: {ended.err.strip()[-300:]}")
    outcome.compare(differences(stage.reference(command).left, snapshot(place)))
    return ended.value[2] if ended.value else 0


def _stopped(stage: Stage, command: Command, number: signal.Signals, seed: int) -> Outcome:
    outcome = Outcome(f"{command.name}, {number.name}, seed {seed}")
    with stage.workplace(command) as place:
        process = _in_training(stage, command, place, seed)
        process.send_signal(number)
        err = _end(outcome, process, _SECONDS_TO_END)
        if process.returncode == 0:
            outcome.what += _TOO_LATE
        elif process.returncode != _EXIT_CODES[number]:
            outcome.amiss(f"ended with exit code {process.returncode}: {err.strip()[-300:]}")
        elif not _GOES_ON.search(err):
            outcome.amiss(f"does not say how to go on: {err.strip()[-300:]}")
        _finish(outcome, stage, command, place)
    return outcome


def _stopped_twice(stage: Stage, command: Command, seed: int) -> Outcome:
    outcome = Outcome(f"{command.name}, SIGINT twice, seed {seed}")
    with stage.workplace(command) as place:
        process = _in_training(stage, command, place, seed)
        process.send_signal(signal.SIGINT)
        time.sleep(random.Random(-seed - 1).uniform(0, 0.03))
        process.send_signal(signal.SIGINT)
        err = _end(outcome, process, _SECONDS_TO_END_AT_ONCE)
        if process.returncode == 0:
            outcome.what += _TOO_LATE
        elif process.returncode not in (_EXIT_CODES[signal.SIGINT], -signal.SIGINT):
            outcome.amiss(f"ended with exit code {process.returncode}: {err.strip()[-300:]}")
        _finish(outcome, stage, command, place)
    return outcome


def _warned(stage: Stage, command: Command, seed: int) -> Outcome:
    """Warn a command that writes no state by itself, wait for the state, and kill it: it must go on from there."""
    outcome = Outcome(f"{command.name}, SIGUSR1 and then SIGKILL, seed {seed}")
    with stage.workplace(command) as place:
        program = "; ".join([*BEFORE_IT_BEGINS, "from bvae_cli.cli import main; main()"])
        process = _in_training(stage, command, place, seed, ("-c", program))

        def saved() -> bool:
            return any(place.rglob(STATE))

        process.send_signal(signal.SIGUSR1)
        late = any(place.rglob(RESULT))
        # Nothing else saves one, and it is there until the training is over.
        wait_for(lambda: process.poll() is not None or saved(), _SECONDS_TO_END)
        kept = saved()
        if process.poll() is not None and process.returncode:
            done = "was over" if late else "was not over"
            outcome.amiss(f"ended with exit code {process.returncode} instead of going on; its training {done}")
        elif late:
            outcome.what += _TOO_LATE
        elif not kept:
            outcome.amiss("saves nothing")
        process.kill()
        _end(outcome, process, _SECONDS_TO_END)
        taken = _finish(outcome, stage, command, place)
        if kept and process.returncode == -signal.SIGKILL and taken >= stage.reference(command).steps:
            outcome.amiss("begins anew, though it was warned", lost=True)
    return outcome
