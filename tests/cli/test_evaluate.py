from __future__ import annotations

from pathlib import Path

from ..outcome import Bvae


def test_the_folder_can_be_an_argument_or_an_option(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    first = bvae("evaluate", run_folder, "--iwae-samples", 2, "--json", "-q").succeeded()
    second = bvae("evaluate", "--weights", run_folder, "--iwae-samples", 2, "--json", "-q").succeeded()
    assert first.json() == second.json()
    assert first.json()["bounds"]["iwae_samples"] == 2
    assert list(workplace.iterdir()) == [workplace / "bits.npy"]


def test_the_weights_are_named_once(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    bvae("evaluate", run_folder, "--weights", run_folder).refused(2, "named twice")


def test_the_table_names_rows_code_and_weights(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    outcome = bvae("evaluate", run_folder, "--split", "test", "--iwae-samples", 2).succeeded()
    assert outcome.out.startswith(f"6 test rows, code repetition:R=3, {run_folder}")
    for words in ("bits/dim", "reconstruction PSNR", "calibration error", "± s.e."):
        assert words in outcome.out
    assert "uniqueness" not in outcome.out


def test_options_of_sampling_are_not_options_of_measuring(bvae: Bvae, workplace: Path) -> None:
    for option in ("--num-samples", "--temperature", "--out"):
        bvae("evaluate", "x.pt", option, 1).refused(2, option)
