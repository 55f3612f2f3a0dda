"""What was tried and what came of it, a row for each kind of fault."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One kind of fault: how often it was tried, what was lost, and how it ended.

    ``tracebacks`` counts what was neither done nor refused in a sentence, ``identical`` what ended bit-identical to an
    undisturbed run (None where nothing is to be compared), ``peak`` is the largest memory of a process in MiB.
    """

    name: str
    tried: int
    lost: int
    tracebacks: int
    hangs: int
    identical: int | None
    peak: float
    note: str
