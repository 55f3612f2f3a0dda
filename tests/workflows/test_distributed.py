"""Training by several processes beside the same run in one: in float64 they are the same to 1e-9."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import signal
import statistics
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bvae_cli import runs
from bvae_cli.errors import DivergedError, ExitCode, InterruptedRunError, UsageError
from bvae_cli.model.networks import Architecture
from bvae_cli.model.relaxation import ESTIMATORS
from bvae_cli.ranks import Place
from bvae_cli.workflows import distributed, planning
from bvae_cli.workflows import fit as fit_module
from bvae_cli.workflows.building import new_model
from bvae_cli.workflows.distributed import ALONE, Group, LostProcessError, ProcessGroup
from bvae_cli.workflows.fit import Fit, validation_loss
from bvae_cli.workflows.observing import Observer, TrainResult
from bvae_cli.workflows.train import train

from ..conftest import write_bits
from ..helpers import property_settings, saved_fit
from .conftest import config_for
from .crew import dismiss_all, together
from .test_fit import bits
from .test_fit_many import CODES, alone, require_same_epochs, require_same_state, tensors_of

# Of 40 rows: batches that do not divide, last batches of one row, and batches of fewer rows than there are processes.
BATCHES = (16, 13, 7, 3, 1, 1000)
CASES: dict[str, dict[str, Any]] = {
    **{
        f"{estimator}, {sampling}": {"estimator": estimator, "sampling": sampling, "code": "repetition"}
        for estimator in ESTIMATORS
        for sampling in ("codeword", "bitwise")
    },
    **{f"code {code}": {"code": code, "consistency_weight": 0.3} for code in CODES},
    **{f"batches of {rows}": {"batch_size": rows, "epochs": 2 if rows == 1 else 3} for rows in BATCHES},
    "disarm, batches of 3": {"estimator": "disarm", "batch_size": 3, "code": "hamming"},
    "clipped": {"grad_clip": 0.05, "batch_size": 13},
    "cosine": {"lr_schedule": "cosine", "batch_size": 13},
    "fresh bits": {"fresh_bits": True, "batch_size": 13},
    "fresh bits, batches of 1": {"fresh_bits": True, "batch_size": 1, "epochs": 2},
    "impatient": {"patience": 1, "min_delta": 1e3, "epochs": 9},
}
SEVERAL = [2, pytest.param(3, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]


def fit_for(case: dict[str, Any], group: Group = ALONE) -> fit_module.Fit:
    """Return a run in float64."""
    options = {"epochs": 3, **case, "group": group}
    if options.get("fresh_bits"):
        options["train"] = torch.rand(40, 10, generator=torch.Generator().manual_seed(2))
    return alone(**options)


@pytest.fixture(autouse=True, scope="module")
def _crews() -> Iterator[None]:
    yield
    dismiss_all()


@pytest.fixture(autouse=True)
def _validation_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_module, "_VALIDATION_ROWS", 6)


def run_cases(group: Group) -> dict[str, tuple[list[Any], dict[str, Any]]]:
    """Train every case, with 20 rows of validation in pieces of 6; return its epochs and its state."""
    done, fit_module._VALIDATION_ROWS = {}, 6
    for name, case in CASES.items():
        fit = fit_for(case, group)
        done[name] = (list(fit), fit.state_dict())
    return done


@pytest.fixture(scope="module", params=SEVERAL)
def by_several(request: pytest.FixtureRequest) -> list[dict[str, tuple[list[Any], dict[str, Any]]]]:
    """Every case as each of several processes has trained it."""
    return together(request.param, run_cases)


@pytest.mark.parametrize("case", CASES)
def test_several_processes_train_what_one_trains(by_several: list[Any], case: str) -> None:
    fit = fit_for(CASES[case])
    epochs = list(fit)
    for of_process in by_several:
        stats, state = of_process[case]
        require_same_epochs(stats, epochs)
        other = fit_for(CASES[case])
        other.load_state_dict(state)
        require_same_state(other, fit)
        assert other.stop_reason == fit.stop_reason


@pytest.mark.parametrize("case", CASES)
def test_all_processes_have_the_same_bits(by_several: list[Any], case: str) -> None:
    (first_stats, first), *others = (of_process[case] for of_process in by_several)
    for stats, state in others:
        for one, other in zip(tensors_of(state), tensors_of(first), strict=True):
            assert torch.equal(one, other)
        assert [value(one) for one in stats for value in NUMBERS] == [value(one) for one in first_stats for value in NUMBERS]


NUMBERS: list[Callable[[Any], Any]] = [
    lambda stats: stats.training_loss,
    lambda stats: stats.validation_loss,
    lambda stats: stats.kl,
    lambda stats: stats.epochs_without_improvement,
]


# --- the parts of a batch


@property_settings
@given(rows=st.integers(1, 60), size=st.integers(1, 9), seed=st.integers(0, 1000))
def test_the_parts_of_a_batch_are_all_of_it_and_weigh_as_much_as_their_rows(rows: int, size: int, seed: int) -> None:
    groups = [Group() for _ in range(size)]
    for rank, group in enumerate(groups):
        group.rank, group.size = rank, size
    values = torch.rand(rows, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    parts = [group.part(rows) for group in groups]
    taken = [row for part in parts if part.weight for row in range(rows)[part.rows]]
    assert taken == list(range(rows))
    # Nobody is without a row: its arithmetic would be another, and a mean over nothing is no number.
    assert all(len(values[part.rows]) >= 1 for part in parts)
    assert max(len(values[part.rows]) for part in parts) - min(len(values[part.rows]) for part in parts) <= 1
    mean = sum(part.weight * float(values[part.rows].mean()) for part in parts)
    assert mean == pytest.approx(float(values.mean()), rel=1e-12)
    assert all(sum(group.mine(piece) for group in groups) == 1 for piece in range(20))


# --- in float32


def first_step(group: Group) -> list[float]:
    """Train one step in float32, and return its loss and KL."""
    train_rows = bits(40)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = fit_module.BinaryVAE(CODES["repetition"], train_rows.float().mean(0), Architecture(hidden=16, depth=2))
    fit = fit_module.Fit(model, train_rows, bits(20, seed=1), epochs=1, batch_size=40, lr=0.01, group=group)
    (stats,) = fit
    return [stats.training_loss, stats.kl]


def test_the_first_step_in_float32_is_that_of_one_process() -> None:
    expected = first_step(ALONE)
    for found in together(2, first_step):
        assert found == pytest.approx(expected, rel=1e-6)


def quality(group: Group, folder: Path, seed: int) -> float:
    options = {"epochs": 30, "seed": seed, "output_dir": folder / f"{group.size}_{seed}"}
    return train(config_for(folder, **options), group=group).best_validation_loss


@pytest.mark.slow
def test_the_end_in_float32_is_that_of_one_process_within_the_noise_of_seeds(tmp_path: Path) -> None:
    write_bits(tmp_path / "bits.npy", rows=400)
    by_seed = [quality(ALONE, tmp_path, seed) for seed in range(5)]
    for size in (2, 4):
        found = together(size, quality, tmp_path, 0)
        assert len(set(found)) == 1
        assert abs(found[0] - by_seed[0]) < 3 * statistics.stdev(by_seed)


# --- a run's folder


@dataclasses.dataclass
class Stopping(Observer):
    """Raises in the first process after an epoch, or kills the process that is asked for."""

    stop_after: int = 0
    how: type[BaseException] = KeyboardInterrupt
    plans: list[tuple[Any, int]] = dataclasses.field(default_factory=list)

    def on_plan(self, plan: Any, resumed_epoch: int) -> None:
        self.plans.append((plan, resumed_epoch))

    def on_epoch(self, stats: Any) -> None:
        if stats.epoch == self.stop_after:
            raise self.how


def in_float64(group: Group, folder: Path, options: dict[str, Any], stop_after: int = 0) -> TrainResult:
    """Train in float64 into a folder."""
    planning.new_model = lambda *arguments: new_model(*arguments).double()  # type: ignore[assignment]
    try:
        return train(config_for(folder, **options), Stopping(stop_after), group=group)
    finally:
        planning.new_model = new_model


def in_float32(group: Group, folder: Path, options: dict[str, Any], stop_after: int = 0) -> TrainResult:
    return train(config_for(folder, **options), Stopping(stop_after), group=group)


def folder_in(place: Path) -> Path:
    (folder,) = place.iterdir()
    return folder


def into(place: Path) -> dict[str, Any]:
    """Return options of a run into a folder; all take their data from one place, for its name is in the configuration."""
    return {**OPTIONS, "output_dir": place}


OPTIONS: dict[str, Any] = {"ecc": "repetition:R=2", "lr_schedule": "cosine", "estimator": "disarm", "batch_size": 13}


def on(size: int, job: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Run a job in one process, this one, or in several; return what each returned or raised."""
    if size > 1:
        return together(size, job, *arguments)
    try:
        return [job(ALONE, *arguments)]
    except InterruptedRunError as error:
        return [error]


@pytest.mark.parametrize(
    ("before", "after"),
    [(2, 1), (1, 2), *(pytest.param(*sizes, marks=pytest.mark.slow) for sizes in [(4, 2), (2, 3), (1, 4)])],
)
def test_a_run_goes_on_with_another_number_of_processes(tmp_path: Path, before: int, after: int) -> None:
    in_float64(ALONE, tmp_path, into(tmp_path / "whole"))
    first, *others = on(before, in_float64, tmp_path, into(tmp_path / "parts"), 2)
    assert isinstance(first, InterruptedRunError)
    assert "after epoch 2" in first.message
    assert all(isinstance(other, LostProcessError) for other in others)
    results = on(after, in_float64, tmp_path, into(tmp_path / "parts"))
    assert [result.state for result in results] == ["finished"] * after
    assert len(set(results)) == 1

    whole, parts = folder_in(tmp_path / "whole"), folder_in(tmp_path / "parts")
    assert sorted(path.name for path in whole.iterdir()) == sorted(path.name for path in parts.iterdir())
    np.testing.assert_allclose(
        np.loadtxt(parts / runs.LOSS_RECORD), np.loadtxt(whole / runs.LOSS_RECORD), rtol=1e-8, atol=1e-12
    )
    weights, expected = (runs.load_checkpoint(folder).weights for folder in (parts, whole))
    for name, values in expected.items():
        torch.testing.assert_close(weights[name], values, rtol=1e-9, atol=1e-9)
    losses = [json.loads((folder / runs.RESULT).read_text())["best_validation_loss"] for folder in (parts, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


def test_the_same_processes_end_with_the_same_bytes_as_in_one_go(tmp_path: Path) -> None:
    config_for(tmp_path)  # the data
    for name, stop in (("whole", 0), ("parts", 2), ("parts", 0)):
        together(2, in_float32, tmp_path, into(tmp_path / name), stop)
    for name in (runs.WEIGHTS, runs.LOSS_RECORD, runs.CONFIG):
        assert (folder_in(tmp_path / "parts") / name).read_bytes() == (folder_in(tmp_path / "whole") / name).read_bytes()


def killed(group: Group, folder: Path, victim: int) -> TrainResult:
    """Train, but let one process be killed in the middle of epoch 3."""
    batches = 0
    original = Fit._step

    def step(*arguments: Any) -> Any:
        nonlocal batches
        batches += 1
        if group.rank == victim and batches == 11:  # 4 an epoch
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments)

    Fit._step = step  # type: ignore[method-assign]
    try:
        return in_float32(group, folder, into(folder / "parts"))
    finally:
        Fit._step = original  # type: ignore[method-assign]


def test_where_a_process_is_killed_the_first_saves_the_steps_of_all_and_the_others_end_too(
    tmp_path: Path,
) -> None:
    config_for(tmp_path)
    first, other = together(2, killed, tmp_path, 1)
    assert other is None
    folder = folder_in(tmp_path / "parts")
    assert isinstance(first, LostProcessError)
    assert first.exit_code is ExitCode.FAILED
    assert first.message == f"A process of the group is gone, after epoch 2, step 2 of 4; the state is in {folder}."
    assert first.hint == "The same command goes on from there, on any number of processes."
    assert not (folder / ".lock").exists()
    assert runs.Run(folder).state() == "unfinished"
    state = saved_fit(folder)
    assert (state["epoch"], state["step"]) == (2, 2)

    together(2, in_float32, tmp_path, into(tmp_path / "parts"))
    together(2, in_float32, tmp_path, into(tmp_path / "whole"))
    for name in (runs.WEIGHTS, runs.LOSS_RECORD):
        assert (folder / name).read_bytes() == (folder_in(tmp_path / "whole") / name).read_bytes()


def test_where_the_first_process_is_killed_the_others_say_where_its_folder_is(tmp_path: Path) -> None:
    config_for(tmp_path)
    first, other = together(2, killed, tmp_path, 0)
    assert first is None
    assert isinstance(other, LostProcessError)
    assert (
        other.message == f"A process of the group is gone, in epoch 3; what was saved is in {folder_in(tmp_path / 'parts')}."
    )
    assert in_float32(ALONE, tmp_path, into(tmp_path / "parts")).state == "finished"


def test_a_finished_run_is_left_alone_by_all(tmp_path: Path) -> None:
    finished = in_float32(ALONE, tmp_path, OPTIONS)
    content = {path.name: path.read_bytes() for path in finished.folder.iterdir()}
    for result in together(2, in_float32, tmp_path, OPTIONS):
        assert result == dataclasses.replace(finished, state="already finished")
    assert {path.name: path.read_bytes() for path in finished.folder.iterdir()} == content


def diverging(group: Group, folder: Path) -> TrainResult:
    fit_module.validation_loss = lambda *arguments: math.nan
    try:
        return in_float32(group, folder, {})
    finally:
        fit_module.validation_loss = validation_loss


def test_a_run_that_diverges_ends_alike_in_all(tmp_path: Path) -> None:
    config_for(tmp_path)
    first, other = together(2, diverging, tmp_path)
    assert isinstance(first, DivergedError)
    assert isinstance(other, DivergedError)
    assert first.message == other.message
    assert runs.Run(folder_in(tmp_path / "weights")).state() == "diverged"


def each_its_own(group: Group, folder: Path) -> TrainResult:
    return in_float32(group, folder, {"seed": group.rank})


def test_processes_with_other_options_are_refused(tmp_path: Path) -> None:
    config_for(tmp_path)
    first, other = together(2, each_its_own, tmp_path)
    assert isinstance(other, UsageError)
    assert "Process 1 would train another run than process 0" in other.message
    assert isinstance(first, LostProcessError)
    assert not any((tmp_path / "weights").glob("*"))


def counted_writes(group: Group, folder: Path) -> list[str]:
    """Train, and return what this process has written or said."""
    done: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("start", "record", "log", "save_weights", "save_state", "finish", "locked"):
            original = getattr(runs.Run, name)

            def noting(*arguments: Any, _name: str = name, _original: Any = original) -> Any:
                done.append(_name)
                return _original(*arguments)

            patch.setattr(runs.Run, name, noting)
        observer = Stopping()
        train(config_for(folder), observer, group=group)
    return done + ["on_plan" for _ in observer.plans]


def test_only_the_first_process_writes_and_observes(tmp_path: Path) -> None:
    config_for(tmp_path)
    first, other = together(2, counted_writes, tmp_path)
    assert {"start", "record", "finish", "locked", "on_plan"} < set(first)
    assert other == []


# --- finding each other


def meeting(store: Any, size: int) -> list[Any]:
    """Let so many processes (threads here) find each other; return the store that each was given."""
    found: list[Any] = [None] * size

    def come(rank: int) -> None:
        found[rank] = distributed._met(store, Place(rank, size, rank))

    threads = [threading.Thread(target=come, args=(rank,)) for rank in range(size)]
    for thread in reversed(threads):
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def test_processes_find_each_other_also_in_a_store_with_the_leavings_of_the_dead() -> None:
    store = dist.HashStore()
    before = meeting(store, 3)
    before[1].set("address", "of one that is dead")
    after = meeting(store, 3)
    assert not after[2].check(["address"])
    after[1].set("address", "alive")
    assert after[2].get("address") == b"alive"
    assert after[0].get("address") == b"alive"


def test_processes_that_do_not_come_are_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "_SECONDS_UNTIL_LOST", 0.2)
    with pytest.raises(LostProcessError, match="Not all of 3 processes came"):
        distributed._met(dist.HashStore(), Place(0, 3, 0))


def test_one_process_tells_and_the_first_before_others() -> None:
    store = dist.HashStore()
    groups = [ProcessGroup(Place(rank, 3, rank), store) for rank in range(3)]
    assert not groups[1].is_told(0.1)  # nobody does, so this one is to
    assert groups[2].is_told(0.1)
    assert not groups[0].tells()

    store = dist.HashStore()
    groups = [ProcessGroup(Place(rank, 3, rank), store) for rank in range(3)]
    threading.Timer(0.2, groups[0].tells).start()
    assert groups[1].is_told(30)


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("mps", "cannot share the GPU of a Mac"),
        ("cuda:1", "cuda:1 is one GPU"),
        ("cuda", "more processes than the 2 GPU"),
    ],
)
def test_a_device_that_cannot_be_shared_is_refused(monkeypatch: pytest.MonkeyPatch, device: str, words: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match=words):
        distributed._take_device(Place(2, 4, 2), device)


def test_each_process_takes_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    distributed._take_device(Place(3, 4, 1), "cuda")
    distributed._take_device(Place(3, 4, 1), "cpu")
    assert taken == [1]


def sent(group: Group, value: Any) -> Any:
    return group.from_first(value if group.rank == 0 else None)


@functools.cache
def something() -> dict[str, Any]:
    return {"none": None, "number": 0.1, "text": "é", "values": [1, True, {"tensor": torch.arange(5.0) / 3}]}


def test_what_the_first_process_sends_arrives_as_it_was() -> None:
    for received in together(2, sent, something()):
        assert str(received) == str(something())
        tensor: Tensor = received["values"][2]["tensor"]
        assert torch.equal(tensor, torch.arange(5.0) / 3)
    assert sent(ALONE, "here") == "here"
