"""Measure how fast training is, ours and every rival in turn, and write ``docs/performance.md``.

    python benchmarks/performance.py [--parts PART …] [--rounds 5] [--quick]
    python benchmarks/performance.py --page      the page and plots again, from the data
    python benchmarks/performance.py --check     fail where the page is not what the data say

Every round goes to ``docs/data/performance.json``; parts that are not measured now stay there as they are. The page and its
plots are made of that file alone. ``--quick`` takes tiny sizes and says so on the page: to see that it runs, best with
``--docs FOLDER`` so that the real page stays.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from timing import page
from timing.setting import Scale
from timing.tournament import cores

_DOCS = Path(__file__).resolve().parents[1] / "docs"
_SEED = 0
_QUICK = Scale(rounds=2, seconds=0.02, quick=True)


def read(file: Path) -> dict[str, Any]:
    """Return the data of a file, with no part where there is none."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"parts": {}}


def measured(part: str, scale: Scale, before_python: Path | None) -> dict[str, Any]:
    """Measure a part, and note with what and on what."""
    from timing import machine

    before, others, started = machine.load_average(), machine.seconds_of_others(), time.perf_counter()
    options = {"before": before_python} if part == "start" and before_python else {}
    found = page.module_of(part).measure(scale, **options)
    seconds, after = time.perf_counter() - started, machine.seconds_of_others()
    share = None if others is None or after is None else max(0.0, after - others) / seconds / cores()
    return {
        "date": machine.today(),
        "minutes": round(seconds / 60, 2),
        "share_of_others": None if share is None else round(share, 3),
        "rounds": scale.rounds,
        "turn_seconds": scale.seconds,
        "seed": _SEED,
        "quick": scale.quick,
        "machine": machine.machine(),
        "versions": machine.versions(),
        "load_before": before,
        "load_after": machine.load_average(),
        **found,
    }


def write_page(data: dict[str, Any], docs: Path) -> None:
    """Write the page and its plots."""
    (docs / "performance.md").write_text(page.page(data), encoding="utf-8")
    page.draw(data, docs / "images")


def arguments_of(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=page.PARTS, default=list(page.PARTS), metavar="PART",
                        help=f"what to measure (default: all): {', '.join(page.PARTS)}")  # fmt: skip
    parser.add_argument("--rounds", type=int, help="rounds of every contender (default: 5)")
    parser.add_argument("--seconds", type=float, help="least seconds of a turn (default: 1.2)")
    parser.add_argument(
        "--before", type=Path, help="part start: Python of an environment with an earlier bvae, to stand beside"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes: to see that it runs")
    parser.add_argument("--docs", type=Path, default=_DOCS, help="folder of the page (default: docs of this checkout)")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page")
    parser.add_argument("--check", action="store_true", help="measure nothing, fail where the page is another")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Measure, write the data, write the page."""
    arguments = arguments_of(sys.argv[1:] if words is None else words)
    file = arguments.docs / "data" / "performance.json"
    data = read(file)
    if arguments.check:
        if (arguments.docs / "performance.md").read_text(encoding="utf-8") == page.page(data):
            return 0
        print("docs/performance.md is not what the data say: python benchmarks/performance.py --page", file=sys.stderr)
        return 1
    scale = _QUICK if arguments.quick else Scale()
    given = {"rounds": arguments.rounds, "seconds": arguments.seconds}
    scale = scale._replace(**{name: value for name, value in given.items() if value is not None})
    for part in () if arguments.page else arguments.parts:
        print(f"{part} …", file=sys.stderr, flush=True)
        data["parts"][part] = measured(part, scale, arguments.before)
        # After each part: what was measured is kept when a later part fails.
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_page(data, arguments.docs)
    print(arguments.docs / "performance.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
