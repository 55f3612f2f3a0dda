"""Several processes that train one model: each takes its share of every batch, and the sums are everybody's.

Everything random is drawn for the whole batch by every process, from the same seed, and a process keeps its own rows. So
order and noise do not depend on how many processes there are, and the result only by the rounding of sums.
"""

from __future__ import annotations

import contextlib
import io
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from bvae_cli import devices
from bvae_cli.errors import BvaeError, UsageError
from bvae_cli.ranks import Place

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

Value = TypeVar("Value")

# A process that is gone is noticed at once; only one that hangs, or a machine that vanished, takes so long.
_SECONDS_UNTIL_LOST = 600.0
_SECONDS_BETWEEN_LOOKS = 0.05
_TOLD = "told"
_GO_ON = "The same command goes on from there, on any number of processes."


class LostProcessError(BvaeError):
    """Another process of the group is gone, or does not answer any more."""


class Part(NamedTuple):
    """The rows that a process takes of a batch of ``whole`` rows, and how much a mean over them weighs in that of all."""

    rows: slice
    weight: float
    whole: int


class Group:
    """The processes that train together; this one, a process by itself, and the contract of those that are several."""

    rank = 0
    size = 1

    def part(self, rows: int) -> Part:
        """Return what this process takes of a batch: of B rows and W processes, rows ⌊rB/W⌋ to ⌊(r+1)B/W⌋ − 1.

        The weights of all processes add to 1, and Σ weight · mean over the rows is the mean over the batch. Where a batch
        has no row for a process, it takes the first one with weight 0: the arithmetic is the same for everybody.
        """
        start, end = self.rank * rows // self.size, (self.rank + 1) * rows // self.size
        if start == end:
            return Part(slice(0, 1), 0.0, rows)
        return Part(slice(start, end), (end - start) / rows, rows)

    def mine(self, index: int) -> bool:
        """Say whether piece ``index`` of something that is done in pieces falls to this process."""
        return index % self.size == self.rank

    def sum_gradients(self, parameters: Iterable[Tensor], sums: Tensor) -> Tensor:
        """Replace each parameter's gradient by the sum over all processes; return that of ``sums``."""
        return sums

    def total(self, sums: Tensor) -> Tensor:
        """Return the sum over all processes, bit for bit the same in each."""
        return sums

    def from_first(self, value: Value) -> Value:
        """Return what the first process has given, plain values and tensors, in each of them."""
        return value


ALONE = Group()


class ProcessGroup(Group):
    """Processes that ``torch.distributed`` connects: gloo for tensors of the CPU, nccl for those of GPUs.

    Every method raises LostProcessError where another process is gone or does not answer.
    """

    def __init__(self, place: Place, store: Store, on_lost: Callable[[], None] | None = None) -> None:
        self.rank, self.size = place.rank, place.size
        self._store, self._on_lost = store, on_lost

    def sum_gradients(self, parameters: Iterable[Tensor], sums: Tensor) -> Tensor:
        """Sum them in one buffer: they are few and small, and one message waits less than many."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([*[gradient.reshape(-1) for gradient in gradients], sums.to(gradients[0].dtype)])
        with self._connected():
            dist.all_reduce(flat)
        *pieces, summed = flat.split([*[gradient.numel() for gradient in gradients], len(sums)])
        torch._foreach_copy_(gradients, [p.view_as(gradient) for p, gradient in zip(pieces, gradients, strict=True)])
        total: Tensor = summed.to(sums.dtype)
        return total

    def total(self, sums: Tensor) -> Tensor:
        """Sum, and take the first process's sum: what is decided by it is decided alike."""
        sums = sums.clone()
        with self._connected():
            dist.all_reduce(sums)
            dist.broadcast(sums, 0)
        return sums

    def from_first(self, value: Value) -> Value:
        """Send the value as the bytes of a file of weights: nothing in them is ever executed."""
        buffer = io.BytesIO()
        if self.rank == 0:
            torch.save(value, buffer)
        content = torch.frombuffer(bytearray(buffer.getvalue() or b"\0"), dtype=torch.uint8)
        length = torch.tensor([len(content)])
        with self._connected():
            dist.broadcast(length, 0)
            if self.rank:
                content = torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(content, 0)
        if self.rank == 0:
            return value
        received: Value = torch.load(io.BytesIO(content.numpy().tobytes()), weights_only=True, map_location="cpu")
        return received

    def is_told(self, seconds: float) -> bool:
        """Say whether another process tells how the group ends, or does within so many seconds; else this one is to."""
        until = time.monotonic() + seconds
        try:
            while time.monotonic() < until:
                if self._store.check([_TOLD]):
                    return True
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            return not self.tells()
        except RuntimeError:  # the store is gone with the process that held it
            return False

    def tells(self) -> bool:
        """Note that this process tells how the group ends; return whether it is the first to do so."""
        try:
            return bool(self._store.add(_TOLD, 1) == 1)
        except RuntimeError:
            return True

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if self._on_lost is not None:
                self._on_lost()
            if self.rank == 0:
                self.tells()  # before the state is saved: the others wait only a moment for these words
            raise LostProcessError("A process of the group is gone.", _GO_ON) from error


@contextlib.contextmanager
def opened(place: Place, device: str, on_lost: Callable[[], None] | None = None) -> Iterator[Group]:
    """Join the processes that were started together, to train on ``device``: wait for all of them, and leave at the end.

    ``on_lost`` is called as soon as another process is found to be gone. After an error the process is to end.
    Raises UsageError for a device that cannot be shared so, LostProcessError where the others do not come.
    """
    if place.size == 1:
        yield ALONE
        return
    device = devices.choose(device).device
    _take_device(place, device)
    store = _connect(place, "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo")
    yield ProcessGroup(place, store, on_lost)
    # Not after an error: the others hear of the end of this process, but not always of that of the group in it.
    dist.destroy_process_group()


def require_same(group: Group, digest: str) -> None:
    """Raise UsageError where this process would train another run than the first one."""
    first = group.from_first(digest)
    if first != digest:
        raise UsageError(
            f"Process {group.rank} would train another run than process 0: their digests are {digest[:8]} and {first[:8]}.",
            "Give all the same options and the same data, and the same version of torch.",
        )


def _take_device(place: Place, device: str) -> None:
    """Let ``cuda`` mean this process's own GPU."""
    if device == "mps":
        raise UsageError("Several processes cannot share the GPU of a Mac.", "Use --device cpu.")
    if not device.startswith("cuda"):
        return
    if device != "cuda":
        raise UsageError(f"{device} is one GPU, and each process takes one of its own.", "Use --device cuda.")
    count = torch.cuda.device_count()
    if place.local_rank >= count:
        raise UsageError(
            f"There are more processes than the {count} GPU(s) of this machine.", f"Use --nproc-per-node {count}."
        )
    torch.cuda.set_device(place.local_rank)


def _connect(place: Place, backend: str) -> Store:
    if not dist.is_available():
        raise UsageError(
            "This torch is built without support for several processes.", "Start one process, without torchrun."
        )
    from torch.distributed.rendezvous import rendezvous

    timeout = timedelta(seconds=_SECONDS_UNTIL_LOST)
    try:
        known, _, _ = next(rendezvous("env://", place.rank, place.size, timeout=timeout))
        store = _met(known, place)
        dist.init_process_group(backend, store=store, rank=place.rank, world_size=place.size, timeout=timeout)
    except (RuntimeError, ValueError) as error:
        raise LostProcessError(
            f"The {place.size} processes cannot connect: {' '.join(str(error).split())[:200].rstrip('.')}.",
            "Look whether each machine reaches MASTER_ADDR at MASTER_PORT.",
        ) from error
    return store


def _met(store: Store, place: Place) -> Store:
    """Wait until all processes are there; return a store that they alone share.

    A launcher that starts them again after a failure hands out the same store, with what the dead have left in it. So
    each knocks under a name that was never used, the first answers every name with one for all, and waits for their thanks.
    """
    from torch.distributed.distributed_c10d import PrefixStore

    mine, ranks = uuid.uuid4().hex, range(1, place.size)
    until = time.monotonic() + _SECONDS_UNTIL_LOST
    if place.rank:
        store.set(f"bvae/knock/{place.rank}", mine)
    # In Python, a look at a time: a signal finds a listener, which it does not while torch itself waits.
    while time.monotonic() < until:
        if place.rank == 0:
            for rank in ranks:
                if store.check([f"bvae/knock/{rank}"]):
                    store.set(f"bvae/answer/{store.get(f'bvae/knock/{rank}').decode()}", mine)
            if all(store.check([f"bvae/{mine}/thanks/{rank}"]) for rank in ranks):
                return PrefixStore(f"bvae/{mine}", store)
        elif store.check([f"bvae/answer/{mine}"]):
            ours = store.get(f"bvae/answer/{mine}").decode()
            store.set(f"bvae/{ours}/thanks/{place.rank}", "")
            return PrefixStore(f"bvae/{ours}", store)
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    raise LostProcessError(
        f"Not all of {place.size} processes came within {_SECONDS_UNTIL_LOST:.0f} seconds.",
        "Look at what the others say, and whether each machine reaches MASTER_ADDR.",
    )
