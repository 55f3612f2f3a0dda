"""Looking at a file before it is read: the sentences for one that is missing, empty or not readable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bvae_cli.errors import InputOutputError, nearest


def require_file(path: Path) -> None:
    """Raise InputOutputError where ``path`` is missing, no file, or empty; nothing of it is read."""
    with reading(path):
        if not path.exists():
            raise InputOutputError(f"There is no file {path}.", _near_miss(path))
        if not path.is_file():
            raise InputOutputError(f"{path} is not a file.", "Give the path of a file.")
        if not path.stat().st_size:
            raise InputOutputError(f"{path} is empty.", "Write or copy the file again.")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an OSError of the body into an InputOutputError that names ``path``."""
    try:
        yield
    except OSError as error:
        raise InputOutputError(
            f"{path} cannot be read: {error.strerror or error}.", "Look at its permissions and its disk."
        ) from error


def _near_miss(path: Path) -> str:
    # Without the suffix: all files of one kind have that in common.
    siblings = {entry.stem: entry.name for entry in path.parent.iterdir()} if path.parent.is_dir() else {}
    near = nearest(path.stem, siblings)
    return f"Did you mean {path.parent / siblings[near]}?" if near else "Check the path."
