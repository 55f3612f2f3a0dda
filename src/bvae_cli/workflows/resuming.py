"""What an unfinished run's folder says of how to go on with it. Nothing here imports torch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bvae_cli.checkpoints import FORMAT, is_later, later_format
from bvae_cli.config import TrainConfig
from bvae_cli.errors import DivergedError, InputOutputError
from bvae_cli.fields import validated
from bvae_cli.runs import OPTIONS, PREVIOUS_STATE, STATE, Run, find_runs
from bvae_cli.workflows.observing import TrainResult, finished_result

_OF_TRAIN = "`bvae train` with the options that began it goes on from there."


@dataclass(frozen=True)
class Unfinished:
    """An unfinished run: its folder, the options that it was started with, and the folder where that was."""

    folder: Path
    config: TrainConfig
    started_in: Path | None

    @contextlib.contextmanager
    def where_it_was_started(self) -> Iterator[None]:
        """Let relative paths mean what they meant then, where that folder is still there."""
        # Unlike pathlib's, this is False for a word that is too long to be a path.
        if self.started_in is None or not os.path.isdir(self.started_in):  # noqa: PTH112
            yield
            return
        with contextlib.chdir(self.started_in):
            yield


def finished(folder: Path) -> TrainResult:
    """Return how a finished run ended. What a process that was killed at its end has left there is removed."""
    run = Run(folder.absolute())
    if any((run.folder / name).exists() for name in (STATE, PREVIOUS_STATE, OPTIONS)):
        with run.locked((run.config() or {}).get("digest")):
            pass
    return finished_result(run.folder, run.result() or {})


def unfinished(folder: Path, given: Mapping[str, Any] | None = None) -> Unfinished | None:
    """Return what is needed to go on with a run, with the options ``given`` in place of its own; None for a finished one.

    Raises InputOutputError where the folder holds no run, or not what is needed; DivergedError for one that has diverged.
    """
    folder = folder.absolute()
    run = Run(folder)
    state = run.state() if folder.is_dir() else "empty"
    run.require_readable_result()
    if state == "finished":
        return None
    if state == "diverged":
        reason = (run.result() or {}).get("reason", "The run has diverged.")
        raise DivergedError(str(reason), "There is nothing to go on with: train it anew, with a smaller --lr.")
    if state != "unfinished":
        what = f"{folder} holds no run to go on with" if folder.is_dir() else f"There is no folder {folder}"
        raise InputOutputError(f"{what}.", _where_runs_are(folder))
    said = run.options()
    if said is not None and is_later(said):
        raise later_format(folder / OPTIONS, said["format"], FORMAT)
    try:
        assert said is not None
        options, started_in = dict(said["options"]), said["started_in"]
        where = None if started_in is None else Path(started_in)
    except (AssertionError, KeyError, TypeError, ValueError):
        raise InputOutputError(f"{folder / OPTIONS} is missing or damaged.", _OF_TRAIN) from None
    values = {**options, **(given or {}), "output_dir": folder.parent}
    return Unfinished(folder, validated(TrainConfig, values, str(folder / OPTIONS)), where)


def _where_runs_are(folder: Path) -> str:
    there = [run.folder for run in find_runs(folder) if run.state() == "unfinished"] if folder.is_dir() else []
    if there:
        return f"Below it is {there[0]}." if len(there) == 1 else f"Below it are {len(there)}, one of them {there[0]}."
    return "`bvae runs` lists the runs that are there."
