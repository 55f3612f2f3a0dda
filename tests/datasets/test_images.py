from __future__ import annotations

import importlib.util
import io
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bvae_cli.datasets.images import Images
from bvae_cli.errors import UsageError

from .pictures import grey, png_bytes
from .refusal import refused


def write(folder: Path, pictures: dict[str, np.ndarray]) -> Path:
    for name, picture in pictures.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "pictures", {f"{number:02d}.png": picture for number, picture in enumerate(grey(20))})


def rows_of(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pictures).flatten(1).float() / 255


def test_pictures_are_rows_in_the_order_of_their_names_divided_by_the_seed(folder: Path) -> None:
    splits = Images(path=folder, validation=0.2, test=0.1, split_seed=3).load()
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (14, 4, 2)
    assert splits.feature_shape == (3, 4)
    everything = splits.all_rows()
    assert everything[torch.arange(20)].equal(rows_of(grey(20)))
    assert splits.train_labels is None
    assert splits.problem() is None
    assert splits.digest() != Images(path=folder, split_seed=4).load().digest()


def test_sub_folders_are_labels_in_the_order_of_their_names(tmp_path: Path) -> None:
    pictures = grey(9)
    names = [f"{label}/{number}.png" for label in ("dog", "ant", "cat") for number in range(3)]
    folder = write(tmp_path / "pictures", dict(zip(names, pictures, strict=True)))
    splits = Images(path=folder).load()
    for rows, labels in ((splits.train, splits.train_labels), (splits.test, splits.test_labels)):
        for row, label in zip(rows, labels.tolist(), strict=True):
            (number,) = (rows_of(pictures) == row).all(1).nonzero().flatten().tolist()
            assert ["ant", "cat", "dog"][label] == names[number].split("/")[0]
    assert Images(path=folder, labels="none").load().train_labels is None


def test_folders_named_as_splits_are_the_splits(tmp_path: Path) -> None:
    pictures = grey(8)
    names = ["train/b/1.png", "train/a/2.png", "train/a/3.png", "validation/b/1.png", *(f"test/a/{n}.png" for n in range(4))]
    folder = write(tmp_path / "pictures", dict(zip(names, pictures, strict=True)))
    splits = Images(path=folder).load()
    assert splits.train.equal(rows_of(pictures[[1, 2, 0]]))
    assert splits.train_labels.tolist() == [0, 0, 1]
    assert splits.validation.equal(rows_of(pictures[3:4]))
    assert splits.test.equal(rows_of(pictures[4:]))
    assert splits.test_labels.tolist() == [0] * 4


def test_without_a_folder_for_validation_the_seed_takes_it_from_training(tmp_path: Path) -> None:
    names = [*(f"train/{n}.png" for n in range(8)), *(f"test/{n}.png" for n in range(2))]
    folder = write(tmp_path / "pictures", dict(zip(names, grey(10), strict=True)))
    splits = Images(path=folder, validation=0.25, split_seed=1).load()
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (6, 2, 2)
    assert splits.test.equal(rows_of(grey(10))[8:])
    assert splits.train_labels is None


def test_pictures_beside_folders_that_are_splits_or_labels_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "pictures", {"a/1.png": grey(1)[0], "b/1.png": grey(1)[0], "c.png": grey(1)[0]})
    with refused("c.png is in no folder that is a label", "labels=none"):
        Images(path=folder).load()
    assert len(Images(path=folder, labels="none").load().train) == 1
    write(folder, {"train/1.png": grey(1)[0], "test/1.png": grey(1)[0]})
    with refused("is in none of train, validation, test"):
        Images(path=folder).load()


def test_crop_fills_the_square_and_fit_shows_all_of_it_on_black(tmp_path: Path) -> None:
    wide = np.zeros((4, 8), np.uint8)
    wide[:, :4], wide[:, 4:] = 100, 200
    folder = write(tmp_path / "pictures", {f"{n}.png": wide for n in range(3)})
    crop = (Images(path=folder, size=4).load().train[0] * 255).round().view(4, 4)
    assert crop.tolist() == [[100, 100, 200, 200]] * 4
    fit = (Images(path=folder, size=4, resize="fit").load().train[0] * 255).round().view(4, 4)
    assert fit.tolist() == [[0] * 4, [100, 100, 200, 200], [100, 100, 200, 200], [0] * 4]


def test_colour_has_three_values_a_pixel_and_grey_is_their_luma(tmp_path: Path) -> None:
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 255
    folder = write(tmp_path / "pictures", {f"{n}.png": red for n in range(3)})
    splits = Images(path=folder, channels="colour").load()
    assert splits.feature_shape == (2, 2, 3)
    assert splits.train[0].tolist() == [1.0, 0.0, 0.0] * 4
    assert (Images(path=folder).load().train[0] * 255).round().tolist() == [76] * 4


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(tmp_path: Path, mode: str) -> None:
    clear = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    for number in range(3):
        path = tmp_path / f"{number}.png"
        if mode == "P":
            Image.new("P", (2, 2), 0).save(path, transparency=0)
        else:
            clear.convert(mode).save(path)
    assert Images(path=tmp_path).load().train[0].tolist() == [1.0] * 4


def test_a_photograph_is_turned_as_the_camera_was_held(tmp_path: Path) -> None:
    wide = Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 8, 0).repeat(8, 1))
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(3):
        wide.save(tmp_path / f"{number}.png", exif=exif)
    splits = Images(path=tmp_path).load()
    assert splits.feature_shape == (16, 8)
    assert splits.train[0].view(16, 8)[:8].sum() == 0


def test_binarize_is_that_of_mnist(folder: Path) -> None:
    bits = Images(path=folder, binarize="threshold").load()
    assert bits.all_rows()[torch.arange(20)].equal((torch.from_numpy(grey(20)).flatten(1) > 127).to(torch.uint8))
    assert Images(path=folder, binarize="fresh").load().fresh_bits


# Refused


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("bad.png", b"plain text", "is not a picture in one of"),
        ("bad.jpg", b"", "is empty"),
        ("bad.png", png_bytes(grey(1, 60, 60)[0])[:300], "is damaged or cut off"),
        ("bad.tif", b"II*\0" + bytes(60), "bad.tif"),
    ],
)
def test_a_file_that_is_no_picture_is_named(folder: Path, name: str, content: bytes, words: str) -> None:
    (folder / name).write_bytes(content)
    with refused(name, words):
        Images(path=folder).load()


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_an_animated_picture_or_one_of_several_pages_is_refused(folder: Path, suffix: str) -> None:
    frames = [Image.fromarray(picture) for picture in grey(2, 8, 8)]
    frames[0].save(folder / f"moving.{suffix}", save_all=True, append_images=frames[1:])
    with refused(f"moving.{suffix} is animated or has several pages"):
        Images(path=folder).load()


def png_of_16_bits(colour: bool) -> bytes:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + bytes(range(8 * (3 if colour else 1)))
    header = struct.pack(">IIBBBBB", 4, 3, 16, 2 if colour else 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * 3)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("colour", [False, True])
def test_a_picture_of_16_bits_is_refused_also_where_pillow_would_drop_half_of_them(folder: Path, colour: bool) -> None:
    (folder / "deep.png").write_bytes(png_of_16_bits(colour))
    with refused("deep.png has more than 8 bits a value"):
        Images(path=folder, channels="colour").load()


def test_pictures_of_numbers_with_a_point_are_refused(folder: Path) -> None:
    Image.fromarray(np.zeros((3, 4), np.float32)).save(folder / "deep.tif")
    with refused("deep.tif has more than 8 bits a value"):
        Images(path=folder).load()


def test_mixed_sizes_are_refused_unless_a_size_is_asked_for(folder: Path) -> None:
    write(folder, {"other.png": grey(1, 5, 6)[0]})
    with refused("other.png is 6 × 5 and not 4 × 3 pixels as", "00.png is", "size=28"):
        Images(path=folder).load()
    assert Images(path=folder, size=4).load().feature_shape == (4, 4)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for side in (12, 50):
        write(folder, {"huge.png": np.zeros((side, side), np.uint8)})
        with refused("huge.png has too many pixels: more than 100"), warnings.catch_warnings():
            warnings.simplefilter("error")
            Images(path=folder, size=4).load()


def test_pictures_that_would_fill_the_memory_are_refused(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr("bvae_cli.sources._LARGE", 2**23)
    for path in folder.iterdir():
        path.unlink()
    for number in range(30):
        Image.new("L", (1000, 1000)).save(folder / f"{number}.png")
    with refused("would unpack to"):
        Images(path=folder).load()
    assert Images(path=folder, size=4).load().features == 16


def test_links_out_of_the_folder_and_to_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png_bytes(grey(1)[0]))
    (folder / "inside.png").symlink_to(folder / "00.png")
    assert len(Images(path=folder).load().train) == 17
    (folder / "out.png").symlink_to(tmp_path / "secret.png")
    with refused("out.png is a link that leads out of"):
        Images(path=folder).load()
    (folder / "out.png").unlink()
    (folder / "loop").symlink_to(folder)
    with refused("loop is a link to a folder"):
        Images(path=folder).load()


def test_a_pipe_in_place_of_a_picture_is_refused_without_waiting(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    with refused("pipe.png is not a file"):
        Images(path=folder).load()


def test_hidden_files_and_other_files_are_passed_over(folder: Path) -> None:
    before = Images(path=folder).load().digest()
    (folder / "readme.txt").write_text("text")
    (folder / ".hidden.png").write_text("text")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "1.png").write_text("text")
    assert Images(path=folder).load().digest() == before


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with refused("There are no pictures in", ".png"):
        Images(path=tmp_path).load()
    with refused("There is no folder"):
        Images(path=tmp_path / "none").check()
    write(tmp_path, {"1.png": grey(1)[0], "2.png": grey(1)[0]})
    with refused("too few rows to divide: 2"):
        Images(path=tmp_path).load()


def test_without_pillow_the_command_that_installs_it_is_named(folder: Path, monkeypatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "PIL" else found(name))
    with pytest.raises(UsageError, match=r"pip install 'bvae-cli\[images\]'"):
        Images(path=folder).check()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(data=st.data())
def test_a_picture_with_damaged_bytes_is_read_or_refused_in_a_sentence(tmp_path: Path, data) -> None:
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]))
    buffer = io.BytesIO()
    Image.fromarray(grey(1, 16, 16)[0]).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    for path in tmp_path.iterdir():
        path.unlink()
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(content)
    try:
        assert Images(path=tmp_path, size=8).load().problem() is None
    except Exception:
        with refused("0.png"):
            Images(path=tmp_path, size=8).load()
