"""EMNIST: handwritten letters and digits in six selections, from the archive of gzipped IDX files."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from bvae_cli import paths
from bvae_cli.datasets.base import DatasetSpec, Splits
from bvae_cli.datasets.downloads import NOT_COMPARED, Download, fetch, own_folder, require_official
from bvae_cli.datasets.grey import BINARIZE, Binarize, Part, training_and_test
from bvae_cli.datasets.idx import labelled, read_idx, read_idx_from
from bvae_cli.errors import InputOutputError
from bvae_cli.sources import require_folder, zip_archive, zip_member

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ARCHIVE = "gzip.zip"
_AGAIN = "Copy or fetch it again."


class Emnist(DatasetSpec):
    """EMNIST (Cohen et al. 2017), 28 × 28, upright: its files hold each picture with rows and columns exchanged.

    ``part`` is one of the selections of its authors; labels are the numbers in its files (letters from 1 on). Validation
    rows are the last 10,000 of the training file where it has at least 20,000 rows, else its last sixth.

    >>> Emnist(part="letters").part
    'letters'
    """

    summary: ClassVar[str] = "EMNIST letters and digits, 28 x 28; fetched (562 MB) where it is not there"
    downloads: ClassVar[tuple[Download, ...]] = (
        # The address is torchvision's (datasets/mnist.py), size and sha256 are those of tensorflow/datasets
        # (url_checksums/emnist.txt).
        Download(
            _ARCHIVE,
            "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
            561_753_746,
            "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
        ),
    )

    part: Literal["balanced", "letters", "digits", "mnist", "byclass", "bymerge"] = Field(
        "balanced", description="Selection: balanced, letters, digits, mnist, byclass or bymerge."
    )
    folder: Annotated[Path, AfterValidator(paths.expanded)] | None = Field(
        None, description=f"Folder with {_ARCHIVE} or the files in it [default: bvae's own, fetched when needed]."
    )
    binarize: Binarize = BINARIZE

    def check(self) -> None:
        """Raise InputOutputError where ``folder`` is given and lacks the images; nothing is read or fetched."""
        if self.folder is None:
            return
        require_folder(self.folder, _ARCHIVE)
        if not (self.folder / _ARCHIVE).is_file():
            for half in ("train", "test"):
                self._beside(self.folder, self._name(half, "images", 3))

    def load(self) -> Splits:
        """Read, and where needed fetch, the files of the selection.

        Raises InputOutputError for a missing or damaged file, and where the archive can be neither found nor fetched.
        """
        self.check()
        folder = self.folder or self._own_folder()
        known = self.folder is not None or (folder / _ARCHIVE).is_file()
        train, test = (self._read_half(folder, half) for half in ("train", "test"))
        return training_and_test(
            train,
            test,
            self.binarize,
            where=str(folder),
            source=f"EMNIST {self.part} in {folder}{'' if known else NOT_COMPARED}",
            licence=self.licence,
        )

    def _own_folder(self) -> Path:
        folder = own_folder("emnist")
        if not all(self._found(folder, self._name(half, "images", 3)) for half in ("train", "test")):
            fetch(self.downloads, folder)
        else:
            require_official(self.downloads, folder)
        return folder

    def _read_half(self, folder: Path, half: str) -> Part:
        import numpy as np

        image_name, label_name = self._name(half, "images", 3), self._name(half, "labels", 1)
        if (archive := folder / _ARCHIVE).is_file():
            images, labels = _read_member(archive, image_name, 3), _read_member(archive, label_name, 1)
        else:
            images, labels = read_idx(self._beside(folder, image_name), 3), read_idx(self._beside(folder, label_name), 1)
        return labelled(np.ascontiguousarray(images.transpose(0, 2, 1)), labels, f"{label_name} in {folder}")

    def _name(self, half: str, content: str, dimensions: int) -> str:
        return f"emnist-{self.part}-{half}-{content}-idx{dimensions}-ubyte"

    def _found(self, folder: Path, name: str) -> Path | None:
        candidates = (place / f"{name}{suffix}" for place in (folder, folder / "gzip") for suffix in ("", ".gz"))
        return next((path for path in candidates if path.is_file()), None)

    def _beside(self, folder: Path, name: str) -> Path:
        found = self._found(folder, name)
        if found is None:
            raise InputOutputError(f"There is no {_ARCHIVE} in {folder}, nor {name}.gz.", f"Put {_ARCHIVE} there.")
        return found


def _read_member(path: Path, name: str, dimensions: int) -> NDArray[np.uint8]:
    with zip_archive(path, "a zip archive", _AGAIN) as archive:
        info = _member(archive, f"{name}.gz")
        if info is None:
            raise InputOutputError(f"There is no {name}.gz in {path}.", "Put the archive of EMNIST's authors there.")
        where = f"{path}: {info.filename}"
        with zip_member(archive, info, path, where, _AGAIN) as member:
            return read_idx_from(member, where, info.compress_size, dimensions)


def _member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo | None:
    return next((info for info in archive.infolist() if info.filename.rsplit("/", 1)[-1] == name), None)
