"""Reading .npy and .npz files strictly: nothing is unpickled, and memory follows the file, not what it claims.

An array is read whole, or only found: where in the file its values are, so that they can be mapped.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bvae_cli.errors import InputOutputError
from bvae_cli.sources import open_file, reading, require_file, require_plausible, zip_archive, zip_member

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MEMBER_SUFFIX = ".npy"
_LONGEST_TOLD = 60
_NUMERIC_KINDS, _TEXT_KINDS = "biuf", "US"
# What stands before the values is shorter than this, in a file that is what it says.
_LONGEST_HEADER = 2**17
# Every numpy has so many dimensions, and counts bytes in 63 bits.
_MOST_DIMENSIONS, _MOST_BYTES = 32, 2**63
# The header of a member of an archive: its length, and where it says how long the name and the rest are that follow it.
_LOCAL_HEADER, _LOCAL_LENGTHS = 30, slice(26, 30)


class Found(NamedTuple):
    """An array in a file that was not read: its shape and type, and the byte from which its values stand, row by row.

    ``offset`` is None where they cannot be mapped, and ``why`` says why: they are compressed, or stand column by column.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int | None
    why: str = ""


def read_npy(path: Path) -> NDArray[Any]:
    """Return the numeric array of a .npy file; it is read-only.

    Raises InputOutputError for a missing, empty or damaged file, for objects and for what is not numeric.
    """
    require_file(path)
    with reading(path), open_file(path) as file:
        content = file.read()
    return _parsed(content, str(path))


def find_npy(path: Path) -> Found:
    """Find the numeric array of a .npy file. Raises InputOutputError as ``read_npy`` does; no value is read."""
    require_file(path)
    with reading(path), open_file(path) as file:
        head, size = file.read(_LONGEST_HEADER), path.stat().st_size
    return _found(head, 0, size, str(path))


def find_npz(path: Path, name: str) -> Found:
    """Find the named array of an .npz file, which has it. Raises InputOutputError as ``read_npz`` does."""
    with _archive(path) as archive:
        member, head = archive.getinfo(f"{name}{_MEMBER_SUFFIX}"), _unpacked(archive, name, path, _LONGEST_HEADER)
    if member.compress_type != zipfile.ZIP_STORED:
        return _found(head, 0, member.file_size, f"'{name}' in {path}")._replace(offset=None, why="it is compressed")
    with reading(path), open_file(path) as file:
        file.seek(member.header_offset)
        # The directory of the archive does not say how long the header is that stands beside the member itself.
        start = member.header_offset + _LOCAL_HEADER + sum(struct.unpack("<HH", file.read(_LOCAL_HEADER)[_LOCAL_LENGTHS]))
        there = min(member.file_size, path.stat().st_size - start)
    return _found(head, start, there, f"'{name}' in {path}")


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
            arrays[name] = _parsed(_unpacked(archive, name, path), f"'{name}' in {path}")
    return arrays


def read_npz_text(path: Path, name: str) -> str:
    """Return the string that an array of an .npz file is. Raises InputOutputError where it is none."""
    with _archive(path) as archive:
        content = _unpacked(archive, name, path)
    where = f"'{name}' in {path}"
    array = _parsed(content, where, _TEXT_KINDS)
    try:
        value = array.item() if not array.ndim else ""
        return value.decode("ascii") if isinstance(value, bytes) else str(value)
    except ValueError:  # numbers that are no characters
        raise InputOutputError(f"{where} is not text.", "Write a string, or leave it out.") from None


def _archive(path: Path) -> AbstractContextManager[zipfile.ZipFile]:
    return zip_archive(path, "an .npz archive", "Write it with numpy.savez, or give it the suffix of what it is.")


def _unpacked(archive: zipfile.ZipFile, name: str, path: Path, size: int = -1) -> bytes:
    """Return the first ``size`` bytes of an array's member, or all of them."""
    info, where = archive.getinfo(f"{name}{_MEMBER_SUFFIX}"), f"'{name}' in {path}"
    with zip_member(archive, info, path, where, "Write it again.") as member:
        if size < 0:
            require_plausible(info.file_size, path.stat().st_size, where)
        # Asked for all, zipfile unpacks at once whatever is there, and the directory may say less.
        return member.read(info.file_size if size < 0 else size)


def _parsed(content: bytes, where: str, kinds: str = _NUMERIC_KINDS) -> NDArray[Any]:
    import numpy as np

    shape, fortran_order, dtype, start = _checked_header(content, len(content), where, kinds)
    values = np.frombuffer(content, dtype, math.prod(shape), offset=start)
    return values.reshape(shape, order="F" if fortran_order else "C")


def _found(head: bytes, start: int, size: int, where: str) -> Found:
    shape, fortran_order, dtype, length = _checked_header(head, size, where)
    if fortran_order:
        return Found(shape, dtype, None, "it is stored column by column (Fortran order)")
    return Found(shape, dtype, start + length)


def _checked_header(
    head: bytes, size: int, where: str, kinds: str = _NUMERIC_KINDS
) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, order, type and the length of the header of an array of ``size`` bytes that begins with ``head``."""
    stream = io.BytesIO(head)
    shape, fortran_order, dtype = _read_header(stream, where)
    if dtype.hasobject:
        raise InputOutputError(
            f"{where} holds Python objects, which are never unpickled.",
            "Save numbers: rows of equal length, with dtype float32 or uint8.",
        )
    if kinds == _TEXT_KINDS and (dtype.kind not in kinds or not dtype.itemsize):
        raise InputOutputError(f"{where} is not text.", "Write a string, or leave it out.")
    if dtype.kind not in kinds:
        raise InputOutputError(f"{where} is not numeric: its type is {dtype}.", "Save it as uint8 or float32.")
    wanted, there = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if wanted > there:
        raise InputOutputError(
            f"{where} is cut off: its header says {wanted} bytes of values, it holds {there}.",
            "Write or copy it again.",
        )
    return shape, fortran_order, dtype, stream.tell()


def _read_header(stream: io.BytesIO, where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    from numpy.lib import format as npy_format

    try:
        version = npy_format.read_magic(stream)
        # Version 3 differs only in the names of fields, and a structured array is refused anyway.
        read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, fortran_order, dtype = read(stream)
    except Exception as error:
        # The bytes are in memory: whatever is raised here comes of what they are, and numpy's parser raises all kinds.
        raise InputOutputError(f"{where} is not a .npy file.", _likely_kind(stream.getvalue())) from error
    # A size of 0 hides how large the others are.
    bytes_at_least = math.prod(max(size, 1) for size in shape) * max(dtype.itemsize, 1)
    if any(size < 0 for size in shape) or len(shape) > _MOST_DIMENSIONS or bytes_at_least >= _MOST_BYTES:
        raise InputOutputError(f"{where} is not a .npy file: its shape is {_told(shape)}.", "Write it again.")
    return shape, fortran_order, dtype


def _told(shape: tuple[int, ...]) -> str:
    text = str(shape)
    return text if len(text) <= _LONGEST_TOLD else f"{text[:_LONGEST_TOLD]}…"


def _likely_kind(content: bytes) -> str:
    if content.startswith(b"PK"):
        return "It looks like an .npz archive: give it that suffix."
    if content.startswith(b"\x80"):
        return "It looks like a pickle, which is never unpickled: write it with numpy.save."
    return "Write it with numpy.save, or give it the suffix of what it is."
