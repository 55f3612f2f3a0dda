"""Compare arms: choose each one's setting, train every seed, measure on the test split, and say what it comes to."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from bvae_cli import __version__, devices, processor
from bvae_cli.arms import TUNING_SEED_OFFSET, Arm, CompareConfig, arms_of, command_of, tuned_settings
from bvae_cli.comparisons import (
    ArmRecord,
    Comparison,
    ComparisonFolder,
    Data,
    Protocol,
    RunRecord,
    TunedSetting,
    TuningRun,
)
from bvae_cli.config import TrainConfig, digest_of
from bvae_cli.errors import DivergedError, ExitCode, InterruptedRunError
from bvae_cli.evaluation.assessment import closed_form_curves, closed_forms
from bvae_cli.evaluation.metrics import METRICS, claimed_metrics
from bvae_cli.evaluation.statistics import ALPHA, seeds_needed
from bvae_cli.fields import option_of
from bvae_cli.workflows.assessing import Bench, assess_run
from bvae_cli.workflows.building import build_code, grey_note, load_model, load_splits
from bvae_cli.workflows.finished import FinishedArm, finished_arms
from bvae_cli.workflows.fit import EpochStats, validation_loss
from bvae_cli.workflows.observing import TrainResult
from bvae_cli.workflows.planning import Plan, SharedData, chosen_likelihood, prepare
from bvae_cli.workflows.train_many import ManyObserver, plan_way, train_together
from bvae_cli.workflows.verdict import cautions_of, claimed_pairs, effects_of, verdict_of
from bvae_cli.workflows.ways import Way

# What the runs are for that are not of the tuning.
VERDICT = "verdict"

# Folder (or weights) and digest of the model of an arm, by its place, and a seed.
_Models = dict[tuple[int, int], tuple[Path, str]]

# Raised where a metric that was there before is measured otherwise. New metrics count by themselves.
_METHOD = 2


@dataclass(frozen=True)
class ComparisonPlan:
    """What is going to be compared: arms, seeds, settings to try, claims, the folder, and its digest."""

    arms: list[Arm]
    seeds: list[int]
    tuning_seeds: list[int]
    settings: list[dict[str, str]]
    claims: list[str]
    pairs: list[tuple[int, int]]
    folder: Path
    digest: str
    deciding: dict[str, Any]
    finished: list[FinishedArm]

    @property
    def notes(self) -> list[str]:
        """What a person should know before it begins."""
        return [f"{arm.name}: {arm.note}" for arm in self.arms if arm.note]

    @property
    def runs(self) -> int:
        """How many trainings it takes at most, tuning and verdict together."""
        if self.finished:
            return 0
        tuning = len(self.settings) * len(self.tuning_seeds) if self.tuned else 0
        return len(self.arms) * (tuning + len(self.seeds))

    @property
    def tuned(self) -> list[str]:
        """Names of the tuned options."""
        return list(self.settings[0])


@dataclass(frozen=True)
class RunStart:
    """A run that begins: which, and where it stands in the whole."""

    arm: str
    seed: int
    purpose: str
    number: int
    total: int
    plan: Plan


class CompareObserver:
    """What a caller may want to hear while a comparison goes on; each method does nothing until overridden."""

    def on_plan(self, plan: ComparisonPlan) -> None:
        """It is about to begin."""

    def on_way(self, way: Way) -> None:
        """The way was chosen in which runs are trained: those of the tuning, then those of the verdict."""

    def on_run(self, start: RunStart) -> None:
        """A run is looked at: training begins (of several together), or it was found finished."""

    def on_epoch(self, start: RunStart, stats: EpochStats) -> None:
        """An epoch of a run is done."""

    def on_note(self, sentence: str) -> None:
        """Something that a person should know of a run."""

    def on_run_done(self, start: RunStart, validation_loss: float | None, trained: bool) -> None:
        """A run is there; ``trained`` is False where it was found. The loss is None where it diverged."""

    def on_measured(self, arm: str, seed: int, number: int, total: int) -> None:
        """A model was measured on the test split."""


def plan_comparison(config: CompareConfig) -> tuple[ComparisonPlan, SharedData]:
    """Return what ``compare`` would do, and the data that it would do it on; nothing is written."""
    if config.baseline_weights:
        finished, data = finished_arms(config)
        arms = [item.arm for item in finished]
    else:
        finished, arms = [], arms_of(config)
        data = SharedData(load_splits(arms[0].config.dataset))
    splits = data.splits
    config.require_rows(min(config.eval_subset or len(splits.test), len(splits.test)))
    pairs = claimed_pairs([arm.coded for arm in arms])
    claims = claimed_metrics(config.noise_epsilon)
    count = len(finished[0].weights) if finished else config.seeds or seeds_needed(len(pairs) * len(claims))
    seeds = finished[0].seeds if finished else list(range(config.seed, config.seed + count))
    settings = tuned_settings(config)
    tuning_seeds = [TUNING_SEED_OFFSET + config.seed + index for index in range(config.tune_seeds)] if settings[0] else []
    deciding = {
        "method": [_METHOD, *sorted(METRICS)],
        "data": data.digest,
        "arms": [_deciding_of(arm) for arm in arms],
        "seeds": seeds,
        "tuning_seeds": tuning_seeds,
        "settings": settings,
        "weights": [item.digests for item in finished],
        "torch": torch.__version__.partition("+")[0],
        "evaluation": {"rows": min(config.eval_subset or len(splits.test), len(splits.test))}
        | {
            name: getattr(config, name)
            for name in ("iwae_samples", "noise_epsilon", "calibration_bins", "bootstrap_samples")
        },
    }
    digest = digest_of(deciding)
    folder = config.out or config.results_dir / f"compare_{_what(arms)}_{digest[:8]}"
    plan = ComparisonPlan(arms, seeds, tuning_seeds, settings, claims, pairs, folder, digest, deciding, finished)
    return plan, data


def way_of(plan: ComparisonPlan, data: SharedData) -> Way | None:
    """Return the way in which ``compare`` would train its first runs; None where nothing is to be trained."""
    if plan.finished:
        return None
    no_setting: list[dict[str, str]] = [{}]
    settings, seeds = (plan.settings, plan.tuning_seeds) if plan.tuned else (no_setting, plan.seeds)
    runs = itertools.product(plan.arms, settings, seeds)
    return plan_way([arm.with_settings(setting, seed) for arm, setting, seed in runs], data)


def compare(config: CompareConfig, observer: CompareObserver | None = None) -> Comparison:
    """Train or reuse every run, measure it, and write ``comparison.json`` and ``comparison.csv``.

    What is finished is never done again; a comparison that was killed goes on and ends as if it had not been. Raises
    InterruptedRunError (everything finished is kept), DivergedError, UsageError, InputOutputError.
    """
    observer = observer or CompareObserver()
    plan, data = plan_comparison(config)
    folder = ComparisonFolder(plan.folder)
    folder.claim(plan.digest, plan.deciding)
    with folder.locked():
        observer.on_plan(plan)
        work = _Work(config, plan, data, folder, observer)
        try:
            comparison = work.done()
        except KeyboardInterrupt:
            raise InterruptedRunError(*work.interrupted(), ExitCode.INTERRUPTED) from None
        except InterruptedRunError as stop:
            raise InterruptedRunError(*work.interrupted(), stop.exit_code) from None
        folder.save(comparison)
    return comparison


@dataclass(frozen=True)
class _Wanted:
    """A run that the comparison needs, and where it stands in it; ``setting`` counts the settings that are tuned."""

    start: RunStart
    config: TrainConfig
    arm: int
    setting: int = 0


class _Work:
    """One comparison on its way."""

    def __init__(
        self,
        config: CompareConfig,
        plan: ComparisonPlan,
        data: SharedData,
        folder: ComparisonFolder,
        observer: CompareObserver,
    ) -> None:
        self.config, self.plan, self.data, self.folder, self.observer = config, plan, data, folder, observer
        self.splits = data.splits
        self.done_runs = 0
        self.under_way: set[int] = set()
        choice = devices.choose(config.device, "off")
        processor.prepare(config.threads)
        self.bench = Bench(self.splits, config, choice.device)

    def done(self) -> Comparison:
        """Do everything that is not done yet; return the whole."""
        grids = self._tuned()
        chosen = [self._chosen(index, grid) for index, grid in enumerate(grids)]
        models = self._finished() if self.plan.finished else self._trained(chosen)
        arms = [self._arm(index, grids[index], chosen[index], models) for index in range(len(self.plan.arms))]
        protocol = self._protocol()
        effects = effects_of(arms, protocol, self.folder.arrays)
        data = self._data()
        return Comparison(
            digest=self.plan.digest,
            command=command_of(self.config),
            data=data,
            protocol=protocol,
            arms=arms,
            effects=effects,
            verdict=verdict_of(arms, effects, protocol),
            cautions=cautions_of(arms, effects, protocol, grey_note(data.likelihood, self.splits.test)),
            machine={
                "bvae": __version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
                "system": f"{platform.system()} {platform.machine()}",
                "device": self.bench.device,
            },
        )

    def interrupted(self) -> tuple[str, str]:
        """Say what is kept."""
        others = len(self.under_way)
        also = f", as are the {others} under way" if others > 1 else ", as is the one under way" if others else ""
        return (
            f"Interrupted with {self.done_runs} of {self.plan.runs} runs finished; they are kept{also}.",
            f"To go on: {command_of(self.config, here=True)}",
        )

    def _tuned(self) -> list[list[TunedSetting]]:
        """Try every setting of every arm on the validation split; return the grid of each arm."""
        if not self.plan.tuned:
            return [[] for _ in self.plan.arms]
        wanted = [
            self._wanted(number, index, self.plan.settings[setting], seed, setting)
            for number, (index, setting, seed) in enumerate(
                itertools.product(range(len(self.plan.arms)), range(len(self.plan.settings)), self.plan.tuning_seeds)
            )
        ]
        records: dict[int, TuningRun] = {}

        def keep(run: _Wanted, result: TrainResult) -> None:
            over = result.state != "diverged"
            records[run.start.number] = known = TuningRun(
                seed=run.start.seed,
                digest=run.start.plan.digest,
                epochs=result.epochs if over else 0,
                validation_loss=self._validation_loss(result.folder) if over else None,
            )
            self.folder.save_tuning(run.arm, run.setting, known)
            self._tell_done(run, known.validation_loss, result.state != "already finished")

        missing = []
        for run in wanted:
            known = self.folder.tuning(run.arm, run.setting, run.start.seed, run.start.plan.digest)
            if known is None:
                missing.append(run)
            else:
                records[run.start.number] = known
                self._tell_found(run, known.validation_loss)
        self._train(missing, keep)
        each = iter(records[run.start.number] for run in wanted)
        return [
            [_tuned_setting(setting, [next(each) for _ in self.plan.tuning_seeds]) for setting in self.plan.settings]
            for _ in self.plan.arms
        ]

    def _chosen(self, index: int, grid: list[TunedSetting]) -> dict[str, str]:
        """Return the setting of the least loss; nothing where nothing is tuned."""
        kept = [tuned for tuned in grid if tuned.mean_loss is not None]
        if grid and not kept:
            name = self.plan.arms[index].name
            raise DivergedError(f"Every tuned setting of {name} diverged.", "Tune over smaller values of lr.")
        return min(kept, key=lambda tuned: tuned.mean_loss or 0.0).setting if kept else {}

    def _finished(self) -> _Models:
        """Return the models that were named."""
        return {
            (index, seed): arm.model(place)
            for index, arm in enumerate(self.plan.finished)
            for place, seed in enumerate(self.plan.seeds)
        }

    def _trained(self, chosen: list[dict[str, str]]) -> _Models:
        """Train what is neither measured nor trained; return the model of each run of the verdict."""
        before = self.plan.runs - len(self.plan.arms) * len(self.plan.seeds)
        wanted = [
            self._wanted(before + number, index, chosen[index], seed)
            for number, (index, seed) in enumerate(itertools.product(range(len(self.plan.arms)), self.plan.seeds))
        ]
        diverged: list[tuple[_Wanted, TrainResult]] = []
        models = {(run.arm, run.start.seed): (run.start.plan.folder, run.start.plan.digest) for run in wanted}

        def keep(run: _Wanted, result: TrainResult) -> None:
            models[run.arm, run.start.seed] = result.folder, run.start.plan.digest
            if result.state == "diverged":
                diverged.append((run, result))
            loss = None if result.state == "diverged" else result.best_validation_loss
            self._tell_done(run, loss, result.state != "already finished")

        missing = []
        for run in wanted:
            known = self.folder.evaluation(run.arm, run.start.seed, run.start.plan.digest)
            if known is None:
                missing.append(run)
            else:
                self._tell_found(run, known.validation_loss)
        self._train(missing, keep)
        if diverged:
            (run, result), others = diverged[0], len(diverged) - 1
            also = f" So did {others} more." if others else ""
            raise DivergedError(
                f"{run.start.arm}, seed {run.start.seed}: {result.reason}{also}",
                "Try a smaller --lr, or --grad-clip 1. The runs that are finished are kept.",
            )
        return models

    def _wanted(self, number: int, arm: int, setting: dict[str, str], seed: int, tuned: int | None = None) -> _Wanted:
        config = self.plan.arms[arm].with_settings(setting, seed)
        purpose = VERDICT if tuned is None else ", ".join(f"{key}={value}" for key, value in setting.items())
        plan = prepare(config, self.data).plan
        start = RunStart(self.plan.arms[arm].name, seed, purpose, number + 1, self.plan.runs, plan)
        return _Wanted(start, config, arm, tuned or 0)

    def _train(self, wanted: list[_Wanted], keep: Callable[[_Wanted, TrainResult], None]) -> None:
        """Train runs, those of equal shape as one model; ``keep`` is called with each as soon as it is over."""
        train_together([run.config for run in wanted], _Telling(self, wanted, keep), data=self.data)

    def _tell_found(self, run: _Wanted, validation_loss: float | None) -> None:
        self.observer.on_run(run.start)
        self._tell_done(run, validation_loss, trained=False)

    def _tell_done(self, run: _Wanted, validation_loss: float | None, trained: bool) -> None:
        self.under_way.discard(run.start.number)
        self.done_runs += 1
        self.observer.on_run_done(run.start, validation_loss, trained)

    def _arm(self, index: int, grid: list[TunedSetting], chosen: dict[str, str], models: _Models) -> ArmRecord:
        arm = self.plan.arms[index]
        records = [self._record(index, seed, *models[index, seed]) for seed in self.plan.seeds]
        config = arm.with_settings(chosen, self.plan.seeds[0])
        code = build_code(config.ecc, config.sizes.latent)
        first = records[0].metrics
        return ArmRecord(
            name=arm.name,
            code=config.ecc.type,
            code_digest=code.digest(),
            latent=code.n,
            information_bits=code.k,
            rate=code.rate,
            hidden=config.sizes.hidden,
            depth=config.sizes.depth,
            parameters=int(first["parameters"].mean),
            flop_per_image=int(first["flop_per_image"].mean),
            settings=config.deciding() | {"seed": None},
            note=arm.note,
            tuning=grid,
            chosen=chosen,
            closed_forms=closed_forms(code.spec, code.n, self.config.noise_epsilon),
            closed_form_curves=closed_form_curves(code.spec, code.n),
            runs=records,
        )

    def _record(self, index: int, seed: int, folder: Path, digest: str) -> RunRecord:
        """Return the record of one arm and seed: the one kept, or a new one of its model."""
        arm = self.plan.arms[index]
        known = self.folder.evaluation(index, seed, digest)
        if known is None:
            known, arrays = assess_run(folder, digest, self.bench, seed, arm.config.sampling)
            self.folder.save_evaluation(index, known, arrays)
        done = index * len(self.plan.seeds) + self.plan.seeds.index(seed) + 1
        self.observer.on_measured(arm.name, seed, done, len(self.plan.arms) * len(self.plan.seeds))
        return known

    def _validation_loss(self, folder: Path) -> float:
        """Return the negative ELBO of a run's best weights, at β = 1 whatever it was trained with."""
        model = load_model(folder, self.bench.device).model
        return validation_loss(model, self.splits.validation.to(self.bench.device))

    def _data(self) -> Data:
        splits, accuracy = self.splits, self.folder.classifier_accuracy()
        rows = {arm.training_rows for arm in self.plan.finished} or {len(splits.limited(self.config.subset).train)}
        if accuracy is None and self.bench.judge is not None:
            accuracy = self.bench.judge.accuracy
            self.folder.save_classifier_accuracy(accuracy)
        likelihood = chosen_likelihood(self.plan.arms[0].config, splits)
        return Data(
            label=self.plan.arms[0].config.dataset.label(),
            digest=self.plan.deciding["data"],
            source=splits.source,
            likelihood=likelihood,
            is_likelihood=grey_note(likelihood, splits.test) is None,
            features=splits.features,
            feature_shape=list(splits.feature_shape),
            training_rows=min(rows),
            validation_rows=len(splits.validation),
            test_rows=len(splits.test),
            classifier_accuracy=accuracy,
        )

    def _protocol(self) -> Protocol:
        return Protocol(
            seeds=self.plan.seeds,
            tuned=self.plan.tuned,
            tuning_seeds=self.plan.tuning_seeds,
            settings=_shared_settings(self.plan.arms),
            evaluation_rows=len(self.bench.x),
            iwae_samples=self.config.iwae_samples,
            noise_epsilon=self.config.noise_epsilon,
            calibration_bins=self.config.calibration_bins,
            bootstrap_samples=self.config.bootstrap_samples,
            claims=self.plan.claims,
            alpha=ALPHA,
            finished_models=bool(self.plan.finished),
        )


class _Telling(ManyObserver):
    """Tells the observer of the comparison what is told of its runs."""

    def __init__(self, work: _Work, wanted: list[_Wanted], keep: Callable[[_Wanted, TrainResult], None]) -> None:
        self._work, self._wanted, self._keep = work, wanted, keep

    def on_way(self, way: Way) -> None:
        """Keep it beside the comparison, and hand it on."""
        self._work.folder.save_way("tuning" if self._wanted[0].start.purpose != VERDICT else VERDICT, asdict(way))
        self._work.observer.on_way(way)

    def on_note(self, index: int, sentence: str) -> None:
        """Hand it on."""
        self._work.observer.on_note(sentence)

    def on_plan(self, index: int, plan: Plan, resumed_epoch: int) -> None:
        """Note that the run is under way, and hand it on."""
        start = self._wanted[index].start
        self._work.under_way.add(start.number)
        self._work.observer.on_run(start)

    def on_epoch(self, stats: dict[int, EpochStats]) -> None:
        """Hand it on, run by run."""
        for index, one in stats.items():
            self._work.observer.on_epoch(self._wanted[index].start, one)

    def on_result(self, index: int, result: TrainResult) -> None:
        """Keep it."""
        run = self._wanted[index]
        if run.start.number not in self._work.under_way:
            self._work.observer.on_run(run.start)
        self._keep(run, result)


def _tuned_setting(setting: dict[str, str], runs: list[TuningRun]) -> TunedSetting:
    losses = [run.validation_loss for run in runs if run.validation_loss is not None]
    mean = sum(losses) / len(losses) if len(losses) == len(runs) else None
    return TunedSetting(setting=setting, runs=runs, mean_loss=mean)


def _deciding_of(arm: Arm) -> dict[str, Any]:
    code = build_code(arm.config.ecc, arm.config.sizes.latent)
    return {"name": arm.name, **arm.config.deciding(), "seed": None, "code_digest": code.digest()}


def _shared_settings(arms: Sequence[Arm]) -> dict[str, Any]:
    """Return the options that have the same value in every arm."""
    each = [arm.config.model_dump(mode="json") for arm in arms]
    fields = [name for name in TrainConfig.model_fields if option_of(TrainConfig, name).decides and name != "seed"]
    return {name: each[0][name] for name in fields if all(values[name] == each[0][name] for values in each)}


def _what(arms: Sequence[Arm]) -> str:
    """Name a comparison by its last arm, in letters that every file system takes."""
    text = arms[-1].name.replace("=", "_").replace(" ", "_")
    return "".join(character for character in text if character.isalnum() or character in "_.-")[:60]
