"""A comparison's folder: its records, their schema, and the only place that reads and writes them.

``comparison.json`` is one ``Comparison``; its format is versioned, and ``Comparison.model_json_schema()`` is its schema.
Times stand under the names in ``TIMES`` only: everything else is the same, bit for bit, when a comparison is killed and
goes on.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from bvae_cli import files, numpy_files, runs
from bvae_cli.checkpoints import later_format
from bvae_cli.errors import InputOutputError, UsageError
from bvae_cli.evaluation.inference import Reliability
from bvae_cli.evaluation.metrics import METRICS, at, in_order
from bvae_cli.evaluation.paired import Paired, Verdict
from bvae_cli.evaluation.statistics import Estimate
from bvae_cli.sources import read_json

FORMAT: Literal[1] = 1
COMPARISON = "comparison.json"
TABLE = "comparison.csv"
WAYS = "training.json"
REPORT = "report.html"
FIGURES = "figures"
_PLAN = "plan.json"
_EVALUATIONS = "evaluations"
_TUNING = "tuning"
_CLASSIFIER = f"{_EVALUATIONS}/classifier.json"
TIMES = frozenset({"seconds", "images_per_second"})
# Arrays of an evaluation whose names begin so are pictures, the others values by image.
PICTURE_PREFIX = "picture_"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Data(_Record):
    """The data of every arm."""

    label: str
    digest: str
    source: str
    likelihood: str
    features: int
    feature_shape: list[int]
    training_rows: int
    validation_rows: int
    test_rows: int
    classifier_accuracy: float | None = Field(
        description="Of the fixed classifier on the real test rows; null without labels."
    )
    is_likelihood: bool = Field(
        True,
        description="False where values between 0 and 1 are told by probabilities of bits: bounds are of a cross-entropy.",
    )


class Protocol(_Record):
    """How the comparison was made."""

    seeds: list[int]
    tuned: list[str] = Field(description="Names of the options that were chosen for each arm on the validation split.")
    tuning_seeds: list[int]
    settings: dict[str, Any] = Field(description="Options that all arms share.")
    evaluation_rows: int
    iwae_samples: int
    noise_epsilon: list[float]
    calibration_bins: int
    bootstrap_samples: int
    claims: list[str] = Field(description="Metrics that claims are made of; each against each reference.")
    alpha: float
    finished_models: bool = Field(description="True where the models were given, and nothing was trained.")


class Curve(_Record):
    """Losses by epoch, in nats per row."""

    training: list[float]
    validation: list[float]


class RunRecord(_Record):
    """One trained model: where it is, how its training ended, and everything measured of it."""

    seed: int
    digest: str
    folder: str
    stopped: str
    epochs: int
    best_epoch: int
    validation_loss: float
    curve: Curve
    metrics: dict[str, Estimate]
    reliability: Reliability
    versions: dict[str, str]


class TuningRun(_Record):
    """One run of the tuning; its loss is the negative ELBO on the validation split, or null where it diverged."""

    seed: int
    digest: str
    epochs: int
    validation_loss: float | None


class TunedSetting(_Record):
    """One setting that was tried."""

    setting: dict[str, str]
    runs: list[TuningRun]
    mean_loss: float | None


class ArmRecord(_Record):
    """One arm: its model, its code, what was tuned, what its code promises, and its runs."""

    name: str
    code: str
    code_digest: str
    latent: int
    information_bits: int
    rate: float
    hidden: int
    depth: int
    parameters: int
    flop_per_image: int
    settings: dict[str, Any]
    note: str | None
    tuning: list[TunedSetting]
    chosen: dict[str, str]
    closed_forms: dict[str, float] = Field(description="Error rates that the code knows of itself, by metric.")
    closed_form_curves: dict[str, list[float]] = Field(description="The same along `epsilon`, to be drawn.")
    runs: list[RunRecord]


class Effect(_Record):
    """One metric of one arm against one reference; ``adjusted_p_value`` and ``verdict`` are those of a claim."""

    arm: str
    reference: str
    metric: str
    paired: Paired
    claim: bool
    adjusted_p_value: float | None
    verdict: Verdict | None


class Comparison(_Record):
    """A whole comparison."""

    format: Literal[1] = FORMAT
    digest: str
    command: str
    data: Data
    protocol: Protocol
    arms: list[ArmRecord]
    effects: list[Effect]
    verdict: list[str] = Field(description="What it comes to, in sentences.")
    cautions: list[str] = Field(description="What it cannot show.")
    machine: dict[str, str]

    @model_validator(mode="after")
    def _parts_that_fit(self) -> Self:
        """Refuse what no comparison writes: a report drawn of it would be wrong, or fail half way."""
        _require(len(self.arms) > 1 and bool(self.protocol.seeds), "arms", "two arms and a seed")
        _require(bool(self.protocol.noise_epsilon), "protocol.noise_epsilon", "a flip probability")
        _require(math.prod(self.data.feature_shape) == self.data.features, "data.feature_shape", "the shape of a row")
        _require(self.machine.keys() >= _MACHINE, "machine", "the versions that were used")
        for arm in self.arms:
            _require_arm(arm, self.protocol)
        names = {arm.name for arm in self.arms}
        for effect in self.effects:
            _require(
                {effect.arm, effect.reference} <= names and _is_metric(effect.metric), "effects", "known arms and metrics"
            )
        return self


_MACHINE = {"bvae", "torch", "python", "system", "device"}


def _require(holds: bool, where: str, what: str) -> None:
    if not holds:
        raise PydanticCustomError("inconsistent", "{where} must hold {what}", {"where": where, "what": what})


def _require_arm(arm: ArmRecord, protocol: Protocol) -> None:
    _require([run.seed for run in arm.runs] == protocol.seeds, "arms.runs", "a run for each seed")
    _require("ecc" in arm.settings, "arms.settings", "the code")
    tuned = not protocol.tuned or ({*protocol.tuned} == {*arm.chosen} and bool(arm.tuning))
    _require(tuned and all({*protocol.tuned} == {*tried.setting} for tried in arm.tuning), "arms.tuning", "what was tuned")
    lengths = {len(points) for points in arm.closed_form_curves.values()}
    _require(not lengths or (len(lengths) == 1 and "epsilon" in arm.closed_form_curves), "arms.closed_form_curves", "points")
    expected = {at("stored_nll", epsilon) for epsilon in protocol.noise_epsilon} | {*protocol.claims, "elbo"}
    for run in arm.runs:
        _require(all(map(_is_metric, run.metrics)) and expected <= run.metrics.keys(), "arms.runs.metrics", "known metrics")
        curve = run.curve
        _require(0 < len(curve.validation) == len(curve.training), "arms.runs.curve", "losses by epoch")
        _require(0 <= run.best_epoch <= len(curve.validation), "arms.runs.best_epoch", "an epoch")
        _require("torch" in run.versions, "arms.runs.versions", "the version of torch")


def _is_metric(name: str) -> bool:
    base, _, epsilon = name.partition("@")
    try:
        return base in METRICS and (not epsilon or 0 <= float(epsilon) <= 0.5)
    except ValueError:
        return False


class ComparisonFolder:
    """The folder of one comparison."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def claim(self, digest: str, deciding: Mapping[str, Any]) -> None:
        """Make the folder this comparison's.

        Raises UsageError where it holds another, InputOutputError where it is damaged or a later version wrote it.
        """
        plan = read_json(self.folder / _PLAN)
        if plan is not None and plan.get("format") != FORMAT:
            raise later_format(self.folder / _PLAN, plan.get("format"), FORMAT, "or name another folder with --out")
        if plan is not None and plan.get("digest") != digest:
            raise UsageError(f"{self.folder} holds another comparison.", "Name another folder with --out, or leave it out.")
        if plan is None and (self.folder / _PLAN).exists():
            raise InputOutputError(
                f"{self.folder / _PLAN} is damaged.",
                f"Delete {self.folder}: what was measured is measured again, and no model is lost.",
            )
        # A name that begins with a dot is what a killed write left.
        foreign = [path for path in self._listed() if not path.name.startswith(".")]
        if plan is None and foreign:
            raise UsageError(
                f"{self.folder} holds something else than a comparison: {foreign[0].name}.",
                "Name another folder with --out, or leave it out.",
            )
        if plan is None:
            self._write(_PLAN, _json({"format": FORMAT, "digest": digest, "decides": deciding}))

    def _listed(self) -> list[Path]:
        return sorted(self.folder.iterdir()) if self.folder.is_dir() else []

    def locked(self) -> Any:
        """Hold the folder against a second process on it."""
        return runs.Run(self.folder).locked()

    def evaluation(self, arm: int, seed: int, digest: str) -> RunRecord | None:
        """Return what was measured of a run, or None where it was not, or of another run."""
        found = read_json(self.folder / _EVALUATIONS / f"{_key(arm, seed)}.json")
        try:
            record = None if found is None else RunRecord.model_validate(found)
        except ValidationError:
            return None
        if record is None or record.digest != digest or self._read_arrays(arm, seed) is None:
            return None
        return record

    def save_evaluation(self, arm: int, record: RunRecord, arrays: Mapping[str, Any]) -> None:
        """Keep what was measured of a run; the record goes last, and makes it count."""
        buffer = io.BytesIO()
        numpy.savez_compressed(buffer, **arrays)
        self._write(str(self._arrays(arm, record.seed).relative_to(self.folder)), buffer.getvalue())
        self._write(f"{_EVALUATIONS}/{_key(arm, record.seed)}.json", _json(record.model_dump(mode="json")))

    def arrays(self, arm: int, seed: int) -> dict[str, Any]:
        """Return the arrays beside an evaluation: values by image, and pictures."""
        found = self._read_arrays(arm, seed)
        if found is None:
            raise InputOutputError(
                f"{self._arrays(arm, seed)} is missing or damaged.", "Run the comparison again: it is measured anew."
            )
        return found

    def _read_arrays(self, arm: int, seed: int) -> dict[str, Any] | None:
        """Return the arrays, or None where they are missing, damaged, or of different numbers of images."""
        path = self._arrays(arm, seed)
        try:
            found = numpy_files.read_npz(path, numpy_files.npz_names(path))
        except InputOutputError:
            return None
        lengths = {values.shape for name, values in found.items() if not name.startswith(PICTURE_PREFIX)}
        return found if len(lengths) <= 1 else None

    def tuning(self, arm: int, setting: int, seed: int, digest: str) -> TuningRun | None:
        """Return a run of the tuning, or None where it was not run."""
        found = read_json(self.folder / _TUNING / f"{_key(arm, seed)}_setting_{setting}.json")
        try:
            record = None if found is None else TuningRun.model_validate(found)
        except ValidationError:
            return None
        return record if record is not None and record.digest == digest else None

    def save_tuning(self, arm: int, setting: int, record: TuningRun) -> None:
        """Keep a run of the tuning."""
        self._write(f"{_TUNING}/{_key(arm, record.seed)}_setting_{setting}.json", _json(record.model_dump(mode="json")))

    def save_way(self, purpose: str, way: Mapping[str, Any]) -> None:
        """Keep in which way the runs of the tuning or of the verdict were trained last, beside what is compared."""
        self._write(WAYS, _json({**(read_json(self.folder / WAYS) or {}), purpose: way}))

    def classifier_accuracy(self) -> float | None:
        """Return the accuracy of the fixed classifier, where it was measured."""
        return (read_json(self.folder / _CLASSIFIER) or {}).get("accuracy")

    def save_classifier_accuracy(self, accuracy: float) -> None:
        """Keep it: the classifier need not be trained where nothing is left to measure."""
        self._write(_CLASSIFIER, _json({"accuracy": accuracy}))

    def save(self, comparison: Comparison) -> None:
        """Write ``comparison.csv`` and ``comparison.json``."""
        self._write(TABLE, _table(comparison).encode())
        self._write(COMPARISON, _json(comparison.model_dump(mode="json")))

    def load(self) -> Comparison:
        """Return the comparison. Raises InputOutputError where there is none, or none that this version reads."""
        path = self.folder / COMPARISON
        found = read_json(path)
        if found is None:
            begun = (self.folder / _PLAN).exists() and not path.exists()
            unfinished = " It is not finished: the command that began it goes on." if begun else ""
            raise InputOutputError(
                f"{self.folder} holds no {COMPARISON} that can be read.{unfinished}",
                "Name a folder that `bvae compare` wrote to.",
            )
        if found.get("format") != FORMAT:
            raise later_format(path, found.get("format"), FORMAT)
        try:
            return Comparison.model_validate(found)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            what = first["msg"] if first["type"] == "inconsistent" else f"{where or 'it'} is not what it should be"
            raise InputOutputError(f"{path} is damaged: {what}.", "Run the comparison again.") from None

    def write(self, name: str, content: bytes) -> Path:
        """Write a figure or a page into the folder; return where it is."""
        self._write(name, content)
        return self.folder / name

    def _arrays(self, arm: int, seed: int) -> Path:
        return self.folder / _EVALUATIONS / f"{_key(arm, seed)}.npz"

    def _write(self, name: str, content: bytes) -> None:
        files.require_no_link(self.folder, self.folder / name)
        files.write_file(self.folder / name, content)


def rows_of(comparison: Comparison) -> Iterator[tuple[str, int, str, float, float | None, float | None]]:
    """Return arm, seed, metric, value, standard error and closed form, a row for each arm × seed × metric."""
    for arm in comparison.arms:
        for run in arm.runs:
            for name in in_order(run.metrics):
                value = run.metrics[name]
                yield arm.name, run.seed, name, value.mean, value.standard_error, arm.closed_forms.get(name)


def _table(comparison: Comparison) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("arm", "seed", "metric", "value", "standard_error", "closed_form"))
    for row in rows_of(comparison):
        writer.writerow(["" if cell is None else repr(cell) if isinstance(cell, float) else cell for cell in row])
    return buffer.getvalue()


def _key(arm: int, seed: int) -> str:
    return f"arm_{arm}_seed_{seed}"


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()
