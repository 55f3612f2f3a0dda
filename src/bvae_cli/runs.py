"""A run's folder: the only place that reads and writes one.

Whole files are written beside their name, synced and renamed, so that a name never stands for half a file.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import pickle
import shutil
import socket
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from bvae_cli.config import PluginRef, Sizes
from bvae_cli.errors import InputOutputError, UsageError

WEIGHTS = "bvae_best_model_with.pt"
LOSS_RECORD = "loss_record_with.txt"
CONFIG = "config.json"
LOG = "training_log.txt"
METRICS = "metrics.jsonl"
RESULT = "result.json"
STATE = "last.pt"
EPOCHS_FOLDER = "epochs"
_LOCK = ".lock"
_ANOTHER_FOLDER = "Name a folder that can be written to."

FORMAT = 1
_CODE_FACTS = {"type", "options", "n", "digest", "distribution", "version"}
RECORD_COLUMNS = ("training_loss", "validation_loss", "kl", "beta", "temperature", "lr")

RunState = Literal["finished", "unfinished", "diverged", "empty"]


@dataclass(frozen=True)
class Checkpoint:
    """Weights with everything needed to build their model again: plain values and tensors, never a pickle."""

    config: dict[str, Any]
    weights: dict[str, torch.Tensor]


def folder_name(sizes: Sizes, beta_max: float, lr: float, ecc: PluginRef) -> str:
    """Name a run's folder by its sizes, β, learning rate and code, as users of this method know it.

    >>> folder_name(Sizes(200, 300, 2), 1.0, 0.001, PluginRef(type="repetition", options={"R": 3}))
    'hidden_size_200_latent_size_300_depth_2_beta_1.0_lr_0.001_ecc_repetition_R_3'
    """
    name = f"hidden_size_{sizes.hidden}_latent_size_{sizes.latent}_depth_{sizes.depth}_beta_{beta_max}_lr_{lr}"
    if ecc.type != "none":
        options = "".join(f"_{key}_{value}" for key, value in ecc.options.items() if value)  # what is off is not said
        name += f"_ecc_{ecc.type}{options}"
    return "".join(character if character.isalnum() or character in "._-+" else "-" for character in name)


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

    def state(self) -> RunState:
        """Say whether the run is finished, diverged, unfinished, or not there."""
        result = self.result()
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
            _write_atomically(self.folder / LOSS_RECORD, f"# {' '.join(RECORD_COLUMNS)}\n".encode())

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
        """Return the state to resume from, or None where there is none that can be read."""
        try:
            state = _read_torch(self.folder / STATE)
        except Exception:  # whatever is wrong with it, there is nothing to resume from
            return None
        return state if isinstance(state, dict) else None

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write how the run ended; a finished run needs no state to resume from."""
        with _writing(self.folder):
            _write_atomically(self.folder / RESULT, _json_bytes(result))
            (self.folder / STATE).unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against a second process on it. Raises UsageError, naming the holder, where one has it."""
        path = self.folder / _LOCK
        with _writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            _take_lock(path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


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
    if not plain.exists() or _holds(plain, digest) or _only_lock(plain):
        return Run(plain)
    return Run(output_dir / f"{name}_{digest[:8]}")


def find_runs(folder: Path) -> list[Run]:
    """Return every run in a folder and below it, by name. Raises InputOutputError where there is no such folder."""
    if not folder.is_dir():
        raise InputOutputError(f"There is no folder {folder}.", "Name the folder that `bvae train` wrote to.")
    return [Run(path.parent) for path in sorted(folder.rglob(CONFIG)) if (path.parent / LOSS_RECORD).exists()]


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
    except pickle.UnpicklingError:
        raise InputOutputError(
            f"{path} holds more than weights (or is damaged): it was refused, and nothing in it was run.",
            "Give a file that `bvae train` wrote.",
        ) from None
    except Exception as error:  # torch lets many kinds through for bytes that are no file of its own
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is damaged or cut short"
        raise InputOutputError(f"{path} cannot be read: {reason}.", "Train again, or restore the file.") from None
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
    return Checkpoint(config, content["weights"])


def write_file(path: Path, content: bytes) -> None:
    """Write a whole file, making its folder; the name never stands for half of it."""
    with _writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_atomically(path, content)


def read_record(folder: Path) -> dict[str, list[float]]:
    """Return the loss record by column. Raises InputOutputError where it is missing or not one."""
    path = folder / LOSS_RECORD
    try:
        lines = path.read_text(encoding="utf-8").splitlines()[1:]
        rows = [[float(cell) for cell in line.split()] for line in lines]
        return {name: [row[index] for row in rows] for index, name in enumerate(RECORD_COLUMNS)}
    except OSError:
        raise InputOutputError(f"{folder} holds no {LOSS_RECORD}.", "`bvae runs` lists the runs that are there.") from None
    except (ValueError, IndexError):
        raise InputOutputError(
            f"{path} is not a loss record: its rows do not hold {len(RECORD_COLUMNS)} numbers.",
            "Train again with --overwrite, or restore the file.",
        ) from None


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
        raise InputOutputError(f"Cannot write to {folder}: {error}.", _ANOTHER_FOLDER) from None


def _write_atomically(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _torch_bytes(content: Mapping[str, Any]) -> bytes:
    # In memory first: torch.save writes the name of its file into the bytes, and they would differ from run to run.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _read_torch(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's remarks on a stranger's file are not for the person who named it
        return torch.load(path, weights_only=True, map_location="cpu")


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


def _take_lock(path: Path) -> None:
    mine = {"pid": os.getpid(), "host": socket.gethostname()}
    for _ in range(2):
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            holder = _read_json(path) or {}
            if holder.get("host") == mine["host"] and not _alive(holder.get("pid")):
                path.unlink(missing_ok=True)  # its process is gone: the lock is stale
                continue
            who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
            raise UsageError(f"{path.parent} is in use by {who}.", f"Wait for it; if it is gone, delete {path}.") from None
        with os.fdopen(descriptor, "w") as file:
            json.dump(mine, file)
        return
    raise UsageError(f"{path.parent} is in use by another process.")


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
