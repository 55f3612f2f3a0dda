"""The code of a matrix that a person has: from a file, or written in the command."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from bvae_cli.codes.blocks import BlockSpec
from bvae_cli.codes.gf2 import Matrix, dual
from bvae_cli.errors import InputOutputError, UsageError, reason_of
from bvae_cli.paths import expanded
from bvae_cli.sources import DocumentError, read_text

_SUFFIXES = (".npy", ".csv", ".txt")
_ROWS = re.compile(r"[01]+(/[01]+)*$")
# A longer matrix is told from others by a hash.
_LONGEST_TOLD = 40
# A larger one is no code that anything here could decode, and would take minutes to be looked at.
_MOST_ENTRIES = 2**22
# Checks and words of a basis are as long as a row, and together as many.
_LONGEST_ROW = 2048
_LARGEST_FILE = 2**24
_HINT = "Name a .npy, .csv or .txt file of 0 and 1, a row in each line, or write the rows: 1101000/0110100."


class Linear(BlockSpec):
    """The linear code of any matrix over GF(2): c = m G, or all c with H c = 0 (MacWilliams and Sloane 1977, ch. 1 §2).

    The matrix is read once and kept with the model, so that the file is needed no more. As a generator its rows must not
    depend on each other; of parity checks the information bits are the columns that the reduced checks leave free.

    >>> Linear(matrix="101/011").block()
    Block(n=3, k=2, min_distance=2)
    >>> Linear(matrix="1111", kind="parity-check").generator_matrix()
    ((1, 1, 0, 0), (1, 0, 1, 0), (1, 0, 0, 1))

    Raises InputOutputError where a file cannot be read, UsageError where what it holds is no code.
    """

    family: ClassVar[str] = "linear"
    summary: ClassVar[str] = "a generator or parity-check matrix of your own, from a file or written out"

    told_when_changed: ClassVar[frozenset[str]] = frozenset({"kind"})

    matrix: str = Field(description="A .npy, .csv or .txt file, or the rows themselves, as 1101000/0110100.")
    kind: Literal["generator", "parity-check"] = Field("generator", description="What the matrix is.")

    @model_validator(mode="after")
    def _keep_the_matrix(self) -> Self:
        text = self.matrix.strip()
        if not text:
            raise UsageError("The matrix is empty.", _HINT)
        kept = text if _ROWS.match(text) else "/".join("".join(map(str, row)) for row in _read(expanded(text)))
        object.__setattr__(self, "matrix", kept)  # frozen for everybody else
        lengths = {len(row) for row in kept.split("/")}
        if max(lengths) > _LONGEST_ROW:
            raise UsageError(f"A row of the matrix has {max(lengths):,} entries.", f"Give at most {_LONGEST_ROW:,}.")
        if len(lengths) > 1:
            raise UsageError(
                f"The rows of the matrix have {min(lengths)} to {max(lengths)} entries.", "All are of one length."
            )
        return self

    def told_options(self) -> dict[str, object]:
        """Return the options; of a large matrix its size and what tells it from others."""
        options = super().told_options()
        if len(self.matrix) > _LONGEST_TOLD:
            rows = self.matrix.split("/")
            options["matrix"] = f"{len(rows)}x{len(rows[0])}-{hashlib.sha256(self.matrix.encode()).hexdigest()[:8]}"
        return options

    def generator_matrix(self) -> Matrix:
        """Return G as it was given, or a basis of the words that satisfy the checks."""
        return self._rows() if self.kind == "generator" else dual(self._rows())

    def parity_check_matrix(self) -> Matrix:
        """Return H as it was given, or a basis of the checks that all codewords satisfy."""
        return self._rows() if self.kind == "parity-check" else dual(self._rows())

    def has_sparse_checks(self) -> bool:
        """Say whether the matrix is of parity checks, and sparse."""
        return self.kind == "parity-check" and super().has_sparse_checks()

    def _rows(self) -> Matrix:
        return tuple(tuple(map(int, row)) for row in self.matrix.split("/"))


def _read(path: Path) -> list[list[int]]:
    """Read rows of 0 and 1. Raises InputOutputError, UsageError."""
    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"'{path}' is neither a file of a matrix nor rows of 0 and 1.", _HINT)
    try:
        rows = _read_npy(path) if path.suffix.lower() == ".npy" else _read_text(path)
    except OSError as error:
        raise InputOutputError(f"The matrix {path} cannot be read: {reason_of(error)}.", _HINT) from None
    except DocumentError as error:
        raise InputOutputError(f"The matrix {path} cannot be read: {error}.", _HINT) from None
    if not rows or not rows[0]:
        raise InputOutputError(f"The matrix {path} is empty.", _HINT)
    for index, row in enumerate(rows):
        if wrong := [entry for entry in row if entry not in (0, 1)]:
            raise InputOutputError(f"Row {index} of the matrix {path} holds {wrong[0]}.", "Entries are 0 or 1.")
    return [[int(entry) for entry in row] for row in rows]


def _read_npy(path: Path) -> list[list[float]]:
    from bvae_cli.numpy_files import read_npy  # only here: whoever names such a file waits for numpy

    array = read_npy(path)
    _require_size(path, array.size)
    if not array.size:  # it may still have 2⁶³ rows
        return []
    if array.ndim != 2:
        raise InputOutputError(
            f"{path} holds {array.dtype} of the shape {array.shape}, which is no matrix of 0 and 1.", _HINT
        )
    rows: list[list[float]] = array.tolist()
    return rows


def _read_text(path: Path) -> list[list[float]]:
    """Read a row from each line, entries apart (by spaces, commas or semicolons) or not; behind # is a remark."""
    rows = []
    for number, line in enumerate(read_text(path, _LARGEST_FILE).splitlines(), 1):
        words = re.split(r"[\s,;]+", line.partition("#")[0].strip(" \t\r,;"))
        entries = list(words[0]) if len(words) == 1 else words
        try:
            row = [float(entry) for entry in entries]
        except ValueError:
            raise InputOutputError(f"Line {number} of the matrix {path} is not of 0 and 1: {line[:40]}", _HINT) from None
        if row:
            rows.append(row)
    _require_size(path, sum(map(len, rows)))
    return rows


def _require_size(path: Path, entries: int) -> None:
    if entries > _MOST_ENTRIES:
        raise InputOutputError(f"The matrix {path} has {entries:,} entries.", f"Give at most {_MOST_ENTRIES:,}.")
