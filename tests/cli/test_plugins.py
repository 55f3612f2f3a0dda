"""Packages from elsewhere: a good one, one that cannot be imported, one whose name is taken."""

from __future__ import annotations

import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bvae_cli import registry

from ..conftest import PLUGINS
from ..outcome import Bvae

Install = Callable[[str], Path]

TRAIN = ("train", "--dataset", "stripes", "--ecc", "tripled", "--hidden", 8, "--latent", 12, "--epochs", 2, "--json")


def state_of(bvae: Bvae, name: str) -> str:
    rows = {row["name"]: row for row in bvae("codes", "--json").succeeded().json()}
    return str(rows[name]["problem"])


def test_a_good_package_lists_trains_samples_and_is_checked(bvae: Bvae, install: Install, workplace: Path) -> None:
    install("good")
    (row,) = [row for row in bvae("codes", "--json").succeeded().json() if row["name"] == "tripled"]
    assert row["origins"] == ["bvae-good 1.2.3"]
    assert row["problem"] is None
    assert set(row["options"]) == {"seed", "gain"}

    run = bvae(*TRAIN, "--ecc-seed", 7).succeeded().json()
    assert run["state"] == "finished"
    assert run["folder"].endswith("_ecc_tripled_seed_7_gain_1.0")

    sampled = bvae("sample", "--weights", run["folder"], "--num-samples", 5, "--json", "-q").succeeded().json()
    arrays = np.load(sampled["file"])
    assert arrays["codewords"].shape == (5, 12)
    assert arrays["information_bits"].shape == (5, 4)
    assert (arrays["codewords"].sum(1) == 3 * arrays["information_bits"].sum(1)).all()

    verdict = bvae("check-ecc", "--ecc", "tripled", "--latent", 12, "--json").succeeded().json()
    assert (verdict["information_bits"], verdict["min_distance"], verdict["correctable"]) == (4, 3, 1)
    bvae("check-ecc", "--ecc", "tripled", "-n", 0).refused(2, "100", "99", "102", "5, 7")


def test_an_option_whose_name_is_taken_is_said_with_its_prefix(bvae: Bvae, install: Install, workplace: Path) -> None:
    install("good")
    shown = bvae("config", "show", "--ecc", "tripled", "--seed", 3, "--ecc-seed", 4, "--gain", 2, "--latent", 12, "--json")
    options = shown.succeeded().json()
    assert options["seed"]["value"] == 3
    assert options["ecc"]["value"] == {"type": "tripled", "options": {"seed": 4, "gain": 2.0}}
    assert "--gain" in bvae("train", "--ecc", "tripled", "--help").succeeded().out
    bvae("train", "--ecc", "tripled", "--gian", 2).refused(2, "--gian", "--gain")
    bvae("train", "--gain", 2).refused(2, "--gain")


def test_a_data_set_from_elsewhere_stands_beside_ours(bvae: Bvae, install: Install) -> None:
    install("good")
    rows = {row["name"]: row for row in bvae("datasets", "--json").succeeded().json()}
    assert rows["stripes"]["origins"] == ["bvae-good 1.2.3"]
    assert rows["stripes"]["licence"] == "CC0"
    assert "binarized-mnist" in rows
    bvae("train", "--dataset", "stripes:repeats=0").refused(2, "repeats", "at least 1")
    bvae("train", "--dataset", "stripe").refused(2, "stripes")


def test_a_broken_package_is_a_row_that_says_so(bvae: Bvae, install: Install) -> None:
    install("broken")
    problem = state_of(bvae, "shattered")
    assert "bvae-broken 0.0.1" in problem
    assert "a_package_that_nobody_has" in problem
    for command, name in (("codes", "shattered"), ("datasets", "shards")):
        (row,) = [line for line in bvae(command).succeeded().out.splitlines() if line.startswith(f" {name} ")]
        assert "bvae-broken 0.0.1" in row
        assert not row.rstrip().endswith(" ok")


def test_a_broken_package_is_an_error_for_whoever_asks_for_it(bvae: Bvae, install: Install, workplace: Path) -> None:
    install("broken")
    for command in ("train", "sample", "check-ecc"):
        bvae(command, "--ecc", "shattered").refused(4, "shattered", "bvae-broken 0.0.1", "a_package_that_nobody_has")
    bvae("train", "--dataset", "shards").refused(4, "shards", "bvae-broken 0.0.1")


@pytest.mark.parametrize("package", ["broken", "clashing", "ancient"])
def test_nobody_else_hears_of_a_bad_package(bvae: Bvae, install: Install, workplace: Path, package: str) -> None:
    before = bvae("--help").succeeded().out
    install(package)
    assert bvae("--help").succeeded().out == before
    assert "--epochs" in bvae("train", "--help").succeeded().out
    run = bvae("train", "--dataset", "bits.npy", "--hidden", 8, "--latent", 12, "--epochs", 1, "-q", "--json")
    assert run.succeeded().json()["state"] == "finished"


def test_a_package_of_another_contract_is_refused_with_both_versions(bvae: Bvae, install: Install, workplace: Path) -> None:
    install("ancient")
    assert "plugin API 0; this bvae speaks 1" in state_of(bvae, "fossil")
    for arguments in (("train", "--ecc", "fossil"), ("codes", "show", "fossil"), ("compare", "--ecc", "fossil:R=3")):
        bvae(*arguments).refused(4, "fossil", "bvae-ancient 0.0.1", "plugin API 0")


def test_help_is_there_also_where_the_file_names_a_broken_code(bvae: Bvae, install: Install, workplace: Path) -> None:
    install("broken")
    Path("c.toml").write_text('ecc = "shattered"\n')
    assert "--epochs" in bvae("train", "--config", "c.toml", "--help").succeeded().out
    bvae("train", "--config", "c.toml").refused(4, "shattered")


def test_a_name_that_two_packages_claim_is_refused_naming_both(bvae: Bvae, install: Install, workplace: Path) -> None:
    install("clashing")
    for arguments in (("train", "--ecc", "repetition"), ("check-ecc", "--ecc", "repetition"), ("check-ecc",)):
        bvae(*arguments).refused(4, "bvae-cli", "bvae-clashing 7.0", "Uninstall one")
    assert "bvae-clashing 7.0" in state_of(bvae, "repetition")


def test_weights_of_a_code_that_is_gone_say_what_to_install(
    bvae: Bvae, install: Install, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.syspath_prepend(install("good"))
        folder = bvae(*TRAIN, "--dataset", "bits.npy", "-q").succeeded().json()["folder"]
    monkeypatch.undo()
    monkeypatch.chdir(workplace)
    assert "tripled" not in registry.names("code")
    for command in ("sample", "evaluate"):
        bvae(command, "--weights", folder).refused(4, "tripled", "not installed", "pip install 'bvae-good'")


def test_weights_of_a_code_that_has_changed_are_refused(
    bvae: Bvae, install: Install, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = install("good")
    folder = bvae(*TRAIN, "--dataset", "bits.npy", "-q").succeeded().json()["folder"]
    import bvae_good

    assert Path(bvae_good.__file__).parent == site
    monkeypatch.setattr(bvae_good._TripledCode, "encode", lambda self, bits: bits.repeat(*[1] * (bits.ndim - 1), 3))
    bvae("evaluate", "--weights", folder).refused(4, "tripled", "codewords differ", "bvae-good 1.2.3")


def test_a_failure_inside_of_a_plugin_is_the_plugins(
    bvae: Bvae, install: Install, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("good")
    import bvae_good

    monkeypatch.setattr(bvae_good.Tripled, "build", lambda self, n: 1 / 0)
    bvae(*TRAIN, "--dataset", "bits.npy").refused(4, "tripled", "bvae-good 1.2.3", "ZeroDivisionError")
    monkeypatch.setattr(bvae_good.Stripes, "load", lambda self: 1 / 0)
    bvae(*TRAIN).refused(4, "stripes", "bvae-good 1.2.3", "ZeroDivisionError")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("bvae_cli.errors:nearest", "not a spec class"),
        ("bvae_cli.codes.base:CodeSpec", "not a spec class"),
        ("bvae_cli.codes.nothing:Nothing", "ModuleNotFoundError"),
        ("bvae_cli.datasets.binarized_mnist:BinarizedMnist", "not a spec class"),
    ],
)
def test_what_is_no_spec_is_refused(
    bvae: Bvae, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, words: str
) -> None:
    info = tmp_path / "site" / "odd-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.3\nName: odd\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[bvae_cli.codes]\nodd = {target}\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    bvae("train", "--ecc", "odd").refused(4, "odd 1.0", words)


@pytest.mark.parametrize("package", ["good", "broken", "clashing", "ancient"])
def test_the_packages_are_real_and_build_into_wheels(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = pytest.importorskip("hatchling.build", reason="needs hatchling, which builds them")
    monkeypatch.chdir(PLUGINS / package)
    with zipfile.ZipFile(tmp_path / build.build_wheel(str(tmp_path))) as wheel:
        names = wheel.namelist()
        (metadata,) = [name for name in names if name.endswith("entry_points.txt")]
        written = wheel.read(metadata).decode()
    offered = tomllib.loads((PLUGINS / package / "pyproject.toml").read_text())["project"]["entry-points"]
    assert f"bvae_{package}.py" in names
    for group, offers in offered.items():
        assert f"[{group}]" in written
        assert all(f"{name} = {target}" in written for name, target in offers.items())
