"""The harness sees what goes ill, and the commands give it nothing to see."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from .broken import BROKEN
from .commands import Command as Line
from .commands import Reference, differences, halves, snapshot
from .shim import Event, Kind
from .soak import Sample, verdict_of
from .table import Row, table_of
from .trials import Outcome, forked, row_of, sampled, spread

ROOT = Path(__file__).parents[2]
GOOD = Row("kill", tried=3, lost=0, tracebacks=0, hangs=0, identical=3, peak=100.0)


def harness(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a module of the harness in a process of its own: one that is forked has no threads but one."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )


# --- the whole


@pytest.mark.slow
def test_a_part_of_the_short_form_prints_the_table_and_the_verdict() -> None:
    done = harness("tests.faults", "--short", "--only", "damage", "--seed", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "damaged state: train      6     0           0      0      0        6/6" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("nothing lost; ")


@pytest.mark.slow
def test_older_copies_of_files_change_nothing() -> None:
    done = harness("tests.faults", "--short", "--only", "copies", "--seed", "5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "older copies: train      6     0           0      0      0        6/6" in done.stdout


@pytest.mark.slow
def test_a_broken_build_makes_the_command_fail() -> None:
    done = harness("tests.faults", "--short", "--broken", "digest-not-checked")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 of 1 rows went ill" in done.stdout


@pytest.fixture(scope="module")
def few_trials() -> dict[str, dict[str, Any]]:
    """The rows of a few trials of the build as it is and of each that is broken on purpose, by name."""
    done = harness("tests.faults.broken", "--json")
    assert done.stdout, done.stderr
    rows: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_a_build_that_is_broken_on_purpose_is_caught(few_trials: dict[str, dict[str, Any]], name: str) -> None:
    assert few_trials[name]["failed"], few_trials[name]
    # For what is broken, not because the broken part itself is out of date.
    assert not any("bvae failed" in detail for detail in few_trials[name]["details"])


@pytest.mark.slow
@pytest.mark.parametrize("part", ["kills", "calls", "power", "damage", "copies", "signals"])
def test_the_same_trials_of_the_build_as_it_is_find_nothing(few_trials: dict[str, dict[str, Any]], part: str) -> None:
    assert not few_trials[part]["failed"], few_trials[part]


# --- rows


def test_a_row_fails_for_each_thing_that_went_ill_and_where_nothing_was_tried() -> None:
    assert not GOOD.failed
    ill = {"lost": 1, "tracebacks": 1, "hangs": 1, "wrong": 1, "identical": 2, "tried": 0, "peak": 1024.0}
    assert all(replace(GOOD, **{name: value}).failed for name, value in ill.items())
    assert not replace(GOOD, identical=None).failed


def test_the_table_has_a_line_for_each_row_and_tells_of_failures_below() -> None:
    bad = Row("cut", 2, 1, 0, 0, 1, 50.0, "of 9", details=tuple(f"trial {number}" for number in range(7)))
    head, rule, first, second, *details = table_of([GOOD, bad]).splitlines()
    assert head.split()[:4] == ["what", "was", "tried", "tried"]
    assert set(rule) == {"-", " "}
    assert first.split() == ["kill", "3", "0", "0", "0", "0", "3/3", "100"]
    assert second.split() == ["cut", "2", "1", "0", "0", "0", "1/2", "50", "of", "9"]
    assert details == [*(f"! cut: trial {number}" for number in range(5)), "! cut: and 2 more"]


def test_outcomes_are_counted() -> None:
    outcomes = [Outcome("good", identical=True, peak=3.0), Outcome("bad", lost=True, hung=True, problems=["gone"])]
    row = row_of("kill", outcomes)
    assert (row.tried, row.lost, row.hangs, row.identical, row.peak, row.details) == (2, 1, 1, 1, 3.0, ("bad: gone",))


# --- trials


def test_a_child_hands_back_its_exit_code_its_words_and_a_value() -> None:
    def work() -> tuple[int, list[int]]:
        os.write(1, b"out")
        os.write(2, b"err")
        return 3, [1, 2]

    ended = forked(work)
    assert (ended.code, ended.out, ended.err, ended.value, ended.hung) == (3, "out", "err", [1, 2], False)
    assert ended.peak > 1


def test_a_child_that_hangs_is_ended() -> None:
    ended = forked(lambda: time.sleep(60) or (0, None), seconds=0.2)
    assert ended.hung
    assert ended.code == -9


def test_a_traceback_is_seen() -> None:
    ended = forked(lambda: (1 // 0, None))
    assert ended.traced
    assert ended.code not in (0, 1, 2, 3)


def test_trials_side_by_side_are_each_tried_once() -> None:
    tried = spread(range(7), lambda number: Outcome(str(number)), jobs=2, until=time.monotonic() + 60)
    assert sorted(one.what for one in tried) == list("0123456")
    assert spread(range(7), lambda number: Outcome(str(number)), jobs=2, until=0.0) == []


def test_a_sample_is_even_and_has_both_ends() -> None:
    assert sampled(range(101), 5) == [0, 25, 50, 75, 100]
    assert sampled(range(3), 5) == [0, 1, 2]
    assert sampled(range(3), 1) == [0]


# --- what is compared


def test_times_do_not_count_and_everything_else_does(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "seconds": 0.5}\n')
    (tmp_path / "training_log.txt").write_text("12:00 begun\n")
    before = snapshot(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "seconds": 0.7}\n')
    (tmp_path / "training_log.txt").write_text("12:01 begun\n")
    assert differences(before, snapshot(tmp_path)) == []
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 2, "seconds": 0.7}\n')
    (tmp_path / "training_log.txt").unlink()
    (tmp_path / ".leftover.tmp").touch()
    assert differences(before, snapshot(tmp_path)) == [
        "training_log.txt is missing",
        "metrics.jsonl is different",
        ".leftover.tmp is left over",
    ]


def test_half_a_file_under_a_final_name_is_seen(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"a": 1')
    (tmp_path / "result.json").write_text('{"a": 1}')
    (tmp_path / "last.pt").write_bytes(b"bvae state 1 00 5\nshort")
    (tmp_path / ".config.json.tmp").write_text("{")
    assert halves(tmp_path) == ["config.json", "last.pt"]


def test_a_state_counts_as_saved_when_the_disk_must_have_it() -> None:
    def event(number: int, kind: Kind, path: str, target: str | None = None) -> Event:
        return Event(number, kind, path, target)

    log = [
        event(0, Kind.RENAME, "run/.tmp", "run/last.pt"),
        event(1, Kind.FSYNC_FOLDER, "run"),
        event(2, Kind.RENAME, "run/.tmp", "run/last.pt"),
        event(3, Kind.WRITE, "run/log"),
        event(4, Kind.RENAME, "run/.tmp", "run/result.json"),
    ]
    reference = Reference(Line("train", ()), {}, log, [1, 1, 2, 3, 3], steps=9)
    assert [reference.kept_steps(events) for events in range(6)] == [0, 1, 1, 2, 2, 9]
    assert [reference.kept_steps(events, power=True) for events in range(6)] == [0, 0, 1, 1, 2, 9]


# --- the soak


def test_a_soak_that_is_flat_is_flat_and_one_that_grows_is_not() -> None:
    flat = [Sample(100 + number % 2, 10, 1) for number in range(12)]
    assert verdict_of(flat)[0]
    assert not verdict_of([Sample(100 + 2 * number, 10, 1) for number in range(12)])[0]
    assert not verdict_of([Sample(100, 10 + number, 1) for number in range(12)])[0]
    assert not verdict_of([Sample(100, 10, 1 + number // 6) for number in range(12)])[0]
