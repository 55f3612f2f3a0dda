"""Everything that Python writes below a folder, as numbered events that a policy may let pass, cut short or refuse.

A policy is asked before each event. Files opened for writing below the folder are files of this module, so that every call
of the system that changes something there is one event: what a buffer holds back is none until it is written.
"""

from __future__ import annotations

import builtins
import contextlib
import enum
import errno
import fcntl
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

# The exit code of a process that a policy has killed.
KILLED = 99

WRITING = os.O_WRONLY | os.O_RDWR


class Kind(enum.StrEnum):
    """What an event does to the disk."""

    OPEN = "open"  # for appending or overwriting: nothing changes yet
    CREATE = "create"
    WRITE = "write"
    TRUNCATE = "truncate"
    FSYNC = "fsync"
    FSYNC_FOLDER = "fsync of a folder"
    RENAME = "rename"
    LINK = "link"
    UNLINK = "unlink"
    MKDIR = "mkdir"
    RMDIR = "rmdir"
    TOUCH = "touch"


@dataclass(frozen=True)
class Event:
    """A call of the system; paths are relative to the folder that is watched.

    ``target`` is the new name of a rename or a link. A write puts ``data`` at ``offset``, truncation leaves
    ``offset`` bytes.
    """

    number: int
    kind: Kind
    path: str
    target: str | None = None
    data: bytes = b""
    offset: int = 0


class Kill(enum.Enum):
    """When a policy ends the process, without a word: before an event, after it, or with half of a write written."""

    BEFORE = "before"
    AFTER = "after"
    HALF = "half"


@dataclass(frozen=True)
class Refusal:
    """The error with which the system refuses an event; of a write it may first take half."""

    number: int
    half: bool = False


Verdict = Kill | Refusal | None
Policy = Callable[[Event], Verdict]
# Hears of each event that has happened.
Listener = Callable[[Event], None]


def pass_all(event: Event) -> Verdict:
    """Let everything happen."""
    return None


@contextlib.contextmanager
def watched(folder: str | os.PathLike[str], policy: Policy = pass_all, listener: Listener | None = None) -> Iterator[Watch]:
    """Ask a policy about everything that is written below a folder while the body runs."""
    watch = Watch(os.path.realpath(folder), policy, listener)
    kept = [(place, name, getattr(place, name)) for place, name, _ in watch.patches]
    for place, name, function in watch.patches:
        setattr(place, name, function)
    try:
        yield watch
    finally:
        for place, name, function in kept:
            setattr(place, name, function)


class Watch:
    """The functions that stand in for those of ``os`` and ``io``; ``count`` events were asked about so far."""

    def __init__(self, folder: str, policy: Policy, listener: Listener | None) -> None:
        self.folder, self.policy, self.listener = folder, policy, listener
        self.count = 0
        self._owed = 0
        self.real: dict[str, Any] = {name: getattr(os, name) for name in _WRAPPED}
        self._real_open = io.open
        self._stat = os.stat
        own = [(os, name, getattr(self, f"_{name}")) for name in _WRAPPED]
        self.patches: list[tuple[Any, str, Any]] = [*own, (io, "open", self._file), (builtins, "open", self._file)]

    # --- where a path leads

    def path_of(self, path: Any, dir_fd: int | None = None) -> str | None:
        """Return a path relative to the folder, or None where it is not below it."""
        try:
            if isinstance(path, int):
                absolute = os.readlink(f"/proc/self/fd/{path}")  # noqa: PTH115 - for a number
            else:
                start = os.getcwd() if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")  # noqa: PTH109, PTH115
                absolute = os.path.normpath(os.path.join(start, os.fsdecode(path)))  # noqa: PTH118 - no links followed
        except (OSError, TypeError, ValueError):
            return None
        head, tail = os.path.split(absolute)
        absolute = os.path.join(os.path.realpath(head), tail)  # noqa: PTH118
        if absolute == self.folder:
            return "."
        return os.path.relpath(absolute, self.folder) if absolute.startswith(self.folder + os.sep) else None

    def _there(self, path: Any, dir_fd: int | None = None) -> bool:
        try:
            self._stat(path, dir_fd=dir_fd)
        except OSError:
            return False
        return True

    # --- events

    def happen(
        self,
        act: Callable[[], Any],
        kind: Kind,
        path: str | None,
        *,
        half: Callable[[], Any] | None = None,
        **more: Any,
    ) -> Any:
        """Ask about an event, let it happen, and tell of it; what is not below the folder just happens."""
        if path is None:
            return act()
        event = Event(self.count, kind, path, **more)
        self.count += 1
        if self._owed and kind is Kind.WRITE:
            number, self._owed = self._owed, 0
            raise self._refused(number, path)
        verdict = self.policy(event)
        if isinstance(verdict, Refusal):
            if verdict.half and half is not None:
                self._owed = verdict.number  # the system takes what has room, and refuses the rest when it is asked again
                return half()
            raise self._refused(verdict.number, path)
        if verdict is Kill.HALF and half is not None:
            half()
            os._exit(KILLED)
        if verdict in (Kill.BEFORE, Kill.HALF):
            os._exit(KILLED)
        result = act()
        if self.listener is not None:
            self.listener(event)
        if verdict is Kill.AFTER:
            os._exit(KILLED)
        return result

    def _refused(self, number: int, path: str) -> OSError:
        return OSError(number, os.strerror(number), os.path.join(self.folder, path))  # noqa: PTH118

    def opened(self, act: Callable[[], Any], path: Any, flags: int, dir_fd: int | None = None) -> Any:
        """Open a file for writing: that makes it, or empties it, or changes nothing."""
        name = self.path_of(path, dir_fd)
        if not self._there(path, dir_fd):
            kind = Kind.CREATE if flags & os.O_CREAT else Kind.OPEN
        else:
            kind = Kind.TRUNCATE if flags & os.O_TRUNC and not flags & os.O_EXCL else Kind.OPEN
        return self.happen(act, kind, name)

    # --- io

    def _file(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        if not set(mode) & set("wxa+") or opener is not None or self.path_of(file) is None:
            return self._real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = _Raw(self, file, "".join(letter for letter in mode if letter not in "bt"), closefd)
        if buffering == 0:
            return raw
        size = buffering if buffering > 1 else max(getattr(raw, "_blksize", 0), io.DEFAULT_BUFFER_SIZE)
        buffered = io.BufferedRandom(raw, size) if "+" in mode else io.BufferedWriter(raw, size)
        if "b" in mode:
            return buffered
        text = io.TextIOWrapper(buffered, encoding, errors, newline, line_buffering=buffering == 1)
        text.mode = mode
        return text

    # --- os

    def _open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        def act() -> int:
            return self.real["open"](path, flags, mode, dir_fd=dir_fd)

        return self.opened(act, path, flags, dir_fd) if flags & (WRITING | os.O_CREAT | os.O_TRUNC) else act()

    def _write(self, descriptor: int, data: Any) -> int:
        return self.written(descriptor, data, self._offset(descriptor), lambda some: self.real["write"](descriptor, some))

    def _pwrite(self, descriptor: int, data: Any, offset: int) -> int:
        return self.written(descriptor, data, offset, lambda some: self.real["pwrite"](descriptor, some, offset))

    def written(self, descriptor: int, data: Any, offset: int, write: Callable[[bytes], int]) -> int:
        """Write bytes to a file that is open."""
        content = bytes(data)
        half = content[: len(content) // 2]
        path = self.path_of(descriptor)
        return self.happen(lambda: write(content), Kind.WRITE, path, half=lambda: write(half), data=content, offset=offset)

    def _offset(self, descriptor: int) -> int:
        if self.path_of(descriptor) is None:
            return 0
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND:
            return os.fstat(descriptor).st_size
        return os.lseek(descriptor, 0, os.SEEK_CUR)

    def _sendfile(self, out: int, *arguments: Any, **more: Any) -> int:
        if self.path_of(out) is None:
            return self.real["sendfile"](out, *arguments, **more)
        raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))  # then shutil copies by reading and writing

    def _fsync(self, descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        path = self.path_of(number)
        folder = path is not None and os.path.isdir(f"/proc/self/fd/{number}")  # noqa: PTH112
        self.happen(lambda: self.real["fsync"](number), Kind.FSYNC_FOLDER if folder else Kind.FSYNC, path)

    def _fdatasync(self, descriptor: Any) -> None:
        self._fsync(descriptor)

    def _ftruncate(self, descriptor: int, length: int) -> None:
        path = self.path_of(descriptor)
        self.happen(lambda: self.real["ftruncate"](descriptor, length), Kind.TRUNCATE, path, offset=length)

    def _truncate(self, path: Any, length: int) -> None:
        self.happen(lambda: self.real["truncate"](path, length), Kind.TRUNCATE, self.path_of(path), offset=length)

    def _two(self, function: str, kind: Kind, source: Any, target: Any, more: dict[str, Any]) -> None:
        old = self.path_of(source, more.get("src_dir_fd"))
        new = self.path_of(target, more.get("dst_dir_fd"))
        self.happen(lambda: self.real[function](source, target, **more), kind, old or new, target=new)

    def _rename(self, source: Any, target: Any, **more: Any) -> None:
        self._two("rename", Kind.RENAME, source, target, more)

    def _replace(self, source: Any, target: Any, **more: Any) -> None:
        self._two("replace", Kind.RENAME, source, target, more)

    def _link(self, source: Any, target: Any, **more: Any) -> None:
        self._two("link", Kind.LINK, source, target, more)

    def _one(self, function: str, kind: Kind, path: Any, *arguments: Any, **more: Any) -> None:
        where = self.path_of(path, more.get("dir_fd"))
        self.happen(lambda: self.real[function](path, *arguments, **more), kind, where)

    def _unlink(self, path: Any, **more: Any) -> None:
        self._one("unlink", Kind.UNLINK, path, **more)

    def _remove(self, path: Any, **more: Any) -> None:
        self._one("remove", Kind.UNLINK, path, **more)

    def _mkdir(self, path: Any, mode: int = 0o777, **more: Any) -> None:
        self._one("mkdir", Kind.MKDIR, path, mode, **more)

    def _rmdir(self, path: Any, **more: Any) -> None:
        self._one("rmdir", Kind.RMDIR, path, **more)

    def _utime(self, path: Any, *arguments: Any, **more: Any) -> None:
        self._one("utime", Kind.TOUCH, path, *arguments, **more)


_WRAPPED = (
    "open",
    "write",
    "pwrite",
    "sendfile",
    "fsync",
    "fdatasync",
    "ftruncate",
    "truncate",
    "rename",
    "replace",
    "link",
    "unlink",
    "remove",
    "mkdir",
    "rmdir",
    "utime",
)


class _Raw(io.FileIO):
    """A file without a buffer whose every change is an event."""

    def __init__(self, watch: Watch, file: Any, mode: str, closefd: bool) -> None:
        self._watch = watch

        def act() -> None:
            super(_Raw, self).__init__(file, mode, closefd)

        if isinstance(file, int):
            act()
            return
        flags = (WRITING if "+" in mode else os.O_WRONLY) | (0 if mode[0] == "r" else os.O_CREAT)
        flags |= {"w": os.O_TRUNC, "x": os.O_EXCL}.get(mode[0], 0)
        watch.opened(act, file, flags)

    def write(self, data: Any) -> int:
        descriptor = self.fileno()
        return self._watch.written(descriptor, data, self._watch._offset(descriptor), super().write)

    def truncate(self, size: int | None = None) -> int:
        length = self.tell() if size is None else size
        act = super().truncate
        return self._watch.happen(lambda: act(length), Kind.TRUNCATE, self._watch.path_of(self.fileno()), offset=length)
