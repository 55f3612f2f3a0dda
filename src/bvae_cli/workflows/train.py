"""Train one model: the only place that unpacks a ``TrainConfig``."""

from __future__ import annotations

import dataclasses
import time
import warnings
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from bvae_cli import runs
from bvae_cli.config import TrainConfig
from bvae_cli.datasets.base import Splits
from bvae_cli.errors import (
    BvaeWarning,
    DivergedError,
    ExitCode,
    InputOutputError,
    InterruptedRunError,
    TerminatedError,
)
from bvae_cli.workflows.fit import EpochStats, Fit
from bvae_cli.workflows.planning import Plan, Prepared, prepare
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


def plan(config: TrainConfig) -> Plan:
    """Return what ``train`` would do with this configuration, without training or writing anything."""
    return prepare(config).plan


def train(
    config: TrainConfig, observer: Observer | None = None, overwrite: bool = False, splits: Splits | None = None
) -> TrainResult:
    """Train a model into a folder of its own, or go on with an unfinished run, or say that it is finished.

    ``splits`` are the data of ``config.dataset`` where the caller has loaded them before.
    Raises DivergedError (best weights kept), InterruptedRunError (state saved), InputOutputError, UsageError.
    """
    observer = observer or Observer()
    prepared = prepare(config, splits)
    with runs.held_run(config.output_dir, prepared.name, prepared.plan.digest) as run:
        # Another run may have taken the folder of the plan meanwhile.
        prepared = dataclasses.replace(prepared, run=run, plan=dataclasses.replace(prepared.plan, folder=run.folder))
        done = None if overwrite else _already_finished(prepared.run)
        return done or _train(config, prepared, observer, overwrite)


def _already_finished(run: runs.Run) -> TrainResult | None:
    run.require_readable_result()
    result = run.result()
    if result is None or run.state() != "finished" or not run.weights.exists():
        return None
    fields = {name: result[name] for name in TrainResult.__dataclass_fields__ if name in result}
    return TrainResult(**{**fields, "folder": run.folder, "state": "already finished"})


def _train(config: TrainConfig, prepared: Prepared, observer: Observer, overwrite: bool) -> TrainResult:
    run, device = prepared.run, prepared.plan.device
    model = prepared.new_model().to(device)
    fit = Fit(
        model,
        prepared.splits.train.to(device),
        prepared.splits.validation.to(device),
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
        on_step=observer.on_step,
    )
    state, note = (None, None) if overwrite else _state_to_resume(run)
    if note is not None:
        observer.on_note(note)
    if state is None:
        run.start(prepared.config)
    else:
        fit.load_state_dict(state)
        run.cut_record(fit.epoch)
    observer.on_plan(prepared.plan, fit.epoch)
    for line in ([note] if note else []) + plan_lines(prepared.plan, fit.epoch):
        _log(run, line)
    return _epochs(config, prepared, fit, observer)


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


def _epochs(config: TrainConfig, prepared: Prepared, fit: Fit, observer: Observer) -> TrainResult:
    run = prepared.run
    keeper = _Keeper(run, prepared.config, fit)
    writer = _tensorboard(run.folder) if config.tensorboard else None
    started, rates = time.perf_counter(), []
    try:
        for stats in fit:
            run.record(asdict(stats))
            keeper.note()
            rates.append(stats.images_per_second)
            _log(run, epoch_line(stats, config.epochs, config.patience))
            if config.save_every_epoch:
                run.save_weights(prepared.config, fit.model.state_dict(), stats.epoch)
            if writer is not None:
                for column in runs.RECORD_COLUMNS:
                    writer.add_scalar(column, getattr(stats, column), stats.epoch)
            observer.on_epoch(stats)
    except KeyboardInterrupt as stop:
        keeper.write()
        code = ExitCode.TERMINATED if isinstance(stop, TerminatedError) else ExitCode.INTERRUPTED
        how = "Terminated" if code is ExitCode.TERMINATED else "Interrupted"
        _log(run, f"{how.lower()} after epoch {keeper.epoch}")
        raise InterruptedRunError(
            f"{how} after epoch {keeper.epoch}; the state is in {run.folder}.",
            "The same command goes on from there.",
            code,
        ) from None
    except DivergedError as error:
        raise _diverged(run, keeper, error) from None
    finally:
        if writer is not None:
            writer.close()
    keeper.write()
    result = TrainResult(
        folder=run.folder,
        state="finished",
        reason=fit.stop_reason or "",
        epochs=fit.epoch,
        best_epoch=fit.best_epoch,
        best_validation_loss=fit.best_validation_loss,
        seconds=time.perf_counter() - started,
        images_per_second=sorted(rates)[len(rates) // 2] if rates else 0.0,
    )
    run.finish({**asdict(result), "folder": run.folder.name})
    _log(run, f"finished: {result.reason}; best epoch {result.best_epoch}, val_loss {result.best_validation_loss:.4f}")
    return result


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


def _diverged(run: runs.Run, keeper: _Keeper, error: DivergedError) -> DivergedError:
    keeper.write()
    run.finish({"state": "diverged", "reason": error.message, "epochs": keeper.epoch})
    _log(run, error.message)
    kept = f"The best weights until then are in {run.weights}." if run.weights.exists() else "No epoch was finished."
    return DivergedError(error.message, f"{kept} {error.hint}")


def _log(run: runs.Run, line: str) -> None:
    run.log(f"{datetime.now().astimezone().isoformat(timespec='seconds')}  {line}")


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputOutputError(f"TensorBoard cannot be loaded: {error}.", "pip install 'bvae-cli[tensorboard]'.") from None
    return SummaryWriter(str(folder / "tensorboard"))
