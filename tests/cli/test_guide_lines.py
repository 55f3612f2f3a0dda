"""The lines of the guide, as they are written there; only the budget is cut, and the data are small."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from bvae_cli import runs

from ..conftest import write_bits
from ..outcome import Bvae, Outcome

BUDGET = ("--subset", 200, "--epochs", 1)
SIZES = {0: (100, 100, 2), 1: (200, 100, 2), 4: (200, 200, 3), 7: (500, 300, 5)}

# The line after `bvae train`, its set, and how its folder's name goes on after the sizes.
LINES = {
    "-n 0 --subset 500 --patience 3": (0, "_beta_1.0_lr_0.001"),
    "-n 1": (1, "_beta_1.0_lr_0.001"),
    "-n 1 --ecc-type repetition --ecc-R 2": (1, "_beta_1.0_lr_0.001_ecc_repetition_R_2"),
    "-n 4 --ecc-R 2": (4, "_beta_1.0_lr_0.001_ecc_repetition_R_2"),
    "-n 7 --ecc-R 3": (7, "_beta_1.0_lr_0.001_ecc_repetition_R_3"),
    "-n 1 --patience 5 --min-delta 0.01": (1, "_beta_1.0_lr_0.001"),
    "-n 1 --subset 0": (1, "_beta_1.0_lr_0.001"),
    "-n 1 --beta-max 1.0 --beta-warmup-epochs 10": (1, "_beta_1.0_lr_0.001"),
    "-n 1 --lr 0.0005": (1, "_beta_1.0_lr_0.0005"),
    "-n 1 --batch-size 2000": (1, "_beta_1.0_lr_0.001"),
    "-n 1 --save-every-epoch --patience 3": (1, "_beta_1.0_lr_0.001"),
    "-n 1 --verbose": (1, "_beta_1.0_lr_0.001"),
    "-n 5 --ecc repetition --R 3": (5, "_beta_1.0_lr_0.001_ecc_repetition_R_3"),
}


@pytest.fixture
def small_data(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of 300 rows in the place of the bundled one: the lines say nothing of data."""
    write_bits(workplace / "small.npy", rows=300, features=16)
    monkeypatch.setenv("BVAE_DATASET", "small.npy")
    return workplace


def trained(bvae: Bvae, line: str, number: int, rest: str) -> Outcome:
    outcome = bvae("train", *shlex.split(line), *BUDGET).succeeded()
    hidden, latent, depth = {5: (200, 300, 2), **SIZES}[number]
    folder = Path("weights") / f"hidden_size_{hidden}_latent_size_{latent}_depth_{depth}{rest}"
    assert [path.name for path in Path("weights").iterdir()] == [folder.name]
    assert np.loadtxt(folder / "loss_record_with.txt").shape == (6,)
    assert runs.load_checkpoint(folder).config["decides"]["latent"] == latent
    return outcome


@pytest.mark.parametrize("line", LINES)
def test_the_line_trains(bvae: Bvae, small_data: Path, line: str) -> None:
    trained(bvae, line, *LINES[line])


def test_the_first_line_trains_on_the_bundled_data(bvae: Bvae, workplace: Path) -> None:
    outcome = trained(bvae, "-n 0 --subset 500 --patience 3", 0, "_beta_1.0_lr_0.001")
    assert "200 training, 10,000 validation rows" in outcome.err
    assert "patience 0/3" in outcome.err


def test_disable_mps_trains_on_the_cpu(bvae: Bvae, small_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISABLE_MPS", "1")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    outcome = trained(bvae, "-n 1", 1, "_beta_1.0_lr_0.001")
    assert "device cpu" in outcome.err


def test_a_repetition_code_that_does_not_fit_is_refused(bvae: Bvae, small_data: Path) -> None:
    bvae("train", "-n", 0, "--ecc-R", 3).refused(2, "99", "102", "Parameter sets that fit: 5, 7")
    assert not Path("weights").exists()


def test_the_options_do_what_the_guide_says(bvae: Bvae, small_data: Path) -> None:
    assert "1 an epoch" in bvae("train", "-n", 1, "--batch-size", 2000, "--dry-run").succeeded().out
    every = bvae("train", "-n", 1, "--save-every-epoch", "--patience", 3, *BUDGET, "--json").succeeded().json()
    assert (Path(every["folder"]) / "epochs" / "epoch_0001.pt").exists()


def test_the_line_that_samples(bvae: Bvae, small_data: Path) -> None:
    folder = Path(bvae("train", "-n", 1, *BUDGET, "--json").succeeded().json()["folder"])
    line = ("sample", "-n", 1, "--subset", 100, "--w_save_path", folder / "bvae_best_model_with.pt")
    outcome = bvae(*line, "--iwae-samples", 2).succeeded()
    assert "64 samples" in outcome.out
    assert (folder / "samples" / "samples_seed_0.npz").exists()
    assert (folder / "samples" / "samples_seed_0.png").exists()
