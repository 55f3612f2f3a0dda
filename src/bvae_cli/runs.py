"""A run's folder: the only place that reads and writes one.

Whole files are written beside their name, synced and renamed, so that a name never stands for half a file.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import itertools
import json
import math
import os
import pickle
import re
import shutil
import socket
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from bvae_cli.config import Sizes
from bvae_cli.errors import InputOutputError, UsageError, is_out_of_memory

if TYPE_CHECKING:
    import torch

WEIGHTS = "bvae_best_model_with.pt"
LOSS_RECORD = "loss_record_with.txt"
CONFIG = "config.json"
LOG = "training_log.txt"
METRICS = "metrics.jsonl"
RESULT = "result.json"
STATE = "last.pt"
EPOCHS_FOLDER = "epochs"
_LOCK = ".lock"
_DAMAGED = "damaged"
# A lock has no content for the moment between its making and its first word.
_LOCK_TRIES, _SECONDS_BETWEEN_TRIES = 10, 0.02
_LONGEST_VALUE = 60
_ANOTHER_FOLDER = "Name a folder that can be written to."

FORMAT = 1
_CODE_FACTS = {"type", "options", "n", "digest", "distribution", "version"}
RECORD_COLUMNS = ("training_loss", "validation_loss", "kl", "beta", "temperature", "lr")
_RECORD_HEADER = f"# {' '.join(RECORD_COLUMNS)}"

RunState = Literal["finished", "unfinished", "diverged", "damaged", "set aside", "empty"]


@dataclass(frozen=True)
class Checkpoint:
    """Weights with everything needed to build their model again: plain values and tensors, never a pickle."""

    config: dict[str, Any]
    weights: dict[str, torch.Tensor]


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


class DamagedStateError(Exception):
    """The state to resume from is there and cannot be read."""


class HeldError(UsageError):
    """Another process holds a run's folder; ``digest`` is that of its run, where its lock says it."""

    def __init__(self, message: str, hint: str, digest: str | None) -> None:
        super().__init__(message, hint)
        self.digest = digest


class Run:
    """One run's folder. ``open_run`` chooses it; the workflow of training writes to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def weights(self) -> Path:
        """Where the best weights are."""
        return self.folder / WEIGHTS

    def config(self) -> dict[str, Any] | None:
        """Return what decided the run, or None where the folder holds no run."""
        return _read_json(self.folder / CONFIG)

    def result(self) -> dict[str, Any] | None:
        """Return how the run ended, or None while it has not."""
        return _read_json(self.folder / RESULT)

    def require_readable_result(self) -> None:
        """Raise InputOutputError where it is written how the run ended, and cannot be read any more."""
        if self.state() == "damaged":
            raise InputOutputError(
                f"{self.folder / RESULT} is damaged: it cannot be told whether the run is finished.",
                "Its weights and record are untouched. Restore it; or delete it, and the run is set aside and trained anew.",
            )

    def state(self) -> RunState:
        """Say whether the run is finished, diverged, unfinished, or not there.

        ``damaged`` is one of which it cannot be read how it ended, ``set aside`` what ``set_aside`` has kept of one.
        """
        result = self.result()
        if self.folder.name.startswith(f"{_DAMAGED}_") and (self.folder.parent / CONFIG).exists():
            return "set aside"
        if result is None and (self.folder / RESULT).exists():
            return "damaged"
        if result is not None:
            return "diverged" if result.get("state") == "diverged" else "finished"
        return "empty" if self.config() is None else "unfinished"

    def start(self, config: Mapping[str, Any]) -> None:
        """Begin a run: an empty record under the configuration's name."""
        with _writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            for stale in (RESULT, STATE, WEIGHTS, METRICS, LOG):
                (self.folder / stale).unlink(missing_ok=True)
            shutil.rmtree(self.folder / EPOCHS_FOLDER, ignore_errors=True)
            _write_atomically(self.folder / CONFIG, _json_bytes(config))
            _write_atomically(self.folder / LOSS_RECORD, f"{_RECORD_HEADER}\n".encode())

    def record(self, row: Mapping[str, Any]) -> None:
        """Append an epoch to the loss record and to the metrics; ``row`` has the record's columns and more."""
        with _writing(self.folder):
            with (self.folder / LOSS_RECORD).open("a", encoding="utf-8") as record:
                record.write(" ".join(f"{row[column]:.9g}" for column in RECORD_COLUMNS) + "\n")
            with (self.folder / METRICS).open("a", encoding="utf-8") as metrics:
                metrics.write(json.dumps(row) + "\n")

    def cut_record(self, epochs: int) -> None:
        """Forget what the record and the metrics say after so many epochs: the run goes on from there."""
        with _writing(self.folder):
            for name, header in ((LOSS_RECORD, 1), (METRICS, 0)):
                path = self.folder / name
                lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
                _write_atomically(path, "".join(lines[: epochs + header]).encode())

    def recorded_epochs(self) -> int:
        """Return how many epochs the record holds."""
        path = self.folder / LOSS_RECORD
        return max(0, len(path.read_text(encoding="utf-8").splitlines()) - 1) if path.exists() else 0

    def log(self, line: str) -> None:
        """Append a line to the training log."""
        with _writing(self.folder), (self.folder / LOG).open("a", encoding="utf-8") as log:
            log.write(line + "\n")

    def save_weights(self, config: Mapping[str, Any], weights: Mapping[str, torch.Tensor], epoch: int | None = None) -> None:
        """Write the best weights, or with ``epoch`` those of one epoch."""
        path = self.weights if epoch is None else self.folder / EPOCHS_FOLDER / f"epoch_{epoch:04d}.pt"
        with _writing(self.folder):
            path.parent.mkdir(exist_ok=True)
            content = {"format": FORMAT, "config": json.dumps(config, sort_keys=True), "weights": dict(weights)}
            _write_atomically(path, _torch_bytes(content))

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write the state to resume from."""
        with _writing(self.folder):
            _write_atomically(self.folder / STATE, _torch_bytes(dict(state)))

    def load_state(self) -> dict[str, Any] | None:
        """Return the state to resume from, or None where there is none.

        Raises DamagedStateError for one that cannot be read, InputOutputError where the system does not let it be.
        """
        path = self.folder / STATE
        try:
            state = _read_torch(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputOutputError(
                f"{path} cannot be read: {(error.strerror or str(error)).lower()}.", "Look at its permissions and its disk."
            ) from None
        except _UnreadableError as error:
            raise DamagedStateError(path) from error
        if not isinstance(state, dict):
            raise DamagedStateError(path)
        return state

    def set_aside(self) -> Path:
        """Move everything that the run has made into a folder within its own, and return it: nothing is overwritten."""
        with _writing(self.folder):
            numbers = (number for number in itertools.count(1) if not (self.folder / f"{_DAMAGED}_{number}").exists())
            place = self.folder / f"{_DAMAGED}_{next(numbers)}"
            place.mkdir()
            for name in (WEIGHTS, LOSS_RECORD, LOG, METRICS, RESULT, EPOCHS_FOLDER, STATE):
                if (self.folder / name).exists():
                    (self.folder / name).rename(place / name)
            # The folder keeps a configuration all the while: it says whose it is.
            if (self.folder / CONFIG).exists():
                shutil.copy(self.folder / CONFIG, place / CONFIG)
        return place

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write how the run ended; a finished run needs no state to resume from."""
        with _writing(self.folder):
            _write_atomically(self.folder / RESULT, _json_bytes(result))
            (self.folder / STATE).unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self, digest: str | None = None) -> Iterator[None]:
        """Hold the folder against a second process on it; ``digest`` tells others whose run it is for.

        Raises HeldError, naming the holder, where another process has it.
        """
        path = self.folder / _LOCK
        with _writing(self.folder):
            _take_lock(path, digest)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it holds something: the rule
                self.folder.rmdir()


def open_run(output_dir: Path, name: str, digest: str) -> Run:
    """Choose the folder of a run: ``name``, or with 8 digits of the digest where that holds something else.

    Raises UsageError where ``output_dir`` is itself the folder of a run.
    """
    if (output_dir / CONFIG).exists() and (output_dir / LOSS_RECORD).exists():
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
    return [Run(path.parent) for path in sorted(folder.rglob(CONFIG)) if (path.parent / LOSS_RECORD).exists()]


def namesakes(folder: Path) -> list[Path]:
    """Return the folders beside one whose runs differ in the digits of their digest alone, and that hold weights."""
    named = re.compile(re.escape(folder.name) + "_[0-9a-f]{8}")
    beside = sorted(folder.parent.iterdir()) if folder.parent.is_dir() else []
    return [path for path in beside if named.fullmatch(path.name) and (path / WEIGHTS).is_file()]


def weights_file(path: Path) -> Path:
    """Return the weights that a path names: itself, or a run's folder's. Raises InputOutputError where they are not."""
    found = path / WEIGHTS if path.is_dir() else path
    if not found.is_file():
        what = f"{path} holds no {WEIGHTS}" if path.is_dir() else f"There is no file {path}"
        raise InputOutputError(f"{what}.", "`bvae runs` lists the runs that are there.")
    return found


def load_checkpoint(path: Path) -> Checkpoint:
    """Read weights that ``save_weights`` wrote. Nothing in the file is ever executed.

    Raises InputOutputError for a missing, damaged or foreign file.
    """
    path = weights_file(path)
    try:
        content = _read_torch(path)
    except OSError as error:
        raise InputOutputError(
            f"{path} cannot be read: {(error.strerror or str(error)).lower()}.", "Look at its permissions and its disk."
        ) from None
    except _UnreadableError as error:
        if isinstance(error.__cause__, pickle.UnpicklingError):
            raise InputOutputError(
                f"{path} holds more than weights (or is damaged): it was refused, and nothing in it was run.",
                "Give a file that `bvae train` wrote.",
            ) from None
        raise InputOutputError(
            f"{path} cannot be read: it is damaged or cut short.", "Train again, or restore the file."
        ) from None
    foreign = InputOutputError(f"{path} was not written by bvae.", "Give a file that `bvae train` wrote.")
    if not isinstance(content, dict) or {"format", "config", "weights"} - set(content):
        raise foreign
    if content["format"] != FORMAT:
        raise InputOutputError(
            f"{path} has format {content['format']}; this bvae reads format {FORMAT}.", "Update bvae-cli."
        )
    try:
        config = json.loads(content["config"])
        complete = set(config["code"]) >= _CODE_FACTS and {"decides", "data"} <= set(config)
    except (ValueError, TypeError, KeyError):
        raise foreign from None
    if not complete or not isinstance(content["weights"], dict):
        raise foreign
    _require_numbers(path, content["weights"])
    return Checkpoint(config, content["weights"])


def write_file(path: Path, content: bytes) -> None:
    """Write a whole file, making its folder; the name never stands for half of it."""
    require_place(path)
    with _writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_atomically(path, content)


def require_place(path: Path) -> None:
    """Raise InputOutputError where a file cannot be written because a folder, or a file for a folder, is in the way."""
    if path.parent.exists() and not path.parent.is_dir():
        raise InputOutputError(f"Cannot write to {path.parent}: it is a file, not a folder.", _ANOTHER_FOLDER)
    if path.is_dir():
        raise InputOutputError(f"Cannot write to {path}: it is a folder, not a file.", "Name a file in it.")


def require_new(path: Path, overwrite: bool) -> None:
    """Raise UsageError where there is something at a path that is going to be written, and it may not be overwritten."""
    if path.exists() and not overwrite:
        raise UsageError(f"{path} is there already.", "Name another file, or write it anew with --overwrite.")


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file to be written piece by piece, making its folder; it has its name only when the body is done."""
    require_place(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _beside(path) as file:
            yield file
    except OSError as error:
        raise describe_os_error(error, path.parent) from None


def read_record(folder: Path) -> dict[str, list[float]]:
    """Return the loss record by column. Raises InputOutputError where it is missing or not one."""
    path = folder / LOSS_RECORD
    try:
        first, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    except OSError:
        raise InputOutputError(f"{folder} holds no {LOSS_RECORD}.", "`bvae runs` lists the runs that are there.") from None
    except UnicodeDecodeError:
        raise _no_record(path, "it is no text") from None
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
        lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()
        return sum(float(json.loads(line)["seconds"]) for line in lines)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def describe_os_error(error: OSError, where: Path) -> InputOutputError:
    """Turn a system's refusal into a sentence that names the place."""
    hints = {
        errno.ENOSPC: "Free some space, or name another folder; what was saved before is intact.",
        errno.EDQUOT: "Your quota is used up: free some space, or name another folder; what was saved before is intact.",
        errno.EFBIG: "The system allows no larger file here (ulimit -f); what was saved before is intact.",
    }
    reason = (error.strerror or str(error)).lower()
    return InputOutputError(f"Cannot write to {where}: {reason}.", hints.get(error.errno or 0, _ANOTHER_FOLDER))


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise describe_os_error(error, folder) from None
    except RuntimeError as error:  # torch's own writer reports a full disk so
        if is_out_of_memory(error):
            raise
        raise InputOutputError(f"Cannot write to {folder}: {error}.", _ANOTHER_FOLDER) from None


def _write_atomically(path: Path, content: bytes) -> None:
    with _beside(path) as file:
        file.write(content)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[BinaryIO]:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _torch_bytes(content: Mapping[str, Any]) -> bytes:
    # In memory first: torch.save writes the name of its file into the bytes, and they would differ from run to run.
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


class _UnreadableError(Exception):
    """The bytes of a file are not what torch writes."""


def _read_torch(path: Path) -> Any:
    """Return what a file of torch holds. Raises OSError where it cannot be had, _UnreadableError for what it is not."""
    import torch

    content = io.BytesIO(path.read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's remarks on a stranger's file are not for the person who named it
        try:
            return torch.load(content, weights_only=True, map_location="cpu")
        except Exception as error:
            # The bytes are in memory: but for a full one, whatever is raised here comes of what they are.
            if is_out_of_memory(error):
                raise
            raise _UnreadableError(path) from error


def _require_numbers(path: Path, weights: Mapping[str, Any]) -> None:
    import torch

    for name, values in weights.items():
        if not isinstance(values, torch.Tensor):
            raise InputOutputError(f"{path} was not written by bvae.", "Give a file that `bvae train` wrote.")
        if values.is_floating_point() and not bool(values.isfinite().all()):
            raise InputOutputError(
                f"{path} holds weights that are not numbers (NaN or infinite), in {name}.",
                "The file is damaged: train again, or restore it.",
            )


def _json_bytes(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _holds(folder: Path, digest: str) -> bool:
    config = _read_json(folder / CONFIG)
    return config is not None and config.get("digest") == digest


def _only_lock(folder: Path) -> bool:
    return folder.is_dir() and all(path.name == _LOCK for path in folder.iterdir())


def _held_for_another(folder: Path, digest: str) -> bool:
    """Say whether a living process holds the folder for a run of another digest."""
    holder = _holder(folder / _LOCK)
    return holder is not None and not _gone(holder) and holder.get("digest") not in (None, digest)


def _take_lock(path: Path, digest: str | None) -> None:
    mine = {"pid": os.getpid(), "host": socket.gethostname(), "digest": digest}
    for _ in range(_LOCK_TRIES):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileNotFoundError:  # who held it before has just taken the empty folder away
            continue
        except FileExistsError:
            if not path.parent.is_dir():
                raise
            holder = _holder(path)
            if holder is None:
                raise HeldError(
                    f"The lock {path} is damaged: it does not name the process that holds {path.parent}.",
                    "If no process works there, delete it.",
                    None,
                ) from None
            if _gone(holder):
                path.unlink(missing_ok=True)  # its process is gone: the lock is stale
                continue
            raise HeldError(
                f"{path.parent} is in use by process {holder['pid']} on {holder['host']}.",
                f"Wait for it; if it is gone, delete {path}.",
                holder.get("digest"),
            ) from None
        with os.fdopen(descriptor, "w") as file:
            json.dump(mine, file)
        return
    raise HeldError(f"{path.parent} is in use by another process.", "Wait for it.", None)


def _holder(path: Path) -> dict[str, Any] | None:
    """Return what a lock says, or None where it names no process."""
    for _ in range(_LOCK_TRIES):
        holder = _read_json(path)
        if holder is not None:
            return holder if {"pid", "host"} <= set(holder) else None
        if not path.exists():  # it has just been given back
            return {"pid": None, "host": socket.gethostname()}
        time.sleep(_SECONDS_BETWEEN_TRIES)
    return None


def _gone(holder: Mapping[str, Any]) -> bool:
    return holder["host"] == socket.gethostname() and not _alive(holder["pid"])


def _alive(pid: object) -> bool:
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
