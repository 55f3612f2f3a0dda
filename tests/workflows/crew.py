"""Several processes of the tests' own that train together, connected through a file; they are kept for the next job."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from bvae_cli.ranks import Place
from bvae_cli.workflows.distributed import ProcessGroup

Job = Callable[..., Any]
# Far more than any job takes, also on a busy machine: only one that hangs comes near it.
_SECONDS = 600


def together(size: int, job: Job, *arguments: Any) -> list[Any]:
    """Call ``job(group, *arguments)`` in so many processes; return what each returned, raised, or None where it died.

    The group is new for each job. A process whose job raises ends, as it would: its neighbours hear of that.
    """
    crew = _crews.get(size) or [_member(rank, size) for rank in range(size)]
    _crews[size] = crew
    with tempfile.TemporaryDirectory() as folder:
        for _, connection in crew:
            connection.send((str(Path(folder) / "store"), job, arguments))
        results = [_received(connection) for _, connection in crew]
    if any(result is _DEAD or isinstance(result, BaseException) for result in results):
        _dismiss(size)
    return [None if result is _DEAD else result for result in results]


def dismiss_all() -> None:
    """End the processes that are kept."""
    for size in list(_crews):
        _dismiss(size)


_DEAD = object()
_crews: dict[int, list[tuple[BaseProcess, Connection]]] = {}


def _dismiss(size: int) -> None:
    for process, connection in _crews.pop(size):
        connection.close()
        process.kill()
        process.join()


def _member(rank: int, size: int) -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    mine, its = context.Pipe()
    process = context.Process(target=_serve, args=(rank, size, its), daemon=True)
    process.start()
    its.close()
    return process, mine


def _received(connection: Connection) -> Any:
    try:
        assert connection.poll(_SECONDS), "a process hangs"
        return torch.load(io.BytesIO(connection.recv_bytes()), weights_only=False)
    except (EOFError, ConnectionResetError):
        return _DEAD


def _serve(rank: int, size: int, connection: Connection) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            path, job, arguments = connection.recv()
        except EOFError:
            os._exit(0)
        store = dist.FileStore(path, size)
        timeout = timedelta(seconds=_SECONDS)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timeout)
        try:
            result = job(ProcessGroup(Place(rank, size, rank), store), *arguments)
        except BaseException as error:
            result = error
        buffer = io.BytesIO()
        torch.save(result, buffer)
        connection.send_bytes(buffer.getvalue())
        if isinstance(result, BaseException):
            os._exit(1)
        dist.destroy_process_group()
