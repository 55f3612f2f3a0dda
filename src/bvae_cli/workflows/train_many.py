"""Train several seeds of one configuration as one model: each a run in a folder of its own, as it would be alone."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence

from bvae_cli import devices
from bvae_cli.config import TrainConfig
from bvae_cli.datasets.base import Splits
from bvae_cli.errors import InterruptedRunError, UsageError
from bvae_cli.workflows.building import load_splits
from bvae_cli.workflows.fit import EpochStats
from bvae_cli.workflows.fit_many import FitMany
from bvae_cli.workflows.planning import Plan, Prepared, prepare
from bvae_cli.workflows.train import Observer, Recording, TrainResult, already_finished, fit_of, held, how_stopped

# The rest is for the steps themselves, and for whatever else runs on the machine.
_SHARE_OF_MEMORY = 0.5


class ManyObserver:
    """What a caller may want to hear while several seeds are trained; each method does nothing until overridden."""

    def on_note(self, seed: int, sentence: str) -> None:
        """Something that a person should know of a run before training begins."""

    def on_plan(self, seed: int, plan: Plan, resumed_epoch: int) -> None:
        """The run of a seed is about to begin, or to go on after ``resumed_epoch`` epochs."""

    def on_epoch(self, stats: dict[int, EpochStats]) -> None:
        """An epoch of every run in training is done and recorded; ``stats`` are by seed."""


def seeded(config: TrainConfig, seeds: int) -> list[TrainConfig]:
    """Return the configurations of so many seeds, from that of ``config`` upwards. Raises UsageError beyond 2⁶³ − 1."""
    if config.seed + seeds > 2**63:
        raise UsageError(
            f"{seeds} seeds from {config.seed} upwards go beyond the largest, 2^63 − 1.", "Use a smaller --seed."
        )
    return [config.model_copy(update={"seed": config.seed + index}) for index in range(seeds)]


def plan_many(config: TrainConfig, seeds: int) -> list[Plan]:
    """Return what ``train_many`` would do for each seed, without training or writing anything."""
    plans: list[Plan] = []
    splits = load_splits(config.dataset)
    for one in seeded(config, seeds):
        prepared = prepare(one, splits)
        taken = {plan.folder for plan in plans}
        own = config.output_dir / f"{prepared.name}_{prepared.plan.digest[:8]}"
        plans.append(
            dataclasses.replace(prepared.plan, folder=own if prepared.plan.folder in taken else prepared.plan.folder)
        )
    return plans


def train_many(
    config: TrainConfig,
    seeds: int,
    observer: ManyObserver | None = None,
    overwrite: bool = False,
    splits: Splits | None = None,
) -> list[TrainResult]:
    """Train so many seeds, from that of ``config`` upwards, and return how each ended, in their order.

    Every seed is the run that ``train`` would make of it: the same folder, files, digest and resumption, so that either may
    go on with what the other began. All are trained as one model, in parts where they take more than half of the memory.
    Sums are rounded otherwise than alone, so in float32 the last digits of a run are its own. A seed that diverges is a
    result with the state ``diverged``, and the others go on.

    Raises InterruptedRunError (every state saved), InputOutputError, UsageError.
    """
    observer = observer or ManyObserver()
    splits = load_splits(config.dataset) if splits is None else splits
    configs = seeded(config, seeds)
    prepared = [prepare(one, splits) for one in configs]
    at_once = _at_once(prepared[0].plan)
    results: list[TrainResult] = []
    for start in range(0, seeds, at_once):
        part = slice(start, start + at_once)
        results += _train_part(configs[part], prepared[part], observer, overwrite)
    return results


def _at_once(plan: Plan) -> int:
    """Return how many runs of a plan are trained as one."""
    memory = devices.memory_bytes(plan.device)
    # In float16 each run scales its loss by itself.
    if plan.precision == "float16":
        return 1
    return 2**31 if memory is None else max(1, int(_SHARE_OF_MEMORY * memory) // plan.memory_bytes)


def _train_part(
    configs: Sequence[TrainConfig], planned: Sequence[Prepared], observer: ManyObserver, overwrite: bool
) -> list[TrainResult]:
    with contextlib.ExitStack() as stack:
        prepared = [stack.enter_context(held(config, one)) for config, one in zip(configs, planned, strict=True)]
        done = {i: None if overwrite else already_finished(one.run) for i, one in enumerate(prepared)}
        results = {index: result for index, result in done.items() if result is not None}
        work = _Part(configs, prepared, [index for index in done if index not in results], observer, overwrite)
        for recording in work.recordings.values():
            stack.callback(recording.close)
        results |= work.done()
    return [results[index] for index in range(len(configs))]


class _Part:
    """Runs that are trained as one, by their index among the configurations."""

    def __init__(
        self,
        configs: Sequence[TrainConfig],
        prepared: Sequence[Prepared],
        indices: Sequence[int],
        observer: ManyObserver,
        overwrite: bool,
    ) -> None:
        self.configs, self.indices, self.observer = configs, indices, observer
        splits, device = prepared[0].splits, prepared[0].plan.device
        train, validation = splits.train.to(device), splits.validation.to(device)
        self.fits = [fit_of(configs[index], prepared[index], train, validation, on_step=None) for index in indices]
        self.recordings = {
            index: Recording(configs[index], prepared[index], fit, _OfSeed(observer, configs[index].seed), overwrite)
            for index, fit in zip(indices, self.fits, strict=True)
        }

    def done(self) -> dict[int, TrainResult]:
        """Train them; return how each ended."""
        results: dict[int, TrainResult] = {}
        many = FitMany(self.fits)
        try:
            self._note_ends(many, results)
            for epoch in many:
                by_index = {self.indices[place]: stats for place, stats in epoch.items()}
                for index, stats in by_index.items():
                    self.recordings[index].note(stats)
                self.observer.on_epoch({self.configs[index].seed: stats for index, stats in by_index.items()})
                self._note_ends(many, results)
        except KeyboardInterrupt as stop:
            raise self._interrupted(stop, results) from None
        return results

    def _note_ends(self, many: FitMany, results: dict[int, TrainResult]) -> None:
        """Write of each run that is over how it ended, as soon as it is."""
        for place, (index, fit) in enumerate(zip(self.indices, self.fits, strict=True)):
            recording = self.recordings[index]
            if index in results:
                continue
            if place in many.diverged:
                error = recording.diverged(many.diverged[place])
                results[index] = recording.result("diverged", error.message)
            elif fit.stop_reason is not None:
                results[index] = recording.finished()

    def _interrupted(self, stop: KeyboardInterrupt, results: dict[int, TrainResult]) -> InterruptedRunError:
        errors = [recording.interrupted(stop) for index, recording in self.recordings.items() if index not in results]
        if len(errors) == 1:
            return errors[0]
        how, code = how_stopped(stop)
        return InterruptedRunError(
            f"{how} with {len(errors)} runs under way; the state of each is in its folder in {self.configs[0].output_dir}.",
            "The same command goes on from there.",
            code,
        )


class _OfSeed(Observer):
    """Tells the observer of all runs what is told of one."""

    def __init__(self, observer: ManyObserver, seed: int) -> None:
        self._observer, self._seed = observer, seed

    def on_note(self, sentence: str) -> None:
        """Pass it on."""
        self._observer.on_note(self._seed, sentence)

    def on_plan(self, plan: Plan, resumed_epoch: int) -> None:
        """Pass it on."""
        self._observer.on_plan(self._seed, plan, resumed_epoch)
