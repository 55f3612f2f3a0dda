"""How fast this machine multiplies matrices: the ceiling under which a training step stands."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bvae_cli.model.arithmetic import LayerArithmetic

_SIDE = 2048
# A machine that would take longer for one product of that size is asked for smaller ones.
_LONGEST_SECONDS = 1.0
# Of one block of calls, so long that neither the clock nor the launch of a kernel is what is measured.
_SECONDS_OF_A_BLOCK = 0.01
_BLOCKS = 5


@dataclass(frozen=True)
class LayerCeiling:
    """A linear layer's products alone, at its own shapes: forward, gradient of the weights, gradient of the inputs.

    FLOP/s over the three together, in float32 and in bfloat16.
    """

    rows: int
    inputs: int
    outputs: int
    float32: float
    bfloat16: float


class Square:
    """Products of square matrices, as large as this machine does in about a second or less."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype, self._device = dtype, device
        self.side = _SIDE // 8
        while self.side < _SIDE and 8 * self._seconds() < _LONGEST_SECONDS:
            self.side *= 2

    def flop_per_second(self) -> float:
        """Measure one product, 2 × side³ FLOP."""
        return 2 * self.side**3 / self._seconds()

    def _seconds(self) -> float:
        left, right = (torch.rand(self.side, self.side, device=self._device).to(self._dtype) for _ in range(2))
        return seconds_of(lambda: left @ right, self._device)


def layer_ceiling(layer: LayerArithmetic, rows: int, device: torch.device) -> LayerCeiling:
    """Measure the products of a layer for a batch of so many rows."""
    float32, bfloat16 = (_layer_rate(layer, rows, device, dtype) for dtype in (torch.float32, torch.bfloat16))
    return LayerCeiling(rows, layer.inputs, layer.outputs, float32, bfloat16)


def _layer_rate(layer: LayerArithmetic, rows: int, device: torch.device, dtype: torch.dtype) -> float:
    inputs, weights, slopes = (
        torch.rand(shape, device=device).to(dtype)
        for shape in ((rows, layer.inputs), (layer.outputs, layer.inputs), (rows, layer.outputs))
    )
    products: list[Callable[[], Tensor]] = [lambda: inputs @ weights.T, lambda: slopes.T @ inputs, lambda: slopes @ weights]
    needed = products if layer.passes_to_inputs else products[:2]
    flop = 2 * rows * layer.inputs * layer.outputs * len(needed)
    return flop / sum(statistics.median(seconds_of(product, device) for _ in range(_BLOCKS)) for product in needed)


def seconds_of(action: Callable[[], object], device: torch.device) -> float:
    """Return the mean seconds of an action, called as often as makes one block of time."""
    calls = 1
    action()  # libraries choose and load their kernels on the first call
    while True:
        wait_for(device)
        started = time.perf_counter()
        for _ in range(calls):
            action()
        wait_for(device)
        seconds = time.perf_counter() - started
        if seconds >= _SECONDS_OF_A_BLOCK:
            return seconds / calls
        calls = max(2 * calls, int(1.5 * calls * _SECONDS_OF_A_BLOCK / max(seconds, 1e-9)))


def wait_for(device: torch.device) -> None:
    """Wait until a device has done what it was asked for; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
