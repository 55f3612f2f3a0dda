"""A lock on a folder, for processes on one machine or on several that share a file system.

The lock is a file that names its holder, whose heartbeat renews the file's time. A lock is stale where its process is gone
from this machine, where the machine has started anew since, or where the heart has stopped: times are compared on the
clock of the file system, so that machines need not agree on the hour.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from bvae_cli.errors import UsageError
from bvae_cli.files import is_alive, make_folder, process_space, remove_leftovers, temporary_beside, writing
from bvae_cli.sources import open_file

try:
    import fcntl
except ImportError:  # Windows: two processes may then take one stale lock in the same instant
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
SECONDS_BETWEEN_BEATS = 15.0
# A process that is swapped out, or whose file system hangs, may miss some beats.
SECONDS_UNTIL_STALE = 180.0
_TRIES, _SECONDS_BETWEEN_TRIES = 20, 0.02
_LONGEST = 1 << 16
# What file systems without second names for a file answer.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class HeldError(UsageError):
    """Another process holds a folder; ``digest`` is that of its run, where its lock says it."""

    def __init__(self, message: str, hint: str, digest: str | None) -> None:
        super().__init__(message, hint)
        self.digest = digest


class Lock:
    """A folder in this process's hands, until ``release``."""

    def __init__(self, folder: Path, digest: str | None = None) -> None:
        """Take the folder, making it; ``digest`` tells others whose run it is for.

        Raises HeldError, naming the holder, where another process has it; InputOutputError where it cannot be written to.
        """
        self.folder, self.path = folder, folder / LOCK
        self._token = secrets.token_hex(8)
        self._signature = json.dumps({**_this_process(), "digest": digest, "token": self._token}).encode()
        with writing(folder):
            self._take()
            remove_leftovers(folder, alone=True)
        _HEART.keep(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def require_mine(self) -> None:
        """Raise HeldError where another process took the folder, because this one's heart had stopped for too long.

        The lock itself is read, before whatever is written: the clock of a machine that sleeps may stand still, so that no
        beat tells of the loss when it wakes up. A file system that does not answer is no loss.
        """
        holder = read_holder(self.path)
        if holder is not None and holder.get("token") != self._token:
            raise HeldError(
                f"{self.folder} was taken over by {_who(holder)}, while this process was stopped for more than "
                f"{SECONDS_UNTIL_STALE:.0f} seconds.",
                "Nothing more is written to it here; let that process finish.",
                holder.get("digest"),
            )

    def release(self) -> None:
        """Give the folder back, and remove it where it holds nothing."""
        _HEART.leave(self)
        if not self._is_mine():
            return
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
            self.folder.rmdir()  # refused where it holds something: the rule

    def beat(self) -> None:
        """Renew the lock's time, unless it is another's."""
        if self._is_mine():
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def _take(self) -> None:
        holder: dict[str, Any] | None = None
        for _ in range(_TRIES):
            make_folder(self.folder)
            try:
                self._sign(_made_under_its_name)
                return
            except FileNotFoundError:  # who held it before has just taken the empty folder away
                continue
            except FileExistsError:
                if not self.folder.is_dir():
                    raise
            holder = read_holder(self.path)
            if self._taken_over():
                return
            time.sleep(_SECONDS_BETWEEN_TRIES)
        if holder is None:
            raise HeldError(
                f"The lock {self.path} is damaged: it does not name the process that holds {self.folder}.",
                "If no process works there, delete it.",
                None,
            )
        raise HeldError(f"{self.folder} is in use by {_who(holder)}.", "Wait for it.", holder.get("digest"))

    def _taken_over(self) -> bool:
        """Take a stale lock; return False where it has just changed. Raises HeldError where it is not stale."""
        try:
            file = open_file(self.path, writable=True)
        except FileNotFoundError:  # it has just been given back
            return False
        with file:
            # Of several who find it stale one replaces it, and the others then hold a file without a name.
            if not _is_locked(file.fileno()) or not _is_still(self.path, file.fileno()):
                return False
            holder = _read(file)
            stale = _is_silent(self.path) if holder is None else is_stale(holder, self.path)
            if not stale and holder is not None:
                raise HeldError(
                    f"{self.folder} is in use by {_who(holder)}.",
                    f"Wait for it; if it is gone, delete {self.path}.",
                    holder.get("digest"),
                )
            if stale:
                self._sign(os.replace)
        return stale

    def _sign(self, put: Callable[[Path, Path], None]) -> None:
        """Write the lock beside its name, and let ``put`` give it the name: it is never there without its holder."""
        temporary = temporary_beside(self.path)
        try:
            with temporary.open("xb") as file:
                file.write(self._signature)
                file.flush()
                os.fsync(file.fileno())
            put(temporary, self.path)
        finally:
            temporary.unlink(missing_ok=True)

    def _is_mine(self) -> bool:
        holder = read_holder(self.path)
        return holder is not None and holder.get("token") == self._token


class _Heart:
    """Beats for all locks of this process, in a thread that is there as long as one of them is."""

    def __init__(self) -> None:
        self._locks: set[Lock] = set()
        self._guard = threading.Lock()
        self._stopped = threading.Event()

    def keep(self, lock: Lock) -> None:
        """Beat for a lock."""
        with self._guard:
            if not self._locks:
                self._stopped = threading.Event()
                threading.Thread(target=self._beat, args=(self._stopped,), name="heartbeat", daemon=True).start()
            self._locks.add(lock)

    def leave(self, lock: Lock) -> None:
        """Beat for it no longer."""
        with self._guard:
            self._locks.discard(lock)
            if not self._locks:
                self._stopped.set()

    def _beat(self, stopped: threading.Event) -> None:
        while not stopped.wait(SECONDS_BETWEEN_BEATS):
            with self._guard:
                locks = list(self._locks)
            for lock in locks:
                lock.beat()


_HEART = _Heart()


def read_holder(path: Path) -> dict[str, Any] | None:
    """Return what a lock says of its holder, None where it is not there or names no process."""
    try:
        with open_file(path) as file:
            return _read(file)
    except OSError:
        return None


def is_stale(holder: Mapping[str, Any], path: Path) -> bool:
    """Say whether a lock's holder is gone: from this machine, or for so long that its heart must have stopped."""
    here = _this_process()
    told = {**here, **holder}
    if (told["host"], told["processes"]) != (here["host"], here["processes"]):
        return _is_silent(path)
    return bool(told["boot"] != here["boot"]) or not _is_the_same(holder)


def _is_silent(path: Path) -> bool:
    """Say whether no heart has beaten for too long, by the clock of the file system that the lock is on."""
    probe = temporary_beside(path)
    try:
        probe.touch()
        silence = probe.stat().st_mtime - path.stat().st_mtime
        if silence < -SECONDS_UNTIL_STALE:
            # The clock was set back since the last beat. A heart that beats will say so; one that does not is found silent.
            os.utime(path)
        return silence > SECONDS_UNTIL_STALE
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def _this_process() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "boot": _text(_BOOT),
        "processes": process_space(),
        "started": _started(os.getpid()),
    }


def _is_the_same(holder: Mapping[str, Any]) -> bool:
    """Say whether the process that a lock names still lives, and is not another that was given its number."""
    pid = holder["pid"]
    if not isinstance(pid, int) or isinstance(pid, bool) or pid <= 0:
        return False
    if not is_alive(pid):
        return False
    return bool(holder.get("started", _started(pid)) == _started(pid))


def _started(pid: int) -> str | None:
    """Return when a process began, in ticks since the machine did; None where the system does not tell."""
    stat = _text(Path(f"/proc/{pid}/stat"))
    # The name, in brackets, may hold anything.
    fields = stat.rpartition(")")[2].split() if stat else []
    return fields[19] if len(fields) > 19 else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _who(holder: Mapping[str, Any]) -> str:
    since = f", since {holder['time']}" if isinstance(holder.get("time"), str) else ""
    return f"process {holder.get('pid')} on {holder.get('host')}{since}"


def _read(file: Any) -> dict[str, Any] | None:
    try:
        content = json.loads(file.read(_LONGEST))
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and {"pid", "host"} <= set(content) else None


def _made_under_its_name(temporary: Path, path: Path) -> None:
    """Give a file a name that must be free. Raises FileExistsError."""
    try:
        path.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with path.open("xb") as file:  # without its holder for a moment
            file.write(temporary.read_bytes())


def _is_locked(descriptor: int) -> bool:
    """Hold a file until it is closed; return False where another process does."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without such locks
        return True
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False
