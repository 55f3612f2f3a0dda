"""The boundary: every end of a command has its code, a sentence and a hint, and a traceback only for who asks."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bvae_cli
from bvae_cli.cli import app, check_ecc
from bvae_cli.errors import BvaeError, TerminatedError

from ..outcome import Bvae
from .conftest import TINY

COMMANDS = ("train", "resume", "sample", "evaluate", "runs", "plot", "check-ecc", "codes", "datasets", "devices", "config")


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> tuple[str, ...]:
    """Let a command fail in this way; return its arguments."""

    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(check_ecc, "_table", fail)
    return ("check-ecc",)


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_every_command_with_its_sentence(bvae: Bvae, flag: str) -> None:
    shown = bvae(flag).succeeded().out
    for command in COMMANDS:
        assert f"\n  {command} " in shown


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help(bvae: Bvae, command: str, flag: str) -> None:
    outcome = bvae(command, flag).succeeded()
    assert outcome.out.startswith(f"Usage: bvae {command}")
    assert outcome.err == ""


def test_the_version_is_on_stdout(bvae: Bvae) -> None:
    assert bvae("--version").succeeded().out == f"bvae {bvae_cli.__version__}\n"


def test_nothing_at_all_shows_the_help_and_is_a_mistake(bvae: Bvae) -> None:
    outcome = bvae()
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("Usage: bvae")
    assert "Error" not in outcome.err


def test_a_failure_nobody_thought_of_is_a_sentence(bvae: Bvae, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = bvae(*failing(monkeypatch, ZeroDivisionError("of\nsomething")))
    outcome.refused(1, "ZeroDivisionError: of something", "--verbose")


FULL = (
    MemoryError(),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 80 TB"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried 80 TB"),
    RuntimeError("CUDA out of memory."),
)


@pytest.mark.parametrize("error", FULL, ids=str)
def test_a_machine_without_memory_is_no_fault_of_the_program(
    bvae: Bvae, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    bvae(*failing(monkeypatch, error)).refused(1, "memory of this device does not suffice")


@pytest.mark.parametrize("command", [("train",), ("sample", "-w", "x.pt"), ("evaluate", "x.pt")])
def test_a_machine_without_memory_is_told_options_that_the_command_has(
    bvae: Bvae, monkeypatch: pytest.MonkeyPatch, workplace: Path, command: tuple[str, ...]
) -> None:
    def fail(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr("bvae_cli.devices.choose", fail)
    refused = bvae(*command).refused(1, "memory of this device does not suffice", "--")
    known = bvae(command[0], "--help").succeeded().out
    for option in re.findall(r"--[a-z-]+", refused.err.splitlines()[-1]):
        assert option in known


def test_an_error_has_its_own_code_sentence_and_hint(bvae: Bvae, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bvae(*failing(monkeypatch, BvaeError("It broke.", "Mend it."))).err == "Error: It broke.\nHint: Mend it.\n"


def test_an_error_without_a_hint_points_to_the_help(bvae: Bvae, monkeypatch: pytest.MonkeyPatch) -> None:
    bvae(*failing(monkeypatch, BvaeError("It broke."))).refused(1, "It broke.", "bvae check-ecc --help")


@pytest.mark.parametrize("error", [BvaeError("It broke."), ZeroDivisionError("It broke")])
def test_a_traceback_is_shown_to_whoever_asks_for_it(
    bvae: Bvae, monkeypatch: pytest.MonkeyPatch, error: Exception, workplace: Path
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr("bvae_cli.workflows.measuring.measure", fail)
    quiet = bvae("evaluate", "x.pt")
    for flag in ("--verbose", "-v"):
        loud = bvae("evaluate", "x.pt", flag)
        assert loud.code == quiet.code == 1
        assert "Traceback (most recent call last)" in loud.err
        assert "Error: " in loud.err.splitlines()[-2]
    assert "Traceback" not in quiet.err


@pytest.mark.parametrize(
    ("stop", "code", "word"), [(KeyboardInterrupt(), 130, "Interrupted"), (TerminatedError(), 143, "Terminated")]
)
def test_a_command_that_is_stopped_says_so(
    bvae: Bvae, monkeypatch: pytest.MonkeyPatch, stop: BaseException, code: int, word: str
) -> None:
    outcome = bvae(*failing(monkeypatch, stop))
    assert outcome.code == code
    assert outcome.err.startswith(f"Error: {word}.")
    assert "Traceback" not in outcome.err


def test_a_second_stop_while_the_first_is_told_leaves_no_traceback(bvae: Bvae, monkeypatch: pytest.MonkeyPatch) -> None:
    once, tell = itertools.count(), app._tell

    def interrupted(*words: Any) -> None:
        if next(once) == 0:
            raise KeyboardInterrupt
        tell(*words)

    monkeypatch.setattr(app, "_tell", interrupted)
    outcome = bvae(*failing(monkeypatch, BvaeError("It broke.")))
    assert (outcome.code, outcome.out, outcome.err) == (130, "", "Error: Interrupted.\n")


def test_an_unreadable_file_that_nobody_thought_of_is_an_input_error(bvae: Bvae, monkeypatch: pytest.MonkeyPatch) -> None:
    error = PermissionError(13, "Permission denied", "some/file")
    bvae(*failing(monkeypatch, error)).refused(3, "some/file", "permission denied")


def test_a_name_that_the_locale_cannot_write_is_an_input_error(bvae: Bvae, monkeypatch: pytest.MonkeyPatch) -> None:
    error = UnicodeEncodeError("ascii", "ü/run", 0, 1, "ordinal not in range(128)")
    bvae(*failing(monkeypatch, error)).refused(3, "(ascii)", "ü/run", "PYTHONUTF8=1")
    bvae(*failing(monkeypatch, UnicodeEncodeError("utf-8", "x", 0, 1, "?"))).refused(1, "UnicodeEncodeError", "--verbose")


def shell(line: str) -> subprocess.CompletedProcess[str]:
    bvae = f"{sys.executable} -m bvae_cli"
    return subprocess.run(["bash", "-c", line.replace("bvae ", f"{bvae} ")], capture_output=True, text=True, timeout=60)


def test_a_reader_that_goes_away_is_no_error() -> None:
    done = shell("bvae check-ecc --json | head -1; echo ${PIPESTATUS[0]}")
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


@pytest.mark.parametrize("line", ["codes", "runs runs", "datasets", "check-ecc", "--help", "train --help", "--version"])
def test_a_reader_that_never_looks_is_no_error(line: str, tmp_path: Path, run_folder: Path) -> None:
    shutil.copytree(run_folder, tmp_path / "runs" / "run")
    # The reader has gone before the first word is written, so this does not depend on who is quicker.
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "bvae_cli", *line.split()], stdout=write, stderr=subprocess.PIPE, cwd=tmp_path, timeout=60
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("line", ["codes", "check-ecc --json", "--help"])
def test_a_stream_that_the_caller_has_closed_is_no_error(closed: str, line: str) -> None:
    done = shell(f"bvae {line} {closed}")
    assert (done.returncode, done.stderr) == (0, "")


def test_talk_without_a_place_is_not_written_into_a_file_of_the_run(workplace: Path) -> None:
    line = " ".join(map(str, TINY))
    assert shell(f"bvae train {line} >&- 2>&-").returncode == 0
    (folder,) = Path("weights").iterdir()
    assert (folder / "loss_record_with.txt").read_text().startswith("# training_loss")
    assert b"bvae train" not in b"".join(path.read_bytes() for path in folder.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_output_that_cannot_be_written_is_an_output_error() -> None:
    done = shell("bvae check-ecc > /dev/full")
    assert done.returncode == 3
    assert done.stderr.startswith("Error: The output cannot be")
    assert "no space left" in done.stderr
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_talk_that_nobody_can_hear_does_not_stop_the_work() -> None:
    done = shell("bvae check-ecc -n 5 --R 3 --json 2> /dev/full")
    assert done.returncode == 0
    assert '"information_bits": 100' in done.stdout


def test_usage_speaks_of_bvae_however_it_was_started() -> None:
    done = shell("bvae codes --zzz")
    assert done.returncode == 2
    assert done.stderr == "Error: There is no option --zzz.\nHint: `bvae codes --help` lists what there is.\n"


def test_what_is_given_by_itself_is_no_option_and_the_hint_says_so(bvae: Bvae) -> None:
    for line, word in {
        ("search", "--query", "q.npy", "--in", "c.npy"): "QUERY is given by itself, as in `bvae search QUERY`.",
        ("search", "--qurey", "q.npy"): "QUERY is given by itself",
        ("decode", "--codes", "c.npy"): "CODES is given by itself, as in `bvae decode CODES`.",
        ("export", "--folder", "w"): "FOLDER|FILE is given by itself",
    }.items():
        bvae(*line).refused(2, f"There is no option {line[1]}.", word)
    bvae("train", "--folder", "w").refused(2, "An option of a data set")
    bvae("search", "--quit").refused(2, "Did you mean --quiet?")
