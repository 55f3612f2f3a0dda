from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch

from bvae_cli.datasets import downloads
from bvae_cli.datasets.downloads import Download
from bvae_cli.datasets.emnist import Emnist

from .mirror import serving
from .pictures import emnist_members, grey, idx_bytes, write_zip
from .refusal import refused


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_zip(tmp_path / "gzip.zip", {**emnist_members(), **emnist_members("letters", 6, 3), "gzip/readme.txt": b"text"})
    return tmp_path


def test_pictures_stand_upright_and_keep_their_labels(folder: Path) -> None:
    splits = Emnist(folder=folder).load()
    upright = torch.from_numpy(grey(12).transpose(0, 2, 1).copy()).flatten(1).float() / 255
    assert splits.train.equal(upright[:10])
    assert splits.validation.equal(upright[10:])
    assert splits.feature_shape == (4, 3)
    assert splits.train_labels.tolist() == [1, 2, 3, 4, 5] * 2
    assert splits.problem() is None


def test_a_part_is_a_data_set_of_its_own(folder: Path) -> None:
    assert len(Emnist(folder=folder, part="letters").load().train) == 5
    with refused("There is no emnist-digits-train-images-idx3-ubyte.gz in", "gzip.zip"):
        Emnist(folder=folder, part="digits").load()


@pytest.mark.parametrize("below", ["", "gzip"])
@pytest.mark.parametrize("packed", [True, False])
def test_unpacked_files_are_the_same_data(tmp_path: Path, folder: Path, below: str, packed: bool) -> None:
    other = tmp_path / "other" / below
    other.mkdir(parents=True)
    for name, content in emnist_members().items():
        plain = Path(name).name.removesuffix("" if packed else ".gz")
        (other / plain).write_bytes(content if packed else gzip.decompress(content))
    unpacked = Emnist(folder=tmp_path / "other")
    unpacked.check()
    assert unpacked.load().digest() == Emnist(folder=folder).load().digest()


def test_thresholded_pictures_are_bits(folder: Path) -> None:
    splits = Emnist(folder=folder, binarize="threshold").load()
    assert splits.train.equal(torch.from_numpy((grey(12) > 127).transpose(0, 2, 1).copy()).flatten(1).to(torch.uint8)[:10])


def test_a_missing_folder_and_an_empty_one_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    with refused("There is no folder", "gzip.zip"):
        Emnist(folder=tmp_path / "none").check()
    with refused("There is no gzip.zip in", "emnist-balanced-train-images-idx3-ubyte.gz"):
        Emnist(folder=tmp_path).check()


@pytest.mark.parametrize("damage", [slice(0, -200), slice(100, None)], ids=["end", "start"])
def test_a_damaged_archive_is_refused(folder: Path, damage: slice) -> None:
    content = (folder / "gzip.zip").read_bytes()
    (folder / "gzip.zip").write_bytes(content[damage])
    with refused(str(folder / "gzip.zip")):
        Emnist(folder=folder).load()


def test_a_member_that_is_no_gzip_or_no_idx_file_is_named(folder: Path) -> None:
    members = emnist_members()
    name = "gzip/emnist-balanced-train-images-idx3-ubyte.gz"
    for content, words in (
        (b"plain", "is not gzip"),
        (gzip.compress(b"plain", mtime=0), "is not an IDX file of images"),
        (members[name][:-20], "is damaged or cut off"),
        (gzip.compress(idx_bytes(grey(3)), mtime=0), "holds 12 labels for 3 images"),
    ):
        write_zip(folder / "gzip.zip", {**members, name: content})
        with refused(words, "emnist-balanced-train"):
            Emnist(folder=folder).load()


def test_the_archive_is_fetched_once_and_then_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BVAE_DATA_DIR", str(tmp_path / "own"))
    content = write_zip(tmp_path / "served.zip", emnist_members()).read_bytes()
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with serving({"gzip.zip": content}) as mirror:
        monkeypatch.setattr(downloads, "_LARGEST_PIECE", 100)
        mirror.truncated_after = [500]
        here = Download("gzip.zip", f"{mirror.url}gzip.zip", len(content), hashlib.sha256(content).hexdigest())
        monkeypatch.setattr(Emnist, "downloads", (here,))
        first = Emnist().load()
    monkeypatch.setattr(pooch, "retrieve", None)
    assert Emnist().load().digest() == first.digest()
    assert (tmp_path / "own" / "emnist" / "gzip.zip").read_bytes() == content


def test_labels_are_whole_numbers_of_the_files(folder: Path) -> None:
    assert Emnist(folder=folder, part="letters").load().test_labels.equal(torch.tensor(np.arange(3) % 5 + 1))


def test_files_in_the_data_folder_are_the_official_archive_or_said_not_to_be_compared(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BVAE_DATA_DIR", str(tmp_path / "own"))
    own = tmp_path / "own" / "emnist"
    own.mkdir(parents=True)
    for name, content in emnist_members().items():
        (own / Path(name).name).write_bytes(content)
    assert Emnist().load().source.endswith(", not compared with the official ones")
    (folder / "gzip.zip").rename(own / "gzip.zip")
    with refused(f"{own / 'gzip.zip'} is not the official file", "emnist:folder=FOLDER"):
        Emnist().load()
