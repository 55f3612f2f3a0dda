"""Contenders measured in turn: every one in a process that lives over all rounds, one at work, the others asleep.

Imports, compilation and the first steps are over before the first round. In each round every contender has one turn, and
each round begins with another, so that what else the machine does falls on all alike; ratios are of one round.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from timing.setting import Scale, Setting
from timing.summary import significant

_FOLDER = Path(__file__).parents[1]
# Processes that import at the same time.
_AT_ONCE = 4


class Contestant:
    """A contender in its own process."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.missing: str | None = None
        self.threads: int | None = None
        self.rates: list[float] = []
        self.asleep: list[float] = []
        # It lives as long as the process.
        self._talk = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "timing.worker"],
            cwd=_FOLDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._talk,
            text=True,
        )
        self._say(setting._asdict())

    def imported(self) -> None:
        """Wait until its imports are done."""
        self._answer()

    def warm_up(self) -> None:
        """Let it build, compile and take its first steps, and wait for it."""
        if self.missing is None:
            self._say({})
            self.threads = self._answer().get("threads")

    def take_turn(self, seconds: float) -> None:
        """Let it work for so long and note its rate."""
        if self.missing is None:
            self._say({"seconds": seconds})
            answer = self._answer()
            if self.missing is None:
                self.rates.append(significant(answer["done"] / answer["seconds"]))
                self.asleep.append(answer["seconds_awake_in_sleep"])

    def dismiss(self) -> None:
        """Tell its process to end."""
        with contextlib.suppress(OSError):
            self._pipes[0].close()

    def close(self) -> None:
        """Wait until its process has ended, and end it where it does not."""
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._pipes[1].close()
        self._talk.close()

    def record(self) -> dict[str, Any]:
        """Return what was measured, for the file."""
        asked = {name: value for name, value in self.setting._asdict().items() if name not in ("implementation", "seconds")}
        found: dict[str, Any] = {"implementation": self.setting.implementation, "setting": asked}
        if self.missing is not None:
            return found | {"missing": self.missing}
        awake = significant(max(self.asleep, default=0.0), 2)
        return found | {"threads": self.threads, "rates": self.rates, "seconds_awake_in_sleep": awake}

    @property
    def _pipes(self) -> tuple[Any, Any]:
        return self._process.stdin, self._process.stdout

    def _say(self, words: dict[str, Any]) -> None:
        try:
            self._pipes[0].write(json.dumps(words) + "\n")
            self._pipes[0].flush()
        except OSError:
            self._died()

    def _answer(self) -> dict[str, Any]:
        line = self._pipes[1].readline()
        answer: dict[str, Any] = json.loads(line) if line else {}
        if not line:
            self._died()
        elif "missing" in answer:
            self.missing = answer["missing"]
        return answer

    def _died(self) -> None:
        if self.missing is None:
            self._talk.seek(0)
            lines = [line for line in self._talk.read().splitlines() if line.strip()]
            self.missing = f"its process ended: {lines[-1] if lines else 'no word'}"


@contextlib.contextmanager
def contestants(settings: Sequence[Setting]) -> Iterator[list[Contestant]]:
    """Start a process for each setting, all warm and asleep; end them after use."""
    started: list[Contestant] = []
    try:
        for first in range(0, len(settings), _AT_ONCE):
            some = [Contestant(setting) for setting in settings[first : first + _AT_ONCE]]
            started += some
            for one in some:
                one.imported()
        for number, one in enumerate(started):
            print(f"  warming up {number + 1} of {len(started)}: {one.setting.implementation}", file=sys.stderr, flush=True)
            one.warm_up()
        yield started
    finally:
        for one in started:
            one.dismiss()
        for one in started:
            one.close()


def tournament(settings: Sequence[Setting], scale: Scale) -> list[dict[str, Any]]:
    """Measure settings in turn; return a record for each: its rate (work a second) in every round, or why it is missing."""
    if scale.quick:  # compiling takes longer than all else
        settings = [setting for setting in settings if "compiled" not in setting.implementation]
    with contestants([scale.fitted(setting) for setting in settings]) as all_of_them:
        for number in range(scale.rounds):
            first = number * len(all_of_them) // scale.rounds
            for one in all_of_them[first:] + all_of_them[:first]:
                one.take_turn(scale.seconds)
            print(f"  round {number + 1} of {scale.rounds}", file=sys.stderr, flush=True)
        for one in all_of_them:
            if one.missing is not None:
                print(f"  {one.setting.implementation}: not measured, {one.missing}", file=sys.stderr)
        return [one.record() for one in all_of_them]


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
