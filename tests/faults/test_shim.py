"""Nothing that is written below a folder passes the shim unseen, and a policy does what it says."""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .shim import KILLED, Event, Kill, Kind, Policy, Refusal, Verdict, watched
from .trials import forked

TEN = b"0123456789"


def log_of(folder: Path, act: Callable[[], object]) -> list[tuple[object, ...]]:
    """Return kind, path, target, data and offset of every event."""
    log: list[Event] = []
    with watched(folder, listener=log.append):
        act()
    return [(event.kind, event.path, event.target, event.data, event.offset) for event in log]


def at(number: int, verdict: Verdict) -> Policy:
    """Return the policy that says something of one event alone."""
    return lambda event: verdict if event.number == number else None


def test_a_text_file_is_made_and_written_when_its_buffer_is_flushed(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    assert log_of(tmp_path, lambda: path.write_text("one\ntwo\n", encoding="utf-8")) == [
        (Kind.CREATE, "a.txt", None, b"", 0),
        (Kind.WRITE, "a.txt", None, b"one\ntwo\n", 0),
    ]
    assert path.read_text(encoding="utf-8") == "one\ntwo\n"


def test_what_is_appended_is_put_at_the_end_of_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(TEN)

    def append() -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write("more")

    assert log_of(tmp_path, append) == [(Kind.OPEN, "a.txt", None, b"", 0), (Kind.WRITE, "a.txt", None, b"more", 10)]
    assert path.read_bytes() == TEN + b"more"


def test_every_name_that_comes_or_goes_is_an_event(tmp_path: Path) -> None:
    def names() -> None:
        (tmp_path / "folder").mkdir()
        first, second = tmp_path / "folder" / "a", tmp_path / "folder" / "b"
        first.touch()
        first.rename(second)
        second.replace(first)
        second.hardlink_to(first)
        first.unlink()
        shutil.rmtree(tmp_path / "folder")

    assert [(kind, path, target) for kind, path, target, _, _ in log_of(tmp_path, names)] == [
        (Kind.MKDIR, "folder", None),
        (Kind.CREATE, "folder/a", None),
        (Kind.RENAME, "folder/a", "folder/b"),
        (Kind.RENAME, "folder/b", "folder/a"),
        (Kind.LINK, "folder/a", "folder/b"),
        (Kind.UNLINK, "folder/a", None),
        (Kind.UNLINK, "folder/b", None),
        (Kind.RMDIR, "folder", None),
    ]


def test_syncs_of_files_and_of_folders_are_told_apart(tmp_path: Path) -> None:
    def sync() -> None:
        with (tmp_path / "a").open("wb") as file:
            file.write(TEN)
            file.flush()
            os.fsync(file.fileno())
        folder = os.open(tmp_path, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    kinds = [(kind, path) for kind, path, *_ in log_of(tmp_path, sync)]
    assert kinds == [(Kind.CREATE, "a"), (Kind.WRITE, "a"), (Kind.FSYNC, "a"), (Kind.FSYNC_FOLDER, ".")]


@pytest.mark.parametrize("way", ["os.write", "os.fdopen", "copy", "seek", "truncate"])
def test_no_way_of_writing_passes_unseen(tmp_path: Path, way: str) -> None:
    """Replaying the writes of the log alone must give the file that is there."""
    path, source = tmp_path / "watched" / "a", tmp_path / "source"
    path.parent.mkdir()
    source.write_bytes(TEN * 20_000)

    def write() -> None:
        if way == "copy":
            shutil.copyfile(source, path)
            return
        if way == "seek":
            with path.open("wb+") as file:
                file.write(TEN)
                file.seek(3)
                file.write(b"xyz")
            return
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
        if way == "os.fdopen":
            with os.fdopen(descriptor, "w") as file:
                file.write("text")
            return
        os.write(descriptor, TEN)
        if way == "truncate":
            os.ftruncate(descriptor, 4)
        os.close(descriptor)

    content = bytearray()
    for kind, _, _, data, offset in log_of(path.parent, write):
        assert isinstance(offset, int)
        if kind is Kind.WRITE:
            content[offset : offset + len(data)] = data
        elif kind is Kind.TRUNCATE:
            del content[offset:]
    assert bytes(content) == path.read_bytes()


def test_what_is_written_elsewhere_is_no_event(tmp_path: Path) -> None:
    (tmp_path / "watched").mkdir()
    assert log_of(tmp_path / "watched", lambda: (tmp_path / "elsewhere").write_bytes(TEN)) == []


def test_what_python_had_is_there_again_afterwards(tmp_path: Path) -> None:
    before = (io.open, os.open, os.write, os.replace)
    with watched(tmp_path):
        assert io.open is not before[0]
    assert (io.open, os.open, os.write, os.replace) == before


@pytest.mark.parametrize(("how", "left"), [(Kill.BEFORE, b""), (Kill.HALF, b"01234"), (Kill.AFTER, TEN)])
def test_a_kill_leaves_what_was_written_until_then_and_says_nothing(tmp_path: Path, how: Kill, left: bytes) -> None:
    path = tmp_path / "a"

    def write() -> tuple[int, None]:
        with watched(tmp_path, at(1, how)), path.open("wb") as file:
            file.write(TEN)
        return 0, None

    ended = forked(write)
    assert (ended.code, ended.out, ended.err) == (KILLED, "", "")
    assert path.read_bytes() == left


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EMFILE])
def test_a_refused_event_is_the_error_of_the_system_and_changes_nothing(tmp_path: Path, number: int) -> None:
    with watched(tmp_path, at(0, Refusal(number))), pytest.raises(OSError, match="a") as refused:
        (tmp_path / "a").write_bytes(TEN)
    assert refused.value.errno == number
    assert not (tmp_path / "a").exists()


def test_a_disk_that_becomes_full_amid_a_write_takes_half_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with watched(tmp_path, at(1, Refusal(errno.ENOSPC, half=True))), path.open("wb", buffering=0) as file:
        assert file.write(TEN) == 5
        with pytest.raises(OSError, match="No space"):
            file.write(TEN[5:])
    assert path.read_bytes() == TEN[:5]
