from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bvae_cli.config import TrainConfig
from bvae_cli.workflows.observing import TrainResult
from bvae_cli.workflows.train import train

from ..conftest import write_bits

# A run of a few milliseconds on `bits.npy` of the workplace.
TINY = ("--dataset", "bits.npy", "--hidden", 8, "--latent", 12, "--depth", 1, "--epochs", 2, "--batch-size", 16)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A finished run with a repetition code; tests must leave it as it is."""
    folder = tmp_path_factory.mktemp("trained")
    write_bits(folder / "bits.npy")
    values: dict[str, Any] = {"dataset": folder / "bits.npy", "output_dir": folder / "weights", "ecc": "repetition:R=3"}
    return train(TrainConfig(**values, hidden=8, latent=12, depth=1, epochs=3, batch_size=16, lr=0.01))


@pytest.fixture
def run_folder(trained: TrainResult) -> Path:
    """The folder of that run."""
    return trained.folder
