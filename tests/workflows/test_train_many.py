"""Several seeds as one model: each is the run that it would be alone, in its folder, its files and its resumption."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from bvae_cli import devices, runs
from bvae_cli.config import TrainConfig
from bvae_cli.errors import ExitCode, InterruptedRunError, TerminatedError, UsageError
from bvae_cli.locks import HeldError
from bvae_cli.workflows import ways
from bvae_cli.workflows.fit import EpochStats, Fit
from bvae_cli.workflows.fit_many import FitMany, Stack
from bvae_cli.workflows.observing import TrainResult
from bvae_cli.workflows.planning import Plan
from bvae_cli.workflows.train import train
from bvae_cli.workflows.train_many import ManyObserver, plan_many, seeded, train_many

from .conftest import config_for
from .test_train import files

SEEDS = 3


class Listening(ManyObserver):
    """Remembers what it is told, and raises after an epoch where it is asked to."""

    def __init__(self, stop_after: int = 0, how: type[BaseException] = KeyboardInterrupt) -> None:
        self.plans: list[tuple[int, Path, int]] = []
        self.notes: list[int] = []
        self.epochs: list[dict[int, EpochStats]] = []
        self._stop_after, self._how = stop_after, how

    def on_note(self, index: int, sentence: str) -> None:
        self.notes.append(index)

    def on_plan(self, index: int, plan: Plan, resumed_epoch: int) -> None:
        self.plans.append((index, plan.folder, resumed_epoch))

    def on_epoch(self, stats: dict[int, EpochStats]) -> None:
        self.epochs.append(stats)
        if len(self.epochs) == self._stop_after:
            raise self._how


def one_by_one(config: TrainConfig) -> list[TrainResult]:
    return [train(one) for one in seeded(config, SEEDS)]


def require_same_runs(many: list[TrainResult], alone: list[TrainResult]) -> None:
    """Compare all that the folders hold but times; few steps in float32 keep six digits."""
    assert len(many) == len(alone)
    for one, other in zip(many, alone, strict=True):
        assert one.folder.name == other.folder.name
        assert files(one.folder) == files(other.folder)
        assert (one.folder / runs.CONFIG).read_bytes() == (other.folder / runs.CONFIG).read_bytes()
        assert (one.state, one.reason, one.epochs, one.best_epoch) == (
            other.state,
            other.reason,
            other.epochs,
            other.best_epoch,
        )
        records = [np.loadtxt(result.folder / runs.LOSS_RECORD, ndmin=2) for result in (one, other)]
        np.testing.assert_allclose(*records, rtol=1e-5)
        weights = [runs.load_checkpoint(result.folder).weights for result in (one, other)]
        for name in weights[1]:
            torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ecc", ["none", "repetition:R=3"])
def test_every_seed_is_the_run_that_it_would_be_alone(tmp_path: Path, ecc: str) -> None:
    options = {"ecc": ecc, "seed": 4, "save_every_epoch": True}
    many = train_many(config_for(tmp_path, output_dir=tmp_path / "many", **options), SEEDS)
    alone = one_by_one(config_for(tmp_path, output_dir=tmp_path / "alone", **options))
    require_same_runs(many, alone)
    assert len({one.best_validation_loss for one in many}) == SEEDS
    assert len({one.folder for one in many}) == SEEDS
    log = (many[1].folder / runs.LOG).read_text()
    assert "epoch 4/4" in log
    assert "finished: all 4 epochs done" in log


def test_weights_of_an_epoch_are_written_without_those_of_the_other_seeds(tmp_path: Path) -> None:
    many = train_many(config_for(tmp_path, save_every_epoch=True), SEEDS)
    alone = train(config_for(tmp_path, save_every_epoch=True, output_dir=tmp_path / "alone"))
    names = (runs.WEIGHTS, "epochs/epoch_0002.pt")
    for name in names:
        assert (many[0].folder / name).stat().st_size == (alone.folder / name).stat().st_size


def test_seeds_that_are_finished_are_left_alone_and_the_others_are_trained(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    middle = train(seeded(config, SEEDS)[1])
    before = (middle.folder / runs.WEIGHTS).read_bytes()
    results = train_many(config, SEEDS)
    assert [result.state for result in results] == ["finished", "already finished", "finished"]
    assert results[1].folder == middle.folder
    assert (middle.folder / runs.WEIGHTS).read_bytes() == before
    assert [result.state for result in train_many(config, SEEDS)] == ["already finished"] * SEEDS
    assert [result.state for result in train_many(config, SEEDS, overwrite=True)] == ["finished"] * SEEDS


@pytest.mark.parametrize("how", [KeyboardInterrupt, TerminatedError])
@pytest.mark.parametrize("after", [1, 3, 4])
def test_an_interrupted_command_goes_on_to_the_same_runs(tmp_path: Path, how: type[BaseException], after: int) -> None:
    config, whole = config_for(tmp_path), config_for(tmp_path, output_dir=tmp_path / "whole")
    with pytest.raises(InterruptedRunError, match="3 runs under way") as caught:
        train_many(config, SEEDS, Listening(after, how))
    assert caught.value.exit_code == (ExitCode.TERMINATED if how is TerminatedError else ExitCode.INTERRUPTED)
    again = Listening()
    results = train_many(config, SEEDS, again)
    assert [resumed for _, _, resumed in again.plans] == [after] * SEEDS
    for one, other in zip(results, train_many(whole, SEEDS), strict=True):
        for name in (runs.WEIGHTS, runs.LOSS_RECORD, runs.CONFIG):
            assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes()


def test_what_was_begun_together_is_gone_on_with_alone_and_the_reverse(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    with pytest.raises(InterruptedRunError):
        train_many(config, SEEDS, Listening(1))
    first = train(config)
    results = train_many(config, SEEDS)
    assert [result.state for result in results] == ["already finished", "finished", "finished"]
    assert results[0].folder == first.folder
    results[0] = first
    require_same_runs(results, one_by_one(config_for(tmp_path, output_dir=tmp_path / "alone")))


def test_a_seed_that_stops_early_is_finished_while_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {0: [5.0, 6.0, 7.0], 1: [5.0, 4.0, 3.0, 2.0]}
    by_seed = {torch.Generator().manual_seed(seed).initial_seed(): iter(values) for seed, values in losses.items()}
    monkeypatch.setattr(
        Stack,
        "validation_losses",
        lambda stack: [next(by_seed[fit.generator.initial_seed()]) for fit in stack.fits],
    )
    listening = Listening()
    first, second = train_many(config_for(tmp_path, patience=2, beta_warmup_epochs=0), 2, listening)
    assert [sorted(epoch) for epoch in listening.epochs] == [[0, 1]] * 3 + [[1]]
    assert (first.reason, first.epochs, first.best_epoch) == ("no improvement for 2 epochs", 3, 1)
    assert (second.reason, second.epochs, second.best_epoch) == ("all 4 epochs done", 4, 4)


def test_a_seed_that_diverges_is_said_so_and_the_others_are_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Stack.validation_losses

    def losses(stack: Stack) -> list[float]:
        pairs = zip(stack.fits, original(stack), strict=True)
        return [math.nan if (fit.generator.initial_seed(), fit.epoch) == (1, 2) else loss for fit, loss in pairs]

    monkeypatch.setattr(Stack, "validation_losses", losses)
    results = train_many(config_for(tmp_path), SEEDS)
    assert [result.state for result in results] == ["finished", "diverged", "finished"]
    assert (results[1].epochs, [result.epochs for result in results]) == (2, [4, 2, 4])
    assert json.loads((results[1].folder / runs.RESULT).read_text())["state"] == "diverged"
    assert results[1].folder.joinpath(runs.WEIGHTS).exists()
    assert not results[1].folder.joinpath(runs.STATE).exists()


def test_no_lock_is_left_and_a_seed_in_use_is_refused(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    results = train_many(config, SEEDS)
    assert not list(tmp_path.rglob(".lock"))
    digest = json.loads((results[1].folder / runs.CONFIG).read_text())["digest"]
    with runs.Run(results[1].folder).locked(digest), pytest.raises(HeldError):
        train_many(config, SEEDS)
    assert not list(tmp_path.rglob(".lock"))


def test_a_plan_names_the_folders_that_training_takes(tmp_path: Path) -> None:
    config = config_for(tmp_path, seed=7)
    planned = [(plan.folder, plan.digest) for plan in plan_many(config, SEEDS)[0]]
    assert not (tmp_path / "weights").exists()
    results = train_many(config, SEEDS)
    assert [folder for folder, _ in planned] == [result.folder for result in results]
    assert [digest for _, digest in planned] == [
        json.loads((result.folder / runs.CONFIG).read_text())["digest"] for result in results
    ]


def test_where_memory_is_short_seeds_are_trained_in_parts_to_the_same_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_many(config_for(tmp_path, output_dir=tmp_path / "whole"), SEEDS)
    sizes: list[int] = []
    original = FitMany.__init__

    def counting(self: FitMany, fits: list[Fit], on_step: None = None) -> None:
        sizes.append(len(fits))
        original(self, fits, on_step)

    monkeypatch.setattr(FitMany, "__init__", counting)
    one = plan_many(config_for(tmp_path), 1)[0][0].memory_bytes
    monkeypatch.setattr(devices, "memory_bytes", lambda device: 4 * one + 1)
    parts = train_many(config_for(tmp_path), SEEDS)
    assert sizes == [2]  # and one that is left alone
    require_same_runs(parts, whole)


def test_float16_is_trained_one_by_one() -> None:
    plan = Plan(**dict.fromkeys(Plan.__dataclass_fields__, 0) | {"precision": "float16", "device": "cpu"})  # type: ignore[arg-type]
    assert ways.at_once(plan) == 1


def test_data_are_loaded_and_hashed_once_for_all_seeds(tmp_path: Path, data_calls: list[str]) -> None:
    train_many(config_for(tmp_path), SEEDS)
    assert data_calls == ["load", "digest"]


def test_seeds_beyond_the_largest_are_refused(tmp_path: Path) -> None:
    config = config_for(tmp_path, seed=2**63 - 2)
    assert [one.seed for one in seeded(config, 2)] == [2**63 - 2, 2**63 - 1]
    with pytest.raises(UsageError, match="beyond the largest"):
        seeded(config, 3)
