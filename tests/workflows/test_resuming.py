"""A folder says by itself how to go on with its run."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import bvae_cli
from bvae_cli import runs
from bvae_cli.errors import DivergedError, InputOutputError, InterruptedRunError, UsageError
from bvae_cli.workflows.observing import Observer, TrainResult
from bvae_cli.workflows.resuming import unfinished
from bvae_cli.workflows.train import train

from ..helpers import KilledError
from .conftest import config_for
from .test_train import SAME_BYTES, Impatient, Recorder, content


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path


def interrupted(place: Path, **options: object) -> Path:
    """Interrupt a run in its second epoch; return its folder."""
    with pytest.raises(InterruptedRunError):
        train(config_for(place, **options), Impatient(1, 2))
    (folder,) = (place / "weights").iterdir()
    return folder


def test_a_run_goes_on_by_its_folder_to_the_bytes_of_an_uninterrupted_one(place: Path) -> None:
    options = {"ecc": "repetition:R=3", "lr_schedule": "cosine", "seed": 5, "threads": 1, "save_every_epoch": True}
    whole = train(config_for(place, output_dir=place / "whole", **options))
    folder = interrupted(place, **options)
    result = bvae_cli.resume(folder)
    assert result.state == "finished"
    assert result.folder == folder
    assert content(folder) == content(whole.folder)
    assert {path.name for path in folder.iterdir()} == {path.name for path in whole.folder.iterdir()}


def test_a_folder_that_was_moved_and_renamed_goes_on_where_it_is(place: Path) -> None:
    whole = train(config_for(place, output_dir=place / "whole"))
    folder = interrupted(place)
    (place / "elsewhere").mkdir()
    shutil.move(folder, place / "elsewhere" / "my run")
    assert bvae_cli.resume(place / "elsewhere" / "my run").folder == place / "elsewhere" / "my run"
    assert content(place / "elsewhere" / "my run") == content(whole.folder)
    assert list((place / "weights").iterdir()) == []


def test_relative_paths_mean_what_they_meant_when_the_run_was_started(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config_for(place)  # the data
    monkeypatch.chdir(place)
    with pytest.raises(InterruptedRunError):
        train(config_for(place, dataset=Path("bits.npy"), output_dir=Path("weights")), Impatient(1, 2))
    (folder,) = Path("weights").iterdir()
    folder = folder.absolute()
    monkeypatch.chdir("/")
    assert bvae_cli.resume(folder).state == "finished"
    assert Path.cwd() == Path("/")


def test_other_options_of_the_machine_may_be_given_and_wrong_ones_are_refused(place: Path) -> None:
    folder = interrupted(place)
    found = unfinished(folder, {"threads": "1", "checkpoint_every": "3steps"})
    assert found is not None
    assert (found.config.threads, found.config.saving.steps) == (1, 3)
    with pytest.raises(UsageError, match="checkpoint"):
        unfinished(folder, {"checkpoint_every": "often"})
    with pytest.raises(InputOutputError, match="cannot go on here: lr changed since it began"):
        bvae_cli.resume(folder, lr=0.5)


def test_other_data_under_the_same_name_are_refused(place: Path) -> None:
    folder = interrupted(place)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    np.save(place / "bits.npy", 1 - np.load(place / "bits.npy"))
    with pytest.raises(InputOutputError, match="cannot go on here: data changed since it began"):
        bvae_cli.resume(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_finished_run_is_left_alone_and_one_that_diverged_too(trained: TrainResult, place: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.folder.iterdir()}
    again = bvae_cli.resume(trained.folder)
    assert (again.state, again.best_epoch) == ("already finished", trained.best_epoch)
    assert {path: path.stat().st_mtime_ns for path in trained.folder.iterdir()} == before
    run = runs.Run(place / "diverged")
    run.start({"digest": "0"})
    run.finish({"state": "diverged", "reason": "Training diverged in epoch 3: why.", "epochs": 2})
    with pytest.raises(DivergedError, match="diverged in epoch 3") as caught:
        bvae_cli.resume(run.folder)
    assert "nothing to go on with" in (caught.value.hint or "")


def test_what_is_no_run_is_refused_and_the_runs_below_are_named(place: Path) -> None:
    with pytest.raises(InputOutputError, match="There is no folder"):
        bvae_cli.resume(place / "nothing")
    folder = interrupted(place)
    with pytest.raises(InputOutputError, match="holds no run to go on with") as caught:
        bvae_cli.resume(place / "weights")
    assert caught.value.hint == f"Below it is {folder}."


@pytest.mark.parametrize(
    "damage", ["", "[]", "{}", '{"options": 5, "started_in": null}', '{"options": {}, "started_in": 5}']
)
def test_options_that_cannot_be_read_name_the_command_that_goes_on(place: Path, damage: str) -> None:
    folder = interrupted(place)
    (folder / runs.OPTIONS).write_text(damage)
    with pytest.raises(InputOutputError, match=r"options\.json is missing or damaged") as caught:
        bvae_cli.resume(folder)
    assert "`bvae train` with the options that began it" in (caught.value.hint or "")
    assert train(config_for(place)).state == "finished"


def test_options_of_another_version_are_refused_by_name(place: Path) -> None:
    folder = interrupted(place)
    said = json.loads((folder / runs.OPTIONS).read_text())
    said["options"]["warp"] = 9
    (folder / runs.OPTIONS).write_text(json.dumps(said))
    with pytest.raises(UsageError, match="warp"):
        bvae_cli.resume(folder)


def test_a_run_that_was_killed_before_its_first_state_goes_on_from_the_start(place: Path) -> None:
    class Killing(Observer):
        def on_step(self, step: int, steps: int) -> None:
            raise KilledError

    whole = train(config_for(place, output_dir=place / "whole"))
    with pytest.raises(KilledError):
        train(config_for(place), Killing())
    (folder,) = (place / "weights").iterdir()
    assert not (folder / runs.STATE).exists()
    assert bvae_cli.resume(folder).state == "finished"
    assert content(folder) == content(whole.folder)


def test_a_deleted_working_folder_is_no_matter(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "gone").mkdir()
    config = config_for(place)
    monkeypatch.chdir(place / "gone")
    (place / "gone").rmdir()
    with pytest.raises(InterruptedRunError):
        train(config, Impatient(1, 2))
    monkeypatch.undo()
    os.chdir(place)
    (folder,) = (place / "weights").iterdir()
    assert json.loads((folder / runs.OPTIONS).read_text())["started_in"] is None
    assert bvae_cli.resume(folder).state == "finished"


def test_the_state_before_the_last_is_gone_on_from_and_said_so(place: Path) -> None:
    whole = train(config_for(place, output_dir=place / "whole"))
    with pytest.raises(InterruptedRunError):
        train(config_for(place, checkpoint_every="1step"), Impatient(2, 2))
    (folder,) = (place / "weights").iterdir()
    state = (folder / runs.STATE).read_bytes()
    (folder / runs.STATE).write_bytes(state[:-1] + b"x")
    hearing = Recorder()
    assert train(config_for(place), hearing).folder == folder
    assert hearing.notes == [
        f"{folder / 'last.pt'} is damaged: going on from the state before it, after epoch 2, step 1 of 3."
    ]
    assert content(folder, SAME_BYTES) == content(whole.folder, SAME_BYTES)
