"""A file that says which row goes into which split: a word a line, or three arrays of row numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bvae_cli import numpy_files
from bvae_cli.datasets.base import SplitName
from bvae_cli.errors import InputOutputError, nearest
from bvae_cli.sources import DocumentError, read_text, reading, require_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUFFIXES = (".txt", ".csv", ".npz")
_SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
_NONE = "none"
_LARGEST = 2**28


def read_split_file(path: Path, rows: int) -> dict[SplitName, NDArray[np.int64]]:
    """Return the numbers, from 0, of the rows of each split of so many rows.

    ``.txt`` and ``.csv`` have a line for each row: train, validation, test, or none for a row that is left out. ``.npz`` has
    arrays train, validation and test of row numbers from 0. Raises InputOutputError where a row is in two splits or is not
    there, a split is empty, or the lines are not as many as the rows.
    """
    require_file(path)
    if path.suffix.casefold() not in SUFFIXES:
        raise InputOutputError(f"{path} is no file of splits.", f"Give it one of {', '.join(SUFFIXES)}.")
    found = _of_arrays(path, rows) if path.suffix.casefold() == ".npz" else _of_words(path, rows)
    for split in _SPLITS:
        if not len(found[split]):
            raise InputOutputError(f"{path} puts no row into {split}.", "Each of the three splits needs one.")
    return found


def _of_words(path: Path, rows: int) -> dict[SplitName, NDArray[np.int64]]:
    import numpy as np

    with reading(path):
        try:
            words = [line.strip() for line in read_text(path, _LARGEST).splitlines()]
        except DocumentError as error:
            raise InputOutputError(f"{path} is no file of splits: {error}.", "Write one word a line.") from error
    while words and not words[-1]:
        words.pop()
    for number, word in enumerate(words, 1):
        if word not in (*_SPLITS, _NONE):
            near = nearest(word[:40], (*_SPLITS, _NONE))
            raise InputOutputError(
                f"Line {number} of {path} is '{word[:40]}', not one of {', '.join(_SPLITS)} or {_NONE}.",
                f"Did you mean '{near}'?" if near else "A line stands for a row, without a header.",
            )
    if len(words) != rows:
        raise InputOutputError(f"{path} has {len(words):,} lines for {rows:,} rows.", "A line stands for a row.")
    listed = np.array(words)
    return {split: (listed == split).nonzero()[0] for split in _SPLITS}


def _of_arrays(path: Path, rows: int) -> dict[SplitName, NDArray[np.int64]]:
    import numpy as np

    names = numpy_files.npz_names(path)
    if missing := [split for split in _SPLITS if split not in names]:
        raise InputOutputError(f"{path} has no array '{missing[0]}'.", "Give row numbers as train, validation and test.")
    taken = np.zeros(rows, bool)
    found: dict[SplitName, NDArray[np.int64]] = {}
    for split, numbers in numpy_files.read_npz(path, _SPLITS).items():
        where = f"'{split}' in {path}"
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
            raise InputOutputError(f"{where} is not a list of row numbers.", "Give whole numbers from 0.")
        if len(numbers) and not (numbers.min() >= 0 and numbers.max() < rows):
            bad = numbers[(numbers < 0) | (numbers >= rows)][0]
            raise InputOutputError(f"{where} names the row {bad}; there are 0 to {rows - 1}.", "Rows are counted from 0.")
        numbers = numbers.astype(np.int64)
        twice = taken[numbers].any() or len(np.unique(numbers)) < len(numbers)
        if twice:
            raise InputOutputError(f"{where} names a row that is named before.", "A row is in one split, once.")
        taken[numbers] = True
        found[split] = numbers  # type: ignore[index]  # the names are those of the splits
    return found
