"""How long a short run takes from a cold process, beside ``import torch``; and what its imports take."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from timing import table
from timing.setting import Scale, Setting
from timing.summary import significant, spread
from timing.tournament import contestants

TITLE = "Start"
GOAL = 1.5
_ROUNDS = 7
_SLOWEST = 10
_ROWS = 500
_TORCH, _RUN, _BEFORE = "import torch", "a short run", "a short run before"
_IMPORT_LINE = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| +(\S+)")


def measure(scale: Scale, before: Path | None = None) -> dict[str, Any]:
    """Measure both in turn; ``before`` is the Python of another environment, whose bvae is measured in the same rounds."""
    commands = {_TORCH: [sys.executable, "-c", "import torch"], _RUN: _short_run(sys.executable)}
    if before is not None:
        commands[_BEFORE] = _short_run(str(before))
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    arithmetic = Setting("short-run", hidden=100, rows=_ROWS)
    with contestants([scale.fitted(arithmetic)._replace(rows=_ROWS)]) as (warm,):
        for number in range(2 if scale.quick else _ROUNDS):
            names = list(commands)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                taken[name].append(_seconds(commands[name]))
            warm.take_turn(0.01)
        if warm.missing is not None:
            raise RuntimeError(f"the arithmetic of a short run could not be timed: {warm.missing}")
        repeated = warm.record()
    profiles = {name: _profile(commands[name]) for name in (_RUN, _BEFORE) if name in commands}
    return {"taken": taken, "arithmetic": repeated, "profiles": profiles}


def section(part: dict[str, Any]) -> list[str]:
    """Return the section of the page."""
    wall = {name: [one["wall"] for one in values] for name, values in part["taken"].items()}
    processor = {name: [one["processor"] for one in values] for name, values in part["taken"].items()}
    arithmetic = [1 / rate for rate in part["arithmetic"]["rates"]]
    names = {
        _TORCH: '`python -c "import torch"`',
        _RUN: f"`bvae train -n 0 --subset {_ROWS} --epochs 1`",
        _BEFORE: "the same, before",
    }
    rows = [[names[name], table.spread_of(wall[name]), table.spread_of(processor[name])] for name in wall]
    rows.append(["its epoch and validation alone, in a warm process", table.spread_of(arithmetic), ""])
    beyond = [run - one for run, one in zip(wall[_RUN], arithmetic, strict=True)]
    ratio = spread([one / torch for one, torch in zip(beyond, wall[_TORCH], strict=True)]).middle
    lines = [
        f"Each in a process of its own, in turn, {len(wall[_TORCH])} times:",
        "",
        *table.table(["command", "seconds, median (quartiles)", "processor's seconds"], rows),
        "",
        f"Without its arithmetic the run takes {table.number(ratio)} times as long as `import torch` (median over the",
        f"rounds); wanted is at most {GOAL:g}: {table.at_most(ratio, GOAL)}.",
        "",
    ]
    for name, profile in part["profiles"].items():
        before = " before" if name == _BEFORE else ""
        lines += [
            f"Its {len(profile['slowest'])} slowest imports{before}, each without what it imports in turn",
            f"(`python -X importtime`; {profile['modules']:,} modules, {table.number(profile['seconds'])} s in all):",
            "",
            *table.table(
                ["module", "ms of its own", "ms with what it imports"],
                [[f"`{one['module']}`", table.number(one["own"]), table.number(one["all"])] for one in profile["slowest"]],
            ),
            "",
        ]
    return lines


def slowest_imports(said: str, count: int = _SLOWEST) -> dict[str, Any]:
    """Read what ``-X importtime`` says: the modules that take longest by themselves, in ms, and the sum in seconds.

    >>> slowest_imports("import time:      2000 |       3000 | a.b\\nimport time:   10 |   10 |   c\\n", 1)["slowest"]
    [{'module': 'a.b', 'own': 2.0, 'all': 3.0}]
    """
    found = [(int(own), int(cumulative), name) for own, cumulative, name in _IMPORT_LINE.findall(said)]
    slowest = sorted(found, reverse=True)[:count]
    return {
        "modules": len(found),
        "seconds": significant(sum(own for own, _, _ in found) / 1e6),
        "slowest": [{"module": name, "own": own / 1000, "all": cumulative / 1000} for own, cumulative, name in slowest],
    }


def _short_run(python: str) -> list[str]:
    return [python, "-m", "bvae_cli", *f"train -n 0 --subset {_ROWS} --epochs 1".split()]


def _seconds(command: list[str]) -> dict[str, float]:
    """Run a command in an empty folder; return the seconds of the wall and of the processor."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as talk:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=_environment(folder), stdout=talk, stderr=talk)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            talk.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed: {talk.read().decode()[-500:]}")
    return {"wall": significant(wall), "processor": significant(usage.ru_utime + usage.ru_stime)}


def _profile(command: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        words = [command[0], "-X", "importtime", *command[1:]]
        done = subprocess.run(words, cwd=folder, env=_environment(folder), capture_output=True, text=True, check=True)
    return slowest_imports(done.stderr)


def _environment(folder: str) -> dict[str, str]:
    """Return the environment without settings of the user's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BVAE_")}
    return {**kept, "BVAE_CONFIG_DIR": folder}
