"""Files of codes as ``bvae encode`` writes them: packed bits, bits one to a byte, or logits; .npy or Parquet, a row a code.

What a file holds is decided by what its rows may be, never guessed: rows of floating-point numbers are logits, and refused
where all are 0 or 1; rows as long as a code are its bits, one to a number; rows of ⌈bits / 8⌉ bytes are its bits as
numpy.packbits packs them along a row. A table of Parquet says by its columns which of these it holds. Where a file can be
read in two ways it is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from bvae_cli.errors import InputOutputError, UsageError
from bvae_cli.mapped_table import MappedTable
from bvae_cli.numpy_files import find_npy
from bvae_cli.parquet_codes import ParquetCodes
from bvae_cli.parquet_files import PARQUET

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["packed", "bits", "logits"]
Table = MappedTable | ParquetCodes
# Bytes that a pass over a file takes at once.
_BYTES_AT_ONCE = 2**21
_BITS_HINT = "Say with --bits how many bits a code has."


class Reading(NamedTuple):
    """A way to read the rows of a file: as codes of so many bits, packed or one to a number."""

    width: int
    kind: Kind


@dataclass(frozen=True)
class CodeRows:
    """The codes of a file, ``[rows]`` of ``width`` bits or logits each, which are read where they are asked for.

    What is asked for is looked at: InputOutputError, with the number of the first such row, for a row that is no code.
    """

    path: Path
    kind: Kind
    width: int
    table: Table

    def __len__(self) -> int:
        return self.table.shape[0]

    @property
    def bytes_in_a_code(self) -> int:
        """Return what a code takes when it is packed."""
        return packed_bytes(self.width)

    def spans(self) -> Iterator[tuple[int, int]]:
        """Go through all rows in their order: the first of some, and the first that is not of them."""
        step = max(1, _BYTES_AT_ONCE // self.table.bytes_in_a_row)
        return ((start, min(start + step, len(self))) for start in range(0, len(self), step))

    def packed(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return rows as packed bits, ``[stop - start, ⌈width / 8⌉]``, those of logits as their signs."""
        if self.kind == "packed":
            return self._checked_packed(start, stop)
        return np.packbits(self.bits(start, stop), axis=1)

    def bits(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return rows as bits, ``[stop - start, width]``; a logit above 0 is a 1."""
        if self.kind == "packed":
            return np.unpackbits(self._checked_packed(start, stop), axis=1, count=self.width)
        if self.kind == "logits":
            return (self.logits(start, stop) > 0).view(np.uint8)
        values = self.table.take(slice(start, stop))
        if values.dtype != np.bool_:
            self._require_none((values != 0) & (values != 1), values, start, "A code is of 0 and 1.")
        return values.astype(np.uint8)

    def logits(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows of logits, float32 ``[stop - start, width]``."""
        values = self.table.take(slice(start, stop))
        self._require_none(np.isnan(values), values, start, "Every logit is a number, or infinite.")
        with np.errstate(over="ignore"):  # what is too large for float32 is certainty
            return values.astype(np.float32)

    def _checked_packed(self, start: int, stop: int) -> NDArray[np.uint8]:
        rows: NDArray[np.uint8] = self.table.take(slice(start, stop))
        if spare := -self.width % 8:
            wrong = (rows[:, -1] & ((1 << spare) - 1)) != 0
            if wrong.any():
                row = start + int(wrong.argmax())
                raise InputOutputError(
                    f"Row {row} of {self.path} is no packed code of {self.width} bits: the last {spare} of its bits, which "
                    "only fill its last byte, are not 0.",
                    "The file is damaged, its codes have another length, or its bits stand in another order than "
                    "numpy.packbits leaves them in (the first in the highest bit of a byte).",
                )
        return rows

    def _require_none(self, wrong: NDArray[np.bool_], values: NDArray[Any], start: int, hint: str) -> None:
        if wrong.any():
            row, column = np.argwhere(wrong)[0].tolist()
            raise InputOutputError(f"Row {start + row} of {self.path} holds {values[row, column]}.", hint)


def packed_bytes(width: int) -> int:
    """Return the bytes of a packed code of ``width`` bits.

    >>> packed_bytes(100)
    13
    """
    return -(-width // 8)


def doubtful_logits(path: Path, values: NDArray[np.float32]) -> str | None:
    """Say in a sentence that logits look like probabilities, where all of them lie between 0 and 1; else return None."""
    if not ((values >= 0) & (values <= 1)).all():
        return None
    return f"All numbers in {path} lie in 0…1 and are taken for logits; the logit of a probability p is ln(p / (1 - p))."


def open_codes(path: Path, widths: Mapping[str, int], owner: str = "") -> CodeRows:
    """Open a file of codes, each of one of the ``widths`` in bits, by what they are called; ``owner`` has these widths.

    Without widths a file of 0 and 1 alone is of bits, one to a number, and any other of bytes is packed, eight bits to each.
    Raises InputOutputError for a file that is not there, damaged, or not of such codes; UsageError where it can be read in
    two ways.
    """
    table = _opened(path)
    columns = table.shape[1]
    if table.dtype.kind == "f":
        if widths and columns not in widths.values():
            raise _no_reading(path, columns, "logits", widths, owner)
        if _are_bits(CodeRows(path, "logits", columns, table)):
            raise InputOutputError(
                f"{path} holds 0 and 1 as floating-point numbers; such numbers are taken for logits, and a bit is none.",
                "Save bits as uint8, as codes.astype(numpy.uint8), or logits as they are.",
            )
        return CodeRows(path, "logits", columns, table)
    kinds = _kinds(path, table, by_values=not widths)
    if widths:
        readings = {Reading(width, kind) for kind in kinds for width in widths.values() if columns == _columns(width, kind)}
    else:
        readings = {Reading(8 * columns if kind == "packed" else columns, kind) for kind in kinds}
    if not readings:
        raise _no_reading(path, columns, str(table.dtype), widths, owner)
    opened = [CodeRows(path, reading.kind, reading.width, table) for reading in sorted(readings)]
    if len(opened) > 1:
        opened = [codes for codes in opened if _can_be(codes)] or opened[:1]
    if len(opened) > 1:
        ways = " or ".join(f"{codes.width} bits {_how(codes.kind)}" for codes in opened)
        raise UsageError(f"The rows of {path} can be read in two ways: {ways}.", _BITS_HINT)
    return opened[0]


def _opened(path: Path) -> Table:
    if path.suffix == PARQUET:
        table = ParquetCodes(path)
        _require_rows(path, table.shape)
        return table
    found = find_npy(path)
    _require_rows(path, found.shape)
    if found.offset is None:
        raise InputOutputError(f"{path} cannot be read row by row: {found.why}.", "Write it with numpy.ascontiguousarray.")
    rows, columns = found.shape
    return MappedTable(path, found.offset, rows, columns, found.dtype)


def _require_rows(path: Path, shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or not all(shape):
        raise InputOutputError(
            f"{path} has the shape {shape}; a file of codes has a row for each code.",
            "As `bvae encode` writes it; a single code is an array of shape (1, bits).",
        )


def _kinds(path: Path, table: Table, by_values: bool) -> list[Kind]:
    """Return what the rows of whole numbers may be; a .npy of bytes may be either, unless its values decide it."""
    of_bytes = table.dtype == np.uint8
    if isinstance(table, ParquetCodes):
        return ["packed" if of_bytes else "bits"]
    if not by_values:
        return ["bits", "packed"] if of_bytes else ["bits"]
    if table.dtype.kind == "b" or _are_bits(CodeRows(path, "bits", table.shape[1], table)):
        return ["bits"]
    if not of_bytes:
        raise InputOutputError(f"{path} holds {table.dtype}, and not 0 and 1 alone.", "Packed codes are uint8.")
    return ["packed"]


def _columns(width: int, kind: Kind) -> int:
    return packed_bytes(width) if kind == "packed" else width


def _how(kind: Kind) -> str:
    return "eight to a byte" if kind == "packed" else "one to a number"


def _can_be(codes: CodeRows) -> bool:
    try:
        for start, stop in codes.spans():
            codes.packed(start, stop)
    except InputOutputError:
        return False
    return True


def _are_bits(codes: CodeRows) -> bool:
    """Say whether every number of a file is 0 or 1."""
    return all(bool(((values == 0) | (values == 1)).all()) for values in _values(codes))


def _values(codes: CodeRows) -> Iterator[NDArray[Any]]:
    return (codes.table.take(slice(start, stop)) for start, stop in codes.spans())


def _no_reading(path: Path, columns: int, what: str, widths: Mapping[str, int], owner: str) -> InputOutputError:
    known = " or ".join(f"{width} {name}" for name, width in widths.items())
    sizes = " or ".join(str(packed_bytes(width)) for width in widths.values())
    packed = "" if what == "logits" else f" ({sizes} bytes packed)"
    codes = f"codes of {owner}" if owner else "codes"
    return InputOutputError(
        f"{path} has rows of {columns} {what}; {codes} have {known}{packed}.",
        "Name the model or the code that made the file." if owner else _BITS_HINT,
    )
