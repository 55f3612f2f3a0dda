"""What must be quick loads neither torch nor numpy: told by the modules themselves, and by the clock."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .test_bad_input import USAGE

# Runs one line after another in one process and prints, for each, the exit code and which of the heavy modules are there.
_ONE_BY_ONE = """
import contextlib, io, json, os, sys
from bvae_cli.cli.app import main
found = []
for variables, line in json.load(sys.stdin):
    os.environ.update(variables)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            main(line)
        except SystemExit as stop:
            code = stop.code
    for name in variables:
        del os.environ[name]
    found.append([code, sorted(HEAVY & set(sys.modules))])
print(json.dumps(found))
"""
HEAVY = {"torch", "numpy", "matplotlib", "scipy"}

# Ends the process at the first import of torch, and says so among what was said before.
_UNTIL_TORCH = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            sys.stderr.flush()
            os.write(2, b"TORCH\\n")
            os._exit(77)
sys.meta_path.insert(0, Watch())
from bvae_cli.cli.app import main
main(sys.argv[1:])
"""


def completion(line: str) -> tuple[dict[str, str], list[str]]:
    words = line.split()
    return (
        {"_BVAE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - (not line.endswith(" ")))},
        [],
    )


QUICK = {
    "help": ({}, ["--help"]),
    "version": ({}, ["--version"]),
    "nothing": ({}, []),
    "help of train": ({}, ["train", "--help"]),
    "help of train with a code": ({}, ["train", "--ecc", "repetition", "--help"]),
    "help of sample": ({}, ["sample", "--help"]),
    "help of evaluate": ({}, ["evaluate", "--help"]),
    "help of encode": ({}, ["encode", "--help"]),
    "help of export": ({}, ["export", "--help"]),
    "help of decode": ({}, ["decode", "--help"]),
    "help of search": ({}, ["search", "--help"]),
    "check-ecc": ({}, ["check-ecc"]),
    "check-ecc of a code": ({}, ["check-ecc", "-n", "5", "--R", "3"]),
    "codes": ({}, ["codes"]),
    "datasets": ({}, ["datasets"]),
    "config show": ({}, ["config", "show"]),
    "runs": ({}, ["runs", "."]),
    "completion of commands": completion("bvae "),
    "completion of options": completion("bvae train --"),
    "completion of codes": completion("bvae train --ecc re"),
    "completion of data sets": completion("bvae train --dataset "),
}


def child(code: str, *arguments: str, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], input=stdin, capture_output=True, text=True, cwd=cwd, timeout=120
    )


def test_help_lists_completion_and_every_mistake_of_use_load_neither_torch_nor_numpy(tmp_path: Path) -> None:
    lines = {**QUICK, **{name: ({}, [str(word) for word in words]) for name, (words, _) in USAGE.items()}}
    done = child(f"HEAVY = {HEAVY!r}\n{_ONE_BY_ONE}", stdin=json.dumps(list(lines.values())), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = dict(zip(lines, json.loads(done.stdout), strict=True))
    assert {name: modules for name, (_, modules) in found.items() if modules} == {}
    codes = {name: code for name, (code, _) in found.items()}
    assert codes == {name: 2 if name in USAGE or name == "nothing" else 0 for name in lines}


def test_the_watch_of_these_tests_sees_torch_and_numpy(tmp_path: Path) -> None:
    done = child("import numpy\n" + f"HEAVY = {HEAVY!r}\n{_ONE_BY_ONE}", stdin=json.dumps([({}, ["--version"])]))
    assert json.loads(done.stdout) == [[0, ["numpy"]]]
    assert child(_UNTIL_TORCH, "devices", cwd=tmp_path).returncode == 77


@pytest.mark.parametrize("command", ["train", "sample", "evaluate", "encode", "export"])
def test_a_sign_of_life_comes_before_torch(command: str, tmp_path: Path) -> None:
    own = {"evaluate": ["x.pt"], "encode": ["x.pt", "-o", "codes.npy"], "export": ["x.pt", "--to", "torch", "-o", "out"]}
    done = child(_UNTIL_TORCH, command, *own.get(command, []), cwd=tmp_path)
    assert done.returncode == 77
    first, *_, last = done.stderr.splitlines()
    assert first.startswith(f"bvae {command}")
    assert "loading torch" in first
    assert last == "TORCH"


@pytest.mark.parametrize("line", [["train", "--dataset", "none.npy"], ["train", "--config", "none.toml"]])
def test_a_file_that_is_not_there_is_said_before_torch(line: list[str], tmp_path: Path) -> None:
    done = child(_UNTIL_TORCH, *line, cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith("Error: ")


def seconds(*arguments: str, **variables: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, env={**os.environ, **variables}, timeout=120)
    return time.perf_counter() - started


@pytest.mark.slow
def test_what_is_quick_takes_less_than_half_of_an_import_of_torch() -> None:
    lines: dict[str, tuple[list[str], dict[str, str]]] = {
        "help": (["--help"], {}),
        "help of train": (["train", "--help"], {}),
        "check-ecc": (["check-ecc"], {}),
        "codes": (["codes"], {}),
        "mistake": (["train", "--epoch", "5"], {}),
        "completion": ([], completion("bvae train --ecc ")[0]),
    }
    seconds("-c", "import torch")  # the first time comes from the disk
    torch, quick = [], {name: [] for name in lines}  # type: tuple[list[float], dict[str, list[float]]]
    # Turn by turn, so that a neighbour on the machine slows all of them.
    for _ in range(3):
        torch.append(seconds("-c", "import torch"))
        for name, (line, variables) in lines.items():
            quick[name].append(seconds("-m", "bvae_cli", *line, **variables))
    limit = statistics.median(torch) / 2
    assert {name: times for name, times in quick.items() if statistics.median(times) > limit} == {}
