"""Data of one's own: an array in a .npy, .npz or text file, split by a seed or already split."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, Self

from pydantic import AfterValidator, Field, model_validator

from bvae_cli import numpy_files
from bvae_cli.config import LikelihoodName
from bvae_cli.datasets import text_table
from bvae_cli.datasets.base import SplitName, Splits
from bvae_cli.datasets.divided import LABEL_NAMES, SPLITS, DividedFile, label_name
from bvae_cli.datasets.packed import FEATURE_SHAPE, Packed
from bvae_cli.datasets.parquet import read_parquet
from bvae_cli.datasets.sparse import is_sparse, read_sparse
from bvae_cli.datasets.split_file import read_split_file
from bvae_cli.datasets.values import Table, categories_of, checked_labels, checked_rows, checked_table
from bvae_cli.errors import InputOutputError, UsageError
from bvae_cli.extras import require_extra
from bvae_cli.numpy_files import Found
from bvae_cli.paths import expanded
from bvae_cli.sources import require_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bvae_cli.datasets.mapped import MappedRows

TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
SUFFIXES = (".npy", ".npz", *TEXT_SUFFIXES, ".parquet")
OtherFile = Annotated[Path, AfterValidator(expanded)] | None
_NPZ = "an .npz file without packed bits"


class _Table(NamedTuple):
    """The rows of one file, in memory or in their place, and their labels, if there are any."""

    values: NDArray[Any] | MappedRows
    feature_shape: tuple[int, ...]
    labels: NDArray[np.int64] | None = None


class Arrays(DividedFile):
    """Rows of numbers from a file; ``likelihood`` says what they are.

    Values in [0, 1] (``bernoulli``) become uint8 where all are bits, else float32; real values (``gaussian``) and counts
    (``poisson``, ``negative-binomial``) float32; numbers of symbols (``categorical``) int16, each column having as many
    symbols as its largest number says.

    ``.npy``: one array, rows × features, or rows × height × width and so on; a large one stays in its file. ``.npz``: one
    array (``x``, ``data``, ``images``, or the only one) with labels in ``y`` or ``labels`` if any; or ``train``,
    ``validation`` and ``test`` with ``train_labels`` and so on, which are taken as they are; with ``feature_shape`` beside
    them the arrays are packed bits, as ``packed`` reads them; or a sparse matrix, as ``scipy.sparse.save_npz`` writes it,
    which is made dense. ``.csv``, ``.tsv``, ``.txt``: numbers separated by comma, semicolon, tab or blanks, with or without
    a header line. ``.parquet``: a column for each feature, with labels in a column ``y`` or ``labels`` if any.

    The rows are divided by the seed, as ``split_file`` says, or are those of several files: ``path`` for training,
    ``test_file``, and ``validation_file``, without which the seed takes its share from training.

    >>> Arrays(path="bits.csv", validation=0.2).test
    0.1
    """

    summary: ClassVar[str] = "your own .npy, .npz, .csv or .parquet file of bits, real values, counts or symbols"

    split_file: OtherFile = Field(None, description="File that says the split of each row; see the guide.")
    validation_file: OtherFile = Field(None, description="File of the validation rows; then path holds no such rows.")
    test_file: OtherFile = Field(None, description="File of the test rows; then path holds no such rows.")
    likelihood: LikelihoodName = Field(
        "bernoulli",
        description="What the values are: bernoulli: bits, or values in 0…1; gaussian: real values; poisson or "
        "negative-binomial: counts; categorical: symbols 0, 1, 2 ….",
    )

    @model_validator(mode="after")
    def _one_way_to_divide(self) -> Self:
        if self.split_file is not None and (self.validation_file or self.test_file) is not None:
            raise UsageError(
                "split_file divides the rows of one file; there are others beside it.", "Leave one of them out."
            )
        if self.validation_file is not None and self.test_file is None:
            raise UsageError("There is a validation_file, and no test_file.", "Name both, or test_file alone.")
        if self.split_file is not None:
            self.require_unnamed("validation", "test", "split_seed", because="split_file says the split of each row")
        if self.test_file is not None:
            self.require_unnamed("test", because="the test rows are those of test_file")
        if self.validation_file is not None:
            self.require_unnamed("validation", "split_seed", because="the validation rows are those of validation_file")
        return self

    def check(self) -> None:
        """Raise InputOutputError where a file is missing, empty or of an unknown suffix; nothing of it is read."""
        self.require_suffix(SUFFIXES)
        for other in (self.validation_file, self.test_file):
            if other is not None:
                self._of(other).check()
        if self.split_file is not None:
            require_file(self.split_file)
        if self.suffix == ".parquet":
            require_extra("parquet", "pyarrow")

    def load(self) -> Splits:
        """Read the file, or map it. Raises InputOutputError, naming the first bad cell, where it cannot."""
        self.check()
        if self.test_file is not None:
            return self._of_files(self.test_file)
        if self.suffix == ".npz":
            names = numpy_files.npz_names(self.path)
            divided = bool(set(names) & set(SPLITS))
            if self.split_file is not None and (divided or FEATURE_SHAPE in names):
                raise InputOutputError(
                    f"split_file is for the rows of one array; {self.path} is divided already, or packed.", "Leave it out."
                )
            if FEATURE_SHAPE in names:
                return self._packed()
            if divided:
                self._require_mapping_is_not_asked(_NPZ)
                return self._already_divided(names)
        table = self._table()
        return self.divided(table.values, table.feature_shape, table.labels)

    def division(self, total: int) -> dict[SplitName, NDArray[np.int64]]:
        """Return the numbers of the rows of each split, as ``split_file`` or the seed says."""
        return super().division(total) if self.split_file is None else read_split_file(self.split_file, total)

    def for_likelihood(self, name: str) -> Self:
        """Return what reads the values for a likelihood, where nothing else was said of them."""
        if self.likelihood != "bernoulli" or name in ("auto", "bernoulli"):
            return self
        return self.model_copy(update={"likelihood": name})

    def splits(
        self,
        values: dict[SplitName, Any],
        feature_shape: tuple[int, ...],
        labels: dict[SplitName, NDArray[np.int64]],
        **more: Any,
    ) -> Splits:
        """Return the splits, with what the values are."""
        if self.likelihood == "categorical":
            more["categories"] = categories_of(values.values())
        return super().splits(values, feature_shape, labels, likelihood=self.likelihood, **more)

    def _of(self, path: Path) -> Arrays:
        """Return what reads another file as this one is read."""
        mapped = "never" if path.suffix.casefold() != ".npy" else self.mapped
        return self._as_this(Arrays(path=path, mapped=mapped, likelihood=self.likelihood))

    def _of_files(self, test_file: Path) -> Splits:
        whole, test = self._table(), self._of(test_file)._table()
        if self.validation_file is not None:
            train, validation = whole, self._of(self.validation_file)._table()
        else:
            kept, rest = self._without_validation(len(whole.values))
            train, validation = _taken(whole, kept), _taken(whole, rest)
        for other, part in ((self.validation_file, validation), (test_file, test)):
            if part.feature_shape != whole.feature_shape:
                shapes = (" × ".join(map(str, table.feature_shape)) for table in (part, whole))
                raise InputOutputError(
                    f"The rows of {other} and {self.path} differ in shape: {' and '.join(shapes)}.",
                    "Give all the same features.",
                )
        parts: dict[SplitName, _Table] = {"train": train, "validation": validation, "test": test}
        labels = {split: part.labels for split, part in parts.items() if part.labels is not None}
        return self.splits(_of_one_kind(parts), whole.feature_shape, labels)

    def _packed(self) -> Splits:
        if self.likelihood == "categorical":
            raise InputOutputError(f"{self.path} holds packed bits, no symbols.", "Leave the likelihood out.")
        splits = self._as_this(Packed(**self.model_dump(include=set(Packed.model_fields)))).load()
        if self.likelihood == "bernoulli":
            return splits
        parts: dict[str, Any] = {split: _as_numbers(splits.split(split)) for split in SPLITS}
        return replace(splits, likelihood=self.likelihood, **parts)

    def _table(self) -> _Table:
        if self.suffix == ".npz":
            self._require_mapping_is_not_asked(_NPZ)
            return self._from_npz(numpy_files.npz_names(self.path))
        if self.suffix == ".npy":
            found = numpy_files.find_npy(self.path)
            if self.likelihood == "categorical":
                self._require_mapping_is_not_asked(
                    "a table of symbols, which are held in memory", "Leave mapped=always out."
                )
            elif len(found.shape) > 1 and self.maps(found, math.prod(found.shape) * found.dtype.itemsize):
                return self._from_mapped(found)
            return _Table(*self._checked(numpy_files.read_npy(self.path), str(self.path)))
        if self.suffix == ".parquet":
            self._require_mapping_is_not_asked("Parquet")
            columns, labels = read_parquet(self.path, LABEL_NAMES, self._read_as)
            rows = self._checked(columns, str(self.path))
            return _Table(*rows, None if labels is None else checked_labels(labels, len(columns), f"labels in {self.path}"))
        self._require_mapping_is_not_asked("text")
        line_of = functools.partial(text_table.line_number, self.path)
        table = text_table.read_table(self.path, self._read_as)
        return _Table(*self._checked(table, str(self.path), line_of=line_of, counted=text_table.COUNTED))

    @property
    def _read_as(self) -> str:
        """The type in which numbers of a text or a column are read: whether they are whole is only seen in a precise one."""
        return "float32" if self.likelihood == "bernoulli" else "float64"

    def _checked(self, array: NDArray[Any], where: str, **counting: Any) -> Table:
        return checked_rows(array, where, likelihood=self.likelihood, **counting)

    def _from_mapped(self, found: Found) -> _Table:
        from bvae_cli.datasets.mapped import MappedRows
        from bvae_cli.mapped_table import MappedTable

        feature_shape = found.shape[1:]
        assert found.offset is not None  # else it is not mapped
        table = MappedTable(self.path, found.offset, found.shape[0], math.prod(feature_shape), found.dtype)
        are_bits = checked_table(table, feature_shape, str(self.path), self.likelihood)
        return _Table(MappedRows(table, are_bits=are_bits), feature_shape)

    def _from_npz(self, names: list[str]) -> _Table:
        if is_sparse(names):
            rows = self._checked(read_sparse(self.path, names, self.likelihood), str(self.path))
        else:
            data_name = self.data_name(names)
            rows = self._checked(numpy_files.read_npz(self.path, [data_name])[data_name], self.named(data_name))
        labelled = [name for name in LABEL_NAMES if name in names][:1]
        if not labelled:
            return _Table(*rows)
        labels = numpy_files.read_npz(self.path, labelled)[labelled[0]]
        return _Table(*rows, checked_labels(labels, len(rows.values), self.named(labelled[0])))

    def _already_divided(self, names: list[str]) -> Splits:
        self.require_all_splits(names)
        labelled = [split for split in SPLITS if label_name(split) in names]
        arrays = numpy_files.read_npz(self.path, [*SPLITS, *map(label_name, labelled)])
        parts = {split: self._checked(arrays[split], self.named(split)) for split in SPLITS}
        shapes = {split: part.feature_shape for split, part in parts.items()}
        if len(set(shapes.values())) > 1:
            said = ", ".join(f"{split} {' × '.join(map(str, shape))}" for split, shape in shapes.items())
            raise InputOutputError(f"The rows in {self.path} differ in shape: {said}.", "Give all the same features.")
        labels = {
            split: checked_labels(arrays[label_name(split)], len(parts[split].values), self.named(label_name(split)))
            for split in labelled
        }
        tables = {split: _Table(*part) for split, part in parts.items()}
        return self.splits(_of_one_kind(tables), shapes["train"], labels)

    def _require_mapping_is_not_asked(
        self, what: str, hint: str = "Write the rows with numpy.save, or pack them: `bvae datasets pack`."
    ) -> None:
        if self.mapped == "always":
            raise InputOutputError(f"{self.path} cannot be mapped: it is {what}.", hint)


def _taken(table: _Table, rows: NDArray[np.int64]) -> _Table:
    values = table.values.indexed(rows) if hasattr(table.values, "indexed") else table.values[rows]
    return _Table(values, table.feature_shape, None if table.labels is None else table.labels[rows])


def _of_one_kind(parts: Mapping[SplitName, _Table]) -> dict[SplitName, NDArray[Any] | MappedRows]:
    """Return the values of three parts as one type: they are bits only where those of all three are."""
    if not any("float32" in str(part.values.dtype) for part in parts.values()):
        return {split: part.values for split, part in parts.items()}
    return {split: _as_numbers(part.values) for split, part in parts.items()}


def _as_numbers(rows: Any) -> Any:
    """Return an array, a tensor or rows in their file as float32."""
    import numpy as np

    if hasattr(rows, "as_numbers"):
        return rows.as_numbers()
    return rows.astype("float32", copy=False) if isinstance(rows, np.ndarray) else rows.float()
