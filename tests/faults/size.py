"""How much of everything is tried."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """What a part may take: ``seconds`` of its own beyond the least that it tries, so many trials side by side, a seed.

    ``short`` is the form for CI: a sample of everything.
    """

    seconds: float
    seed: int = 0
    jobs: int = 1
    short: bool = False

    def of(self, long: int, short: int) -> int:
        """Return how many trials there are."""
        return short if self.short else long

    def end(self) -> float:
        """Return when the time of a part that begins now is over, by the monotonic clock."""
        return time.monotonic() + self.seconds
