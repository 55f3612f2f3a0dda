"""MNIST, or other images in its file format (IDX): grey, thresholded, or with fresh bits in every epoch."""

from __future__ import annotations

import gzip
import logging
import math
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, ClassVar, Literal, cast

from pydantic import AfterValidator, Field

from bvae_cli import paths
from bvae_cli.datasets.base import DatasetSpec, Splits
from bvae_cli.errors import InputOutputError, reason_of
from bvae_cli.sources import open_file, reading, require_file, require_plausible

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
# sha256 of the official .gz files, as the mirror serves them.
OFFICIAL_SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
THRESHOLD = 127

_UNSIGNED_BYTE = 0x08
_CONTENT = {1: "labels", 3: "images"}
_GZIP_MAGIC = b"\x1f\x8b"
_AGAIN = "Copy or fetch it again."
_CHUNK_BYTES = 1 << 22
# Deflate makes at most 1032 bytes of one.
_MOST_OF_GZIP, _MOST_OF_A_LIE = 1100, 1 << 28
_OFFICIAL_VALIDATION_ROWS = 10_000
_EVALUATION_BITS_SEED = 0


class Mnist(DatasetSpec):
    """MNIST from the official IDX files: in a folder, in bvae's data folder, or fetched there from a public mirror.

    Validation rows are the last 10,000 of the training file where it has at least 20,000 rows, else its last sixth.
    Label files may be missing. With ``binarize="fresh"`` the training rows are probabilities, from which every epoch
    draws its own bits; the validation and test rows are bits drawn once.

    >>> Mnist(folder="mnist-files", binarize="threshold").binarize
    'threshold'
    """

    summary: ClassVar[str] = "MNIST, 28 x 28, from IDX files; fetched (11 MB) where there are none"
    licence: ClassVar[str] = "CC BY-SA 3.0"

    folder: Annotated[Path, AfterValidator(paths.expanded)] | None = Field(
        None, description="Folder with the official IDX files, .gz or not [default: bvae's own, fetched when needed]."
    )
    binarize: Literal["none", "threshold", "fresh"] = Field(
        "none", description="none: grey/255; threshold: bit = grey > 127; fresh: new bits in every training epoch."
    )

    def check(self) -> None:
        """Raise InputOutputError where ``folder`` is given and lacks the images; nothing is read or fetched."""
        if self.folder is None:
            return
        if not self.folder.is_dir():
            raise InputOutputError(
                f"There is no folder {self.folder}.", f"Make it, and put {_spoken_names()} there, .gz or not."
            )
        for part in ("train", "t10k"):
            require_file(_required_images(self.folder, part))

    def load(self) -> Splits:
        """Read, and where needed fetch, the files.

        Raises InputOutputError for a missing or damaged file, and where the files can be neither found nor fetched.
        """
        self.check()
        folder = self.folder or _own_folder()
        train, train_labels = _read_part(folder, "train")
        test, test_labels = _read_part(folder, "t10k")
        if train.shape[1:] != test.shape[1:]:
            raise InputOutputError(
                f"Training and test images in {folder} have different sizes: {_sizes(train.shape[1:])} and "
                f"{_sizes(test.shape[1:])}.",
                "Put the files of one data set into the folder.",
            )
        if len(train) < 2:
            raise InputOutputError(f"The training images in {folder} are too few: {len(train)}.", "At least 2 are needed.")
        kept = len(train) - validation_rows(len(train))
        return Splits(
            train=self._values(train[:kept], training=True),
            validation=self._values(train[kept:]),
            test=self._values(test),
            feature_shape=train.shape[1:],
            source=f"IDX files in {folder}",
            # Other data sets come in files of the same names, so only what we fetch is known to be MNIST.
            licence="not stated" if self.folder else self.licence,
            train_labels=None if train_labels is None else _as_labels(train_labels[:kept]),
            validation_labels=None if train_labels is None else _as_labels(train_labels[kept:]),
            test_labels=None if test_labels is None else _as_labels(test_labels),
            fresh_bits=self.binarize == "fresh",
        )

    def _values(self, images: NDArray[np.uint8], *, training: bool = False) -> Tensor:
        import torch

        rows = torch.from_numpy(images).flatten(start_dim=1)
        if self.binarize == "threshold":
            return (rows > THRESHOLD).to(torch.uint8)
        grey = rows.float().div_(255)
        if self.binarize == "none" or training:
            return grey
        generator = torch.Generator().manual_seed(_EVALUATION_BITS_SEED)
        return (torch.rand(grey.shape, generator=generator) < grey).to(torch.uint8)


def validation_rows(rows: int) -> int:
    """Return how many of the last training rows are for validation.

    >>> validation_rows(60_000), validation_rows(600)
    (10000, 100)
    """
    return _OFFICIAL_VALIDATION_ROWS if rows >= 2 * _OFFICIAL_VALIDATION_ROWS else max(1, rows // 6)


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes with so many dimensions: 3 for images, 1 for labels. ``.gz`` is unpacked.

    Raises InputOutputError where the file is missing, empty, not gzip though its name says so, no IDX file, of other
    dimensions, or where it holds less or more than its header says. Memory follows the file, never the header alone.
    """
    import numpy as np

    require_file(path)
    with reading(path):
        try:
            with _opened(path) as stream:
                shape = _read_header(stream, path, dimensions)
                content = _read_content(stream, path, shape)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputOutputError(f"{path} is damaged or cut off: {error}.", _AGAIN) from error
    return np.frombuffer(content, np.uint8).reshape(shape)


def _opened(path: Path) -> BinaryIO:
    if path.suffix != ".gz":
        return open_file(path)
    with open_file(path) as stream:
        if stream.read(len(_GZIP_MAGIC)) != _GZIP_MAGIC:
            raise InputOutputError(
                f"{path} is not gzip, though its name ends in .gz.", "Take .gz off its name if it is unpacked already."
            )
    return cast(BinaryIO, gzip.open(path))


def _read_header(stream: BinaryIO, path: Path, dimensions: int) -> tuple[int, ...]:
    magic = stream.read(4)
    if not magic:
        raise InputOutputError(f"{path} is empty.", _AGAIN)
    expected = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    if magic != expected:
        raise _wrong_magic(path, magic, expected)
    sizes = stream.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise InputOutputError(f"{path} ends within its header.", _AGAIN)
    shape = struct.unpack(f">{dimensions}I", sizes)
    if not all(shape):
        raise InputOutputError(f"{path} holds nothing: its header says {_sizes(shape)}.", "Give a file with rows.")
    return shape


def _wrong_magic(path: Path, magic: bytes, expected: bytes) -> InputOutputError:
    found, wanted = _CONTENT.get(magic[-1]), _CONTENT[expected[-1]]
    if magic[:3] == expected[:3] and found:
        return InputOutputError(f"{path} holds {found}, not {wanted}.", f"Put the file of {wanted} in its place.")
    hint = f"An IDX file of {wanted} in unsigned bytes starts with 0x{expected.hex()}."
    if magic.startswith(_GZIP_MAGIC):
        hint = "It is compressed: add .gz to its name."
    return InputOutputError(f"{path} is not an IDX file of {wanted}: its magic number is 0x{magic.hex()}.", hint)


def _read_content(stream: BinaryIO, path: Path, shape: tuple[int, ...]) -> bytearray:
    claimed, packed = math.prod(shape), path.stat().st_size
    readable = claimed
    if claimed > _MOST_OF_GZIP * packed:  # it cannot be true, and is read so far that it can be said how much is there
        readable = min(claimed, _MOST_OF_A_LIE)
    elif path.suffix == ".gz":
        require_plausible(claimed, packed, str(path))
    content = bytearray()
    while len(content) < readable and (chunk := stream.read(min(_CHUNK_BYTES, readable - len(content)))):
        content += chunk
    if len(content) < claimed:
        raise InputOutputError(
            f"{path} is cut off: its header says {_sizes(shape)} = {claimed} values, the file holds {len(content)}.",
            _AGAIN,
        )
    if stream.read(1):
        raise InputOutputError(f"{path} holds more than the {_sizes(shape)} = {claimed} values of its header.", _AGAIN)
    return content


def _read_part(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    images = read_idx(_required_images(folder, part), 3)
    labels_path = _found(folder, f"{part}-labels-idx1-ubyte")
    if labels_path is None:
        return images, None
    labels = read_idx(labels_path, 1)
    if len(labels) != len(images):
        raise InputOutputError(
            f"{labels_path} holds {len(labels)} labels for {len(images)} images.",
            "Put the files of one data set there.",
        )
    return images, labels


def _as_labels(labels: NDArray[np.uint8]) -> Tensor:
    import torch

    return torch.from_numpy(labels).long()


def _required_images(folder: Path, part: str) -> Path:
    name = f"{part}-images-idx3-ubyte"
    path = _found(folder, name)
    if path is None:
        raise InputOutputError(f"There is no {name} in {folder}, nor {name}.gz.", f"Put {_spoken_names()} there.")
    return path


def _found(folder: Path, name: str) -> Path | None:
    # Some archives of MNIST write the name with a dot: train-images.idx3-ubyte.
    spellings = (name, name.replace("-idx", ".idx"))
    candidates = [folder / f"{spelling}{suffix}" for spelling in spellings for suffix in ("", ".gz")]
    return next((path for path in candidates if path.is_file()), None)


def _own_folder() -> Path:
    """Return bvae's own folder of MNIST, its files fetched where the images are missing."""
    data = paths.data_dir()
    if data is None:
        raise InputOutputError(
            "There is no home folder to keep MNIST in.", "Name a folder in BVAE_DATA_DIR, or its files: mnist:folder=FOLDER."
        )
    folder = data / "mnist"
    if not all(_found(folder, f"{part}-images-idx3-ubyte") for part in ("train", "t10k")):
        for name, sha256 in OFFICIAL_SHA256.items():
            _fetch(name, sha256, folder)
    return folder


def _fetch(name: str, sha256: str, folder: Path) -> None:
    import pooch

    pooch.get_logger().setLevel(logging.getLogger(__name__).getEffectiveLevel())
    url = f"{MIRROR}{name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputOutputError(
            f"The folder {folder} cannot be made: {reason_of(error)}.", "Name another in BVAE_DATA_DIR."
        ) from error
    by_hand = f"put {_spoken_names()} into {folder} by hand"
    try:
        pooch.retrieve(url, known_hash=f"sha256:{sha256}", fname=name, path=folder)
    except ValueError as error:
        raise InputOutputError(
            f"What {url} serves is not the official file: its sha256 differs.", f"Try again later, or {by_hand}."
        ) from error
    except OSError as error:
        raise InputOutputError(
            f"{url} cannot be fetched ({type(error).__name__}).", f"Go online and try again, or {by_hand}."
        ) from error


def _spoken_names() -> str:
    *most, last = OFFICIAL_SHA256
    return f"{', '.join(most)} and {last}"


def _sizes(shape: tuple[Any, ...]) -> str:
    return " × ".join(map(str, shape))
