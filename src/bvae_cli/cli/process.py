"""What belongs to the process: its standard streams, and what it does when it is asked to stop.

Light on purpose: it is imported before anything else, so that a signal finds somebody who listens.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

from bvae_cli import ranks
from bvae_cli.stopping import SAVE, STOPS

_IMPORT_MACHINERY = "<frozen importlib"
# How a standard stream writes what its encoding has no sign for; known to Python by this name once this is imported.
LENIENT = "bvae_cli.lenient"
_STRAY_BYTES = 0xDC00  # where Python puts the bytes of a name that are no text, PEP 383


def _lenient(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write a name's stray bytes as they are, so that a script finds the file, and ε as a question mark where it must."""
    if not isinstance(error, UnicodeEncodeError):
        return codecs.lookup_error("surrogateescape")(error)  # who reads a stream again, as a test does
    stray = ord(error.object[error.start]) - _STRAY_BYTES
    return (bytes([stray]) if stray in range(0x80, 0x100) else "?"), error.start + 1


codecs.register_error(LENIENT, _lenient)


def open_streams() -> None:
    """Give the standard streams that the caller has closed (``2>&-``) a place: what is said there is heard by nobody.

    Else the next file to be opened would take the number of the stream, and talk would be written into it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number, which is this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - open for good


def exit_when_asked() -> None:
    """Let what asks the process to stop end it with a sentence: nothing has begun that could be lost."""
    _listen(_exit_at_once)
    if SAVE is not None:
        # For the whole life of the process, its end included: a scheduler's warning is no reason to die.
        signal.signal(SAVE, signal.SIG_IGN)


def leave_quietly() -> None:
    """Let no second Ctrl-C disturb the end of a process that has done its work; SIGTERM ends it as it ends any."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def exit_without_cleaning(code: int) -> NoReturn:
    """End a process of a group. What Python does at its end may meet a thread of torch's that does not expect it.

    Then the system would report the process as aborted, and the launcher as failed, though it had done all its work.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def ignore_stops() -> None:
    """Let nothing that asks it to stop disturb a process that is about to end by itself."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def stopping_by_exception() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt, and SIGTERM or SIGHUP the TerminatedError that is one, while the body runs.

    SIGUSR1, with which a scheduler warns, does no harm where there is nothing to save.
    """
    numbers = [*STOPS, *([SAVE] if SAVE is not None else [])]
    before = {number: signal.getsignal(number) for number in numbers}
    over = False

    def stop(number: int, frame: FrameType | None) -> None:
        if not over:
            _raise(number, frame)

    _listen(stop)
    if SAVE is not None:
        signal.signal(SAVE, signal.SIG_IGN)
    try:
        yield
    finally:
        over = True  # what is restored is restored whole
        for number, handler in before.items():
            # A process that has said how it ends ignores what stops it, and is to do so until it is gone.
            if handler is not None and (number == SAVE or signal.getsignal(number) is stop):
                signal.signal(number, handler)


def _listen(handler: Callable[[int, FrameType | None], Any]) -> None:
    signal.signal(signal.SIGTERM, handler)
    # A shell lets what it starts in the background ignore Ctrl-C, nohup the end of the terminal: that stays so.
    for number in STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _exit_at_once(number: int, frame: FrameType | None) -> NoReturn:
    # A number each, whatever else than Ctrl-C it was: those of ExitCode, which is not imported yet.
    word, code = ("Interrupted", 130) if number == signal.SIGINT else ("Terminated", 143)
    if ranks.is_first():
        with contextlib.suppress(OSError):
            os.write(2, f"Error: {word}.\n".encode())
    os._exit(code)


def _raise(number: int, frame: FrameType | None) -> NoReturn:
    if _importing(frame):
        # Libraries of C swallow an exception in the middle of their import, or make another of it.
        _exit_at_once(number, frame)
    if not ranks.is_alone():
        # The shell and the launcher both pass a signal on: the second must not disturb the saving that follows the first.
        ignore_stops()
    from bvae_cli.errors import TerminatedError

    raise KeyboardInterrupt if number == signal.SIGINT else TerminatedError


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith(_IMPORT_MACHINERY):
            return True
        frame = frame.f_back
    return False
