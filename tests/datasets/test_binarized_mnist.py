from __future__ import annotations

import hashlib
import importlib.resources
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from bvae_cli.datasets.base import Splits
from bvae_cli.datasets.binarized_mnist import BinarizedMnist

from .refusal import refused

DATA = importlib.resources.files("bvae_cli.datasets") / "data"
REPOSITORY = Path(__file__).parents[2]
OFFICIAL = REPOSITORY / "../shared/data/mnist"


@pytest.fixture(scope="module")
def splits() -> Splits:
    return BinarizedMnist().load()


def test_the_bundled_file_has_the_sha256_that_its_readme_states():
    sha256 = hashlib.sha256((DATA / "binarized_mnist.npz").read_bytes()).hexdigest()
    assert f"`{sha256}`" in (DATA / "README.md").read_text(encoding="utf-8")


def test_the_readme_names_the_authors_and_the_licence_of_the_data():
    text = (DATA / "README.md").read_text(encoding="utf-8")
    for word in ("LeCun", "Cortes", "Burges", "Creative Commons Attribution-ShareAlike 3.0"):
        assert word in text
    assert BinarizedMnist.licence == "CC BY-SA 3.0"


def test_there_are_50000_training_10000_validation_and_10000_test_rows_of_784_bits(splits):
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (50_000, 10_000, 10_000)
    assert splits.feature_shape == (28, 28)
    for split in (splits.train, splits.validation, splits.test):
        assert split.dtype == torch.uint8
        assert split.shape[1] == splits.features == 784
        assert int(split.max()) == 1


def test_labels_are_the_official_ones(splits):
    assert splits.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert splits.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert splits.validation_labels[-1].item() == 8
    assert {labels.dtype for labels in (splits.train_labels, splits.validation_labels, splits.test_labels)} == {torch.int64}
    counts = torch.bincount(torch.cat([splits.train_labels, splits.validation_labels]))
    assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def test_the_values_are_those_of_the_first_release(splits):
    assert splits.digest() == "ab9a3d861b53477356be8b86e2dbce928277ac85fc96e20b28b44d56e48f07ec"


def test_the_first_image_stands_upright(splits):
    # The first digit is a five: its flag is at the upper right, its tail at the lower left.
    rows = ["".join(".#"[bit] for bit in row) for row in splits.train[0].view(splits.feature_shape).tolist()]
    assert rows[4:7] == ["............................", ".................##.###.....", "...........############....."]
    assert rows[23:25] == [".....########...............", "....#######................."]


def test_loading_takes_a_fraction_of_a_second(splits):
    started = time.perf_counter()
    BinarizedMnist().load()
    # Measured: below 0.1 s; the bound leaves room for a busy machine.
    assert time.perf_counter() - started < 2


def test_every_load_gives_tensors_of_its_own(splits):
    other = BinarizedMnist().load()
    other.train.zero_()
    assert int(splits.train[0].sum()) > 0


def test_a_damaged_installation_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.resources, "files", lambda package: tmp_path)
    with refused("There is no file", "binarized_mnist.npz"):
        BinarizedMnist().load()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "binarized_mnist.npz").write_bytes(b"half a file")
    with refused("is not an .npz archive, or is damaged", "binarized_mnist.npz"):
        BinarizedMnist().load()


@pytest.mark.slow
@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the official MNIST files are not on this machine")
def test_the_script_makes_the_same_arrays_from_the_official_files_and_the_same_bytes_twice(tmp_path):
    made = []
    for name in ("first.npz", "second.npz"):
        subprocess.run(
            [sys.executable, "scripts/make_binarized_mnist.py", str(OFFICIAL), "--output", str(tmp_path / name)],
            cwd=REPOSITORY,
            check=True,
        )
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]
    # Another zlib may compress otherwise, so the bundled file is compared by content.
    with np.load(tmp_path / "first.npz") as new, (DATA / "binarized_mnist.npz").open("rb") as file:
        bundled = np.load(file)
        assert sorted(new) == sorted(bundled)
        for name in new:
            assert np.array_equal(new[name], bundled[name])
