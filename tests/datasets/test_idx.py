from __future__ import annotations

import gzip
import hashlib
import logging
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pooch
import pytest
import requests
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bvae_cli.datasets.binarized_mnist import BinarizedMnist
from bvae_cli.datasets.downloads import Download
from bvae_cli.datasets.grey import validation_rows
from bvae_cli.datasets.idx import FashionMnist, Kmnist, Mnist, read_idx

from .mirror import Mirror, serving
from .pictures import grey, idx_bytes
from .refusal import refused

OFFICIAL = Path(__file__).parents[2] / "../shared/data/mnist"
with_official_files = pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the official MNIST files are not on this machine")


def write_folder(folder: Path, train_rows: int = 12, test_rows: int = 5, *, packed: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "train-images-idx3-ubyte": grey(train_rows),
        "train-labels-idx1-ubyte": np.arange(train_rows) % 10,
        "t10k-images-idx3-ubyte": grey(test_rows, seed=1),
        "t10k-labels-idx1-ubyte": np.arange(test_rows) % 10,
    }
    for name, array in files.items():
        content = idx_bytes(array)
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "mnist")


@pytest.fixture
def own_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("BVAE_DATA_DIR", str(tmp_path / "own"))
    return tmp_path / "own" / "mnist"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_, **__):
        raise requests.exceptions.ConnectionError("no route to host")

    monkeypatch.setattr(pooch, "retrieve", offline)


# Reading one file


@pytest.mark.parametrize("array", [grey(5), np.arange(7, dtype=np.uint8)], ids=["images", "labels"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_an_idx_file_is_read_as_written(tmp_path, array, suffix):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(gzip.compress(idx_bytes(array)) if suffix else idx_bytes(array))
    found = read_idx(path, array.ndim)
    assert found.dtype == np.uint8
    assert np.array_equal(found, array)


def test_a_missing_file_is_refused_with_the_nearest_name(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").touch()
    with refused("There is no file", "train-images-idx3-ubite", "Did you mean", "train-images-idx3-ubyte?"):
        read_idx(tmp_path / "train-images-idx3-ubite", 3)


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    with refused(str(tmp_path), "is not a file"):
        read_idx(tmp_path, 3)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty", b"", ["is empty"]),
        ("empty.gz", gzip.compress(b"", mtime=0), ["is empty"]),
        ("wrong_magic", b"\x89PNG" + bytes(50), ["is not an IDX file of images", "0x89504e47", "0x00000803"]),
        ("wrong_type", b"\0\0\x0d\3" + bytes(50), ["is not an IDX file of images", "0x00000d03", "unsigned bytes"]),
        ("two_dimensions", b"\0\0\x08\2" + bytes(50), ["is not an IDX file of images", "0x00000802"]),
        ("one_byte", b"\0", ["is not an IDX file of images", "0x00"]),
        ("labels", idx_bytes(np.arange(9)), ["holds labels, not images"]),
        ("packed", gzip.compress(idx_bytes(grey(2)), mtime=0), ["is not an IDX file", "compressed", "add .gz"]),
        ("plain.gz", idx_bytes(grey(2)), ["is not gzip", "Take .gz off"]),
        ("short_header", idx_bytes(grey(2))[:9], ["ends within its header"]),
        ("cut", idx_bytes(grey(2))[:-1], ["is cut off", "2 × 3 × 4 = 24 values", "holds 23"]),
        ("cut.gz", gzip.compress(idx_bytes(grey(40)), mtime=0)[:-30], ["is damaged or cut off"]),
        ("damaged.gz", gzip.compress(idx_bytes(grey(2)), mtime=0)[:-8] + bytes(8), ["is damaged or cut off"]),
        ("long", idx_bytes(grey(2)) + b"\0", ["holds more than the 2 × 3 × 4 = 24 values"]),
        ("no_rows", idx_bytes(grey(0)), ["holds nothing", "0 × 3 × 4"]),
        ("no_pixels", idx_bytes(grey(3, 0)), ["holds nothing", "3 × 0 × 4"]),
    ],
)
def test_a_bad_file_of_images_is_refused(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    with refused(str(path), *words):
        read_idx(path, 3)


def test_images_in_place_of_labels_are_refused(tmp_path):
    path = tmp_path / "labels"
    path.write_bytes(idx_bytes(grey(2)))
    with refused("holds images, not labels"):
        read_idx(path, 1)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_header_that_claims_more_than_memory_holds_is_refused_by_what_is_there(tmp_path, suffix):
    content = bytes([0, 0, 8, 3]) + struct.pack(">3I", *[2**32 - 1] * 3) + bytes(100)
    path = tmp_path / f"file{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    with refused("is cut off", "4294967295 × 4294967295 × 4294967295", "holds 100"):
        read_idx(path, 3)


def test_a_file_that_the_system_does_not_let_us_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(idx_bytes(grey(2)))

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with refused(str(path), "cannot be read: permission denied"):
        read_idx(path, 3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_every_proper_beginning_of_an_idx_file_is_refused(tmp_path, data):
    content = idx_bytes(grey(2))
    if data.draw(st.booleans(), "packed"):
        content, path = gzip.compress(content), tmp_path / "file.gz"
    else:
        path = tmp_path / "file"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1), "length")])
    with refused(str(path)):
        read_idx(path, 3)


# The data set


@pytest.mark.parametrize("packed", [True, False], ids=["gz", "plain"])
def test_a_folder_gives_grey_rows_in_order_with_labels(tmp_path, packed):
    splits = Mnist(folder=write_folder(tmp_path / "mnist", packed=packed)).load()
    images = torch.from_numpy(grey(12)).flatten(1).float() / 255
    assert splits.train.equal(images[:10])
    assert splits.validation.equal(images[10:])
    assert splits.test.equal(torch.from_numpy(grey(5, seed=1)).flatten(1).float() / 255)
    assert splits.feature_shape == (3, 4)
    assert splits.train_labels.tolist() == list(range(10))
    assert splits.validation_labels.tolist() == [0, 1]
    assert splits.test_labels.tolist() == [0, 1, 2, 3, 4]
    assert splits.train_labels.dtype == torch.int64
    assert not splits.fresh_bits
    assert splits.licence == "not stated"
    assert str(tmp_path) in splits.source


def test_names_with_a_dot_are_read_as_well(folder):
    for path in list(folder.iterdir()):
        path.rename(folder / path.name.replace("-idx", ".idx"))
    assert len(Mnist(folder=folder).load().test) == 5


def test_threshold_gives_bits_that_are_one_above_127(folder):
    splits = Mnist(folder=folder, binarize="threshold").load()
    assert splits.train.dtype == torch.uint8
    assert splits.train.equal(torch.from_numpy((grey(12) > 127).astype(np.uint8)).flatten(1)[:10])
    assert not splits.fresh_bits


def test_fresh_gives_probabilities_for_training_and_bits_drawn_once_for_the_rest(folder):
    splits = Mnist(folder=folder, binarize="fresh").load()
    plain = Mnist(folder=folder).load()
    assert splits.fresh_bits
    assert splits.train.equal(plain.train)
    for bits, probabilities in ((splits.validation, plain.validation), (splits.test, plain.test)):
        assert bits.dtype == torch.uint8
        assert int(bits.max()) <= 1
        assert not bits[probabilities == 0].any()
        assert bits[probabilities == 1].all()
    assert splits.digest() == Mnist(folder=folder, binarize="fresh").load().digest()


def test_bits_drawn_once_follow_the_grey_values(tmp_path):
    folder = write_folder(tmp_path / "mnist", test_rows=3000)
    bits, probabilities = (Mnist(folder=folder, binarize=how).load().test.float() for how in ("fresh", "none"))
    deviation = (probabilities * (1 - probabilities)).sum().sqrt()
    assert abs(bits.sum() - probabilities.sum()) < 5 * deviation


@pytest.mark.parametrize(
    ("rows", "expected"), [(2, 1), (11, 1), (12, 2), (600, 100), (19_999, 3333), (20_000, 10_000), (60_000, 10_000)]
)
def test_validation_is_the_last_10000_rows_or_the_last_sixth(rows, expected):
    assert validation_rows(rows) == expected


@given(rows=st.integers(2, 100_000))
def test_validation_always_leaves_rows_for_training(rows):
    assert 1 <= validation_rows(rows) < rows


def test_label_files_may_be_missing(folder):
    for path in folder.glob("*labels*"):
        path.unlink()
    splits = Mnist(folder=folder).load()
    assert splits.train_labels is splits.validation_labels is splits.test_labels is None


def test_a_number_of_labels_that_differs_from_that_of_the_images_is_refused(folder):
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(np.arange(4))))
    with refused("t10k-labels-idx1-ubyte.gz holds 4 labels for 5 images"):
        Mnist(folder=folder).load()


def test_test_images_of_another_size_are_refused(folder):
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(grey(5, 4, 4))))
    with refused("different sizes: 3 × 4 and 4 × 4"):
        Mnist(folder=folder).load()


def test_a_single_training_image_is_refused(tmp_path):
    with refused("too few: 1", "At least 2"):
        Mnist(folder=write_folder(tmp_path / "mnist", train_rows=1)).load()


@pytest.mark.parametrize("step", [Mnist.check, Mnist.load], ids=["check", "load"])
def test_a_missing_folder_or_missing_images_are_refused(tmp_path, step):
    with refused(f"There is no folder {tmp_path / 'nowhere'}", "train-images-idx3-ubyte.gz"):
        step(Mnist(folder=tmp_path / "nowhere"))
    (tmp_path / "here").mkdir()
    with refused(f"There is no train-images-idx3-ubyte in {tmp_path / 'here'}", "t10k-labels-idx1-ubyte.gz"):
        step(Mnist(folder=tmp_path / "here"))


def test_check_accepts_a_complete_folder_and_looks_for_no_network_without_one(folder, own_data, no_network):
    Mnist(folder=folder).check()
    Mnist().check()


def test_an_unknown_way_to_binarize_is_refused():
    with pytest.raises(ValidationError, match="fresh"):
        Mnist(binarize="sometimes")


# Without a folder


KNOWN = [Mnist, FashionMnist, Kmnist]


def test_files_in_the_data_folder_are_read_without_the_network(own_data, no_network):
    folder = own_data.parent / "fashion-mnist"
    write_folder(folder, packed=False)
    splits = FashionMnist().load()
    assert len(splits.train) == 10
    # Only of MNIST it is known what the files hold.
    assert splits.licence == "not stated"
    assert splits.source == f"IDX files in {folder}, not compared with the official ones"
    write_folder(own_data, packed=False)
    with refused("train-images-idx3-ubyte is not the official file"):
        Mnist().load()


def test_other_files_under_the_official_names_are_refused_in_the_data_folder(own_data, no_network):
    write_folder(own_data)
    path = own_data / "train-images-idx3-ubyte.gz"
    with refused(f"{path} is not the official file: its sha256 differs", "mnist:folder=FOLDER", "Remove it"):
        Mnist().load()


def test_the_licence_is_told_of_official_files_only_wherever_they_are(mirror, own_data, tmp_path):
    served = tmp_path / "served"
    assert Mnist(folder=served).load().licence == "CC BY-SA 3.0"
    name = "t10k-labels-idx1-ubyte.gz"
    (served / name).write_bytes(gzip.compress(idx_bytes(np.zeros(5))))
    assert Mnist(folder=served).load().licence == "not stated"
    (served / name).rename(served / "labels")
    assert Mnist(folder=served).load().licence == "CC BY-SA 3.0"
    assert own_data.exists() is False


@pytest.mark.parametrize("kind", KNOWN)
def test_offline_the_words_name_the_address_and_the_folder_for_the_files(own_data, no_network, kind):
    first = kind.downloads[0].url
    with refused(f"{first} cannot be fetched", "Go online", "by hand", str(own_data.parent / kind.own_name)):
        kind().load()


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A mirror on this machine, in place of the public ones, with small files of their own sha256."""
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    served = {path.name: path.read_bytes() for path in write_folder(tmp_path / "served").iterdir()}
    with serving(served) as mirror:
        for kind in KNOWN:
            here = tuple(
                Download(name, f"{mirror.url}{name}", len(served[name]), hashlib.sha256(served[name]).hexdigest())
                for name in (download.name for download in kind.downloads)
            )
            monkeypatch.setattr(kind, "downloads", here)
        yield mirror


@pytest.mark.parametrize("kind", KNOWN)
def test_missing_files_are_fetched_once_and_then_found(mirror, own_data, monkeypatch, kind):
    first = kind().load()
    folder = own_data.parent / kind.own_name
    assert sorted(path.name for path in folder.iterdir()) == sorted(download.name for download in kind.downloads)
    assert first.licence == kind.licence
    assert str(folder) in first.source
    monkeypatch.setattr(pooch, "retrieve", None)
    assert kind().load().digest() == first.digest()


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
def test_the_download_talks_only_where_the_program_lets_it(mirror, own_data, monkeypatch, level):
    monkeypatch.setattr(logging.getLogger("bvae_cli"), "level", level)
    logging.getLogger("bvae_cli.datasets.downloads").manager._clear_cache()
    Mnist().load()
    assert pooch.get_logger().level == level


def test_a_fetched_file_with_another_sha256_is_refused_and_not_kept(mirror, own_data):
    name = "train-images-idx3-ubyte.gz"
    mirror.files[name] = mirror.files[name][:-1] + b"?"
    with refused("is not the official file: its sha256 differs", name):
        Mnist().load()
    assert not own_data.exists() or not list(own_data.iterdir())


@pytest.mark.parametrize("kind", KNOWN)
def test_the_four_official_files_are_named_with_a_size_and_a_sha256_each(kind):
    assert [download.name for download in kind.downloads] == [
        f"{part}-{content}-idx{dimensions}-ubyte.gz"
        for part in ("train", "t10k")
        for content, dimensions in (("images", 3), ("labels", 1))
    ]
    assert all(len(bytes.fromhex(download.sha256)) == 32 for download in kind.downloads)
    assert all(download.url.endswith(f"/{download.name}") for download in kind.downloads)
    assert f"fetched ({round(sum(download.size for download in kind.downloads) / 1e6)} MB)" in kind.summary


# The official files


@with_official_files
def test_the_official_files_thresholded_are_the_bundled_data_set():
    splits = Mnist(folder=OFFICIAL, binarize="threshold").load()
    bundled = BinarizedMnist().load()
    assert splits.digest() == bundled.digest()
    assert splits.validation_labels.equal(bundled.validation_labels)


@with_official_files
def test_the_official_files_in_grey_have_the_known_mean():
    splits = Mnist(folder=OFFICIAL).load()
    both = torch.cat([splits.train, splits.validation])
    assert both.mean(dtype=torch.float64).item() == pytest.approx(0.1306604762738429, abs=1e-8)
    assert splits.train.dtype == torch.float32
