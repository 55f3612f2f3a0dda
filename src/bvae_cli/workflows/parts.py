"""Which runs can be trained as one model, and training such a part: each run in a folder of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bvae_cli.config import TrainConfig
from bvae_cli.datasets.rows import Rows
from bvae_cli.errors import DivergedError, InterruptedRunError
from bvae_cli.runs import open_run
from bvae_cli.stopping import Requests
from bvae_cli.workflows.building import placed
from bvae_cli.workflows.choosing import compiled_in_words, compiling_of, steps_of_a_trial
from bvae_cli.workflows.fit import EpochStats, Fit
from bvae_cli.workflows.fit_many import FitMany, Stack
from bvae_cli.workflows.observing import Observer, TrainResult
from bvae_cli.workflows.planning import Plan, Prepared, SharedData, prepare
from bvae_cli.workflows.recording import Recording, found_in, how_stopped, side_by_side
from bvae_cli.workflows.steps import StepHook
from bvae_cli.workflows.train import already_finished, fit_of, held, shape_of

# What runs that are trained as one may have each for itself; in everything else that decides their numbers they are alike.
OWN_TO_EACH = frozenset(
    {
        "beta_max",
        "beta_warmup_epochs",
        "consistency_weight",
        "epochs",
        "grad_clip",
        "init_from",
        "lr",
        "lr_schedule",
        "min_delta",
        "patience",
        "seed",
        "tau_end",
        "tau_start",
    }
)


@dataclass(frozen=True)
class ManyRun:
    """One of several runs: its place among them, its configuration, and what it needs."""

    index: int
    config: TrainConfig
    prepared: Prepared

    @property
    def shape(self) -> str:
        """What a run has in common with those that it can be trained with, as JSON."""
        decides = self.prepared.config["decides"]
        alike = {name: value for name, value in decides.items() if name not in OWN_TO_EACH}
        return json.dumps([alike, self.prepared.plan.device], sort_keys=True)


class PartObserver:
    """What may be heard of runs that are trained together, each named by its index among them; nothing until overridden."""

    def on_note(self, index: int, sentence: str) -> None:
        """Something that a person should know of a run before training begins."""

    def on_plan(self, index: int, plan: Plan, resumed_epoch: int) -> None:
        """A run is about to begin, or to go on after ``resumed_epoch`` epochs."""

    def on_epoch(self, stats: dict[int, EpochStats]) -> None:
        """An epoch of the runs that are trained as one is done and recorded; ``stats`` are by index."""

    def on_result(self, index: int, result: TrainResult) -> None:
        """A run is over, or was found finished; the others may go on."""


def runs_of(configs: Sequence[TrainConfig], data: SharedData) -> list[ManyRun]:
    """Prepare runs, each with a folder of its own: of those that would take the same name, the first does."""
    taken: dict[str, str] = {}
    made = []
    for index, config in enumerate(configs):
        prepared = prepare(config, data)
        folder, digest = str(prepared.plan.folder), prepared.plan.digest
        if taken.setdefault(folder, digest) != digest:
            prepared = renamed(config, prepared, f"{prepared.name}_{digest[:8]}")
        made.append(ManyRun(index, config, prepared))
    return made


def renamed(config: TrainConfig, prepared: Prepared, name: str) -> Prepared:
    """Return what is prepared for a run, with a folder of another name."""
    run = open_run(config.output_dir, name, prepared.plan.digest)
    plan = dataclasses.replace(prepared.plan, folder=run.folder)
    return dataclasses.replace(prepared, name=name, run=run, plan=plan)


def parts_of(runs: Sequence[ManyRun], at_once: Callable[[Sequence[ManyRun]], int]) -> list[list[ManyRun]]:
    """Divide runs into parts that are trained as one: of equal shape, and of like size.

    ``at_once`` says of all runs of a shape how many of them a part may have at most.
    """
    groups: dict[str, list[ManyRun]] = {}
    for run in runs:
        groups.setdefault(run.shape, []).append(run)
    parts = []
    for group in groups.values():
        count = -(-len(group) // at_once(group))
        size, larger = divmod(len(group), count)
        start = 0
        for number in range(count):
            end = start + size + (number < larger)
            parts.append(group[start:end])
            start = end
    return parts


def fits_of(
    runs: Sequence[ManyRun],
    train: Tensor | Rows,
    validation: Tensor | Rows,
    on_step: StepHook | None = None,
    compiled: bool = False,
) -> list[Fit]:
    """Return the trainings of runs before their first epoch, on the same data, which are on the device."""
    return [fit_of(run.config, run.prepared, train, validation, on_step, compiled) for run in runs]


def compiling_for(runs: Sequence[ManyRun], train: Tensor | Rows) -> tuple[bool, str]:
    """Return whether the steps of runs that are trained as one are compiled, and why.

    On a CPU they are where that is asked for: workers that try it at the same time would measure each other.
    """
    config, plan = runs[0].config, runs[0].prepared.plan
    if config.compile == "auto" and plan.device == "cpu":
        return False, "not tried for several runs"
    rows = train[: min(steps_of_a_trial(plan.device) * config.batch_size, len(train))]

    def trial(compiled: bool) -> Fit | Stack:
        fits = fits_of(runs, rows, rows[:1], compiled=compiled)
        return fits[0] if len(fits) == 1 else Stack(list(range(len(fits))), fits)

    models = "" if len(runs) == 1 else f", {len(runs)} models"
    steps = plan.epochs * plan.steps_per_epoch
    return compiling_of(config, shape_of(config, plan) + models, plan.device, plan.precision, steps, trial)


def train_part(
    runs: Sequence[ManyRun], observer: PartObserver, overwrite: bool = False, on_step: StepHook | None = None
) -> dict[int, TrainResult]:
    """Train runs of equal shape as one model and return how each ended, by index; one alone is trained as ``train`` does.

    A run that diverges is a result with the state ``diverged``. A KeyboardInterrupt from anywhere within saves every state
    and raises InterruptedRunError.
    """
    results: dict[int, TrainResult] = {}
    with contextlib.ExitStack() as stack:
        mine = [dataclasses.replace(run, prepared=stack.enter_context(held(run.config, run.prepared))) for run in runs]
        unfinished = []
        for run in mine:
            done = None if overwrite else already_finished(run.prepared.run, run.config)
            if done is None:
                unfinished.append(run)
            else:
                results[run.index] = done
                observer.on_result(run.index, done)
        if unfinished:
            part = _Part(unfinished, observer, overwrite, on_step)
            stack.callback(part.close)
            results |= part.done()
    return results


class _Part:
    """Runs that are trained as one."""

    def __init__(self, runs: Sequence[ManyRun], observer: PartObserver, overwrite: bool, on_step: StepHook | None) -> None:
        self.runs, self.observer = runs, observer
        splits, device = runs[0].prepared.splits, runs[0].prepared.plan.device
        train, validation = placed(splits.train, device), placed(splits.validation, device)
        compiled, because = compiling_for(runs, train)
        self.fits = fits_of(runs, train, validation, compiled=compiled)
        self.requests, self.on_step = Requests(), on_step
        self.recordings: list[Recording] = []
        self.results: dict[int, TrainResult] = {}
        founds = [found_in(run.prepared.run, overwrite) for run in runs]
        if len(runs) > 1:
            founds = side_by_side(founds, [run.prepared.plan.digest for run in runs])
        for run, fit, found in zip(runs, self.fits, founds, strict=True):
            told = _OfOne(observer, run.index)
            self.recordings.append(Recording(run.config, run.prepared, fit, told, found, self.requests))
            self.recordings[-1].together = self._positions
            fit.on_step = self._step  # where it is trained by itself
            together = f"one of {len(runs)} runs trained as one" if len(runs) > 1 else "trained by itself"
            how = f"threads {torch.get_num_threads()}, {compiled_in_words(compiled, because)}"
            self.recordings[-1].log(f"{together}, {how}")
        self.epochs = _Alone(self.fits[0]) if len(runs) == 1 else FitMany(self.fits, self._step)

    def done(self) -> dict[int, TrainResult]:
        """Train them; return how each ended, by index."""
        with self.requests:
            try:
                self._note_ends()
                for epoch in self.epochs:
                    for place, stats in epoch.items():
                        self.recordings[place].note(stats)
                    if epoch:
                        self.observer.on_epoch({self.runs[place].index: stats for place, stats in epoch.items()})
                    self._note_ends()
                    self._look(after_epoch=True)
            except KeyboardInterrupt as stop:
                raise self._interrupted(stop) from None
        return self.results

    def _step(self, step: int, steps: int) -> None:
        for place in self._under_way():
            self.recordings[place].count_step()
        if self.on_step is not None:
            self.on_step(step, steps)
        self._look()

    def _look(self, after_epoch: bool = False) -> None:
        """Stop or save where that is asked for, or due: all runs alike, so that they can go on side by side."""
        recordings = [self.recordings[place] for place in self._under_way()]
        for recording in recordings:
            recording.settled = True
        self.requests.obey()
        if self.requests.asked_to_save() or any(recording.is_due(after_epoch) for recording in recordings):
            self._save()
        for recording in recordings:
            recording.settled = False

    def _save(self) -> None:
        for place in self._under_way():
            self.recordings[place].save()

    def _under_way(self) -> list[int]:
        return [place for place, run in enumerate(self.runs) if run.index not in self.results]

    def _positions(self) -> list[list[Any]]:
        """Return the digest, the epoch, the step and the rewinds of each run that is under way."""
        under_way = [(self.runs[place].prepared.plan.digest, self.fits[place]) for place in self._under_way()]
        return [[digest, fit.epoch, fit.step, fit.rewinds] for digest, fit in under_way]

    def close(self) -> None:
        """Close what is open beside the folders' files."""
        for recording in self.recordings:
            recording.close()

    def _note_ends(self) -> None:
        """Write of each run that is over how it ended, as soon as it is; of the others where they stand without it."""
        over = [place for place in self._under_way() if self._is_over(place)]
        if len(self.runs) > 1 and over:
            self._save()
        for place, (run, fit, recording) in enumerate(zip(self.runs, self.fits, self.recordings, strict=True)):
            if run.index in self.results:
                continue
            if place in self.epochs.diverged:
                error = recording.diverged(self.epochs.diverged[place])
                self.results[run.index] = recording.result("diverged", error.message)
            elif fit.stop_reason is not None:
                self.results[run.index] = recording.finished()
            else:
                continue
            self.observer.on_result(run.index, self.results[run.index])

    def _is_over(self, place: int) -> bool:
        return place in self.epochs.diverged or self.fits[place].stop_reason is not None

    def _interrupted(self, stop: KeyboardInterrupt) -> InterruptedRunError:
        errors = [self.recordings[place].interrupted(stop) for place in self._under_way()]
        return errors[0] if len(errors) == 1 else several_interrupted(stop, len(errors), self.runs[0].config)


def several_interrupted(stop: KeyboardInterrupt, count: int, config: TrainConfig) -> InterruptedRunError:
    """Return the error that says how many runs were under way."""
    how, code = how_stopped(stop)
    what = f"{count} runs under way; the state of each is" if count > 1 else "a run under way; its state is"
    return InterruptedRunError(
        f"{how} with {what} in its folder in {config.output_dir}.",
        "The same command goes on from there.",
        code,
    )


class _Alone:
    """A single run with the face of several."""

    def __init__(self, fit: Fit) -> None:
        self._fit = fit
        self.diverged: dict[int, DivergedError] = {}

    def __iter__(self) -> Iterator[dict[int, EpochStats]]:
        """Train epoch by epoch until the run is over."""
        try:
            for stats in self._fit:
                yield {0: stats}
        except DivergedError as error:
            self.diverged[0] = error
            yield {}


class _OfOne(Observer):
    """Tells the observer of all runs what is told of one."""

    def __init__(self, observer: PartObserver, index: int) -> None:
        self._observer, self._index = observer, index

    def on_note(self, sentence: str) -> None:
        """Pass it on."""
        self._observer.on_note(self._index, sentence)

    def on_plan(self, plan: Plan, resumed_epoch: int) -> None:
        """Pass it on."""
        self._observer.on_plan(self._index, plan, resumed_epoch)
