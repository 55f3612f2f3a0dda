from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest

from bvae_cli import runs
from bvae_cli.workflows.fit import EpochStats, Fit
from bvae_cli.workflows.observing import Observer, TrainResult
from bvae_cli.workflows.parts import PartObserver

from ..outcome import Bvae
from .conftest import TINY

FACTS = {field.name for field in dataclasses.fields(TrainResult)}


def test_the_result_is_on_stdout_and_the_talk_on_stderr(bvae: Bvae, workplace: Path) -> None:
    outcome = bvae("train", *TINY).succeeded()
    assert [line.split()[0] for line in outcome.out.splitlines()] == ["stopped", "best", "val_loss", "time", "folder"]
    assert "epoch 1/2" not in outcome.out
    for words in ("bvae train: hidden 8, latent N 12, depth 1, code none", "device cpu", "epoch 1/2", "epoch 2/2", "Next:"):
        assert words in outcome.err
    assert "\x1b" not in outcome.err
    assert "\r" not in outcome.err


def test_json_is_one_object_and_nothing_else_on_stdout(bvae: Bvae, workplace: Path) -> None:
    result = bvae("train", *TINY, "--json").succeeded().json()
    assert set(result) == FACTS
    assert result["state"] == "finished"
    assert result["epochs"] == 2
    assert Path(result["folder"], runs.WEIGHTS).exists()


def test_quiet_says_nothing_but_the_result(bvae: Bvae, workplace: Path) -> None:
    outcome = bvae("train", *TINY, "--quiet").succeeded()
    assert outcome.err == ""
    assert "folder" in outcome.out


def test_verbose_says_more(bvae: Bvae, workplace: Path) -> None:
    said = bvae("train", *TINY, "--verbose").succeeded().err
    assert "digest" in said
    assert "tau 1.000" in said
    assert "lr 1.00e-03" in said


def test_a_dry_run_says_what_it_costs_and_writes_nothing(bvae: Bvae, workplace: Path) -> None:
    shown = bvae("train", *TINY, "--R", 3, "--dry-run").succeeded().out
    for words in ("K = 4 information bits", "repetition(R=3)", "steps", "3 an epoch, 2 epochs at most", "memory"):
        assert words in shown
    facts = bvae("train", *TINY, "--dry-run", "--json").succeeded().json()
    assert facts["steps_per_epoch"] == 3
    assert facts["code"] == "none"
    assert not Path("weights").exists()


def test_the_same_command_again_says_that_it_is_finished(bvae: Bvae, workplace: Path) -> None:
    first = bvae("train", *TINY, "--json").succeeded().json()
    again = bvae("train", *TINY, "--json").succeeded()
    assert again.json() == {**first, "state": "already finished"}
    assert "finished before" in again.err
    assert "--overwrite" in again.err
    anew = bvae("train", *TINY, "--json", "--overwrite").succeeded()
    assert anew.json()["state"] == "finished"


def test_other_settings_train_beside_it_and_say_why_the_folder_has_digits(bvae: Bvae, workplace: Path) -> None:
    first = bvae("train", *TINY, "--json").succeeded().json()
    second = bvae("train", *TINY, "--json", "--seed", 1).succeeded()
    assert second.json()["folder"].startswith(first["folder"] + "_")
    assert "other settings" in second.err


def test_the_next_line_that_is_proposed_works(bvae: Bvae, workplace: Path) -> None:
    said = bvae("train", *TINY, "--output-dir", "a folder").succeeded().err
    folder = said.split("Next: bvae sample --weights '")[1].split("'")[0]
    assert bvae("sample", "--weights", folder, "--num-samples", 2, "--iwae-samples", 1, "-q").code == 0


def test_bare_options_of_the_code_train_with_it(bvae: Bvae, workplace: Path) -> None:
    outcome = bvae("train", *TINY, "--R", 3).succeeded()
    assert "Note: R=3 is given without a code: taking --ecc repetition." in outcome.err
    assert "_ecc_repetition_R_3" in outcome.out
    for spelling in (
        ("--ecc", "repetition", "--R", 3),
        ("--ecc-type", "repetition", "--ecc-R", 3),
        ("--ecc", "repetition:R=3"),
    ):
        same = bvae("train", *TINY, *spelling, "--json").succeeded()
        assert same.json()["state"] == "already finished"
        assert "Note" not in same.err


def test_a_run_that_is_interrupted_says_how_to_go_on(bvae: Bvae, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Observer, stats: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bvae_cli.cli.progress._LineObserver.on_epoch", stop)
        bvae("train", *TINY).refused(130, "Interrupted after epoch 1", "To go on: bvae resume weights/")
    outcome = bvae("train", *TINY, "--json").succeeded()
    assert "going on after epoch 1" in outcome.err
    assert outcome.json()["epochs"] == 2


def test_a_run_that_diverges_exits_with_five_and_keeps_the_weights(bvae: Bvae, workplace: Path) -> None:
    wild = ("--lr", 0.1, "--depth", 30, "--hidden", 64, "--batch-size", 1000, "--epochs", 6, "--on-divergence", "stop")
    bvae("train", *TINY, *wild).refused(5, "diverged in epoch", "guessing costs", "bvae_best_model_with.pt", "--lr")
    (folder,) = Path("weights").iterdir()
    assert bvae("evaluate", folder, "--iwae-samples", 1, "--json", "-q").code == 0
    assert json.loads((folder / "result.json").read_text())["state"] == "diverged"


def test_bfloat16_is_used_where_it_is_asked_for(bvae: Bvae, workplace: Path) -> None:
    outcome = bvae("train", *TINY, "--amp", "bf16", "--json").succeeded()
    assert "bfloat16 (asked for)" in outcome.err


def test_a_file_of_settings_trains_as_flags_do(bvae: Bvae, workplace: Path) -> None:
    Path("my.toml").write_text(
        'dataset = "bits.npy"\nhidden = 8\nlatent = 12\ndepth = 1\nepochs = 2\nbatch_size = 16\n[ecc]\nR = 2\n'
    )
    first = bvae("train", "--config", "my.toml", "--json").succeeded().json()
    assert bvae("train", *TINY, "--ecc-R", 2, "--json").succeeded().json() == {**first, "state": "already finished"}


def test_starting_from_other_weights_works_from_the_command_line(bvae: Bvae, workplace: Path, trained: TrainResult) -> None:
    outcome = bvae("train", *TINY, "--R", 3, "--init-from", trained.folder, "--json").succeeded()
    assert outcome.json()["state"] == "finished"


# --- several seeds


def test_seeds_are_a_table_of_runs_with_their_folders(bvae: Bvae, workplace: Path) -> None:
    outcome = bvae("train", *TINY, "--seeds", 3, "--seed", 5).succeeded()
    header, _, *rows = [line.split() for line in outcome.out.splitlines() if line.strip()]
    assert header[:2] == ["seed", "state"]
    assert [row[:2] for row in rows] == [["5", "finished"], ["6", "finished"], ["7", "finished"]]
    assert all(Path(row[-1], runs.WEIGHTS).exists() for row in rows)
    for words in ("epoch 1/2  3 in training", "epoch 2/2", "seed 6: weights", "images/s together", "Next: bvae runs"):
        assert words in outcome.err
    assert outcome.err.count("device cpu") == 1
    assert "seed 6: loss" not in outcome.err
    assert "seed 6: loss" in bvae("train", *TINY, "--seeds", 3, "--seed", 5, "--overwrite", "--verbose").succeeded().err


def test_seeds_as_json_are_a_list_of_what_each_run_gives_alone(bvae: Bvae, workplace: Path) -> None:
    results = bvae("train", *TINY, "--seeds", 2, "--json", "--quiet").succeeded().json()
    assert [set(result) for result in results] == [FACTS | {"seed", "way"}] * 2
    assert results[0]["way"]["workers"] == 1
    assert [result["seed"] for result in results] == [0, 1]
    alone = bvae("train", *TINY, "--seed", 1, "--json").succeeded().json()
    assert alone["state"] == "already finished"
    assert alone["folder"] == results[1]["folder"]


def test_a_dry_run_of_seeds_names_each_folder_and_writes_nothing(bvae: Bvae, workplace: Path) -> None:
    plans = bvae("train", *TINY, "--seeds", 2, "--dry-run", "--json").succeeded().json()
    shown = bvae("train", *TINY, "--seeds", 2, "--dry-run").succeeded().out
    assert all(plan["folder"] in shown and plan["digest"][:8] in shown for plan in plans)
    assert len({plan["folder"] for plan in plans}) == 2
    assert re.search(r"^way +1 worker × 1 thread × 2 models: about .* too little for a measurement$", shown, re.MULTILINE)
    assert plans[0]["way"]["models"] == 2
    assert not Path("weights").exists()


def test_no_seed_at_all_is_refused(bvae: Bvae, workplace: Path) -> None:
    bvae("train", *TINY, "--seeds", 0).refused(2, "--seeds")


def test_seeds_that_diverge_are_named_and_exit_with_five(
    bvae: Bvae, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Fit.finished_epoch

    def finished(fit: Fit, training_loss: float, kl: float, validation_loss: float, seconds: float) -> EpochStats:
        loss = math.nan if fit.generator.initial_seed() == 1 else validation_loss
        return original(fit, training_loss, kl, loss, seconds)

    monkeypatch.setattr(Fit, "finished_epoch", finished)
    outcome = bvae("train", *TINY, "--seeds", 3)
    assert outcome.code == 5
    assert "Error: Training diverged with 1 of 3 seeds: 1.\nHint: " in outcome.err
    rows = [line.split() for line in outcome.out.splitlines() if line.strip()][2:]
    assert [row[1] for row in rows] == ["finished", "diverged", "finished"]
    assert rows[1][2] == "–"


def test_seeds_that_are_interrupted_say_how_to_go_on(bvae: Bvae, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(PartObserver, "on_epoch", interrupt)
        bvae("train", *TINY, "--seeds", 2, "--quiet").refused(130, "2 runs under way", "The same command goes on")
    assert "going on after epoch 1" in bvae("train", *TINY, "--seeds", 2).succeeded().err


def interrupt(self: PartObserver, stats: object) -> None:
    raise KeyboardInterrupt


def test_the_way_is_said_with_verbose_and_what_is_asked_for_is_checked(bvae: Bvae, workplace: Path) -> None:
    line = ("train", *TINY, "--seeds", 3, "--models-at-once", 2, "--workers", 1)
    said = bvae(*line, "--verbose").succeeded().err
    assert re.search(r"^way 1 worker × \d+ threads? × 2 models: asked for$", said, re.MULTILINE)
    assert bvae(*line, "--json").succeeded().json()[0]["way"] is None  # nothing was left to train
    assert "nothing is left to train" in bvae(*line, "--dry-run").succeeded().out
    bvae("train", *TINY, "--workers", "many").refused(2, "--workers")
    bvae("train", *TINY, "--workers", 0).refused(2, "--workers")
