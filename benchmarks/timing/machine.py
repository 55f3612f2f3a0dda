"""What a measurement was made on: the processor, what of it matters here, memory, load, versions. No names of hosts."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

# What decides the speed of matrix products: the widest vectors, and products in bfloat16.
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")
_PACKAGES = ("bvae-cli", "torch", "numpy", "pydantic", "typer", "pythae")
_LIBRARIES = {
    "OpenMP": r"^OpenMP (\d+)",
    "MKL": r"Math Kernel Library Version (\S+)-",
    "oneDNN": r"MKL-DNN v(\S+)",
    "parallel": r"parallel backend: (.+)$",
}


def machine() -> dict[str, Any]:
    """Return the facts of this machine."""
    import torch

    processor = _fields(Path("/proc/cpuinfo"))
    flags = processor.get("flags", "").split()
    memory = _fields(Path("/proc/meminfo")).get("MemTotal", "")
    gpus = range(torch.cuda.device_count())
    return {
        "processor": processor.get("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "memory_gib": round(int(memory.split()[0]) / 2**20, 1) if memory else None,
        "system": platform.system(),
        "gpus": [torch.cuda.get_device_name(index) for index in gpus],
    }


def versions() -> dict[str, Any]:
    """Return the versions of what computes, and with what torch computes in parallel."""
    import torch

    found = {name: _version(name) for name in _PACKAGES}
    said = torch.__config__.parallel_info()
    libraries = {name: re.search(pattern, said, re.MULTILINE) for name, pattern in _LIBRARIES.items()}
    return {
        "python": platform.python_version(),
        **{name: version for name, version in found.items() if version},
        "commit": _commit(),
        "cuda": torch.version.cuda,
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "libraries": {name: match[1] for name, match in libraries.items() if match},
    }


def load_average() -> list[float]:
    """Return how many processes wanted to run in the last 1, 5 and 15 minutes; empty where it is not known."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else []


def seconds_of_others() -> float | None:
    """Return the processor's seconds that other programs have taken since the machine started; None where it is not known.

    Of ours are this process and those of its children that have ended. Take the difference of two calls.
    """
    file = Path("/proc/stat")
    if not file.is_file():
        return None
    return busy_seconds(file.read_text(encoding="utf-8"), os.sysconf("SC_CLK_TCK")) - sum(os.times()[:4])


def busy_seconds(said: str, ticks_a_second: int) -> float:
    """Read ``/proc/stat``: the seconds that all processors together were neither idle nor waiting for a disk.

    >>> busy_seconds("cpu  100 20 30 5000 600 7 8 5 0 0\\ncpu0 1 1 1 1\\n", 100)
    1.7
    """
    user, nice, system, _, _, interrupt, soft_interrupt, stolen = map(int, said.splitlines()[0].split()[1:9])
    return (user + nice + system + interrupt + soft_interrupt + stolen) / ticks_a_second


def today() -> str:
    """Return the date, as year-month-day."""
    return time.strftime("%Y-%m-%d")


def _fields(path: Path) -> dict[str, str]:
    """Return the first value of each ``name: value`` line of a file, nothing where there is no such file."""
    found: dict[str, str] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            name, colon, value = line.partition(":")
            if colon:
                found.setdefault(name.strip(), value.strip())
    return found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the revision of this checkout, with ``+`` where files differ from it; None where git does not know."""
    here = Path(__file__).parent
    asked = ("rev-parse", "--short=12", "HEAD"), ("status", "--porcelain", "--untracked-files=no")
    try:
        revision, changed = (
            subprocess.run(["git", "-C", str(here), *words], check=True, capture_output=True, text=True).stdout.strip()
            for words in asked
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return revision + ("+" if changed else "")
