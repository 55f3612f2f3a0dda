"""The steps of an epoch: one after another, or on a CUDA device several at a time, replayed from a recording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from bvae_cli.datasets.resident import read_by_the_host
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

    The generators advance with every replay as they would with every call, so the numbers drawn are the same. All graphs of
    a recorder share their memory: what one leaves there none of the others reads.
    """

    steps = STEPS_OF_A_RECORDING

    def __init__(self) -> None:
        self._memory: Any = None

    def __call__(self, action: Action, generators: Sequence[torch.Generator]) -> Action:
        """Return the replay of the action."""
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph, pool=self._memory):
            action()
        self._memory = graph.pool()
        return graph.replay


class Epochs:
    """Takes the steps of whole epochs by a step function, or by recordings of it where there is a recorder.

    Recorded are several whole batches as one, a single one for what is left over, and the last one of another size.
    ``generators`` are those that the step draws from. ``eager_because`` says why nothing is recorded, None where something
    is; an action that turns out not to be recordable is taken step by step, and the reason is kept there.
    """

    def __init__(
        self, step: StepFunction, generators: Sequence[torch.Generator], recorder: Recorder | None, eager_because: str | None
    ) -> None:
        self._step, self._generators, self._recorder = step, list(generators), recorder
        self.eager_because = eager_because
        # By the rows of a step and the steps of a recording; and the steps that were taken, by their rows.
        self._recordings: dict[tuple[int, int], _Recording] = {}
        self._steps_taken: Counter[int] = Counter()

    def train(
        self,
        order: Tensor,
        batch_size: int,
        rates: Tensor,
        beta: Tensor,
        temperature: Tensor,
        sums: Tensor,
        done: int = 0,
        on_step: StepHook | None = None,
    ) -> None:
        """Take the steps of an epoch on rows in this order, ``[..., rows]``, but for the first ``done``.

        ``rates`` are the learning rates of all, ``[steps, ...]``, beta and temperature those of the epoch. Loss and KL are
        added to ``sums [..., 2]``.
        """
        steps, whole = len(rates), order.shape[-1] // batch_size
        while done < steps:
            together = self._recorder.steps if self._recorder is not None else 1
            together = together if done + together <= whole else 1
            recording = self._recorded(order[..., done * batch_size :][..., :batch_size], together, rates, beta, temperature)
            taken = 1 if recording is None else together
            rows = order[..., done * batch_size : (done + taken) * batch_size]
            if recording is None:
                sums += self._step(rows, rates[done], beta, temperature)
            else:
                recording.replay(rows, rates[done : done + taken], beta, temperature, sums)
            self._steps_taken[min(batch_size, rows.shape[-1])] += taken
            done += taken
            if on_step is not None:
                on_step(done, steps)

    def forget(self) -> None:
        """Record anew, because what a step does has changed otherwise than by its tensors."""
        self._recordings.clear()

    def _recorded(self, batch: Tensor, steps: int, rates: Tensor, beta: Tensor, temperature: Tensor) -> _Recording | None:
        """Return the recording of so many steps on batches of this size, made as soon as enough of them were taken."""
        rows = batch.shape[-1]
        if self._recorder is None or self._steps_taken[rows] < STEPS_BEFORE_RECORDING:
            return None
        if (rows, steps) not in self._recordings:
            states = [generator.get_state() for generator in self._generators]
            several = batch.repeat(*[1] * (batch.ndim - 1), steps)
            try:
                self._recordings[rows, steps] = _Recording(
                    self._step,
                    self._recorder,
                    self._generators,
                    several,
                    rates[:1].repeat_interleave(steps, 0),
                    beta,
                    temperature,
                )
            except RuntimeError as error:
                self._recorder = None
                self.eager_because = f"its step cannot be recorded ({str(error).splitlines()[0]})"
                for generator, state in zip(self._generators, states, strict=True):
                    _set_anew(generator, state)
                return None
        return self._recordings[rows, steps]


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
        self._rows, self._rates = rows.clone(), rates.clone()
        self._beta, self._temperature = beta.clone(), temperature.clone()
        self._sums = torch.zeros(*rows.shape[:-1], 2, device=rows.device, dtype=beta.dtype)

        def act() -> None:
            batches = self._rows.chunk(len(self._rates), dim=-1)
            for batch, rate in zip(batches, self._rates, strict=True):
                self._sums += step(batch, rate, self._beta, self._temperature)

        self._replay = recorder(act, generators)

    def replay(self, rows: Tensor, rates: Tensor, beta: Tensor, temperature: Tensor, sums: Tensor) -> None:
        """Take the steps, and add to the sums what each gives."""
        for fixed, given in ((self._rows, rows), (self._rates, rates), (self._beta, beta), (self._temperature, temperature)):
            fixed.copy_(given)
        # One step after another is added to the sums before it, as single steps are: where an epoch was gone on with bears
        # on which steps are recorded together, and must not bear on the last digit of its sums.
        self._sums.copy_(sums)
        self._replay()
        sums.copy_(self._sums)


def _set_anew(generator: torch.Generator, state: Tensor) -> None:
    """Set a generator's state after a recording that failed, which may leave it believing that it is being recorded."""
    if generator.device.type == "cuda":
        generator.graphsafe_set_state(torch.Generator(generator.device).graphsafe_get_state())
    generator.set_state(state)


def recorder_for(rows: Tensor | Rows, scaled: bool, processes: int = 1) -> tuple[Recorder | None, str | None]:
    """Return what records steps on these rows, or None and why; ``scaled`` says that losses are scaled, as in float16."""
    if processes > 1:
        return None, f"{processes} processes exchange their gradients in every step"
    if rows.device.type != "cuda":
        return None, f"steps are recorded on CUDA devices only, and this is {rows.device.type}"
    if read_by_the_host(rows):
        return None, "the host reads the rows from their file"
    if scaled:
        return None, "float16 scales each loss by what the host has seen of the last"
    return CUDAGraphs(), None
