"""Which device and which precision, and why; torch is imported inside, when somebody asks.

``CUDA_VISIBLE_DEVICES`` hides GPUs (torch itself reads it), ``DISABLE_MPS=1`` the chip of a Mac, ``DISABLE_AMP=1`` keeps
everything in float32, and ``DISABLE_ONEDNN=1`` leaves the library for products of matrices to torch (see ``processor``).
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bvae_cli import processor
from bvae_cli.errors import UsageError

if TYPE_CHECKING:
    import torch

VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "DISABLE_MPS",
    "DISABLE_AMP",
    processor.DISABLE_ONEDNN,
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
)


@dataclass(frozen=True)
class Choice:
    """The device and the precision of the networks (the loss is always float32), with the reasons."""

    device: str
    precision: str
    device_reason: str
    precision_reason: str

    @property
    def autocast_dtype(self) -> torch.dtype | None:
        """The dtype of automatic mixed precision, None where it is off."""
        import torch

        return {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(self.precision)


@dataclass(frozen=True)
class Device:
    """One device of this machine: its name, memory in bytes (None where unknown) and the precisions it has."""

    device: str
    name: str
    memory_bytes: int | None
    precisions: tuple[str, ...]


@dataclass(frozen=True)
class Survey:
    """Everything that ``bvae devices`` shows."""

    devices: list[Device]
    chosen: Choice
    variables: dict[str, str | None]
    torch_version: str
    torch_build: str
    threads: int
    products: processor.Products


def choose(device: str = "auto", amp: str = "auto") -> Choice:
    """Choose device and precision.

    Raises UsageError for a device that is not there, or a precision that it does not have.
    """
    name, device_reason = _device(device)
    precision, precision_reason = _precision(name, amp)
    return Choice(name, precision, device_reason, precision_reason)


def memory_bytes(device: str) -> int | None:
    """Return the whole memory of a device in bytes, None where it is not known."""
    import torch

    if device.startswith("cuda"):
        return int(torch.cuda.get_device_properties(device).total_memory)
    return _memory() if device == "cpu" else None


def available_bytes(device: str) -> int | None:
    """Return the memory of a device that is left for this process, in bytes, None where it is not known."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    if device != "cpu":
        return None
    left = [_left_in_machine(), _left_in_group(), _left_in_limits()]
    return min((count for count in left if count is not None), default=None)


def survey() -> Survey:
    """List every device, what ``auto`` chooses and why, and what bears on it."""
    import torch

    found = [Device("cpu", platform.processor() or platform.machine(), _memory(), ("float32", "bfloat16"))]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        precisions = ("float32", "bfloat16", "float16") if _has_bfloat16(index) else ("float32", "float16")
        found.append(Device(f"cuda:{index}", properties.name, properties.total_memory, precisions))
    if torch.backends.mps.is_available():
        found.append(Device("mps", "Apple GPU", None, ("float32", "float16")))
    cuda = torch.version.cuda
    return Survey(
        devices=found,
        chosen=choose(),
        variables={name: os.environ.get(name) for name in VARIABLES},
        torch_version=torch.__version__,
        torch_build=f"CUDA {cuda}" if cuda else "CPU" if not torch.backends.mps.is_built() else "CPU and MPS",
        threads=torch.get_num_threads(),
        products=processor.fastest_products(),
    )


def _device(asked: str) -> tuple[str, str]:
    import torch

    if asked == "cpu":
        return "cpu", "asked for"
    if asked.startswith("cuda"):
        _require_cuda(asked)
        return asked, "asked for"
    mps_disabled = _is_set("DISABLE_MPS")
    if asked == "mps":
        if mps_disabled:
            return "cpu", "mps was asked for, but DISABLE_MPS is set"
        if not torch.backends.mps.is_available():
            raise UsageError("There is no MPS device on this machine.", "Use --device cpu, or leave it out.")
        return "mps", "asked for"
    if torch.cuda.is_available():
        return "cuda", "a CUDA device is there"
    if torch.backends.mps.is_available():
        return ("cpu", "DISABLE_MPS is set") if mps_disabled else ("mps", "an Apple GPU is there")
    return "cpu", "no GPU is there"


def _require_cuda(asked: str) -> None:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        why = "" if torch.version.cuda else f" (this torch {torch.__version__} is built without CUDA)"
        hidden = " CUDA_VISIBLE_DEVICES hides every GPU." if os.environ.get("CUDA_VISIBLE_DEVICES") == "" else ""
        raise UsageError(f"There is no CUDA device on this machine{why}.{hidden}", "Use --device cpu, or leave it out.")
    index = int(asked.partition(":")[2] or 0)
    if index >= count:
        raise UsageError(f"There is no device {asked}: {count} CUDA device(s) are visible, 0…{count - 1}.")


def _precision(device: str, amp: str) -> tuple[str, str]:
    kind = device.partition(":")[0]
    if amp == "off":
        return "float32", "asked for"
    if _is_set("DISABLE_AMP"):
        return "float32", "DISABLE_AMP is set"
    if amp == "fp16":
        if kind == "cpu":
            raise UsageError("The CPU has no use for --amp fp16.", "Use --amp bf16 or --amp off.")
        return "float16", "asked for"
    if amp == "bf16":
        if kind == "mps" or (kind == "cuda" and not _has_bfloat16(int(device.partition(":")[2] or 0))):
            raise UsageError(f"{device} has no bfloat16.", "Use --amp fp16 or --amp off.")
        return "bfloat16", "asked for"
    if kind == "cuda" and _has_bfloat16(int(device.partition(":")[2] or 0)):
        return "bfloat16", "this GPU has it; the loss stays in float32"
    return "float32", "mixed precision is automatic only on GPUs with bfloat16"


def _has_bfloat16(index: int) -> bool:
    import torch

    # Emulated before compute capability 8.0, and slower there than float32.
    return torch.cuda.get_device_capability(index) >= (8, 0)


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() in ("1", "true", "yes", "on")


def _left_in_machine() -> int | None:
    """What Linux says could be given to a new program without swapping; elsewhere all that there is."""
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return _memory()


def _left_in_group() -> int | None:
    """What the limit of a container or of a job (cgroup v2) leaves; what it holds of files it can give back."""
    for line in _lines("/proc/self/cgroup"):
        if line.startswith("0::"):
            group = f"/sys/fs/cgroup{line.removeprefix('0::').rstrip('/')}"
            most, held = _lines(f"{group}/memory.max"), _lines(f"{group}/memory.current")
            files = [int(said.split()[1]) for said in _lines(f"{group}/memory.stat") if said.startswith("inactive_file ")]
            if most and held and most[0].isdecimal():
                return max(0, int(most[0]) - int(held[0]) + sum(files))
    return None


def _left_in_limits() -> int | None:
    """What ``ulimit -v`` leaves of the addresses of this process."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    taken = _lines("/proc/self/statm")
    if most == resource.RLIM_INFINITY or not taken:
        return None
    return max(0, most - int(taken[0].split()[0]) * resource.getpagesize())


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
