"""Several training runs of equal shape as one: batched arithmetic, everything else each run's own."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from bvae_cli.errors import DivergedError, UsageError
from bvae_cli.model.batched import StackedAdam, StackedVAE, clip_gradients
from bvae_cli.model.objective import training_losses
from bvae_cli.workflows.fit import EpochStats, Fit, StepHook


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
        training = self._going_on(range(len(self.fits)))
        stack: _Stack | None = None
        while training:
            if stack is None or stack.indices != training:
                stack = _Stack(training, [self.fits[index] for index in training])
            stats = self._run_epoch(stack)
            training = self._going_on(stack.indices)
            for index in set(stack.indices) - set(training):
                _release(self.fits[index])
            yield stats

    def _going_on(self, indices: Iterable[int]) -> list[int]:
        return [index for index in indices if self.fits[index].stop_reason is None and index not in self.diverged]

    def _run_epoch(self, stack: _Stack) -> dict[int, EpochStats]:
        started = time.perf_counter()
        sums = stack.train_epoch(self.on_step)
        seconds = time.perf_counter() - started
        stats = {}
        for index, (training_loss, kl) in zip(stack.indices, sums, strict=True):
            try:
                stats[index] = self.fits[index].finished_epoch(training_loss, kl, seconds)
            except DivergedError as error:
                self.diverged[index] = error
        return stats


class _Stack:
    """Runs in training, as one model and one optimizer that share their memory."""

    def __init__(self, indices: list[int], fits: list[Fit]) -> None:
        self.indices, self.fits = indices, fits
        first = fits[0]
        self.train, self.device, self.batch_size = first.train, first.device, first.batch_size
        self.estimator, self.sampling = first.estimator, first.sampling
        self.model = StackedVAE([fit.model for fit in fits])
        self.parameters = list(self.model.parameters())
        self.optimizer = StackedAdam(self.parameters, [fit.optimizer for fit in fits])
        self.consistency_weights = self._of_each([[fit.consistency_weight] for fit in fits])
        self.clips = any(fit.grad_clip for fit in fits)
        self.grad_clips = self._of_each([fit.grad_clip for fit in fits])

    def train_epoch(self, on_step: StepHook | None) -> list[list[float]]:
        """Train every run for its next epoch; return each one's mean loss and KL."""
        betas = self._of_each([[fit.beta(fit.epoch)] for fit in self.fits])
        temperatures = self._of_each([[[fit.temperature(fit.epoch)]] for fit in self.fits])
        rates = self._rates()
        orders = torch.stack([fit.order() for fit in self.fits])
        sums = torch.zeros(len(self.fits), 2, device=self.device, dtype=self.model.dtype)
        for index, rows in enumerate(orders.split(self.batch_size, dim=1)):
            sums += self._step(rows, betas, temperatures, rates[index]) * rows.shape[1]
            if on_step is not None:
                on_step(index + 1, len(rates))
        means: list[list[float]] = (sums / len(self.train)).tolist()
        for fit, rate in zip(self.fits, rates[-1].tolist(), strict=True):
            fit.optimizer.param_groups[0]["lr"] = rate
        return means

    def _step(self, rows: Tensor, betas: Tensor, temperatures: Tensor, rates: Tensor) -> Tensor:
        """Take one step on rows ``[M, B]``; return loss and KL of each run, ``[M, 2]``, without waiting for the device."""
        x = self.train[rows].to(self.model.dtype)
        if self.fits[0].fresh_bits:
            x = torch.stack([fit.drawn(values) for fit, values in zip(self.fits, x, strict=True)])
        uniform = torch.stack([fit.noise(rows.shape[1]) for fit in self.fits])
        losses = training_losses(self.model, x, uniform, self.estimator, self.sampling, temperatures)
        loss = losses.total(betas, self.consistency_weights)
        self.model.zero_grad(set_to_none=True)
        # No run's loss depends on another's weights, so the gradient of the sum is each one's own.
        loss.sum().backward()
        if self.clips:
            clip_gradients(self.parameters, self.grad_clips)
        self.optimizer.step(rates)
        return torch.stack([loss.detach(), losses.kl.detach().mean(-1)], dim=-1)

    def _rates(self) -> Tensor:
        """Return the learning rates of the next epoch, ``[steps, M]``."""
        steps = range(self.fits[0].steps_per_epoch)
        return self._of_each(
            [[fit.learning_rate(fit.epoch * fit.steps_per_epoch + step) for fit in self.fits] for step in steps]
        )

    def _of_each(self, values: object) -> Tensor:
        return torch.tensor(values, device=self.device, dtype=self.model.dtype)


def _release(fit: Fit) -> None:
    """Give a run memory of its own."""
    for parameter in fit.model.parameters():
        parameter.data = parameter.data.clone()
        state = fit.optimizer.state[parameter]
        state.update({name: value.clone() for name, value in state.items()})


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
            "fresh bits": one.fresh_bits == other.fresh_bits,
        }.items()
        if not equal
    ]
    if differ:
        raise UsageError(f"Runs of different {', '.join(differ)} cannot be trained as one.", "Train them one by one.")
