"""Files that are whole or not there, also after a power cut: written beside their name, synced, renamed, and the rename
synced. What the system refuses becomes a sentence that names the place.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import secrets
import shutil
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from bvae_cli.errors import InputOutputError, UsageError, is_out_of_memory, reason_of
from bvae_cli.sources import require_regular

ANOTHER_FOLDER = "Name a folder that can be written to."
_INTACT = "what was saved before is intact"
_HINTS = {
    errno.ENOSPC: f"Free some space, or name another folder; {_INTACT}.",
    errno.EDQUOT: f"Your quota is used up: free some space, or name another folder; {_INTACT}.",
    errno.EFBIG: f"The system allows no larger file here (ulimit -f); {_INTACT}.",
    errno.EMFILE: f"This process may open no more files (ulimit -n); {_INTACT}.",
    errno.ENFILE: f"The system has no more open files to give; {_INTACT}.",
    errno.ENAMETOOLONG: "Take a shorter name.",
    errno.EIO: f"The disk fails: look at the system's log before anything else; {_INTACT}.",
}
_TEMPORARY, _TEMPORARY_END = ".bvae-", ".tmp"
_PROCESSES = Path("/proc/self/ns/pid")
# A folder of some file systems cannot be synced, and says so by one of these.
_NOT_TO_BE_SYNCED = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EISDIR, errno.EBADF}


def write_file(path: Path, content: bytes) -> None:
    """Write a whole file, making its folder; the name never stands for half of it. Raises InputOutputError."""
    require_place(path)
    with writing(path.parent):
        make_folder(path.parent)
        remove_leftovers(path.parent)
        write_atomically(path, content)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file to be written piece by piece, making its folder; it has its name only when the body is done.

    Raises InputOutputError.
    """
    require_place(path)
    try:
        make_folder(path.parent)
        remove_leftovers(path.parent)
        with _beside(path) as file:
            yield file
    except OSError as error:
        raise describe_os_error(error, path.parent) from None


def require_place(path: Path) -> None:
    """Raise InputOutputError where a file cannot be written because a folder, or a file for a folder, is in the way."""
    if path.parent.exists() and not path.parent.is_dir():
        raise InputOutputError(f"Cannot write to {path.parent}: it is a file, not a folder.", ANOTHER_FOLDER)
    if path.is_dir():
        raise InputOutputError(f"Cannot write to {path}: it is a folder, not a file.", "Name a file in it.")


def require_new(path: Path, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
    """Raise UsageError where there is something at a path that is going to be written, and it may not be overwritten.

    One of the ``inputs``, which are going to be read, is never overwritten.
    """
    require_apart(path, inputs)
    if path.exists() and not overwrite:
        raise UsageError(f"{path} is there already.", "Name another file, or write it anew with --overwrite.")


def require_apart(path: Path, inputs: Iterable[Path]) -> None:
    """Raise UsageError where what is going to be written is what is going to be read, under whatever name, or holds it."""
    place = path.resolve()
    for read in inputs:
        if place == read.resolve() or place in read.resolve().parents or _is_same(path, read):
            raise UsageError(f"{path} is read here, and what is read is not overwritten.", "Name another place.")


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there, or cannot be seen
        return False


def require_no_link(folder: Path, path: Path) -> None:
    """Raise InputOutputError where a folder on the way from ``folder`` to a path in it is a link that leads out of it."""
    for between in path.relative_to(folder).parents[:-1]:
        if (folder / between).is_symlink():
            raise InputOutputError(
                f"{folder / between} is a link that leads out of {folder}: nothing is written through it.",
                "Remove the link.",
            )


@contextlib.contextmanager
def new_folder(path: Path, overwrite: bool, names: Collection[str]) -> Iterator[Path]:
    """Give a folder to be filled with files of these names; it has its own name only when the body is done.

    One that is there is replaced where it may be overwritten and holds nothing else.
    Raises UsageError where it may not, InputOutputError.
    """
    require_new_folder(path, overwrite, names)
    temporary = temporary_beside(path)
    try:
        make_folder(path.parent)
        remove_leftovers(path.parent)
        temporary.mkdir()
        yield temporary
        sync_folder(temporary)
        _take_the_place(path, temporary)
    except OSError as error:
        raise describe_os_error(error, path.parent) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def require_new_folder(path: Path, overwrite: bool, names: Collection[str]) -> None:
    """Raise what ``new_folder`` raises of what is there; nothing is written."""
    if path.name in ("", ".."):
        raise UsageError(f"{path} is no name of a new folder.", "Name one that can be made, or replaced.")
    if path.is_symlink():
        raise InputOutputError(f"Cannot write to {path}: it is a link, which is not replaced.", "Name the folder itself.")
    if path.parent.exists() and not path.parent.is_dir():
        raise InputOutputError(f"Cannot write to {path.parent}: it is a file, not a folder.", ANOTHER_FOLDER)
    if path.exists() and not path.is_dir():
        raise InputOutputError(f"Cannot write to {path}: it is a file, not a folder.", ANOTHER_FOLDER)
    if not path.exists():
        return
    with writing(path):
        found = sorted(entry.name for entry in path.iterdir())
    if found and not overwrite:
        raise UsageError(f"{path} is there already.", "Name another folder, or write it anew with --overwrite.")
    if others := [name for name in found if name not in names]:
        raise UsageError(
            f"{path} holds {others[0]}, which is not of an export: it is not overwritten.", "Name another folder."
        )


def _take_the_place(path: Path, temporary: Path) -> None:
    """Give a folder its name; the one that has it is gone only when the new one is there."""
    before = temporary_beside(path)
    if path.exists():
        path.rename(before)
    try:
        temporary.rename(path)
    except OSError:
        if before.exists():
            before.rename(path)
        raise
    sync_folder(path.parent)
    shutil.rmtree(before, ignore_errors=True)


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what the system refuses while the body writes into a folder into an InputOutputError that names the folder."""
    try:
        yield
    except OSError as error:
        raise describe_os_error(error, folder) from None
    except RuntimeError as error:  # torch's own writer reports a full disk so
        if is_out_of_memory(error):
            raise
        raise InputOutputError(f"Cannot write to {folder}: {error}.", ANOTHER_FOLDER) from None


def describe_os_error(error: OSError, where: Path) -> InputOutputError:
    """Turn a system's refusal into a sentence that names the place."""
    return InputOutputError(f"Cannot write to {where}: {reason_of(error)}.", _HINTS.get(error.errno or 0, ANOTHER_FOLDER))


def write_atomically(path: Path, content: bytes, previous: Path | None = None) -> None:
    """Write a whole file into a folder that is there; the one that was there before is kept as ``previous``.

    Raises OSError, with the file that was there before untouched.
    """
    with _beside(path, previous) as file:
        file.write(content)


def append(path: Path, text: str) -> None:
    """Append text to a file, which is made where it is not there. A link is not followed: it leads out of the folder.

    Raises OSError, also where a pipe or a device is in the place of the file: that could block for ever.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, flags, 0o666), "wb") as file:
        require_regular(file.fileno(), path)
        file.write(text.encode(errors="surrogateescape"))  # names of files need not be text


def sync(*files: Path) -> None:
    """Wait until what was appended to files is on the disk."""
    for path in files:
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, and wait until their names are on the disk."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)
    if not missing:
        folder.mkdir(exist_ok=True)  # says of a file that it is none


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk: a rename of a file that is, is not yet on it."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows has no such thing
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:  # a folder that may be written to, and not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_TO_BE_SYNCED:
            raise
    finally:
        os.close(descriptor)


def temporary_beside(path: Path) -> Path:
    """Return a free name beside a path; not made of its name, which may be as long as the system allows.

    It says which process of which machine writes there.
    """
    return path.with_name(f"{_TEMPORARY}{_machine()}-{os.getpid()}-{secrets.token_hex(4)}{_TEMPORARY_END}")


def is_leftover(path: Path) -> bool:
    """Say whether a path has the name of a file that is being written, or that a killed write has left."""
    return path.name.startswith(_TEMPORARY) and path.name.endswith(_TEMPORARY_END)


def remove_leftovers(folder: Path, alone: bool = False) -> None:
    """Remove what killed writes have left in a folder: those of processes of this machine that are gone.

    ``alone`` says that nobody else writes to the folder: then all of them.
    """
    for path in folder.glob(f"{_TEMPORARY}*{_TEMPORARY_END}"):
        if alone or _writer_is_gone(path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Say whether there is a process of this number on this machine."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # it is there, and somebody else's
    return True


def process_space() -> str | None:
    """Return what tells the numbers of this machine's processes from those of a container on it; None where nothing does."""
    try:
        return str(_PROCESSES.readlink())
    except OSError:
        return None


def _writer_is_gone(path: Path) -> bool:
    machine, _, rest = path.name.removeprefix(_TEMPORARY).partition("-")
    pid = rest.partition("-")[0]
    return machine == _machine() and pid.isdecimal() and not is_alive(int(pid))


@functools.cache
def _machine() -> str:
    """Return a word for the machine and the numbers of its processes: containers on one count their own."""
    return hashlib.sha256(f"{socket.gethostname()} {process_space() or ''}".encode()).hexdigest()[:8]


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """Return plain values as the text of a file: sorted, so that equal values are equal bytes."""
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


@contextlib.contextmanager
def _beside(path: Path, previous: Path | None = None) -> Iterator[BinaryIO]:
    temporary = temporary_beside(path)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            path.replace(previous)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
