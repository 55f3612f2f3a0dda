"""Builds that are broken on purpose: what the harness must catch, and with which part it does.

This process becomes the build, and so do those that are forked from it; a process that is started anew is as it is.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import torch

from bvae_cli import checkpoints, files, runs, torch_files
from bvae_cli.workflows.fit import Fit
from bvae_cli.workflows.recording import Found, Recording

from . import calls, copies, damage, kills, power, signals
from .commands import Stage, import_everything, staged
from .table import Row, table_of
from .trials import forked

_SECONDS = 300.0


# Enough trials of a part to see what is broken, and few enough for a test.
_FEW: Mapping[str, Callable[[Stage], Row]] = {
    "kills": lambda stage: kills.few(stage, 5),
    "power": lambda stage: power.few(stage, 16),
    "damage": lambda stage: damage.few(stage, 2),
    "calls": lambda stage: calls.few(stage, 8),
    "copies": lambda stage: copies.few(stage, 6),
    "signals": lambda stage: signals.few(stage, 1),
}


@dataclass(frozen=True)
class Broken:
    """What is wrong with a build, the part that catches it, and how this process becomes that build for good."""

    fault: str
    part: str
    build: Callable[[], None]

    def caught(self) -> Row:
        """Return the row of a few trials of that build, made in a child of this process."""

        def work() -> tuple[int, Row]:
            self.build()
            return 0, _tried(self.part)

        return _in_a_child(work)


def as_it_is() -> dict[str, Row]:
    """Return the rows of the same few trials of the build as it is, by part: they must not fail."""
    return {part: _in_a_child(lambda part=part: (0, _tried(part))) for part in _FEW}


def _tried(part: str) -> Row:
    with staged() as stage:
        return _FEW[part](stage)


def _in_a_child(work: Callable[[], tuple[int, Row]]) -> Row:
    ended = forked(work, _SECONDS)
    if ended.code:
        raise RuntimeError(ended.err)
    row: Row = ended.value
    return row


def _rename_before_fsync() -> None:
    @contextlib.contextmanager
    def beside(path: Path, previous: Path | None = None) -> Iterator[BinaryIO]:
        temporary = files.temporary_beside(path)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            if previous is not None and path.exists():
                path.replace(previous)
            temporary.replace(path)
            files.sync_folder(path.parent)
            os.fsync(file.fileno())

    _patch(files, "_beside", beside)


def _folder_not_synced() -> None:
    _patch(files, "sync_folder", lambda folder: None)
    _patch(runs, "sync_folder", lambda folder: None)


def _written_in_place() -> None:
    @contextlib.contextmanager
    def beside(path: Path, previous: Path | None = None) -> Iterator[BinaryIO]:
        if previous is not None and path.exists():
            path.replace(previous)
        with path.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        files.sync_folder(path.parent)

    _patch(files, "_beside", beside)


def _digest_not_checked() -> None:
    def read_state(path: Path) -> dict[str, Any]:
        _, content = checkpoints._line_and_rest(path)
        try:
            state = torch_files.read_tensors(content)
        except torch_files.UnreadableError as error:
            raise checkpoints.DamagedStateError(path) from error
        return dict(state)

    _patch(runs, "read_state", read_state)


def _generator_not_saved() -> None:
    real = Fit.state_dict

    def state_dict(fit: Fit) -> dict[str, Any]:
        fresh = torch.Generator(fit.device).manual_seed(0).get_state()
        return {name: fresh if name == "generator" else value for name, value in real(fit).items()}

    _patch(Fit, "state_dict", state_dict)


def _record_not_cut_back() -> None:
    _patch(runs.Run, "cut_record", lambda run, epochs: None)


def _record_taken_as_found() -> None:
    real = runs.Run.go_on

    def go_on(run: runs.Run, path: Path, state: Mapping[str, Any]) -> None:
        metrics = run.folder / runs.METRICS
        found = metrics.read_text() if metrics.exists() else ""
        real(run, path, {**state, "metrics": found})

    _patch(runs.Run, "go_on", go_on)


def _best_weights_taken_as_found() -> None:
    real = Recording._begin

    def begin(recording: Recording, found: Found) -> None:
        real(recording, found)
        recording._best_saved = recording._fit.best_epoch or None

    _patch(Recording, "_begin", begin)


def _warning_not_heard() -> None:
    signals.BEFORE_IT_BEGINS.append(
        "from bvae_cli.stopping import Requests; assert Requests.asked_to_save; Requests.asked_to_save = lambda asked: False"
    )


def _patch(place: Any, name: str, value: Any) -> None:
    if not hasattr(place, name):
        raise AttributeError(f"there is no {name} to break in {place}")
    setattr(place, name, value)


BROKEN: Mapping[str, Broken] = {
    "rename-before-fsync": Broken("a file has its name before its content is on the disk", "power", _rename_before_fsync),
    "folder-not-synced": Broken("a rename is not waited for", "power", _folder_not_synced),
    "written-in-place": Broken("a file is written under its final name", "kills", _written_in_place),
    "digest-not-checked": Broken("a state is taken as it is found", "damage", _digest_not_checked),
    "generator-not-saved": Broken("noise begins anew when a run goes on", "kills", _generator_not_saved),
    "record-not-cut-back": Broken("a run that goes on appends to what is there", "kills", _record_not_cut_back),
    "record-taken-as-found": Broken("a run goes on with the metrics of its folder", "copies", _record_taken_as_found),
    "weights-taken-as-found": Broken("best weights are not written again", "copies", _best_weights_taken_as_found),
    "warning-not-heard": Broken("SIGUSR1 is taken and forgotten", "signals", _warning_not_heard),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Say what a few trials find in the build as it is and in every broken one; return 1 where one is not caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.broken", description=__doc__)
    parser.add_argument("--json", action="store_true", help="the rows by name, as one JSON object")
    given = parser.parse_args(arguments)
    import_everything()
    sound = as_it_is()
    caught = {name: broken.caught() for name, broken in BROKEN.items()}
    if given.json:
        rows = {name: {**asdict(row), "failed": row.failed} for name, row in (sound | caught).items()}
        sys.stdout.write(json.dumps(rows) + "\n")
    else:
        rows_of_all = [replace(row, name=f"{name}: {row.name}") for name, row in (sound | caught).items()]
        sys.stdout.write(table_of(rows_of_all))
    return int(any(row.failed for row in sound.values()) or not all(row.failed for row in caught.values()))


if __name__ == "__main__":
    sys.exit(main())
