"""Reading files that others wrote: looked at before they are opened, and never more of them than is sensible.

What is no regular file (a device, a pipe) is refused without waiting for it. Documents, which are kept in memory whole, have
a largest size and a depth: what parses them would otherwise take many times their size, or the whole stack.
"""

from __future__ import annotations

import errno
import json
import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from bvae_cli.errors import InputOutputError, cannot_be_read, nearest

# A comparison of a thousand runs has about 10 MB; 32 MiB of the worst JSON take half a GB when they are parsed.
LARGEST_DOCUMENT = 2**25
_MOST_BRACKETS = 2**20
_DEEPEST = 64
# What is packed well is data with many zeros; what is packed better than this, and is large, fills memory and nothing else.
_BEST_PACKED, _LARGE = 100, 2**28


class DocumentError(ValueError):
    """A document is not what it should be: its words say why, as the end of a sentence."""


def require_folder(folder: Path, contents: str) -> None:
    """Raise InputOutputError where there is no such folder; ``contents`` is what belongs there."""
    if not folder.is_dir():
        raise InputOutputError(f"There is no folder {folder}.", f"Make it, and put {contents} there.")


def require_file(path: Path) -> None:
    """Raise InputOutputError where ``path`` is missing, no file, or empty; nothing of it is read."""
    with reading(path):
        if not path.exists():
            raise InputOutputError(f"There is no file {path}.", _near_miss(path))
        if not path.is_file():
            raise InputOutputError(f"{path} is not a file.", "Give the path of a file.")
        if not path.stat().st_size:
            raise InputOutputError(f"{path} is empty.", "Write or copy the file again.")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an OSError of the body into an InputOutputError that names ``path``."""
    try:
        yield
    except OSError as error:
        raise cannot_be_read(path, error) from error


def open_file(path: Path, writable: bool = False) -> BinaryIO:
    """Open a regular file that is there. Raises OSError where it cannot be had, or is a pipe or a device that may block."""
    access = os.O_RDWR if writable else os.O_RDONLY
    descriptor = os.open(path, access | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        require_regular(descriptor, path)
        return os.fdopen(descriptor, "r+b" if writable else "rb")
    except BaseException:
        os.close(descriptor)
        raise


def require_regular(descriptor: int, path: Path) -> None:
    """Raise OSError where what was opened is no regular file."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "It is no regular file", str(path))


class Unchanged:
    """What a file was like when it was opened: its size, and when it was last written."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor, self._path = descriptor, path
        self._seen = self._state()

    def require(self) -> None:
        """Raise InputOutputError where the file is like that no more."""
        if self._state() != self._seen:
            raise InputOutputError(
                f"{self._path} has changed since it was opened.",
                "Leave a file of data alone while it is in use: write another one, and rename it.",
            )

    def _state(self) -> tuple[int, int]:
        with reading(self._path):
            state = os.fstat(self._descriptor)
        return state.st_size, state.st_mtime_ns


def require_plausible(unpacked: int, packed: int, where: str) -> None:
    """Raise InputOutputError where a few packed bytes would fill the memory: more than 256 MiB, and than 100 of each."""
    if unpacked > max(_LARGE, _BEST_PACKED * packed):
        raise InputOutputError(
            f"{where} would unpack to {unpacked / 2**30:,.1f} GiB from a file of {packed / 2**20:,.1f} MiB.",
            "If these are your data, write them without compression: numpy.save, or numpy.savez.",
        )


@contextmanager
def zip_archive(path: Path, kind: str, hint: str) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive, which ``kind`` names in a sentence. Raises InputOutputError where it is none."""
    require_file(path)
    with reading(path):
        file = open_file(path)
    with file:
        try:
            archive = zipfile.ZipFile(file)
        # NotImplementedError stands for a version of zip that is not there yet, ValueError for places before its beginning.
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, OSError) as error:
            raise InputOutputError(f"{path} is not {kind}, or is damaged.", hint) from error
        with archive:
            yield archive


@contextmanager
def zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, where: str, hint: str) -> Iterator[IO[bytes]]:
    """Open a member of an archive. Raises InputOutputError, also in the body, where it cannot be unpacked."""
    with reading(path):
        if info.compress_size > path.stat().st_size:  # zipfile would make room for it
            raise InputOutputError(f"{where} claims to be larger than the file.", hint)
        try:
            with archive.open(info) as member:
                yield member
        # RuntimeError stands for an encrypted member, NotImplementedError (one of them) for an unknown compression; what
        # the decompressors raise beside these depends on which of them it is.
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError, OSError) as error:
            raise InputOutputError(f"{where} cannot be unpacked: {error}.", hint) from error


class BoundedStream:
    """A stream of unpacked bytes that raises InputOutputError before more of them come than a file may plausibly hold."""

    def __init__(self, stream: IO[bytes], packed: int, where: str) -> None:
        self._stream, self._packed, self._where, self._seen = stream, packed, where, 0

    def read(self, size: int) -> bytes:
        """Return at most ``size`` further bytes."""
        self._seen += size
        require_plausible(self._seen, self._packed, self._where)
        return self._stream.read(size)


def read_document(path: Path, largest: int = LARGEST_DOCUMENT, pipes: bool = False) -> bytes:
    """Return a file that is kept in memory whole; with ``pipes`` also what comes out of one, which a shell may have made.

    Raises OSError, DocumentError where it has more than ``largest`` bytes.
    """
    with path.open("rb") if pipes else open_file(path) as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise DocumentError(f"it has more than {largest:,} bytes")
    return content


def read_text(path: Path, largest: int = LARGEST_DOCUMENT, pipes: bool = False) -> str:
    """Return a text in UTF-8. Raises OSError, DocumentError (a ValueError) where it is too large or no text."""
    try:
        return read_document(path, largest, pipes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(f"it is no text: byte {error.start} is not UTF-8") from None


def parsed_json(text: str) -> Any:
    """Return what JSON says. Raises DocumentError where it is none, or nests more than 64 deep."""
    if text.count("[") + text.count("{") > _MOST_BRACKETS:
        raise DocumentError(f"it has more than {_MOST_BRACKETS:,} lists and objects")
    try:
        value = json.loads(text)
    except RecursionError:
        raise DocumentError("it nests too deeply") from None
    except ValueError as error:
        raise DocumentError(f"it is no JSON: {error}") from None
    require_shallow(value)
    return value


def require_shallow(value: Any) -> None:
    """Raise DocumentError where lists and objects stand in one another more than 64 deep."""
    layer = [value]
    for _ in range(_DEEPEST):
        layer = [
            item
            for held in layer
            if isinstance(held, dict | list)
            for item in (held.values() if isinstance(held, dict) else held)
            if isinstance(item, dict | list)
        ]
    if layer:
        raise DocumentError("it nests too deeply")


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object of a JSON file, or None where it is missing, damaged, too large, or something else."""
    try:
        value = parsed_json(read_text(path))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _near_miss(path: Path) -> str:
    # Without the suffix: all files of one kind have that in common.
    siblings = {entry.stem: entry.name for entry in path.parent.iterdir()} if path.parent.is_dir() else {}
    near = nearest(path.stem, siblings)
    return f"Did you mean {path.parent / siblings[near]}?" if near else "Check the path."
