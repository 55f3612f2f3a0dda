"""Several seeds on the CPU: what ``benchmarks/many_seeds.py`` prints."""

from __future__ import annotations

from typing import Any

from timing import script, table
from timing.setting import Scale
from timing.summary import spread

TITLE = "Many seeds"
_ARGUMENTS = "--seeds 20 --params 0 --batch-size 128 --epochs 2 --batches 10 --workers 2 --repeats 5"
_CHOSEN, _ALONE = "chosen by the tool", "one after another"
_QUICK = "--seeds 2 --params 0 --batch-size 100 --epochs 1 --subset 200 --repeats 2"


def measure(scale: Scale) -> dict[str, Any]:
    """Run the script."""
    return script.run("many_seeds.py", _QUICK if scale.quick else _ARGUMENTS)


def section(part: dict[str, Any]) -> list[str]:
    """Return what it printed, and what is reached of the goals."""
    lines = script.section(part)
    seconds = part.get("data", {}).get("seconds", {})
    if _CHOSEN in seconds:
        ratio = spread([mine / alone for mine, alone in zip(seconds[_CHOSEN], seconds[_ALONE], strict=True)]).middle
        lines += [
            f"The way that the tool chooses takes {table.number(ratio)} of the time of one after another: wanted is at most",
            f"0.7: {table.at_most(ratio, 0.7)}; the goal is 0.5: {table.at_most(ratio, 0.5)}.",
            "",
        ]
    return lines
