"""Locks where a system or a file system lacks what they rest on: they still hold, and are still taken over."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bvae_cli import files, locks
from bvae_cli.locks import LOCK, HeldError, Lock

from .test_locks import written


def refusing(number: int, *_: object) -> None:
    raise OSError(number, os.strerror(number))


def without_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "fcntl", None)


def without_support(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks.fcntl, "flock", lambda *_: refusing(errno.EOPNOTSUPP))


@pytest.mark.parametrize("take_away", [without_module, without_support])
def test_where_files_cannot_be_locked_a_stale_lock_is_taken_over_and_another_holds(
    take_away: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_away(monkeypatch)
    written(tmp_path / "stale", host="elsewhere", age=10 * locks.SECONDS_UNTIL_STALE)
    with Lock(tmp_path / "stale") as lock:
        lock.require_mine()
    written(tmp_path / "held", host="elsewhere")
    with pytest.raises(HeldError, match="on elsewhere"):
        Lock(tmp_path / "held")


def test_a_process_that_may_not_be_asked_is_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "run", pid=os.getppid(), started="absent")
    monkeypatch.setattr(os, "kill", lambda *_: refusing(errno.EPERM))
    monkeypatch.setattr(locks, "_started", lambda pid: None)  # as where there is no /proc
    with pytest.raises(HeldError, match=f"process {os.getppid()}"):
        Lock(tmp_path / "run")


@pytest.mark.parametrize("pid", ["1", True, 0, -1, 10**30])
def test_what_is_no_number_of_a_process_is_no_living_one(pid: object, tmp_path: Path) -> None:
    written(tmp_path / "run", pid=pid)
    with Lock(tmp_path / "run") as lock:
        lock.require_mine()


def test_what_is_not_there_to_be_read_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locks._text(tmp_path / "nothing") is None
    monkeypatch.setattr(files, "_PROCESSES", tmp_path / "nothing")
    assert files.process_space() is None
    assert not locks._is_silent(tmp_path / "nothing" / LOCK)


def test_a_lock_that_has_just_gone_or_been_replaced_is_looked_at_again(tmp_path: Path) -> None:
    path = written(tmp_path / "run")
    with path.open("rb") as file:
        assert locks._is_still(path, file.fileno())
        path.rename(path.with_name("before"))
        assert not locks._is_still(path, file.fileno())
        path.touch()
        assert not locks._is_still(path, file.fileno())


def test_a_folder_that_goes_between_its_making_and_its_lock_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = locks.make_folder, []

    def forgetful(folder: Path) -> None:
        calls.append(folder)
        if len(calls) > 1:
            real(folder)

    monkeypatch.setattr(locks, "make_folder", forgetful)
    with Lock(tmp_path / "a"):
        assert len(calls) == 2


def test_a_lock_that_is_given_back_while_it_is_looked_at_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, real = Lock(tmp_path / "a"), locks.open_file

    def late(path: Path, writable: bool = False) -> Any:
        if writable:
            first.release()
        return real(path, writable)

    monkeypatch.setattr(locks, "open_file", late)
    with Lock(tmp_path / "a") as second:
        second.require_mine()


def test_a_stale_lock_that_another_process_is_taking_over_is_left_to_it(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    path = tmp_path / LOCK
    path.write_text(json.dumps({"pid": -1, "host": socket.gethostname()}))
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(HeldError, match="in use by process -1") as caught:
            Lock(tmp_path)
        assert caught.value.hint == "Wait for it."
    with Lock(tmp_path):
        pass


def test_a_stale_lock_that_was_just_replaced_is_looked_at_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / LOCK
    path.write_text(json.dumps({"pid": -1, "host": socket.gethostname()}))
    seen = []
    real = locks._is_still
    monkeypatch.setattr(locks, "_is_still", lambda *both: seen.append(both) or (len(seen) > 1 and real(*both)))
    with Lock(tmp_path):
        assert len(seen) == 2
