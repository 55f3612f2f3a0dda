"""Small pictures and archives of the formats of public data sets, made for tests."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()


def grey(rows: int, height: int = 3, width: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, height, width), dtype=np.uint8)


def png_bytes(array: np.ndarray, mode: str | None = None) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(buffer, "PNG")
    return buffer.getvalue()


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def emnist_members(part: str = "balanced", train_rows: int = 12, test_rows: int = 5) -> dict[str, bytes]:
    members = {}
    for half, rows, seed in (("train", train_rows, 0), ("test", test_rows, 1)):
        stem = f"gzip/emnist-{part}-{half}"
        members[f"{stem}-images-idx3-ubyte.gz"] = gzip.compress(idx_bytes(grey(rows, seed=seed)), mtime=0)
        members[f"{stem}-labels-idx1-ubyte.gz"] = gzip.compress(idx_bytes(np.arange(rows) % 5 + 1), mtime=0)
    return members


def cifar_records(rows: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.concatenate(
        [random.integers(0, 10, (rows, 1), dtype=np.uint8), random.integers(0, 256, (rows, 3072), dtype=np.uint8)], 1
    )


def cifar_files(rows: int = 4) -> dict[str, bytes]:
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    return {name: cifar_records(rows, seed).tobytes() for seed, name in enumerate(names)}


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in {"readme.html": b"<html>", **files}.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def omniglot_members(folder: str, alphabets: tuple[str, ...], seed: int = 0) -> dict[str, bytes]:
    random, members = np.random.default_rng(seed), {}
    for alphabet in alphabets:
        for character in ("character01", "character02"):
            for drawer in (1, 2, 18, 19, 20):
                paper = np.where(random.random((105, 105)) < 0.1, 0, 255).astype(np.uint8)
                members[f"{folder}/{alphabet}/{character}/0001_{drawer:02d}.png"] = png_bytes(paper, "1")
    return members


def write_omniglot(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    # In an order that is not that of the names.
    write_zip(folder / "images_background.zip", omniglot_members("images_background", ("Latin", "Greek")))
    write_zip(folder / "images_evaluation.zip", omniglot_members("images_evaluation", ("Tengwar",), 1))
    return folder
