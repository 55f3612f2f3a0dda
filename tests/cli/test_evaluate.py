from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from bvae_cli.evaluation.metrics import METRICS

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
    # As the reports have it: there is one table of meanings.
    for name in ("elbo", "iwae", "log_likelihood", "bits_per_dim", "kl"):
        assert METRICS[name].meaning in outcome.out


def test_options_of_sampling_are_not_options_of_measuring(bvae: Bvae, workplace: Path) -> None:
    for option in ("--num-samples", "--temperature", "--out"):
        bvae("evaluate", "x.pt", option, 1).refused(2, option)


def test_of_grey_values_the_figures_are_said_to_be_of_no_likelihood(bvae: Bvae, workplace: Path) -> None:
    np.save("grey.npy", np.random.default_rng(0).random((200, 12)))
    line = ("train", "--dataset", "grey.npy", "--hidden", 8, "--latent", 6, "--depth", 1, "--epochs", 1)
    trained = bvae(*line, "--json").succeeded()
    assert "no likelihood" in trained.err
    measured = bvae("evaluate", trained.json()["folder"], "--iwae-samples", 2).succeeded()
    assert "Note: The values lie between 0 and 1" in measured.err
    assert "no bound of a likelihood" in measured.out
    assert "lower bound of log p(x)" not in measured.out
    facts = bvae("evaluate", trained.json()["folder"], "--iwae-samples", 2, "--json").succeeded().json()
    assert facts["is_likelihood"] is False
    real = bvae(*line, "--likelihood", "gaussian", "--json").succeeded()
    assert "no likelihood" not in real.err
    out = bvae("evaluate", real.json()["folder"], "--iwae-samples", 2).succeeded().out
    assert "lower bound of log p(x)" in out
    exported = bvae("export", trained.json()["folder"], "--to", "torch", "-o", "exported", "--iwae-samples", 2).succeeded()
    assert re.search(r"^ELBO .* nats on .*: minus a cross-entropy, no bound of a likelihood$", exported.out, re.MULTILINE)
    card = Path("exported/README.md").read_text(encoding="utf-8")
    assert "no bound of a likelihood" in card
    assert "- log-likelihood" not in card


def test_of_grey_values_the_end_of_a_training_says_that_the_loss_is_of_no_likelihood(bvae: Bvae, workplace: Path) -> None:
    np.save("grey.npy", np.random.default_rng(0).random((60, 12)))
    line = ("train", "--dataset", "grey.npy", "--hidden", 8, "--latent", 6, "--depth", 1, "--epochs", 1)
    for state in ("trained", "found finished"):
        shown = bvae(*line).succeeded().out
        assert re.search(r"^val_loss .*: a cross-entropy, no likelihood\)$", shown, re.MULTILINE), state
        assert "ELBO" not in shown
    of_seeds = bvae(*line, "--seeds", 2, "--seed", 1).succeeded()
    assert "val_loss is of grey values: a cross-entropy, no likelihood." in of_seeds.out
    assert of_seeds.err.count("Note: The values lie between 0 and 1") == 1
    assert "negative ELBO" in bvae(*line, "--likelihood", "gaussian").succeeded().out
