from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bvae_cli.datasets.cifar10 import Cifar10

from .pictures import cifar_files, cifar_records, write_tar
from .refusal import refused

ARCHIVE = "cifar-10-binary.tar.gz"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tar(tmp_path / ARCHIVE, cifar_files())
    return tmp_path


def planes(rows: int, seed: int) -> np.ndarray:
    return cifar_records(rows, seed)[:, 1:].reshape(rows, 3, 32, 32)


def test_a_row_is_height_times_width_times_colour(folder: Path) -> None:
    splits = Cifar10(folder=folder).load()
    assert splits.feature_shape == (32, 32, 3)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (17, 3, 4)
    picture = (splits.test[2] * 255).round().view(32, 32, 3)
    assert picture.permute(2, 0, 1).equal(torch.from_numpy(planes(4, 5)[2]).float())
    assert splits.test_labels.tolist() == cifar_records(4, 5)[:, 0].tolist()
    assert splits.train_labels[:4].tolist() == cifar_records(4, 0)[:, 0].tolist()
    assert splits.problem() is None


def test_grey_is_what_pillow_makes_of_the_colours(folder: Path) -> None:
    splits = Cifar10(folder=folder, channels="grey").load()
    assert splits.feature_shape == (32, 32)
    picture = Image.fromarray(planes(4, 5)[1].transpose(1, 2, 0).copy()).convert("L")
    assert (splits.test[1] * 255).round().to(torch.uint8).view(32, 32).equal(torch.from_numpy(np.array(picture)))


def test_unpacked_files_are_the_same_data(folder: Path, tmp_path: Path) -> None:
    for below in ("here", "there/cifar-10-batches-bin"):
        place = tmp_path / below
        place.mkdir(parents=True)
        for name, content in cifar_files().items():
            (place / name).write_bytes(content)
        spec = Cifar10(folder=tmp_path / below.split("/")[0])
        spec.check()
        assert spec.load().digest() == Cifar10(folder=folder).load().digest()


def test_the_version_of_pickles_is_not_read(tmp_path: Path) -> None:
    place = tmp_path / "cifar-10-batches-py"
    place.mkdir()
    (place / "data_batch_1").write_bytes(pickle.dumps({b"data": []}))
    with refused("There is no cifar-10-binary.tar.gz in", "pickles, which are never read"):
        Cifar10(folder=tmp_path).check()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data_batch_2.bin": b"x" * 3072}, "is cut off or no file of CIFAR-10"),
        ({"data_batch_2.bin": b""}, "is cut off or no file of CIFAR-10"),
        ({"test_batch.bin": bytes([3]) + bytes(3072) + bytes([10]) + bytes(3072)}, "Record 2 of test_batch.bin in"),
        ({"test_batch.bin": None}, "There is no test_batch.bin in"),
    ],
)
def test_files_that_are_not_of_this_format_are_refused(tmp_path: Path, change: dict, words: str) -> None:
    files = {name: content for name, content in {**cifar_files(), **change}.items() if content is not None}
    write_tar(tmp_path / ARCHIVE, files)
    with refused(words):
        Cifar10(folder=tmp_path).load()


def test_a_damaged_archive_is_refused(folder: Path) -> None:
    content = (folder / ARCHIVE).read_bytes()
    for damaged in (content[:-5000], b"plain", gzip.compress(b"no tar" * 500), content[:200] + bytes(50) + content[250:]):
        (folder / ARCHIVE).write_bytes(damaged)
        with refused(ARCHIVE):
            Cifar10(folder=folder).load()


def test_an_archive_that_unpacks_to_far_more_than_it_is_is_given_up(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("bvae_cli.sources._LARGE", 2**22)
    write_tar(tmp_path / ARCHIVE, {"zeros": bytes(2**25)})
    with refused("would unpack to"):
        Cifar10(folder=tmp_path).load()


def test_a_link_in_the_archive_is_no_file(tmp_path: Path) -> None:
    import io
    import tarfile

    with tarfile.open(tmp_path / ARCHIVE, "w:gz") as archive:
        link = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        for name, content in list(cifar_files().items())[:-1]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    with refused("There is no test_batch.bin"):
        Cifar10(folder=tmp_path).load()
