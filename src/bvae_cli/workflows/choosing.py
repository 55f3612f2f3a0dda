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

import torch

from bvae_cli import processor
from bvae_cli.config import TrainConfig
from bvae_cli.errors import UsageError
from bvae_cli.model.objective import Losses, LossesFunction, training_losses
from bvae_cli.workflows.fit import Fit

# A run of fewer steps is over before the number of threads matters.
_STEPS_WORTH_A_MEASUREMENT = 1000
# Compiling takes tens of seconds, and a part of those even where it has been done before.
_SECONDS_WORTH_COMPILING = 600.0
STEPS_OF_A_TRIAL = 4
_ROUNDS = 5
# A compiled step that is hardly faster is not worth waiting for.
_WORTH_COMPILING = 1.1
_CPU_COMPILERS = ("g++", "clang++", "c++")

Trial = Callable[[LossesFunction], Fit]


@dataclass(frozen=True)
class Computing:
    """How the steps of a run are computed, and why so."""

    threads: int
    threads_reason: str
    compiled: bool
    compiled_reason: str

    @property
    def losses(self) -> LossesFunction:
        """The function that computes the loss of a step."""
        return compiled_losses() if self.compiled else training_losses

    def __str__(self) -> str:
        threads = f"{self.threads} CPU {'thread' if self.threads == 1 else 'threads'} ({self.threads_reason})"
        return f"{threads}, {'' if self.compiled else 'not '}compiled ({self.compiled_reason})"


def computing_of(config: TrainConfig, shape: str, device: str, steps: int, trial: Trial, processes: int = 1) -> Computing:
    """Choose how to take so many steps, and let torch use so many threads.

    ``shape`` names everything of the run that its speed depends on. ``trial(losses)`` returns a training of the same shape,
    of ``STEPS_OF_A_TRIAL`` steps an epoch where there are rows, that nothing else depends on. Raises UsageError where
    ``--compile on`` has no compiler. Of several processes that train together none measures: they would disturb each other.
    """
    problem = compiler_problem(device)
    _require_compiler(config, problem)
    if processes > 1:
        threads = config.threads or torch.get_num_threads()
        because = "asked for" if config.threads else f"{processes} processes share the machine"
        return Computing(threads, because, config.compile == "on", "asked for" if config.compile != "auto" else because)
    threads, because = _threads(config, shape, device, steps, trial)
    torch.set_num_threads(threads)
    compiled, why = _compiled(config, shape, steps, trial, problem)
    return Computing(threads, because, compiled, why)


def losses_asked_for(config: TrainConfig, device: str) -> LossesFunction:
    """Return the losses of runs of which nothing is measured: compiled with ``--compile on`` only.

    Raises UsageError where there is no compiler for them.
    """
    if config.compile != "on":
        return training_losses
    _require_compiler(config, compiler_problem(device))
    return compiled_losses()


def compiler_problem(device: str) -> str | None:
    """Return why nothing can be compiled for a device, None where it can."""
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
        raise UsageError(f"The step cannot be compiled: {problem}.", "Leave --compile out, or install one.")


def compiled_losses() -> LossesFunction:
    """Return ``training_losses`` compiled for the shape of the first batch; batches of other shapes are not compiled."""
    compiled = torch.compile(training_losses, dynamic=False)
    shapes: list[torch.Size] = []

    def losses(
        model: torch.nn.Module,
        x: torch.Tensor,
        uniform: torch.Tensor,
        estimator: str,
        sampling: str,
        temperature: float | torch.Tensor,
    ) -> Losses:
        shapes[:] = shapes or [x.shape]
        chosen = compiled if x.shape == shapes[0] else training_losses
        return chosen(model, x, uniform, estimator, sampling, temperature)  # type: ignore[arg-type]

    return losses


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
    fit = trial(training_losses)
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


def _compiled(config: TrainConfig, shape: str, steps: int, trial: Trial, problem: str | None) -> tuple[bool, str]:
    if config.compile != "auto":
        return config.compile == "on", "asked for"
    if problem is not None:
        return False, problem
    if steps < _STEPS_WORTH_A_MEASUREMENT:
        return False, f"a run of {steps} steps is too short to repay it"
    what = f"compiled, {shape}"
    known = processor.recalled(what)
    if known is None:
        fit = trial(training_losses)
        _seconds_of_a_step(fit)
        expected = steps * _seconds_of_a_step(fit)
        if expected < _SECONDS_WORTH_COMPILING:
            return False, f"a run of about {expected:.0f} s is too short to repay it"
        known = {"ratio": _ratio_of_compiled(trial)}
        processor.remember(what, known)
    ratio = known.get("ratio", 0.0)
    return ratio >= _WORTH_COMPILING, f"measured: {ratio:.2g} × as fast as not compiled"


def _ratio_of_compiled(trial: Trial) -> float:
    """Return how many times faster a compiled step is; 0 where the compiler fails."""
    plain, compiled = trial(training_losses), trial(compiled_losses())
    try:
        _seconds_of_a_step(compiled)
    except Exception:  # whatever a compiler of another's making may raise: it is not used then
        return 0.0
    seconds: list[tuple[float, float]] = []
    for round_ in range(_ROUNDS + 1):
        pair = _seconds_of_a_step(plain), _seconds_of_a_step(compiled)
        if round_:
            seconds.append(pair)
    return statistics.median(one / other for one, other in seconds)


def _seconds_of_a_step(fit: Fit) -> float:
    started = time.perf_counter()
    fit.train_epoch()
    return (time.perf_counter() - started) / fit.steps_per_epoch
