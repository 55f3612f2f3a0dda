"""The table that a run of the harness prints: a row for each thing that was tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_COLUMNS = ("what was tried", "tried", "lost", "tracebacks", "hangs", "wrong", "identical", "peak MiB", "note")
DETAILS = 5
# Of the memory of a process, in MiB.
LARGEST_PEAK = 1024.0


@dataclass(frozen=True)
class Row:
    """How often something was tried, and how often it went ill.

    ``lost`` counts what a person had and has no more, ``wrong`` other broken promises: an exit code, a sentence that is
    missing, half a file under a final name, something left lying about. ``identical`` of ``tried`` ended bit for bit as an
    undisturbed run; None where there is nothing to compare. ``details`` tell of failures, so that they can be repeated.
    """

    name: str
    tried: int
    lost: int
    tracebacks: int
    hangs: int
    identical: int | None
    peak: float
    note: str = ""
    wrong: int = 0
    details: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether anything went ill, took too much memory, or nothing was tried."""
        differing = self.identical is not None and self.identical < self.tried
        too_large = self.peak >= LARGEST_PEAK
        return bool(self.lost or self.tracebacks or self.hangs or self.wrong or differing or too_large or not self.tried)


def table_of(rows: Sequence[Row], details: int = DETAILS) -> str:
    """Return the table as plain text, and below it what is known of failures, of so many of each row."""
    cells = [_COLUMNS, *map(_cells, rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_COLUMNS))]
    lines = [_line(line, widths) for line in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    for row in rows:
        lines += [f"! {row.name}: {detail}" for detail in row.details[:details]]
        if len(row.details) > details:
            lines.append(f"! {row.name}: and {len(row.details) - details} more")
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> tuple[str, ...]:
    identical = "–" if row.identical is None else f"{row.identical}/{row.tried}"
    counts = (row.tried, row.lost, row.tracebacks, row.hangs, row.wrong)
    return (row.name, *map(str, counts), identical, f"{row.peak:.0f}", row.note)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    words = {0, len(cells) - 1}
    aligned = [
        cell.ljust(width) if column in words else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(aligned).rstrip()
