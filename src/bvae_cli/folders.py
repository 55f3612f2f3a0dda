"""What a folder that somebody names holds, by the names of its files alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from bvae_cli.errors import UsageError

# Of pictures that are read.
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
_OF_IDX = "-ubyte"
# Splits and labels.
_DEEPEST = 2


def holds_pictures(folder: Path) -> bool:
    """Say whether a folder holds pictures, itself or in sub-folders of two levels, and no IDX files; False if unreadable."""
    try:
        with os.scandir(folder) as entries:
            if any(_OF_IDX in entry.name for entry in entries):
                return False
        return any(_pictures(folder, _DEEPEST))
    except OSError:
        return False


def require_not_among_pictures(path: Path, data: Iterable[Path]) -> None:
    """Raise UsageError where a picture of this place would lie in one of the folders of pictures that are data."""
    for folder in data:
        if path.resolve().is_relative_to(folder.resolve()) and holds_pictures(folder):
            raise UsageError(
                f"{path} lies among the pictures of {folder}.", "Write it elsewhere: there it would be data too."
            )


def _pictures(folder: str | Path, deeper: int) -> Iterator[str]:
    below = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                below.append(entry.path)
            elif os.path.splitext(entry.name)[1].casefold() in PICTURES:  # noqa: PTH122
                yield entry.path
    if deeper:
        for path in below:
            yield from _pictures(path, deeper - 1)
