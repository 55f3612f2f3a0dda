"""Reading .npy and .npz files strictly: nothing is unpickled, and memory follows the file, not what it claims."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bvae_cli.datasets.files import reading, require_file
from bvae_cli.errors import InputOutputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MEMBER_SUFFIX = ".npy"
_NUMERIC_KINDS = "biuf"


def read_npy(path: Path) -> NDArray[Any]:
    """Return the numeric array of a .npy file; it is read-only.

    Raises InputOutputError for a missing, empty or damaged file, for objects and for what is not numeric.
    """
    require_file(path)
    with reading(path):
        content = path.read_bytes()
    return _parsed(content, str(path))


def npz_names(path: Path) -> list[str]:
    """Return the names of the arrays in an .npz file. Raises InputOutputError where it is no such file."""
    with _archive(path) as archive:
        members = archive.namelist()
    return [name.removesuffix(_MEMBER_SUFFIX) for name in members if name.endswith(_MEMBER_SUFFIX)]


def read_npz(path: Path, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Return the named arrays of an .npz file, which has them (see ``npz_names``); they are read-only.

    Raises InputOutputError for a damaged file, for objects and for what is not numeric, naming the array.
    """
    arrays = {}
    with _archive(path) as archive:
        for name in names:
            try:
                content = archive.read(f"{name}{_MEMBER_SUFFIX}")
            # RuntimeError stands for an encrypted member, NotImplementedError (one of them) for an unknown compression.
            except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
                raise InputOutputError(f"'{name}' in {path} cannot be unpacked: {error}.", "Write it again.") from error
            arrays[name] = _parsed(content, f"'{name}' in {path}")
    return arrays


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    require_file(path)
    with reading(path):
        try:
            archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise InputOutputError(
                f"{path} is not an .npz archive, or is damaged.",
                "Write it with numpy.savez, or give it the suffix of what it is.",
            ) from error
        with archive:
            yield archive


def _parsed(content: bytes, where: str) -> NDArray[Any]:
    import numpy as np

    stream = io.BytesIO(content)
    shape, fortran_order, dtype = _read_header(stream, where)
    if dtype.hasobject:
        raise InputOutputError(
            f"{where} holds Python objects, which are never unpickled.",
            "Save numbers: rows of equal length, with dtype float32 or uint8.",
        )
    if dtype.kind not in _NUMERIC_KINDS:
        raise InputOutputError(f"{where} is not numeric: its type is {dtype}.", "Save it as uint8 or float32.")
    count = math.prod(shape)
    there = len(content) - stream.tell()
    if count * dtype.itemsize > there:
        raise InputOutputError(
            f"{where} is cut off: its header says {count * dtype.itemsize} bytes of values, it holds {there}.",
            "Write or copy it again.",
        )
    values = np.frombuffer(content, dtype, count, offset=stream.tell())
    return values.reshape(shape, order="F" if fortran_order else "C")


def _read_header(stream: io.BytesIO, where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    from numpy.lib import format as npy_format

    try:
        version = npy_format.read_magic(stream)
        # Version 3 differs only in the names of fields, and a structured array is refused anyway.
        read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, fortran_order, dtype = read(stream)
    except ValueError as error:
        raise InputOutputError(f"{where} is not a .npy file.", _likely_kind(stream.getvalue())) from error
    if any(size < 0 for size in shape):
        raise InputOutputError(f"{where} is not a .npy file: its shape is {shape}.", "Write it again.")
    return shape, fortran_order, dtype


def _likely_kind(content: bytes) -> str:
    if content.startswith(b"PK"):
        return "It looks like an .npz archive: give it that suffix."
    if content.startswith(b"\x80"):
        return "It looks like a pickle, which is never unpickled: write it with numpy.save."
    return "Write it with numpy.save, or give it the suffix of what it is."
