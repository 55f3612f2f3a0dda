"""The way in which runs are trained: what is asked for, what is measured, and what is taken of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bvae_cli import devices
from bvae_cli.errors import BvaeError
from bvae_cli.workflows import ways
from bvae_cli.workflows.building import load_splits
from bvae_cli.workflows.parts import ManyRun, runs_of
from bvae_cli.workflows.planning import SharedData
from bvae_cli.workflows.train_many import seeded
from bvae_cli.workflows.trials import Trial
from bvae_cli.workflows.ways import Way, at_once, chosen

from .conftest import config_for

RUNS = 20


def several(folder: Path, count: int = RUNS, **options: Any) -> list[ManyRun]:
    config = config_for(folder, **options)
    return runs_of(seeded(config, count), SharedData(load_splits(config.dataset)))


def way_for(several_runs: list[ManyRun]) -> Way:
    with chosen(several_runs) as choice:
        return choice.way


class Pretended:
    """Stands for the clock and the processes: images/s by threads and models here, by workers, threads and models there."""

    def __init__(self, here: dict[tuple[int, int], float], there: dict[tuple[int, int, int], float]) -> None:
        self.here, self.there = here, there
        self.started: list[int] = []
        self.closed = self.kept = 0
        self.fails = False


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch, four_threads: None) -> Pretended:
    """A machine of four threads on which every work is long and one after another makes 100 images/s."""
    machine = Pretended({(4, 1): 100.0}, {})

    class PretendedTrial:
        def __init__(self, run: ManyRun, models: int) -> None:
            self.models = models

        def images_per_second(self, seconds: float) -> float:
            return machine.here.get((torch.get_num_threads(), self.models), 50.0)

    class PretendedCrew:
        def __init__(self, size: int) -> None:
            if machine.fails:
                raise BvaeError("A worker process cannot be started.")
            machine.started.append(size)

        def __enter__(self) -> PretendedCrew:
            return self

        def __exit__(self, *error: object) -> None:
            machine.closed += 1

        def close(self) -> None:
            machine.closed += 1

        def keep(self, size: int) -> None:
            machine.kept = size

        def images_per_second(self, run: ManyRun, workers: int, threads: int, models: int, seconds: float) -> float:
            return machine.there.get((workers, threads, models), 50.0)

    monkeypatch.setattr(ways, "Trial", PretendedTrial)
    monkeypatch.setattr(ways, "Crew", PretendedCrew)
    monkeypatch.setattr(ways, "_WORTH_A_MEASUREMENT", 0.0)
    monkeypatch.setattr(ways, "_WORTH_WORKERS", 0.0)
    monkeypatch.setattr(ways, "_LONGEST_EPOCH_OF_A_TRIAL", 1e9)
    return machine


def test_workers_are_taken_where_they_are_fastest_and_the_reason_says_by_how_much(
    tmp_path: Path, pretended: Pretended
) -> None:
    pretended.here |= {(4, 10): 130.0, (1, 5): 60.0}
    pretended.there = {(4, 1, 5): 160.0, (2, 2, 5): 140.0}
    way = way_for(several(tmp_path))
    assert (way.workers, way.threads, way.models) == (4, 1, 5)
    assert str(way) == "4 workers × 1 thread × 5 models: 1.6 × the images/s of one after another (measured)"
    assert way.images_per_second["1 worker × 4 threads × 10 models"] == 130.0
    assert pretended.kept == 4


def test_of_fewer_workers_with_more_threads_the_faster_is_taken(tmp_path: Path, pretended: Pretended) -> None:
    pretended.there = {(4, 1, 5): 120.0, (2, 2, 5): 140.0}
    pretended.here |= {(1, 5): 60.0}
    way = way_for(several(tmp_path))
    assert (way.workers, way.threads, way.models) == (2, 2, 5)
    assert pretended.kept == 2


def test_one_process_is_taken_where_workers_are_hardly_faster(tmp_path: Path, pretended: Pretended) -> None:
    pretended.here |= {(4, 10): 130.0}
    pretended.there = {(4, 1, 5): 133.0}
    way = way_for(several(tmp_path))
    assert (way.workers, way.threads, way.models) == (1, 4, 10)
    assert "1.3 × the images/s" in way.reason
    assert pretended.closed >= 1


def test_one_after_another_stays_where_nothing_is_clearly_better(tmp_path: Path, pretended: Pretended) -> None:
    pretended.here |= {(4, 10): 103.0, (1, 1): 104.0}
    assert way_for(several(tmp_path)) == dataclasses.replace(
        way_for(several(tmp_path)),
        workers=1,
        threads=4,
        models=1,
        reason="1.0 × the images/s of one after another (measured)",
    )


def test_a_single_thread_is_taken_where_more_are_slower(tmp_path: Path, pretended: Pretended) -> None:
    pretended.here |= {(1, 5): 150.0}
    way = way_for(several(tmp_path, workers=1))
    assert (way.workers, way.threads, way.models) == (1, 1, 5)
    assert pretended.started == []


def test_a_machine_that_cannot_start_workers_does_without(tmp_path: Path, pretended: Pretended) -> None:
    pretended.here |= {(4, 10): 130.0}
    pretended.fails = True
    assert way_for(several(tmp_path)).workers == 1


def test_workers_that_die_while_they_are_measured_are_done_without(
    tmp_path: Path, pretended: Pretended, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*of: object) -> float:
        raise BvaeError("Worker process 1 was killed by signal 9.")

    monkeypatch.setattr(ways.Crew, "images_per_second", die)
    with chosen(several(tmp_path)) as choice:
        assert choice.way.workers == 1
        assert choice.crew is None
    assert pretended.closed >= 1


def test_work_that_is_soon_done_starts_no_workers(
    tmp_path: Path, pretended: Pretended, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = sum(ways._least_images(run) for run in several(tmp_path))
    pretended.there = {(4, 1, 1): 1000.0}
    monkeypatch.setattr(ways, "_WORTH_WORKERS", images / 100 + 1)
    assert way_for(several(tmp_path)).workers == 1
    monkeypatch.setattr(ways, "_WORTH_WORKERS", images / 100 - 1)
    assert way_for(several(tmp_path)).workers == 4


def test_work_shorter_than_the_measurement_is_worth_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(run: ManyRun, models: int) -> Trial:
        raise AssertionError("nothing is to be measured")

    monkeypatch.setattr(ways, "Trial", refuse)
    way = way_for(several(tmp_path))
    assert (way.workers, way.models, way.images_per_second) == (1, RUNS, {})
    assert "too little for a measurement" in way.reason


def test_what_is_asked_for_is_taken(tmp_path: Path, four_threads: None) -> None:
    asked = way_for(several(tmp_path, workers=2))
    assert (asked.workers, asked.threads, asked.models, asked.reason) == (2, 2, 10, "asked for")
    asked = way_for(several(tmp_path, workers=3, models_at_once=4))
    assert (asked.workers, asked.threads, asked.models) == (3, 1, 4)
    asked = way_for(several(tmp_path, count=2, workers=7))
    assert (asked.workers, asked.threads, asked.models) == (2, 2, 1)
    asked = way_for(several(tmp_path, workers=1, models_at_once=3))
    assert (asked.workers, asked.threads, asked.models) == (1, 4, 3)


def test_a_single_run_needs_no_choice(tmp_path: Path, four_threads: None) -> None:
    way = way_for(several(tmp_path, count=1, workers=4))
    assert (way.workers, way.threads, way.models) == (1, 4, 1)


def test_on_a_gpu_all_runs_are_one_model_in_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_cpu = several(tmp_path, workers=4)
    on_gpu = [
        dataclasses.replace(
            run,
            prepared=dataclasses.replace(run.prepared, plan=dataclasses.replace(run.prepared.plan, device="cuda")),
        )
        for run in on_cpu
    ]
    size = on_cpu[0].prepared.plan.memory_bytes
    monkeypatch.setattr(devices, "memory_bytes", lambda device: 1000 * size)
    way = way_for(on_gpu)
    assert (way.workers, way.models) == (1, RUNS)
    monkeypatch.setattr(devices, "memory_bytes", lambda device: 16 * size)
    assert way_for(on_gpu).models == 8


def test_workers_share_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = dataclasses.replace(several(tmp_path, count=1)[0].prepared.plan, memory_bytes=10**9)
    monkeypatch.setattr(devices, "memory_bytes", lambda device: 20 * 10**9)
    assert at_once(plan) == 10
    assert at_once(plan, workers=2) == 4  # of 5 · 10⁹ bytes the process itself takes a part
    assert at_once(plan, workers=20) == 1
    assert at_once(dataclasses.replace(plan, precision="float16")) == 1


def test_the_number_of_threads_is_as_before_when_the_choice_is_over(tmp_path: Path, pretended: Pretended) -> None:
    pretended.here |= {(1, 5): 150.0}
    with chosen(several(tmp_path, workers=1)) as choice:
        assert choice.way.threads == 1
        torch.set_num_threads(1)
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize("models", [1, 3])
def test_a_trial_measures_and_leaves_nothing_behind(tmp_path: Path, models: int) -> None:
    run = several(tmp_path, count=1, epochs=1, patience=1)[0]
    assert Trial(run, models).images_per_second(0.01) > 0
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize("models", [1, 2])
def test_a_trial_that_diverges_has_no_speed(tmp_path: Path, models: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bvae_cli.workflows.fit.validation_loss", lambda *of: float("nan"))
    monkeypatch.setattr("bvae_cli.workflows.fit_many.validation_losses", lambda *of: [float("nan")] * models)
    assert Trial(several(tmp_path, count=1)[0], models).images_per_second(0.01) == 0
