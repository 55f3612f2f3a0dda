"""Several training runs of equal shape as one: batched arithmetic, everything else each run's own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from bvae_cli.datasets.rows import taken
from bvae_cli.errors import DivergedError, UsageError
from bvae_cli.model.adam import StackedAdam
from bvae_cli.model.batched import StackedVAE, clip_gradients
from bvae_cli.model.objective import training_losses
from bvae_cli.model.whole import CompiledStep, Objective
from bvae_cli.workflows.fit import EpochStats, Fit, on_device, validation_losses
from bvae_cli.workflows.steps import Epochs, StepHook, recorder_for


class FitMany:
    """An iterator over the epochs of several runs that are trained as one model.

    Each run is a ``Fit``, and ends where it would end alone, but for the rounding of sums: it has its own weights, random
    state, schedules, learning rate, weights of the terms, patience and best weights. The runs go on as slices of the whole:
    after any epoch one can be saved, resumed or trained further alone, and runs of different epochs can be trained as one.
    A run that ends or diverges leaves, and the others go on.

    Yields after each epoch the ``EpochStats`` of every run that was trained, by its index. Their ``seconds`` are those of
    the epoch of all runs, their ``images_per_second`` the images of one. ``diverged`` holds the errors of runs that did.

    Raises UsageError where the runs are not of equal shape (networks, code, data, batch size, estimator, sampling,
    precision), and in float16, where each run scales its loss by itself.
    """

    def __init__(self, fits: Sequence[Fit], on_step: StepHook | None = None) -> None:
        self.fits, self.on_step = list(fits), on_step
        self.diverged: dict[int, DivergedError] = {}
        for fit in self.fits:
            _require_equal_shape(self.fits[0], fit)
            if fit.scaler.is_enabled():
                raise UsageError("Runs in float16 cannot be trained as one.", "Use bfloat16, or train them one by one.")

    def __iter__(self) -> Iterator[dict[int, EpochStats]]:
        """Train epoch by epoch until every run is over."""
        stack: Stack | None = None
        while together := self._together():
            if stack is None or stack.indices != together:
                stack = Stack(together, [self.fits[index] for index in together])
            stats = self._run_epoch(stack)
            for index in set(stack.indices) - set(self._going_on()):
                _release(self.fits[index])
            if len(stats) < len(stack.indices):  # one that was rewound counts its steps anew
                stack = None
            yield stats

    def _going_on(self) -> list[int]:
        return [index for index, fit in enumerate(self.fits) if fit.stop_reason is None and index not in self.diverged]

    def _together(self) -> list[int]:
        """Return the runs that are trained for the next epoch; first those that were interrupted at one step of theirs."""
        going_on = self._going_on()
        step = max((self.fits[index].step for index in going_on), default=0)
        return [index for index in going_on if self.fits[index].step == step]

    def _run_epoch(self, stack: Stack) -> dict[int, EpochStats]:
        started = time.perf_counter()
        sums = stack.rest_of_epoch(self.on_step)
        seconds = time.perf_counter() - started
        stats = {}
        validation = stack.validation_losses()
        for index, (training_loss, kl), validation_loss in zip(stack.indices, sums, validation, strict=True):
            try:
                stats[index] = self.fits[index].finished_epoch(training_loss, kl, validation_loss, seconds)
            except DivergedError as error:
                self._rewind(index, error)
        return stats

    def _rewind(self, index: int, error: DivergedError) -> None:
        try:
            self.fits[index].rewind_from(error)
        except DivergedError as last:
            self.diverged[index] = last


class Stack:
    """Runs in training, as one model and one optimizer that share their memory."""

    def __init__(self, indices: list[int], fits: list[Fit]) -> None:
        self.indices, self.fits = indices, fits
        first = fits[0]
        self.train, self.validation = first.train, first.validation
        self.device, self.batch_size = first.device, first.batch_size
        self.estimator, self.sampling, self.channel_epsilon = first.estimator, first.sampling, first.channel_epsilon
        for fit in fits:  # what it has recorded alone is of memory that it leaves
            fit.steps.forget()
        self.model = StackedVAE([fit.model for fit in fits])
        self.parameters = list(self.model.parameters())
        self.optimizer = StackedAdam(self.parameters, [fit.optimizer for fit in fits])
        self.consistency_weights = self._of_each([[fit.consistency_weight] for fit in fits])
        self.clips = any(fit.grad_clip for fit in fits)
        self.beta_max = self._of_each([fit.beta_max for fit in fits])
        self.grad_clips = self._of_each([fit.grad_clip for fit in fits])
        self.equal_rates = False
        self.compiled_step: CompiledStep | None = None
        if first.compiled:
            objective = Objective(self.model, self.estimator, self.sampling, self.consistency_weights, self.channel_epsilon)
            self.compiled_step = CompiledStep(objective, self.optimizer, self.grad_clips if self.clips else None)
        recorder, because = recorder_for(self.train, scaled=False)
        # Of one run, and so counted on by the next stack that it is in.
        self.pieces = first.pieces
        self.steps = Epochs(self._step, [fit.generator for fit in fits], recorder, because)

    @property
    def steps_per_epoch(self) -> int:
        """How many steps an epoch has."""
        return self.fits[0].steps_per_epoch

    def train_epoch(self) -> None:
        """Take the steps of an epoch that does not count."""
        self.rest_of_epoch()
        for fit in self.fits:
            fit.step = 0

    def rest_of_epoch(self, on_step: StepHook | None = None) -> list[list[float]]:
        """Take the steps that every run has left of its epoch, all equally many; return each one's mean loss and KL."""
        self.model.train()
        betas = self._of_each([[fit.beta(fit.epoch)] for fit in self.fits])
        temperatures = self._of_each([[[fit.temperature(fit.epoch)]] for fit in self.fits])
        rates = list(zip(*[fit.learning_rates() for fit in self.fits], strict=True))
        self._note_equal_rates(all(len(set(of_a_step)) == 1 for of_a_step in rates))
        orders = torch.stack([fit.order() for fit in self.fits])
        on_the_device = on_device(rates, self.device, torch.float64)
        sums = torch.stack([fit.sums for fit in self.fits])
        for fit, own in zip(self.fits, sums, strict=True):
            fit.sums = own

        def note(step: int, steps: int) -> None:
            for fit in self.fits:
                fit.step = step
            if on_step is not None:
                on_step(step, steps)

        self.steps.train(orders, self.batch_size, on_the_device, betas, temperatures, sums, self.fits[0].step, note)
        for fit, rate in zip(self.fits, rates[-1], strict=True):
            fit.optimizer.param_groups[0]["lr"] = rate
        means: list[list[float]] = (sums / len(self.train)).tolist()
        return means

    def validation_losses(self) -> list[float]:
        """Validate every run."""
        self.model.eval()
        return validation_losses(self.model, self.validation, self.beta_max)

    def _step(self, rows: Tensor, rates: Tensor, beta: Tensor, temperature: Tensor) -> Tensor:
        x = taken(self.train, rows)
        if self.fits[0].fresh_bits:
            x = torch.stack([fit.drawn(values) for fit, values in zip(self.fits, x, strict=True)])
        uniform = torch.stack([fit.noise(rows.shape[1]) for fit in self.fits])
        if self.compiled_step is not None and self.compiled_step.takes(x):
            return self.compiled_step(x, uniform, rates, beta, temperature)

        def backward(x: Tensor, uniform: Tensor, share: float) -> Tensor:
            losses = training_losses(
                self.model,
                x.to(self.model.dtype),
                uniform,
                self.estimator,
                self.sampling,
                temperature,
                self.channel_epsilon,
            )
            loss = losses.total(beta, self.consistency_weights) * share
            # No run's loss depends on another's weights, so the gradient of the sum is each one's own.
            loss.sum().backward()
            return torch.stack([loss.detach(), losses.kl.detach().mean(-1) * share], dim=-1)

        sums = self.pieces.gradient(x, uniform, self.model.zero_grad, backward) * rows.shape[1]
        if self.clips:
            clip_gradients(self.parameters, self.grad_clips)
        self.optimizer.step(rates, self.equal_rates)
        return sums

    def _note_equal_rates(self, equal: bool) -> None:
        """Keep whether the runs have one learning rate in every step: what was recorded otherwise is recorded anew."""
        if equal != self.equal_rates and self.compiled_step is None:
            self.equal_rates = equal
            self.steps.forget()

    def _of_each(self, values: object) -> Tensor:
        return on_device(values, self.device, self.model.dtype)


def _release(fit: Fit) -> None:
    """Give a run memory of its own."""
    for parameter in fit.model.parameters():
        parameter.data = parameter.data.clone()
    fit.optimizer.separate()


def _require_equal_shape(one: Fit, other: Fit) -> None:
    differ = [
        what
        for what, equal in {
            "data": one.train is other.train and one.validation is other.validation,
            "networks": str(one.model) == str(other.model),
            "code": (one.model.code.spec, one.model.code.n) == (other.model.code.spec, other.model.code.n),
            "precision": (one.model.dtype, one.model.autocast_dtype) == (other.model.dtype, other.model.autocast_dtype),
            "batch size": one.batch_size == other.batch_size,
            "estimator": one.estimator == other.estimator,
            "sampling": one.sampling == other.sampling,
            "flips in training": one.channel_epsilon == other.channel_epsilon,
            "fresh bits": one.fresh_bits == other.fresh_bits,
            "compilation": one.compiled == other.compiled,
        }.items()
        if not equal
    ]
    if differ:
        raise UsageError(f"Runs of different {', '.join(differ)} cannot be trained as one.", "Train them one by one.")
