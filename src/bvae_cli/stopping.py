"""Requests of a person or of the system that wait for a moment at which they do no harm.

``with Requests() as requests`` a first SIGINT, SIGTERM or SIGHUP waits for ``requests.obey()``, where the handler that was
there before acts on it; a second one acts at once. SIGUSR1 asks for the state to be saved, and nothing else.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self

# Windows has neither: a scheduler's warning, and the end of the terminal.
SAVE: int | None = getattr(signal, "SIGUSR1", None)
HANG_UP: int | None = getattr(signal, "SIGHUP", None)
STOPS: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM, *([HANG_UP] if HANG_UP is not None else []))


class Requests:
    """What this process is asked for by signals, while the ``with`` block runs.

    Only handlers written in Python can wait: what ends the process at once, or is ignored, stays so. Outside of the main
    thread, which signals belong to, nothing is changed. With ``patient`` a second signal waits as well.
    """

    def __init__(self, patient: bool = False) -> None:
        self._patient = patient
        self._before: dict[int, Any] = {}
        self._mine: dict[int, Any] = {}
        self._stop: int | None = None
        self._save = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in STOPS:
                if callable(signal.getsignal(number)):
                    self._listen(number, self._note_stop)
            if SAVE is not None and not callable(signal.getsignal(SAVE)):
                self._listen(SAVE, self._note_save)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            # Who has changed it meanwhile, as to ignore what comes at the end, has the last word.
            if signal.getsignal(number) == self._mine[number]:
                signal.signal(number, handler)
        if kind is None:  # asked for after the last safe moment
            self.obey()

    def obey(self) -> None:
        """Act on a request to stop, by the handler that was there before: it may raise KeyboardInterrupt."""
        if self._stop is not None:
            number, self._stop = self._stop, None
            self._before[number](number, None)

    def asked_to_save(self) -> bool:
        """Say whether the state is to be saved now; asked again, it is not."""
        asked, self._save = self._save, False
        return asked

    def _listen(self, number: int, handler: Callable[[int, FrameType | None], None]) -> None:
        self._before[number], self._mine[number] = signal.signal(number, handler), handler

    def _note_stop(self, number: int, frame: FrameType | None) -> None:
        if self._stop is None or self._patient:
            self._stop = number
        else:
            self._stop = None
            self._before[number](number, frame)

    def _note_save(self, number: int, frame: FrameType | None) -> None:
        self._save = True


@contextlib.contextmanager
def passing_on_saves(tell: Callable[[int], object]) -> Iterator[None]:
    """Let SIGUSR1 call ``tell`` with its number while the body runs: those who work for this process are to save."""
    if SAVE is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(SAVE, lambda number, frame: tell(number))
    try:
        yield
    finally:
        signal.signal(SAVE, before)
