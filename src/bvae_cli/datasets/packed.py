"""Packed bits, eight to a byte, read from their file batch by batch; and how such a file is written."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

from pydantic import Field

from bvae_cli import numpy_files
from bvae_cli.datasets.base import Splits
from bvae_cli.datasets.divided import LABEL_NAMES, SPLITS, DividedFile, label_name
from bvae_cli.datasets.rows import pieces
from bvae_cli.datasets.values import checked_labels
from bvae_cli.errors import InputOutputError
from bvae_cli.numpy_files import Found

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bvae_cli.datasets.mapped import MappedRows

FEATURE_SHAPE = "feature_shape"
SUFFIXES = (".npz", ".npy")
_NOTES = ("source", "licence")
_ROWS_CHECKED = 2**14


class Packed(DividedFile):
    """Rows of D bits, packed as ``numpy.packbits(rows, axis=1)`` does: ``[rows, ⌈D/8⌉]`` uint8, the last byte filled with 0.

    ``.npz`` as ``numpy.savez`` writes it: the arrays that ``arrays`` takes, packed, and ``feature_shape``, the shape of a
    row, as [28, 28] or [784]; strings ``source`` and ``licence`` if any. ``.npy``: one array; ``features`` says D.

    >>> Packed(path="bits.npy", features=784).mapped
    'auto'
    """

    summary: ClassVar[str] = "your own .npz or .npy file of packed bits (`bvae datasets pack` writes one)"

    features: int = Field(0, ge=0, le=2**31, description="Bits in a row; 0: the file says it (an .npz with feature_shape).")

    def check(self) -> None:
        """Raise InputOutputError where the file is missing, empty or of another suffix; nothing of it is read."""
        self.require_suffix(SUFFIXES)

    def load(self) -> Splits:
        """Map the file, or read a small one. Raises InputOutputError where it does not hold rows of so many bits."""
        self.check()
        if self.suffix == ".npy":
            if not self.features:
                raise InputOutputError(
                    f"{self.path} does not say how many bits a row has.", f"Say it: packed:path={self.path},features=784."
                )
            return self.divided(self._rows(numpy_files.find_npy(self.path), None, self.features), (self.features,), None)
        names = numpy_files.npz_names(self.path)
        feature_shape, notes = self._feature_shape(names), self._notes(names)
        arrays = [name for name in names if name not in (FEATURE_SHAPE, *_NOTES)]
        if set(names) & set(SPLITS):
            self.require_all_splits(arrays)
            splits = {split: self._of_archive(split, feature_shape) for split in SPLITS}
            labelled = [split for split in SPLITS if label_name(split) in names]
            labels = {split: self._labels(label_name(split), len(splits[split])) for split in labelled}
            return self.splits(splits, feature_shape, labels, **notes)
        rows = self._of_archive(self.data_name(arrays), feature_shape)
        label_names = [name for name in LABEL_NAMES if name in names]
        return self.divided(rows, feature_shape, self._labels(label_names[0], len(rows)) if label_names else None, **notes)

    def _of_archive(self, name: str, feature_shape: tuple[int, ...]) -> NDArray[np.uint8] | MappedRows:
        return self._rows(numpy_files.find_npz(self.path, name), name, math.prod(feature_shape))

    def _rows(self, found: Found, name: str | None, features: int) -> NDArray[np.uint8] | MappedRows:
        """Return the rows of an array of packed bits: unpacked, or where they are in the file."""
        import numpy as np

        where = str(self.path) if name is None else self.named(name)
        _require_packed(found, features, where)
        if self.maps(found, found.shape[0] * features):
            from bvae_cli.datasets.mapped import MappedRows
            from bvae_cli.mapped_table import MappedTable

            assert found.offset is not None  # else it is not mapped
            rows, columns = found.shape
            table = MappedTable(self.path, found.offset, rows, columns, found.dtype)
            for start in range(0, rows, _ROWS_CHECKED):
                _require_nothing_beyond(table.take(slice(start, start + _ROWS_CHECKED)), features, where, start)
            return MappedRows(table, bits=features)
        packed = numpy_files.read_npy(self.path) if name is None else numpy_files.read_npz(self.path, [name])[name]
        _require_nothing_beyond(packed, features, where, 0)
        return np.unpackbits(packed, axis=1, count=features)

    def _feature_shape(self, names: list[str]) -> tuple[int, ...]:
        if FEATURE_SHAPE not in names:
            if not self.features:
                raise InputOutputError(
                    f"{self.path} does not say how many bits a row has: it has no array '{FEATURE_SHAPE}'.",
                    f"Add it, as [28, 28], or say it: packed:path={self.path},features=784.",
                )
            return (self.features,)
        sizes = numpy_files.read_npz(self.path, [FEATURE_SHAPE])[FEATURE_SHAPE]
        if sizes.ndim != 1 or sizes.dtype.kind not in "iu" or not len(sizes) or sizes.min() < 1:
            raise InputOutputError(
                f"{self.named(FEATURE_SHAPE)} is not the shape of a row.", "Give whole numbers, as [28, 28] or [784]."
            )
        feature_shape = tuple(sizes.tolist())
        if self.features not in (0, math.prod(feature_shape)):
            raise InputOutputError(
                f"{self.path} holds rows of {math.prod(feature_shape)} bits, not {self.features}.",
                "Leave features out: the file says it.",
            )
        return feature_shape

    def _notes(self, names: list[str]) -> dict[str, str]:
        return {name: numpy_files.read_npz_text(self.path, name) for name in _NOTES if name in names}

    def _labels(self, name: str, rows: int) -> NDArray[np.int64]:
        return checked_labels(numpy_files.read_npz(self.path, [name])[name], rows, self.named(name))


def write_packed(file: BinaryIO, splits: Splits) -> None:
    """Write the rows of all splits, which are bits, as an .npz file that ``Packed`` reads; a few megabytes at once."""
    import numpy as np

    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in SPLITS:
            rows = splits.split(name)
            packed = (np.packbits(piece.cpu().numpy(), axis=1) for piece in pieces(rows))
            _write_member(archive, name, (len(rows), -(-splits.features // 8)), np.dtype("uint8"), packed)
            labels = getattr(splits, label_name(name))
            if labels is not None:
                _write_array(archive, label_name(name), labels.cpu().numpy())
        _write_array(archive, FEATURE_SHAPE, np.array(splits.feature_shape, "int64"))
        for note in _NOTES:
            _write_array(archive, note, np.array(getattr(splits, note)))


def _write_array(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    _write_member(archive, name, array.shape, array.dtype, [array])


def _write_member(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], parts: Iterable[NDArray[Any]]
) -> None:
    from numpy.lib import format as npy_format

    # A member without a date: equal data are equal files.
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
        header = {"shape": shape, "fortran_order": False, "descr": npy_format.dtype_to_descr(dtype)}
        npy_format.write_array_header_1_0(member, header)
        for part in parts:
            member.write(part.tobytes())


def _require_packed(found: Found, features: int, where: str) -> None:
    wanted = -(-features // 8)
    if len(found.shape) != 2 or found.dtype.name != "uint8" or not found.shape[0]:
        raise InputOutputError(
            f"{where} does not hold packed bits, rows × bytes of uint8: its shape is {found.shape}, its type {found.dtype}.",
            "Pack them with numpy.packbits(rows, axis=1), or with `bvae datasets pack`.",
        )
    if found.shape[1] != wanted:
        raise InputOutputError(
            f"{where} has {found.shape[1]} bytes in a row; rows of {features} bits have {wanted}.",
            f"That many bytes hold {8 * found.shape[1] - 7} to {8 * found.shape[1]} bits.",
        )


def _require_nothing_beyond(packed: NDArray[np.uint8], features: int, where: str, first_row: int) -> None:
    """Raise InputOutputError where the last byte of a row has more bits in it than the row has."""
    beyond = (packed[:, -1] & (2 ** (-features % 8) - 1)) != 0
    if beyond.any():
        raise InputOutputError(
            f"Row {first_row + int(beyond.argmax()) + 1} of {where} goes on beyond its {features} bits (counted from 1).",
            "Give the number of bits that a row has, or fill its last byte with 0 as numpy.packbits does.",
        )
