"""The package that the page on writing a data set explains passes all checks, and its commands work."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from bvae_cli.conformance.data import CHECKS, DataSubject, outcomes_of

from ..conftest import install_into
from ..outcome import Bvae

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "write-a-data-set.md"
PACKAGE = ROOT / "examples" / "bvae-dataset-even-parity"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    site = install_into(tmp_path / "site", PACKAGE.name, PACKAGE.parent)
    monkeypatch.syspath_prepend(site)
    monkeypatch.chdir(tmp_path)
    # What is imported from there must not outlive the test.
    monkeypatch.setitem(sys.modules, "bvae_dataset_even_parity", sys)
    del sys.modules["bvae_dataset_even_parity"]
    return site


@pytest.mark.parametrize("options", [{"width": 9}, {"width": 100, "seed": 3}])
def test_the_package_passes_all_checks(installed: Path, options: dict[str, int]) -> None:
    spec = importlib.import_module("bvae_dataset_even_parity").EvenParity(**options)
    outcomes = list(outcomes_of(DataSubject(spec)))
    assert [outcome for outcome in outcomes if outcome.state == "failed"] == []
    assert sum(outcome.state == "passed" for outcome in outcomes) == 13


def test_every_command_of_the_page_works(installed: Path, bvae: Bvae) -> None:
    commands = re.findall(r"^bvae (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["datasets", "datasets", "train"]
    for command in commands:
        bvae(*command.split()).succeeded()
    assert Path("rows.png").is_file()


def test_the_page_counts_the_checks_and_its_readme_has_the_same_commands() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert f"runs {len(CHECKS)} named checks" in page
    readme = (PACKAGE / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^bvae train .+$", readme, re.MULTILINE) == re.findall(r"^bvae train .+$", page, re.MULTILINE)
