"""A folder is in one process's hands, and who died with it in theirs does not keep it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from bvae_cli import locks
from bvae_cli.errors import InputOutputError
from bvae_cli.locks import LOCK, HeldError, Lock, is_stale, read_holder


def written(folder: Path, age: float = 0.0, **facts: Any) -> Path:
    """Write the lock of a process on this machine, of which these facts are others; return its path."""
    folder.mkdir(exist_ok=True)
    with Lock(folder) as lock:
        holder = read_holder(lock.path)
        assert holder is not None
    folder.mkdir(exist_ok=True)
    path = folder / LOCK
    path.write_text(json.dumps({name: value for name, value in {**holder, **facts}.items() if value != "absent"}))
    then = time.time() - age
    os.utime(path, (then, then))
    return path


@pytest.fixture
def dead() -> int:
    """The number of a process that is gone."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_a_lock_names_its_holder_since_when_and_for_what(tmp_path: Path) -> None:
    with Lock(tmp_path / "a", "0123"):
        holder = read_holder(tmp_path / "a" / LOCK)
        assert holder is not None
        assert (holder["pid"], holder["host"], holder["digest"]) == (os.getpid(), socket.gethostname(), "0123")
        with pytest.raises(HeldError) as caught:
            Lock(tmp_path / "a")
        assert caught.value.message == (
            f"{tmp_path / 'a'} is in use by process {os.getpid()} on {socket.gethostname()}, since {holder['time']}."
        )
        assert caught.value.hint == f"Wait for it; if it is gone, delete {tmp_path / 'a' / LOCK}."
        assert caught.value.digest == "0123"


def test_a_folder_that_holds_nothing_goes_with_its_lock_and_any_other_stays(tmp_path: Path) -> None:
    with Lock(tmp_path / "empty"):
        pass
    assert not (tmp_path / "empty").exists()
    with Lock(tmp_path / "used"):
        (tmp_path / "used" / "file").write_text("")
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["file"]


def test_what_killed_writes_have_left_goes_when_the_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / ".bvae-1-abc.tmp").write_text("half")
    (tmp_path / "mine.tmp").write_text("whole")
    with Lock(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK, "mine.tmp"]


@pytest.mark.parametrize(
    ("facts", "age", "stale"),
    [
        ({}, 0, False),
        ({"started": "1"}, 0, True),  # the number is another process's now
        ({"boot": "another"}, 0, True),  # the machine has started anew
        ({"host": "elsewhere"}, 0, False),
        ({"host": "elsewhere"}, locks.SECONDS_UNTIL_STALE - 30, False),
        ({"host": "elsewhere"}, locks.SECONDS_UNTIL_STALE + 30, True),
        ({"processes": "pid:[1]"}, 0, False),  # another container on this machine
        ({"processes": "pid:[1]"}, locks.SECONDS_UNTIL_STALE + 30, True),
        ({}, locks.SECONDS_UNTIL_STALE + 3000, False),  # stopped by Ctrl-Z: it lives
        ({"pid": "x"}, 0, True),
        ({"pid": True}, 0, True),
        ({"pid": -1}, 0, True),
        ({"pid": 2**80}, 0, True),
        ({"boot": "absent", "processes": "absent", "started": "absent"}, 0, False),
    ],
)
def test_a_lock_is_stale_where_its_process_is_gone_or_its_heart_has_stopped(
    tmp_path: Path, facts: dict[str, Any], age: float, stale: bool
) -> None:
    path = written(tmp_path / "a", age, **facts)
    holder = read_holder(path)
    assert holder is not None
    assert is_stale(holder, path) is stale
    if stale:
        with Lock(tmp_path / "a"):
            assert (read_holder(path) or {})["pid"] == os.getpid()
    else:
        with pytest.raises(HeldError, match="in use by process"):
            Lock(tmp_path / "a")


def test_a_lock_from_a_time_to_come_is_stale_a_while_after_it_was_seen(tmp_path: Path) -> None:
    # The clock of the machine was set back by three hours, and its holder on another machine has died meanwhile.
    path = written(tmp_path / "a", age=-3 * 3600, host="elsewhere")
    with pytest.raises(HeldError):
        Lock(tmp_path / "a")
    assert abs(path.stat().st_mtime - time.time()) < 60
    then = path.stat().st_mtime - locks.SECONDS_UNTIL_STALE - 30
    os.utime(path, (then, then))
    with Lock(tmp_path / "a"):
        pass


def test_the_lock_of_a_process_that_was_killed_is_taken_over_at_once(tmp_path: Path) -> None:
    program = f"""
import time
from bvae_cli.locks import Lock, Path
lock = Lock(Path({str(tmp_path)!r}))
print('held', flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(HeldError, match=f"in use by process {process.pid}"):
            Lock(tmp_path)
        process.send_signal(signal.SIGKILL)
    with Lock(tmp_path):
        assert (read_holder(tmp_path / LOCK) or {})["pid"] == os.getpid()


@pytest.mark.parametrize("content", ["", "[]", "{", "{}", '{"pid": 1}', "[" * 100_000])
def test_a_damaged_lock_holds_until_no_heart_can_be_behind_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / LOCK
    path.write_text(content)
    with pytest.raises(HeldError, match="is damaged: it does not name the process") as caught:
        Lock(tmp_path)
    assert caught.value.hint == "If no process works there, delete it."
    then = time.time() - locks.SECONDS_UNTIL_STALE - 30
    os.utime(path, (then, then))
    with Lock(tmp_path):
        pass


def test_of_many_who_find_a_stale_lock_one_has_it(tmp_path: Path, dead: int) -> None:
    written(tmp_path / "a", pid=dead)
    ready, taken, refused = threading.Barrier(8), [], []

    def take() -> None:
        ready.wait()
        try:
            taken.append(Lock(tmp_path / "a"))
        except HeldError as error:
            refused.append(error)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(taken), len(refused)) == (1, 7)
    taken[0].release()
    assert not (tmp_path / "a").exists()


def test_the_heart_beats_while_the_lock_is_held_and_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "SECONDS_BETWEEN_BEATS", 0.01)
    with Lock(tmp_path / "a") as lock, Lock(tmp_path / "b"):
        os.utime(lock.path, (0, 0))
        until = time.monotonic() + 30
        while lock.path.stat().st_mtime == 0 and time.monotonic() < until:
            time.sleep(0.01)
        assert lock.path.stat().st_mtime > 0
        assert [thread.name for thread in threading.enumerate()].count("heartbeat") == 1
    until = time.monotonic() + 30
    while "heartbeat" in [thread.name for thread in threading.enumerate()] and time.monotonic() < until:
        time.sleep(0.01)
    assert "heartbeat" not in [thread.name for thread in threading.enumerate()]


def test_who_was_stopped_for_too_long_writes_no_more_and_leaves_the_lock_of_the_other(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "a")
    lock.beat()
    lock.require_mine()
    written_by_other = json.dumps({"pid": 7, "host": "elsewhere", "token": "another", "digest": "0123"})
    lock.path.write_text(written_by_other)
    lock.beat()
    with pytest.raises(HeldError, match="was taken over by process 7 on elsewhere") as caught:
        lock.require_mine()
    assert caught.value.digest == "0123"
    lock.release()
    assert lock.path.read_text() == written_by_other


def test_a_file_system_that_does_not_answer_is_no_loss_of_the_lock(tmp_path: Path) -> None:
    with Lock(tmp_path / "a") as lock:
        content = lock.path.read_text()
        lock.path.unlink()
        lock.beat()
        lock.require_mine()
        lock.path.write_text(content)
        lock.beat()
        lock.require_mine()


def test_a_file_system_without_links_has_locks_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with Lock(tmp_path / "a"):
        assert (read_holder(tmp_path / "a" / LOCK) or {})["pid"] == os.getpid()
        with pytest.raises(HeldError):
            Lock(tmp_path / "a")


def test_a_file_in_place_of_the_folder_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputOutputError) as caught:
        Lock(tmp_path / "file")
    assert caught.value.message.startswith(f"Cannot write to {tmp_path / 'file'}: ")


def test_a_lock_that_was_given_back_leaves_the_next_one_of_its_own_process(tmp_path: Path) -> None:
    first = Lock(tmp_path / "a")
    first.path.unlink()
    with Lock(tmp_path / "a") as second:
        first.release()
        assert second.path.exists()
        second.require_mine()
        first.beat()
        with pytest.raises(HeldError, match="was taken over") as caught:
            first.require_mine()
        assert caught.value.hint == "Nothing more is written to it here; let that process finish."
