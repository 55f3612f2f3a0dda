"""What this machine's CPU does best, found by measuring: the library for products of matrices, and memory that is kept.

torch hands products of float32 matrices to MKL where it is built with it, and MKL leaves half of the speed of processors
of other makers unused; oneDNN, which torch has as well, does not. Which is faster is measured once for each kind of
processor and each torch, and kept in the cache folder, so that the same command rounds the same way every time.
``DISABLE_ONEDNN=1`` leaves torch's own choice.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bvae_cli import paths

if TYPE_CHECKING:
    from torch import Tensor

DISABLE_ONEDNN = "DISABLE_ONEDNN"
# What is hardly faster is not worth other last digits.
_WORTH_A_CHANGE = 1.2
# Two orders of summing differ by a factor of about 2; bfloat16 would be off by a factor of 10⁴.
_LARGEST_ERROR_RATIO = 10.0
_ROWS, _INPUTS, _OUTPUTS = 256, 784, 200
_ROUNDS = 6
_FILE = "processor.json"
# mallopt's names for its parameters, <malloc.h>.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER = 1 << 30


@dataclass(frozen=True)
class Products:
    """The library for products of float32 matrices, and what was measured: how many times faster oneDNN is, at what error.

    ``error_ratio`` is the largest error of oneDNN against float64 over that of the other: above 10 it does not compute in
    single precision, and is not taken. Both are None where nothing was measured.
    """

    library: str
    speed_ratio: float | None
    error_ratio: float | None
    reason: str


def prepare(threads: int) -> Products:
    """Let torch use so many CPU threads (0: its own choice), the faster library for products, and memory once taken."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    _keep_memory()
    products = fastest_products()
    if (settings := _settings()) is not None:
        # A permission to round that oneDNN makes no use of where it computes in single precision: as was measured.
        settings.fp32_precision = "bf16" if products.library == "oneDNN" else "none"
    return products


def fastest_products() -> Products:
    """Return the library that is measured to be the faster one here, from the cache where it has been measured before."""
    import torch

    if os.environ.get(DISABLE_ONEDNN, "").strip().lower() in ("1", "true", "yes", "on"):
        return Products("torch's default", None, None, f"{DISABLE_ONEDNN} is set")
    if not torch.backends.mkldnn.is_available() or _settings() is None:
        return Products("torch's default", None, None, "this torch has no choice")
    known = recalled("products")
    if known is None or set(known) != {"speed_ratio", "error_ratio"}:
        known = dict(zip(("speed_ratio", "error_ratio"), _measured(), strict=True))
        remember("products", known)
    speed, error = known["speed_ratio"], known["error_ratio"]
    if error > _LARGEST_ERROR_RATIO:
        return Products("torch's default", speed, error, "oneDNN does not compute in single precision here")
    if speed < _WORTH_A_CHANGE:
        return Products("torch's default", speed, error, f"oneDNN is {speed:.2g} × as fast here")
    return Products("oneDNN", speed, error, f"{speed:.2g} × as fast as torch's default here, measured")


def recalled(what: str) -> dict[str, float] | None:
    """Return the figures that were measured of something with this processor and this torch, None where there are none."""
    path = _file()
    figures = None if path is None else _read(path).get(_key(what))
    try:
        return {str(name): float(figure) for name, figure in figures.items()} if figures else None
    except (AttributeError, TypeError, ValueError):
        return None


def remember(what: str, figures: dict[str, float]) -> None:
    """Keep measured figures; where there is no place for them or it cannot be written, they are measured again next time."""
    path = _file()
    if path is None:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {**_read(path), _key(what): figures}
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        temporary.replace(path)


def _file() -> Path | None:
    folder = paths.cache_dir()
    return None if folder is None else folder / _FILE


def _key(what: str) -> str:
    import torch

    return f"{what}; {_name()}; torch {torch.__version__}"


def _measured() -> tuple[float, float]:
    """Return how many times faster oneDNN is than the other library, on one thread, and the ratio of their errors."""
    import torch

    draw = torch.Generator().manual_seed(0)
    x, weights = torch.randn(_ROWS, _INPUTS, generator=draw), torch.randn(_OUTPUTS, _INPUTS, generator=draw)
    exact = x.double() @ weights.double().T
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {"none": [], "bf16": []}
    errors = {}
    try:
        for _ in range(_ROUNDS):
            for permission, taken in seconds.items():
                with _permission(permission):
                    errors[permission] = float((x @ weights.T - exact).abs().max())
                    taken.append(_seconds(x, weights))
    finally:
        torch.set_num_threads(threads)
    return min(seconds["none"]) / min(seconds["bf16"]), errors["bf16"] / errors["none"]


def _seconds(x: Tensor, weights: Tensor) -> float:
    started = time.perf_counter()
    x @ weights.T
    return time.perf_counter() - started


@contextlib.contextmanager
def _permission(permission: str) -> Iterator[None]:
    settings = _settings()
    before = settings.fp32_precision
    settings.fp32_precision = permission
    try:
        yield
    finally:
        settings.fp32_precision = before


def _settings() -> Any:
    """Return torch's settings for oneDNN's products, None where this torch has none."""
    import torch

    return getattr(torch.backends.mkldnn, "matmul", None)


def _keep_memory() -> None:
    """Let glibc keep memory that is freed: giving it back after every step and taking it anew costs a page fault a page."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):  # another C library
            libc = ctypes.CDLL(None)
            libc.mallopt(_TRIM_THRESHOLD, _NEVER)
            libc.mallopt(_MMAP_THRESHOLD, _NEVER)


def _name() -> str:
    """Return the name of the processor, with the instructions that torch uses of it."""
    import torch

    return f"{_model() or platform.processor() or platform.machine()} ({torch.backends.cpu.get_cpu_capability()})"


def _model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    said = dict(line.split(":", 1) for line in lines if ":" in line)
    return next((value.strip() for name, value in said.items() if name.strip() == "model name"), None)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
