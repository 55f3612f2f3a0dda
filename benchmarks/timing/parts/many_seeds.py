"""Several seeds on the CPU: what ``benchmarks/many_seeds.py`` prints."""

from __future__ import annotations

from typing import Any

from timing import script
from timing.setting import Scale

TITLE = "Many seeds"
_ARGUMENTS = "--seeds 20 --params 0 --batch-size 128 --epochs 2 --batches 10 --workers --repeats 5"
_QUICK = "--seeds 2 --params 0 --batch-size 100 --epochs 1 --subset 200 --repeats 2"


def measure(scale: Scale) -> dict[str, Any]:
    """Run the script."""
    return script.run("many_seeds.py", _QUICK if scale.quick else _ARGUMENTS)


def section(part: dict[str, Any]) -> list[str]:
    """Return what it printed."""
    return script.section(part)
