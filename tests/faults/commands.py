"""The tiny commands that are disturbed, what they leave when nobody disturbs them, and how the two are compared."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
import os
import pkgutil
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bvae_cli.cli import main
from bvae_cli.config import TrainConfig
from bvae_cli.workflows import train as training

from .shim import KILLED, Event, Kind, Policy, pass_all, watched
from .trials import SECONDS_FOR_A_TRIAL, Ended, forked

STATE, RESULT, LOG = "last.pt", "result.json", "training_log.txt"
# Its first line ends with the digest and the length of what follows.
_STATE_BEGINS = b"bvae state "
_TIMES = {"seconds", "images_per_second"}
# Said in them are moments, measured speeds, and in which way the last command trained what was left to train.
_ONLY_THERE = {LOG, "training.json", "report.html"}
_ROWS, _FEATURES = 250, 12
_TIMES_SLOWER = 20
_MEMORY, _ROOM = "/dev/shm", 256 * 2**20

# What is asked before an observer hears of a step, with the number of steps that this process has taken.
StepPolicy = Callable[[int], bool]


@dataclass(frozen=True)
class Command:
    """A command line, and the folder whose content it finds where it is run."""

    name: str
    arguments: tuple[str, ...]
    given: Path | None = None
    # A finished file is refused where it is there already: the command again says so with this.
    again: tuple[str, ...] = ()
    # As the function of the Python API, not as a command line.
    api: bool = False
    # Gone on with by `bvae resume FOLDER`, not by the command again.
    resumed: bool = False


@dataclass(frozen=True)
class Reference:
    """An undisturbed run of a command: what it leaves, what it wrote one after another, and after how many steps."""

    command: Command
    left: dict[str, bytes]
    log: list[Event]
    steps_at: list[int]
    steps: int
    seconds: float = 0.0

    @property
    def limit(self) -> float:
        """After how many seconds a trial of the command hangs: on a machine that others load too it may take long."""
        return SECONDS_FOR_A_TRIAL + _TIMES_SLOWER * self.seconds

    def kept_steps(self, events: int, power: bool = False) -> int:
        """Return how many steps are in the state that is there after so many events; a finished run has them all.

        With ``power`` only those of a state that counts as saved: its folder was synced after it had its name, or the
        training went on, or the command ended.
        """
        kept, renamed, at, folder = 0, 0, 0, ""
        for event, steps in zip(self.log[:events], self.steps_at[:events], strict=True):
            parent, _, name = (event.target or "").rpartition("/")
            if power and steps > at:
                kept = renamed
            if event.kind is Kind.RENAME and name in (STATE, RESULT):
                renamed, at, folder = self.steps if name == RESULT else steps, steps, parent
                kept = kept if power else renamed
            elif event.kind is Kind.FSYNC_FOLDER and event.path == folder:
                kept = renamed
        return renamed if events == len(self.log) else kept


@dataclass
class Stage:
    """A folder with the data, the finished runs and the environment of all trials; everything in it is given up after."""

    folder: Path
    references: dict[str, Reference] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        """Rows of bits with something in them to learn."""
        return self.folder / "bits.npy"

    def train(self, name: str, *more: str, epochs: int = 4, api: bool = False) -> Command:
        """Return a training of a tiny model whose state is written at every step."""
        tiny = ("--dataset", str(self.data), "--hidden", "8", "--latent", "12", "--depth", "1", "--lr", "0.01")
        code = ("--ecc", "repetition", "--R", "3")
        length = ("--batch-size", "50", "--epochs", str(epochs), "--patience", str(epochs))
        return Command(
            name,
            ("train", *tiny, *code, *length, "--beta-warmup-epochs", "2", "--checkpoint-every", "1steps", *more),
            api=api,
        )

    def reference(self, command: Command, log: bool = True) -> Reference:
        """Return what a command does and leaves when nobody disturbs it; without ``log`` not what it writes on the way."""
        if command.name not in self.references:
            self.references[command.name] = self._measured(command, (False, True) if log else (False,))
        return self.references[command.name]

    def _measured(self, command: Command, ways: Sequence[bool]) -> Reference:
        lefts = []
        begun = time.monotonic()
        for recorded in ways:
            with self.workplace(command) as place:
                ended = run(command, place, record=recorded)
                if ended.code or ended.err.count("Traceback"):
                    raise RuntimeError(f"{command.name} fails undisturbed: {ended.err}")
                lefts.append(snapshot(place))
        if different := differences(lefts[0], lefts[-1]):
            raise RuntimeError(f"{command.name} is not the same twice: {different}")
        log, steps_at, steps = ended.value
        return Reference(command, lefts[0], log, steps_at, steps, (time.monotonic() - begun) / len(ways))

    @contextlib.contextmanager
    def workplace(self, command: Command) -> Iterator[Path]:
        """Give a folder to run a command in, for as long as the body runs."""
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="trial-", ignore_cleanup_errors=True) as name:
            place = Path(name) / "place"
            if command.given is None:
                place.mkdir()
            else:
                shutil.copytree(command.given, place)
            yield place


def _roomy_memory() -> str | None:
    """Return a folder of memory where there is one with room: there a sync takes no time, and only order counts here."""
    there = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM
    return _MEMORY if there else None


@contextlib.contextmanager
def staged() -> Iterator[Stage]:
    """Build the stage, with caches of its own, and no variable of the person who runs this."""
    with tempfile.TemporaryDirectory(prefix="faults-", dir=_roomy_memory(), ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        for variable in [one for one in os.environ if one.startswith(("BVAE_", "DISABLE_"))]:
            del os.environ[variable]
        for what in ("data", "cache", "config"):
            os.environ[f"BVAE_{what.upper()}_DIR"] = str(folder / f"{what}-folder")
        os.environ["OMP_NUM_THREADS"] = "1"
        torch.set_num_threads(1)
        # A shell lets what it starts in the background ignore Ctrl-C, and so would all that this process starts.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        import_everything()
        stage = Stage(folder)
        _write_bits(stage.data)
        warm = stage.train("warm-up", epochs=1)
        for _ in range(2):  # what is measured of the machine is measured once
            with stage.workplace(warm) as place:
                ended = run(warm, place)
                if ended.code:
                    raise RuntimeError(f"the tiny training fails: {ended.err}")
        yield stage


def import_everything() -> None:
    """Import whatever a command may need: each trial is a fork of this process."""
    for room in ("cli", "codes", "datasets", "evaluation", "exporting", "model", "report", "retrieval", "workflows"):
        package = importlib.import_module(f"bvae_cli.{room}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


def _write_bits(path: Path) -> None:
    random = np.random.default_rng(1)
    patterns = random.integers(0, 2, (2, _FEATURES))
    noise = random.random((_ROWS, _FEATURES)) < 0.1
    np.save(path, (patterns[random.integers(0, 2, _ROWS)] ^ noise).astype(np.uint8))


def run(
    command: Command,
    place: Path,
    policy: Policy = pass_all,
    *,
    stop_at: StepPolicy | None = None,
    record: bool = False,
    again: bool = False,
    seconds: float = SECONDS_FOR_A_TRIAL,
) -> Ended:
    """Run a command in a child of this process; the value is ``(log, steps at each event, steps)``."""

    def work() -> tuple[int, Any]:
        os.chdir(place)
        log: list[Event] = []
        steps_at: list[int] = []
        steps = _counting_steps(stop_at)

        def listen(event: Event) -> None:
            log.append(event)
            steps_at.append(steps())

        watching = record or policy is not pass_all
        with watched(place, policy, listen if record else None) if watching else contextlib.nullcontext():
            code = _code_of(command, again)
        return code, (log, steps_at, steps())

    return forked(work, seconds)


def _code_of(command: Command, again: bool) -> int:
    try:
        if command.api:
            from bvae_cli.errors import BvaeError

            try:
                training.train(_config_of(command))
            except BvaeError as error:
                sys.stderr.write(f"Error: {error.message}\nHint: {error.hint}\n")
                return int(error.exit_code)
            return 0
        if again and command.resumed:
            main(["resume", str(next(Path("weights").iterdir()))])
        main([*command.arguments, *(command.again if again else ())])
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)


def _config_of(command: Command) -> TrainConfig:
    options = dict(zip(command.arguments[1::2], command.arguments[2::2], strict=True))
    copies = options.pop("--R")
    values: dict[str, Any] = {name.removeprefix("--").replace("-", "_"): value for name, value in options.items()}
    return TrainConfig(**{**values, "ecc": f"repetition:R={copies}"})


def _counting_steps(stop_at: StepPolicy | None) -> Callable[[], int]:
    """Let the observer of a training count its steps, and end the process at the one where it is asked to."""
    taken = 0
    real = training.train

    def train(config: Any, observer: Any = None, *arguments: Any, **more: Any) -> Any:
        observer = observer or training.Observer()
        hear = observer.on_step

        def on_step(*step: Any) -> None:
            nonlocal taken
            taken += 1
            if stop_at is not None and stop_at(taken):
                os._exit(KILLED)
            hear(*step)

        observer.on_step = on_step
        return real(config, observer, *arguments, **more)

    training.train = train
    return lambda: taken


def started(command: Command, place: Path, program: Sequence[str] = ("-m", "bvae_cli")) -> subprocess.Popen[str]:
    """Start a command as a person would, in a process of its own; or by another program that runs it."""
    return subprocess.Popen(
        [sys.executable, *program, *command.arguments],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(there: Callable[[], bool], seconds: float = SECONDS_FOR_A_TRIAL) -> bool:
    """Wait until something is so; say whether it came to be."""
    end = time.monotonic() + seconds
    while not there():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


# --- what a command leaves


def snapshot(place: Path) -> dict[str, bytes]:
    """Return every file by name, without what no two runs have in common: times, and what the log says with times."""
    return {
        path.relative_to(place).as_posix(): _timeless(path.name, path.read_bytes())
        for path in sorted(place.rglob("*"))
        if path.is_file() or path.is_symlink()
    }


def _timeless(name: str, content: bytes) -> bytes:
    if name in _ONLY_THERE:
        return b""
    if name == "comparison.csv":
        return b"\n".join(line for line in content.splitlines() if not _TIMES & set(line.decode().split(",")))
    try:
        if name.endswith(".jsonl"):
            return b"\n".join(_without_times(line) for line in content.splitlines())
        if name in (RESULT, "comparison.json") or name.startswith("arm_"):
            return _without_times(content)
    except ValueError:
        pass
    return content


def _without_times(text: bytes) -> bytes:
    def pruned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: pruned(item) for key, item in value.items() if key not in _TIMES}
        return [pruned(item) for item in value] if isinstance(value, list) else value

    return json.dumps(pruned(json.loads(text)), sort_keys=True).encode()


def differences(expected: dict[str, bytes], found: dict[str, bytes]) -> list[str]:
    """Say in words what differs between two snapshots."""
    missing = [f"{_brief(name)} is missing" for name in sorted(expected.keys() - found.keys())]
    more = [f"{_brief(name)} is left over" for name in sorted(found.keys() - expected.keys())]
    names = sorted(expected.keys() & found.keys())
    return missing + [f"{_brief(name)} is different" for name in names if expected[name] != found[name]] + more


def _brief(name: str) -> str:
    """Return a file's name without the long middle of its folder's."""
    return re.sub(r"hidden_size_\d+_latent_size_(\d+)[^/]*?((?:_[0-9a-f]{8})?/)", r"N_\1\2", name)


def halves(place: Path) -> list[str]:
    """Return the names of files that are not whole, though they have the name of one that is."""
    return [
        path.relative_to(place).as_posix()
        for path in sorted(place.rglob("*"))
        if path.is_file() and not path.name.startswith(".") and not _whole(path)
    ]


def _whole(path: Path) -> bool:
    content = path.read_bytes()
    try:
        if path.suffix == ".json":
            json.loads(content)
        elif content.startswith(_STATE_BEGINS):
            line, _, rest = content.partition(b"\n")
            return line.split()[-2:] == [hashlib.sha256(rest).hexdigest().encode(), str(len(rest)).encode()]
        elif path.suffix == ".pt":
            torch.load(io.BytesIO(content), weights_only=True)
        elif path.suffix == ".npz":
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                return archive.testzip() is None
        elif path.suffix == ".npy":
            np.load(io.BytesIO(content))
        elif path.suffix == ".html":
            return content.rstrip().endswith(b"</html>")
    except Exception:
        return False
    return True


def said_well(err: str) -> bool:
    """Say whether the last words of a command are a sentence and a hint."""
    lines: Sequence[str] = err.strip().splitlines()
    return len(lines) >= 2 and lines[-2].startswith("Error: ") and lines[-1].startswith("Hint: ")
