"""Codes side by side: each has its own stretch of the latent."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bvae_cli.codes.base import Code, CodeSpec

if TYPE_CHECKING:
    from torch import Generator, Tensor


class PartsCode(Code):
    """Codes one after the other, c = [C₁(m₁), C₂(m₂), …]: N and K are the sums of theirs."""

    def __init__(self, spec: CodeSpec, n: int, parts: Sequence[Code]) -> None:
        super().__init__(spec, n)
        self.parts = tuple(parts)
        self.exact = all(part.exact for part in parts)
        self._bits, self._code_bits = [part.k for part in parts], [part.n for part in parts]

    def encode(self, bits: Tensor) -> Tensor:
        """Encode each part, ``[..., K] -> [..., N]``."""
        return _each([part.encode for part in self.parts], bits, self._bits)

    def encode_probs(self, probabilities: Tensor) -> Tensor:
        """Encode the probabilities of each part."""
        return _each([part.encode_probs for part in self.parts], probabilities, self._bits)

    def encode_logits(self, logits: Tensor) -> Tensor:
        """Encode the logits of each part."""
        return _each([part.encode_logits for part in self.parts], logits, self._bits)

    def is_guaranteed(self, repaired: Tensor) -> Tensor:
        """Say whether the decision of every part is sure."""
        parts = zip(self.parts, repaired.split(self._code_bits, -1), strict=True)
        return functools.reduce(operator.and_, (part.is_guaranteed(bits) for part, bits in parts))

    def decode(self, bits: Tensor, generator: Generator | None = None) -> Tensor:
        """Decode each part, ``[..., N] -> [..., K]``."""
        return _each([functools.partial(part.decode, generator=generator) for part in self.parts], bits, self._code_bits)

    def soft_decode(self, logits: Tensor) -> Tensor:
        """Decode the logits of each part."""
        return _each([part.soft_decode for part in self.parts], logits, self._code_bits)


def _each(methods: Sequence[Callable[[Tensor], Tensor]], values: Tensor, sizes: Sequence[int]) -> Tensor:
    import torch

    return torch.cat([method(part) for method, part in zip(methods, values.split(sizes, -1), strict=True)], -1)
