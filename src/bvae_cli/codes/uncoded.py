"""The code ``none``: every code bit is an information bit. The baseline of every comparison, and no special case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from bvae_cli.codes.base import Block, Code, CodeSpec

if TYPE_CHECKING:
    from torch import Generator, Tensor


class Uncoded(CodeSpec):
    """The identity on N bits: rate 1, distance 1, no error corrected.

    >>> Uncoded().information_bits(100)
    100
    """

    family: ClassVar[str] = "none"
    summary: ClassVar[str] = "no code: every latent bit is an information bit"
    exempt: ClassVar[Mapping[str, str]] = {"soft_extremes": "the identity hands an infinity on as it is"}

    def block(self) -> Block:
        """Return the block (1, 1, 1)."""
        return Block(n=1, k=1, min_distance=1)

    def build(self, n: int) -> UncodedCode:
        """Return the identity on ``n`` bits."""
        return UncodedCode(self, n)

    def soft_decoding(self) -> str:
        """Return what the identity does."""
        return "the logits themselves, exact"

    def soft_cost(self) -> float:
        """Return 0: nothing but sums."""
        return 0.0

    def hard_decoding(self) -> str:
        """Return what the identity does."""
        return "the bits themselves"

    def hard_bit_error_rate(self, epsilon: float) -> float:
        """Return ε: nothing is corrected."""
        return epsilon

    def hard_block_error_rate(self, epsilon: float) -> float:
        """Return ε: a block is one bit."""
        return epsilon

    def soft_bit_error_rate(self, epsilon: float) -> float:
        """Return ε: the sign of one logit is the decision of one bit."""
        return epsilon


class UncodedCode(Code):
    """The identity map in both directions, hard and soft."""

    def encode(self, bits: Tensor) -> Tensor:
        """Return the bits themselves, ``[..., n] -> [..., n]``."""
        return bits

    def encode_probs(self, probabilities: Tensor) -> Tensor:
        """Return the probabilities themselves, exactly: any arithmetic here would leave a residue in the loss."""
        return probabilities

    def encode_logits(self, logits: Tensor) -> Tensor:
        """Return the logits themselves."""
        return logits

    def decode(self, bits: Tensor, generator: Generator | None = None) -> Tensor:
        """Return the bits themselves."""
        return bits

    def soft_decode(self, logits: Tensor) -> Tensor:
        """Return the logits themselves."""
        return logits
