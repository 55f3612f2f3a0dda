"""What a person hears while runs of a comparison are trained together: lines, and the time that is left."""

from __future__ import annotations

import io
from typing import Any

import pytest

from bvae_cli.cli import comparison
from bvae_cli.cli.comparison import compare_observer
from bvae_cli.workflows.compare import RunStart
from bvae_cli.workflows.fit import EpochStats
from bvae_cli.workflows.ways import Way

from .test_progress import Screen

TOTAL = 4


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still until its one entry is changed."""
    now = [100.0]
    monkeypatch.setattr(comparison.time, "monotonic", lambda: now[0])
    return now


def run(number: int) -> RunStart:
    nothing: Any = None
    return RunStart("uncoded", number, "verdict", number, TOTAL, nothing)


def epoch(number: int, loss: float = 90.0) -> EpochStats:
    values: dict[str, Any] = dict.fromkeys(EpochStats.__dataclass_fields__, 0.0)
    return EpochStats(**{**values, "epoch": number, "validation_loss": loss})


def test_the_time_left_counts_that_runs_are_trained_together(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    with compare_observer(quiet=False, verbose=False) as told:
        told.on_run(run(1))
        told.on_run(run(2))
        for number in range(1, 6):
            clock[0] += 2  # seconds for an epoch of both
            told.on_epoch(run(1), epoch(number))
            told.on_epoch(run(2), epoch(number))
        told.on_run_done(run(1), 90.0, trained=True)
        clock[0] += 2
        told.on_epoch(run(2), epoch(6))
        told.on_run_done(run(2), 89.0, trained=True)
        told.on_run(run(3))
        told.on_run_done(run(3), 88.0, trained=False)
        told.on_run(run(4))
        told.on_run_done(run(4), None, trained=True)
    first, second, third, last = stream.getvalue().splitlines()
    # Ten epochs took ten seconds; two runs of five epochs, as the first had, are left beside the one that is as far.
    assert first == "[1/4] uncoded, seed 1, verdict: trained in 10 s, val_loss 90.00; 3 runs left, about 10 s"
    # Eleven epochs took twelve seconds; two runs of 5.5 epochs are left.
    assert second == "[2/4] uncoded, seed 2, verdict: trained in 12 s, val_loss 89.00; 2 runs left, about 12 s"
    assert third == "[3/4] uncoded, seed 3, verdict: there already, val_loss 88.00; 1 run left, about 6 s"
    assert last == "[4/4] uncoded, seed 4, verdict: trained in 0 s, diverged; no run is left"


def test_a_watched_terminal_shows_all_runs_under_way_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", Screen())
    shown: list[str] = []
    with compare_observer(quiet=False, verbose=False) as told:
        assert told._status is not None
        monkeypatch.setattr(told._status, "update", lambda text: shown.append(text.plain))
        told.on_run(run(1))
        told.on_epoch(run(1), epoch(1, 95.0))
        told.on_run(run(2))
        told.on_epoch(run(2), epoch(3, 92.5))
    assert shown == [
        "[1/4] uncoded, seed 1, verdict: epoch 1, val_loss 95.00",
        "2 runs in training, up to epoch 3: val_loss 92.50 … 95.00",
    ]


@pytest.mark.parametrize("verbose", [True, False])
def test_the_way_is_said_where_more_is_to_be_said(monkeypatch: pytest.MonkeyPatch, verbose: bool) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    with compare_observer(quiet=False, verbose=verbose) as told:
        told.on_way(Way(2, 1, 10, "asked for"))
    assert stream.getvalue() == ("way     2 workers × 1 thread × 10 models: asked for\n" if verbose else "")
