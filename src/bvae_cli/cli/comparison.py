"""A comparison on the terminal: what is planned, how far it is, and what it came to."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.status import Status

from bvae_cli.cli.render import say, show_facts, show_json, show_table
from bvae_cli.report.tables import arm_table, effect_table
from bvae_cli.workflows.compare import CompareObserver, ComparisonPlan, RunStart

if TYPE_CHECKING:
    from bvae_cli.comparisons import Comparison
    from bvae_cli.workflows.fit import EpochStats


def show_plan(plan: ComparisonPlan, as_json: bool) -> None:
    """Print what would be done."""
    arms = [
        {"name": arm.name, "code": arm.config.ecc.shown(), **arm.config.sizes._asdict(), "note": arm.note}
        for arm in plan.arms
    ]
    facts = {
        "folder": str(plan.folder),
        "seeds": plan.seeds,
        "tuning_seeds": plan.tuning_seeds,
        "settings": plan.settings if plan.tuned else [],
        "claims": plan.claims,
        "runs": plan.runs,
    }
    if as_json:
        show_json({"arms": arms, **facts})
        return
    show_table(list(arms[0]), [list(arm.values()) for arm in arms])
    settings = "; ".join(",".join(f"{key}={value}" for key, value in setting.items()) for setting in plan.settings)
    show_facts(
        [
            ("seeds", ", ".join(map(str, plan.seeds))),
            ("tuning", f"{settings}, with seeds {', '.join(map(str, plan.tuning_seeds))}" if plan.tuned else "none"),
            ("claims", f"{', '.join(plan.claims)}, for {len(plan.pairs)} pairs of arms"),
            ("runs", plan.runs),
            ("folder", plan.folder),
        ]
    )


def show_comparison(comparison: Comparison) -> None:
    """Print the arms, the claims and the verdict."""
    arms = arm_table(comparison)
    show_table(arms.columns, arms.rows, arms.title)
    effects = effect_table(comparison, claims_only=True)
    show_table(effects.columns, effects.rows, effects.title)
    print("Verdict")
    for sentence in comparison.verdict:
        print(f"  {sentence}")
    for sentence in comparison.cautions:
        print(f"  Caution: {sentence}")


@contextmanager
def compare_observer(quiet: bool, verbose: bool) -> Iterator[_Teller]:
    """Return the observer that fits where stderr goes."""
    watched = sys.stderr.isatty() and not verbose and not quiet
    status = Console(stderr=True).status("") if watched else None
    if status is None:
        yield _Teller(None, quiet, verbose)
        return
    with status:
        yield _Teller(status, quiet, verbose)


class _Teller(CompareObserver):
    """One line an arm and seed, with the time left for the whole; on a terminal also the epoch under way."""

    def __init__(self, status: Status | None, quiet: bool, verbose: bool) -> None:
        self._status, self._quiet, self._verbose = status, quiet, verbose
        self._run: RunStart | None = None
        self._began = self._phase = time.monotonic()
        self._costs: list[float] = []
        self.folder = Path()

    def on_plan(self, plan: ComparisonPlan) -> None:
        """Say what is compared, and where it goes."""
        self.folder = plan.folder
        self._say(f"arms    {'; '.join(arm.name for arm in plan.arms)}")
        self._say(f"seeds   {len(plan.seeds)} of each arm, {plan.seeds[0]}…{plan.seeds[-1]}")
        for note in plan.notes:
            self._say(f"Note: {note}")
        self._say(f"folder  {plan.folder}")

    def on_run(self, start: RunStart) -> None:
        """Remember what begins."""
        self._run, self._began = start, time.monotonic()

    def on_epoch(self, stats: EpochStats) -> None:
        """Show the epoch, where somebody watches."""
        if self._run is None:
            return
        line = f"{_where(self._run)}: epoch {stats.epoch}, val_loss {stats.validation_loss:.2f}"
        if self._status is not None:
            self._status.update(line)
        elif self._verbose:
            self._say(line)

    def on_note(self, sentence: str) -> None:
        """Say it."""
        self._say(f"Note: {sentence}")

    def on_run_done(self, start: RunStart, validation_loss: float | None, trained: bool) -> None:
        """Say that a run is there."""
        seconds = time.monotonic() - self._began
        if trained:
            self._costs.append(seconds)
        loss = "diverged" if validation_loss is None else f"val_loss {validation_loss:.2f}"
        how = f"trained in {_duration(seconds)}" if trained else "there already"
        self._say(f"{_where(start)}: {how}, {loss}; {self._left(start)}")

    def on_measured(self, arm: str, seed: int, number: int, total: int) -> None:
        """Show how far measuring is, where somebody watches."""
        if self._status is not None:
            self._status.update(f"measured {number} of {total}: {arm}, seed {seed}")

    def _left(self, start: RunStart) -> str:
        remaining = start.total - start.number
        if not remaining:
            return "no run is left"
        left = f"{remaining} run{'' if remaining == 1 else 's'} left"
        if not self._costs:
            return left
        mean = sum(self._costs) / len(self._costs)
        return f"{left}, about {_duration(mean * remaining)}"

    def _say(self, line: str) -> None:
        if self._status is not None:
            self._status.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            say(line, self._quiet)


def _where(start: RunStart) -> str:
    return f"[{start.number}/{start.total}] {start.arm}, seed {start.seed}, {start.purpose}"


def _duration(seconds: float) -> str:
    """Show a duration.

    >>> _duration(4000)
    '1 h 7 min'
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
