"""The gradient of a batch, in as many pieces as the memory wants: their gradients are added, so that the step is the same.

The mean over a batch is the mean of its pieces, each weighted by its share of the rows; noise is drawn for the whole batch
before. So the result differs from that of the whole batch by the rounding of sums alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bvae_cli.errors import is_out_of_memory

# ``(x [..., b, D], uniform [..., b, K], share) -> [..., 2]``: adds to the gradients those of the mean loss over the b rows
# times ``share``, and returns loss and KL times ``share``.
Backward = Callable[[Tensor, Tensor, float], Tensor]


class Pieces:
    """How many pieces a batch is taken in: twice as many wherever the memory does not suffice.

    ``on_halved`` is called with their number whenever it has grown.
    """

    def __init__(self, on_halved: Callable[[int], None] | None = None) -> None:
        self.count, self.on_halved = 1, on_halved

    def gradient(self, x: Tensor, uniform: Tensor, forget: Callable[[], None], backward: Backward) -> Tensor:
        """Return loss and KL of a batch ``x [..., B, D]``, ``[..., 2]``, with its gradient in the parameters.

        ``forget`` takes all gradients away. Raises what a full memory raises where even a single row is too much.
        """
        while True:
            try:
                forget()
                return self._added(x, uniform, backward)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self.count >= x.shape[-2]:
                    raise
            # Here, where the error no longer holds what was in memory when it was raised.
            self.count *= 2
            forget()
            if x.is_cuda:
                torch.cuda.empty_cache()
            if self.on_halved is not None:
                self.on_halved(self.count)

    def _added(self, x: Tensor, uniform: Tensor, backward: Backward) -> Tensor:
        rows = x.shape[-2]
        sums: Tensor | None = None
        for values, noise in zip(x.chunk(self.count, -2), uniform.chunk(self.count, -2), strict=True):
            of_piece = backward(values, noise, values.shape[-2] / rows)
            sums = of_piece if sums is None else sums + of_piece
        assert sums is not None  # a batch has a row
        return sums
