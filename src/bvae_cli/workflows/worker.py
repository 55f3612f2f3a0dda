"""The process of a worker: it trains the parts that its parent sends, and tells the parent of every epoch.

Messages are pickles over the standard streams, between two processes of one command; nothing of a stranger's is ever read.
The end of the incoming stream means stop, so that no worker outlives its parent.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import threading
import traceback
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch

from bvae_cli.config import PluginRef, TrainConfig
from bvae_cli.errors import BvaeError, InputOutputError, InterruptedRunError
from bvae_cli.stopping import SAVE
from bvae_cli.workflows.building import load_splits
from bvae_cli.workflows.fit import EpochStats
from bvae_cli.workflows.observing import TrainResult
from bvae_cli.workflows.parts import ManyRun, PartObserver, renamed, train_part
from bvae_cli.workflows.planning import Plan, SharedData, prepare
from bvae_cli.workflows.trials import Trial


@dataclass(frozen=True)
class Job:
    """A part to train: of each run its index, its configuration, the name of its folder, and its digest."""

    runs: list[tuple[int, TrainConfig, str, str]]
    threads: int
    overwrite: bool


@dataclass(frozen=True)
class TrialJob:
    """A trial to make ready, of so many runs like one."""

    config: TrainConfig
    models: int
    threads: int


@dataclass(frozen=True)
class Go:
    """Make the trial that is ready, for so many seconds."""

    seconds: float


def main() -> None:
    """Work until the parent closes the stream, or SIGTERM asks for the end; either way every state is saved."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What a library prints must not come between the messages.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    worker = _Worker(incoming, outgoing)
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    if SAVE is not None:
        signal.signal(SAVE, signal.SIG_IGN)  # but for the time in which there is a state to save
    worker.work()
    # All is written; taking torch apart takes longer than what it has to do.
    os._exit(0)


class _Worker(PartObserver):
    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._outgoing = outgoing
        # Its put may be called from a signal's handler.
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._loaded: tuple[PluginRef, SharedData] | None = None
        self._trial: Trial | None = None
        threading.Thread(target=self._read, args=(incoming,), daemon=True).start()

    def stop(self) -> None:
        """Let the step under way be the last."""
        self._stop.set()
        self._inbox.put(None)

    def work(self) -> None:
        """Do what is asked for until the end of it."""
        while (message := self._inbox.get()) is not None and not self._stop.is_set():
            try:
                self._answer(message)
            except InterruptedRunError:
                self._send("stopped")
            except BvaeError as error:
                self._send("refused", error.exit_code, error.message, error.hint)
            except Exception as error:
                self._send("failed", f"{type(error).__name__}: {error}", traceback.format_exc())

    def on_note(self, index: int, sentence: str) -> None:
        """Tell the parent."""
        self._send("on_note", index, sentence)

    def on_plan(self, index: int, plan: Plan, resumed_epoch: int) -> None:
        """Tell the parent."""
        self._send("on_plan", index, plan, resumed_epoch)

    def on_epoch(self, stats: dict[int, EpochStats]) -> None:
        """Tell the parent."""
        self._send("on_epoch", stats)

    def on_result(self, index: int, result: TrainResult) -> None:
        """Tell the parent."""
        self._send("on_result", index, result)

    def _read(self, incoming: BinaryIO) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._inbox.put(pickle.load(incoming))
        self.stop()

    def _send(self, kind: str, *content: Any) -> None:
        try:
            pickle.dump((kind, *content), self._outgoing)
            self._outgoing.flush()
        except OSError:  # the parent is gone
            self._stop.set()

    def _answer(self, message: Any) -> None:
        if isinstance(message, TrialJob):
            run = ManyRun(0, message.config, prepare(message.config, self._data(message.config)))
            torch.set_num_threads(message.threads)
            self._trial = Trial(run, message.models)
            self._send("ready")
        elif isinstance(message, Go):
            assert self._trial is not None  # the parent asks in this order
            self._send("rate", self._trial.images_per_second(message.seconds))
        else:
            self._trial = None
            runs = self._runs(message)
            # After the preparation, which gives torch the threads that are for all workers together.
            torch.set_num_threads(message.threads)
            self._send("done", train_part(runs, self, message.overwrite, self._look_up))

    def _runs(self, job: Job) -> list[ManyRun]:
        made = []
        for index, config, name, digest in job.runs:
            prepared = prepare(config, self._data(config))
            if prepared.plan.digest != digest:
                raise InputOutputError(
                    f"{config.dataset.label()} or what else decides a run has changed while this command ran.",
                    "Start the command again.",
                )
            made.append(ManyRun(index, config, prepared if prepared.name == name else renamed(config, prepared, name)))
        return made

    def _data(self, config: TrainConfig) -> SharedData:
        if self._loaded is None or self._loaded[0] != config.dataset:
            self._loaded = config.dataset, SharedData(load_splits(config.dataset))
        return self._loaded[1]

    def _look_up(self, step: int, steps: int) -> None:
        """Look, after every step, whether it is to be the last."""
        if self._stop.is_set():
            raise KeyboardInterrupt
