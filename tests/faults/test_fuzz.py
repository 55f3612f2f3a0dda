"""The fuzzer: it feeds every parser of the program here a little, and it catches parsers that are broken on purpose."""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import signal
import time
import tomllib
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bvae_cli.errors import BvaeError, InputOutputError, UsageError

from . import fuzz as fuzzing
from . import mutate
from .fuzz import Ended, fuzz, read_input
from .parsers import PARSERS, Parser
from .samples import Samples

INPUTS, SECONDS = 40, 12.0


def test_every_parser_accepts_or_refuses_in_a_sentence() -> None:
    for row in fuzz(SECONDS, INPUTS, seed=0):
        assert (row.tracebacks, row.hangs, row.lost) == (0, 0, 0), row
        # A child begins with what this process has in memory, which is that of other tests as well.
        assert row.peak < _peak_here() + 512


def _peak_here() -> float:
    """Return the most memory that this process had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _broken(fault: Any) -> Parser:
    def write(samples: Samples, chance: Random, folder: Path, inside: bool) -> None:
        (folder / "number").write_text(str(chance.randrange(4)))

    def read(folder: Path) -> None:
        number = int((folder / "number").read_text())
        if number == 0:
            fault()
        if number == 1:
            raise InputOutputError("It is refused.", "Give another.")

    return Parser("broken", write, read)


def _crash() -> None:
    faulthandler.disable()  # its words are for failures that are none of the test's making
    os.kill(os.getpid(), signal.SIGSEGV)


def _refuses(error: BvaeError) -> Any:
    def refuse() -> None:
        raise error

    return refuse


@pytest.fixture
def no_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "write_samples", lambda folder: Samples({}, {}, folder))


@pytest.mark.usefixtures("no_samples")
@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (lambda: {}["missing"], "KeyError"),
        (lambda: bytearray(2**36), "memory"),
        (_crash, "died"),
        (_refuses(BvaeError("It failed.")), "exit code 1"),
        (_refuses(UsageError(" ")), "no sentence"),
        (lambda: os._exit(0), "died"),
    ],
)
def test_a_parser_with_a_fault_is_caught(fault: Any, word: str, tmp_path: Path) -> None:
    (tally,) = fuzzing.tallies(60, 20, 0, tmp_path, [_broken(fault)])
    faulty = [number for number in range(20) if _number_of(number) == "0"]
    assert tally.row().tried == 20
    assert tally.row().tracebacks == len(faulty) > 0
    (said,) = tally.failures
    assert word in said
    assert tally.failures[said] == faulty
    kept = tmp_path / f"broken_{faulty[0]}"
    assert (kept / "number").read_text() == "0"


def _number_of(number: int) -> str:
    chance = Random(f"0/broken/{number}")
    chance.random()
    return str(chance.randrange(4))


@pytest.mark.usefixtures("no_samples")
def test_a_parser_that_does_not_end_is_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "SECONDS_AN_INPUT", 0.1)
    (row,) = fuzz(60, 8, 0, parsers=[_broken(lambda: time.sleep(30))])
    assert row.hangs == sum(_number_of(number) == "0" for number in range(8)) > 0
    assert row.tracebacks == 0


@pytest.mark.usefixtures("no_samples")
def test_a_process_that_lets_no_signal_through_is_a_hang_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def deaf() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        time.sleep(30)

    monkeypatch.setattr(fuzzing, "SECONDS_AN_INPUT", 0.1)
    (row,) = fuzz(60, 4, 0, parsers=[_broken(deaf)])
    assert row.hangs == sum(_number_of(number) == "0" for number in range(4)) > 0


def test_what_is_accepted_or_refused_is_told_apart(tmp_path: Path) -> None:
    parser = _broken(lambda: None)
    for number, how in (("1", "refused"), ("2", "accepted")):
        (tmp_path / "number").write_text(number)
        assert read_input(parser, tmp_path) == Ended(how, "")


def test_at_least_half_of_the_inputs_are_right_outside() -> None:
    assert all(parser.share_inside >= 0.6 for parser in PARSERS)


def test_changed_json_stays_json_and_changed_toml_stays_toml() -> None:
    content = {"a": 1, "b": [1.5, {"c": "é"}], "d": {"e": None, "f": True}}
    deep = 0
    for number in range(300):
        chance = Random(number)
        try:
            json.loads(mutate.any_json(json.dumps(content).encode(), chance).decode("utf-8", "surrogatepass"))
        except RecursionError:
            deep += 1
        tomllib.loads(mutate.as_toml(mutate.any_table(content, chance)))
    assert 0 < deep < 30


def test_a_changed_archive_has_right_checksums() -> None:
    content = mutate.zipped([("a.npy", b"123"), ("b.npy", b"456")])
    for number in range(100):
        changed = mutate.any_zip(content, Random(number), lambda _, held, chance: mutate.any_bytes(held, chance))
        assert mutate.members_of(changed)  # reading checks each
