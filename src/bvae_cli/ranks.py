"""Where this process stands among those that were started together, as ``torchrun`` tells each of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from bvae_cli.errors import UsageError

_HINT = "Start it with torchrun, which sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT; or unset WORLD_SIZE."


@dataclass(frozen=True)
class Place:
    """Number ``rank`` (from 0) of ``size`` processes, and ``local_rank`` of those on this machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0


def here(variables: Mapping[str, str] | None = None) -> Place:
    """Return the place of this process; without ``WORLD_SIZE``, or where that is 1, it is alone.

    Raises UsageError where the variables of ``torchrun`` are not all there, or are no numbers that go together.

    >>> here({})
    Place(rank=0, size=1, local_rank=0)
    """
    variables = os.environ if variables is None else variables
    size = _number({"WORLD_SIZE": variables.get("WORLD_SIZE") or "1"}, "WORLD_SIZE")
    if size == 1:
        return Place()
    rank = _number(variables, "RANK")
    local_rank = _number(variables, "LOCAL_RANK", str(rank))
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not variables.get(name):
            raise UsageError(f"WORLD_SIZE is {size}, but {name} is not set.", _HINT)
    if not 0 <= rank < size:
        raise UsageError(f"RANK is {rank}, but WORLD_SIZE is {size}.", _HINT)
    return Place(rank, size, local_rank)


def is_alone() -> bool:
    """Say whether this process is one of one."""
    return os.environ.get("WORLD_SIZE", "1").strip() in ("", "1")


def is_first() -> bool:
    """Say whether this is the process that talks: rank 0, or one that is alone or cannot know."""
    return is_alone() or os.environ.get("RANK", "0").strip() in ("", "0")


def local_rank() -> int:
    """Return the number of this process among those on its machine, 0 where it cannot be known."""
    text = os.environ.get("LOCAL_RANK", "0")
    return int(text) if text.isdecimal() else 0


def _number(variables: Mapping[str, str], name: str, default: str | None = None) -> int:
    text = variables.get(name, default)
    if text is None:
        raise UsageError(f"WORLD_SIZE is {variables['WORLD_SIZE']}, but {name} is not set.", _HINT)
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0 or (name == "WORLD_SIZE" and number == 0):
        raise UsageError(f"{name} is '{text}', which is no such number.", _HINT)
    return number
