"""The bare training loop: tensors in, one ``EpochStats`` an epoch out; no files, no configuration, no words."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bvae_cli.datasets.resident import read_by_the_host
from bvae_cli.datasets.rows import Rows, taken
from bvae_cli.errors import DivergedError
from bvae_cli.model.adam import Adam
from bvae_cli.model.batched import StackedVAE
from bvae_cli.model.bvae import BinaryVAE, CodedAutoencoder
from bvae_cli.model.objective import elbo_with, noise_bits, training_losses
from bvae_cli.model.whole import CompiledStep, Objective
from bvae_cli.workflows.distributed import ALONE, Group, LostProcessError, Part
from bvae_cli.workflows.pieces import Pieces
from bvae_cli.workflows.steps import Epochs, StepHook, recorder_for

# Noise of the validation loss: its own, the same every epoch and for every seed.
_VALIDATION_SEED = 20_230_417
_VALIDATION_ROWS = 2000
# Of many models side by side fewer rows are taken at once, so that a tensor of the decoder has at most so many values.
_VALUES_AT_ONCE = 1 << 26
# The temperature of the relaxed estimators falls by this factor an epoch.
_TEMPERATURE_DECAY = 0.95
# A run that has diverged goes on with its learning rate times this.
RATE_AFTER_REWIND = 0.25
MOST_REWINDS = 2
# Guessing every value and every bit costs a bit each; no training that learns costs many times as much.
_EXPLODED = 10.0


@dataclass(frozen=True)
class EpochStats:
    """What one epoch was: mean losses in nats per row, the schedules' values, its time, and what patience says."""

    epoch: int
    training_loss: float
    validation_loss: float
    kl: float
    beta: float
    temperature: float
    lr: float
    seconds: float
    images_per_second: float
    improved: bool
    epochs_without_improvement: int


@torch.no_grad()
def validation_loss(model: BinaryVAE, x: Tensor | Rows, beta: float = 1.0, group: Group = ALONE) -> float:
    """Return the mean negative ELBO of rows ``x [rows, D]`` in nats, with hard bits and the same noise at every call."""
    total = torch.zeros((), device=x.device, dtype=model.dtype)
    for index, (rows, uniform) in enumerate(_with_noise(model, x)):
        if group.mine(index):
            total -= elbo_with(model, rows, uniform, beta).sum()
    return float(group.total(total)) / len(x)


@torch.no_grad()
def validation_losses(model: StackedVAE, x: Tensor | Rows, betas: Tensor) -> list[float]:
    """Return ``validation_loss`` of each of M models side by side, with its own β of ``betas [M]``."""
    total = torch.zeros(len(betas), device=x.device, dtype=model.dtype)
    most = max(1, _VALUES_AT_ONCE // (len(betas) * x.shape[1]))
    for rows, uniform in _with_noise(model, x):
        for some, noise in zip(rows.split(most), uniform.split(most), strict=True):
            total -= elbo_with(model, some, noise, betas.unsqueeze(1)).sum(-1)
    return [loss / len(x) for loss in total.tolist()]


def _with_noise(model: CodedAutoencoder, x: Tensor | Rows) -> Iterator[tuple[Tensor, Tensor]]:
    """Go through the rows of the validation, each with its noise: ``[B, D]`` and ``[B, K]``."""
    generator = torch.Generator(x.device).manual_seed(_VALIDATION_SEED)
    for rows in x.split(_VALIDATION_ROWS):
        uniform = torch.rand(len(rows), model.code.k, device=x.device, dtype=model.dtype, generator=generator)
        yield rows.to(model.dtype), uniform


class Fit:
    """An iterator over the epochs of a training run, and its state.

    The training loss is E_q[−log p(x given c)] + β KL + w consistency; β rises from 0 to ``beta_max`` over
    ``beta_warmup_epochs``. The validation loss is the negative ELBO at ``beta_max`` with hard bits, true codewords and the
    same noise every epoch; the weights of its best epoch are kept in ``best_weights``. Patience counts after the warm-up.

    A loss that is not a number, or ten times that of guessing, has diverged: at most ``most_rewinds`` times the run goes
    back to its best epoch, calls ``on_rewind`` and goes on with a quarter of its learning rate. Then DivergedError is
    raised.

    ``train`` and ``validation`` are ``[rows, D]`` on the model's device, uint8 bits or float32 in [0, 1]: tensors, or
    ``Rows`` of which each batch is read when it is needed.

    With a ``group`` of several processes each takes its part of every batch, and all end with the same numbers.
    ``compiled`` steps need a single process and no scaling of losses (see ``choosing.compiler_problem``).

    What an epoch draws (``order``, then for each batch ``drawn`` and ``noise``) and how it ends (``finished_epoch``) are
    methods of their own, so that several runs can be trained as one: see ``fit_many``.
    """

    def __init__(
        self,
        model: BinaryVAE,
        train: Tensor | Rows,
        validation: Tensor | Rows,
        *,
        epochs: int,
        batch_size: int,
        lr: float,
        lr_schedule: str = "constant",
        beta_max: float = 1.0,
        beta_warmup_epochs: int = 10,
        patience: int = 10,
        min_delta: float = 0.0,
        grad_clip: float = 0.0,
        consistency_weight: float = 0.01,
        tau_start: float = 1.0,
        tau_end: float = 0.4,
        estimator: str = "reinmax",
        sampling: str = "codeword",
        channel_epsilon: float = 0.0,
        seed: int = 0,
        fresh_bits: bool = False,
        on_step: StepHook | None = None,
        most_rewinds: int = 0,
        record: bool = True,
        compiled: bool = False,
        group: Group = ALONE,
    ) -> None:
        self.model, self.train, self.validation = model, train, validation
        self.epochs, self.batch_size, self.lr, self.lr_schedule = epochs, batch_size, lr, lr_schedule
        self.beta_max, self.beta_warmup_epochs = beta_max, beta_warmup_epochs
        self.patience, self.min_delta, self.grad_clip = patience, min_delta, grad_clip
        self.consistency_weight, self.tau_start, self.tau_end = consistency_weight, tau_start, tau_end
        self.estimator, self.sampling, self.channel_epsilon = estimator, sampling, channel_epsilon
        self.fresh_bits, self.on_step, self.group = fresh_bits, on_step, group
        self.compiled, self.most_rewinds = compiled, most_rewinds
        self.pieces = Pieces()
        self.on_rewind: Callable[[DivergedError], None] | None = None
        self.steps_per_epoch = math.ceil(len(train) / batch_size)

        self.device = train.device
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.optimizer = Adam(model.parameters(), lr=lr)
        # It takes for an optimizer whatever has the parameters in groups.
        self.scaler: Any = torch.amp.GradScaler(self.device.type, enabled=model.autocast_dtype is torch.float16)
        self._read: Iterator[Tensor] = iter(())
        # The position in the epoch under way: steps taken, their sums of loss and KL, and what its order was drawn from.
        self.step = 0
        self.sums = on_device([0.0, 0.0], self.device, model.dtype)
        self._before_epoch = self.generator.get_state()
        recorder, because = (
            recorder_for(train, self.scaler.is_enabled(), group.size) if record else (None, "it was asked for")
        )
        self.steps = Epochs(self._step, [self.generator], recorder, because)
        # Made at the first step: a run that is a slice of several has no step of its own.
        self._compiled_step: CompiledStep | None = None

        self.epoch = 0
        self.best_epoch = 0
        self.best_validation_loss = math.inf
        self.best_weights = self.weights()
        self._after_best = self.generator.get_state()
        self.rewinds = 0
        self.epochs_without_improvement = 0
        self._patience_reference = math.inf

    def __iter__(self) -> Iterator[EpochStats]:
        """Train epoch by epoch until the last one, or until patience ends."""
        while self.stop_reason is None:
            try:
                stats = self._run_epoch()
            except DivergedError as error:
                self.rewind_from(error)
            else:
                yield stats

    @property
    def stop_reason(self) -> str | None:
        """Why training is over, or None while it is not."""
        after = ""
        if self.rewinds:
            after = f", after {self.rewinds} rewind{'' if self.rewinds == 1 else 's'}: it had diverged"
        if self.epochs_without_improvement >= self.patience:
            return f"no improvement for {self.patience} epochs{after}"
        if self.epoch >= self.epochs:
            return f"all {self.epochs} epoch{'' if self.epochs == 1 else 's'} done{after}"
        return None

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the model's weights by name."""
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next epoch depends on, as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "generator": self.generator.get_state(),
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.sums,
            "before_epoch": self._before_epoch,
            "best_epoch": self.best_epoch,
            "best_validation_loss": self.best_validation_loss,
            "best_weights": self.best_weights,
            "after_best": self._after_best,
            "rewinds": self.rewinds,
            "epochs_without_improvement": self.epochs_without_improvement,
            "patience_reference": self._patience_reference,
        }

    def takes(self, state: Any) -> bool:
        """Say whether something is a state of a training like this one: the same names, kinds, shapes and types."""
        if not _is_like(state, self.state_dict()):
            return False
        counts = (state["epoch"], state["step"], state["best_epoch"], state["rewinds"], state["epochs_without_improvement"])
        return bool(min(counts) >= 0 and state["step"] <= self.steps_per_epoch and state["best_epoch"] <= state["epoch"])

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state_dict`` was taken; the result is bit for bit that of an uninterrupted run."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.generator.set_state(state["generator"].cpu())
        self.epoch, self.step = state["epoch"], state["step"]
        self.sums.copy_(state["sums"])
        self._before_epoch = state["before_epoch"].cpu()
        self.best_epoch = state["best_epoch"]
        self.best_validation_loss = state["best_validation_loss"]
        self.best_weights = {name: value.to(self.device) for name, value in state["best_weights"].items()}
        self._after_best = state["after_best"].cpu()
        self.rewinds = state["rewinds"]
        self.epochs_without_improvement = state["epochs_without_improvement"]
        self._patience_reference = state["patience_reference"]

    def beta(self, epoch: int) -> float:
        """Weight of the KL term in an epoch, counted from 0."""
        return self.beta_max * min(1.0, epoch / self.beta_warmup_epochs) if self.beta_warmup_epochs else self.beta_max

    def temperature(self, epoch: int) -> float:
        """Temperature of the relaxed estimators in an epoch, counted from 0."""
        return max(self.tau_end, self.tau_start * _TEMPERATURE_DECAY**epoch)

    def learning_rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0 over the whole run."""
        lr = self.lr * RATE_AFTER_REWIND**self.rewinds
        if self.lr_schedule == "constant":
            return lr
        return lr * 0.5 * (1 + math.cos(math.pi * step / (self.epochs * self.steps_per_epoch)))

    def learning_rates(self) -> list[float]:
        """Return the learning rates of the steps of the next epoch."""
        first = self.epoch * self.steps_per_epoch
        return [self.learning_rate(first + step) for step in range(self.steps_per_epoch)]

    def order(self) -> Tensor:
        """Draw the order of the training rows of the next epoch, ``[rows]``; of one under way, as it was drawn."""
        here = self.generator.get_state()
        if self.step:
            self.generator.set_state(self._before_epoch)
        else:
            self._before_epoch = here
            self.sums.zero_()
        order = torch.randperm(len(self.train), device=self.device, generator=self.generator)
        if self.step:
            self.generator.set_state(here)
        return order

    def drawn(self, x: Tensor, part: Part | None = None) -> Tensor:
        """Return the values of a batch, with ``fresh_bits`` as bits drawn with these probabilities, ``[B, D] -> [B, D]``.

        Where ``x`` is a part of a batch, its bits are those that it has in the whole.
        """
        if self.fresh_bits:
            part = part or ALONE.part(len(x))
            uniform = torch.rand(part.whole, x.shape[1], device=x.device, generator=self.generator)
            return (uniform[part.rows] < x).to(x.dtype)
        return x

    def noise(self, rows: int) -> Tensor:
        """Draw the uniform noise of a batch, ``[B, noise_bits]``."""
        bits = noise_bits(self.model.code, self.sampling, self.channel_epsilon)
        return torch.rand(rows, bits, device=self.device, generator=self.generator)

    def finished_epoch(self, training_loss: float, kl: float, validation_loss: float, seconds: float) -> EpochStats:
        """Keep the weights of the epoch that was trained if they are the best, and count it.

        The losses and ``kl`` are its means in nats per row. Raises DivergedError, with the epoch not counted, where a loss
        is not a number.
        """
        beta, temperature = self.beta(self.epoch), self.temperature(self.epoch)
        self._require_no_divergence(training_loss, validation_loss)
        improved = self._note_validation_loss(validation_loss)
        self.epoch += 1
        self.step = 0
        return EpochStats(
            epoch=self.epoch,
            training_loss=training_loss,
            validation_loss=validation_loss,
            kl=kl,
            beta=beta,
            temperature=temperature,
            lr=self.learning_rate(self.epoch * self.steps_per_epoch - 1),
            seconds=seconds,
            images_per_second=len(self.train) / seconds,
            improved=improved,
            epochs_without_improvement=self.epochs_without_improvement,
        )

    def is_sound(self) -> bool:
        """Say whether the weights and the sums of the epoch under way are numbers, as nothing that diverges has them."""
        values = [self.sums, *self.model.state_dict().values()]
        return all(bool(value.isfinite().all()) for value in values if value.is_floating_point())

    def rewind_from(self, error: DivergedError) -> None:
        """Go back to the end of the best epoch, or to the start where there is none, with a smaller learning rate.

        Adam's moments are forgotten: they are of gradients at the larger one. Raises the error after ``most_rewinds``.
        """
        if self.rewinds >= self.most_rewinds:
            raise error
        self.model.load_state_dict(self.best_weights)
        self.optimizer.restart()
        self.generator.set_state(self._after_best)
        self.epoch, self.step = self.best_epoch, 0
        self.rewinds += 1
        self.epochs_without_improvement = 0
        if self.on_rewind is not None:
            self.on_rewind(error)

    def _require_no_divergence(self, training_loss: float, validation_loss: float) -> None:
        if not (math.isfinite(training_loss) and math.isfinite(validation_loss)):
            raise self._diverged("the loss is not a number")
        model, bit = self.model, math.log(2)
        guess, floor = self._guess, model.likelihood.floor()
        most = floor + _EXPLODED * (guess - floor + (self.beta_max + self.consistency_weight) * model.code.n * bit)
        # That of validation: what exploded and came back within the epoch has learnt.
        if validation_loss > most:
            raise self._diverged(f"the loss is {validation_loss:.3g} nats, and guessing costs {guess:.3g}")

    @functools.cached_property
    def _guess(self) -> float:
        return self.model.likelihood.guess(self.train)

    def _diverged(self, why: str) -> DivergedError:
        return DivergedError(f"Training diverged in epoch {self.epoch + 1}: {why}.", "Try a smaller --lr, or --grad-clip 1.")

    def _run_epoch(self) -> EpochStats:
        started = time.perf_counter()
        training_loss, kl = self._rest_of_epoch()
        # Reading the sums has waited for the device, so the clock is the device's too.
        seconds = time.perf_counter() - started
        return self.finished_epoch(training_loss, kl, self._validation_loss(), seconds)

    def train_epoch(self) -> tuple[float, float]:
        """Take the steps of an epoch that does not count; return its mean loss and KL, in nats per row."""
        means = self._rest_of_epoch()
        self.step = 0
        return means

    def _rest_of_epoch(self) -> tuple[float, float]:
        """Take the steps of the epoch under way that were not taken yet; return the means of the whole epoch."""
        self.model.train()
        beta, temperature = on_device([self.beta(self.epoch), self.temperature(self.epoch)], self.device, self.model.dtype)
        rates = self.learning_rates()
        on_the_device = on_device(rates, self.device, torch.float64)
        order = self.order()
        if read_by_the_host(self.train):
            self._read = iter(self.train.batches(order[self.step * self.batch_size :], self.batch_size))
        self.steps.train(order, self.batch_size, on_the_device, beta, temperature, self.sums, self.step, self._note_step)
        self.optimizer.param_groups[0]["lr"] = rates[-1]
        loss, kl = (self.sums / len(self.train)).tolist()
        return loss, kl

    def _note_step(self, step: int, steps: int) -> None:
        self.step = step
        if self.on_step is not None:
            self.on_step(step, steps)

    def _step(self, rows: Tensor, rates: Tensor, beta: Tensor, temperature: Tensor) -> Tensor:
        part = self.group.part(len(rows))
        before = self.generator.get_state() if self.group.size > 1 else None
        x = self._taken(rows, part)
        if self.fresh_bits:
            x = self.drawn(x, part)
        uniform = self.noise(part.whole)[part.rows]
        if self.compiled:
            step = self._compiled_step = self._compiled_step or self._compile()
            if step.takes(x):
                return step(x, uniform, rates, beta, temperature)

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
            share *= part.weight
            loss = losses.total(beta, self.consistency_weight) * share
            self.scaler.scale(loss).backward()
            return torch.stack([loss.detach(), losses.kl.detach().mean(-1) * share])

        sums = self.pieces.gradient(x, uniform, self.optimizer.zero_grad, backward) * part.whole
        try:
            sums = self.group.sum_gradients(self.model.parameters(), sums)
        except LostProcessError:
            assert before is not None  # only others can be lost
            # The step was not taken; and an epoch of which none was is not begun.
            self.generator.set_state(before if self.step else self._before_epoch)
            raise
        if self.grad_clip:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.grad_clip)
        self.optimizer.param_groups[0]["lr"] = rates
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return sums

    def _compile(self) -> CompiledStep:
        objective = Objective(self.model, self.estimator, self.sampling, self.consistency_weight, self.channel_epsilon)
        clip = torch.tensor(self.grad_clip, device=self.device, dtype=self.model.dtype) if self.grad_clip else None
        return CompiledStep(objective, self.optimizer, clip)

    def _taken(self, rows: Tensor, part: Part) -> Tensor:
        """Take this process's part of a batch; rows in a file are read ahead, in the order that the steps take them."""
        ahead = next(self._read, None)
        return taken(self.train, rows[part.rows]) if ahead is None else ahead[part.rows]

    def _validation_loss(self) -> float:
        self.model.eval()
        return validation_loss(self.model, self.validation, self.beta_max, self.group)

    def _note_validation_loss(self, loss: float) -> bool:
        improved = loss < self.best_validation_loss
        if improved:
            self.best_validation_loss, self.best_epoch = loss, self.epoch + 1
            self.best_weights, self._after_best = self.weights(), self.generator.get_state()
        if loss < self._patience_reference - self.min_delta:
            self._patience_reference, self.epochs_without_improvement = loss, 0
        elif self.epoch >= self.beta_warmup_epochs:
            self.epochs_without_improvement += 1
        return improved


def on_device(values: object, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return plain numbers as a tensor; in single precision at most where the device is no CPU, whose kernels want it so."""
    return torch.tensor(values, device=device, dtype=dtype if device.type == "cpu" else torch.float32)


def _is_like(value: Any, model: object) -> bool:
    """Say whether plain values and tensors are of the same names, kinds, shapes and types as others."""
    if isinstance(model, Tensor):
        return isinstance(value, Tensor) and (value.shape, value.dtype) == (model.shape, model.dtype)
    if isinstance(model, dict):
        alike = isinstance(value, dict) and value.keys() == model.keys()
        return alike and all(_is_like(value[key], item) for key, item in model.items())
    if isinstance(model, list):
        alike = isinstance(value, list) and len(value) == len(model)
        return alike and all(map(_is_like, value, model))
    return type(value) is type(model)
