"""Rows that stay in their file, through every workflow: the numbers are those of the same rows in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bvae_cli import runs
from bvae_cli.arms import CompareConfig
from bvae_cli.config import PluginRef, TrainConfig
from bvae_cli.datasets.mapped import MappedRows
from bvae_cli.errors import InputOutputError, UsageError
from bvae_cli.trained import SampleConfig
from bvae_cli.workflows.building import load_splits
from bvae_cli.workflows.compare import compare
from bvae_cli.workflows.measuring import measure
from bvae_cli.workflows.observing import Observer
from bvae_cli.workflows.packing import pack
from bvae_cli.workflows.planning import prepare
from bvae_cli.workflows.sample import sample
from bvae_cli.workflows.train import train
from bvae_cli.workflows.train_many import train_many

from ..conftest import write_bits
from .conftest import TINY


@pytest.fixture
def ways(tmp_path: Path) -> dict[str, PluginRef]:
    """The same bits: in memory, mapped as they are, mapped as packed bits of one array, and packed with their splits."""
    write_bits(tmp_path / "bits.npy", rows=400)
    np.save(tmp_path / "packed.npy", np.packbits(np.load(tmp_path / "bits.npy"), axis=1))
    plain = PluginRef(type="arrays", options={"path": str(tmp_path / "bits.npy")})
    pack(plain, tmp_path / "packed.npz")
    return {
        "memory": plain,
        "mapped": PluginRef(type="arrays", options={"path": str(tmp_path / "bits.npy"), "mapped": "always"}),
        "packed": PluginRef(
            type="packed", options={"path": str(tmp_path / "packed.npy"), "features": 12, "mapped": "always"}
        ),
        "packed with splits": PluginRef(type="arrays", options={"path": str(tmp_path / "packed.npz"), "mapped": "always"}),
    }


def config_of(folder: Path, dataset: PluginRef, **options: Any) -> TrainConfig:
    return TrainConfig(**(TINY | {"dataset": dataset, "output_dir": folder} | options))


def weights_of(folder: Path) -> dict[str, bytes]:
    checkpoint = runs.load_checkpoint(folder)
    return {name: value.numpy().tobytes() for name, value in checkpoint.weights.items()}


@pytest.mark.parametrize("way", ["mapped", "packed", "packed with splits"])
def test_a_run_on_a_file_is_byte_for_byte_the_run_in_memory(ways: dict[str, PluginRef], way: str, tmp_path: Path) -> None:
    assert isinstance(load_splits(ways[way]).train, MappedRows)
    one = train(config_of(tmp_path / "one", ways["memory"], ecc="repetition:R=3"))
    other = train(config_of(tmp_path / "other", ways[way], ecc="repetition:R=3"))
    assert weights_of(other.folder) == weights_of(one.folder)
    assert (other.folder / runs.LOSS_RECORD).read_bytes() == (one.folder / runs.LOSS_RECORD).read_bytes()


def test_it_is_the_same_run_and_is_not_trained_twice(ways: dict[str, PluginRef], tmp_path: Path) -> None:
    train(config_of(tmp_path / "one", ways["memory"]))
    for way in ("mapped", "packed", "packed with splits"):
        assert train(config_of(tmp_path / "one", ways[way])).state == "already finished"


def test_several_seeds_on_a_file_are_those_in_memory(ways: dict[str, PluginRef], tmp_path: Path) -> None:
    results = [
        train_many(config_of(tmp_path / way.replace(" ", "-"), ways[way]), 3) for way in ("memory", "packed with splits")
    ]
    for one, other in zip(*results, strict=True):
        assert weights_of(other.folder) == weights_of(one.folder)


def test_the_first_rows_of_a_file_are_the_first_rows_in_memory(ways: dict[str, PluginRef], tmp_path: Path) -> None:
    one = train(config_of(tmp_path / "one", ways["memory"], subset=100))
    other = train(config_of(tmp_path / "other", ways["packed"], subset=100))
    assert weights_of(other.folder) == weights_of(one.folder)


def numbers(value: Any) -> Any:
    """Return a result without where it is."""
    facts = dataclasses.asdict(value)
    return {name: fact for name, fact in facts.items() if name not in ("weights", "file", "quality", "pictures")}


def test_a_model_is_measured_and_sampled_on_a_file_as_in_memory(ways: dict[str, PluginRef], tmp_path: Path) -> None:
    folder = train(config_of(tmp_path / "one", ways["memory"])).folder
    options: dict[str, Any] = {"weights": folder, "iwae_samples": 3, "split": "test", "num_samples": 9}
    expected = measure(SampleConfig(**options))
    drawn = sample(SampleConfig(**options, out=tmp_path / "a"))
    for way in ("mapped", "packed", "packed with splits"):
        assert numbers(measure(SampleConfig(**options, dataset=ways[way]))) == numbers(expected)
        again = sample(SampleConfig(**options, dataset=ways[way], out=tmp_path / "b"))
        assert numbers(again) == numbers(drawn)
        few = SampleConfig(**options, dataset=ways[way], subset=7)
        assert measure(few).rows == 7


def test_a_comparison_on_a_file_measures_what_it_measures_in_memory(tmp_path: Path) -> None:
    # With labels, so that a judge is trained too.
    random = np.random.default_rng(0)
    rows = random.integers(0, 2, (300, 12), dtype=np.uint8)
    np.savez(tmp_path / "plain.npz", x=rows, y=rows[:, 0])
    plain = PluginRef(type="arrays", options={"path": str(tmp_path / "plain.npz")})
    pack(plain, tmp_path / "packed.npz")
    found = []
    for way, dataset in {
        "memory": plain,
        "file": PluginRef(type="packed", options={"path": str(tmp_path / "packed.npz"), "mapped": "always"}),
    }.items():
        options: dict[str, Any] = {
            **TINY,
            "epochs": 2,
            "ecc": "repetition:R=3",
            "seeds": 2,
            "iwae_samples": 2,
            "calibration_bins": 2,
        }
        done = compare(CompareConfig(**options, dataset=dataset, output_dir=tmp_path / way, results_dir=tmp_path / way))
        found.append(
            [
                {name: value for name, value in run.metrics.items() if name not in ("seconds", "images_per_second")}
                for arm in done.arms
                for run in arm.runs
            ]
        )
    assert found[0] == found[1]
    assert "sample_frechet_distance" in found[0][0]


def test_a_plan_counts_no_memory_for_rows_that_stay_in_their_file(ways: dict[str, PluginRef], tmp_path: Path) -> None:
    in_memory, mapped = (prepare(config_of(tmp_path, ways[way])).plan for way in ("memory", "packed"))
    assert in_memory.memory_bytes - mapped.memory_bytes == 400 * 12
    assert in_memory.digest == mapped.digest


class _Stopping(Observer):
    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act

    def on_epoch(self, stats: Any) -> None:
        self._act()


def test_a_file_that_changes_while_it_is_trained_on_ends_the_run_with_a_sentence(
    ways: dict[str, PluginRef], tmp_path: Path
) -> None:
    def change() -> None:
        values = np.load(tmp_path / "packed.npy")
        np.save(tmp_path / "packed.npy", 255 - values)

    with pytest.raises(InputOutputError, match=r"packed\.npy has changed since it was opened"):
        train(config_of(tmp_path / "one", ways["packed"]), _Stopping(change))


def test_an_interrupted_run_on_a_file_goes_on_to_the_same_weights(ways: dict[str, PluginRef], tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    whole = train(config_of(tmp_path / "one", ways["memory"]))
    with pytest.raises(Exception, match="Interrupted after epoch 1"):
        train(config_of(tmp_path / "other", ways["packed"]), _Stopping(stop))
    assert weights_of(train(config_of(tmp_path / "other", ways["packed"])).folder) == weights_of(whole.folder)


# --- packing


def test_what_is_packed_is_said(ways: dict[str, PluginRef], tmp_path: Path) -> None:
    result = pack(ways["mapped"], tmp_path / "again.npz")
    assert (result.training_rows, result.validation_rows, result.test_rows) == (320, 40, 40)
    assert (result.features, result.feature_shape) == (12, (12,))
    assert result.bytes == (tmp_path / "again.npz").stat().st_size
    assert result.digest == load_splits(ways["memory"]).digest()
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "packed.npz").read_bytes()


def test_numbers_cannot_be_packed(tmp_path: Path) -> None:
    np.save(tmp_path / "grey.npy", np.random.default_rng(0).random((10, 4)))
    with pytest.raises(UsageError, match="not all bits"):
        pack(PluginRef(type="arrays", options={"path": str(tmp_path / "grey.npy")}), tmp_path / "p.npz")
    assert not (tmp_path / "p.npz").exists()
