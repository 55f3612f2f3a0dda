"""Omniglot: 32,460 drawings of 1,623 characters of 50 alphabets, from its two archives of PNG files.

The file of 28 × 28 drawings that many papers share (chardata.mat) is not taken: nobody published a hash of it, so that it
cannot be known to be what it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple

from pydantic import AfterValidator, Field

from bvae_cli import paths
from bvae_cli.datasets.base import DatasetSpec, Splits
from bvae_cli.datasets.downloads import Download, are_official, fetch, own_folder, spoken_names
from bvae_cli.datasets.grey import BINARIZE, Binarize, Part, splits_of
from bvae_cli.datasets.pictures import read_picture, require_pillow
from bvae_cli.errors import InputOutputError
from bvae_cli.sources import require_file, require_folder, require_plausible, zip_archive, zip_member

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BACKGROUND, _EVALUATION = "images_background.zip", "images_evaluation.zip"
_ADDRESS = "https://github.com/brendenlake/omniglot/raw/master/python/"
# As images_background/Balinese/character01/0108_01.png: alphabet, character, and who of the twenty drew it.
_DRAWING = re.compile(r"(?:[^/]+/)?([^/]+)/([^/]+)/[^/_]+_(\d{2})\.png")
_LAST_OF_TRAINING = 18
_LARGEST_DRAWING = 2**16
_AGAIN = "Copy or fetch it again."


class _Drawing(NamedTuple):
    character: tuple[str, str]
    drawer: int
    pixels: NDArray[np.uint8]


class Omniglot(DatasetSpec):
    """Omniglot (Lake et al. 2015), made smaller; ink is 1, and a label is a character.

    Training rows are the drawings of the first 18 drawers of the background set, validation rows those of the other two, and
    the test is the evaluation set, of other alphabets.

    >>> Omniglot(binarize="threshold").size
    28
    """

    summary: ClassVar[str] = "Omniglot characters, made 28 x 28; fetched (16 MB) where they are not there; needs Pillow"
    licence: ClassVar[str] = "MIT"
    downloads: ClassVar[tuple[Download, ...]] = (
        # tensorflow/datasets, url_checksums/omniglot.txt.
        Download(
            _BACKGROUND,
            f"{_ADDRESS}{_BACKGROUND}",
            9_464_212,
            "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
        ),
        Download(
            _EVALUATION,
            f"{_ADDRESS}{_EVALUATION}",
            6_462_886,
            "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
        ),
    )

    size: int = Field(28, ge=1, le=105, description="Height and width; the drawings have 105.")
    folder: Annotated[Path, AfterValidator(paths.expanded)] | None = Field(
        None, description=f"Folder with {_BACKGROUND} and {_EVALUATION} [default: bvae's own, fetched when needed]."
    )
    binarize: Binarize = BINARIZE

    def check(self) -> None:
        """Raise UsageError without Pillow, InputOutputError where ``folder`` lacks an archive; nothing is read."""
        require_pillow()
        if self.folder is None:
            return
        require_folder(self.folder, spoken_names(self.downloads))
        for name in (_BACKGROUND, _EVALUATION):
            require_file(self.folder / name)

    def load(self) -> Splits:
        """Read, and where needed fetch, the archives.

        Raises InputOutputError for a missing or damaged file, and where the files can be neither found nor fetched.
        """
        self.check()
        folder = self.folder
        if folder is None:
            folder = own_folder("omniglot")
            fetch(self.downloads, folder)
        known = self.folder is None or are_official([folder / name for name in (_BACKGROUND, _EVALUATION)], self.downloads)
        background, evaluation = (_drawings(folder / name, self.size) for name in (_BACKGROUND, _EVALUATION))
        characters = dict.fromkeys(drawing.character for drawing in (*background, *evaluation))
        label_of = {character: number for number, character in enumerate(characters)}
        train = [drawing for drawing in background if drawing.drawer <= _LAST_OF_TRAINING]
        validation = [drawing for drawing in background if drawing.drawer > _LAST_OF_TRAINING]
        if not (train and validation and evaluation):
            raise InputOutputError(
                f"The archives in {folder} lack drawings for training, validation or test.", "Put the official ones there."
            )
        parts = [_part(drawings, label_of) for drawings in (train, validation, evaluation)]
        return splits_of(
            parts[0],
            parts[1],
            parts[2],
            self.binarize,
            source=f"Omniglot in {folder}",
            licence=self.licence if known else "not stated",
        )


def _part(drawings: list[_Drawing], label_of: dict[tuple[str, str], int]) -> Part:
    import numpy as np

    return Part(
        np.stack([drawing.pixels for drawing in drawings]), np.array([label_of[drawing.character] for drawing in drawings])
    )


def _drawings(path: Path, size: int) -> list[_Drawing]:
    """Return the drawings of an archive, character by character, in the order of their names."""
    return sorted(_unsorted(path, size), key=lambda drawing: drawing[:2])


def _unsorted(path: Path, size: int) -> Iterator[_Drawing]:
    with zip_archive(path, "a zip archive", _AGAIN) as archive:
        members = [(info, found) for info in archive.infolist() if (found := _DRAWING.fullmatch(info.filename))]
        require_plausible(sum(info.file_size for info, _ in members), path.stat().st_size, str(path))
        for info, found in members:
            where = f"{path}: {info.filename}"
            if info.file_size > _LARGEST_DRAWING:
                raise InputOutputError(f"{where} is too large for a drawing: {info.file_size:,} bytes.", _AGAIN)
            with zip_member(archive, info, path, where, _AGAIN) as member:
                # Its ink is black.
                yield _Drawing((found[1], found[2]), int(found[3]), 255 - read_picture(member, where, "grey", size))
