from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bvae_cli import paths

FOLDERS = [(paths.data_dir, "DATA"), (paths.cache_dir, "CACHE"), (paths.config_dir, "CONFIG")]


@pytest.mark.parametrize(("folder", "name"), FOLDERS)
def test_a_variable_names_the_folder(
    folder: Callable[[], Path], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"BVAE_{name}_DIR", str(tmp_path / "mine"))
    assert folder() == tmp_path / "mine"
    assert not folder().exists()


@pytest.mark.parametrize(("folder", "name"), FOLDERS)
def test_a_tilde_in_the_variable_is_the_home_folder(
    folder: Callable[[], Path], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(f"BVAE_{name}_DIR", "~/mine")
    assert folder() == tmp_path / "mine"


@pytest.mark.parametrize(("folder", "name"), FOLDERS)
@pytest.mark.parametrize("empty", [True, False])
def test_without_a_variable_the_systems_own_folder_is_taken(
    folder: Callable[[], Path], name: str, empty: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(f"BVAE_{name}_DIR")
    if empty:
        monkeypatch.setenv(f"BVAE_{name}_DIR", "")
    assert folder().is_absolute()
    assert "bvae" in folder().parts


def test_the_three_folders_differ_and_their_variables_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(paths.FOLDER_VARIABLES) == {f"BVAE_{name}_DIR" for _, name in FOLDERS}
    for variable in paths.FOLDER_VARIABLES:
        monkeypatch.delenv(variable)
    assert paths.data_dir() != paths.config_dir()
    assert paths.data_dir() != paths.cache_dir()
