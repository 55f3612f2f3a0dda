"""A run's folder while the run is trained: begun or gone on with, told of steps and epochs, saved, and ended."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from bvae_cli import runs
from bvae_cli.checkpoints import FORMAT, is_later, later_format
from bvae_cli.config import TrainConfig
from bvae_cli.datasets.base import unit_of
from bvae_cli.errors import BvaeError, DivergedError, ExitCode, InputOutputError, InterruptedRunError, TerminatedError
from bvae_cli.stopping import Requests
from bvae_cli.workflows.distributed import LostProcessError
from bvae_cli.workflows.fit import EpochStats, Fit
from bvae_cli.workflows.observing import Observer, TrainResult
from bvae_cli.workflows.planning import Prepared
from bvae_cli.workflows.words import epoch_line, plan_lines, position_in_words

_FIT, _COMPUTING, _TOGETHER = "fit", "computing", "together"
# What saving after an epoch may take of the time that training does.
_SHARE_OF_SAVING = 0.01


@dataclass(frozen=True)
class Found:
    """What there is of a run to go on from.

    ``states`` are those that were saved, the last one first; None for one that is damaged. ``unfinished`` says whether the
    run was begun, and is not to be trained anew.
    """

    unfinished: bool
    states: list[tuple[Path, dict[str, Any] | None]]

    @property
    def computing(self) -> dict[str, Any]:
        """How the steps were computed until then, where a state says it."""
        known = next((state.get(_COMPUTING) for _, state in self.states if state is not None), None)
        return known if isinstance(known, dict) else {}

    def fitting(self, fit: Fit) -> tuple[Path, dict[str, Any]] | None:
        """Return the last state that is one of this training, None where there is none."""
        fits = ((path, state) for path, state in self.states if state is not None and fit.takes(state.get(_FIT)))
        return next(fits, None)

    def gone_back_to(self, place: int) -> Found:
        """Return this without the states that are ahead of one of them; damaged ones stay, to be told of."""
        damaged = [(path, state) for path, state in self.states[:place] if state is None]
        return Found(self.unfinished, [*damaged, self.states[place]])


def found_in(run: runs.Run, overwrite: bool = False) -> Found:
    """Return what there is to go on from.

    Raises InputOutputError where the system does not let it be read, or a later version wrote it.
    """
    unfinished = not overwrite and run.state() == "unfinished"
    config = run.config() or {}
    if unfinished and is_later(config):
        raise later_format(run.folder / runs.CONFIG, config["format"], FORMAT, "or train with --overwrite")
    return Found(unfinished, list(run.saved_states()) if unfinished else [])


def side_by_side(founds: Sequence[Found], digests: Sequence[str]) -> list[Found]:
    """Return what runs go on from that are trained as one: a position that all of them have saved, where there is one.

    A process that was killed between the states of two runs leaves one of them ahead of the other. Trained apart for a
    while they would round otherwise than side by side, so the one that is ahead goes back to its state before; and to its
    start, where the others have not saved any yet of what was begun together.
    """
    positions = [[_position_of(state) for _, state in found.states] for found in founds]
    for position in positions[0]:
        if position is not None and all(position in of_one for of_one in positions):
            places = [of_one.index(position) for of_one in positions]
            return [found.gone_back_to(place) for found, place in zip(founds, places, strict=True)]
    known = [of_one for of_one in positions if of_one]
    if len(known) < len(positions) and all(len(of_one) == 1 and _is_of(of_one[0], digests) for of_one in known):
        return [Found(False, []) for _ in founds]
    return list(founds)


def _position_of(state: Mapping[str, Any] | None) -> Any:
    """Return where a state and those that were saved with it stand; None where it was saved by itself."""
    together = None if state is None else state.get(_TOGETHER)
    return together if isinstance(together, list) and together else None


def _is_of(position: Any, digests: Sequence[str]) -> bool:
    known = [item[0] if isinstance(item, list) and item else None for item in position or ()]
    return len(known) == len(digests) and all(digest in known for digest in digests)


class Recording:
    """The folder of a run while it is trained.

    ``computing`` is how its steps are computed, kept for whoever goes on; ``requests`` are those of signals, looked at
    after every step.
    """

    def __init__(
        self,
        config: TrainConfig,
        prepared: Prepared,
        fit: Fit,
        observer: Observer,
        found: Found,
        requests: Requests,
        computing: Mapping[str, Any] | None = None,
    ) -> None:
        self._config, self._prepared, self._fit, self._observer = config, prepared, fit, observer
        self.run, self._requests = prepared.run, requests
        self._computing = dict(computing or {})
        self._every = config.saving
        # Of runs that are trained as one: where each of them stands.
        self.together: Callable[[], list[list[Any]]] = list
        self._best_saved: int | None = None
        self._steps = 0
        # Whether the fit stands between two steps, where it may be saved.
        self.settled = True
        self._saved_at = ""
        self._begin(found)
        self._saved, self._saving = time.monotonic(), 0.0
        self._writer = _tensorboard(self.run.folder, fit.epoch) if config.tensorboard else None
        self._started = time.perf_counter()
        self._rates: list[float] = []
        fit.on_step, fit.on_rewind, fit.pieces.on_halved = self.step, self.rewound, self.halved

    def _begin(self, found: Found) -> None:
        taken = found.fitting(self._fit)
        note = self._what_is_wrong(found, taken)
        if note is not None:
            self._observer.on_note(note)
        if taken is None:
            self.run.start(self._prepared.config)
        else:
            path, state = taken
            self._fit.load_state_dict(state[_FIT])
            self.run.go_on(path, state)
            self._saved_at = self._position()
        self.run.save_options(self._config.model_dump(mode="json", exclude={"output_dir", "params"}))
        plan = dataclasses.replace(self._prepared.plan, resumed_step=self._fit.step)
        self._observer.on_plan(plan, self._fit.epoch)
        for line in ([note] if note else []) + plan_lines(plan, self._fit.epoch):
            self.log(line)

    def _what_is_wrong(self, found: Found, taken: tuple[Path, dict[str, Any]] | None) -> str | None:
        """Return what a person should know of what was found; what cannot be gone on from is set aside, never overwritten.

        Best weights without a state are such a thing.
        """
        last = next((path for path, _ in found.states), None)
        if taken is not None:
            path, state = taken
            where = position_in_words(state[_FIT]["epoch"], state[_FIT]["step"], self._fit.steps_per_epoch)
            return None if path == last else f"{last} is damaged: going on from the state before it, {where}."
        if last is None and not (found.unfinished and self.run.weights.exists()):
            return None
        place = self.run.set_aside()
        what = f"There is no {runs.STATE} in {self.run.folder} to go on from" if last is None else f"{last} is damaged"
        return f"{what}: training starts anew, and what the run had made until now is kept in {place}."

    def step(self, step: int, steps: int) -> None:
        """Tell of a step that was taken; stop or save where that is asked for, or due."""
        self.count_step()
        self._observer.on_step(step, steps)
        self.look()

    def count_step(self) -> None:
        """Note that a step was taken."""
        self.settled = True
        self._steps += 1

    def note(self, stats: EpochStats) -> None:
        """Record an epoch that is done, and tell of it."""
        self.run.record(asdict(stats))
        self._rates.append(stats.images_per_second)
        self.log(epoch_line(stats, self._config.epochs, self._config.patience))
        if self._config.save_every_epoch:
            self.run.save_weights(self._prepared.config, self._fit.weights(), stats.epoch)
        if self._writer is not None:
            for column in runs.RECORD_COLUMNS:
                self._writer.add_scalar(column, getattr(stats, column), stats.epoch)
        self.settled = True
        self._observer.on_epoch(stats)

    def look(self, after_epoch: bool = False) -> None:
        """Stop or save where that is asked for, or due: between two steps, or after an epoch that is recorded."""
        self._requests.obey()
        if self._requests.asked_to_save() or self.is_due(after_epoch):
            self.save()
        self.settled = False

    def rewound(self, error: DivergedError) -> None:
        """Record that the run has diverged and goes on from its best epoch."""
        self.run.cut_record(self._fit.epoch)
        rate = self._fit.learning_rate(self._fit.epoch * self._fit.steps_per_epoch)
        where = f"from the end of epoch {self._fit.epoch}" if self._fit.epoch else "from the start"
        sentence = f"{error.message} It goes on {where} with the learning rate {rate:.3g}."
        self.log(sentence)
        self._observer.on_note(sentence)

    def halved(self, pieces: int) -> None:
        """Record that the memory does not hold a batch at once; tell of the first time."""
        rows = -(-self._config.batch_size // pieces)
        sentence = (
            f"The memory does not hold a batch of {self._config.batch_size:,} rows: it is taken in {pieces} pieces of "
            f"{rows:,}, whose gradients are added. The step is the same but for the rounding of sums."
        )
        self.log(sentence)
        if pieces == 2:
            self._observer.on_note(sentence)

    def log(self, line: str) -> None:
        """Write a line into the run's log, with the time."""
        self.run.log(f"{datetime.now().astimezone().isoformat(timespec='seconds')}  {line}")

    def save(self) -> None:
        """Save best weights and state, unless the weights are no numbers: what was saved before is then the better."""
        if not self._fit.is_sound():
            return
        begun = time.monotonic()
        self._save_best()
        state = {_FIT: _copied(self._fit.state_dict()), _COMPUTING: self._computing, _TOGETHER: self.together()}
        self.run.save_state(state)
        self._saved, self._steps, self._saved_at = time.monotonic(), 0, self._position()
        self._saving = self._saved - begun

    def interrupted(self, stop: KeyboardInterrupt) -> InterruptedRunError:
        """Save the state, where the training stands between two steps; return the error that says where."""
        how, code = how_stopped(stop)
        by_launcher = self._prepared.plan.processes > 1 and isinstance(stop, TerminatedError)
        why = ", as torchrun does where a process of the group is gone" if by_launcher else ""
        where = self._saved_at_last(f"{how.lower()}{why}")
        return InterruptedRunError(
            f"{how} {self._position()}{why}; the state {where}is in {self.run.folder}.",
            f"To go on: bvae resume {shlex.quote(str(self.run.folder))}, or the same command again.",
            code,
        )

    def lost(self, error: LostProcessError) -> BvaeError:
        """Save the state, to which the step that was lost has done nothing; return the error that says where.

        Where this process was asked to stop as well, the others are gone for the same reason, and that is said.
        """
        self.settled = True
        try:
            self._requests.obey()
        except KeyboardInterrupt as stop:
            return self.interrupted(stop)
        where = self._saved_at_last(f"{error.message} Stopped")
        return LostProcessError(
            f"A process of the group is gone, {self._position()}; the state {where}is in {self.run.folder}.", error.hint
        )

    def diverged(self, error: DivergedError) -> DivergedError:
        """Write that the run has diverged; return the error that says what is kept."""
        self._save_best()
        self.run.finish({"state": "diverged", "reason": error.message, "epochs": self._fit.epoch})
        self.log(error.message)
        there = self.run.weights.exists()
        kept = f"The best weights until then are in {self.run.weights}." if there else "No epoch was finished."
        return DivergedError(error.message, f"{kept} {error.hint}")

    def finished(self) -> TrainResult:
        """Write how the run ended, and return it."""
        self._save_best()
        result = self.result("finished", self._fit.stop_reason or "")
        self.run.finish({**asdict(result), "folder": self.run.folder.name})
        best = f"best epoch {result.best_epoch}, val_loss {result.best_validation_loss:.4f}"
        self.log(f"finished: {result.reason}; {best}")
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
            rewinds=self._fit.rewinds,
            is_likelihood=self._prepared.plan.likelihood_note is None,
            unit=unit_of(self._prepared.splits.feature_shape),
        )

    def close(self) -> None:
        """Close what is open beside the folder's files."""
        if self._writer is not None:
            self._writer.close()

    def is_due(self, after_epoch: bool = False) -> bool:
        """Say whether it is time to save the state: as often as asked for, and after an epoch, where that costs little."""
        every, since = self._every, time.monotonic() - self._saved
        if after_epoch and self._saving <= _SHARE_OF_SAVING * since:
            return True
        return self._steps >= every.steps if every.steps else since >= every.seconds

    def _save_best(self) -> None:
        if self._fit.best_epoch and self._best_saved != self._fit.best_epoch:
            self.run.save_weights(self._prepared.config, self._fit.best_weights)
            self._best_saved = self._fit.best_epoch

    def _saved_at_last(self, what: str) -> str:
        """Save where the training stands between two steps; return where it stood when it was saved last, if elsewhere."""
        self.log(f"{what} {self._position()}")
        if self.settled:
            self.save()
        return "" if self._saved_at == self._position() else f"{self._saved_at or 'at its start'} "

    def _position(self) -> str:
        return position_in_words(self._fit.epoch, self._fit.step, self._fit.steps_per_epoch)


def how_stopped(stop: KeyboardInterrupt) -> tuple[str, ExitCode]:
    """Return the word and the exit code for being interrupted by a person, or terminated by the system."""
    if isinstance(stop, TerminatedError):
        return "Terminated", ExitCode.TERMINATED
    return "Interrupted", ExitCode.INTERRUPTED


def _copied(value: Any) -> Any:
    """Return a state on the host, each tensor with memory of its own: a slice of many would be saved with all of them."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value


def _tensorboard(folder: Path, epochs: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputOutputError(f"TensorBoard cannot be loaded: {error}.", "pip install 'bvae-cli[tensorboard]'.") from None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=epochs + 1)
