"""The repetition code: every information bit is stored R times."""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from bvae_cli.codes.base import Block, Code, CodeSpec
from bvae_cli.codes.closed_forms import majority_bit_error_rate, summed_logits_bit_error_rate

if TYPE_CHECKING:
    from torch import Generator, Tensor


class Repetition(CodeSpec):
    """R copies of each information bit: (n, k, d) = (R, 1, R), rate 1/R; MacWilliams and Sloane 1977, ch. 1 §2.

    >>> spec = Repetition(R=3)
    >>> spec.information_bits(300), round(spec.hard_bit_error_rate(0.05), 5)
    (100, 0.00725)
    """

    family: ClassVar[str] = "repetition"
    summary: ClassVar[str] = "each information bit R times; decoded by majority, or by adding logits"

    R: int = Field(3, ge=1, le=1024, description="Copies of each information bit.")

    def block(self) -> Block:
        """Return the block (R, 1, R)."""
        return Block(n=self.R, k=1, min_distance=self.R)

    def build(self, n: int) -> RepetitionCode:
        """Return the code of ``n`` code bits, n / R information bits."""
        return RepetitionCode(self, n, self.R)

    def soft_decoding(self) -> str:
        """Return how the logits of the copies are put together."""
        return "the logits of the copies are added, exact"

    def soft_cost(self) -> float:
        """Return 0: nothing but sums."""
        return 0.0

    def hard_decoding(self) -> str:
        """Return how the copies are put together."""
        return "the majority of the copies, a fair coin where they tie"

    def hard_bit_error_rate(self, epsilon: float) -> float:
        """Return the closed form of majority decoding with a fair coin on ties."""
        return majority_bit_error_rate(self.R, epsilon)

    def hard_block_error_rate(self, epsilon: float) -> float:
        """Return the bit error rate: a block holds one information bit."""
        return majority_bit_error_rate(self.R, epsilon)

    def soft_bit_error_rate(self, epsilon: float) -> float:
        """Return Q(√R · Q⁻¹(ε)): the logits of the copies add."""
        return summed_logits_bit_error_rate(self.R, epsilon)

    def remark(self) -> str | None:
        """Say what even numbers of copies do not do."""
        if self.R == 1:
            return "R=1 stores each bit once: this is the uncoded model under another name."
        if self.R == 2:
            return (
                "R=2 by majority corrects nothing: two copies that differ are a tie, and the error rate stays exactly ε. "
                "It detects a single flip, and soft decoding gains 3 dB because the two logits add."
            )
        if self.R % 2 == 0:
            return f"R={self.R} by majority makes exactly the errors of R={self.R - 1}: the last copy only makes ties."
        return None


class RepetitionCode(Code):
    """The copies of a bit lie K apart: c = [m, m, …, m].

    Summing over that layout is faster than over adjacent copies at R = 2 and 3, and slower at R = 10
    (``benchmarks/repetition_layout.py`` measures both).
    """

    def __init__(self, spec: CodeSpec, n: int, copies: int) -> None:
        super().__init__(spec, n)
        self.copies = copies

    def encode(self, bits: Tensor) -> Tensor:
        """Repeat the word R times, ``[..., K] -> [..., R K]``."""
        return bits.unsqueeze(-2).expand(*bits.shape[:-1], self.copies, self.k).flatten(-2)

    def encode_probs(self, probabilities: Tensor) -> Tensor:
        """Repeat the probabilities: each copy has its bit's own."""
        return self.encode(probabilities)

    def encode_logits(self, logits: Tensor) -> Tensor:
        """Repeat the logits."""
        return self.encode(logits)

    def is_guaranteed(self, repaired: Tensor) -> Tensor:
        """Say whether of each bit fewer than half of the copies are in the minority, ``[..., R K] -> [...]``."""
        minority = repaired.unflatten(-1, (self.copies, self.k)).sum(-2)
        sure: Tensor = (minority <= (self.copies - 1) // 2).all(-1)
        return sure

    def decode(self, bits: Tensor, generator: Generator | None = None) -> Tensor:
        """Majority of the copies, a fair coin where they tie (even R only), ``[..., R K] -> [..., K]``."""
        import torch

        # Twice the ones less the copies: above zero a majority of ones, zero a tie. int16 holds R ≤ 1024.
        balance = 2 * bits.unflatten(-1, (self.copies, self.k)).to(torch.int16).sum(-2) - self.copies
        ones = balance > 0
        if self.copies % 2 == 0:
            if generator is None:
                generator = torch.Generator(bits.device).manual_seed(0)
            coin = torch.rand(balance.shape, device=bits.device, generator=generator) < 0.5
            ones = ones | ((balance == 0) & coin)
        decoded: Tensor = ones.to(bits.dtype)
        return decoded

    def soft_decode(self, logits: Tensor) -> Tensor:
        """Add the logits of the copies: the exact posterior under a uniform prior, λ_k = Σ_r l_{rK+k}.

        Inputs are clamped to ±1e4, so that copies that are infinitely sure of opposite values give 0, not NaN. Half
        precision is summed in float32.
        """
        from bvae_cli.codes.decoding import clamped

        # Copy by copy: a sum along a dimension took two to five times as long on more than a few thousand rows.
        copies = [clamped(copy) for copy in logits.split(self.k, -1)]
        decoded: Tensor = functools.reduce(operator.add, copies)
        return decoded.to(logits.dtype)
