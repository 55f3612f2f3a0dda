"""A run's folder from the first epoch to the last, also where something comes between."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bvae_cli import runs
from bvae_cli.config import TrainConfig
from bvae_cli.errors import (
    BvaeWarning,
    DivergedError,
    ExitCode,
    InputOutputError,
    InterruptedRunError,
    TerminatedError,
    UsageError,
)
from bvae_cli.workflows import recording
from bvae_cli.workflows import train as train_module
from bvae_cli.workflows.fit import EpochStats, Fit
from bvae_cli.workflows.observing import Observer, TrainResult
from bvae_cli.workflows.planning import Plan, prepare
from bvae_cli.workflows.train import plan, train

from ..helpers import KilledError, saved_fit
from .conftest import config_for

SAME_BYTES = (runs.WEIGHTS, runs.LOSS_RECORD, runs.CONFIG)


class Recorder(Observer):
    """Remembers what it is told, and raises after an epoch where it is asked to."""

    def __init__(self, stop_after: int = 0, how: type[BaseException] = KeyboardInterrupt) -> None:
        self.notes: list[str] = []
        self.plans: list[tuple[Plan, int]] = []
        self.epochs: list[EpochStats] = []
        self.steps: list[tuple[int, int]] = []
        self._stop_after, self._how = stop_after, how

    def on_note(self, sentence: str) -> None:
        self.notes.append(sentence)

    def on_plan(self, plan: Plan, resumed_epoch: int) -> None:
        self.plans.append((plan, resumed_epoch))

    def on_step(self, step: int, steps: int) -> None:
        self.steps.append((step, steps))

    def on_epoch(self, stats: EpochStats) -> None:
        self.epochs.append(stats)
        if stats.epoch == self._stop_after:
            raise self._how


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def content(folder: Path, names: tuple[str, ...] = SAME_BYTES) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path


# --- what a run leaves behind


def test_a_run_leaves_exactly_the_documented_files(trained: TrainResult) -> None:
    assert files(trained.folder) == {
        "bvae_best_model_with.pt",
        "loss_record_with.txt",
        "config.json",
        "training_log.txt",
        "metrics.jsonl",
        "result.json",
    }
    assert trained.folder.name == "hidden_size_8_latent_size_12_depth_1_beta_1.0_lr_0.01_ecc_repetition_R_3"


def test_loadtxt_reads_the_record_and_it_says_what_the_result_says(trained: TrainResult) -> None:
    record = np.loadtxt(trained.folder / "loss_record_with.txt")
    assert record.shape == (4, 6)
    assert int(record[:, 1].argmin()) + 1 == trained.best_epoch
    assert record[:, 1].min() == pytest.approx(trained.best_validation_loss, rel=1e-6)
    assert list(record[:, 3]) == [0.0, 0.5, 1.0, 1.0]
    assert (record[:, 2] >= 0).all()
    assert list(record[:, 5]) == [0.01] * 4


def test_the_metrics_say_what_the_record_says_and_the_times(trained: TrainResult) -> None:
    metrics = [json.loads(line) for line in (trained.folder / "metrics.jsonl").read_text().splitlines()]
    record = np.loadtxt(trained.folder / "loss_record_with.txt")
    assert [row["epoch"] for row in metrics] == [1, 2, 3, 4]
    assert [row["validation_loss"] for row in metrics] == pytest.approx(list(record[:, 1]), rel=1e-6)
    assert all(row["seconds"] > 0 and row["images_per_second"] > 0 for row in metrics)


def test_the_log_holds_what_was_said_with_times(trained: TrainResult) -> None:
    lines = (trained.folder / "training_log.txt").read_text().splitlines()
    assert all(line[:4].isdigit() and line[10] == "T" for line in lines)
    text = "\n".join(lines)
    assert "epoch 1/4" in text
    assert "epoch 4/4" in text
    assert "finished: all 4 epochs done" in text


def test_the_config_holds_what_decides_the_run_and_its_digest(trained: TrainResult) -> None:
    config = json.loads((trained.folder / "config.json").read_text())
    assert config["decides"]["latent"] == 12
    assert config["decides"]["ecc"] == {"type": "repetition", "options": {"R": 3}}
    assert (config["code"]["n"], config["code"]["k"]) == (12, 4)
    assert config["code"]["distribution"] == "bvae-cli"
    assert config["data"]["feature_shape"] == [12]
    assert len(config["digest"]) == 64
    assert runs.load_checkpoint(trained.folder).config == config


def test_the_weights_are_those_of_the_best_epoch(uncoded: TrainResult) -> None:
    best = runs.load_checkpoint(uncoded.folder / "epochs" / f"epoch_{uncoded.best_epoch:04d}.pt").weights
    kept = runs.load_checkpoint(uncoded.folder).weights
    assert all(torch.equal(kept[name], best[name]) for name in kept)


def test_the_weights_load_with_torch_alone(trained: TrainResult) -> None:
    weights = torch.load(trained.folder / "bvae_best_model_with.pt", weights_only=True)["weights"]
    assert all(bool(torch.isfinite(value).all()) for value in weights.values())


def test_the_result_counts_and_times(trained: TrainResult) -> None:
    assert (trained.state, trained.reason, trained.epochs) == ("finished", "all 4 epochs done", 4)
    assert trained.seconds > 0
    assert trained.images_per_second > 0


def test_weights_of_every_epoch_are_kept_where_that_is_asked_for(uncoded: TrainResult) -> None:
    names = sorted(path.name for path in (uncoded.folder / "epochs").iterdir())
    assert names == [f"epoch_000{epoch}.pt" for epoch in range(1, 5)]
    first, last = (runs.load_checkpoint(uncoded.folder / "epochs" / names[index]).weights for index in (0, -1))
    assert any(not torch.equal(first[name], last[name]) for name in first)


def test_an_observer_hears_of_the_plan_every_step_and_every_epoch(place: Path) -> None:
    hearing = Recorder()
    result = train(config_for(place, epochs=2), hearing)
    ((planned, resumed),) = hearing.plans
    assert resumed == 0
    assert planned.folder == result.folder
    assert hearing.steps == [(1, 3), (2, 3), (3, 3)] * 2
    assert [stats.epoch for stats in hearing.epochs] == [1, 2]


def test_training_says_nothing_by_itself(place: Path, capfd: pytest.CaptureFixture[str], caplog: Any) -> None:
    with caplog.at_level(logging.DEBUG, logger="bvae_cli"):
        train(config_for(place, epochs=1))
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


# --- the plan


def test_a_plan_writes_nothing_and_says_what_it_costs(place: Path) -> None:
    planned = plan(config_for(place, ecc="repetition:R=3", batch_size=10))
    assert not (place / "weights").exists()
    assert (planned.training_rows, planned.validation_rows, planned.features) == (48, 6, 12)
    assert (planned.latent, planned.information_bits, planned.rate) == (12, 4, pytest.approx(1 / 3))
    assert planned.steps_per_epoch == 5
    # Encoder 12→8→12 and decoder 12→8→12: four matrices of 96 weights, and 8 + 12 biases twice.
    assert planned.parameters == 4 * 96 + 2 * 20
    # Two for each weight forward and four backward; but the data, which the first matrix multiplies, need no gradient.
    assert planned.flop_per_image == 6 * 4 * 96 - 2 * 96
    # At the peak on a CPU: five numbers for each weight at work, four in the state and twice its bytes, and the data.
    assert planned.memory_bytes > 4 * 17 * planned.parameters + 60 * 12


def test_a_plan_of_a_model_that_no_machine_holds_takes_no_memory(place: Path) -> None:
    planned = plan(config_for(place, hidden=65536, depth=64))
    assert planned.parameters == 2 * (2 * 12 * 65536 + 63 * 65536**2 + 64 * 65536 + 12)
    assert planned.memory_bytes > 1e13


def test_a_plan_names_the_folder_that_training_takes(place: Path) -> None:
    assert plan(config_for(place)).folder == train(config_for(place)).folder
    other = plan(config_for(place, seed=1))
    assert other.folder.name.endswith(f"_{other.digest[:8]}")
    assert train(config_for(place, seed=1)).folder == other.folder


def test_a_batch_larger_than_the_data_is_one_step_an_epoch(place: Path) -> None:
    config = config_for(place, batch_size=1_000_000, epochs=2)
    assert plan(config).steps_per_epoch == 1
    assert train(config).epochs == 2


def test_a_subset_takes_the_first_rows_and_leaves_validation_whole(place: Path) -> None:
    planned = plan(config_for(place, subset=7))
    assert (planned.training_rows, planned.validation_rows) == (7, 6)
    assert plan(config_for(place, subset=1_000_000)).training_rows == 48


# --- the same seed


def test_the_same_settings_are_the_same_bytes_and_another_seed_is_not(place: Path) -> None:
    first = train(config_for(place, output_dir=place / "a"))
    second = train(config_for(place, output_dir=place / "somewhere" / "else", threads=1))
    assert content(first.folder) == content(second.folder)
    third = train(config_for(place, output_dir=place / "c", seed=1))
    assert content(first.folder)["loss_record_with.txt"] != content(third.folder)["loss_record_with.txt"]
    assert content(first.folder)[runs.WEIGHTS] != content(third.folder)[runs.WEIGHTS]


def test_another_table_of_the_same_name_is_another_run(place: Path) -> None:
    first = train(config_for(place))
    np.save(place / "bits.npy", 1 - np.load(place / "bits.npy"))
    second = train(config_for(place))
    assert second.state == "finished"
    assert second.folder != first.folder


# --- going on, leaving alone, beginning anew


@pytest.mark.parametrize("stop_after", [1, 3])
@pytest.mark.parametrize("options", [{}, {"lr_schedule": "cosine", "ecc": "repetition:R=2", "estimator": "disarm"}])
def test_an_interrupted_run_goes_on_to_the_bytes_of_an_uninterrupted_one(
    place: Path, stop_after: int, options: dict[str, Any]
) -> None:
    whole = train(config_for(place, output_dir=place / "whole", **options))
    with pytest.raises(InterruptedRunError, match=f"Interrupted after epoch {stop_after}") as caught:
        train(config_for(place, **options), Recorder(stop_after))
    assert caught.value.exit_code == ExitCode.INTERRUPTED
    assert f"bvae resume {place / 'weights' / whole.folder.name}," in (caught.value.hint or "")

    folder = place / "weights" / whole.folder.name
    assert runs.Run(folder).state() == "unfinished"
    assert (folder / "last.pt").exists()
    assert (folder / runs.WEIGHTS).exists()
    assert not (folder / ".lock").exists()

    hearing = Recorder()
    resumed = train(config_for(place, **options), hearing)
    assert hearing.plans[0][1] == stop_after
    assert [stats.epoch for stats in hearing.epochs] == list(range(stop_after + 1, 5))
    assert resumed.folder == folder
    assert (resumed.epochs, resumed.best_epoch, resumed.best_validation_loss) == (
        whole.epochs,
        whole.best_epoch,
        whole.best_validation_loss,
    )
    assert content(resumed.folder) == content(whole.folder)
    assert files(resumed.folder) == files(whole.folder)
    metrics = [json.loads(line)["epoch"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert metrics == [1, 2, 3, 4]
    assert "going on after epoch" in (folder / "training_log.txt").read_text()


def test_a_run_may_be_interrupted_again_and_again(place: Path) -> None:
    whole = train(config_for(place, output_dir=place / "whole"))
    for epoch in (1, 2, 3):
        with pytest.raises(InterruptedRunError):
            train(config_for(place), Recorder(epoch))
    assert content(train(config_for(place)).folder) == content(whole.folder)


class Impatient(Recorder):
    """Interrupts after a step of an epoch."""

    def __init__(self, epochs: int, step: int) -> None:
        super().__init__()
        self._at = epochs, step

    def on_step(self, step: int, steps: int) -> None:
        super().on_step(step, steps)
        if (len(self.epochs), step) == self._at:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("epochs", "step"), [(0, 1), (2, 2), (1, 3)])
@pytest.mark.parametrize("options", [{}, {"ecc": "repetition:R=3", "estimator": "gumbel", "lr_schedule": "cosine"}])
def test_an_interruption_in_the_middle_of_an_epoch_loses_nothing(
    place: Path, epochs: int, step: int, options: dict[str, Any]
) -> None:
    whole = train(config_for(place, output_dir=place / "whole", **options))
    with pytest.raises(InterruptedRunError, match=f"Interrupted after epoch {epochs}, step {step} of 3; the state is in"):
        train(config_for(place, **options), Impatient(epochs, step))
    hearing = Recorder()
    assert content(train(config_for(place, **options), hearing).folder) == content(whole.folder)
    ((planned, resumed),) = hearing.plans
    assert (resumed, planned.resumed_step) == (epochs, step)
    assert len(hearing.steps) == 12 - 3 * epochs - step


def test_the_bits_of_grey_values_are_drawn_on_where_an_epoch_was_interrupted(place: Path) -> None:
    np.save(place / "grey.npy", np.random.default_rng(0).random((60, 12), dtype=np.float32))
    options = {"dataset": str(place / "grey.npy")}
    whole = train(config_for(place, output_dir=place / "whole", **options))
    with pytest.raises(InterruptedRunError):
        train(config_for(place, **options), Impatient(1, 2))
    assert content(train(config_for(place, **options)).folder) == content(whole.folder)


def test_being_terminated_saves_the_state_and_has_its_own_code(place: Path) -> None:
    with pytest.raises(InterruptedRunError, match="Terminated after epoch 2") as caught:
        train(config_for(place), Recorder(2, TerminatedError))
    assert caught.value.exit_code == ExitCode.TERMINATED == 143


def interrupted(place: Path, epoch: int = 2) -> Path:
    """Interrupt a run after an epoch; return its folder, with no state but the last."""
    with pytest.raises(InterruptedRunError):
        train(config_for(place), Recorder(epoch))
    (folder,) = (place / "weights").iterdir()
    (folder / runs.PREVIOUS_STATE).unlink(missing_ok=True)
    return folder


def test_a_state_that_is_damaged_begins_again_and_what_there_was_is_kept(place: Path) -> None:
    folder = interrupted(place)
    state = (folder / "last.pt").read_bytes()
    (folder / "last.pt").write_bytes(state[: len(state) // 2])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    hearing = Recorder()
    assert train(config_for(place), hearing).epochs == 4
    assert hearing.plans[0][1] == 0
    kept = folder / "damaged_1"
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    assert hearing.notes == [
        f"{folder / 'last.pt'} is damaged: training starts anew, and what the run had made until now is kept in {kept}."
    ]
    assert hearing.notes[0] in (folder / "training_log.txt").read_text()
    whole = train(config_for(place, output_dir=place / "whole"))
    assert content(folder) == content(whole.folder)


def test_best_weights_without_a_state_are_kept(place: Path) -> None:
    folder = interrupted(place)
    (folder / "last.pt").unlink()
    weights, hearing = (folder / runs.WEIGHTS).read_bytes(), Recorder()
    train(config_for(place), hearing)
    assert (folder / "damaged_1" / runs.WEIGHTS).read_bytes() == weights
    assert "There is no last.pt" in hearing.notes[0]


def test_whoever_hears_nothing_is_warned_of_a_damaged_state(place: Path) -> None:
    (interrupted(place) / "last.pt").write_bytes(b"half a file")
    with pytest.warns(BvaeWarning, match="training starts anew"):
        train(config_for(place))


def test_a_damaged_result_is_never_taken_for_an_unfinished_run(place: Path) -> None:
    finished = train(config_for(place))
    (finished.folder / "result.json").write_text('{"state": "fin')
    before = {path.name: path.read_bytes() for path in finished.folder.iterdir()}
    with pytest.raises(InputOutputError, match=r"result\.json is damaged") as caught:
        train(config_for(place))
    assert "delete it" in (caught.value.hint or "")
    assert {path.name: path.read_bytes() for path in finished.folder.iterdir()} == before
    assert runs.Run(finished.folder).state() == "damaged"
    (finished.folder / "result.json").unlink()
    hearing = Recorder()
    assert train(config_for(place), hearing).state == "finished"
    assert "kept in" in hearing.notes[0]
    kept = {path.name: path.read_bytes() for path in (finished.folder / "damaged_1").iterdir()}
    assert kept == {name: content for name, content in before.items() if name != "result.json"}
    (finished.folder / "result.json").write_text("{")
    assert train(config_for(place), overwrite=True).state == "finished"


def test_a_model_that_finds_no_memory_leaves_no_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise MemoryError

    prepared = dataclasses.replace(prepare(config_for(place)), new_model=fail)
    monkeypatch.setattr(train_module, "prepare", lambda *_: prepared)
    with pytest.raises(MemoryError):
        train(config_for(place))
    assert list((place / "weights").iterdir()) == []


def test_a_process_that_was_killed_goes_on_from_the_state_it_had_written(place: Path) -> None:
    whole = train(config_for(place, output_dir=place / "whole"))

    with pytest.raises(KilledError):
        train(config_for(place, checkpoint_every="1step"), Recorder(3, KilledError))
    hearing = Recorder()
    assert content(train(config_for(place), hearing).folder) == content(whole.folder)
    ((planned, epochs),) = hearing.plans
    assert (epochs, planned.resumed_step) == (2, 3)  # the end of the third epoch was not saved


@pytest.mark.parametrize(("share", "epochs"), [(math.inf, 2), (0.0, 1)])
def test_the_state_is_saved_after_an_epoch_too_where_that_costs_little(
    place: Path, monkeypatch: pytest.MonkeyPatch, share: float, epochs: int
) -> None:
    monkeypatch.setattr(recording, "_SHARE_OF_SAVING", share)
    with pytest.raises(KilledError):
        train(config_for(place, checkpoint_every="1h"), Recorder(3, KilledError))
    (folder,) = (place / "weights").iterdir()
    assert (saved_fit(folder)["epoch"], saved_fit(folder)["step"]) == (epochs, 0)


def test_a_finished_run_is_left_alone(place: Path) -> None:
    first = train(config_for(place))
    before = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")}
    hearing = Recorder()
    again = train(config_for(place), hearing)
    assert again.state == "already finished"
    assert (again.folder, again.epochs, again.best_validation_loss) == (
        first.folder,
        first.epochs,
        first.best_validation_loss,
    )
    assert hearing.plans == []
    assert {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")} == before


def test_overwriting_trains_anew_to_the_same_bytes(place: Path) -> None:
    first = train(config_for(place))
    before = content(first.folder)
    hearing = Recorder()
    again = train(config_for(place), hearing, overwrite=True)
    assert again.state == "finished"
    assert len(hearing.epochs) == 4
    assert content(again.folder) == before


def test_overwriting_an_unfinished_run_begins_at_the_first_epoch(place: Path) -> None:
    with pytest.raises(InterruptedRunError):
        train(config_for(place), Recorder(2))
    hearing = Recorder()
    train(config_for(place), hearing, overwrite=True)
    assert hearing.plans[0][1] == 0


def test_other_settings_get_a_folder_of_their_own_and_the_first_is_not_touched(place: Path) -> None:
    first = train(config_for(place))
    before = content(first.folder)
    second = train(config_for(place, seed=7))
    third = train(config_for(place, seed=7), overwrite=True)
    digest = json.loads((second.folder / "config.json").read_text())["digest"]
    assert second.folder.name == f"{first.folder.name}_{digest[:8]}"
    assert third.folder == second.folder
    assert content(first.folder) == before
    assert train(config_for(place, seed=7)).state == "already finished"


def test_weights_that_are_gone_are_trained_again(place: Path) -> None:
    first = train(config_for(place))
    before = content(first.folder)
    (first.folder / runs.WEIGHTS).unlink()
    again = train(config_for(place))
    assert again.state == "finished"
    assert content(again.folder) == before


def test_a_run_beside_another_that_has_just_begun_gets_a_folder_of_its_own(place: Path) -> None:
    class Meanwhile(Recorder):
        """Trains the other run while this one has its lock."""

        other: TrainResult

        def on_plan(self, plan: Plan, resumed_epoch: int) -> None:
            self.other = train(config_for(place, seed=1))
            with pytest.raises(UsageError, match="in use"):
                train(config_for(place))

    hearing = Meanwhile()
    first = train(config_for(place), hearing)
    digest = plan(config_for(place, seed=1)).digest
    assert hearing.other.folder == first.folder.with_name(f"{first.folder.name}_{digest[:8]}")
    assert (hearing.other.state, first.state) == ("finished", "finished")


def test_a_folder_that_another_run_took_after_the_plan_is_not_written_to(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(config_for(place))
    first = train(config_for(place, seed=1))
    assert first.folder == prepared.plan.folder
    monkeypatch.setattr(train_module, "prepare", lambda *_: prepared)
    hearing = Recorder()
    second = train(config_for(place), hearing)
    assert second.state == "finished"
    assert second.folder == hearing.plans[0][0].folder != first.folder


def test_a_run_in_use_is_refused(place: Path) -> None:
    folder = plan(config_for(place)).folder
    with runs.Run(folder).locked(), pytest.raises(UsageError, match="in use"):
        train(config_for(place))
    assert train(config_for(place)).state == "finished"


# --- starting from other weights


def test_a_run_can_start_from_the_weights_of_another(place: Path) -> None:
    first = train(config_for(place, epochs=8, lr=0.02))
    fresh, warm = Recorder(), Recorder()
    train(config_for(place, epochs=1, seed=1), fresh)
    result = train(config_for(place, epochs=1, seed=1, init_from=first.folder), warm)
    assert warm.epochs[0].validation_loss != fresh.epochs[0].validation_loss
    assert warm.epochs[0].validation_loss == pytest.approx(first.best_validation_loss, rel=0.2)
    assert result.folder.name.endswith(plan(config_for(place, epochs=1, seed=1, init_from=first.folder)).digest[:8])
    # The file's content decides, not its name.
    copy = place / "copy.pt"
    copy.write_bytes((first.folder / runs.WEIGHTS).read_bytes())
    assert train(config_for(place, epochs=1, seed=1, init_from=copy)).state == "already finished"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ecc": "repetition:R=2"}, "none on 12 code bits"),
        ({"latent": 24}, "none on 24"),
        ({"hidden": 9}, "other sizes"),
        ({"depth": 2}, "other sizes"),
    ],
)
def test_weights_that_do_not_fit_are_refused(place: Path, uncoded: TrainResult, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        train(config_for(place, init_from=uncoded.folder, **options))
    assert words in caught.value.message
    assert not (place / "weights").exists()


def test_weights_that_are_missing_are_an_input_error(place: Path) -> None:
    with pytest.raises(InputOutputError, match=r"no file .*none\.pt"):
        train(config_for(place, init_from=place / "none.pt"))


# --- precision


def test_bfloat16_trains_on_the_cpu_with_losses_in_float32(place: Path) -> None:
    config = config_for(place, amp="bf16", epochs=8)
    assert plan(config).precision == "bfloat16"
    result = train(config)
    record = np.loadtxt(result.folder / "loss_record_with.txt")
    assert np.isfinite(record).all()
    assert record[-1, 1] < record[0, 1]
    weights = runs.load_checkpoint(result.folder).weights
    assert {value.dtype for value in weights.values()} == {torch.float32}


def test_precision_decides_the_numbers_and_so_the_folder(place: Path) -> None:
    assert plan(config_for(place, amp="bf16")).digest != plan(config_for(place, amp="off")).digest
    assert plan(config_for(place, amp="auto", device="cpu")).digest == plan(config_for(place, amp="off")).digest


# --- divergence


def diverging(place: Path, **options: Any) -> TrainConfig:
    """Return a run that is good for one epoch and then is not: large steps through thirty layers."""
    return config_for(place, **({"lr": 0.1, "depth": 30, "hidden": 64, "batch_size": 1000, "epochs": 6} | options))


def without_number(monkeypatch: pytest.MonkeyPatch, *epochs: int) -> None:
    """Let these validations, counted from 1, give no number."""
    real, count = Fit._validation_loss, itertools.count(1)
    monkeypatch.setattr(Fit, "_validation_loss", lambda self: math.nan if next(count) in epochs else real(self))


def test_a_run_that_diverges_ends_where_that_is_asked_for_with_the_last_good_weights(place: Path) -> None:
    hearing = Recorder()
    with pytest.raises(DivergedError, match=r"diverged in epoch 2: the loss is .* nats, and guessing costs 8\.32") as caught:
        train(diverging(place, on_divergence="stop"), hearing)
    assert caught.value.exit_code == ExitCode.DIVERGED == 5
    (folder,) = (place / "weights").iterdir()
    assert str(folder / runs.WEIGHTS) in (caught.value.hint or "")
    assert runs.Run(folder).state() == "diverged"
    assert all(bool(value.isfinite().all()) for value in runs.load_checkpoint(folder).weights.values())
    record = np.atleast_2d(np.loadtxt(folder / "loss_record_with.txt"))
    assert len(record) == len(hearing.epochs) == 1
    assert np.isfinite(record).all()
    assert "diverged" in (folder / "training_log.txt").read_text()
    assert hearing.notes == []


def test_a_run_that_diverges_goes_on_from_its_best_epoch_with_a_quarter_of_its_rate(place: Path) -> None:
    hearing = Recorder()
    result = train(diverging(place), hearing)
    assert (result.state, result.epochs) == ("finished", 6)
    assert 1 <= result.rewinds <= 2
    assert f"after {result.rewinds} rewind" in result.reason
    assert "It goes on from the end of epoch 1 with the learning rate 0.025." in hearing.notes[0]
    record = runs.read_record(result.folder)
    assert len(record["lr"]) == 6
    assert record["lr"][0] == 0.1
    assert record["lr"][-1] == pytest.approx(0.1 * 0.25**result.rewinds)
    assert json.loads((result.folder / "result.json").read_text())["rewinds"] == result.rewinds
    assert hearing.notes[0] in (result.folder / "training_log.txt").read_text()


def test_a_rewound_run_has_the_weights_of_its_best_epoch_and_nothing_of_what_came_after(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = train(config_for(place, output_dir=place / "short", epochs=2, on_divergence="stop"))
    without_number(monkeypatch, 3)
    hearing = Recorder()
    result = train(config_for(place, save_every_epoch=True), hearing)
    assert [stats.epoch for stats in hearing.epochs] == [1, 2, 3, 4]
    assert (hearing.epochs[1].lr, hearing.epochs[2].lr) == (0.01, 0.0025)
    assert result.rewinds == 1
    assert content(result.folder)[runs.LOSS_RECORD].splitlines()[:3] == content(short.folder)[runs.LOSS_RECORD].splitlines()


@pytest.mark.parametrize(("epochs", "step"), [(0, 2), (1, 1), (3, 2)])
def test_a_run_that_is_rewound_and_interrupted_is_the_run_that_is_rewound(place: Path, epochs: int, step: int) -> None:
    whole = train(diverging(place, output_dir=place / "whole", batch_size=24), Recorder())
    assert whole.rewinds > 0
    with pytest.raises(InterruptedRunError):
        train(diverging(place, batch_size=24), Impatient(epochs, step))
    resumed = train(diverging(place, batch_size=24), Recorder())
    assert content(resumed.folder) == content(whole.folder)
    assert resumed.rewinds == whole.rewinds


def test_a_run_that_diverges_again_and_again_ends(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_number(monkeypatch, *range(3, 9))
    hearing = Recorder()
    with pytest.raises(DivergedError, match="epoch 3: the loss is not a number"):
        train(config_for(place), hearing)
    assert len(hearing.notes) == 2
    (folder,) = (place / "weights").iterdir()
    result = json.loads((folder / "result.json").read_text())
    assert set(result.pop("files")) == {runs.WEIGHTS, runs.LOSS_RECORD}
    assert result == {
        "epochs": 2,
        "reason": "Training diverged in epoch 3: the loss is not a number.",
        "state": "diverged",
    }
    assert (folder / runs.WEIGHTS).exists()


def test_a_rewound_run_has_diverged_for_whoever_wants_it_to_stop_then(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        without_number(patch, 2)
        first = train(config_for(place), Recorder())
    assert train(config_for(place)).state == "already finished"
    before = content(first.folder)
    with pytest.raises(DivergedError, match="It diverged, and was trained all 4 epochs done, after 1 rewind"):
        train(config_for(place, on_divergence="stop"))
    assert content(first.folder) == before


def test_weights_that_are_no_numbers_are_never_saved_as_a_state(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Poisoning(Recorder):
        def on_step(self, step: int, steps: int) -> None:
            if (len(self.epochs), step) == (2, 2):
                next(made[-1].model.parameters()).data.fill_(math.nan)
                raise KeyboardInterrupt

    whole = train(config_for(place, output_dir=place / "whole"))
    made: list[Fit] = []
    real = train_module.fit_of
    with monkeypatch.context() as patch:
        patch.setattr(train_module, "fit_of", lambda *args, **options: made.append(real(*args, **options)) or made[-1])
        with pytest.raises(InterruptedRunError, match=r"step 2 of 3; the state after epoch 2, step 1 of 3 is in"):
            train(config_for(place, checkpoint_every="1step"), Poisoning())
    assert content(train(config_for(place)).folder) == content(whole.folder)


def test_a_run_that_diverges_at_once_says_that_there_is_nothing_to_keep(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fit, "_validation_loss", lambda self: math.nan)
    hearing = Recorder()
    with pytest.raises(DivergedError, match="epoch 1") as caught:
        train(config_for(place), hearing)
    assert "No epoch was finished." in (caught.value.hint or "")
    assert "from the start with the learning rate 0.0025" in hearing.notes[0]
    (folder,) = (place / "weights").iterdir()
    assert not (folder / runs.WEIGHTS).exists()


def test_a_run_that_has_diverged_is_not_taken_for_finished(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Fit, "_validation_loss", lambda self: math.nan)
        with pytest.raises(DivergedError):
            train(config_for(place, on_divergence="stop"))
    assert train(config_for(place)).state == "finished"


# --- the disk


def test_a_disk_that_fills_up_keeps_what_was_saved(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InterruptedRunError):
        train(config_for(place), Recorder(2))
    (folder,) = (place / "weights").iterdir()
    before = content(folder, (runs.WEIGHTS, runs.STATE))
    with monkeypatch.context() as patch:
        patch.setattr(runs, "state_bytes", lambda value: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(InputOutputError, match="no space left on device"):
            train(config_for(place, checkpoint_every="1step"))
    assert content(folder, (runs.WEIGHTS, runs.STATE)) == before
    whole = train(config_for(place, output_dir=place / "whole"))
    assert content(train(config_for(place)).folder) == content(whole.folder)


# --- files of a run that are not its own any more


def test_the_state_of_another_seed_is_not_gone_on_with(place: Path) -> None:
    whole = train(config_for(place, output_dir=place / "whole", seed=2))
    with pytest.raises(InterruptedRunError):
        train(config_for(place, output_dir=place / "other", seed=1), Recorder(2))
    with pytest.raises(InterruptedRunError):
        train(config_for(place, seed=2), Recorder(1))
    folder = place / "weights" / whole.folder.name
    (folder / runs.STATE).write_bytes((place / "other" / whole.folder.name / runs.STATE).read_bytes())
    assert content(train(config_for(place, seed=2), Recorder()).folder) == content(whole.folder)


def test_an_older_result_of_a_run_that_is_trained_anew_takes_no_state_away(place: Path) -> None:
    whole = train(config_for(place))
    older, expected = (whole.folder / runs.RESULT).read_bytes(), content(whole.folder)
    with pytest.raises(InterruptedRunError):
        train(config_for(place), Recorder(2), overwrite=True)
    (whole.folder / runs.RESULT).write_bytes(older)
    train(config_for(place), Recorder())
    assert content(whole.folder) == expected


def test_a_finished_run_with_older_weights_is_not_left_alone_without_a_word(place: Path) -> None:
    whole = train(config_for(place, output_dir=place / "whole"))
    with pytest.raises(InterruptedRunError):
        train(config_for(place), Recorder(1))
    folder = place / "weights" / whole.folder.name
    older = (folder / runs.WEIGHTS).read_bytes()
    train(config_for(place))
    (folder / runs.WEIGHTS).write_bytes(older)
    with pytest.raises(InputOutputError):
        train(config_for(place))


@pytest.mark.parametrize("said", [None, "{", "[]", '{"digest": "another"}'])
def test_a_run_whose_configuration_is_lost_goes_on_by_its_state(place: Path, said: str | None) -> None:
    whole = train(config_for(place, output_dir=place / "whole"))
    folder = interrupted(place)
    (folder / runs.CONFIG).unlink()
    if said is not None:
        (folder / runs.CONFIG).write_text(said)
    if said is None or "another" not in said:
        assert runs.Run(folder).state() == "unfinished"
        assert [run.folder for run in runs.find_runs(place / "weights")] == [folder]
        hearing = Recorder()
        assert train(config_for(place), hearing).folder == folder
        assert hearing.plans[0][1] == 2
        assert content(folder) == content(whole.folder)
    else:  # it says to be another run's folder
        assert train(config_for(place)).folder != folder


def test_a_configuration_that_was_changed_becomes_that_of_the_run_again(place: Path) -> None:
    folder = interrupted(place)
    before = (folder / runs.CONFIG).read_bytes()
    changed = json.loads(before)
    changed["decides"]["seed"] = 99
    (folder / runs.CONFIG).write_text(json.dumps(changed))
    train(config_for(place))
    assert (folder / runs.CONFIG).read_bytes() == before
