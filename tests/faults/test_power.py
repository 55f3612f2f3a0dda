"""The model of a disk without power finds the writer that renames before it syncs, and no fault with the other."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from .power import Cut, cuts_of
from .shim import Event, watched

OLD, NEW = b"old content", b"new content"


def write(path: Path, content: bytes, *, synced: bool = True, folder_synced: bool = True) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        if synced:
            os.fsync(file.fileno())
    temporary.replace(path)
    if folder_synced:
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def cuts(folder: Path, act: Callable[[], None]) -> list[Cut]:
    log: list[Event] = []
    with watched(folder, listener=log.append):
        act()
    return cuts_of(log)


def found(cuts: list[Cut], name: str = "a") -> set[bytes | None]:
    return {cut.tree.get(name) for cut in cuts}


def test_a_writer_that_syncs_before_it_renames_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    def twice() -> None:
        write(tmp_path / "a", OLD)
        write(tmp_path / "a", NEW)

    assert found(cuts(tmp_path, twice)) == {None, OLD, NEW}


def test_a_writer_that_renames_before_it_syncs_may_leave_zeros_or_half_or_nothing(tmp_path: Path) -> None:
    def twice() -> None:
        write(tmp_path / "a", OLD)
        write(tmp_path / "a", NEW, synced=False)

    assert found(cuts(tmp_path, twice)) == {None, OLD, NEW, b"", bytes(len(NEW)), NEW[: len(NEW) // 2]}


@pytest.mark.parametrize(("folder_synced", "last"), [(True, {NEW}), (False, {OLD, NEW})])
def test_a_rename_is_certain_only_when_its_folder_was_synced(tmp_path: Path, folder_synced: bool, last: set[bytes]) -> None:
    def twice() -> None:
        write(tmp_path / "a", OLD)
        write(tmp_path / "a", NEW, folder_synced=folder_synced)

    made = cuts(tmp_path, twice)
    assert found([cut for cut in made if cut.events == max(cut.events for cut in made)]) == last


def test_appended_lines_may_be_there_in_half_and_what_was_synced_stays(tmp_path: Path) -> None:
    def append() -> None:
        write(tmp_path / "a", b"one\n")
        with (tmp_path / "a").open("ab") as file:
            file.write(b"two\n")

    assert found(cuts(tmp_path, append)) == {None, b"one\n", b"one\n\0\0\0\0", b"one\ntw", b"one\ntwo\n"}


def test_names_that_were_not_synced_go_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    def make() -> None:
        for name in "abc":
            (tmp_path / name).touch()

    assert {frozenset(cut.tree) for cut in cuts(tmp_path, make)} == {frozenset("abc"[:count]) for count in range(4)}


def test_what_is_in_a_folder_is_lost_with_it(tmp_path: Path) -> None:
    def make() -> None:
        (tmp_path / "folder").mkdir()
        write(tmp_path / "folder" / "a", NEW)

    assert {None, NEW} == found(cuts(tmp_path, make), "folder/a")
    assert any(not cut.tree for cut in cuts_of([]))


def test_a_cut_is_built_as_files_and_folders(tmp_path: Path) -> None:
    Cut({"folder": None, "folder/a": NEW}, "", 0).build(tmp_path)
    assert (tmp_path / "folder" / "a").read_bytes() == NEW
