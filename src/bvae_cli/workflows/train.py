"""Train one model: the only place that unpacks a ``TrainConfig``."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bvae_cli import runs
from bvae_cli.config import TrainConfig
from bvae_cli.datasets.base import Splits
from bvae_cli.datasets.rows import Rows
from bvae_cli.errors import (
    BvaeWarning,
    DivergedError,
    ExitCode,
    InputOutputError,
    InterruptedRunError,
    TerminatedError,
)
from bvae_cli.workflows.building import placed
from bvae_cli.workflows.choosing import Computing, computing_of, steps_of_a_trial
from bvae_cli.workflows.distributed import ALONE, Group, LostProcessError, require_same
from bvae_cli.workflows.fit import EpochStats, Fit
from bvae_cli.workflows.planning import Plan, Prepared, SharedData, prepare
from bvae_cli.workflows.steps import StepHook
from bvae_cli.workflows.words import epoch_line, plan_lines

# The state is written at most this often; an interruption writes it in any case.
_SECONDS_BETWEEN_STATES = 10.0


@dataclass(frozen=True)
class TrainResult:
    """How a run ended. Losses are in nats per image; ``state`` is ``finished`` or ``already finished``."""

    folder: Path
    state: str
    reason: str
    epochs: int
    best_epoch: int
    best_validation_loss: float
    seconds: float
    images_per_second: float


class Observer:
    """What a caller may want to hear while a run goes on; but for notes, each method does nothing until overridden."""

    def on_note(self, sentence: str) -> None:
        """Something that a person should know before training begins; a warning until overridden."""
        warnings.warn(sentence, BvaeWarning, stacklevel=2)

    def on_plan(self, plan: Plan, resumed_epoch: int) -> None:
        """Training is about to begin; ``resumed_epoch`` epochs were done before (0 for a new run)."""

    def on_step(self, step: int, steps: int) -> None:
        """A step of the current epoch is done; called often, so be quick."""

    def on_epoch(self, stats: EpochStats) -> None:
        """An epoch is done and recorded."""


def plan(config: TrainConfig, processes: int = 1) -> Plan:
    """Return what ``train`` would do with this configuration, without training or writing anything."""
    return dataclasses.replace(prepare(config).plan, processes=processes)


def train(
    config: TrainConfig,
    observer: Observer | None = None,
    overwrite: bool = False,
    splits: Splits | SharedData | None = None,
    group: Group = ALONE,
) -> TrainResult:
    """Train a model into a folder of its own, or go on with an unfinished run, or say that it is finished.

    ``splits`` are the data of ``config.dataset`` where the caller has loaded them before. All processes of a ``group`` call
    this alike: the first one holds the folder, writes and observes, and every one returns how the run ended.
    Raises DivergedError (best weights kept), InterruptedRunError (state saved), LostProcessError (state saved by the first
    process), InputOutputError, UsageError.
    """
    observer = observer or Observer()
    prepared = prepare(config, splits)
    prepared = dataclasses.replace(prepared, plan=dataclasses.replace(prepared.plan, processes=group.size))
    require_same(group, prepared.plan.digest)
    if group.rank:
        return _follow(config, prepared, group)
    with held(config, prepared) as prepared:
        done = None if overwrite else already_finished(prepared.run)
        group.from_first(str(prepared.run.folder) if done is None else _sent(done))
        return done or _train(config, prepared, observer, overwrite, group)


@contextlib.contextmanager
def held(config: TrainConfig, prepared: Prepared) -> Iterator[Prepared]:
    """Hold the run's folder, which may be another than that of the plan: another run may have taken it meanwhile.

    Raises HeldError where this very run is in another process's hands.
    """
    with runs.held_run(config.output_dir, prepared.name, prepared.plan.digest) as run:
        yield dataclasses.replace(prepared, run=run, plan=dataclasses.replace(prepared.plan, folder=run.folder))


def already_finished(run: runs.Run) -> TrainResult | None:
    """Return how a finished run ended, None for any other. Raises InputOutputError where that is damaged."""
    run.require_readable_result()
    result = run.result()
    if result is None or run.state() != "finished" or not run.weights.exists():
        return None
    fields = {name: result[name] for name in TrainResult.__dataclass_fields__ if name in result}
    return TrainResult(**{**fields, "folder": run.folder, "state": "already finished"})


def fit_of(
    config: TrainConfig,
    prepared: Prepared,
    train: Tensor | Rows,
    validation: Tensor | Rows,
    on_step: StepHook | None,
    compiled: bool = False,
    group: Group = ALONE,
    record: bool = True,
) -> Fit:
    """Return the training of a configuration, before its first epoch, on data that are on the device."""
    return Fit(
        prepared.new_model().to(prepared.plan.device),
        train,
        validation,
        epochs=config.epochs,
        batch_size=config.batch_size,
        lr=config.lr,
        lr_schedule=config.lr_schedule,
        beta_max=config.beta_max,
        beta_warmup_epochs=config.beta_warmup_epochs,
        patience=config.patience,
        min_delta=config.min_delta,
        grad_clip=config.grad_clip,
        consistency_weight=config.consistency_weight,
        tau_start=config.tau_start,
        tau_end=config.tau_end,
        estimator=config.estimator,
        sampling=config.sampling,
        seed=config.seed,
        fresh_bits=prepared.splits.fresh_bits,
        on_step=on_step,
        compiled=compiled,
        group=group,
        record=record,
    )


def computing_for(config: TrainConfig, prepared: Prepared, train: Tensor | Rows, group: Group = ALONE) -> Computing:
    """Choose how the steps of a run are computed on this machine, by taking some that count for nothing."""
    plan = prepared.plan
    rows = train[: min(steps_of_a_trial(plan.device) * config.batch_size, len(train))]

    def trial(compiled: bool) -> Fit:
        return fit_of(config, prepared, rows, rows[:1], None, compiled)

    steps = plan.epochs * plan.steps_per_epoch
    return computing_of(config, shape_of(config, plan), plan.device, plan.precision, steps, trial, group.size)


def shape_of(config: TrainConfig, plan: Plan) -> str:
    """Return in words everything of a run that the speed of its steps depends on."""
    return (
        f"{plan.features} values, hidden {plan.hidden} × {plan.depth}, {config.activation}, N {plan.latent}, {plan.code}, "
        f"batches of {min(config.batch_size, plan.training_rows)}, {config.estimator}, {config.sampling}, "
        f"{plan.precision} on {plan.device}"
    )


def _train(config: TrainConfig, prepared: Prepared, observer: Observer, overwrite: bool, group: Group) -> TrainResult:
    device, splits = prepared.plan.device, prepared.splits
    train = placed(splits.train, device)
    computing = computing_for(config, prepared, train, group)
    prepared = dataclasses.replace(prepared, plan=dataclasses.replace(prepared.plan, computing=str(computing)))
    fit = fit_of(config, prepared, train, placed(splits.validation, device), observer.on_step, computing.compiled, group)
    recording = Recording(config, prepared, fit, observer, overwrite)
    try:
        group.from_first(fit.state_dict())
        for stats in fit:
            recording.note(stats)
    except KeyboardInterrupt as stop:
        raise recording.interrupted(stop) from None
    except LostProcessError as error:
        raise recording.lost(error) from None
    except DivergedError as error:
        raise recording.diverged(error) from None
    finally:
        recording.close()
    result = recording.finished()
    with contextlib.suppress(LostProcessError):  # who went away now has done all its work
        group.from_first(_sent(result))
    return result


def _follow(config: TrainConfig, prepared: Prepared, group: Group) -> TrainResult:
    """Train with the first process, which writes and says everything; return what it returns."""
    first: Any = group.from_first(None)
    if isinstance(first, dict):
        return _received(first)
    device, splits = prepared.plan.device, prepared.splits
    train = placed(splits.train, device)
    computing = computing_for(config, prepared, train, group)
    fit = fit_of(config, prepared, train, placed(splits.validation, device), None, computing.compiled, group)
    try:
        state: Any = group.from_first(None)
        fit.load_state_dict(state)
        for _ in fit:
            pass
        return _received(group.from_first(None))
    except LostProcessError as error:
        raise LostProcessError(
            f"A process of the group is gone, in epoch {fit.epoch + 1}; what was saved is in {first}.", error.hint
        ) from None


def _sent(result: TrainResult) -> dict[str, Any]:
    return {**asdict(result), "folder": str(result.folder)}


def _received(fields: Any) -> TrainResult:
    return TrainResult(**{**fields, "folder": Path(fields["folder"])})


def _state_to_resume(run: runs.Run) -> tuple[dict[str, Any] | None, str | None]:
    """Return the state of an unfinished run, if there is one, and what a person should know of it.

    Best weights without a state that can be read cannot be gone on from: what there is is set aside, never overwritten.
    """
    if run.state() != "unfinished":
        return None, None
    try:
        state = run.load_state()
        what = f"There is no {runs.STATE} in {run.folder} to go on from"
    except runs.DamagedStateError:
        state, what = None, f"{run.folder / runs.STATE} is damaged"
    if state is not None or not (run.weights.exists() or (run.folder / runs.STATE).exists()):
        return state, None
    place = run.set_aside()
    return None, f"{what}: training starts anew, and what the run had made until now is kept in {place}."


def how_stopped(stop: KeyboardInterrupt) -> tuple[str, ExitCode]:
    """Return the word and the exit code for being interrupted by a person, or terminated by the system."""
    if isinstance(stop, TerminatedError):
        return "Terminated", ExitCode.TERMINATED
    return "Interrupted", ExitCode.INTERRUPTED


class Recording:
    """The folder of a run while it is trained: begun or gone on with, then told of each epoch and of how it ended."""

    def __init__(
        self, config: TrainConfig, prepared: Prepared, fit: Fit, observer: Observer, overwrite: bool = False
    ) -> None:
        self._config, self._prepared, self._fit, self._observer = config, prepared, fit, observer
        self.run = prepared.run
        self._begin(overwrite)
        self._keeper = _Keeper(self.run, prepared.config, fit)
        self._writer = _tensorboard(self.run.folder) if config.tensorboard else None
        self._started = time.perf_counter()
        self._rates: list[float] = []

    def _begin(self, overwrite: bool) -> None:
        state, note = (None, None) if overwrite else _state_to_resume(self.run)
        if note is not None:
            self._observer.on_note(note)
        if state is None:
            self.run.start(self._prepared.config)
        else:
            self._fit.load_state_dict(state)
            self.run.cut_record(self._fit.epoch)
        self._observer.on_plan(self._prepared.plan, self._fit.epoch)
        for line in ([note] if note else []) + plan_lines(self._prepared.plan, self._fit.epoch):
            _log(self.run, line)

    def note(self, stats: EpochStats) -> None:
        """Record an epoch that is done, and tell of it."""
        self.run.record(asdict(stats))
        self._keeper.note()
        self._rates.append(stats.images_per_second)
        _log(self.run, epoch_line(stats, self._config.epochs, self._config.patience))
        if self._config.save_every_epoch:
            self.run.save_weights(self._prepared.config, self._fit.weights(), stats.epoch)
        if self._writer is not None:
            for column in runs.RECORD_COLUMNS:
                self._writer.add_scalar(column, getattr(stats, column), stats.epoch)
        self._observer.on_epoch(stats)

    def log(self, line: str) -> None:
        """Write a line into the run's log, with the time."""
        _log(self.run, line)

    def interrupted(self, stop: KeyboardInterrupt) -> InterruptedRunError:
        """Save the state; return the error that says where."""
        self._keeper.write()
        how, code = how_stopped(stop)
        _log(self.run, f"{how.lower()} after epoch {self._keeper.epoch}")
        by_launcher = self._prepared.plan.processes > 1 and isinstance(stop, TerminatedError)
        why = ", as torchrun does where a process of the group is gone" if by_launcher else ""
        return InterruptedRunError(
            f"{how} after epoch {self._keeper.epoch}{why}; the state is in {self.run.folder}.",
            "The same command goes on from there.",
            code,
        )

    def lost(self, error: LostProcessError) -> LostProcessError:
        """Save the state; return the error that says where."""
        self._keeper.write()
        _log(self.run, f"{error.message} Stopped after epoch {self._keeper.epoch}")
        return LostProcessError(
            f"A process of the group is gone, after epoch {self._keeper.epoch}; the state is in {self.run.folder}.",
            error.hint,
        )

    def diverged(self, error: DivergedError) -> DivergedError:
        """Write that the run has diverged; return the error that says what is kept."""
        self._keeper.write()
        self.run.finish({"state": "diverged", "reason": error.message, "epochs": self._keeper.epoch})
        _log(self.run, error.message)
        there = self.run.weights.exists()
        kept = f"The best weights until then are in {self.run.weights}." if there else "No epoch was finished."
        return DivergedError(error.message, f"{kept} {error.hint}")

    def finished(self) -> TrainResult:
        """Write how the run ended, and return it."""
        self._keeper.write()
        result = self.result("finished", self._fit.stop_reason or "")
        self.run.finish({**asdict(result), "folder": self.run.folder.name})
        best = f"best epoch {result.best_epoch}, val_loss {result.best_validation_loss:.4f}"
        _log(self.run, f"finished: {result.reason}; {best}")
        return result

    def result(self, state: str, reason: str) -> TrainResult:
        """Return where the run stands."""
        return TrainResult(
            folder=self.run.folder,
            state=state,
            reason=reason,
            epochs=self._fit.epoch,
            best_epoch=self._fit.best_epoch,
            best_validation_loss=self._fit.best_validation_loss,
            seconds=time.perf_counter() - self._started,
            images_per_second=sorted(self._rates)[len(self._rates) // 2] if self._rates else 0.0,
        )

    def close(self) -> None:
        """Close what is open beside the folder's files."""
        if self._writer is not None:
            self._writer.close()


class _Keeper:
    """Keeps the state of the last whole epoch in memory, and writes it now and then and when the run ends."""

    def __init__(self, run: runs.Run, config: dict[str, Any], fit: Fit) -> None:
        self._run, self._config, self._fit = run, config, fit
        self._state: dict[str, Any] | None = None
        self._written = time.monotonic()
        self.epoch = fit.epoch

    def note(self) -> None:
        """Remember the state at the end of an epoch."""
        self._state, self.epoch = _copied(self._fit.state_dict()), self._fit.epoch
        if time.monotonic() - self._written > _SECONDS_BETWEEN_STATES:
            self.write()

    def write(self) -> None:
        """Write the best weights, then the state that names them."""
        if self._state is not None:
            self._run.save_weights(self._config, self._state["best_weights"])
            self._run.save_state(self._state)
            self._written = time.monotonic()


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value


def _log(run: runs.Run, line: str) -> None:
    run.log(f"{datetime.now().astimezone().isoformat(timespec='seconds')}  {line}")


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputOutputError(f"TensorBoard cannot be loaded: {error}.", "pip install 'bvae-cli[tensorboard]'.") from None
    return SummaryWriter(str(folder / "tensorboard"))
