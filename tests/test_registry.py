from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from bvae_cli import registry
from bvae_cli.codes.repetition import Repetition
from bvae_cli.errors import PluginError, UsageError

from .conftest import install_into

Install = Callable[[str], Path]
PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize(("kind", "group"), [("code", "bvae_cli.codes"), ("data set", "bvae_cli.datasets")])
def test_ours_enter_by_the_same_door_as_everybodys(kind: registry.Kind, group: str) -> None:
    assert registry.names(kind) == sorted(PROJECT["entry-points"][group])
    for name in registry.names(kind):
        (origin,) = registry.origins(kind, name)
        assert str(origin) == f"bvae-cli {PROJECT['version']}"


@pytest.mark.parametrize("kind", ["code", "data set"])
def test_every_one_of_ours_loads(kind: registry.Kind) -> None:
    rows = registry.rows(kind)
    assert [row.name for row in rows] == registry.names(kind)
    assert [row.problem for row in rows] == [None] * len(rows)
    assert all(row.spec is registry.load(kind, row.name) for row in rows)


def test_a_name_loads_the_class_that_it_stands_for() -> None:
    assert registry.load("code", "repetition") is Repetition


def test_names_are_listed_without_importing_anybody(install: Install) -> None:
    install("good")
    assert "tripled" in registry.names("code")
    assert "bvae_good" not in sys.modules
    registry.load("code", "tripled")
    assert "bvae_good" in sys.modules


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="repetition"):
        registry.load("code", "repitition")
    with pytest.raises(UsageError, match="binarized-mnist"):
        registry.origins("data set", "binarised-mnist")


def test_a_name_comes_and_goes_with_its_package(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "tripled" not in registry.names("code")
    site = install("good")
    assert "tripled" in registry.names("code")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(site)])
    assert "tripled" not in registry.names("code")


def test_a_package_installed_into_a_folder_already_searched_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    assert "tripled" not in registry.names("code")
    install_into(site, "good")
    assert "tripled" in registry.names("code")


def test_one_package_seen_twice_is_no_clash(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("good")
    monkeypatch.syspath_prepend(install_into(tmp_path / "again", "good"))
    assert len(registry.origins("code", "tripled")) == 1
    assert registry.load("code", "tripled").family == "tripled"


def test_a_broken_package_is_a_row_and_does_not_hide_the_others(install: Install) -> None:
    install("broken")
    install("clashing")
    rows = {row.name: row for row in registry.rows("code")}
    assert "a_package_that_nobody_has" in (rows["shattered"].problem or "")
    assert "bvae-clashing 7.0" in (rows["repetition"].problem or "")
    assert rows["none"].problem is None
    with pytest.raises(PluginError, match=r"bvae-broken 0\.0\.1"):
        registry.load("code", "shattered")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("class Odd(Repetition):\n    api_version = 2\n", "plugin API 2; this bvae speaks 1"),
        ("class Odd(Repetition):\n    type: int = 1\n", "'type', which is reserved"),
        ("class Odd(CodeSpec):\n    def block(self): ...\n", "not a spec class"),
        ("Odd = Repetition()\n", "not a spec class"),
        ("class Odd:\n    pass\n", "not a spec class"),
        ("raise RuntimeError('no licence')\n", "RuntimeError: no licence"),
        ("import sys\nsys.exit(3)\n", "SystemExit"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_loaded(
    source: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "odd-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.3\nName: odd\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bvae_cli.codes]\nodd = an_odd_module:Odd\n")
    imports = "from bvae_cli.codes.base import CodeSpec\nfrom bvae_cli.codes.repetition import Repetition\n"
    (tmp_path / "an_odd_module.py").write_text(imports + source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "an_odd_module", sys)
    del sys.modules["an_odd_module"]
    with pytest.raises(PluginError) as caught:
        registry.load("code", "odd")
    assert "odd 1.0" in caught.value.message
    assert words in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 80 TB")])
def test_a_full_memory_is_no_fault_of_a_plugin(error: Exception) -> None:
    with pytest.raises(type(error)), registry.blaming("code", "none"):
        raise error
    with pytest.raises(PluginError, match="the shapes differ"), registry.blaming("code", "none"):
        raise RuntimeError("the shapes differ")
