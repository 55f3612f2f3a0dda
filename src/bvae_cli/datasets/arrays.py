"""Data of one's own: an array in a .npy, .npz or text file, split by a seed or already split."""

from __future__ import annotations

import functools
import math
from typing import ClassVar

from bvae_cli import numpy_files
from bvae_cli.datasets import text_table
from bvae_cli.datasets.base import Splits
from bvae_cli.datasets.divided import LABEL_NAMES, SPLITS, DividedFile, label_name
from bvae_cli.datasets.packed import FEATURE_SHAPE, Packed
from bvae_cli.datasets.values import checked_labels, checked_rows, checked_table
from bvae_cli.errors import InputOutputError
from bvae_cli.numpy_files import Found

TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
SUFFIXES = (".npy", ".npz", *TEXT_SUFFIXES)


class Arrays(DividedFile):
    """Rows of values in [0, 1] from a file: bits become uint8, anything else float32.

    ``.npy``: one array, rows × features, or rows × height × width and so on; a large one stays in its file. ``.npz``: one
    array (``x``, ``data``, ``images``, or the only one) with labels in ``y`` or ``labels`` if any; or ``train``,
    ``validation`` and ``test`` with ``train_labels`` and so on, which are taken as they are; with ``feature_shape`` beside
    them the arrays are packed bits, as ``packed`` reads them. ``.csv``, ``.tsv``, ``.txt``: numbers separated by comma,
    semicolon, tab or blanks, with or without a header line.

    >>> Arrays(path="bits.csv", validation=0.2).test
    0.1
    """

    summary: ClassVar[str] = "your own .npy, .npz or .csv file of values in 0…1"

    def check(self) -> None:
        """Raise InputOutputError where the file is missing, empty or of an unknown suffix; nothing of it is read."""
        self.require_suffix(SUFFIXES)

    def load(self) -> Splits:
        """Read the file, or map it. Raises InputOutputError, naming the first bad cell, where it cannot."""
        self.check()
        if self.suffix == ".npz":
            return self._from_npz()
        if self.suffix == ".npy":
            found = numpy_files.find_npy(self.path)
            if len(found.shape) > 1 and self.maps(found, math.prod(found.shape) * found.dtype.itemsize):
                return self._from_mapped(found)
            rows = checked_rows(numpy_files.read_npy(self.path), str(self.path))
        else:
            self._require_mapping_is_not_asked("text")
            line_of = functools.partial(text_table.line_number, self.path)
            rows = checked_rows(text_table.read_table(self.path), str(self.path), line_of, text_table.COUNTED)
        return self.divided(rows.values, rows.feature_shape, None)

    def _from_mapped(self, found: Found) -> Splits:
        from bvae_cli.datasets.mapped import MappedRows, MappedTable

        feature_shape = found.shape[1:]
        assert found.offset is not None  # else it is not mapped
        table = MappedTable(self.path, found.offset, found.shape[0], math.prod(feature_shape), found.dtype)
        are_bits = checked_table(table, feature_shape, str(self.path))
        return self.divided(MappedRows(table, are_bits=are_bits), feature_shape, None)

    def _from_npz(self) -> Splits:
        names = numpy_files.npz_names(self.path)
        if FEATURE_SHAPE in names:
            return Packed(**self.model_dump()).load()
        self._require_mapping_is_not_asked("an .npz file without packed bits")
        if set(names) & set(SPLITS):
            return self._already_divided(names)
        data_name = self.data_name(names)
        names_of_labels = [name for name in LABEL_NAMES if name in names][:1]
        arrays = numpy_files.read_npz(self.path, [data_name, *names_of_labels])
        rows = checked_rows(arrays[data_name], self.named(data_name))
        if not names_of_labels:
            return self.divided(rows.values, rows.feature_shape, None)
        labels = checked_labels(arrays[names_of_labels[0]], len(rows.values), self.named(names_of_labels[0]))
        return self.divided(rows.values, rows.feature_shape, labels)

    def _already_divided(self, names: list[str]) -> Splits:
        self.require_all_splits(names)
        labelled = [split for split in SPLITS if label_name(split) in names]
        arrays = numpy_files.read_npz(self.path, [*SPLITS, *map(label_name, labelled)])
        parts = {split: checked_rows(arrays[split], self.named(split)) for split in SPLITS}
        shapes = {split: part.feature_shape for split, part in parts.items()}
        if len(set(shapes.values())) > 1:
            said = ", ".join(f"{split} {' × '.join(map(str, shape))}" for split, shape in shapes.items())
            raise InputOutputError(f"The rows in {self.path} differ in shape: {said}.", "Give all the same features.")
        labels = {
            split: checked_labels(arrays[label_name(split)], len(parts[split].values), self.named(label_name(split)))
            for split in labelled
        }
        # One type for all three: the splits are of one kind, even where one of them happens to be all 0 and 1.
        bits = all(part.values.dtype == "uint8" for part in parts.values())
        values = {split: part.values.astype("uint8" if bits else "float32") for split, part in parts.items()}
        return self.splits(values, shapes["train"], labels)

    def _require_mapping_is_not_asked(self, what: str) -> None:
        if self.mapped == "always":
            raise InputOutputError(
                f"{self.path} cannot be mapped: it is {what}.",
                "Write the rows with numpy.save, or pack them: `bvae datasets pack`.",
            )
