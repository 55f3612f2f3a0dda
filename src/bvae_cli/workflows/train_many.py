"""Train several runs, those of equal shape as one model: each in a folder of its own, as it would be alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from bvae_cli.config import TrainConfig
from bvae_cli.datasets.base import Splits
from bvae_cli.errors import UsageError
from bvae_cli.workflows.building import load_splits
from bvae_cli.workflows.observing import TrainResult
from bvae_cli.workflows.parts import ManyRun, PartObserver, runs_of
from bvae_cli.workflows.planning import Plan, SharedData, require_memory
from bvae_cli.workflows.train import already_finished, held
from bvae_cli.workflows.ways import Way, chosen


class ManyObserver(PartObserver):
    """What a caller may want to hear while several runs are trained; each method does nothing until overridden."""

    def on_way(self, way: Way) -> None:
        """The way was chosen in which the runs are trained that are not finished."""


def seeded(config: TrainConfig, seeds: int) -> list[TrainConfig]:
    """Return the configurations of so many seeds, from that of ``config`` upwards. Raises UsageError beyond 2⁶³ − 1."""
    if config.seed + seeds > 2**63:
        raise UsageError(
            f"{seeds} seeds from {config.seed} upwards go beyond the largest, 2^63 − 1.", "Use a smaller --seed."
        )
    return [config.model_copy(update={"seed": config.seed + index}) for index in range(seeds)]


def plan_many(config: TrainConfig, seeds: int) -> tuple[list[Plan], Way | None]:
    """Return what ``train_many`` would do for each seed and in which way, without training or writing anything."""
    data = SharedData(load_splits(config.dataset))
    configs = seeded(config, seeds)
    return [run.prepared.plan for run in runs_of(configs, data)], plan_way(configs, data)


def plan_way(configs: Sequence[TrainConfig], data: SharedData) -> Way | None:
    """Return the way in which ``train_together`` would train these runs; None where nothing is left to train.

    What it would measure is measured.
    """
    unfinished = [run for run in runs_of(configs, data) if already_finished(run.prepared.run, run.config) is None]
    if not unfinished:
        return None
    _require_memory(unfinished)
    with chosen(unfinished) as choice:
        return choice.way


def train_many(
    config: TrainConfig,
    seeds: int,
    observer: ManyObserver | None = None,
    overwrite: bool = False,
    data: Splits | SharedData | None = None,
) -> list[TrainResult]:
    """Train so many seeds, from that of ``config`` upwards, with ``train_together``."""
    return train_together(seeded(config, seeds), observer, overwrite, data)


def train_together(
    configs: Sequence[TrainConfig],
    observer: ManyObserver | None = None,
    overwrite: bool = False,
    data: Splits | SharedData | None = None,
) -> list[TrainResult]:
    """Train runs on one data set and return how each ended, in their order.

    Each is the run that ``train`` would make of it: the same folder, files, digest and resumption, so that either may go on
    with what the other began. Runs of equal shape (see ``parts.OWN_TO_EACH`` for what may differ) are trained as one model,
    in parts where they take more than half of the memory, and on a CPU in several processes where that is faster (see
    ``ways``). The way bears on the numbers only in that sums are rounded otherwise: in float32 the last digits of a run are
    its own. A run that diverges is a result with the state ``diverged``, and the others go on. A configuration that is there
    twice is trained once.

    Raises InterruptedRunError (every state saved), InputOutputError, UsageError.
    """
    observer = observer or ManyObserver()
    if not configs:
        return []
    if not isinstance(data, SharedData):
        data = SharedData(load_splits(configs[0].dataset) if data is None else data)
    runs = runs_of(configs, data)
    first = {(run.config.output_dir, run.prepared.plan.digest): run.index for run in reversed(runs)}
    results: dict[int, TrainResult] = {}
    unfinished = []
    for run in runs:
        if first[run.config.output_dir, run.prepared.plan.digest] != run.index:
            continue
        done = None if overwrite else _found(run)
        if done is None:
            unfinished.append(run)
        else:
            results[run.index] = done
            observer.on_result(run.index, done)
    if unfinished:
        _require_memory(unfinished)
        with chosen(unfinished) as choice:
            observer.on_way(choice.way)
            results |= choice.train(unfinished, observer, overwrite)
    for run in runs:
        if run.index not in results:
            twin = results[first[run.config.output_dir, run.prepared.plan.digest]]
            state = "diverged" if twin.state == "diverged" else "already finished"
            results[run.index] = dataclasses.replace(twin, state=state)
            observer.on_result(run.index, results[run.index])
    return [results[index] for index in range(len(configs))]


def _require_memory(runs: Sequence[ManyRun]) -> None:
    """Raise UsageError where one of the runs does not fit into memory by itself: measuring how to train it would."""
    for run in {run.shape: run for run in runs}.values():
        require_memory(run.prepared)


def _found(run: ManyRun) -> TrainResult | None:
    """Return how a run ended where it is finished. Raises HeldError where it is in another process's hands."""
    with held(run.config, run.prepared) as prepared:
        return already_finished(prepared.run, run.config)
