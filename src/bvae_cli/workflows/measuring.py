"""Measure a trained model: the quality table of ``sample`` and ``evaluate``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bvae_cli import devices, processor, registry, runs
from bvae_cli.config import PluginRef, Sizes
from bvae_cli.datasets.base import Splits
from bvae_cli.datasets.rows import Rows, first_rows
from bvae_cli.errors import BvaeError, InputOutputError, PluginError, UsageError
from bvae_cli.evaluation.inference import (
    InferenceErrors,
    Reconstruction,
    measure_inference,
    measure_reconstruction,
)
from bvae_cli.evaluation.latent import LatentUse, active, latent_use, posterior_logits
from bvae_cli.evaluation.likelihood import Bounds, measure_bounds
from bvae_cli.evaluation.metrics import METRICS
from bvae_cli.folders import require_not_among_pictures
from bvae_cli.trained import ExportConfig, SampleConfig, TrainedChoice
from bvae_cli.workflows.building import (
    Rebuilt,
    grey_note,
    load_model,
    load_splits,
    require_fitting,
    require_same_symbols,
)

OnNote = Callable[[str], None]


@dataclass(frozen=True)
class Quality:
    """A model measured on one split: bounds, inference errors, reconstruction and the use of its bits."""

    weights: Path
    code: str
    split: str
    rows: int
    bounds: Bounds
    inference: InferenceErrors
    reconstruction: Reconstruction
    latent: LatentUse
    # False of grey values that are told by probabilities of bits: then bounds are of a cross-entropy.
    is_likelihood: bool

    def meaning(self, metric: str) -> str:
        """Return what a metric of the table in ``evaluation.metrics`` means here."""
        return METRICS[metric].meant(self.is_likelihood)


def find_weights(config: TrainedChoice, named: frozenset[str]) -> Path:
    """Return the weights to use: those named, or the default folder of the sizes and code.

    ``named`` are the fields that a person gave; sizes or a code given beside weights must be those of the weights.
    """
    if config.weights is None:
        name = runs.folder_name(
            config.sizes, config.beta_max, config.lr, config.ecc.type, config.ecc.spec("code").told_options()
        )
        folder = config.output_dir / name
        if not (folder / runs.WEIGHTS).is_file():
            others = runs.namesakes(folder)
            hint = "Train it first with `bvae train` and the same options, or name its weights with --weights."
            if others:
                hint = f"{_counted(len(others))} of these sizes with other settings: name one, as --weights '{others[0]}'."
            raise InputOutputError(f"There is no trained model in {folder}.", hint)
        return folder / runs.WEIGHTS
    weights = runs.weights_file(config.weights)
    _require_same(config, named, weights)
    return weights


def measure(config: SampleConfig, named: frozenset[str] = frozenset(), on_note: OnNote | None = None) -> Quality:
    """Measure a trained model on a split of its own data, or of the data set that ``config`` names.

    Raises InputOutputError where weights or data cannot be read, UsageError where they do not fit each other.
    """
    rebuilt, x, _ = prepare(config, named, on_note)
    return measure_on(rebuilt, x, config)


def prepare(
    config: SampleConfig, named: frozenset[str], on_note: OnNote | None = None
) -> tuple[Rebuilt, Tensor | Rows, Splits]:
    """Load the model and the rows to measure on, on the chosen device; ``on_note`` is told what should be known of it."""
    rebuilt, splits, device = load_both(config, named, on_note)
    if config.out is not None:
        require_not_among_pictures(config.out, data_of(config, rebuilt).paths("data set"))
    x = first_rows(splits.split(config.split), config.subset)
    note = grey_note(rebuilt.model.likelihood.name, x)
    if note is not None and on_note is not None:
        on_note(note)
    return rebuilt, x.to(device), splits


def load_both(
    config: TrainedChoice, named: frozenset[str], on_note: OnNote | None = None, *, one_pass: bool = False
) -> tuple[Rebuilt, Splits, str]:
    """Load the model, on the chosen device, and its data, which stay where they are; return both and the device.

    With ``one_pass`` rows that can stay in their file do, however few they are.
    """
    rebuilt, device = load_alone(config, named, on_note)
    return rebuilt, load_data(config, rebuilt, one_pass=one_pass), device


def load_alone(config: TrainedChoice, named: frozenset[str], on_note: OnNote | None = None) -> tuple[Rebuilt, str]:
    """Load the model onto the chosen device, without its data; return both."""
    choice = devices.choose(config.device, "off")
    processor.prepare(config.threads)
    rebuilt = load_model(find_weights(config, named), choice.device)
    if on_note is not None:
        for note in _notes(config, rebuilt):
            on_note(note)
    return rebuilt, choice.device


def measure_on(rebuilt: Rebuilt, x: Tensor | Rows, config: SampleConfig | ExportConfig) -> Quality:
    """Measure a model on rows ``[rows, D]``; every draw is decided by ``config.seed``."""
    generator = torch.Generator(x.device).manual_seed(config.seed)
    logits = posterior_logits(rebuilt.model, x)
    return Quality(
        weights=rebuilt.weights,
        code=rebuilt.label,
        split=config.split,
        rows=len(x),
        bounds=measure_bounds(rebuilt.model, x, config.iwae_samples, generator),
        inference=measure_inference(rebuilt.model, len(x), active(logits), generator),
        reconstruction=measure_reconstruction(rebuilt.model, x),
        latent=latent_use(logits),
        is_likelihood=grey_note(rebuilt.model.likelihood.name, x) is None,
    )


def _notes(config: TrainedChoice, rebuilt: Rebuilt) -> list[str]:
    """Say what a person may take for granted of a model and should not: that it is the only one, that it is finished."""
    folder, notes = rebuilt.weights.parent, []
    others = runs.namesakes(folder) if config.weights is None else []
    if others:
        notes.append(
            f"This is {folder}. {_counted(len(others))} of these sizes with other settings; name one to take it, as "
            f"--weights '{others[0]}'."
        )
    run = runs.Run(folder)
    state = run.state()
    if state not in ("finished", "empty") and (run.config() or {}).get("digest") == rebuilt.config.get("digest"):
        epochs = rebuilt.config["decides"].get("epochs")
        notes.append(f"This run is {state}: these are its best weights after {run.recorded_epochs()} of {epochs} epochs.")
    return notes


def _counted(others: int) -> str:
    return "There is 1 other run" if others == 1 else f"There are {others} other runs"


def data_of(config: TrainedChoice, rebuilt: Rebuilt) -> PluginRef:
    """Return the data set that ``config`` names, or that a model was trained on."""
    recorded = rebuilt.config["data"]
    return config.dataset or PluginRef(type=recorded["type"], options=recorded["options"])


def load_data(config: TrainedChoice, rebuilt: Rebuilt, *, one_pass: bool = False) -> Splits:
    """Load the data that ``config`` names, or those that a model was trained on.

    Raises InputOutputError or PluginError where they cannot be had or have changed, UsageError where they do not fit.
    """
    recorded, reference = rebuilt.config["data"], data_of(config, rebuilt)
    if config.dataset is None and reference.type not in registry.names("data set"):
        raise PluginError(
            f"{rebuilt.weights} was trained on the data set '{reference.type}', which is not installed.",
            f"Install {recorded['distribution']} {recorded['version']}, or name other data with --dataset.",
        )
    try:
        splits = load_splits(reference, rebuilt.model.likelihood.name, one_pass=one_pass)
    except BvaeError as error:
        if config.dataset is not None:
            raise
        raise type(error)(
            f"The data that {rebuilt.weights} was trained on cannot be loaded: {error.message}",
            "Name where it is now with --dataset.",
            error.exit_code,
        ) from None
    if splits.features != rebuilt.model.features:
        raise UsageError(
            f"{reference.label()} has {splits.features} values in a row; the model in {rebuilt.weights} was trained on "
            f"{rebuilt.model.features}.",
            "Leave --dataset out to measure on the data of the training.",
        )
    require_same_symbols(rebuilt, splits)
    require_fitting(rebuilt.model.likelihood.name, splits.likelihood, splits.source)
    if config.dataset is None and splits.digest() != recorded["digest"]:
        raise InputOutputError(
            f"The data that {rebuilt.weights} was trained on have changed since: {reference.label()} holds other values.",
            "Restore them, or name them with --dataset to measure on what is there now.",
        )
    return splits


def _require_same(config: TrainedChoice, named: frozenset[str], weights: Path) -> None:
    saved = runs.load_checkpoint(weights).config
    decides = saved["decides"]
    for size in Sizes._fields:
        if named & {"params", size} and getattr(config, size) != decides.get(size):
            raise UsageError(
                f"{weights} has {size} {decides.get(size)}, not {getattr(config, size)}.",
                "Leave -n and the sizes out: the weights know theirs.",
            )
    if "ecc" in named and (config.ecc.type, config.ecc.options) != (saved["code"]["type"], saved["code"]["options"]):
        theirs = PluginRef(type=saved["code"]["type"], options=saved["code"]["options"]).shown()
        raise UsageError(
            f"{weights} was made with the code {theirs}, not {config.ecc.shown()}.",
            "Leave the code out: the weights know theirs.",
        )
