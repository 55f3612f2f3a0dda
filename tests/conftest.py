"""An environment of its own for every test: no variable, file or folder of the person who runs them bears on it."""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

# Before torch is imported: neighbours on the machine then cost the tests little, and two processes do the same sums.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest

from bvae_cli.cli.app import main

from .outcome import Bvae, Outcome

PLUGINS = Path(__file__).parent / "plugins"
# Packages for the tests to install, one of them broken on purpose: they hold no tests of their own.
collect_ignore = ["plugins"]
_GPU_DRIVER = Path("/dev/nvidiactl")
_LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_", "TORCHELASTIC_")
_FOREIGN = ("BVAE_", "_BVAE_", "DISABLE_", "CUDA_VISIBLE_DEVICES", "COMP_", "FORCE_COLOR", "NO_COLOR", "COLUMNS", *_LAUNCHER)


def _on_a_gpu(config: pytest.Config) -> bool:
    return bool(config.option.markexpr == "gpu")


@pytest.fixture(scope="session", autouse=True)
def _isolated(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(_FOREIGN)]:
            patch.delenv(name)
        if _GPU_DRIVER.exists() and not _on_a_gpu(pytestconfig):
            patch.setenv("CUDA_VISIBLE_DEVICES", "")
        for folder in ("DATA", "CACHE", "CONFIG"):
            patch.setenv(f"BVAE_{folder}_DIR", str(tmp_path_factory.mktemp(folder.lower())))
        yield


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the slow tests leave only a part, every third from the second on with ``TESTS_SLOW_PART=2/3``.

    Those that need a GPU are left to ``-m gpu``.
    """
    if not _on_a_gpu(config):
        _leave_out(config, items, {item for item in items if item.get_closest_marker("gpu")})
    if wanted := os.environ.get("TESTS_SLOW_PART"):
        number, parts = map(int, wanted.split("/"))
        slow = [item for item in items if item.get_closest_marker("slow")]
        _leave_out(config, items, {item for place, item in enumerate(slow) if place % parts != number - 1})


def _leave_out(config: pytest.Config, items: list[pytest.Item], left_out: set[pytest.Item]) -> None:
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a small data set ``bits.npy`` of 60 rows of 12 bits in it."""
    monkeypatch.chdir(tmp_path)
    write_bits(tmp_path / "bits.npy")
    return tmp_path


def write_bits(path: Path, rows: int = 60, features: int = 12) -> None:
    """Write rows of bits with something in them to learn: two patterns, one in ten bits wrong."""
    random = np.random.default_rng(1)
    patterns = random.integers(0, 2, (2, features))
    noise = random.random((rows, features)) < 0.1
    np.save(path, (patterns[random.integers(0, 2, rows)] ^ noise).astype(np.uint8))


@pytest.fixture
def bvae(capfd: pytest.CaptureFixture[str]) -> Bvae:
    """Run a command in this process, as the shell would: ``bvae("train", "-n", 0)``."""

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        assert isinstance(stop.value.code, int)
        return Outcome(stop.value.code, out, err)

    return run


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Make a package of ``tests/plugins`` visible, as pip would but without it; return the folder it is in."""

    def make_visible(name: str) -> Path:
        site = install_into(tmp_path / f"site-{name}", name)
        monkeypatch.syspath_prepend(site)
        for module in site.glob("*.py"):
            # What is imported from there must not outlive the test.
            monkeypatch.setitem(sys.modules, module.stem, sys)
            del sys.modules[module.stem]
        return site

    return make_visible


def install_into(site: Path, name: str, home: Path = PLUGINS) -> Path:
    """Write the module and the metadata of a package of ``tests/plugins``, or ``home``, into a folder for ``sys.path``."""
    project = tomllib.loads((home / name / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    for module in (home / name).glob("*.py"):
        shutil.copy(module, site)
    metadata = f"Metadata-Version: 2.3\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    lines = []
    for group, offers in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{offer} = {target}" for offer, target in offers.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return site
