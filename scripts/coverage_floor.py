"""Say what share of the statements and of the branches the tests have run, and exit 1 where it is below a floor.

coverage combine && python scripts/coverage_floor.py

``.coverage`` is what the tests left; CONTRIBUTING.md says how.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import coverage

PACKAGE = Path(__file__).parents[1] / "src" / "bvae_cli"
# In percent, of statements and of branches alike.
FLOORS = {
    "codes": 95,
    "model/objective.py": 95,
    "runs.py": 95,
    "files.py": 95,
    "locks.py": 95,
    "evaluation/statistics.py": 95,
    "": 90,
}
_KINDS = {"statements": ("covered_lines", "num_statements"), "branches": ("covered_branches", "num_branches")}


def main() -> None:
    """Print a line for each room with a floor, and one for each file that keeps a room below it."""
    counted = counts()
    low = [room for room in FLOORS if not _told(room, inside(counted, room))]
    for room in low:
        for name, count in inside(counted, room).items():
            if min(shares([count]).values()) < FLOORS[room]:
                print(f"  {name}: {_words(shares([count]))}, not run: lines {_missing(count)}")
    if low:
        raise SystemExit(f"Below the floor: {', '.join(room or 'all of it' for room in low)}.")


def counts() -> dict[str, dict[str, Any]]:
    """Return what was counted of each file, by its place in the package."""
    measured = coverage.Coverage()
    measured.load()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "coverage.json")
        measured.json_report(outfile=str(path))
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
    return {Path(name).resolve().relative_to(PACKAGE).as_posix(): content for name, content in files.items()}


def inside(counted: dict[str, dict[str, Any]], room: str) -> dict[str, dict[str, Any]]:
    """Return the files of a room: a file, a folder, or all."""
    found = {name: it for name, it in counted.items() if room in ("", name) or name.startswith(f"{room}/")}
    if not found:
        raise SystemExit(f"Nothing was measured of {room or 'the package'}.")
    return found


def shares(files: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Return what was run of files in percent, of statements and of branches; what has no branch has run all of them."""
    sums = [file["summary"] for file in files]
    done = {kind: (sum(it[run] for it in sums), sum(it[all_] for it in sums)) for kind, (run, all_) in _KINDS.items()}
    return {kind: 100 * run / total if total else 100.0 for kind, (run, total) in done.items()}


def _told(room: str, files: dict[str, dict[str, Any]]) -> bool:
    found = shares(files.values())
    print(f"{room or 'all of it'}: {_words(found)}; floor {FLOORS[room]} %")
    return min(found.values()) >= FLOORS[room]


def _words(found: dict[str, float]) -> str:
    return ", ".join(f"{share:.1f} % of the {kind}" for kind, share in found.items())


def _missing(count: dict[str, Any]) -> str:
    branches = [f"{start}→{end}" for start, end in count["missing_branches"]]
    return ", ".join([*map(str, count["missing_lines"]), *branches]) or "none"


if __name__ == "__main__":
    main()
