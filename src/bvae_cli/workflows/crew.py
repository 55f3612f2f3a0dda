"""Worker processes, as seen by the process that starts them."""

from __future__ import annotations

import contextlib
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Any, Self

from bvae_cli.errors import BvaeError, DivergedError, ExitCode, InputOutputError, PluginError, UsageError, reason_of
from bvae_cli.stopping import passing_on_saves
from bvae_cli.workflows.observing import TrainResult
from bvae_cli.workflows.parts import ManyRun, PartObserver, several_interrupted
from bvae_cli.workflows.worker import Go, Job, TrialJob

_ERRORS: dict[int, type[BvaeError]] = {
    ExitCode.USAGE: UsageError,
    ExitCode.INPUT_OUTPUT: InputOutputError,
    ExitCode.PLUGIN: PluginError,
    ExitCode.DIVERGED: DivergedError,
}
# It reads nothing of the caller's program, which may lack the guard that a new process made by `multiprocessing` needs.
_PROGRAM = "import sys; sys.path[:] = {path!r}; from bvae_cli.workflows.worker import main; main()"


class _Process:
    """A worker process: what is sent to it, and what it says, put into the crew's inbox."""

    def __init__(self, inbox: queue.SimpleQueue[tuple[_Process, Any]]) -> None:
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self.popen = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            # The terminal's Ctrl-C is for the parent, which then asks for the states to be saved.
            start_new_session=True,
        )
        threading.Thread(target=self._read, args=(inbox,), daemon=True).start()

    def _read(self, inbox: queue.SimpleQueue[tuple[_Process, Any]]) -> None:
        assert self.popen.stdout is not None
        # A process that is killed may leave half a message.
        with self.popen.stdout as stream, contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                inbox.put((self, pickle.load(stream)))
        inbox.put((self, None))

    def send(self, message: object) -> None:
        """Send a message; that the process is gone is heard from its other stream."""
        assert self.popen.stdin is not None
        with contextlib.suppress(OSError):
            pickle.dump(message, self.popen.stdin)
            self.popen.stdin.flush()

    def ask_to_stop(self) -> None:
        """Let the step under way be the last, and the states be saved."""
        assert self.popen.stdin is not None
        with contextlib.suppress(OSError):
            self.popen.stdin.close()

    def how_it_died(self) -> str:
        """Say how the process ended, and its last words where it left any."""
        code = self.popen.wait()
        self._stderr.seek(0)
        words = self._stderr.read().decode(errors="replace").strip().splitlines()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"{how} ({words[-1].rstrip('.')})" if words and code > 0 else how

    def end(self) -> None:
        """Let nothing of it be left."""
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        self._stderr.close()


class Crew:
    """So many worker processes, each with data and models of its own; they end with the ``with`` block, states saved.

    A worker that dies ends the work of all: BvaeError says so, after the others have saved their states.
    """

    def __init__(self, size: int) -> None:
        self._inbox: queue.SimpleQueue[tuple[_Process, Any]] = queue.SimpleQueue()
        self._processes: list[_Process] = []
        try:
            for _ in range(size):
                self._processes.append(_Process(self._inbox))
        except OSError as error:
            self.close()
            raise BvaeError(f"A worker process cannot be started: {reason_of(error)}.", "Use --workers 1.") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def process_ids(self) -> list[int]:
        """The ids of the processes."""
        return [process.popen.pid for process in self._processes]

    def keep(self, size: int) -> None:
        """Let so many go on, and the others end."""
        for process in self._processes[size:]:
            process.ask_to_stop()
        for process in self._processes[size:]:
            process.popen.wait()
            process.end()
        del self._processes[size:]

    def images_per_second(self, run: ManyRun, workers: int, threads: int, models: int, seconds: float) -> float:
        """Let so many workers train models like that of a run at the same time; return the images/s of all together."""
        chosen = self._processes[:workers]
        for process in chosen:
            process.send(TrialJob(run.config, models, threads))
        self._answers(chosen, "ready")
        for process in chosen:
            process.send(Go(seconds))
        return float(sum(self._answers(chosen, "rate")))

    def train(
        self, parts: Sequence[Sequence[ManyRun]], threads: int, observer: PartObserver, overwrite: bool
    ) -> dict[int, TrainResult]:
        """Train parts, each by the worker that is free next, and return how each run ended, by index.

        Raises InterruptedRunError (every state saved), and what a worker has raised.
        """
        work = _Work(parts, threads, overwrite, observer)
        try:
            with passing_on_saves(work.tell):
                for process in self._processes:
                    work.give(process)
                while work.busy:
                    process, message = self._next(work)
                    work.hear(process, message)
        except KeyboardInterrupt as stop:
            self.close()
            raise several_interrupted(stop, len(work.under_way), parts[0][0].config) from None
        except BaseException:
            self.close()
            raise
        return work.results

    def close(self) -> None:
        """Ask all to stop and wait until they have; a second interruption meanwhile kills them."""
        try:
            for process in self._processes:
                process.ask_to_stop()
            for process in self._processes:
                process.popen.wait()
        finally:
            for process in self._processes:
                process.end()
            self._processes.clear()

    def _answers(self, processes: Sequence[_Process], kind: str) -> list[Any]:
        answers: dict[_Process, Any] = {}
        while len(answers) < len(processes):
            process, message = self._next(None)
            heard, *content = message
            _raise_what_is_told(heard, content)
            assert heard == kind, heard
            answers[process] = content[0] if content else None
        return list(answers.values())

    def _next(self, work: _Work | None) -> tuple[_Process, Any]:
        """Return what is said next. Raises BvaeError where it is that a process is no more."""
        while True:
            process, message = self._inbox.get()
            if process not in self._processes:  # one that was let go
                continue
            if message is not None and message[0] != "stopped":
                return process, message
            how = process.how_it_died() if message is None else "was terminated, and has saved its states"
            runs = len(work.busy.get(process, ())) if work is not None else 0
            what = f" while it trained {runs} run{'' if runs == 1 else 's'}" if runs else ""
            raise BvaeError(
                f"Worker process {process.popen.pid} {how}{what}.",
                "The same command goes on from the states that are saved. If memory ran out, take fewer --workers or "
                "--models-at-once.",
            )


class _Work:
    """Parts on their way through the workers."""

    def __init__(self, parts: Sequence[Sequence[ManyRun]], threads: int, overwrite: bool, observer: PartObserver) -> None:
        self._waiting = deque(parts)
        self._threads, self._overwrite, self._observer = threads, overwrite, observer
        self.busy: dict[_Process, Sequence[ManyRun]] = {}
        self.under_way: set[int] = set()
        self.results: dict[int, TrainResult] = {}

    def tell(self, number: int) -> None:
        """Pass a signal on to the workers that train."""
        for process in list(self.busy):
            process.popen.send_signal(number)

    def give(self, process: _Process) -> None:
        """Give a worker the next part, if there is one."""
        if self._waiting:
            part = self.busy[process] = self._waiting.popleft()
            runs = [(run.index, run.config, run.prepared.name, run.prepared.plan.digest) for run in part]
            process.send(Job(runs, self._threads, self._overwrite))

    def hear(self, process: _Process, message: Any) -> None:
        """Pass on what a worker says, and give it more where it is done."""
        kind, *content = message
        _raise_what_is_told(kind, content)
        if kind == "done":
            self.results |= content[0]
            del self.busy[process]
            self.give(process)
            return
        if kind == "on_plan":
            self.under_way.add(content[0])
        elif kind == "on_result":
            self.under_way.discard(content[0])
        getattr(self._observer, kind)(*content)


def _raise_what_is_told(kind: str, content: Sequence[Any]) -> None:
    """Raise here what was raised in a worker."""
    if kind == "refused":
        code, message, hint = content
        error = _ERRORS.get(code)
        raise error(message, hint) if error is not None else BvaeError(message, hint, code)
    if kind == "failed":
        words, trace = content
        failure = RuntimeError(f"in a worker process: {words}")
        failure.add_note(trace)
        raise failure
