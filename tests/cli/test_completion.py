"""What a shell is offered after Tab."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import pytest

from bvae_cli import registry
from bvae_cli.cli.options import complete_codes, complete_datasets, complete_sets

from ..conftest import install_into
from ..outcome import Bvae

Offered = Callable[[str], list[str]]


@pytest.fixture
def offered(bvae: Bvae, monkeypatch: pytest.MonkeyPatch) -> Offered:
    """Return what bash would offer at the end of a line."""

    def ask(line: str) -> list[str]:
        monkeypatch.setenv("_BVAE_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(shlex.split(line)) - (not line.endswith(" "))))
        outcome = bvae()
        assert outcome.err == ""
        assert outcome.code == 0
        return outcome.out.split()

    return ask


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bvae tr", ["train"]),
        ("bvae c", ["compare", "check-ecc", "codes", "config"]),
        ("bvae train --ecc ", registry.names("code")),
        ("bvae train --ecc rep", ["repetition"]),
        ("bvae train --ecc-type ree", ["reed-muller"]),
        ("bvae check-ecc --ecc re", ["reed-muller", "repetition"]),
        ("bvae train -n ", list("01234567")),
        ("bvae train --dataset b", ["bars-and-stripes", "binarized-mnist"]),
        ("bvae train --estimator g", ["gumbel", "gumbel-st"]),
        ("bvae train --lr-schedule ", ["constant", "cosine"]),
        ("bvae sample --split ", ["validation", "test"]),
        ("bvae train --batch", ["--batch-size"]),
        ("bvae train --R", ["--R"]),
        ("bvae train --ecc repetition --ecc-R", ["--ecc-R"]),
        ("bvae config ", ["show"]),
        ("bvae config show s", ["sample"]),
        ("bvae plot --o", ["--out", "--overwrite"]),
        ("bvae train --zzz", []),
    ],
)
def test_the_line_is_completed(offered: Offered, line: str, expected: list[str]) -> None:
    assert offered(line) == expected


def test_every_command_is_offered(offered: Offered) -> None:
    assert len(offered("bvae ")) == 17


@pytest.mark.parametrize("line", ["bvae train --ecc nothing --ep", "bvae train --ecc --ep", "bvae train -n 99 --ep"])
def test_a_mistake_earlier_in_the_line_does_not_spoil_it(offered: Offered, line: str) -> None:
    assert offered(line) == ["--epochs"]


def test_a_mistake_in_the_file_or_a_variable_does_not_spoil_it(offered: Offered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BVAE_ZZZ", "1")
    assert offered("bvae train --ep") == ["--epochs"]
    monkeypatch.delenv("BVAE_ZZZ")
    monkeypatch.setenv("BVAE_CONFIG", "none.toml")
    assert offered("bvae train --ep") == ["--epochs"]


def test_packages_from_elsewhere_are_offered_and_not_imported(
    offered: Offered, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = registry.names("code")
    monkeypatch.syspath_prepend(install_into(tmp_path_factory.mktemp("s") / "site", "broken"))
    assert offered("bvae train --ecc ") == sorted([*ours, "shattered"])
    assert offered("bvae train --dataset sh") == ["shards"]
    assert offered("bvae train --ecc shattered --ep") == ["--epochs"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_can_be_had(bvae: Bvae, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    monkeypatch.setenv("_BVAE_COMPLETE", f"source_{shell}")
    assert "_BVAE_COMPLETE=complete_" + shell in bvae().out


def test_names_are_those_of_the_registry() -> None:
    assert [name for name, _ in complete_codes("")] == registry.names("code")
    assert [name for name, _ in complete_datasets("")] == registry.names("data set")
    assert dict(complete_sets("5"))["5"].startswith("hidden 200, latent 300, depth 2")
