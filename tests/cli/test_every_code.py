"""Every code of ours through every command on real images, and no line elsewhere that knows it by name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import bvae_cli
from bvae_cli import registry

from ..outcome import Bvae

# A small latent and the options with which it fits; a test fails when a registered code is missing here.
CODES: dict[str, tuple[int, tuple[object, ...]]] = {
    "none": (12, ()),
    "repetition": (12, ("--R", 3)),
    "parity": (10, ("--k", 4)),
    "hamming": (16, ("--r", 3, "--extended")),
    "golay": (24, ("--ecc-n", 24)),
    "reed-muller": (16, ("--r", 1, "--m", 4)),
    "bch": (30, ("--ecc-n", 15, "--t", 2)),
    "polar": (64, ("--ecc-n", 64, "--k", 32)),
    "ldpc": (48, ("--ecc-n", 48, "--ecc-seed", 1)),
    "convolutional": (40, ("--generators", "5-7", "--k", 20)),
    "linear": (12, ("--matrix", "100110/010101/001011")),
    "unequal": (22, ("--groups", "9 repetition:R=3 + 8 hamming:r=3,extended=true + 5 none")),
}
# What a person may leave out: `--R 3` alone means a repetition code, and no code at all is a code.
KNOWN_BY_NAME = {"repetition", "none"}


def test_every_registered_code_of_ours_is_here() -> None:
    ours = {
        name for name in registry.names("code") if any(o.distribution == "bvae-cli" for o in registry.origins("code", name))
    }
    assert ours == set(CODES)


@pytest.mark.slow
@pytest.mark.parametrize("name", CODES)
def test_it_trains_samples_and_is_compared_on_images(bvae: Bvae, workplace: Path, name: str) -> None:
    latent, options = CODES[name]
    model = ("--hidden", 16, "--depth", 1, "--latent", latent, "--ecc", name, *options)
    budget = ("--subset", 400, "--epochs", 2, "--batch-size", 100)
    trained = bvae("train", *model, *budget, "-q", "--json").succeeded().json()
    assert trained["state"] == "finished"
    weights = trained["folder"]
    bvae("sample", "--weights", weights, "--num-samples", 4, "--subset", 50, "--iwae-samples", 2, "-q").succeeded()
    assert list(Path(weights, "samples").glob("*.png"))
    quick = ("--eval-subset", 60, "--iwae-samples", 2, "--bootstrap-samples", 100, "--calibration-bins", 4)
    # The code `none` is no rival of itself: two sizes of it are.
    rival = ("--arm", "uncoded", "--arm", "uncoded:latent=6") if name == "none" else ()
    compared = bvae("compare", *model, *budget, *quick, *rival, "--seeds", 1, "--noise-epsilon", 0.05, "-q").succeeded()
    assert "report" in compared.out


def test_no_line_outside_its_file_knows_a_family_by_name() -> None:
    root = Path(bvae_cli.__file__).parent
    own = {name: registry.load("code", name).__module__.rpartition(".")[2] for name in CODES}
    for path in root.rglob("*.py"):
        texts = {node.value for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Constant)}
        named = {name for name in CODES if name in texts and own[name] != path.stem} - KNOWN_BY_NAME
        assert not named, f"{path} names {named}"
