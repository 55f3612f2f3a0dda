"""Finished models as the arms of a comparison, and why some cannot stand beside each other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bvae_cli import runs
from bvae_cli.arms import UNCODED, Arm, CompareConfig
from bvae_cli.config import PluginRef, TrainConfig
from bvae_cli.errors import InputOutputError, UsageError
from bvae_cli.workflows.building import likelihood_of, load_model, load_splits
from bvae_cli.workflows.planning import SharedData


@dataclass(frozen=True)
class FinishedArm:
    """An arm whose models are there: its weights, their digests, and the seeds that they were trained with."""

    arm: Arm
    weights: list[Path]
    digests: list[str]
    seeds: list[int]
    training_rows: int

    def model(self, index: int) -> tuple[Path, str]:
        """Return the weights of a seed, counted from 0, and their digest."""
        return self.weights[index], self.digests[index]


def finished_arms(config: CompareConfig) -> tuple[list[FinishedArm], SharedData]:
    """Return the two arms that ``--baseline-weights`` and ``--ecc-weights`` name, and the data of their training.

    Raises UsageError where their models cannot be compared: other data, another likelihood, unequal numbers, or models of
    one arm that differ in more than their seed. Raises InputOutputError where data have changed since.
    """
    if len(config.baseline_weights) != len(config.ecc_weights):
        raise UsageError(
            f"There are {len(config.baseline_weights)} --baseline-weights and {len(config.ecc_weights)} --ecc-weights.",
            "Name as many of one as of the other: they are paired in their order.",
        )
    saved = [[_saved(path) for path in paths] for paths in (config.baseline_weights, config.ecc_weights)]
    first = saved[0][0]
    for models in saved:
        for path, facts in models:
            _require_comparable(path, facts, *first)
            _require_one_arm(path, facts, *models[0])
    if saved[1][0][1]["code"]["type"] == UNCODED:
        raise UsageError(
            f"{saved[1][0][0]} was made without a code.",
            "Name a model with a code behind --ecc-weights, or compare with --arm.",
        )
    data = first[1]["data"]
    reference = PluginRef(type=data["type"], options=data["options"])
    loaded = SharedData(load_splits(reference))
    if loaded.digest != data["digest"]:
        raise InputOutputError(
            f"The data that {first[0]} was trained on have changed since: {reference.label()} holds other values.",
            "Restore them: a comparison needs the data of the training.",
        )
    arms = [_arm(models, reference, loaded) for models in saved]
    _require_distinct(arms)
    if arms[0].arm.name == arms[1].arm.name:
        arms[1] = replace(arms[1], arm=replace(arms[1].arm, name=f"{arms[1].arm.name} #2"))
    return arms, loaded


def _require_distinct(arms: Sequence[FinishedArm]) -> None:
    """Raise UsageError where a model stands for two, or seeds are not the same in both arms."""
    seen: dict[str, Path] = {}
    for arm in arms:
        for path, digest in zip(arm.weights, arm.digests, strict=True):
            if digest in seen:
                twice = path.resolve() == seen[digest].resolve()
                raise UsageError(
                    f"{path} is named twice." if twice else f"{path} and {seen[digest]} are the same model.",
                    "Each model counts once: one seed that is named eight times is still one seed.",
                )
            seen[digest] = path
    if len(arms[0].seeds) > 1 and arms[0].seeds != arms[1].seeds:
        mine, theirs = (", ".join(map(str, arm.seeds)) for arm in arms)
        raise UsageError(
            f"The seeds are {mine} in one arm and {theirs} in the other: models are paired by their seed.",
            "Name models of the same seeds, in the same order.",
        )


def _saved(path: Path) -> tuple[Path, dict[str, Any]]:
    rebuilt = load_model(path)
    if not (rebuilt.weights.parent / runs.LOSS_RECORD).is_file():
        raise InputOutputError(
            f"{rebuilt.weights} does not lie in the folder of its run: there is no {runs.LOSS_RECORD} beside it.",
            "Name the run's folder, with everything that `bvae train` wrote.",
        )
    return rebuilt.weights, rebuilt.config


def _require_comparable(path: Path, facts: dict[str, Any], first_path: Path, first: dict[str, Any]) -> None:
    mine, theirs = (item["decides"].get("subset") for item in (facts, first))
    if mine != theirs:
        raise UsageError(
            f"{path} was trained with --subset {mine}, {first_path} with --subset {theirs}: their losses do not compare.",
            "Train both on the same rows.",
        )
    if facts["data"]["digest"] != first["data"]["digest"] or facts["data"]["type"] != first["data"]["type"]:
        raise UsageError(
            f"{path} was trained on other data than {first_path}: their losses do not compare.",
            "Train both on one data set.",
        )
    mine, theirs = (likelihood_of(item) for item in (facts, first))
    if mine != theirs:
        raise UsageError(
            f"{path} has the likelihood {mine}, {first_path} {theirs}: their bounds do not compare.",
            "Train both with one likelihood.",
        )


def _require_one_arm(path: Path, facts: dict[str, Any], first_path: Path, first: dict[str, Any]) -> None:
    mine, theirs = ({**item["decides"], "seed": None} for item in (facts, first))
    differing = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
    if differing:
        raise UsageError(
            f"{path} differs from {first_path} in more than its seed: {', '.join(differing)}.",
            "The models of one arm are seeds of one configuration.",
        )


def _arm(models: Sequence[tuple[Path, dict[str, Any]]], reference: PluginRef, loaded: SharedData) -> FinishedArm:
    facts = models[0][1]
    fields = {name: value for name, value in facts["decides"].items() if name in TrainConfig.model_fields}
    code = PluginRef(type=facts["code"]["type"], options=facts["code"]["options"])
    config = TrainConfig(**{**fields, "init_from": None, "ecc": code, "dataset": reference})
    label = "uncoded" if code.type == UNCODED else config.ecc.spec("code").label()
    weights = [path for path, _ in models]
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in weights]
    seeds = [int(saved["decides"]["seed"]) for _, saved in models]
    rows = len(loaded.limited(config.subset).train)
    return FinishedArm(Arm(f"{label} N={config.sizes.latent}", config), weights, digests, seeds, rows)
