from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bvae_cli import runs
from bvae_cli.errors import InputOutputError, InterruptedRunError
from bvae_cli.workflows.listing import differing, summarize_runs
from bvae_cli.workflows.observing import TrainResult
from bvae_cli.workflows.train import train

from .conftest import config_for
from .test_train import Recorder


def test_every_run_is_summed_up_in_a_line(trained: TrainResult, tmp_path: Path) -> None:
    shutil.copytree(trained.folder, tmp_path / "weights" / "old")
    with pytest.raises(InterruptedRunError):
        train(config_for(tmp_path), Recorder(1))
    old, new = sorted(summarize_runs(tmp_path), key=lambda run: run.folder.name != "old")
    assert (old.code, old.epochs, old.state) == ("repetition:R=3", 4, "finished")
    assert old.data.startswith("arrays:path=")
    assert "split_seed" not in old.data  # nobody chose it
    assert old.best_epoch == trained.best_epoch
    assert old.best_validation_loss == pytest.approx(trained.best_validation_loss, rel=1e-6)
    assert (new.code, new.epochs, new.best_epoch, new.state) == ("none", 1, 1, "unfinished")


def test_a_run_before_its_first_epoch_has_no_best_one(tmp_path: Path) -> None:
    runs.Run(tmp_path / "run").start({"digest": "0"})
    (summary,) = summarize_runs(tmp_path)
    assert (summary.epochs, summary.best_epoch, summary.best_validation_loss) == (0, None, None)
    assert summary.state == "unfinished"


def test_a_damaged_record_says_so_and_the_others_are_listed(trained: TrainResult, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(trained.folder, tmp_path / name)
    (tmp_path / "a" / runs.LOSS_RECORD).write_text("# header\nnot a number\n")
    assert [run.state for run in summarize_runs(tmp_path)] == ["damaged record", "finished"]


def test_what_is_not_the_same_in_all_runs_is_told_of_each_of_them(tmp_path: Path) -> None:
    for name, options in (("a", {}), ("b", {"channel_epsilon": 0.05, "lr": 0.002}), ("c", {"seed": 3})):
        with pytest.raises(InterruptedRunError):
            train(config_for(tmp_path, output_dir=tmp_path / name, **options), Recorder(1))
    found = summarize_runs(tmp_path)
    assert differing(found) == [
        f"channel_epsilon={noise} lr={rate}" for noise, rate in ((0.0, 0.01), (0.05, 0.002), (0.0, 0.01))
    ]
    assert differing(found[:1]) == [""]
    older = replace(found[0], settings={key: value for key, value in found[0].settings.items() if key != "channel_epsilon"})
    assert differing([older, found[2]]) == ["", ""]


def test_an_empty_folder_has_no_runs_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    assert summarize_runs(tmp_path) == []
    with pytest.raises(InputOutputError):
        summarize_runs(tmp_path / "nothing")
