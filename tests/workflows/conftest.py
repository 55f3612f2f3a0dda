from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bvae_cli.config import TrainConfig
from bvae_cli.datasets.arrays import Arrays
from bvae_cli.datasets.base import Splits
from bvae_cli.workflows import planning
from bvae_cli.workflows.observing import TrainResult
from bvae_cli.workflows.train import train

from ..conftest import write_bits

TINY: dict[str, Any] = {
    "hidden": 8,
    "latent": 12,
    "depth": 1,
    "epochs": 4,
    "batch_size": 16,
    "lr": 0.01,
    "beta_warmup_epochs": 2,
}


def config_for(folder: Path, **options: Any) -> TrainConfig:
    """Return the configuration of a tiny run on ``bits.npy`` of a folder, into ``weights`` there."""
    data = folder / "bits.npy"
    if not data.exists():
        write_bits(data)
    return TrainConfig(**({"dataset": data, "output_dir": folder / "weights"} | TINY | options))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A finished run with a repetition code; tests must leave it as it is."""
    return train(config_for(tmp_path_factory.mktemp("trained"), ecc="repetition:R=3"))


@pytest.fixture(scope="session")
def uncoded(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A finished run without a code; tests must leave it as it is."""
    return train(config_for(tmp_path_factory.mktemp("uncoded"), save_every_epoch=True))


@pytest.fixture
def doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in float64: there rounding makes no run part from another."""
    real = planning.new_model
    monkeypatch.setattr(planning, "new_model", lambda *arguments: real(*arguments).double())


@pytest.fixture
def data_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with every loading and every hashing of data."""
    calls: list[str] = []
    load, digest = Arrays.load, Splits.digest
    monkeypatch.setattr(Arrays, "load", lambda spec: calls.append("load") or load(spec))
    monkeypatch.setattr(Splits, "digest", lambda splits: calls.append("digest") or digest(splits))
    return calls
