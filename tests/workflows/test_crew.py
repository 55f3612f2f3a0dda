"""Worker processes: the same runs as here, and what becomes of them when something ends in the middle."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from bvae_cli import runs
from bvae_cli.config import TrainConfig
from bvae_cli.errors import BvaeError, ExitCode, InterruptedRunError, UsageError
from bvae_cli.workflows import crew as crew_module
from bvae_cli.workflows.building import load_splits
from bvae_cli.workflows.crew import Crew
from bvae_cli.workflows.fit import EpochStats
from bvae_cli.workflows.observing import TrainResult
from bvae_cli.workflows.parts import runs_of
from bvae_cli.workflows.planning import Plan, SharedData
from bvae_cli.workflows.train import train
from bvae_cli.workflows.train_many import ManyObserver, seeded, train_many
from bvae_cli.workflows.ways import Way

from .conftest import config_for

SAME_BYTES = (runs.WEIGHTS, runs.LOSS_RECORD, runs.CONFIG)
# Each is trained alone, so that it has the bytes of its solitary run.
SEEDS, TWO_WORKERS = 3, {"workers": 2, "models_at_once": 1, "threads": 2}


@pytest.fixture(autouse=True)
def processes(monkeypatch: pytest.MonkeyPatch) -> list[crew_module._Process]:
    """Return the processes that a test starts; none is left when it is over."""
    started: list[crew_module._Process] = []
    original = crew_module._Process.__init__

    def noting(self: crew_module._Process, *arguments: object) -> None:
        started.append(self)
        original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(crew_module._Process, "__init__", noting)
    return started


class Listening(ManyObserver):
    """Remembers what it is told, and does something when a run has done so many epochs."""

    def __init__(self, after: int = 0) -> None:
        self.after = after
        self.plans: dict[int, tuple[Path, int]] = {}
        self.epochs: dict[int, list[int]] = {}
        self.ended: dict[int, TrainResult] = {}
        self.way: Way | None = None

    def on_way(self, way: Way) -> None:
        self.way = way

    def on_plan(self, index: int, plan: Plan, resumed_epoch: int) -> None:
        self.plans[index] = plan.folder, resumed_epoch

    def on_epoch(self, stats: dict[int, EpochStats]) -> None:
        for index, one in stats.items():
            self.epochs.setdefault(index, []).append(one.epoch)
            if one.epoch == self.after:
                self.act()

    def on_result(self, index: int, result: TrainResult) -> None:
        self.ended[index] = result

    def act(self) -> None:
        raise KeyboardInterrupt


def require_bytes_of_solitary_runs(results: list[TrainResult], config: TrainConfig, folder: Path) -> None:
    solitary = config.model_copy(update={"output_dir": folder / "alone"})
    for one, of_one in zip(results, seeded(solitary, SEEDS), strict=True):
        other = train(of_one)
        assert one.folder.name == other.folder.name
        for name in SAME_BYTES:
            assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes()


def test_workers_make_the_runs_that_each_would_be_alone_and_tell_of_every_epoch(
    tmp_path: Path, processes: list[crew_module._Process]
) -> None:
    listening, config = Listening(), config_for(tmp_path, **TWO_WORKERS)
    results = train_many(config, SEEDS, listening)
    assert len(processes) == 2
    assert all(process.popen.returncode == 0 for process in processes)
    assert listening.way is not None
    assert (listening.way.workers, listening.way.threads, listening.way.models) == (2, 1, 1)
    assert listening.epochs == {index: [1, 2, 3, 4] for index in range(SEEDS)}
    assert [listening.ended[index] for index in range(SEEDS)] == results
    assert [listening.plans[index] for index in range(SEEDS)] == [(result.folder, 0) for result in results]
    assert not list(tmp_path.rglob(".lock"))
    assert all("trained by itself, threads 1" in (result.folder / runs.LOG).read_text() for result in results)
    require_bytes_of_solitary_runs(results, config, tmp_path)


@pytest.mark.slow
def test_an_interruption_saves_every_state_leaves_no_process_and_the_same_command_goes_on(
    tmp_path: Path, processes: list[crew_module._Process]
) -> None:
    config = config_for(tmp_path, epochs=40, patience=40, **TWO_WORKERS)
    with pytest.raises(InterruptedRunError, match="under way; ") as caught:
        train_many(config, SEEDS, Listening(after=2))
    assert caught.value.exit_code == ExitCode.INTERRUPTED
    assert [process.popen.returncode for process in processes] == [0, 0]
    assert not list(tmp_path.rglob(".lock"))
    again = Listening()
    results = train_many(config, SEEDS, again)
    assert max(resumed for _, resumed in again.plans.values()) >= 2
    require_bytes_of_solitary_runs(results, config, tmp_path)


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_command_with_a_sentence_and_the_same_command_goes_on(
    tmp_path: Path, processes: list[crew_module._Process]
) -> None:
    class Killing(Listening):
        def act(self) -> None:
            processes[0].popen.send_signal(signal.SIGKILL)

    config = config_for(tmp_path, epochs=40, patience=40, **TWO_WORKERS)
    killing = Killing(after=2)
    with pytest.raises(BvaeError, match=r"Worker process \d+ was killed by signal 9 while it trained 1 run\.") as caught:
        train_many(config, SEEDS, killing)
    assert caught.value.exit_code == ExitCode.FAILED
    assert caught.value.hint is not None
    assert "The same command goes on" in caught.value.hint
    assert [process.popen.returncode for process in processes] == [-signal.SIGKILL, 0]
    results = train_many(config, SEEDS)
    require_bytes_of_solitary_runs(results, config, tmp_path)


@pytest.mark.slow
def test_what_a_worker_refuses_is_refused_with_its_words(tmp_path: Path, processes: list[crew_module._Process]) -> None:
    # The lock is taken between the parent's look at the run and the worker's.
    class Taking(Listening):
        def on_way(self, way: Way) -> None:
            path = config.output_dir / prepared.name / ".lock"
            path.parent.mkdir(parents=True)
            path.write_text(f'{{"pid": {os.getpid()}, "host": "{os.uname().nodename}", "digest": "{prepared.plan.digest}"}}')

    config = config_for(tmp_path, **TWO_WORKERS)
    prepared = runs_of([config], SharedData(load_splits(config.dataset)))[0].prepared
    with pytest.raises(UsageError, match=f"is in use by process {os.getpid()}"):
        train_many(config, SEEDS, Taking())
    assert [process.popen.returncode for process in processes] == [0, 0]


@pytest.mark.slow
def test_workers_are_measured_at_the_same_time_and_those_that_are_let_go_end(
    tmp_path: Path, processes: list[crew_module._Process]
) -> None:
    config = config_for(tmp_path)
    (run,) = runs_of([config], SharedData(load_splits(config.dataset)))
    with Crew(2) as crew:
        assert crew.images_per_second(run, 2, 1, 3, 0.05) > 0
        crew.keep(1)
        assert processes[1].popen.returncode == 0
        assert crew.images_per_second(run, 1, 1, 1, 0.05) > 0
        assert processes[0].popen.returncode is None
    assert processes[0].popen.returncode == 0
    assert not (tmp_path / "weights").exists()
