"""Progress of a run: a bar where somebody watches, one plain line an epoch elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bvae_cli.cli.render import is_watched, say
from bvae_cli.workflows.fit import EpochStats
from bvae_cli.workflows.observing import Observer, TrainResult
from bvae_cli.workflows.planning import Plan
from bvae_cli.workflows.train_many import ManyObserver
from bvae_cli.workflows.ways import Way
from bvae_cli.workflows.words import common_lines, epoch_line, plan_lines

# A bar that is told of every step of a small model would cost more than the step.
_SECONDS_BETWEEN_TICKS = 0.1
_WIDTH_OF_BAR = 20
_WIDTH_OF_TIME = len(" 0:00:00")
_LEAST_WIDTH_FOR_A_BAR = 80
# Of loss, KL, beta, validation loss, patience and speed: what a narrow terminal shows rather than the rest.
_FIRST_TO_SHOW = (3, 0, 4, 1, 2, 5)


@contextmanager
def observer_for(epochs: int, patience: int, quiet: bool, verbose: bool) -> Iterator[Observer]:
    """Return the observer that fits where stderr goes."""
    if quiet:
        yield _QuietObserver()
    elif is_watched() and not verbose:
        with _BarObserver(epochs, patience) as observer:
            yield observer
    else:
        yield _LineObserver(epochs, patience, verbose)


def observer_of_seeds(first_seed: int, epochs: int, quiet: bool, verbose: bool) -> SeedsObserver:
    """Return the observer of several seeds: a line for each run that begins, and one an epoch for all of them."""
    return SeedsObserver() if quiet else _SeedsTeller(first_seed, epochs, verbose)


def _introduce(plan: Plan, resumed_epoch: int) -> None:
    for line in plan_lines(plan, resumed_epoch):
        say(line)


class _QuietObserver(Observer):
    """Says nothing; the log of the run has the notes as well."""

    def on_note(self, sentence: str) -> None:
        """Say nothing of it."""


class _LineObserver(Observer):
    """One line an epoch, without control characters."""

    def __init__(self, epochs: int, patience: int, verbose: bool) -> None:
        self._epochs, self._patience, self._verbose = epochs, patience, verbose

    def on_note(self, sentence: str) -> None:
        """Say it."""
        say(f"Note: {sentence}")

    def on_plan(self, plan: Plan, resumed_epoch: int) -> None:
        """Say what is going to be trained."""
        _introduce(plan, resumed_epoch)
        if self._verbose:
            say(f"digest {plan.digest}, {plan.flop_per_image:,} FLOP an image, {plan.steps_per_epoch} steps an epoch")

    def on_epoch(self, stats: EpochStats) -> None:
        """Say how the epoch went."""
        line = epoch_line(stats, self._epochs, self._patience)
        say(f"{line}  tau {stats.temperature:.3f}  lr {stats.lr:.2e}  {stats.seconds:.2f} s" if self._verbose else line)


class SeedsObserver(ManyObserver):
    """Remembers the way in which seeds are trained, and says nothing."""

    way: Way | None = None

    def on_way(self, way: Way) -> None:
        """Remember it."""
        self.way = way


class _SeedsTeller(SeedsObserver):
    """One line an epoch for all seeds that are trained as one; with ``verbose`` one for each seed as well."""

    def __init__(self, first_seed: int, epochs: int, verbose: bool) -> None:
        self._first_seed, self._epochs, self._verbose = first_seed, epochs, verbose
        self._introduced = False
        self._speeds: dict[int, float] = {}  # of those under way, 0 until the first epoch

    def on_way(self, way: Way) -> None:
        """Say it, where more is to be said."""
        super().on_way(way)
        if self._verbose:
            say(f"way {way}")

    def on_result(self, index: int, result: TrainResult) -> None:
        """Count its speed no longer."""
        self._speeds.pop(index, None)

    def on_note(self, index: int, sentence: str) -> None:
        """Say it."""
        say(f"Note: seed {self._first_seed + index}: {sentence}")

    def on_plan(self, index: int, plan: Plan, resumed_epoch: int) -> None:
        """Say once what all have in common, then each one's folder."""
        for line in () if self._introduced else common_lines(plan):
            say(line)
        self._introduced = True
        seed = self._first_seed + index
        self._speeds[index] = 0.0
        say(f"seed {seed}: {plan.folder}{f', going on after epoch {resumed_epoch}' if resumed_epoch else ''}")

    def on_epoch(self, stats: dict[int, EpochStats]) -> None:
        """Say how the epoch went."""
        losses = [one.validation_loss for one in stats.values()]
        self._speeds |= {index: one.images_per_second for index, one in stats.items()}
        some = f"{len(stats)} of {len(self._speeds)}" if len(self._speeds) > len(stats) else str(len(stats))
        which = f"seed {self._first_seed + next(iter(stats))}" if len(stats) == 1 else f"{some} in training"
        losses_of_all = " … ".join(f"{loss:.2f}" for loss in sorted({min(losses), max(losses)}))
        say(
            f"epoch {max(one.epoch for one in stats.values())}/{self._epochs}  {which}  val_loss {losses_of_all}  "
            f"{sum(self._speeds.values()):,.0f} images/s together"
        )
        for index, one in stats.items() if self._verbose else ():
            losses_of_one = f"loss {one.training_loss:.2f}  kl {one.kl:.2f}  val_loss {one.validation_loss:.2f}"
            say(f"  seed {self._first_seed + index}: {losses_of_one}")


class _BarObserver(Observer):
    """A bar over all steps, with the last epoch's figures beside it."""

    def __init__(self, epochs: int, patience: int) -> None:
        self._epochs, self._patience = epochs, patience
        self._ticked = 0.0
        self._done_steps = 0
        console = Console(stderr=True)
        wide = console.width >= _LEAST_WIDTH_FOR_A_BAR
        self._width_of_others = len(f"epoch {epochs}/{epochs} ") + (_WIDTH_OF_BAR + 1) * wide + _WIDTH_OF_TIME
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            *([BarColumn(bar_width=_WIDTH_OF_BAR)] if wide else []),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=4,
        )
        self._task = self._progress.add_task("", total=None, epoch=0, epochs=epochs, figures="")

    def __enter__(self) -> _BarObserver:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def on_note(self, sentence: str) -> None:
        """Say it above the bar."""
        self._progress.stop()
        say(f"Note: {sentence}")
        self._progress.start()

    def on_plan(self, plan: Plan, resumed_epoch: int) -> None:
        """Say what is going to be trained and set the bar's length."""
        self._progress.stop()
        _introduce(plan, resumed_epoch)
        self._progress.start()
        self._done_steps = resumed_epoch * plan.steps_per_epoch
        self._progress.update(
            self._task, total=plan.epochs * plan.steps_per_epoch, completed=self._done_steps, epoch=resumed_epoch + 1
        )

    def on_step(self, step: int, steps: int) -> None:
        """Move the bar, now and then."""
        now = time.monotonic()
        if now - self._ticked > _SECONDS_BETWEEN_TICKS:
            self._ticked = now
            self._progress.update(self._task, completed=self._done_steps + step)
        if step == steps:
            self._done_steps += steps

    def on_epoch(self, stats: EpochStats) -> None:
        """Show the epoch's figures."""
        figures = [
            f"loss {stats.training_loss:.1f}",
            f"kl {stats.kl:.1f}",
            f"beta {stats.beta:.2f}",
            f"val_loss {stats.validation_loss:.2f}",
            f"patience {stats.epochs_without_improvement}/{self._patience}",
            f"{stats.images_per_second:,.0f} img/s",
        ]
        self._progress.update(
            self._task,
            completed=self._done_steps,
            epoch=min(stats.epoch + 1, self._epochs),
            figures=_fitting(figures, self._progress.console.width - self._width_of_others),
        )


def _fitting(figures: Sequence[str], width: int) -> str:
    """Return those of an epoch's figures that fit whole, in the order of ``_FIRST_TO_SHOW``."""
    shown: set[int] = set()
    for index in _FIRST_TO_SHOW:
        if len(" ".join(figures[one] for one in (*shown, index))) > width:
            break
        shown.add(index)
    return " ".join(figures[one] for one in sorted(shown))
