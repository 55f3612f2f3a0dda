"""Data from a file: what ``benchmarks/large_data.py`` prints."""

from __future__ import annotations

from typing import Any

from timing import script
from timing.setting import Scale

TITLE = "Large data"
_ARGUMENTS = "--rows 100000 1000000 --rounds 5 --subset 100000"
_QUICK = "--rows 1000 2000 --rounds 2 --batch 100"


def measure(scale: Scale) -> dict[str, Any]:
    """Run the script."""
    return script.run("large_data.py", _QUICK if scale.quick else _ARGUMENTS)


def section(part: dict[str, Any]) -> list[str]:
    """Return what is wanted, and what it printed."""
    wanted = [
        "Wanted are at least 0.8 of the throughput from memory, and from a file memory that does not grow with the rows but",
        "for their order.",
        "",
    ]
    return [*wanted, *script.section(part)]
