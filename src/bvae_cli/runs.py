"""A run's folder: the only place that reads and writes one.

Whole files are written beside their name, synced and renamed, so that a name never stands for half a file.
"""

from __future__ import annotations

import codecs
import contextlib
import functools
import hashlib
import itertools
import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bvae_cli.checkpoints import FORMAT as FORMAT
from bvae_cli.checkpoints import Checkpoint, DamagedStateError, read_state, read_weights, state_bytes, weights_bytes
from bvae_cli.config import Sizes
from bvae_cli.errors import InputOutputError, UsageError, cannot_be_read
from bvae_cli.files import (
    append,
    describe_os_error,
    is_leftover,
    json_bytes,
    make_folder,
    remove_leftovers,
    require_no_link,
    sync,
    sync_folder,
    write_atomically,
    writing,
)
from bvae_cli.locks import LOCK, HeldError, Lock, is_stale, read_holder
from bvae_cli.sources import DocumentError, open_file, parsed_json, read_json, read_text

if TYPE_CHECKING:
    import torch

WEIGHTS = "bvae_best_model_with.pt"
# The names that exported weights have in their folder.
EXPORTED_WEIGHTS = {"safetensors": "model.safetensors", "torch": "model.pt"}
LOSS_RECORD = "loss_record_with.txt"
CONFIG = "config.json"
LOG = "training_log.txt"
METRICS = "metrics.jsonl"
RESULT = "result.json"
STATE = "last.pt"
PREVIOUS_STATE = "previous.pt"
OPTIONS = "options.json"
EPOCHS_FOLDER = "epochs"
_DAMAGED = "damaged"
# What a result says of weights and record: the sha256 of each.
_FILES = "files"
_METRICS_UNTIL_THEN, _LOG_LENGTH, _CONFIG = "metrics", "log_length", "config"
_LONGEST_VALUE = 60

RECORD_COLUMNS = ("training_loss", "validation_loss", "kl", "beta", "temperature", "lr")
_RECORD_HEADER = f"# {' '.join(RECORD_COLUMNS)}"

RunState = Literal["finished", "unfinished", "diverged", "damaged", "set aside", "empty"]


def folder_name(sizes: Sizes, beta_max: float, lr: float, code: str, options: Mapping[str, object]) -> str:
    """Name a run's folder by its sizes, β, learning rate and code, as users of this method know it.

    ``options`` are those that tell the code from others of its family.

    >>> folder_name(Sizes(200, 300, 2), 1.0, 0.001, "repetition", {"R": 3})
    'hidden_size_200_latent_size_300_depth_2_beta_1.0_lr_0.001_ecc_repetition_R_3'
    """
    name = f"hidden_size_{sizes.hidden}_latent_size_{sizes.latent}_depth_{sizes.depth}_beta_{beta_max}_lr_{lr}"
    if code != "none":
        name += f"_ecc_{code}" + "".join(f"_{key}_{_short(value)}" for key, value in options.items())
    return "".join(character if character.isalnum() or character in "._-+" else "-" for character in name)


def _short(value: object) -> str:
    """Return a value for a folder's name; of a long one, as a matrix, only what tells it from others."""
    text = str(value)
    return text if len(text) <= _LONGEST_VALUE else hashlib.sha256(text.encode()).hexdigest()[:8]


class Run:
    """One run's folder. ``open_run`` chooses it; the workflow of training writes to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: Lock | None = None
        # What the metrics hold of the epochs until now. A state repeats it, so that it is no matter what the files hold.
        self._metrics: list[str] = []
        self._config: dict[str, Any] = {}

    @property
    def weights(self) -> Path:
        """Where the best weights are."""
        return self.folder / WEIGHTS

    def config(self) -> dict[str, Any] | None:
        """Return what decided the run, or None where the folder holds no run.

        A state repeats it, for a run that goes on though its configuration is lost or damaged.
        """
        return read_json(self.folder / CONFIG) or self._repeated_config()

    def _repeated_config(self) -> dict[str, Any] | None:
        with contextlib.suppress(InputOutputError):
            for _, state in self.saved_states():
                if state is not None and (config := _config_of(state)):
                    return config
        return None

    def result(self) -> dict[str, Any] | None:
        """Return how the run ended, or None while it has not."""
        return read_json(self.folder / RESULT)

    def options(self) -> dict[str, Any] | None:
        """Return what an unfinished run was started with last, or None: its ``options``, and the folder ``started_in``."""
        return read_json(self.folder / OPTIONS)

    def require_readable_result(self) -> None:
        """Raise InputOutputError where it is written how the run ended, and cannot be read any more."""
        if self.state() == "damaged":
            readable = self.result() is not None
            what = "tells of other weights or another record than are beside it" if readable else "is damaged"
            raise InputOutputError(
                f"{self.folder / RESULT} {what}: it cannot be told whether the run is finished.",
                "Its weights and record are untouched. Restore it; or delete it, and the run is set aside and trained anew.",
            )

    def state(self) -> RunState:
        """Say whether the run is finished, diverged, unfinished, or not there.

        ``damaged`` is one of which it cannot be read how it ended, or whose result tells of other files than are there, as
        where a backup has put some of them back; ``set aside`` what ``set_aside`` has kept of one. With a state to go on
        from, a run is unfinished whatever a result says of other files.
        """
        result = self.result()
        if self.folder.name.startswith(f"{_DAMAGED}_") and (self.folder.parent / CONFIG).exists():
            return "set aside"
        if result is None and (self.folder / RESULT).exists():
            return "damaged"
        if result is not None and self._is_of_others(result):
            return "unfinished" if (self.folder / STATE).exists() else "damaged"
        if result is not None:
            return "diverged" if result.get("state") == "diverged" else "finished"
        return "empty" if self.config() is None else "unfinished"

    def _is_of_others(self, result: Mapping[str, Any]) -> bool:
        """Say whether a result tells of other files than those that are there; the first results told of none."""
        told = result.get(_FILES)
        return isinstance(told, dict) and any(told.get(name, there) != there for name, there in self._digests().items())

    def _digests(self) -> dict[str, str]:
        paths = [self.folder / name for name in (WEIGHTS, LOSS_RECORD)]
        return {path.name: _digest(path, path.stat().st_mtime_ns, path.stat().st_size) for path in paths if path.is_file()}

    def start(self, config: Mapping[str, Any]) -> None:
        """Begin a run: an empty record under the configuration's name."""
        with self._writing():
            make_folder(self.folder)
            for stale in (RESULT, STATE, PREVIOUS_STATE, OPTIONS, WEIGHTS, METRICS, LOG):
                (self.folder / stale).unlink(missing_ok=True)
            shutil.rmtree(self.folder / EPOCHS_FOLDER, ignore_errors=True)
            # A result that came back after a power cut would call the new run finished.
            sync_folder(self.folder)
            write_atomically(self.folder / CONFIG, json_bytes(config))
            write_atomically(self.folder / LOSS_RECORD, f"{_RECORD_HEADER}\n".encode())
        self._metrics, self._config = [], dict(config)

    def save_options(self, options: Mapping[str, Any]) -> None:
        """Keep the options that the run is started with, so that it can go on by the name of its folder."""
        with self._writing():
            said = {"format": FORMAT, "options": dict(options), "started_in": _working_folder()}
            write_atomically(self.folder / OPTIONS, json_bytes(said))

    def record(self, row: Mapping[str, Any]) -> None:
        """Append an epoch to the loss record and to the metrics; ``row`` has the record's columns and more."""
        line = json.dumps(row) + "\n"
        self._metrics.append(line)
        with self._writing():
            append(self.folder / LOSS_RECORD, _record_line(row))
            append(self.folder / METRICS, line)

    def cut_record(self, epochs: int) -> None:
        """Forget what the record and the metrics say after so many epochs: the run goes on from there."""
        self._metrics = self._metrics[:epochs]
        lines = [_record_line(json.loads(line)) for line in self._metrics]
        with self._writing():
            write_atomically(self.folder / LOSS_RECORD, f"{_RECORD_HEADER}\n{''.join(lines)}".encode())
            write_atomically(self.folder / METRICS, "".join(self._metrics).encode())

    def recorded_epochs(self) -> int:
        """Return how many epochs the record holds."""
        try:
            return max(0, len(read_text(self.folder / LOSS_RECORD).splitlines()) - 1)
        except (OSError, ValueError):
            return 0

    def log(self, line: str) -> None:
        """Append a line to the training log."""
        with self._writing():
            append(self.folder / LOG, line + "\n")

    def save_weights(self, config: Mapping[str, Any], weights: Mapping[str, torch.Tensor], epoch: int | None = None) -> None:
        """Write the best weights, or with ``epoch`` those of one epoch."""
        path = self.weights if epoch is None else self.folder / EPOCHS_FOLDER / f"epoch_{epoch:04d}.pt"
        with self._writing():
            require_no_link(self.folder, path)
            # Only ``start`` makes the run's own folder: one that vanished with all that was in it must not come half back.
            if epoch is not None and not path.parent.exists():
                path.parent.mkdir()
                sync_folder(self.folder)
            write_atomically(path, weights_bytes(config, weights))

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write the state to resume from, with the record until then; the state before it is kept beside it."""
        log = self.folder / LOG
        with self._writing():
            # The state says that these are there.
            sync(self.folder / LOSS_RECORD, self.folder / METRICS, log)
            length = log.stat().st_size if log.exists() else 0
            whole = {
                **state,
                _METRICS_UNTIL_THEN: "".join(self._metrics),
                _LOG_LENGTH: length,
                _CONFIG: json.dumps(self._config),
            }
            write_atomically(self.folder / STATE, state_bytes(whole), self.folder / PREVIOUS_STATE)

    def saved_states(self) -> Iterator[tuple[Path, dict[str, Any] | None]]:
        """Return the states to resume from that are there, the last one first; None for a damaged or another run's one.

        Raises InputOutputError where the system does not let one be read, or a later version wrote it.
        """
        mine = (read_json(self.folder / CONFIG) or {}).get("digest")
        for path in (self.folder / STATE, self.folder / PREVIOUS_STATE):
            try:
                state = read_state(path)
                _metrics_of(state)
                whose = (_config_of(state) or {}).get("digest")
                yield path, state if None in (mine, whose) or mine == whose else None
            except FileNotFoundError:
                continue
            except DamagedStateError:
                yield path, None

    def go_on(self, path: Path, state: Mapping[str, Any]) -> None:
        """Take up a run at one of its ``saved_states``: configuration, record, metrics and log become what it says."""
        self._metrics = _metrics_of(state)
        self._config = _config_of(state) or self.config() or {}  # the first states did not hold it
        log, length = self.folder / LOG, state[_LOG_LENGTH]
        with self._writing():
            if path.name != STATE:  # what came after it is damaged, or not there
                path.replace(self.folder / STATE)
            if read_json(self.folder / CONFIG) != self._config:
                write_atomically(self.folder / CONFIG, json_bytes(self._config))
            if log.exists() and log.stat().st_size > length:
                write_atomically(log, log.read_bytes()[:length])
        self.cut_record(len(self._metrics))

    def set_aside(self) -> Path:
        """Move everything that the run has made into a folder within its own, and return it: nothing is overwritten."""
        with self._writing():
            numbers = (number for number in itertools.count(1) if not (self.folder / f"{_DAMAGED}_{number}").exists())
            place = self.folder / f"{_DAMAGED}_{next(numbers)}"
            place.mkdir()
            for name in (WEIGHTS, LOSS_RECORD, LOG, METRICS, RESULT, EPOCHS_FOLDER, STATE, PREVIOUS_STATE, OPTIONS):
                if (self.folder / name).exists():
                    (self.folder / name).rename(place / name)
            # The folder keeps a configuration all the while: it says whose it is.
            if (self.folder / CONFIG).exists():
                write_atomically(place / CONFIG, (self.folder / CONFIG).read_bytes())
            sync_folder(self.folder)
        return place

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write how the run ended; a finished run needs no state to resume from."""
        # Whatever the files hold by now: another process may have written to them.
        self.cut_record(len(self._metrics))
        with self._writing():
            sync(self.folder / LOSS_RECORD, self.folder / METRICS, self.folder / LOG)
            write_atomically(self.folder / RESULT, json_bytes({**result, _FILES: self._digests()}))
            self._remove_states()

    @contextlib.contextmanager
    def locked(self, digest: str | None = None) -> Iterator[None]:
        """Hold the folder against a second process on it; ``digest`` tells others whose run it is for.

        Raises HeldError, naming the holder, where another process has it.
        """
        with Lock(self.folder, digest) as self._lock:
            self._tidy()
            try:
                yield
            finally:
                self._lock = None

    def _tidy(self) -> None:
        """Remove what a process that was killed has left."""
        with self._writing():
            remove_leftovers(self.folder / EPOCHS_FOLDER, alone=True)
            if self.state() in ("finished", "diverged"):
                self._remove_states()

    def _remove_states(self) -> None:
        for done in (STATE, PREVIOUS_STATE, OPTIONS):
            (self.folder / done).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        if self._lock is not None:
            self._lock.require_mine()
        with writing(self.folder):
            yield


@functools.lru_cache(maxsize=256)
def _digest(path: Path, changed: int, size: int) -> str:
    """Return the sha256 of a file that was changed last at this time; a list of runs asks more than once.

    A text is the same with the mark and the ends of lines that Windows gives it.
    """
    with open_file(path) as file:
        content = file.read()
    if path.suffix == ".txt":
        content = content.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
    return hashlib.sha256(content).hexdigest()


def _working_folder() -> str | None:
    try:
        return str(Path.cwd())
    except OSError:  # it was removed
        return None


def _record_line(row: Mapping[str, Any]) -> str:
    return " ".join(f"{row[column]:.9g}" for column in RECORD_COLUMNS) + "\n"


def _metrics_of(state: Mapping[str, Any]) -> list[str]:
    """Return the lines of the metrics that a state repeats. Raises DamagedStateError where they are no such lines."""
    try:
        lines: list[str] = state[_METRICS_UNTIL_THEN].splitlines(keepends=True)
        for line in lines:
            _record_line(json.loads(line))
        if not isinstance(state[_LOG_LENGTH], int):
            raise DamagedStateError
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DamagedStateError from error
    return lines


def _config_of(state: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the configuration that a state repeats, None where it does not."""
    text = state.get(_CONFIG)
    try:
        config = parsed_json(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return config if isinstance(config, dict) else None


def open_run(output_dir: Path, name: str, digest: str) -> Run:
    """Choose the folder of a run: ``name``, or with 8 digits of the digest where that holds something else.

    Raises UsageError where ``output_dir`` is itself the folder of a run.
    """
    try:
        holds_run = (output_dir / CONFIG).exists() and (output_dir / LOSS_RECORD).exists()
    except OSError as error:  # it may not be looked into, or its name is too long
        raise describe_os_error(error, output_dir) from None
    if holds_run:
        raise UsageError(
            f"{output_dir} holds a run; runs do not go into one another.", f"Use --output-dir {output_dir.parent}."
        )
    if output_dir.exists() and not output_dir.is_dir():
        raise InputOutputError(f"{output_dir} is not a folder.", "Name another with --output-dir.")
    plain = output_dir / name
    if not plain.exists() or _holds(plain, digest) or (_only_lock(plain) and not _held_for_another(plain, digest)):
        return Run(plain)
    return Run(output_dir / f"{name}_{digest[:8]}")


@contextlib.contextmanager
def held_run(output_dir: Path, name: str, digest: str) -> Iterator[Run]:
    """Choose the folder of a run as ``open_run`` does, and hold it.

    Another run may take the folder between the choice and the lock: then this one gets the folder with its own digits.
    Raises HeldError where this very run is in another process's hands.
    """
    with contextlib.ExitStack() as stack:
        run, mine = open_run(output_dir, name, digest), True
        try:
            stack.enter_context(run.locked(digest))
        except HeldError as error:
            if error.digest in (None, digest):
                raise
            mine = False
        if not mine or open_run(output_dir, name, digest).folder != run.folder:
            stack.close()
            run = Run(output_dir / f"{name}_{digest[:8]}")
            stack.enter_context(run.locked(digest))
        yield run


def find_runs(folder: Path) -> list[Run]:
    """Return every run in a folder and below it, by name. Raises InputOutputError where there is no such folder."""
    if not folder.is_dir():
        what = f"{folder} is a file, not a folder" if folder.exists() else f"There is no folder {folder}"
        raise InputOutputError(f"{what}.", "Name the folder that `bvae train` wrote to.")
    try:
        next(folder.iterdir(), None)  # below, what may not be looked into is passed over
    except OSError as error:
        raise cannot_be_read(folder, error) from None
    folders = sorted(path.parent for path in folder.rglob(LOSS_RECORD))
    return [Run(place) for place in folders if (place / CONFIG).exists() or (place / STATE).exists()]


def namesakes(folder: Path) -> list[Path]:
    """Return the folders beside one whose runs differ in the digits of their digest alone, and that hold weights."""
    named = re.compile(re.escape(folder.name) + "_[0-9a-f]{8}")
    beside = sorted(folder.parent.iterdir()) if folder.parent.is_dir() else []
    return [path for path in beside if named.fullmatch(path.name) and (path / WEIGHTS).is_file()]


def weights_file(path: Path) -> Path:
    """Return the weights that a path names: itself, or those of a run's folder or of one that was exported.

    Raises InputOutputError where they are not there.
    """
    names = (WEIGHTS, *EXPORTED_WEIGHTS.values()) if path.is_dir() else ()
    found = next((path / name for name in names if (path / name).is_file()), path)
    if not found.is_file():
        what = f"{path} holds no {WEIGHTS}" if path.is_dir() else f"There is no file {path}"
        raise InputOutputError(f"{what}.", "`bvae runs` lists the runs that are there.")
    return found


def holds_weights(path: Path) -> bool:
    """Say whether a path names a folder that holds weights, or a file that is named as weights are."""
    names = (WEIGHTS, *EXPORTED_WEIGHTS.values())
    return any((path / name).is_file() for name in names) or (
        path.is_file() and path.suffix in {Path(name).suffix for name in names}
    )


def load_checkpoint(path: Path) -> Checkpoint:
    """Read weights that ``save_weights`` wrote: a file, or a run's folder's. Nothing in the file is ever executed.

    Raises InputOutputError for a missing, damaged or foreign file.
    """
    return read_weights(weights_file(path))


def read_record(folder: Path) -> dict[str, list[float]]:
    """Return the loss record by column. Raises InputOutputError where it is missing or not one."""
    path = folder / LOSS_RECORD
    try:
        first, *lines = read_text(path).splitlines() or [""]
    except (FileNotFoundError, NotADirectoryError):
        raise InputOutputError(f"{folder} holds no {LOSS_RECORD}.", "`bvae runs` lists the runs that are there.") from None
    except OSError as error:
        raise cannot_be_read(path, error) from None
    except DocumentError as error:
        raise _no_record(path, str(error)) from None
    if first != _RECORD_HEADER:
        raise _no_record(path, "its first line does not name the columns")
    try:
        rows = [[float(cell) for cell in line.split()] for line in lines]
    except ValueError:
        rows = [[]]
    if any(len(row) != len(RECORD_COLUMNS) or not all(map(math.isfinite, row)) for row in rows):
        raise _no_record(path, f"its rows do not hold {len(RECORD_COLUMNS)} numbers")
    return {name: [row[index] for row in rows] for index, name in enumerate(RECORD_COLUMNS)}


def _no_record(path: Path, why: str) -> InputOutputError:
    return InputOutputError(f"{path} is not a loss record: {why}.", "Train again with --overwrite, or restore the file.")


def training_seconds(folder: Path) -> float | None:
    """Return the seconds that the epochs of a run took, over all its interruptions; None where nobody wrote them."""
    try:
        return sum(float(parsed_json(line)["seconds"]) for line in read_text(folder / METRICS).splitlines())
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _holds(folder: Path, digest: str) -> bool:
    config = Run(folder).config()
    return config is not None and config.get("digest") == digest


def _only_lock(folder: Path) -> bool:
    return folder.is_dir() and all(path.name == LOCK or is_leftover(path) for path in folder.iterdir())


def _held_for_another(folder: Path, digest: str) -> bool:
    """Say whether a living process holds the folder for a run of another digest."""
    lock = folder / LOCK
    holder = read_holder(lock)
    return holder is not None and not is_stale(holder, lock) and holder.get("digest") not in (None, digest)
