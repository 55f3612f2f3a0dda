"""A comparison on the terminal: what is planned, how far it is, and what it came to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.status import Status
from rich.text import Text

from bvae_cli.cli.render import is_watched, say, show_facts, show_json, show_line, show_table
from bvae_cli.paths import readable
from bvae_cli.report.tables import arm_table, effect_table
from bvae_cli.workflows.compare import CompareObserver, ComparisonPlan, RunStart

if TYPE_CHECKING:
    from bvae_cli.comparisons import Comparison
    from bvae_cli.workflows.fit import EpochStats
    from bvae_cli.workflows.ways import Way


def show_plan(plan: ComparisonPlan, way: Way | None, as_json: bool) -> None:
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
        show_json({"arms": arms, **facts, "way": way})
        return
    show_table(list(arms[0]), [list(arm.values()) for arm in arms])
    settings = "; ".join(",".join(f"{key}={value}" for key, value in setting.items()) for setting in plan.settings)
    show_facts(
        [
            ("seeds", ", ".join(map(str, plan.seeds))),
            ("tuning", f"{settings}, with seeds {', '.join(map(str, plan.tuning_seeds))}" if plan.tuned else "none"),
            ("claims", f"{', '.join(plan.claims)}, for {len(plan.pairs)} pairs of arms"),
            ("runs", plan.runs),
            ("way", way or "nothing is left to train"),
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
        show_line(f"  {sentence}")
    for sentence in comparison.cautions:
        show_line(f"  Caution: {sentence}")


@contextmanager
def compare_observer(quiet: bool, verbose: bool) -> Iterator[_Teller]:
    """Return the observer that fits where stderr goes."""
    watched = is_watched() and not verbose and not quiet
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
        self._under_way: dict[int, _UnderWay] = {}
        self._time = _TimeLeft()
        self.folder = Path()

    def on_plan(self, plan: ComparisonPlan) -> None:
        """Say what is compared, and where it goes."""
        self.folder = plan.folder
        self._say(f"arms    {'; '.join(arm.name for arm in plan.arms)}")
        self._say(f"seeds   {len(plan.seeds)} of each arm, {plan.seeds[0]}…{plan.seeds[-1]}")
        for note in plan.notes:
            self._say(f"Note: {note}")
        self._say(f"folder  {plan.folder}")

    def on_way(self, way: Way) -> None:
        """Say it, where more is to be said."""
        if self._verbose:
            self._say(f"way     {way}")

    def on_run(self, start: RunStart) -> None:
        """Remember what begins."""
        self._under_way[start.number] = _UnderWay(start, time.monotonic())

    def on_epoch(self, start: RunStart, stats: EpochStats) -> None:
        """Show the epoch, where somebody watches."""
        run = self._under_way[start.number]
        self._time.note_epoch(run.began)
        run.epochs, run.last = run.epochs + 1, stats
        if self._status is not None:
            self._show(_together(list(self._under_way.values())))
        elif self._verbose:
            self._say(f"{_where(start)}: epoch {stats.epoch}, val_loss {stats.validation_loss:.2f}")

    def on_note(self, sentence: str) -> None:
        """Say it."""
        self._say(f"Note: {sentence}")

    def on_run_done(self, start: RunStart, validation_loss: float | None, trained: bool) -> None:
        """Say that a run is there."""
        run = self._under_way.pop(start.number)
        self._time.note_run(run.epochs, trained)
        loss = "diverged" if validation_loss is None else f"val_loss {validation_loss:.2f}"
        how = f"trained in {_duration(time.monotonic() - run.began)}" if trained else "there already"
        self._say(f"{_where(start)}: {how}, {loss}; {self._left(start)}")

    def on_measured(self, arm: str, seed: int, number: int, total: int) -> None:
        """Show how far measuring is, where somebody watches."""
        if self._status is not None:
            self._show(f"measured {number} of {total}: {arm}, seed {seed}")

    def _left(self, start: RunStart) -> str:
        remaining = start.total - self._time.runs
        if not remaining:
            return "no run is left"
        left = f"{remaining} run{'' if remaining == 1 else 's'} left"
        seconds = self._time.seconds(remaining, [run.epochs for run in self._under_way.values()])
        return left if seconds is None else f"{left}, about {_duration(seconds)}"

    def _show(self, line: str) -> None:
        if self._status is not None:
            self._status.update(Text(readable(line)))  # a text is taken literally, whatever brackets it holds

    def _say(self, line: str) -> None:
        if self._status is not None:
            self._status.console.print(readable(line), markup=False, highlight=False, soft_wrap=True)
        else:
            say(line, self._quiet)


@dataclass
class _UnderWay:
    """A run in training: since when, and how many epochs this command has trained it."""

    start: RunStart
    began: float
    epochs: int = 0
    last: EpochStats | None = None


class _TimeLeft:
    """How long the rest takes at the pace of the epochs until now, of all runs: those trained together share their time."""

    def __init__(self) -> None:
        self.runs = 0
        self._trained = self._epochs_of_trained = self._epochs = 0
        self._began: float | None = None

    def note_epoch(self, began: float) -> None:
        """Count an epoch of a run that began then."""
        self._began = began if self._began is None else self._began
        self._epochs += 1

    def note_run(self, epochs: int, trained: bool) -> None:
        """Count a run that is over, after so many epochs; one that was found tells nothing of the time."""
        self.runs += 1
        if trained:
            self._trained += 1
            self._epochs_of_trained += epochs

    def seconds(self, remaining: int, under_way: list[int]) -> float | None:
        """Return the seconds for so many runs, of which those under way have done these epochs; None where nothing is known.

        A run is taken to last as many epochs as those that are over did on the average.
        """
        if self._began is None or not self._trained or not self._epochs:
            return None
        length = self._epochs_of_trained / self._trained
        left = length * (remaining - len(under_way)) + sum(max(0.0, length - done) for done in under_way)
        return (time.monotonic() - self._began) / self._epochs * left


def _together(runs: list[_UnderWay]) -> str:
    """Say in one line where the runs under way are."""
    if len(runs) == 1 and (last := runs[0].last) is not None:
        return f"{_where(runs[0].start)}: epoch {last.epoch}, val_loss {last.validation_loss:.2f}"
    known = [run.last for run in runs if run.last is not None]
    losses = [stats.validation_loss for stats in known]
    return (
        f"{len(runs)} runs in training, up to epoch {max(stats.epoch for stats in known)}: "
        f"val_loss {min(losses):.2f} … {max(losses):.2f}"
    )


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
