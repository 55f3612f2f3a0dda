"""Sparse matrices as ``scipy.sparse.save_npz`` writes them: made dense, where that is of a sensible size."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bvae_cli import numpy_files
from bvae_cli.config import LikelihoodName
from bvae_cli.datasets.values import dtype_for, first_bad, hint_for, refused_value
from bvae_cli.errors import InputOutputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What scipy writes beside the values, format by format.
_INDICES = {"csr": ("indices", "indptr"), "csc": ("indices", "indptr"), "coo": ("row", "col")}
_AGAIN = "Write it again with scipy.sparse.save_npz."
# A dense table of more than a GiB may have so many bytes for each byte of the file: 1 in 1000 of its values is not 0.
_LARGE, _BYTES_OF_A_BYTE = 2**30, 1000


def is_sparse(names: list[str]) -> bool:
    """Say whether the arrays of an .npz file are those of a sparse matrix."""
    return {"format", "shape", "data"} <= set(names)


def read_sparse(path: Path, names: list[str], likelihood: LikelihoodName = "bernoulli") -> NDArray[Any]:
    """Return a sparse matrix as a dense array ``[rows, columns]``, of the type that ``Splits`` has for the likelihood.

    Nothing is unpickled. Raises InputOutputError for a damaged file, for another format than csr, csc or coo, for a value
    that the likelihood does not take, naming the first, and where the dense table would be far larger than the file can
    mean.
    """
    import numpy as np
    from scipy import sparse

    kind = numpy_files.read_npz_text(path, "format")
    if kind not in _INDICES or not set(_INDICES[kind]) <= set(names):
        raise InputOutputError(
            f"{path} holds a sparse matrix of the format '{kind[:20]}', not one of {', '.join(_INDICES)}.",
            "Write it with scipy.sparse.save_npz(file, matrix.tocsr()).",
        )
    first, second = _INDICES[kind]
    arrays = numpy_files.read_npz(path, ["shape", "data", first, second])
    shape = _checked_shape(arrays["shape"], path)
    data, indices = arrays["data"], (arrays[first], arrays[second])
    if data.ndim != 1 or any(array.ndim != 1 or array.dtype.kind not in "iu" for array in indices):
        raise InputOutputError(f"{path} is damaged: its values and their places are not lists.", _AGAIN)
    content = (data, indices) if kind == "coo" else (data, *indices)
    try:
        matrix = getattr(sparse, f"{kind}_matrix")(content, shape=shape)
        if kind != "coo":
            matrix.check_format(full_check=True)
        # The values of one place are added up: in their own type small ones would begin again at 0.
        rows = (matrix if data.dtype.kind not in "iu" else matrix.astype(np.int64)).tocsr()
        rows.sum_duplicates()
    except (ValueError, IndexError, OverflowError, TypeError, RuntimeError) as error:
        raise InputOutputError(f"{path} is damaged: {error}.", _AGAIN) from error
    values = rows.data[:, np.newaxis]
    bad = first_bad(values, likelihood) if len(values) else None
    if bad is not None:
        place = bad[0]
        row = int(np.searchsorted(rows.indptr, place, side="right"))
        said = f"Row {row}, column {int(rows.indices[place]) + 1}"
        hint = hint_for(values, likelihood)
        if likelihood == "bernoulli":
            hint += " Of counts, (matrix > 0) is whether there are any."
        raise refused_value(rows.data[place].item(), said, str(path), "counted from 1", likelihood, hint)
    dense: NDArray[Any] = rows.astype(dtype_for(values, likelihood)).toarray()
    return dense


def _checked_shape(shape: NDArray[Any], path: Path) -> tuple[int, int]:
    if shape.ndim != 1 or len(shape) != 2 or shape.dtype.kind not in "iu" or shape.min() < 1:
        raise InputOutputError(f"{path} does not say how many rows and columns its matrix has.", _AGAIN)
    rows, columns = (int(size) for size in shape)
    size, there = math.prod((rows, columns)), path.stat().st_size
    if size > max(_LARGE, _BYTES_OF_A_BYTE * there):
        raise InputOutputError(
            f"The matrix in {path} would be {rows:,} × {columns:,} values, from a file of {there / 2**20:,.1f} MiB.",
            "Leave out columns that are almost always 0.",
        )
    return rows, columns
