"""Files are whole or not there, and what the system refuses is said in a sentence."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bvae_cli import files
from bvae_cli.errors import InputOutputError, UsageError, cannot_be_read


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with every sync, naming file or folder, and every rename."""
    made: list[str] = []
    sync, rename = os.fsync, Path.replace

    def noted_sync(descriptor: int) -> None:
        made.append("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        sync(descriptor)

    def noted_rename(self: Path, target: Path) -> Path:
        made.append(f"rename to {target.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_rename)
    return made


def test_a_file_is_synced_before_it_is_renamed_and_the_folder_after_it(tmp_path: Path, calls: list[str]) -> None:
    files.write_atomically(tmp_path / "a", b"1")
    assert calls == ["sync file", "rename to a", "sync folder"]
    calls.clear()
    files.write_atomically(tmp_path / "a", b"2", previous=tmp_path / "before")
    assert calls == ["sync file", "rename to before", "rename to a", "sync folder"]
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "before").read_bytes()) == (b"2", b"1")


def test_a_folder_is_on_the_disk_with_all_those_above_it(tmp_path: Path, calls: list[str]) -> None:
    files.make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    assert calls == ["sync folder"] * 3
    files.make_folder(tmp_path / "a" / "b")
    assert calls == ["sync folder"] * 3
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match=r"exists|Not a directory"):
            files.make_folder(place)


def test_what_was_appended_is_on_the_disk_when_that_is_asked_for(tmp_path: Path, calls: list[str]) -> None:
    files.append(tmp_path / "a", "one\n")
    files.append(tmp_path / "a", "two ε\n")
    assert calls == []
    files.sync(tmp_path / "a", tmp_path / "not there")
    assert calls == ["sync file"]
    assert (tmp_path / "a").read_bytes() == "one\ntwo ε\n".encode()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EPERM])
def test_a_file_system_that_syncs_no_folders_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    sync = os.fsync

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    files.write_file(tmp_path / "a" / "b", b"1")
    assert (tmp_path / "a" / "b").read_bytes() == b"1"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_folder_that_cannot_be_synced_for_a_failing_disk_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(InputOutputError, match="Cannot write to"):
        files.write_file(tmp_path / "a", b"1")


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EDQUOT, "Your quota is used up"),
        (errno.EMFILE, "may open no more files"),
        (errno.EIO, "The disk fails"),
        (errno.EACCES, "Name a folder that can be written to."),
        (errno.EROFS, "Name a folder that can be written to."),
    ],
)
def test_what_the_system_refuses_is_a_sentence_with_a_hint(number: int, hint: str) -> None:
    error = files.describe_os_error(OSError(number, os.strerror(number)), Path("there"))
    assert error.message == f"Cannot write to there: {os.strerror(number).lower()}."
    assert hint in (error.hint or "")


def test_a_body_that_fails_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    def fail() -> None:
        with files.new_file(tmp_path / "a") as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_replaced_by_a_whole_file_and_not_appended_to(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        files.append(tmp_path / "link", "more")
    files.write_atomically(tmp_path / "link", b"mine")
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "link").is_symlink()


def test_a_name_as_long_as_the_system_allows_can_be_written(tmp_path: Path) -> None:
    name = "n" * 255
    files.write_file(tmp_path / name, b"1")
    assert (tmp_path / name).read_bytes() == b"1"


def test_what_is_there_is_overwritten_only_where_that_is_asked_for(tmp_path: Path) -> None:
    files.require_new(tmp_path / "a", overwrite=False)
    (tmp_path / "a").write_text("")
    files.require_new(tmp_path / "a", overwrite=True)
    with pytest.raises(UsageError, match="is there already") as caught:
        files.require_new(tmp_path / "a", overwrite=False)
    assert caught.value.hint == "Name another file, or write it anew with --overwrite."


def test_a_folder_or_a_file_in_the_way_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputOutputError, match="file: it is a file, not a folder") as caught:
        files.require_place(tmp_path / "file" / "below")
    assert caught.value.hint == "Name a folder that can be written to."
    with pytest.raises(InputOutputError, match="it is a folder, not a file") as caught:
        files.require_place(tmp_path)
    assert caught.value.hint == "Name a file in it."


def test_a_refusal_while_a_file_is_written_piece_by_piece_names_its_folder(tmp_path: Path) -> None:
    def fail() -> None:
        with files.new_file(tmp_path / "a"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(InputOutputError) as caught:
        fail()
    assert caught.value.message == f"Cannot write to {tmp_path}: no space left on device."
    assert caught.value.hint == "Free some space, or name another folder; what was saved before is intact."
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_without_a_number_is_told_in_its_own_words(tmp_path: Path) -> None:
    assert (
        files.describe_os_error(OSError("Strange Thing"), tmp_path).message == f"Cannot write to {tmp_path}: strange thing."
    )
    assert cannot_be_read(tmp_path, OSError("Strange")).message == f"{tmp_path} cannot be read: strange."


def test_equal_values_are_equal_bytes_and_a_new_file_is_as_open_as_the_person_lets_it(tmp_path: Path) -> None:
    assert (
        files.json_bytes({"b": 1, "a": [2]})
        == files.json_bytes({"a": [2], "b": 1})
        == b'{\n  "a": [\n    2\n  ],\n  "b": 1\n}\n'
    )
    mask = os.umask(0)
    try:
        files.append(tmp_path / "a", "text")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666


def test_a_failure_of_torchs_own_writer_is_an_output_error_and_a_full_memory_is_none(tmp_path: Path) -> None:
    def fail(words: str) -> Any:
        with files.writing(tmp_path):
            raise RuntimeError(words)

    with pytest.raises(InputOutputError, match="unexpected pos"):
        fail("unexpected pos 64 vs 0")
    with pytest.raises(RuntimeError, match="allocate memory"):
        fail("DefaultCPUAllocator: can't allocate memory")


def test_what_dead_processes_of_this_machine_have_left_goes_with_the_next_write(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    mine = files.temporary_beside(tmp_path / "a")
    dead = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{process.pid}-"))
    elsewhere = dead.with_name(dead.name.replace(dead.name.split("-")[1], "00000000"))
    for path in (mine, dead, elsewhere, tmp_path / ".bvae-x.tmp"):
        path.write_text("")
    files.write_file(tmp_path / "a", b"1")
    assert {path.name for path in tmp_path.iterdir()} == {"a", mine.name, elsewhere.name, ".bvae-x.tmp"}
    files.remove_leftovers(tmp_path, alone=True)
    assert {path.name for path in tmp_path.iterdir()} == {"a"}


def _filled(path: Path, overwrite: bool = False, text: str = "new") -> None:
    with files.new_folder(path, overwrite, {"a", "b"}) as folder:
        assert folder.parent == path.parent
        files.write_file(folder / "a", text.encode())


def _copied_half(folder: Path) -> None:
    (folder / "a").write_text("x")
    raise ValueError("half")


def test_a_folder_has_its_name_only_when_it_is_filled(tmp_path: Path) -> None:
    _filled(tmp_path / "above" / "it")
    assert (tmp_path / "above" / "it" / "a").read_text() == "new"
    with pytest.raises(ValueError, match="half"), files.new_folder(tmp_path / "other", False, {"a"}) as folder:
        _copied_half(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["above"]


def test_a_folder_is_replaced_where_it_may_be_and_holds_nothing_else(tmp_path: Path) -> None:
    it = tmp_path / "it"
    it.mkdir()
    _filled(it, text="old")  # an empty one is as good as none
    (it / "b").write_text("left over")
    with pytest.raises(UsageError, match=r"it is there already.*\n.*--overwrite"):
        _filled(it)
    assert (it / "a").read_text() == "old"
    _filled(it, overwrite=True)
    assert [path.name for path in it.iterdir()] == ["a"]
    assert (it / "a").read_text() == "new"
    (it / "mine").write_text("x")
    with pytest.raises(UsageError, match="holds mine"):
        _filled(it, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_a_folder_that_cannot_take_its_place_leaves_the_one_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = tmp_path / "it"
    _filled(it, text="old")
    rename = Path.rename

    def refusing(self: Path, target: Path) -> Path:
        if target == it and (self / "a").read_text() == "new":
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refusing)
    with pytest.raises(InputOutputError, match="input/output error"):
        _filled(it, overwrite=True)
    assert (it / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


@pytest.mark.parametrize("name", [".", "..", "/", "it/.."])
def test_a_folder_without_a_name_of_its_own_is_not_replaced(name: str) -> None:
    with pytest.raises(UsageError, match="no name of a new folder"):
        _filled(Path(name), overwrite=True)


def test_a_link_is_not_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "it").symlink_to("target")
    with pytest.raises(InputOutputError, match="it is a link"):
        _filled(tmp_path / "it", overwrite=True)


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputOutputError, match="file, not a folder"):
            _filled(path, overwrite=True)


def test_a_folder_that_a_dead_process_has_left_goes_with_the_next_write(tmp_path: Path) -> None:
    left = files.temporary_beside(tmp_path / "x")
    left = left.with_name(left.name.replace(f"-{os.getpid()}-", "-4194999-"))
    left.mkdir()
    (left / "a").write_text("half")
    files.write_file(tmp_path / "b", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_what_is_read_is_not_overwritten_under_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    read = tmp_path / "in" / "a.npy"
    read.write_text("")
    (tmp_path / "link.npy").symlink_to(read)
    (tmp_path / "hard.npy").hardlink_to(read)
    for name in (read, Path("in/a.npy"), Path("in/../in/a.npy"), Path("link.npy"), Path("hard.npy"), Path("in")):
        with pytest.raises(UsageError, match="what is read is not overwritten"):
            files.require_new(name, overwrite=True, inputs=[tmp_path / "other", read])
    files.require_new(tmp_path / "in" / "b.npy", overwrite=True, inputs=[read, tmp_path / "in"])
