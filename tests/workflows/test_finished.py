"""Finished models as arms, and which of them cannot stand beside each other."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bvae_cli.arms import CompareConfig
from bvae_cli.config import TrainConfig
from bvae_cli.errors import BvaeError, InputOutputError, UsageError
from bvae_cli.workflows.compare import compare
from bvae_cli.workflows.train import train

from ..conftest import write_bits
from .conftest import TINY
from .test_compare import MEASURED


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    write_bits(folder / "bits.npy", rows=400)
    return folder


def trained(place: Path, **options: Any) -> Path:
    values = {"dataset": place / "bits.npy", "output_dir": place / "weights"}
    return train(TrainConfig(**(values | TINY | options))).folder


def compared(place: Path, baseline: list[Path], coded: list[Path], **options: Any) -> Any:
    measured = {key: value for key, value in MEASURED.items() if key != "seeds"}
    here = {"results_dir": place / "results", "baseline_weights": baseline, "ecc_weights": coded}
    return compare(CompareConfig(**(measured | here | options)))


def test_one_finished_model_of_each_is_compared_over_images(place: Path) -> None:
    comparison = compared(place, [trained(place)], [trained(place, ecc="repetition:R=3") / "bvae_best_model_with.pt"])
    assert [arm.name for arm in comparison.arms] == ["uncoded N=12", "repetition(R=3) N=12"]
    assert comparison.protocol.finished_models
    assert any("not for the way in which they were trained" in text for text in comparison.cautions)
    for effect in comparison.effects:
        assert effect.paired.p_value is None
        assert effect.verdict is None
    assert any(effect.paired.image_interval for effect in comparison.effects if effect.claim)


def test_the_data_of_finished_models_are_loaded_and_hashed_once(place: Path, data_calls: list[str]) -> None:
    models = [trained(place)], [trained(place, ecc="repetition:R=3")]
    data_calls.clear()
    compared(place, *models)
    assert data_calls == ["load", "digest"]


def test_several_finished_models_are_seeds_paired_in_their_order(place: Path) -> None:
    baseline = [trained(place, seed=seed) for seed in (0, 1)]
    coded = [trained(place, seed=seed, ecc="repetition:R=3") for seed in (0, 1)]
    comparison = compared(place, baseline, coded)
    assert [[run.folder for run in arm.runs] for arm in comparison.arms] == [
        [str(path) for path in paths] for paths in (baseline, coded)
    ]
    assert comparison.effects[0].paired.seed_interval is not None


def refused(place: Path, baseline: list[Path], coded: list[Path], kind: type[BvaeError] = UsageError) -> str:
    with pytest.raises(kind) as caught:
        compared(place, baseline, coded)
    assert caught.value.hint
    return caught.value.message


def test_models_of_other_data_are_refused(place: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "bits.npy", 1 - np.load(place / "bits.npy"))
    other = trained(tmp_path, ecc="repetition:R=3")
    assert "was trained on other data" in refused(place, [trained(place)], [other])


def test_unequal_numbers_are_refused(place: Path) -> None:
    both = [trained(place, seed=0), trained(place, seed=1)]
    assert "There are 2 --baseline-weights and 1 --ecc-weights" in refused(
        place, both, [trained(place, ecc="repetition:R=3")]
    )


def test_models_of_one_arm_that_differ_in_more_than_their_seed_are_refused(place: Path) -> None:
    baseline = [trained(place, seed=0), trained(place, seed=1, lr=0.02)]
    coded = [trained(place, seed=seed, ecc="repetition:R=3") for seed in (0, 1)]
    assert "in more than its seed: lr" in refused(place, baseline, coded)


def test_a_model_that_is_named_twice_is_refused(place: Path, tmp_path: Path) -> None:
    baseline, coded = trained(place), trained(place, ecc="repetition:R=3")
    assert refused(place, [baseline] * 8, [coded] * 8).endswith("bvae_best_model_with.pt is named twice.")
    assert refused(place, [coded], [coded / "bvae_best_model_with.pt"]).endswith("bvae_best_model_with.pt is named twice.")
    again = shutil.copytree(coded, tmp_path / "again")
    assert "are the same model" in refused(place, [coded], [again])


def test_models_of_different_seeds_are_not_paired(place: Path) -> None:
    baseline = [trained(place, seed=seed) for seed in (0, 1)]
    coded = [trained(place, seed=seed, ecc="repetition:R=3") for seed in (0, 5)]
    assert "The seeds are 0, 1 in one arm and 0, 5 in the other" in refused(place, baseline, coded)


def test_models_of_another_part_of_the_data_are_refused(place: Path) -> None:
    message = refused(place, [trained(place, subset=50)], [trained(place, ecc="repetition:R=3")])
    assert "was trained with --subset" in message


def test_a_model_without_a_code_behind_ecc_weights_is_refused(place: Path) -> None:
    assert "was made without a code" in refused(place, [trained(place)], [trained(place, seed=1)])


def test_data_that_changed_since_are_refused(tmp_path: Path) -> None:
    write_bits(tmp_path / "bits.npy", rows=400)
    baseline, coded = trained(tmp_path), trained(tmp_path, ecc="repetition:R=3")
    np.save(tmp_path / "bits.npy", 1 - np.load(tmp_path / "bits.npy"))
    assert "have changed since" in refused(tmp_path, [baseline], [coded], InputOutputError)


def test_weights_away_from_their_run_and_missing_ones_are_refused(place: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.pt"
    shutil.copy(trained(place) / "bvae_best_model_with.pt", alone)
    coded = trained(place, ecc="repetition:R=3")
    assert "does not lie in the folder of its run" in refused(place, [alone], [coded], InputOutputError)
    assert "no file" in refused(place, [tmp_path / "nowhere.pt"], [coded], InputOutputError)
