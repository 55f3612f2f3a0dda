"""A code that does not fill the latent: the bits behind it are left uncoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bvae_cli.codes.base import Code, CodeSpec

if TYPE_CHECKING:
    from torch import Generator, Tensor


class PaddedCode(Code):
    """``inner`` on the first code bits, the identity on the rest; c = [inner(m₁), m₂]."""

    def __init__(self, spec: CodeSpec, n: int, inner: Code) -> None:
        super().__init__(spec, n)
        self._inner = inner
        self.exact = inner.exact

    def encode(self, bits: Tensor) -> Tensor:
        """Encode the first information bits, and leave the rest, ``[..., K] -> [..., N]``."""
        return _joined(self._inner.encode(bits[..., : self._inner.k]), bits[..., self._inner.k :])

    def encode_probs(self, probabilities: Tensor) -> Tensor:
        """Encode the probabilities of the first information bits, and leave the rest."""
        coded, rest = probabilities[..., : self._inner.k], probabilities[..., self._inner.k :]
        return _joined(self._inner.encode_probs(coded), rest)

    def encode_logits(self, logits: Tensor) -> Tensor:
        """Encode the logits of the first information bits, and leave the rest."""
        return _joined(self._inner.encode_logits(logits[..., : self._inner.k]), logits[..., self._inner.k :])

    def decode(self, bits: Tensor, generator: Generator | None = None) -> Tensor:
        """Decode the first code bits, and leave the rest, ``[..., N] -> [..., K]``."""
        return _joined(self._inner.decode(bits[..., : self._inner.n], generator), bits[..., self._inner.n :])

    def soft_decode(self, logits: Tensor) -> Tensor:
        """Decode the logits of the first code bits, and leave the rest."""
        return _joined(self._inner.soft_decode(logits[..., : self._inner.n]), logits[..., self._inner.n :])


def _joined(first: Tensor, second: Tensor) -> Tensor:
    import torch

    return torch.cat([first, second], -1)
