"""What a power cut may leave: the log of one run, replayed as every state of the disk that it allows.

A killed process leaves the page cache behind, so that no kill can show that a sync is missing. The disk of this model keeps

* of a file what was synced; of what was not: nothing, or zeros in its place, or half of it, or all;
* of making, renaming and removing names what was followed by a sync of their folder; of the others, which the system does in
  order, the first so many.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import math
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .commands import Command, Stage, differences, run, snapshot
from .shim import Event, Kind
from .size import Size
from .table import Row
from .trials import Outcome, row_of, sampled, spread

# Files by name; folders have no content.
Tree = dict[str, bytes | None]


class Unsynced(enum.StrEnum):
    """What becomes of data that were not synced."""

    LOST = "lost"
    ZEROS = "zeros"
    HALF = "half"
    ALL = "all there"


@dataclass
class _File:
    """A file whatever its name: what it holds, and what of that is on the disk."""

    content: bytes = b""
    synced: bytes = b""

    def after_cut(self, unsynced: Unsynced) -> bytes:
        """Return what is found in it after a power cut."""
        if unsynced is Unsynced.ALL or self.content == self.synced:
            return self.content
        if unsynced is Unsynced.LOST:
            return self.synced
        kept = self.synced if self.content.startswith(self.synced) else b""
        more = self.content[len(kept) :]
        return kept + (bytes(len(more)) if unsynced is Unsynced.ZEROS else more[: len(more) // 2])


@dataclass
class _Naming:
    """A change of names: the names that go, those that come, and whether its folder was synced afterwards."""

    folder: str
    gone: str | None = None
    come: str | None = None
    file: _File | None = None
    synced: bool = False


@dataclass
class Disk:
    """A disk to which the events of a log happen; names are relative to the folder that was watched."""

    names: dict[str, _File | None] = field(default_factory=dict)
    namings: list[_Naming] = field(default_factory=list)

    def happen(self, event: Event) -> None:
        """Let an event happen."""
        match event.kind:
            case Kind.MKDIR:
                self._name(event.path, None)
            case Kind.CREATE:
                self._name(event.path, _File())
            case Kind.LINK:
                self._name(_target(event), self.names[event.path])
            case Kind.RENAME:
                self._rename(event.path, _target(event))
            case Kind.UNLINK | Kind.RMDIR:
                self.names.pop(event.path, None)
                self.namings.append(_Naming(_folder(event.path), gone=event.path))
            case Kind.WRITE | Kind.TRUNCATE | Kind.FSYNC:
                self._change(event)
            case Kind.FSYNC_FOLDER:
                for naming in self.namings:
                    naming.synced |= naming.folder == event.path

    def _name(self, name: str, file: _File | None) -> None:
        self.names[name] = file
        self.namings.append(_Naming(_folder(name), come=name, file=file))

    def _rename(self, old: str, new: str) -> None:
        below = [name for name in self.names if name.startswith(old + "/")]
        for name in [old, *below]:
            moved = self.names[new + name[len(old) :]] = self.names.pop(name)
            self.namings.append(_Naming(_folder(new), gone=name, come=new + name[len(old) :], file=moved))

    def _change(self, event: Event) -> None:
        file = self.names.get(event.path)
        if file is None:  # it has no name any more
            return
        if event.kind is Kind.FSYNC:
            file.synced = file.content
        elif event.kind is Kind.TRUNCATE:
            file.content = file.content[: event.offset].ljust(event.offset, b"\0")
        else:
            before = file.content[: event.offset].ljust(event.offset, b"\0")
            file.content = before + event.data + file.content[event.offset + len(event.data) :]

    def after_cut(self) -> Iterator[tuple[str, Tree]]:
        """Go through what a power cut may leave now, each with words for it."""
        pending = sum(not naming.synced for naming in self.namings)
        for done in range(pending + 1):
            found = self._named(done)
            for unsynced in Unsynced:
                tree = {name: file and file.after_cut(unsynced) for name, file in found.items()}
                yield f"{done} of {pending} unsynced names, unsynced data {unsynced}", tree

    def _named(self, done: int) -> dict[str, _File | None]:
        names: dict[str, _File | None] = {}
        for naming in self.namings:
            if not naming.synced:
                if not done:
                    continue
                done -= 1
            if naming.gone is not None:
                names.pop(naming.gone, None)
            if naming.come is not None:
                names[naming.come] = naming.file
        return {name: file for name, file in names.items() if _reachable(name, names)}


def _target(event: Event) -> str:
    if event.target is None:
        raise ValueError(f"event {event.number} leads out of the folder that is watched")
    return event.target


def _folder(name: str) -> str:
    return posixpath.dirname(name) or "."


def _reachable(name: str, names: dict[str, _File | None]) -> bool:
    parent = _folder(name)
    return parent == "." or (parent in names and _reachable(parent, names))


@dataclass
class Cut:
    """What a power cut may leave, how it comes about, and how many events had happened at the latest such moment."""

    tree: Tree
    words: str
    events: int

    def build(self, place: Path) -> None:
        """Make the files and folders in an empty place."""
        for name, content in sorted(self.tree.items()):
            if content is None:
                (place / name).mkdir(parents=True, exist_ok=True)
            else:
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_bytes(content)


def cuts_of(log: Sequence[Event]) -> list[Cut]:
    """Return everything distinct that a power cut may leave at any moment of a log."""
    disk = Disk()
    found: dict[str, Cut] = {}
    for events in range(len(log) + 1):
        if events:
            disk.happen(log[events - 1])
        for words, tree in disk.after_cut():
            found[_digest(tree)] = Cut(tree, f"cut after event {events} of {len(log)}, {words}", events)
    return list(found.values())


def _digest(tree: Tree) -> str:
    digest = hashlib.sha256()
    for name, content in sorted(tree.items()):
        digest.update(f"{name}\0{-1 if content is None else len(content)}\0".encode() + (content or b""))
    return digest.hexdigest()


def rows(stage: Stage, size: Size) -> list[Row]:
    """Return the row of power cuts in a training: a sample of all states first, then others as long as there is time."""
    end = size.end()
    return [few(stage, size.of(300, 24), size.jobs, 0.0 if size.short else end)]


def few(stage: Stage, count: int, jobs: int = 1, end: float = 0.0) -> Row:
    """Cut the power of a training so often, and then at other moments until ``end`` (of the monotonic clock)."""
    command = stage.train("train by the Python API", api=True)
    cuts = cuts_of(stage.reference(command).log)
    chosen = sampled(cuts, count)
    ours = {id(cut) for cut in chosen}
    try_one = functools.partial(_gone_on, stage, command)
    outcomes = spread(chosen, try_one, jobs, math.inf)
    outcomes += spread([cut for cut in cuts if id(cut) not in ours], try_one, jobs, end)
    return row_of("power cut: train", outcomes, f"of {len(cuts)} distinct states of the disk")


def _gone_on(stage: Stage, command: Command, cut: Cut) -> Outcome:
    outcome = Outcome(cut.words)
    reference = stage.reference(command)
    with stage.workplace(command) as place:
        cut.build(place)
        ended = run(command, place)
        outcome.saw(ended)
        if ended.code:
            outcome.amiss(f"the command ends with exit code {ended.code}: {ended.err.strip()[-300:]}")
        outcome.compare(differences(reference.left, snapshot(place)))
        taken = ended.value[2] if ended.value else 0
        kept = reference.kept_steps(cut.events, power=True)
        if reference.steps - taken < kept:
            outcome.amiss(f"goes on after step {reference.steps - taken}, though {kept} were saved", lost=True)
    return outcome
