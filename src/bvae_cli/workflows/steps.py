"""The steps of an epoch: one after another, or on a CUDA device several at a time, replayed from a recording."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from bvae_cli.datasets.rows import Rows

# A recorded function must have run before: libraries choose and load their kernels on the first calls.
STEPS_BEFORE_RECORDING = 3
STEPS_OF_A_RECORDING = 8

Action = Callable[[], None]
StepHook = Callable[[int, int], None]


class StepFunction(Protocol):
    """``(rows [..., B], rates [...], beta, temperature) -> [..., 2]``: take a step; return the sums of loss and KL.

    All are tensors on the device, so that a recording of the step can be given others.
    """

    def __call__(self, rows: Tensor, rates: Tensor, beta: Tensor, temperature: Tensor) -> Tensor:
        """Take one step, without waiting for the device."""


class Recorder(Protocol):
    """Makes of an action that works on fixed tensors one that does the same again, faster."""

    steps: int

    def __call__(self, action: Action, generators: Sequence[torch.Generator]) -> Action:
        """Return the recording; recording it does not act. Raises RuntimeError where the action cannot be recorded."""


class CUDAGraphs:
    """Records what an action asks of the GPU as a CUDA graph; a replay costs the CPU microseconds.

    The generators advance with every replay as they would with every call, so the numbers drawn are the same.
    """

    steps = STEPS_OF_A_RECORDING

    def __call__(self, action: Action, generators: Sequence[torch.Generator]) -> Action:
        """Return the replay of the action."""
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            action()
        return graph.replay


class Epochs:
    """Takes the steps of whole epochs by a step function, a recording of several steps where there is a recorder.

    ``generators`` are those that the step draws from. ``eager_because`` says why nothing is recorded, None where something
    is; an action that turns out not to be recordable is taken step by step, and the reason is kept there.
    """

    def __init__(
        self, step: StepFunction, generators: Sequence[torch.Generator], recorder: Recorder | None, eager_because: str | None
    ) -> None:
        self._step, self._generators, self._recorder = step, list(generators), recorder
        self.eager_because = eager_because
        self._recording: _Recording | None = None
        self._steps_taken = 0

    def train(
        self,
        order: Tensor,
        batch_size: int,
        rates: Tensor,
        beta: Tensor,
        temperature: Tensor,
        on_step: StepHook | None = None,
    ) -> Tensor:
        """Take the steps of an epoch on rows in this order, ``[..., rows] -> [..., 2]``: the sums of loss and KL.

        ``rates`` are the learning rates, ``[steps, ...]``, beta and temperature those of the epoch.
        """
        sums = torch.zeros(*order.shape[:-1], 2, device=order.device, dtype=beta.dtype)
        steps, whole, done = len(rates), order.shape[-1] // batch_size, 0
        while done < steps:
            taken = 1
            recording = self._recorded(order, batch_size, rates, beta, temperature) if done < whole else None
            if recording is not None and done + recording.steps <= whole:
                taken = recording.steps
                rows = order[..., done * batch_size : (done + taken) * batch_size]
                sums += recording.replay(rows, rates[done : done + taken], beta, temperature)
            else:
                rows = order[..., done * batch_size : (done + 1) * batch_size]
                sums += self._step(rows, rates[done], beta, temperature)
            self._steps_taken += taken
            done += taken
            if on_step is not None:
                on_step(done, steps)
        return sums

    def forget(self) -> None:
        """Record anew, because what a step does has changed otherwise than by its tensors."""
        self._recording = None

    def _recorded(
        self, order: Tensor, batch_size: int, rates: Tensor, beta: Tensor, temperature: Tensor
    ) -> _Recording | None:
        """Return the recording, made as soon as enough steps were taken."""
        if self._recorder is None or self._steps_taken < STEPS_BEFORE_RECORDING:
            return None
        if self._recording is None:
            rows = order[..., :batch_size].repeat(*[1] * (order.ndim - 1), self._recorder.steps)
            states = [generator.get_state() for generator in self._generators]
            try:
                self._recording = _Recording(
                    self._step, self._recorder, self._generators, rows, rates[:1], beta, temperature
                )
            except RuntimeError as error:
                self._recorder = None
                self.eager_because = f"its step cannot be recorded ({str(error).splitlines()[0]})"
                for generator, state in zip(self._generators, states, strict=True):
                    generator.set_state(state)
        return self._recording


class _Recording:
    """Several steps on fixed tensors, which are given new values before each replay."""

    def __init__(
        self,
        step: StepFunction,
        recorder: Recorder,
        generators: Sequence[torch.Generator],
        rows: Tensor,
        rates: Tensor,
        beta: Tensor,
        temperature: Tensor,
    ) -> None:
        self.steps = recorder.steps
        self._rows = rows.clone()
        self._rates = rates.expand(self.steps, *rates.shape[1:]).clone()
        self._beta, self._temperature = beta.clone(), temperature.clone()
        self._sums = torch.zeros(*rows.shape[:-1], 2, device=rows.device, dtype=beta.dtype)

        def act() -> None:
            self._sums.zero_()
            batches = self._rows.split(self._rows.shape[-1] // self.steps, dim=-1)
            for batch, rate in zip(batches, self._rates, strict=True):
                self._sums += step(batch, rate, self._beta, self._temperature)

        self._replay = recorder(act, generators)

    def replay(self, rows: Tensor, rates: Tensor, beta: Tensor, temperature: Tensor) -> Tensor:
        """Take the steps; the sums that are returned are overwritten by the next replay."""
        for fixed, given in ((self._rows, rows), (self._rates, rates), (self._beta, beta), (self._temperature, temperature)):
            fixed.copy_(given)
        self._replay()
        return self._sums


def recorder_for(rows: Tensor | Rows, scaled: bool, processes: int = 1) -> tuple[Recorder | None, str | None]:
    """Return what records steps on these rows, or None and why; ``scaled`` says that losses are scaled, as in float16."""
    if processes > 1:
        return None, f"{processes} processes exchange their gradients in every step"
    if rows.device.type != "cuda":
        return None, f"steps are recorded on CUDA devices only, and this is {rows.device.type}"
    if isinstance(rows, Rows):
        return None, "the host reads the rows from their file"
    if scaled:
        return None, "float16 scales each loss by what the host has seen of the last"
    return CUDAGraphs(), None
