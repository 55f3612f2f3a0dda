"""How to compute on the machine at hand: how many threads, and compiled or not, by taking steps that count for nothing.

More threads are not always faster on small batches, and a compiled step is not always faster than torch's own kernels.
What was measured is kept for this processor, this torch and this shape of model, so that the same command computes, and
rounds, the same way every time.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from bvae_cli import processor
from bvae_cli.config import TrainConfig
from bvae_cli.errors import UsageError
from bvae_cli.workflows.steps import STEPS_BEFORE_RECORDING, STEPS_OF_A_RECORDING

# A run of fewer steps is over before the number of threads matters.
_STEPS_WORTH_A_MEASUREMENT = 1000
# To know what compiling gains it must be done, and takes tens of seconds where it has not been done before.
_SECONDS_WORTH_A_TRY = {"cuda": 60.0, "cpu": 300.0}
# What compiling saves must be so many times what it takes: the measurement is no better than that.
_TIMES_REPAID = 2.0
_ROUNDS = 5
_CPU_COMPILERS = ("g++", "clang++", "c++")


class Training(Protocol):
    """Steps that count for nothing, of which the speed is measured: those of a ``Fit``, or of several as one."""

    @property
    def steps_per_epoch(self) -> int:
        """How many steps an epoch has."""

    def train_epoch(self) -> object:
        """Take the steps of an epoch, and wait for the device."""


# Returns a training of the shape of the run, compiled or not.
Trial = Callable[[bool], Training]


@dataclass(frozen=True)
class Computing:
    """How the steps of a run are computed, and why so."""

    threads: int
    threads_reason: str
    compiled: bool
    compiled_reason: str

    def __str__(self) -> str:
        threads = f"{self.threads} CPU {'thread' if self.threads == 1 else 'threads'} ({self.threads_reason})"
        return f"{threads}, {compiled_in_words(self.compiled, self.compiled_reason)}"


def compiled_in_words(compiled: bool, reason: str) -> str:
    """Say whether steps are compiled, and why."""
    return f"compiled ({reason}), which the first step waits for" if compiled else f"not compiled ({reason})"


def steps_of_a_trial(device: str) -> int:
    """Return how many steps an epoch of a trial has: where steps are recorded enough for two replays."""
    return STEPS_BEFORE_RECORDING + 2 * STEPS_OF_A_RECORDING if device.startswith("cuda") else 4


def computing_of(
    config: TrainConfig, shape: str, device: str, precision: str, steps: int, trial: Trial, processes: int = 1
) -> Computing:
    """Choose how to take so many steps, and let torch use so many threads.

    ``shape`` names everything of the run that its speed depends on. ``trial(compiled)`` returns a training of the same
    shape, of ``steps_of_a_trial`` steps an epoch where there are rows, that nothing else depends on. Raises UsageError where
    ``--compile on`` cannot be had. Of several processes that train together none measures: they would disturb each other.
    """
    problem = compiler_problem(device, precision, processes)
    _require_compiler(config, problem)
    if processes > 1:
        threads = config.threads or torch.get_num_threads()
        because = "asked for" if config.threads else f"{processes} processes share the machine"
        return Computing(threads, because, False, "asked for" if config.compile == "off" else str(problem))
    threads, because = _threads(config, shape, device, steps, trial)
    torch.set_num_threads(threads)
    return Computing(threads, because, *compiling_of(config, shape, device, precision, steps, trial))


def compiling_of(config: TrainConfig, shape: str, device: str, precision: str, steps: int, trial: Trial) -> tuple[bool, str]:
    """Return whether so many steps are compiled, and why; arguments and errors as those of ``computing_of``."""
    problem = compiler_problem(device, precision)
    _require_compiler(config, problem)
    if config.compile != "auto":
        return config.compile == "on", "asked for"
    if problem is not None:
        return False, problem
    if steps < _STEPS_WORTH_A_MEASUREMENT:
        return False, f"a run of {steps} steps is too short to repay it"
    what = f"compiled, threads {torch.get_num_threads()}, {shape}"
    known = processor.recalled(what) or {}
    if "step" not in known:
        known = {"step": _seconds_of_a_plain_step(trial)}
        processor.remember(what, known)  # one that is too short stays so, on a busier machine too
    if "ratio" not in known:
        expected = steps * known["step"]
        if expected < _SECONDS_WORTH_A_TRY[device.partition(":")[0]]:
            return False, f"a run of about {expected:.0f} s is too short to repay it"
        known = _tried(trial)
        if known["ratio"]:  # a compiler that fails may be mended by the next time
            processor.remember(what, known)
    ratio, expected = known["ratio"], steps * known["step"]
    if not ratio:
        return False, "the compiler fails on it"
    said = f"measured: {ratio:.2g} × as fast as not compiled"
    saved = expected * (1 - 1 / ratio)
    if 0 < saved <= _TIMES_REPAID * known["seconds"]:
        return False, f"{said}, which does not repay {known['seconds']:.0f} s of compiling in about {expected:.0f} s"
    return saved > 0, said


def compiler_problem(device: str, precision: str = "float32", processes: int = 1) -> str | None:
    """Return why steps cannot be compiled on a device, None where they can."""
    if processes > 1:
        return f"{processes} processes exchange their gradients in every step"
    if precision == "float16":
        return "float16 scales each loss by what the host has seen of the last"
    if device.startswith("cuda"):
        import importlib.util

        return None if importlib.util.find_spec("triton") else "triton is not installed"
    if device != "cpu":
        return f"there is no compiler for {device}"
    named = os.environ.get("CXX")
    there = any(shutil.which(name) for name in ([named] if named else _CPU_COMPILERS))
    return None if there else "there is no C++ compiler"


def _require_compiler(config: TrainConfig, problem: str | None) -> None:
    if config.compile == "on" and problem is not None:
        raise UsageError(f"The step cannot be compiled: {problem}.", "Leave --compile out.")


def _threads(config: TrainConfig, shape: str, device: str, steps: int, trial: Trial) -> tuple[int, str]:
    if config.threads:
        return config.threads, "asked for"
    if os.environ.get("OMP_NUM_THREADS"):
        return torch.get_num_threads(), "OMP_NUM_THREADS is set"
    candidates = _candidates(torch.get_num_threads())
    if device != "cpu":
        return candidates[-1], "the device is no CPU"
    if len(candidates) == 1:
        return 1, "there is one"
    if steps < _STEPS_WORTH_A_MEASUREMENT:
        return candidates[-1], f"not measured: a run of {steps} steps"
    what = f"threads of {candidates[-1]}, {shape}"
    rates = processor.recalled(what)
    if rates is None or set(rates) != {str(count) for count in candidates}:
        rates = {str(count): rate for count, rate in zip(candidates, _rates(candidates, trial), strict=True)}
        processor.remember(what, rates)
    best = max(candidates, key=lambda count: rates[str(count)])
    others = ", ".join(f"{rates[str(best)] / rates[str(n)]:.2g} × as fast as {n}" for n in candidates if n != best)
    return best, f"measured: {others}"


def _candidates(most: int) -> list[int]:
    """Return 1, 2, 4 … and the most threads that torch would take."""
    return sorted({1 << power for power in range(most.bit_length()) if 1 << power <= most} | {most})


def _rates(candidates: Sequence[int], trial: Trial) -> list[float]:
    """Return the steps per second with each number of threads, measured in turn."""
    fit = trial(False)
    before = torch.get_num_threads()
    seconds: dict[int, list[float]] = {count: [] for count in candidates}
    try:
        for round_ in range(_ROUNDS + 1):
            for count, taken in seconds.items():
                torch.set_num_threads(count)
                duration = _seconds_of_a_step(fit)
                if round_:  # the first is a warm-up
                    taken.append(duration)
    finally:
        torch.set_num_threads(before)
    return [1 / statistics.median(taken) for taken in seconds.values()]


def _seconds_of_a_plain_step(trial: Trial) -> float:
    fit = trial(False)
    _seconds_of_a_step(fit)
    return _seconds_of_a_step(fit)


def _tried(trial: Trial) -> dict[str, float]:
    """Return how many times faster a compiled step is (0 where the compiler fails), what one not compiled takes, and
    how long compiling took, in seconds.
    """
    plain, compiled = trial(False), trial(True)
    step = _seconds_of_a_step(plain)
    started = time.perf_counter()
    try:
        _seconds_of_a_step(compiled)
    except UsageError:
        return {"ratio": 0.0, "step": step, "seconds": time.perf_counter() - started}
    compiling = time.perf_counter() - started
    pairs = [(_seconds_of_a_step(plain), _seconds_of_a_step(compiled)) for _ in range(_ROUNDS + 1)][1:]
    return {
        "ratio": statistics.median(one / other for one, other in pairs),
        "step": statistics.median(one for one, _ in pairs),
        "seconds": compiling,
    }


def _seconds_of_a_step(fit: Training) -> float:
    started = time.perf_counter()
    fit.train_epoch()
    return (time.perf_counter() - started) / fit.steps_per_epoch
