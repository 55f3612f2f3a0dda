"""Which runs are trained as one, and that it makes them what they are alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bvae_cli import runs
from bvae_cli.config import TrainConfig
from bvae_cli.workflows.building import load_splits
from bvae_cli.workflows.fit_many import FitMany
from bvae_cli.workflows.observing import TrainResult
from bvae_cli.workflows.parts import OWN_TO_EACH, ManyRun, fits_of, parts_of, runs_of
from bvae_cli.workflows.planning import SharedData
from bvae_cli.workflows.train import train
from bvae_cli.workflows.train_many import train_together

from .conftest import config_for

OWN: dict[str, Any] = {
    "beta_max": 0.5,
    "beta_warmup_epochs": 0,
    "consistency_weight": 0.3,
    "epochs": 2,
    "grad_clip": 0.5,
    "lr": 0.02,
    "lr_schedule": "cosine",
    "min_delta": 0.1,
    "patience": 1,
    "seed": 9,
    "tau_end": 0.3,
    "tau_start": 2.0,
}
COMMON: dict[str, Any] = {
    "activation": "relu",
    "batch_size": 8,
    "depth": 2,
    "ecc": "repetition:R=3",
    "estimator": "st",
    "hidden": 6,
    "latent": 9,
    "sampling": "bitwise",
    "subset": 20,
}


def prepared(*configs: TrainConfig) -> list[ManyRun]:
    return runs_of(configs, SharedData(load_splits(configs[0].dataset)))


def indices(parts: list[list[ManyRun]]) -> list[list[int]]:
    return [[run.index for run in part] for part in parts]


def test_every_option_that_decides_is_own_to_each_run_or_common_to_those_of_a_part(tmp_path: Path) -> None:
    assert OWN.keys() | {"init_from"} == OWN_TO_EACH
    assert OWN.keys() | COMMON.keys() == config_for(tmp_path).deciding().keys()


@pytest.mark.parametrize("name", OWN)
def test_runs_that_differ_in_what_is_own_to_each_are_one_part_and_can_be_trained_so(tmp_path: Path, name: str) -> None:
    both = prepared(config_for(tmp_path), config_for(tmp_path, **{name: OWN[name]}))
    (part,) = parts_of(both, len)
    splits = part[0].prepared.splits
    epochs = list(FitMany(fits_of(part, splits.train, splits.validation)))
    assert epochs[0].keys() == {0, 1}


@pytest.mark.parametrize("name", COMMON)
def test_runs_that_differ_in_anything_else_are_two_parts(tmp_path: Path, name: str) -> None:
    both = prepared(config_for(tmp_path), config_for(tmp_path, **{name: COMMON[name]}))
    assert indices(parts_of(both, len)) == [[0], [1]]


def test_runs_of_one_shape_are_one_part_wherever_they_stand(tmp_path: Path) -> None:
    coded = {"ecc": "repetition:R=3"}
    mixed = [config_for(tmp_path, seed=seed, **(coded if seed % 2 else {})) for seed in range(5)]
    assert indices(parts_of(prepared(*mixed), len)) == [[0, 2, 4], [1, 3]]


@given(counts=st.lists(st.integers(1, 7), min_size=1, max_size=3), most=st.integers(1, 9))
@settings(deadline=None)
def test_parts_hold_every_run_once_and_are_of_like_size(
    counts: list[int], most: int, many: Callable[[list[int]], list[ManyRun]]
) -> None:
    everything = many(counts)
    parts = parts_of(everything, lambda group: most)
    assert sorted(run.index for part in parts for run in part) == list(range(sum(counts)))
    for shape, count in zip(dict.fromkeys(run.shape for run in everything), counts, strict=True):
        sizes = [len(part) for part in parts if part[0].shape == shape]
        assert all(run.shape == shape for part in parts for run in part if part[0].shape == shape)
        assert len(sizes) == math.ceil(count / most)
        assert max(sizes) <= most
        assert max(sizes) - min(sizes) <= 1


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[int]], list[ManyRun]]:
    """Return runs of so many shapes, so many of each."""
    folder = tmp_path_factory.mktemp("many")
    shapes = [config_for(folder), config_for(folder, hidden=6), config_for(folder, batch_size=8)]
    kept = [[prepared(shape)[0] for shape in shapes][index] for index in range(len(shapes))]

    def make(counts: list[int]) -> list[ManyRun]:
        shaped = [run for run, count in zip(kept, counts, strict=False) for _ in range(count)]
        return [ManyRun(index, run.config, run.prepared) for index, run in enumerate(shaped)]

    return make


def test_runs_that_would_share_a_folder_get_their_own_and_the_first_keeps_the_plain_name(tmp_path: Path) -> None:
    three = prepared(*[config_for(tmp_path, seed=seed) for seed in (4, 5, 6)])
    plain = three[0].prepared.plan.folder
    for run in three[1:]:
        assert run.prepared.plan.folder.name == f"{plain.name}_{run.prepared.plan.digest[:8]}"
        assert run.prepared.run.folder == run.prepared.plan.folder
    assert not plain.exists()


# --- trained together and alone, in float64


SETTINGS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 3),
        "lr": st.sampled_from([0.003, 0.03]),
        "beta_max": st.sampled_from([0.5, 1.0]),
        "consistency_weight": st.sampled_from([0.0, 0.1]),
        "epochs": st.integers(1, 3),
        "grad_clip": st.sampled_from([0.0, 0.3]),
        "lr_schedule": st.sampled_from(["constant", "cosine"]),
        "patience": st.integers(1, 3),
        "batch_size": st.sampled_from([16, 48]),
        "ecc": st.sampled_from(["none", "repetition:R=3"]),
    }
)


@pytest.mark.slow
@pytest.mark.usefixtures("doubled")
@given(several=st.lists(SETTINGS, min_size=2, max_size=5), most=st.sampled_from([0, 2]))
@settings(deadline=None, max_examples=15)
def test_runs_of_any_settings_trained_together_are_what_they_are_alone(
    several: list[dict[str, Any]], most: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("together")
    configs = [config_for(folder, models_at_once=most, **options) for options in several]
    together = train_together(configs)
    for config, result in zip(configs, together, strict=True):
        alone = train(config.model_copy(update={"output_dir": folder / "alone"}))
        require_equal(result, alone)


def require_equal(one: TrainResult, other: TrainResult) -> None:
    assert (one.reason, one.epochs, one.best_epoch) == (other.reason, other.epochs, other.best_epoch)
    rows = [
        [json.loads(line) for line in (result.folder / runs.METRICS).read_text().splitlines()] for result in (one, other)
    ]
    assert len(rows[0]) == len(rows[1])
    for mine, theirs in zip(*rows, strict=True):
        for column in runs.RECORD_COLUMNS:
            assert mine[column] == pytest.approx(theirs[column], rel=1e-9, abs=1e-12)
    weights = [runs.load_checkpoint(result.folder).weights for result in (one, other)]
    for name in weights[1]:
        torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-9, atol=1e-11)


def test_a_configuration_that_is_there_twice_is_trained_once(tmp_path: Path) -> None:
    first, other, again = train_together([config_for(tmp_path, seed=seed) for seed in (1, 2, 1)])
    assert (first.state, other.state, again.state) == ("finished", "finished", "already finished")
    assert first.folder == again.folder != other.folder
    assert (first.folder / runs.LOG).read_text().count("finished:") == 1


def test_nothing_to_train_is_nothing() -> None:
    assert train_together([]) == []
