"""The one error type that a person sees, the exit codes, and the words for a near miss."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from enum import IntEnum

# Said by torch on Linux, on Windows, and by CUDA.
_OUT_OF_MEMORY = ("allocate memory", "not enough memory", "out of memory")


class ExitCode(IntEnum):
    """What ``bvae`` returns to the shell."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    INPUT_OUTPUT = 3
    PLUGIN = 4
    DIVERGED = 5
    INTERRUPTED = 130
    TERMINATED = 143


class BvaeWarning(UserWarning):
    """Something that the user of the Python API should know and that does not stop the work."""


class BvaeError(Exception):
    """A mistake or a failure that a person can act on.

    ``message`` is one sentence that says what is wrong, ``hint`` one that says what to do about it, ``exit_code``
    what the command line returns.
    """

    exit_code: ExitCode = ExitCode.FAILED

    def __init__(self, message: str, hint: str | None = None, exit_code: ExitCode | None = None) -> None:
        super().__init__(message if hint is None else f"{message}\n{hint}")
        self.message = message
        self.hint = hint
        if exit_code is not None:
            self.exit_code = exit_code


class UsageError(BvaeError):
    """A wrong name, option, value or size: nothing was done."""

    exit_code = ExitCode.USAGE


class InputOutputError(BvaeError):
    """A file or folder is missing, unreadable, of the wrong content, or cannot be written."""

    exit_code = ExitCode.INPUT_OUTPUT


class PluginError(BvaeError):
    """A package that offers a code or a data set is broken, clashes with another, or is not installed."""

    exit_code = ExitCode.PLUGIN


class DivergedError(BvaeError):
    """The training loss is no longer a number."""

    exit_code = ExitCode.DIVERGED


class InterruptedRunError(BvaeError):
    """Training was stopped by a person or the system; the state was saved."""

    exit_code = ExitCode.INTERRUPTED


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice nearest to ``word``, or None where nothing is near.

    >>> nearest("repitition", ["none", "repetition"])
    'repetition'
    """
    by_folded = {choice.casefold().replace("-", "_"): choice for choice in choices}
    found = difflib.get_close_matches(word.casefold().replace("-", "_"), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def unknown_name(what: str, word: str, choices: Iterable[str]) -> UsageError:
    """Build the error for an unknown name: the nearest valid one where there is one, else all of them."""
    choices = sorted(choices)
    near = nearest(word, choices)
    hint = f"Did you mean '{near}'?" if near else f"Valid: {', '.join(choices)}." if choices else None
    return UsageError(f"There is no {what} '{word}'.", hint)


def reason_of(error: OSError) -> str:
    """Return what the system says of its refusal, as a part of a sentence.

    >>> reason_of(FileNotFoundError(2, "No such file or directory"))
    'no such file or directory'
    """
    return (error.strerror or str(error)).lower()


def cannot_be_read(path: object, error: OSError) -> InputOutputError:
    """Turn a system's refusal to read into a sentence that names the path."""
    too_long = error.errno == errno.ENAMETOOLONG
    hint = "Take a shorter name." if too_long else "Look at its permissions and its disk."
    return InputOutputError(f"{path} cannot be read: {reason_of(error)}.", hint)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether a failure is that of a full memory: torch has no class of its own for a machine that is full.

    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 80 TB"))
    True
    """
    if isinstance(error, MemoryError):
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and any(said in words for said in _OUT_OF_MEMORY)


class TerminatedError(KeyboardInterrupt):
    """The system asked the process to end (SIGTERM); treated as a person's Ctrl-C, with an exit code of its own."""
