from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bvae_cli import paths

FOLDERS = [(paths.data_dir, "DATA"), (paths.cache_dir, "CACHE"), (paths.config_dir, "CONFIG")]


@pytest.mark.parametrize(("folder", "name"), FOLDERS)
def test_a_variable_names_the_folder(
    folder: Callable[[], Path | None], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"BVAE_{name}_DIR", str(tmp_path / "mine"))
    assert folder() == tmp_path / "mine"
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(("folder", "name"), FOLDERS)
def test_a_tilde_in_the_variable_is_the_home_folder(
    folder: Callable[[], Path | None], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(f"BVAE_{name}_DIR", "~/mine")
    assert folder() == tmp_path / "mine"


@pytest.mark.parametrize(("folder", "name"), FOLDERS)
@pytest.mark.parametrize("empty", [True, False])
def test_without_a_variable_the_systems_own_folder_is_taken(
    folder: Callable[[], Path | None], name: str, empty: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(f"BVAE_{name}_DIR")
    if empty:
        monkeypatch.setenv(f"BVAE_{name}_DIR", "")
    found = folder()
    assert found is not None
    assert found.is_absolute()
    assert "bvae" in found.parts


@pytest.mark.parametrize(("folder", "name"), FOLDERS)
@pytest.mark.parametrize("home", [None, "~/.cache/bvae"])
def test_without_a_home_there_is_no_folder(
    folder: Callable[[], Path | None], name: str, home: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def default(application: str) -> Path:
        if home is None:
            raise RuntimeError("could not determine the home directory")
        return Path(home)

    monkeypatch.delenv(f"BVAE_{name}_DIR")
    monkeypatch.setattr(f"platformdirs.user_{name.lower()}_path", default)
    assert folder() is None


def test_a_tilde_of_nobody_stays_as_in_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.expanded("~/x") == tmp_path / "x"
    assert paths.expanded("a/~/x") == Path("a/~/x")
    assert paths.expanded("~no-such-user/x") == Path("~no-such-user/x")


def test_every_character_of_a_readable_name_can_be_seen_and_written() -> None:
    every = "".join(map(chr, range(0x30000)))
    shown = paths.readable(every)
    assert len(shown.splitlines()) == 1
    assert shown.encode().decode() == shown
    assert "ü日e\u0301 \u200d" in paths.readable("ü日e\u0301 \u200d")
    assert paths.readable("\u202e") == "\\u202e"


def test_the_three_folders_differ_and_their_variables_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(paths.FOLDER_VARIABLES) == {f"BVAE_{name}_DIR" for _, name in FOLDERS}
    for variable in paths.FOLDER_VARIABLES:
        monkeypatch.delenv(variable)
    assert paths.data_dir() != paths.config_dir()
    assert paths.data_dir() != paths.cache_dir()
