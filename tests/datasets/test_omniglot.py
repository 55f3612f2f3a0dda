from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bvae_cli.datasets.omniglot import Omniglot

from .pictures import omniglot_members, png_bytes, write_omniglot, write_zip
from .refusal import refused

# Archives of the real format, of its author's repository, where somebody has put them.
REAL = Path(os.environ.get("TESTS_OMNIGLOT", "nowhere"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_omniglot(tmp_path / "omniglot")


def test_drawers_divide_the_background_and_the_evaluation_set_is_the_test(folder: Path) -> None:
    splits = Omniglot(folder=folder).load()
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (12, 8, 10)
    assert splits.feature_shape == (28, 28)
    # Greek stands before Latin, and every character has its own number.
    assert splits.train_labels.tolist() == [label for label in range(4) for _ in range(3)]
    assert splits.validation_labels.tolist() == [label for label in range(4) for _ in range(2)]
    assert splits.test_labels.tolist() == [4] * 5 + [5] * 5
    assert splits.licence == "not stated"  # the archives of this test are not the official ones
    assert splits.problem() is None


def test_ink_is_one_and_a_small_pixel_is_the_mean_of_what_it_covers(folder: Path) -> None:
    whole = Omniglot(folder=folder, size=105).load()
    paper = Image.open(io.BytesIO(zipfile.ZipFile(folder / "images_evaluation.zip").read(_first(folder)))).convert("L")
    ink = torch.from_numpy(np.array(paper) == 0)
    assert whole.test[0].view(105, 105).equal(ink.float())
    small = Omniglot(folder=folder, size=21).load().test[0].view(21, 21)
    means = ink.float().view(21, 5, 21, 5).mean((1, 3))
    assert (small - means).abs().max() <= 1 / 255


def _first(folder: Path) -> str:
    return min(zipfile.ZipFile(folder / "images_evaluation.zip").namelist())


def test_files_beside_the_drawings_are_passed_over(folder: Path) -> None:
    before = Omniglot(folder=folder).load().digest()
    with zipfile.ZipFile(folder / "images_background.zip", "a") as archive:
        archive.writestr("__MACOSX/images_background/Latin/character01/._0001_01.png", b"no picture")
        archive.writestr("images_background/readme.txt", b"text")
    assert Omniglot(folder=folder).load().digest() == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no picture", "is not a picture"),
        (bytes(2**16 + 1), "is too large for a drawing"),
        (png_bytes(np.zeros((105, 105), np.uint8))[:60], "is damaged or cut off"),
    ],
)
def test_a_drawing_that_cannot_be_read_is_named(folder: Path, content: bytes, words: str) -> None:
    name = "images_evaluation/Tengwar/character01/0001_01.png"
    write_zip(folder / "images_evaluation.zip", {**omniglot_members("images_evaluation", ("Tengwar",)), name: content})
    with refused(name, words):
        Omniglot(folder=folder).load()


def test_archives_that_are_missing_or_lack_drawings_are_refused(folder: Path, tmp_path: Path) -> None:
    with refused("There is no folder", "images_background.zip and images_evaluation.zip"):
        Omniglot(folder=tmp_path / "none").check()
    write_zip(folder / "images_background.zip", {"readme.txt": b"text"})
    with refused("lack drawings for training"):
        Omniglot(folder=folder).load()
    (folder / "images_evaluation.zip").unlink()
    with refused("There is no file", "images_evaluation.zip"):
        Omniglot(folder=folder).check()


@pytest.mark.skipif(not REAL.is_dir(), reason="TESTS_OMNIGLOT names no folder with images_background.zip")
def test_real_drawings_are_read() -> None:
    splits = Omniglot(folder=REAL, binarize="threshold").load()
    assert splits.problem() is None
    assert 0.01 < float(splits.train.float().mean()) < 0.3
