"""A folder of pictures of one's own: its sub-folders are labels, or the splits, or both."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from bvae_cli.datasets.base import SplitName, Splits
from bvae_cli.datasets.divided import SPLITS, Divided, order_of
from bvae_cli.datasets.grey import BINARIZE, Binarize, Part, splits_of
from bvae_cli.datasets.pictures import Channels, Resize, read_picture, require_pillow
from bvae_cli.errors import InputOutputError, cannot_be_read
from bvae_cli.folders import PICTURES
from bvae_cli.paths import expanded
from bvae_cli.sources import open_file, reading, require_file, require_plausible

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Images(Divided):
    """Pictures of one size, or made one size: in a folder, in the order of their names, divided by a seed.

    The first sub-folder of a picture is its label, and the labels are numbered in the order of their names, unless
    ``labels="none"``. Sub-folders ``train``, ``validation`` and ``test`` are the splits, and may have sub-folders that are
    labels; without ``validation`` the seed takes its share from ``train``. Names that begin with a dot, and files whose
    suffix is not that of a picture, are passed over.

    >>> Images(path="pictures", size=28).channels
    'grey'
    """

    summary: ClassVar[str] = "your own folder of pictures, sub-folders as labels or as splits; needs Pillow"

    path: Annotated[Path, AfterValidator(expanded)] = Field(description="The folder.")
    size: int = Field(0, ge=0, le=4096, description="Height and width to make them; 0 leaves them, if all are of one size.")
    channels: Channels = Field("grey", description="grey or colour; colour has three values a pixel.")
    resize: Resize = Field("crop", description="crop fills the square and cuts the sides off; fit shows all of it on black.")
    labels: Literal["folders", "none"] = Field("folders", description="folders: a picture's first sub-folder is its label.")
    binarize: Binarize = BINARIZE

    def check(self) -> None:
        """Raise UsageError without Pillow, InputOutputError where there is no folder; no picture is read."""
        require_pillow()
        if not self.path.is_dir():
            raise InputOutputError(f"There is no folder {self.path}.", "Give the path of a folder of pictures.")

    def load(self) -> Splits:
        """Read all pictures.

        Raises InputOutputError, naming the file, for one that cannot be read, is animated, of 16 bits, huge, or of another
        size than the first, and for a link that leads out of the folder.
        """
        self.check()
        files = sorted(_pictures(self.path), key=lambda path: path.relative_to(self.path).parts)
        if not files:
            raise InputOutputError(f"There are no pictures in {self.path}.", f"Their names end in {', '.join(PICTURES)}.")
        folders = [path.relative_to(self.path).parts[:-1] for path in files]
        are_split = {"train", "test"} <= {parts[0] for parts in folders if parts}
        rows_of = self._split_by_folders(files, folders) if are_split else self.division(len(files))
        labels = self._labels(files, [parts[are_split:] for parts in folders])
        images = self._read(files)
        train, validation, test = (
            Part(images[rows_of[split]], None if labels is None else labels[rows_of[split]]) for split in SPLITS
        )
        facts = {"source": str(self.path), "licence": self.licence, "order": order_of(rows_of)}
        return splits_of(train, validation, test, self.binarize, **facts)

    def _split_by_folders(
        self, files: Sequence[Path], folders: Sequence[tuple[str, ...]]
    ) -> dict[SplitName, NDArray[np.int64]]:
        import numpy as np

        for path, parts in zip(files, folders, strict=True):
            if not parts or parts[0] not in SPLITS:
                raise InputOutputError(
                    f"{path} is in none of {', '.join(SPLITS)}, and other pictures in {self.path} are.",
                    "Put it into one of them, or all pictures beside each other.",
                )
        first = np.array([parts[0] for parts in folders])
        rows_of: dict[SplitName, NDArray[np.int64]] = {split: (first == split).nonzero()[0] for split in SPLITS}
        if not len(rows_of["validation"]):
            kept, rest = self._without_validation(len(rows_of["train"]))
            rows_of |= {"train": rows_of["train"][kept], "validation": rows_of["train"][rest]}
        return rows_of

    def _labels(self, files: Sequence[Path], folders: Sequence[tuple[str, ...]]) -> NDArray[np.int64] | None:
        import numpy as np

        if self.labels == "none" or not any(folders):
            return None
        if not all(folders):
            alone = files[next(number for number, parts in enumerate(folders) if not parts)]
            raise InputOutputError(
                f"{alone} is in no folder that is a label, and other pictures are.",
                f"Put it into one, or leave labels out: images:path={self.path},labels=none.",
            )
        names = sorted({parts[0] for parts in folders})
        return np.array([names.index(parts[0]) for parts in folders], np.int64)

    def _read(self, files: Sequence[Path]) -> NDArray[np.uint8]:
        """Return all pictures, ``[rows, height, width]``, in colour with three values a pixel."""
        import numpy as np

        images: NDArray[np.uint8] | None = None
        for number, path in enumerate(files):
            require_file(path)
            with reading(path), open_file(path) as file:
                picture = read_picture(file, str(path), self.channels, self.size, self.resize)
            if images is None:
                total = len(files) * picture.nbytes
                require_plausible(total, sum(path.stat().st_size for path in files), str(self.path))
                images = np.empty((len(files), *picture.shape), np.uint8)
            if picture.shape != images.shape[1:]:
                sizes = (f"{shape[1]} × {shape[0]}" for shape in (picture.shape, images.shape[1:]))
                raise InputOutputError(
                    f"{path} is {' and not '.join(sizes)} pixels as {files[0]} is.",
                    f"Make them one size: images:path={self.path},size=28.",
                )
            images[number] = picture
        assert images is not None  # there is at least one file
        return images


def _pictures(folder: Path) -> Iterator[Path]:
    """Find the pictures in a folder and those below it. Raises InputOutputError for a link that leads elsewhere."""

    def refused(error: OSError) -> None:
        raise cannot_be_read(error.filename, error) from error

    inside = folder.resolve()
    for place, folders, files in os.walk(folder, onerror=refused):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if (path := Path(place, name)).is_symlink():
                raise InputOutputError(
                    f"{path} is a link to a folder, and is not followed.", "Remove it, or copy the folder."
                )
        for name in files:
            path = Path(place, name)
            if name.startswith(".") or path.suffix.casefold() not in PICTURES:
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                raise InputOutputError(f"{path} is a link that leads out of {folder}.", "Copy the picture there.")
            yield path
