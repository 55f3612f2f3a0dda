"""``torchrun … bvae train`` as it is typed: real processes, real signals."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bvae_cli import runs
from bvae_cli.cli import company
from bvae_cli.stopping import STOPS

from ..helpers import saved_fit
from ..outcome import Bvae
from .conftest import TINY

SAME_BYTES = (runs.WEIGHTS, runs.LOSS_RECORD, runs.CONFIG)
MNIST = ("--dataset", "binarized-mnist", "--subset", 300, "--hidden", 16, "--latent", 12, "--depth", 1, "--epochs", 3)
# Some seconds: long enough to be killed in the middle.
LONG = (*TINY, "--epochs", 600, "--patience", 600)
# What a test may wait on a machine that has others to serve; "within 30 s" was measured, not asserted.
PATIENCE = 240


def torchrun(*arguments: object, processes: int = 2, restarts: int = 0) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [*launcher, f"--max-restarts={restarts}", "-m", "bvae_cli", *map(str, arguments)]


def done(line: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE)


def sentences(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("Error: ")]


@contextlib.contextmanager
def started(line: list[str], epochs: int) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Start a command in a session of its own and wait until so many epochs were said; give it and its file of talk."""
    said = Path("said.txt")
    with said.open("w") as talk:
        process = subprocess.Popen(line, stdout=talk, stderr=talk, text=True, start_new_session=True)
    try:
        wait_until(lambda: f"epoch {epochs}/" in said.read_text() or process.poll() is not None)
        assert process.poll() is None, said.read_text()
        yield process, said
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until, "nothing happens"
        time.sleep(0.05)


def workers(launcher: int) -> dict[str, int]:
    """Return the processes that a launcher has started, by their rank."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            variables = (folder / "environ").read_bytes().split(b"\0")
            if parent == launcher:
                found |= {item[5:].decode(): int(folder.name) for item in variables if item.startswith(b"RANK=")}
    return found


@pytest.fixture
def needs_proc() -> None:
    if not Path("/proc/self/environ").exists():
        pytest.skip("needs /proc, of Linux")


def only_run(folder: str) -> Path:
    (found,) = Path(folder).iterdir()
    return found


def test_two_processes_train_what_one_does_and_one_of_them_talks(bvae: Bvae, workplace: Path) -> None:
    alone = bvae("train", *MNIST, "--output-dir", "alone").succeeded()
    first = done(torchrun("train", *MNIST, "--output-dir", "two"))
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("val_loss") == 1
    for epoch in (1, 2, 3):
        assert first.stderr.count(f"epoch {epoch}/3") == 1
    assert first.stderr.count("2 processes, each with its part of every batch") == 1
    assert len(first.stdout.splitlines()) == len(alone.out.splitlines())

    one, two = only_run("alone"), only_run("two")
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}
    assert (one / runs.CONFIG).read_bytes() == (two / runs.CONFIG).read_bytes()
    records = [np.loadtxt(folder / runs.LOSS_RECORD) for folder in (one, two)]
    np.testing.assert_allclose(records[1], records[0], rtol=1e-4)

    before = {path.name: path.read_bytes() for path in two.iterdir()}
    again = done(torchrun("train", *MNIST, "--output-dir", "two"))
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("This run was finished before") == 1
    assert {path.name: path.read_bytes() for path in two.iterdir()} == before


def test_a_mistake_is_one_sentence(workplace: Path) -> None:
    refused = done(torchrun("train", *TINY, "--dataset", "nothing.npy"))
    assert refused.returncode == 1  # torchrun's own, which has the command's in its report
    assert sentences(refused.stderr) == ["Error: There is no file nothing.npy."]
    assert "exitcode  : 3" in refused.stderr
    assert refused.stdout == ""


@pytest.mark.slow
@pytest.mark.usefixtures("needs_proc")
@pytest.mark.parametrize(("victim", "restarts"), [("1", 0), ("0", 0), ("1", 1)])
def test_where_a_process_is_killed_all_end_and_the_run_goes_on_to_the_same_bytes(
    workplace: Path, victim: str, restarts: int
) -> None:
    whole = done(torchrun("train", *LONG, "--output-dir", "whole"))
    assert whole.returncode == 0, whole.stderr
    line = torchrun("train", *LONG, "--output-dir", "parts", restarts=restarts)
    with started(line, epochs=3) as (process, talk):
        folder = only_run("parts")
        os.kill(workers(process.pid)[victim], signal.SIGKILL)
        assert process.wait(PATIENCE) == (0 if restarts else 1)
        said = talk.read_text()
    (sentence,) = sentences(said)
    assert "a process of the group is gone" in sentence.lower()
    assert str(folder) in sentence
    if not restarts:
        assert runs.Run(folder).state() == "unfinished"
        if victim == "1":
            assert f"after epoch {saved_fit(folder)['epoch']}" in sentence
        assert done(line).returncode == 0
    for name in SAME_BYTES:
        assert (folder / name).read_bytes() == (only_run("whole") / name).read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("needs_proc")
@pytest.mark.parametrize(("number", "word"), [(signal.SIGINT, "Interrupted"), (signal.SIGTERM, "Terminated")])
@pytest.mark.parametrize("to_all", [True, False], ids=["to all, as Ctrl-C", "to the launcher"])
def test_a_signal_saves_the_state_once_and_is_answered_once(
    workplace: Path, number: signal.Signals, word: str, to_all: bool
) -> None:
    line = torchrun("train", *LONG, "--epochs", 1_000_000, "--patience", 1_000_000)
    with started(line, epochs=3) as (process, talk):
        (os.killpg if to_all else os.kill)(process.pid, number)
        assert process.wait(PATIENCE) != 0
        said = talk.read_text()
    (sentence,) = sentences(said)
    folder = only_run("weights")
    assert sentence.startswith(f"Error: {word} after epoch")
    state = saved_fit(folder)
    assert f"after epoch {state['epoch']}" in sentence
    assert (folder / runs.LOG).read_text().count(word.lower()) == 1
    assert not (folder / ".lock").exists()
    # What torchrun says of itself names no line of ours.
    assert "bvae_cli/" not in said.partition(sentence)[2]


@pytest.mark.slow
def test_one_process_is_what_there_is_without_torchrun(bvae: Bvae, workplace: Path) -> None:
    bvae("train", *MNIST, "--output-dir", "alone").succeeded()
    one = done(torchrun("train", *MNIST, "--output-dir", "one", processes=1))
    assert one.returncode == 0, one.stderr
    for name in SAME_BYTES:
        assert (only_run("alone") / name).read_bytes() == (only_run("one") / name).read_bytes()


# --- one of several, in this process


@pytest.fixture
def one_of_two(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Make this process one of two, as far as it can know; one that has said how it ends is not to be stopped any more."""
    handlers = {number: signal.getsignal(number) for number in STOPS}

    def become(rank: int) -> None:
        variables = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))

    yield become
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("line", [("evaluate", "weights"), ("compare", "-n", 5), ("sample",), ("runs",), ("devices",)])
def test_other_commands_work_in_one_process(
    bvae: Bvae, workplace: Path, one_of_two: Callable[[int], None], line: tuple[object, ...]
) -> None:
    one_of_two(0)
    bvae(*line).refused(2, f"`bvae {line[0]}` works in one process, and 2 were started", "without torchrun")
    assert not Path("weights").exists()


def test_several_seeds_are_trained_in_one_process(bvae: Bvae, workplace: Path, one_of_two: Callable[[int], None]) -> None:
    one_of_two(0)
    bvae("train", *TINY, "--seeds", 3).refused(2, "--seeds trains every seed in one process")


def test_variables_that_do_not_go_together_are_refused_where_something_is_to_be_done(
    bvae: Bvae, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    bvae("train", *TINY, "--dry-run").refused(2, "RANK is not set", "torchrun")
    assert bvae("train", "--help").succeeded().out


def test_a_dry_run_says_how_many_processes_there_are_and_only_the_first_does(
    bvae: Bvae, workplace: Path, one_of_two: Callable[[int], None]
) -> None:
    one_of_two(0)
    assert bvae("train", *TINY, "--dry-run", "--json").succeeded().json()["processes"] == 2
    one_of_two(1)
    other = bvae("train", *TINY, "--dry-run")
    assert (other.code, other.out, other.err) == (0, "", "")


def test_another_process_tells_of_a_mistake_only_where_nobody_ends_it(
    bvae: Bvae, workplace: Path, one_of_two: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(company.time, "sleep", waited.append)
    one_of_two(1)
    bvae("train", *TINY, "--epoch", 3).refused(2, "There is no option --epoch")
    assert waited == [pytest.approx(11)]


# The launcher stops the others as soon as one is gone: here while this one is already on its way out.
STOPPED_AT_THE_END = """
import os, signal, time
really_exit = os._exit
def stopped(code):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.2)
    really_exit(code)
os._exit = stopped
from bvae_cli.cli import main
main(["train", "--epoch", "3"])
"""


def test_who_has_said_how_it_ends_says_nothing_more_where_it_is_stopped(
    workplace: Path, one_of_two: Callable[[int], None]
) -> None:
    one_of_two(0)
    ended = done([sys.executable, "-c", STOPPED_AT_THE_END])
    assert sentences(ended.stderr) == ["Error: There is no option --epoch."]
    assert ended.returncode == 2


def test_another_process_is_ended_by_the_launcher_without_a_word(workplace: Path, one_of_two: Callable[[int], None]) -> None:
    one_of_two(1)
    line = [sys.executable, "-m", "bvae_cli", "train", *map(str, TINY), "--epoch", "3"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(3)
    process.terminate()
    said, _ = process.communicate(timeout=PATIENCE)
    assert said == ""
    assert process.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)  # the second where it was still loading
