"""Train one model: the only place that unpacks a ``TrainConfig``."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from bvae_cli import runs
from bvae_cli.config import TrainConfig
from bvae_cli.datasets.base import Splits
from bvae_cli.datasets.rows import Rows
from bvae_cli.errors import DivergedError, InputOutputError
from bvae_cli.stopping import Requests
from bvae_cli.workflows.building import placed
from bvae_cli.workflows.choosing import Computing, compiler_problem, computing_of, steps_of_a_trial
from bvae_cli.workflows.distributed import ALONE, Group, LostProcessError, require_same
from bvae_cli.workflows.fit import MOST_REWINDS, Fit
from bvae_cli.workflows.observing import Observer, TrainResult, finished_result
from bvae_cli.workflows.planning import Plan, Prepared, SharedData, prepare, require_memory
from bvae_cli.workflows.recording import Recording, found_in
from bvae_cli.workflows.steps import StepHook


def plan(config: TrainConfig, processes: int = 1) -> Plan:
    """Return what ``train`` would do with this configuration, without training or writing anything."""
    return dataclasses.replace(prepare(config).plan, processes=processes)


def train(
    config: TrainConfig,
    observer: Observer | None = None,
    overwrite: bool = False,
    splits: Splits | SharedData | None = None,
    group: Group = ALONE,
    folder: Path | None = None,
) -> TrainResult:
    """Train a model into a folder of its own, or go on with an unfinished run, or say that it is finished.

    ``splits`` are the data of ``config.dataset`` where the caller has loaded them before. All processes of a ``group`` call
    this alike: the first one holds the folder, writes and observes, and every one returns how the run ended. ``folder``
    is that of an unfinished run of this configuration, wherever it was moved to.
    Raises DivergedError (best weights kept), InterruptedRunError (state saved), LostProcessError (state saved by the first
    process), InputOutputError, UsageError.
    """
    observer = observer or Observer()
    prepared = prepare(config, splits)
    prepared = dataclasses.replace(prepared, plan=dataclasses.replace(prepared.plan, processes=group.size))
    if folder is not None:
        prepared = _moved(prepared, runs.Run(folder))
    require_memory(prepared)
    require_same(group, prepared.plan.digest)
    if group.rank:
        return _follow(config, prepared, group)
    holding = held(config, prepared) if folder is None else _held_where_it_is(prepared)
    with holding as prepared:
        done = None if overwrite else already_finished(prepared.run, config)
        group.from_first(str(prepared.run.folder) if done is None else _sent(done))
        return _train(config, prepared, observer, overwrite, group) if done is None else _passed(done)


@contextlib.contextmanager
def held(config: TrainConfig, prepared: Prepared) -> Iterator[Prepared]:
    """Hold the run's folder, which may be another than that of the plan: another run may have taken it meanwhile.

    Raises HeldError where this very run is in another process's hands.
    """
    with runs.held_run(config.output_dir, prepared.name, prepared.plan.digest) as run:
        yield dataclasses.replace(prepared, run=run, plan=dataclasses.replace(prepared.plan, folder=run.folder))


@contextlib.contextmanager
def _held_where_it_is(prepared: Prepared) -> Iterator[Prepared]:
    with prepared.run.locked(prepared.plan.digest):
        yield prepared


def _moved(prepared: Prepared, run: runs.Run) -> Prepared:
    """Return what is prepared for a run, in the folder that it is in. Raises InputOutputError where it is another run."""
    there = run.config() or {}
    if there.get("digest") != prepared.plan.digest:
        decides, before = prepared.config["decides"], there.get("decides")
        known = before if isinstance(before, dict) else {}
        differ = sorted(name for name in decides if known.get(name) != decides[name])
        raise InputOutputError(
            f"The run in {run.folder} cannot go on here: {', '.join(differ) or 'its configuration'} changed since it began.",
            "Restore what changed, as the data or the version of torch; or train anew with `bvae train`.",
        )
    return dataclasses.replace(prepared, run=run, plan=dataclasses.replace(prepared.plan, folder=run.folder))


def already_finished(run: runs.Run, config: TrainConfig) -> TrainResult | None:
    """Return how a finished run ended, None for any other. Raises InputOutputError where that is damaged.

    One that was rewound has diverged, for whoever asks that a run stop then.
    """
    run.require_readable_result()
    result = run.result()
    if result is None or run.state() != "finished" or not run.weights.exists():
        return None
    done = finished_result(run.folder, result)
    if done.rewinds and config.on_divergence == "stop":
        return dataclasses.replace(done, state="diverged", reason=f"It diverged, and was trained {done.reason}.")
    return done


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
        channel_epsilon=config.channel_epsilon,
        tau_start=config.tau_start,
        tau_end=config.tau_end,
        estimator=config.estimator,
        sampling=config.sampling,
        seed=config.seed,
        fresh_bits=prepared.splits.fresh_bits,
        on_step=on_step,
        most_rewinds=MOST_REWINDS if config.on_divergence == "rewind" else 0,
        compiled=compiled,
        group=group,
        record=record,
    )


def computing_for(
    config: TrainConfig,
    prepared: Prepared,
    train: Tensor | Rows,
    group: Group = ALONE,
    until_now: Mapping[str, Any] | None = None,
) -> Computing:
    """Choose how the steps of a run are computed on this machine, by taking some that count for nothing.

    ``until_now`` is how those of an unfinished run were: what was chosen for it stays, so that it rounds as it did.
    """
    plan = prepared.plan
    config = config.model_copy(update=_chosen_before(config, plan, until_now or {}, group))
    rows = train[: min(steps_of_a_trial(plan.device) * config.batch_size, len(train))]

    def trial(compiled: bool) -> Fit:
        return fit_of(config, prepared, rows, rows[:1], None, compiled)

    steps = plan.epochs * plan.steps_per_epoch
    return computing_of(config, shape_of(config, plan), plan.device, plan.precision, steps, trial, group.size)


def shape_of(config: TrainConfig, plan: Plan) -> str:
    """Return in words everything of a run that the speed of its steps depends on."""
    return (
        f"{plan.features} values, {plan.likelihood}, {plan.network}, {config.activation}, "
        f"N {plan.latent}, {plan.code}, "
        f"batches of {min(config.batch_size, plan.training_rows)}, {config.estimator}, {config.sampling}, "
        f"{plan.precision} on {plan.device}"
    )


def _chosen_before(config: TrainConfig, plan: Plan, until_now: Mapping[str, Any], group: Group) -> dict[str, Any]:
    """Return the options that the choices made before stand for, where nobody asks for others now."""
    options: dict[str, Any] = {}
    threads, compiled = until_now.get("threads"), until_now.get("compiled")
    if isinstance(threads, int) and threads > 0 and not config.threads and group.size == 1:
        options["threads"] = threads
    there = compiler_problem(plan.device, plan.precision, group.size) is None
    if isinstance(compiled, bool) and config.compile == "auto" and (there or not compiled):
        options["compile"] = "on" if compiled else "off"
    return options


def _train(config: TrainConfig, prepared: Prepared, observer: Observer, overwrite: bool, group: Group) -> TrainResult:
    device, splits = prepared.plan.device, prepared.splits
    train = placed(splits.train, device)
    found = found_in(prepared.run, overwrite)
    group.from_first(found.computing)
    computing = computing_for(config, prepared, train, group, found.computing)
    prepared = dataclasses.replace(prepared, plan=dataclasses.replace(prepared.plan, computing=str(computing)))
    fit = fit_of(config, prepared, train, placed(splits.validation, device), None, computing.compiled, group)
    # Of several processes each is told to stop, and often twice; that one stops at once would be another's end.
    with Requests(patient=group.size > 1) as requests:
        chosen = {"threads": computing.threads, "compiled": computing.compiled} if group.size == 1 else {}
        recording = Recording(config, prepared, fit, observer, found, requests, chosen)
        result = _recorded(fit, recording, group)
    with contextlib.suppress(LostProcessError):  # who went away now has done all its work
        group.from_first(_sent(result))
    return result


def _recorded(fit: Fit, recording: Recording, group: Group) -> TrainResult:
    try:
        group.from_first(fit.state_dict())
        for stats in fit:
            recording.note(stats)
            recording.look(after_epoch=True)
    except KeyboardInterrupt as stop:
        raise recording.interrupted(stop) from None
    except LostProcessError as error:
        raise recording.lost(error) from None
    except DivergedError as error:
        raise recording.diverged(error) from None
    finally:
        recording.close()
    return recording.finished()


def _follow(config: TrainConfig, prepared: Prepared, group: Group) -> TrainResult:
    """Train with the first process, which writes and says everything; return what it returns."""
    first: Any = group.from_first(None)
    if isinstance(first, dict):
        return _passed(_received(first))
    device, splits = prepared.plan.device, prepared.splits
    train = placed(splits.train, device)
    until_now: Any = group.from_first(None)
    computing = computing_for(config, prepared, train, group, until_now)
    with Requests(patient=True) as requests:
        fit = fit_of(
            config, prepared, train, placed(splits.validation, device), _obeying(requests), computing.compiled, group
        )
        try:
            state: Any = group.from_first(None)
            fit.load_state_dict(state)
            for _ in fit:
                requests.obey()
            return _received(group.from_first(None))
        except LostProcessError as error:
            requests.obey()  # the others are gone for the same reason
            raise LostProcessError(
                f"A process of the group is gone, in epoch {fit.epoch + 1}; what was saved is in {first}.", error.hint
            ) from None


def _obeying(requests: Requests) -> StepHook:
    def look(step: int, steps: int) -> None:
        requests.obey()

    return look


def _passed(done: TrainResult) -> TrainResult:
    """Return how a run ended that was found finished. Raises DivergedError for one that counts as diverged."""
    if done.state == "diverged":
        raise DivergedError(done.reason, "Take --on-divergence rewind, or a smaller --lr.")
    return done


def _sent(result: TrainResult) -> dict[str, Any]:
    return {**asdict(result), "folder": str(result.folder)}


def _received(fields: Any) -> TrainResult:
    return TrainResult(**{**fields, "folder": Path(fields["folder"])})
