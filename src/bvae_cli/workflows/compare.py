"""Compare arms: choose each one's setting, train every seed, measure on the test split, and say what it comes to."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
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
from bvae_cli.datasets.base import Splits
from bvae_cli.errors import DivergedError, ExitCode, InterruptedRunError
from bvae_cli.evaluation.assessment import closed_form_curves, closed_forms
from bvae_cli.evaluation.metrics import METRICS, claimed_metrics
from bvae_cli.evaluation.statistics import ALPHA, seeds_needed
from bvae_cli.fields import option_of
from bvae_cli.workflows.assessing import Bench, assess_run
from bvae_cli.workflows.building import build_code, load_model, load_splits
from bvae_cli.workflows.finished import FinishedArm, finished_arms
from bvae_cli.workflows.fit import EpochStats, validation_loss
from bvae_cli.workflows.planning import Plan, prepare
from bvae_cli.workflows.train import Observer, train
from bvae_cli.workflows.verdict import cautions_of, claimed_pairs, effects_of, verdict_of

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

    def on_run(self, start: RunStart) -> None:
        """A run is looked at: trained, or found finished."""

    def on_epoch(self, stats: EpochStats) -> None:
        """An epoch of the current run is done."""

    def on_note(self, sentence: str) -> None:
        """Something that a person should know of the current run."""

    def on_run_done(self, start: RunStart, validation_loss: float | None, trained: bool) -> None:
        """A run is there; ``trained`` is False where it was found. The loss is None where it diverged."""

    def on_measured(self, arm: str, seed: int, number: int, total: int) -> None:
        """A model was measured on the test split."""


def plan_comparison(config: CompareConfig) -> tuple[ComparisonPlan, Splits]:
    """Return what ``compare`` would do, and the data that it would do it on; nothing is written."""
    finished = finished_arms(config) if config.baseline_weights else []
    arms = [item.arm for item in finished] or arms_of(config)
    splits = load_splits(arms[0].config.dataset)
    config.require_rows(min(config.eval_subset or len(splits.test), len(splits.test)))
    pairs = claimed_pairs([arm.coded for arm in arms])
    claims = claimed_metrics(config.noise_epsilon)
    count = len(finished[0].weights) if finished else config.seeds or seeds_needed(len(pairs) * len(claims))
    seeds = finished[0].seeds if finished else list(range(config.seed, config.seed + count))
    settings = tuned_settings(config)
    tuning_seeds = [TUNING_SEED_OFFSET + config.seed + index for index in range(config.tune_seeds)] if settings[0] else []
    deciding = {
        "method": [_METHOD, *sorted(METRICS)],
        "data": splits.digest(),
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
    return plan, splits


def compare(config: CompareConfig, observer: CompareObserver | None = None) -> Comparison:
    """Train or reuse every run, measure it, and write ``comparison.json`` and ``comparison.csv``.

    What is finished is never done again; a comparison that was killed goes on and ends as if it had not been. Raises
    InterruptedRunError (everything finished is kept), DivergedError, UsageError, InputOutputError.
    """
    observer = observer or CompareObserver()
    plan, splits = plan_comparison(config)
    folder = ComparisonFolder(plan.folder)
    folder.claim(plan.digest, plan.deciding)
    with folder.locked():
        observer.on_plan(plan)
        work = _Work(config, plan, splits, folder, observer)
        try:
            comparison = work.done()
        except KeyboardInterrupt:
            raise InterruptedRunError(*work.interrupted(), ExitCode.INTERRUPTED) from None
        except InterruptedRunError as stop:
            raise InterruptedRunError(*work.interrupted(), stop.exit_code) from None
        folder.save(comparison)
    return comparison


class _Work:
    """One comparison on its way."""

    def __init__(
        self,
        config: CompareConfig,
        plan: ComparisonPlan,
        splits: Splits,
        folder: ComparisonFolder,
        observer: CompareObserver,
    ) -> None:
        self.config, self.plan, self.splits, self.folder, self.observer = config, plan, splits, folder, observer
        self.trained = 0
        choice = devices.choose(config.device, "off")
        processor.prepare(config.threads)
        self.bench = Bench(splits, config, choice.device)

    def done(self) -> Comparison:
        """Do everything that is not done yet; return the whole."""
        tuned = [self._tune(index) for index in range(len(self.plan.arms))]
        arms = [self._arm(index, *tuned[index]) for index in range(len(self.plan.arms))]
        protocol = self._protocol()
        effects = effects_of(arms, protocol, self.folder.arrays)
        return Comparison(
            digest=self.plan.digest,
            command=command_of(self.config),
            data=self._data(),
            protocol=protocol,
            arms=arms,
            effects=effects,
            verdict=verdict_of(arms, effects, protocol),
            cautions=cautions_of(arms, effects, protocol),
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
        return (
            f"Interrupted with {self.trained} of {self.plan.runs} runs finished; they are kept, as is the one under way.",
            f"To go on: {command_of(self.config, here=True)}",
        )

    def _tune(self, index: int) -> tuple[list[TunedSetting], dict[str, str]]:
        """Try every setting of an arm on the validation split; return the grid and the setting of the least loss."""
        if not self.plan.tuned:
            return [], {}
        arm, grid = self.plan.arms[index], []
        for number, setting in enumerate(self.plan.settings):
            runs_ = [self._tuning_run(index, number, seed) for seed in self.plan.tuning_seeds]
            losses = [run.validation_loss for run in runs_ if run.validation_loss is not None]
            mean = sum(losses) / len(losses) if len(losses) == len(runs_) else None
            grid.append(TunedSetting(setting=setting, runs=runs_, mean_loss=mean))
        kept = [tuned for tuned in grid if tuned.mean_loss is not None]
        if not kept:
            raise DivergedError(f"Every tuned setting of {arm.name} diverged.", "Tune over smaller values of lr.")
        return grid, min(kept, key=lambda tuned: tuned.mean_loss or 0.0).setting

    def _tuning_run(self, index: int, number: int, seed: int) -> TuningRun:
        arm = self.plan.arms[index]
        config = arm.with_settings(self.plan.settings[number], seed)
        plan = prepare(config, self.splits).plan
        start = self._start(
            arm, seed, ", ".join(f"{key}={value}" for key, value in self.plan.settings[number].items()), plan
        )
        known = self.folder.tuning(index, number, seed, plan.digest)
        if known is None:
            try:
                result = self._train(config)
                loss, epochs, trained = self._validation_loss(result.folder), result.epochs, result.state == "finished"
            except DivergedError:
                loss, epochs, trained = None, 0, True
            known = TuningRun(seed=seed, digest=plan.digest, epochs=epochs, validation_loss=loss)
            self.folder.save_tuning(index, number, known)
            self.observer.on_run_done(start, known.validation_loss, trained=trained)
        else:
            self.observer.on_run_done(start, known.validation_loss, trained=False)
        self.trained += 1
        return known

    def _arm(self, index: int, grid: list[TunedSetting], chosen: dict[str, str]) -> ArmRecord:
        arm = self.plan.arms[index]
        records = [self._run(index, chosen, seed) for seed in self.plan.seeds]
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

    def _run(self, index: int, chosen: dict[str, str], seed: int) -> RunRecord:
        """Return the record of one arm and seed: the one kept, or a new one of its model, trained where it is not there."""
        arm = self.plan.arms[index]
        if self.plan.finished:
            folder, digest = self.plan.finished[index].model(self.plan.seeds.index(seed))
            known = self.folder.evaluation(index, seed, digest)
        else:
            config = arm.with_settings(chosen, seed)
            plan = prepare(config, self.splits).plan
            digest, folder = plan.digest, plan.folder
            start = self._start(arm, seed, "verdict", plan)
            known = self.folder.evaluation(index, seed, digest)
            if known is None:
                result = self._train(config)
                folder = result.folder
                self.observer.on_run_done(start, result.best_validation_loss, trained=result.state == "finished")
            else:
                self.observer.on_run_done(start, known.validation_loss, trained=False)
            self.trained += 1
        if known is None:
            known, arrays = assess_run(folder, digest, self.bench, seed, arm.config.sampling)
            self.folder.save_evaluation(index, known, arrays)
        done = index * len(self.plan.seeds) + self.plan.seeds.index(seed) + 1
        self.observer.on_measured(arm.name, seed, done, len(self.plan.arms) * len(self.plan.seeds))
        return known

    def _start(self, arm: Arm, seed: int, purpose: str, plan: Plan) -> RunStart:
        start = RunStart(arm.name, seed, purpose, self.trained + 1, self.plan.runs, plan)
        self.observer.on_run(start)
        return start

    def _train(self, config: TrainConfig) -> Any:
        return train(config, _Passing(self.observer), splits=self.splits)

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
        return Data(
            label=self.plan.arms[0].config.dataset.label(),
            digest=self.plan.deciding["data"],
            source=splits.source,
            likelihood=splits.likelihood,
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


class _Passing(Observer):
    """Hands the epochs and notes of a run on to the observer of the comparison."""

    def __init__(self, observer: CompareObserver) -> None:
        self._observer = observer

    def on_epoch(self, stats: EpochStats) -> None:
        """Hand it on."""
        self._observer.on_epoch(stats)

    def on_note(self, sentence: str) -> None:
        """Hand it on."""
        self._observer.on_note(sentence)


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
