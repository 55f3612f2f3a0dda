"""From a finished run to the record of a comparison: load it, measure it on the test split, keep what a report shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bvae_cli import runs
from bvae_cli.arms import CompareConfig
from bvae_cli.comparisons import PICTURE_PREFIX, Curve, RunRecord
from bvae_cli.datasets.base import Splits
from bvae_cli.datasets.rows import first_rows
from bvae_cli.evaluation.assessment import Judge, assess, new_judge
from bvae_cli.evaluation.statistics import Estimate
from bvae_cli.evaluation.storage import store_and_read
from bvae_cli.model.arithmetic import flop_per_image
from bvae_cli.model.bvae import BinaryVAE
from bvae_cli.workflows.building import Rebuilt, load_model

# Seeds of the measurements stand apart from those of the training.
_EVALUATION_SEED = 20_230_419
PICTURES = 16


@dataclass
class Bench:
    """What every model of a comparison is measured on and by: the test rows, and the judge, made when first needed."""

    splits: Splits
    config: CompareConfig
    device: str
    _judge: Judge | None = None

    def __post_init__(self) -> None:
        rows = self.config.eval_subset or len(self.splits.test)
        self.x = first_rows(self.splits.test, rows).to(self.device)
        labels = self.splits.test_labels
        self.labels = None if labels is None or self.splits.train_labels is None else labels[:rows]

    @property
    def judge(self) -> Judge | None:
        """The fixed classifier, trained on the real training rows; None without labels, or where values are not in 0…1."""
        # It reads values in 0…1.
        if self._judge is None and self.labels is not None and self.splits.likelihood == "bernoulli":
            train_labels = self.splits.train_labels
            assert train_labels is not None  # there are labels only where both splits have them
            train = self.splits.train.to(self.device)
            self._judge = new_judge(train, train_labels, self.x, self.labels)
        return self._judge

    @property
    def epsilon_of_pictures(self) -> float:
        """The largest ε that is measured: what the pictures of stored images show."""
        return max(self.config.noise_epsilon)


def assess_run(folder: Path, digest: str, bench: Bench, seed: int, sampling: str) -> tuple[RunRecord, dict[str, Any]]:
    """Measure the best weights of a run; return its record, and its values by image with its pictures.

    Raises InputOutputError where the run cannot be read.
    """
    rebuilt = load_model(folder, bench.device)
    measured = assess(
        rebuilt.model,
        bench.x,
        training=bench.splits.train,
        labels=bench.labels,
        judge=bench.judge,
        iwae_samples=bench.config.iwae_samples,
        epsilons=bench.config.noise_epsilon,
        calibration_bins=bench.config.calibration_bins,
        sampling=sampling,
        seed=_EVALUATION_SEED + seed,
    )
    run = runs.Run(rebuilt.weights.parent)
    result, curve = run.result() or {}, runs.read_record(run.folder)
    metrics = measured.metrics | _costs(run, result, rebuilt)
    record = RunRecord(
        seed=seed,
        digest=digest,
        folder=str(run.folder),
        stopped=str(result.get("reason", "unknown")),
        epochs=len(curve["validation_loss"]),
        best_epoch=int(result.get("best_epoch", 0)),
        validation_loss=min(curve["validation_loss"]),
        curve=Curve(training=curve["training_loss"], validation=curve["validation_loss"]),
        metrics=metrics,
        reliability=measured.reliability,
        versions=rebuilt.config["made_with"],
    )
    arrays = {name: values.numpy() for name, values in measured.by_image.items()}
    return record, arrays | _pictures(rebuilt.model, bench, seed)


def _costs(run: runs.Run, result: dict[str, Any], rebuilt: Rebuilt) -> dict[str, Estimate]:
    model = rebuilt.model
    costs = {
        "epochs": float(result.get("epochs", 0)),
        "parameters": float(sum(parameter.numel() for parameter in model.parameters())),
        "flop_per_image": float(flop_per_image(model, rebuilt.config["decides"]["estimator"])),
    }
    if (seconds := runs.training_seconds(run.folder)) is not None:
        costs["seconds"] = seconds
    if "images_per_second" in result:
        costs["images_per_second"] = float(result["images_per_second"])
    return {name: Estimate(value) for name, value in costs.items()}


@torch.no_grad()
def _pictures(model: BinaryVAE, bench: Bench, seed: int) -> dict[str, Any]:
    """Return the first test images, what the model makes of them, stored without and with flips, and samples."""
    generator = torch.Generator(bench.device).manual_seed(_EVALUATION_SEED + seed)
    x = bench.x[:PICTURES].float()
    likelihood = model.likelihood
    rows = {"original": x, "samples": likelihood.rows_of(model.sample(4 * PICTURES, generator).means)}
    for name, epsilon in (("stored", 0.0), ("stored_noisy", bench.epsilon_of_pictures)):
        rows[name] = store_and_read(model, x, epsilon, generator).decoded.to(x.device)
    return {PICTURE_PREFIX + name: likelihood.shades(values).cpu().half().numpy() for name, values in rows.items()}
