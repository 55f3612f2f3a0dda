"""CIFAR-10: 60,000 small photographs, from the archive of its binary version, which holds no pickles."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

from pydantic import AfterValidator, Field

from bvae_cli import paths
from bvae_cli.datasets.base import DatasetSpec, Splits
from bvae_cli.datasets.downloads import NOT_COMPARED, Download, fetch, own_folder, require_official
from bvae_cli.datasets.grey import BINARIZE, Binarize, Part, training_and_test
from bvae_cli.errors import InputOutputError
from bvae_cli.sources import BoundedStream, open_file, reading, require_file, require_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ARCHIVE, _INSIDE = "cifar-10-binary.tar.gz", "cifar-10-batches-bin"
_TRAINING = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_TEST = "test_batch.bin"
_SIDE, _LARGEST_LABEL = 32, 9
_RECORD = 1 + 3 * _SIDE * _SIDE
# A file has 10,000 records.
_LARGEST_FILE = 10_000 * _RECORD
# Weights of red, green and blue in grey (ITU-R 601), in 65536ths, as Pillow takes them.
_GREY, _HALF = (19595, 38470, 7471), 1 << 15
_AGAIN = "Copy or fetch it again."


class Cifar10(DatasetSpec):
    """CIFAR-10 (Krizhevsky 2009), 32 × 32, in colour (a row is height × width × red, green, blue) or grey.

    Validation rows are the last 10,000 of the training files, labels 0 to 9 in the order of its authors.

    >>> Cifar10(channels="grey").channels
    'grey'
    """

    summary: ClassVar[str] = "CIFAR-10 photographs, 32 x 32, colour or grey; fetched (170 MB) where they are not there"
    downloads: ClassVar[tuple[Download, ...]] = (
        # tensorflow/datasets, url_checksums/cifar10.txt.
        Download(
            _ARCHIVE,
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            170_052_171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    )

    channels: Literal["colour", "grey"] = Field("colour", description="colour: 3072 values a row; grey: 1024.")
    folder: Annotated[Path, AfterValidator(paths.expanded)] | None = Field(
        None, description=f"Folder with {_ARCHIVE} or the .bin files in it [default: bvae's own, fetched when needed]."
    )
    binarize: Binarize = BINARIZE

    def check(self) -> None:
        """Raise InputOutputError where ``folder`` is given and lacks a file; nothing is read or fetched."""
        if self.folder is None:
            return
        require_folder(self.folder, _ARCHIVE)
        if not (self.folder / _ARCHIVE).is_file():
            for name in (*_TRAINING, _TEST):
                _beside(self.folder, name)

    def load(self) -> Splits:
        """Read, and where needed fetch, the archive.

        Raises InputOutputError for a missing or damaged file, and where the archive can be neither found nor fetched.
        """
        self.check()
        folder = self.folder or self._own_folder()
        contents = _read_archive(folder / _ARCHIVE) if (folder / _ARCHIVE).is_file() else _read_folder(folder)
        train, test = (
            self._part([contents[name] for name in names], [f"{name} in {folder}" for name in names])
            for names in (_TRAINING, (_TEST,))
        )
        known = self.folder is not None or (folder / _ARCHIVE).is_file()
        source = f"CIFAR-10 in {folder}{'' if known else NOT_COMPARED}"
        return training_and_test(train, test, self.binarize, where=str(folder), source=source, licence=self.licence)

    def _own_folder(self) -> Path:
        folder = own_folder("cifar10")
        if not all(_found(folder, name) for name in (*_TRAINING, _TEST)):
            fetch(self.downloads, folder)
        else:
            require_official(self.downloads, folder)
        return folder

    def _part(self, contents: list[bytes], where: list[str]) -> Part:
        import numpy as np

        records = np.concatenate([_records(content, place) for content, place in zip(contents, where, strict=True)])
        images = records[:, 1:].reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
        if self.channels == "colour":
            return Part(np.ascontiguousarray(images), records[:, 0])
        red, green, blue = (weight * images[..., channel].astype(np.uint32) for channel, weight in enumerate(_GREY))
        return Part(((red + green + blue + _HALF) >> 16).astype(np.uint8), records[:, 0])


def _records(content: bytes, where: str) -> NDArray[np.uint8]:
    """Return the records of a file, ``[rows, 3073]``: the label and the red, green and blue plane."""
    import numpy as np

    if not content or len(content) % _RECORD:
        raise InputOutputError(
            f"{where} is cut off or no file of CIFAR-10: {len(content):,} bytes are not whole records of {_RECORD:,}.",
            _AGAIN,
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    if (wrong := records[:, 0] > _LARGEST_LABEL).any():
        row = int(wrong.argmax())
        raise InputOutputError(f"Record {row + 1} of {where} has the label {records[row, 0]}, not one of 0 to 9.", _AGAIN)
    return records


def _read_archive(path: Path) -> dict[str, bytes]:
    require_file(path)
    wanted = {*_TRAINING, _TEST}
    contents: dict[str, bytes] = {}
    with reading(path), open_file(path) as file, gzip.open(file) as unpacked:
        try:
            stream = BoundedStream(cast(IO[bytes], unpacked), path.stat().st_size, str(path))
            with tarfile.open(fileobj=cast(Any, stream), mode="r|") as archive:
                for member in archive:
                    name = member.name.rsplit("/", 1)[-1]
                    if name in wanted - contents.keys() and member.isreg():
                        if member.size > _LARGEST_FILE:
                            raise InputOutputError(f"{name} in {path} has more than 10,000 pictures.", _AGAIN)
                        extracted = archive.extractfile(member)
                        assert extracted is not None  # it is a regular file
                        contents[name] = extracted.read()
        # What tarfile raises of a header that is damaged is a matter of which of its numbers it is.
        except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, ValueError, OverflowError, KeyError) as error:
            raise InputOutputError(f"{path} is no .tar.gz archive, or is damaged or cut off: {error}.", _AGAIN) from error
    if missing := sorted(wanted - contents.keys()):
        raise InputOutputError(f"There is no {missing[0]} in {path}.", f"Put {_ARCHIVE} of CIFAR-10's author there.")
    return contents


def _read_folder(folder: Path) -> dict[str, bytes]:
    contents = {}
    for name in (*_TRAINING, _TEST):
        path = _beside(folder, name)
        with reading(path), open_file(path) as file:
            contents[name] = file.read(_LARGEST_FILE + 1)
    return contents


def _found(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / _INSIDE / name) if path.is_file()), None)


def _beside(folder: Path, name: str) -> Path:
    found = _found(folder, name)
    if found is None:
        raise InputOutputError(
            f"There is no {_ARCHIVE} in {folder}, nor {name}.",
            f"Put the binary version of CIFAR-10 there, {_ARCHIVE}; the Python version is of pickles, which are never read.",
        )
    return found
