"""MNIST, its relatives, or other images in their file format (IDX): grey, thresholded, or with fresh bits in every epoch."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, ClassVar, cast

from pydantic import AfterValidator, Field

from bvae_cli import paths
from bvae_cli.datasets.base import DatasetSpec, Splits
from bvae_cli.datasets.downloads import (
    NOT_COMPARED,
    Download,
    are_official,
    fetch,
    own_folder,
    require_official,
    spoken_names,
)
from bvae_cli.datasets.grey import BINARIZE, Binarize, Part, training_and_test
from bvae_cli.errors import InputOutputError
from bvae_cli.sources import open_file, reading, require_file, require_plausible

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Sizes and sha256 of the official .gz files: tensorflow/datasets, url_checksums/mnist.txt.
_MNIST = (
    ("train-images-idx3-ubyte.gz", 9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    ("train-labels-idx1-ubyte.gz", 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    ("t10k-images-idx3-ubyte.gz", 1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    ("t10k-labels-idx1-ubyte.gz", 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
)
# sha256 of what these hold: copies go round that others have packed.
_MNIST_UNPACKED = (
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)
# Likewise url_checksums/fashion_mnist.txt; the address serves no https.
_FASHION_MNIST = (
    ("train-images-idx3-ubyte.gz", 26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
    ("train-labels-idx1-ubyte.gz", 29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
    ("t10k-images-idx3-ubyte.gz", 4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
    ("t10k-labels-idx1-ubyte.gz", 5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
)
# Likewise url_checksums/kmnist.txt.
_KMNIST = (
    ("train-images-idx3-ubyte.gz", 18_165_135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),
    ("train-labels-idx1-ubyte.gz", 29_497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
    ("t10k-images-idx3-ubyte.gz", 3_041_136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
    ("t10k-labels-idx1-ubyte.gz", 5_120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
)

_UNSIGNED_BYTE = 0x08
_CONTENT = {1: "labels", 3: "images"}
_GZIP_MAGIC = b"\x1f\x8b"
_AGAIN = "Copy or fetch it again."
_CHUNK_BYTES = 1 << 22
# Deflate makes at most 1032 bytes of one.
_MOST_OF_GZIP, _MOST_OF_A_LIE = 1100, 1 << 28


_PARTS = ("train", "t10k")


def _at(address: str, files: tuple[tuple[str, int, str], ...], unpacked: tuple[str, ...] = ()) -> tuple[Download, ...]:
    contents = unpacked or ("",) * len(files)
    return tuple(
        Download(name, f"{address}{name}", size, sha256, content)
        for (name, size, sha256), content in zip(files, contents, strict=True)
    )


class IdxFolder(DatasetSpec):
    """Images in four IDX files: in a folder, in bvae's data folder, or fetched there.

    Validation rows are the last 10,000 of the training file where it has at least 20,000 rows, else its last sixth.
    Label files may be missing. With ``binarize="fresh"`` the training rows are probabilities, from which every epoch
    draws its own bits; the validation and test rows are bits drawn once.
    """

    own_name: ClassVar[str]
    downloads: ClassVar[tuple[Download, ...]]

    folder: Annotated[Path, AfterValidator(paths.expanded)] | None = Field(
        None, description="Folder with the official IDX files, .gz or not [default: bvae's own, fetched when needed]."
    )
    binarize: Binarize = BINARIZE

    def check(self) -> None:
        """Raise InputOutputError where ``folder`` is given and lacks the images; nothing is read or fetched."""
        if self.folder is None:
            return
        if not self.folder.is_dir():
            raise InputOutputError(
                f"There is no folder {self.folder}.", f"Make it, and put {spoken_names(self.downloads)} there, .gz or not."
            )
        for part in _PARTS:
            self._required_images(self.folder, part)

    def load(self) -> Splits:
        """Read, and where needed fetch, the files.

        Raises InputOutputError for a missing or damaged file, and where the files can be neither found nor fetched.
        """
        self.check()
        folder = self.folder or self._own_folder()
        known = self._is_known(folder)
        train, test = (self._read_part(folder, part) for part in _PARTS)
        return training_and_test(
            train,
            test,
            self.binarize,
            where=str(folder),
            source=f"IDX files in {folder}{'' if known or self.folder else NOT_COMPARED}",
            # Other data sets come in files of the same names.
            licence=self.licence if known else "not stated",
        )

    def _own_folder(self) -> Path:
        folder = own_folder(self.own_name)
        if not all(_found(folder, f"{part}-images-idx3-ubyte") for part in _PARTS):
            fetch(self.downloads, folder)
        else:
            require_official(self.downloads, folder)
        return folder

    def _is_known(self, folder: Path) -> bool:
        """Say whether all files that are read are the official ones; those in bvae's own folder are looked at before."""
        files = [
            path
            for part in _PARTS
            for content in ("images-idx3", "labels-idx1")
            if (path := _found(folder, f"{part}-{content}-ubyte")) is not None
        ]
        if self.folder is not None:
            return are_official(files, self.downloads)
        return {path.name for path in files} <= {name for download in self.downloads for name in download.names}

    def _read_part(self, folder: Path, part: str) -> Part:
        images = read_idx(self._required_images(folder, part), 3)
        labels_path = _found(folder, f"{part}-labels-idx1-ubyte")
        if labels_path is None:
            return Part(images, None)
        return labelled(images, read_idx(labels_path, 1), str(labels_path))

    def _required_images(self, folder: Path, part: str) -> Path:
        name = f"{part}-images-idx3-ubyte"
        path = _found(folder, name)
        if path is None:
            raise InputOutputError(
                f"There is no {name} in {folder}, nor {name}.gz.",
                f"Put {spoken_names(self.downloads)} there; a folder of pictures is named images:path={folder}.",
            )
        require_file(path)
        return path


class Mnist(IdxFolder):
    """MNIST from the official IDX files: in a folder, in bvae's data folder, or fetched there from a public mirror.

    >>> Mnist(folder="mnist-files", binarize="threshold").binarize
    'threshold'
    """

    summary: ClassVar[str] = "MNIST, 28 x 28, from IDX files; fetched (12 MB) where there are none"
    licence: ClassVar[str] = "CC BY-SA 3.0"
    own_name: ClassVar[str] = "mnist"
    downloads: ClassVar[tuple[Download, ...]] = _at(
        "https://ossci-datasets.s3.amazonaws.com/mnist/", _MNIST, _MNIST_UNPACKED
    )


class FashionMnist(IdxFolder):
    """Fashion-MNIST (Xiao et al. 2017): 70,000 grey pictures of clothes of ten kinds, in files as those of MNIST.

    >>> FashionMnist(binarize="threshold").folder
    """

    summary: ClassVar[str] = "Fashion-MNIST, 28 x 28, from IDX files; fetched (31 MB) where there are none"
    licence: ClassVar[str] = "MIT"
    own_name: ClassVar[str] = "fashion-mnist"
    downloads: ClassVar[tuple[Download, ...]] = _at(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/", _FASHION_MNIST
    )


class Kmnist(IdxFolder):
    """Kuzushiji-MNIST (Clanuwat et al. 2018): 70,000 cursive Japanese characters of ten kinds, in files as those of MNIST.

    >>> Kmnist().binarize
    'none'
    """

    summary: ClassVar[str] = "Kuzushiji-MNIST, 28 x 28, from IDX files; fetched (21 MB) where there are none"
    licence: ClassVar[str] = "CC BY-SA 4.0"
    own_name: ClassVar[str] = "kmnist"
    downloads: ClassVar[tuple[Download, ...]] = _at("https://codh.rois.ac.jp/kmnist/dataset/kmnist/", _KMNIST)


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes with so many dimensions: 3 for images, 1 for labels. ``.gz`` is unpacked.

    Raises InputOutputError where the file is missing, empty, not gzip though its name says so, no IDX file, of other
    dimensions, or where it holds less or more than its header says. Memory follows the file, never the header alone.
    """
    require_file(path)
    with reading(path), open_file(path) as file:
        return read_idx_from(file, str(path), path.stat().st_size, dimensions)


def read_idx_from(file: IO[bytes], where: str, size: int, dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of ``size`` bytes that is open, as ``read_idx`` does; it is unpacked where its name ends in .gz."""
    import numpy as np

    try:
        packed = where.endswith(".gz")
        stream = _unpacked(file, where) if packed else file
        shape = _read_header(stream, where, dimensions)
        content = _read_content(stream, where, shape, size, packed)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputOutputError(f"{where} is damaged or cut off: {error}.", _AGAIN) from error
    return np.frombuffer(content, np.uint8).reshape(shape)


def _unpacked(file: IO[bytes], where: str) -> IO[bytes]:
    if file.read(len(_GZIP_MAGIC)) != _GZIP_MAGIC:
        raise InputOutputError(
            f"{where} is not gzip, though its name ends in .gz.", "Take .gz off its name if it is unpacked already."
        )
    file.seek(0)
    return cast(IO[bytes], gzip.open(file))


def _read_header(stream: IO[bytes], where: str, dimensions: int) -> tuple[int, ...]:
    magic = stream.read(4)
    if not magic:
        raise InputOutputError(f"{where} is empty.", _AGAIN)
    expected = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    if magic != expected:
        raise _wrong_magic(where, magic, expected)
    sizes = stream.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise InputOutputError(f"{where} ends within its header.", _AGAIN)
    shape = struct.unpack(f">{dimensions}I", sizes)
    if not all(shape):
        raise InputOutputError(f"{where} holds nothing: its header says {_sizes(shape)}.", "Give a file with rows.")
    return shape


def _wrong_magic(where: str, magic: bytes, expected: bytes) -> InputOutputError:
    found, wanted = _CONTENT.get(magic[-1]), _CONTENT[expected[-1]]
    if magic[:3] == expected[:3] and found:
        return InputOutputError(f"{where} holds {found}, not {wanted}.", f"Put the file of {wanted} in its place.")
    hint = f"An IDX file of {wanted} in unsigned bytes starts with 0x{expected.hex()}."
    if magic.startswith(_GZIP_MAGIC):
        hint = "It is compressed: add .gz to its name."
    return InputOutputError(f"{where} is not an IDX file of {wanted}: its magic number is 0x{magic.hex()}.", hint)


def _read_content(stream: IO[bytes], where: str, shape: tuple[int, ...], size: int, packed: bool) -> bytearray:
    claimed = math.prod(shape)
    readable = claimed
    if claimed > _MOST_OF_GZIP * size:  # it cannot be true, and is read so far that it can be said how much is there
        readable = min(claimed, _MOST_OF_A_LIE)
    elif packed:
        require_plausible(claimed, size, where)
    content = bytearray()
    while len(content) < readable and (chunk := stream.read(min(_CHUNK_BYTES, readable - len(content)))):
        content += chunk
    if len(content) < claimed:
        raise InputOutputError(
            f"{where} is cut off: its header says {_sizes(shape)} = {claimed} values, the file holds {len(content)}.",
            _AGAIN,
        )
    if stream.read(1):
        raise InputOutputError(f"{where} holds more than the {_sizes(shape)} = {claimed} values of its header.", _AGAIN)
    return content


def labelled(images: NDArray[np.uint8], labels: NDArray[np.uint8], where: str) -> Part:
    """Return images with their labels. Raises InputOutputError where these, which are in ``where``, are not as many."""
    if len(labels) != len(images):
        raise InputOutputError(
            f"{where} holds {len(labels)} labels for {len(images)} images.", "Put the files of one data set there."
        )
    return Part(images, labels)


def _found(folder: Path, name: str) -> Path | None:
    # Some archives of MNIST write the name with a dot: train-images.idx3-ubyte.
    spellings = (name, name.replace("-idx", ".idx"))
    candidates = [folder / f"{spelling}{suffix}" for spelling in spellings for suffix in ("", ".gz")]
    return next((path for path in candidates if path.is_file()), None)


def _sizes(shape: tuple[Any, ...]) -> str:
    return " × ".join(map(str, shape))
