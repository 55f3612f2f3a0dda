"""What only a process of its own can show: signals, limits of the system, and the same bytes from another process."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bvae_cli import runs

from ..helpers import saved_fit, uncounted
from ..outcome import Bvae
from .conftest import TINY

SAME_BYTES = (runs.WEIGHTS, runs.LOSS_RECORD, runs.CONFIG)
BVAE = (sys.executable, "-m", "bvae_cli")


def words(*arguments: object) -> list[str]:
    return [*BVAE, *(str(argument) for argument in arguments)]


def halves(folder: Path) -> list[str]:
    """Return what a write that was broken off may have left."""
    return [path.name for path in folder.rglob("*") if ".tmp" in path.name]


def test_another_process_makes_the_same_bytes(bvae: Bvae, workplace: Path) -> None:
    line = ("train", *TINY, "--R", 3, "--epochs", 3, "--json", "-q")
    here = Path(bvae(*line, "--output-dir", "here").succeeded().json()["folder"])
    done = subprocess.run(words(*line, "--output-dir", "there"), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    there = Path(json.loads(done.stdout)["folder"])
    assert {name: (here / name).read_bytes() for name in SAME_BYTES} == {
        name: (there / name).read_bytes() for name in SAME_BYTES
    }
    other = Path(bvae(*line, "--output-dir", "here", "--seed", 1).succeeded().json()["folder"])
    assert (other / runs.WEIGHTS).read_bytes() != (here / runs.WEIGHTS).read_bytes()
    assert (other / runs.LOSS_RECORD).read_bytes() != (here / runs.LOSS_RECORD).read_bytes()


def stopped_by(number: signal.Signals, line: list[str], epoch: int) -> tuple[int, str]:
    """Run a command until it has done so many epochs, send it a signal, and return its exit code and what it said."""
    # A shell lets what it starts in the background ignore Ctrl-C, and that is handed down to here.
    with subprocess.Popen(
        line,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        said = ""
        assert process.stderr is not None
        for text in process.stderr:
            said += text
            if text.startswith(f"epoch {epoch}/"):
                break
        process.send_signal(number)
        try:
            out, rest = process.communicate(timeout=60)
        finally:
            process.kill()
    assert out == ""
    return process.returncode, said + rest


@pytest.mark.slow
def test_a_process_that_is_stopped_saves_its_state_and_the_same_command_goes_on(workplace: Path) -> None:
    line = words("train", *TINY, "--epochs", 1_000_000, "--patience", 1_000_000)

    code, said = stopped_by(signal.SIGTERM, line, 3)
    assert code == 143
    assert "Error: Terminated after epoch" in said
    (folder,) = Path("weights").iterdir()
    assert f"Hint: To go on: bvae resume weights/{folder.name}, or the same command again." in said
    assert "Traceback" not in said
    first = int(re.split("[;,]", said.split("Terminated after epoch ")[1])[0])
    assert first >= 3
    run = runs.Run(folder)
    state = saved_fit(folder)
    assert state["epoch"] == first
    assert run.weights.exists()
    assert not (folder / ".lock").exists()

    code, said = stopped_by(signal.SIGINT, line, first + 2)
    assert code == 130
    assert f"going on after epoch {first}" in said
    assert "Error: Interrupted after epoch" in said
    assert "Traceback" not in said
    second = int(re.split("[;,]", said.split("Interrupted after epoch ")[1])[0])
    state = saved_fit(folder)
    assert state["epoch"] == second >= first + 2
    epochs = [json.loads(text)["epoch"] for text in (folder / runs.METRICS).read_text().splitlines()]
    assert epochs[:second] == list(range(1, second + 1))
    assert np.loadtxt(folder / runs.LOSS_RECORD).shape[1] == 6
    assert halves(folder) == []


def children_of(process: subprocess.Popen[str]) -> list[int]:
    return [int(text) for text in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    """Say whether a process has ended; where nobody asks after an orphan, it is left as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_workers_end_with_their_parent_with_every_state_saved(workplace: Path, number: signal.Signals, code: int) -> None:
    line = words("train", *TINY, "--epochs", 100_000, "--patience", 100_000, "--seeds", 4, "--workers", 2)
    with subprocess.Popen(
        line,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        for text in process.stderr:
            if text.startswith("epoch 3/") and "2 of 4 in training" in text:
                break
        workers = children_of(process)
        process.send_signal(number)
        out, said = process.communicate(timeout=60)
    assert len(workers) == 2
    assert (process.returncode, out) == (code, "")
    if number != signal.SIGKILL:
        assert "with 4 runs under way; the state of each is in its folder in weights." in said
        assert "Traceback" not in said
    deadline = time.monotonic() + 60
    while not all(map(gone, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert all(map(gone, workers))
    folders = list(Path("weights").iterdir())
    assert len(folders) == 4
    states = [saved_fit(folder) for folder in folders]
    assert max(state["epoch"] for state in states) >= 3
    assert not list(Path("weights").rglob(".lock"))


# Sends the process a signal when a module is about to be imported.
_STOPPED_AT = """
import os, signal, sys
module, number, *line = sys.argv[1:]
class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), int(number))
sys.meta_path.insert(0, Stop())
from bvae_cli.cli import main
main(line)
"""


@pytest.mark.parametrize(
    ("number", "code", "word"), [(15, 143, "Terminated"), (1, 143, "Terminated"), (2, 130, "Interrupted")]
)
@pytest.mark.parametrize("module", ["bvae_cli.cli.app", "pydantic", "torch", "torch.nn", "numpy.linalg"])
def test_a_command_that_is_stopped_while_it_still_loads_says_so(
    workplace: Path, module: str, number: int, code: int, word: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _STOPPED_AT, module, str(number), "train", *map(str, TINY), "-q"],
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    assert (done.returncode, done.stderr, done.stdout) == (code, f"Error: {word}.\n", "")


def test_a_command_that_ignores_interruptions_goes_on_doing_so(workplace: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _STOPPED_AT, "torch", "2", "train", *map(str, TINY), "-q"],
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert done.returncode == 0, done.stderr


def test_a_file_that_grows_too_large_is_an_output_error_and_leaves_no_half(workplace: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    done = subprocess.run(
        words("train", *TINY, "--hidden", 64),
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=limit,
        env=uncounted(),
    )
    assert done.returncode == 3, done.stderr
    sentence, hint = done.stderr.splitlines()[-2:]
    assert sentence.startswith("Error: Cannot write to weights/")
    assert "file too large" in sentence
    assert hint.startswith("Hint: ")
    assert "Traceback" not in done.stderr
    (folder,) = Path("weights").iterdir()
    assert not (folder / runs.WEIGHTS).exists()
    assert not (folder / runs.STATE).exists()
    assert halves(folder) == []
    assert runs.Run(folder).state() == "unfinished"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or not sys.platform.startswith("linux"):
        pytest.skip("needs mount, of Linux")
    made = subprocess.run([mount, "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"a tmpfs may not be mounted here: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_full_is_an_output_error_and_what_was_saved_is_intact(
    bvae: Bvae, workplace: Path, small_disk: Path
) -> None:
    # One copy of the weights takes some 60 KiB: the best ones find room, the state to resume from does not.
    line = ("train", *TINY, "--hidden", 250, "--depth", 1, "--checkpoint-every", "4steps")
    bvae(*line, "--output-dir", small_disk).refused(3, "Cannot write to", str(small_disk), "no space left", "intact")
    (folder,) = [path for path in small_disk.iterdir() if path.is_dir()]
    assert bvae("evaluate", folder, "--iwae-samples", 1, "-q").code == 0
    assert not (folder / runs.STATE).exists()
    assert halves(small_disk) == []
    assert not (folder / ".lock").exists()

    left = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(b"x" * left.f_bavail * left.f_frsize)
    bvae("sample", "-w", folder, "--iwae-samples", 1).refused(3, "Cannot write to", "no space left")
    bvae("plot", folder).refused(3, "Cannot write to", "no space left")
    assert halves(small_disk) == []
    assert not (folder / "loss_curves.png").exists()

    (small_disk / "filler").unlink()
    bvae(*line, "--output-dir", "elsewhere").succeeded()


def test_a_terminal_that_knows_only_ascii_shows_question_marks_and_no_failure(workplace: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    shown = subprocess.run(
        words("check-ecc", "-n", 5, "--ecc", "repetition"), cwd=workplace, env=environment, capture_output=True, text=True
    )
    assert shown.returncode == 0
    assert "flips with probability ?" in shown.stdout
    refused = subprocess.run(words("train", "-n", 9), cwd=workplace, env=environment, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "Error: --params must be at most 7" in refused.stderr
