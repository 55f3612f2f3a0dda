"""Polar codes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from math import exp, log, log1p, sqrt
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from bvae_cli.codes.base import Block
from bvae_cli.codes.blocks import BlockSpec
from bvae_cli.codes.gf2 import Matrix, reduced
from bvae_cli.codes.limits import hard_decoder_of, soft_decoder_of
from bvae_cli.errors import UsageError

if TYPE_CHECKING:
    from bvae_cli.codes.decoding import HardDecoder, SoftDecoder

_LENGTHS = [2**m for m in range(1, 11)]


class Polar(BlockSpec):
    """The k most reliable of the n = 2^m inputs of [[1, 0], [1, 1]]^{⊗m} carry information, the others are frozen to 0.

    Arıkan 2009, IEEE Trans. IT 55(7), sections V to IX. Reliable are the inputs of small Bhattacharyya parameter,
    Z⁻ = 2Z − Z² and Z⁺ = Z² from Z = 2√(ε(1 − ε)): exact on a channel of erasures, a bound on others (section III). The
    minimum distance is the least 2^w over the information positions, with w the number of ones in a position's index
    (Hussami, Korada and Urbanke 2009, ISIT). The generator matrix is reduced, so that a codeword shows the information bits,
    at the information positions (systematic polar coding, Arıkan 2011, IEEE Commun. Lett. 15(8)).

    Logits are decoded exactly where k ≤ 12 or n − k ≤ 12, bits to a nearest codeword where k ≤ 16 or n − k ≤ 20; larger
    blocks by soft cancellation (Fayyaz and Barry 2014, IEEE JSAC 32(5)) and by successive cancellation.

    >>> Polar(n=16, k=8).block()
    Block(n=16, k=8, min_distance=4)
    """

    family: ClassVar[str] = "polar"
    summary: ClassVar[str] = "the most reliable of the 2^m inputs of a recursive sum; any rate, long blocks"

    told_when_changed: ClassVar[frozenset[str]] = frozenset({"design_epsilon", "decoder", "iterations"})

    n: int = Field(64, description="Length of a block: a power of 2 from 2 to 1024.")
    k: int = Field(32, ge=1, le=1023, description="Information bits in a block.")
    design_epsilon: float = Field(
        0.05, gt=0, le=0.49, description="Flip probability for which the information positions are chosen."
    )
    decoder: Literal["best", "successive-cancellation"] = Field(
        "best", description="best: exact where a block is small enough; successive-cancellation: never exact."
    )
    # More passes believe too much in themselves: over noise at ε = 10 %, 1, 2 and 4 passes of (64, 32) leave 1.57, 1.64 and
    # 1.57 % of the bits wrong (± 0.02), and overrate the bits by 0.11, 0.38 and 0.45 points, for 1, 2 and 4 times the work.
    iterations: int = Field(1, ge=1, le=50, description="Passes of soft cancellation, where that decodes.")

    @model_validator(mode="after")
    def _a_power_of_two_and_a_check(self) -> Self:
        if self.n not in _LENGTHS:
            near = sorted(_LENGTHS, key=lambda length: abs(length - self.n))[:2]
            raise UsageError(f"n={self.n} is not a power of 2 from 2 to 1024; nearest valid: {near[0]}, {near[1]}.")
        if self.k >= self.n:
            raise UsageError(
                f"k={self.k} information bits leave no check in a block of n={self.n}.", f"Take at most k={self.n - 1}."
            )
        return self

    def information_positions(self) -> tuple[int, ...]:
        """Return the k positions, counted from 0, of the inputs that carry information, in order.

        >>> Polar(n=8, k=4).information_positions()
        (3, 5, 6, 7)
        """
        return _information_positions(self.n, self.k, self.design_epsilon)

    def block(self) -> Block:
        """Return n, k and the least 2^w of an information position.

        A sum of rows is [a + b, b]. Where a ≠ 0 it weighs at least as much as a, and the first of its rows is in a; else it
        weighs twice as much as b. By induction no sum is lighter than its first row, whose weight is 2^w.
        """
        return Block(self.n, self.k, min(2 ** place.bit_count() for place in self.information_positions()))

    def generator_matrix(self) -> Matrix:
        """Return the rows of the kernel's power at the information positions, reduced to a unit matrix there."""
        return _generator_matrix(self.n, self.information_positions())

    def exemptions(self) -> Mapping[str, str]:
        """Return what does not hold of successive cancellation; nothing where a nearest codeword is found."""
        if not self._hard_cancellation():
            return {}
        return {
            "nearest": "successive cancellation decides bit after bit, and beyond t errors may miss the nearest codeword"
        }

    def soft_decoder(self) -> SoftDecoder | None:
        """Return soft cancellation where the exact posterior is not to be had."""
        if not self._soft_cancellation():
            return None
        from bvae_cli.codes.cancellation import SoftCancellation

        return SoftCancellation(self._free(), self.information_positions(), self.iterations)

    def hard_decoder(self) -> HardDecoder | None:
        """Return successive cancellation where a nearest codeword is not to be had."""
        if not self._hard_cancellation():
            return None
        from bvae_cli.codes.cancellation import SuccessiveCancellation

        return SuccessiveCancellation(self._free(), self.information_positions())

    def no_soft_decoder(self) -> str | None:
        """Return None: every block can be decoded."""
        return None

    def no_hard_decoder(self) -> str | None:
        """Return None: every block can be decoded."""
        return None

    def soft_decoding(self) -> str:
        """Say how logits are decoded, and whether the result is the exact posterior."""
        if not self._soft_cancellation():
            return super().soft_decoding()
        passes = "one pass" if self.iterations == 1 else f"{self.iterations} passes"
        return f"soft cancellation, {passes} over the tree of the code, not exact"

    def soft_cost(self) -> float | None:
        """Return about how many exponentials and logarithms a block takes, for each information bit."""
        if not self._soft_cancellation():
            return super().soft_cost()
        # Three sums of half as many logits in every node that is neither frozen nor free, four functions each.
        return 6 * self.iterations * _mixed_lengths(self._free()) / self.k

    def hard_decoding(self) -> str:
        """Say how bits are decoded."""
        if not self._hard_cancellation():
            return super().hard_decoding()
        return "successive cancellation, a fair coin between equals; not always a nearest codeword"

    def hard_block_error_rate(self, epsilon: float) -> float | None:
        """Return that of a nearest codeword, None where bits are decoded by successive cancellation."""
        return None if self._hard_cancellation() else super().hard_block_error_rate(epsilon)

    def hard_bit_error_rate(self, epsilon: float) -> float | None:
        """Return that of a nearest codeword, None where bits are decoded by successive cancellation."""
        return None if self._hard_cancellation() else super().hard_bit_error_rate(epsilon)

    def remark(self) -> str | None:
        """Say what is exact and what is not, None where all is."""
        soft = "logits by soft cancellation, which comes near the exact posterior but is not it"
        hard = "bits by successive cancellation, which corrects any t wrong bits but beyond may miss the nearest codeword"
        told = [*([soft] if self._soft_cancellation() else []), *([hard] if self._hard_cancellation() else [])]
        return f"Such a block is decoded without trying all words: {'; '.join(told)}." if told else None

    def _free(self) -> list[bool]:
        return [place in self.information_positions() for place in range(self.n)]

    def _soft_cancellation(self) -> bool:
        return self.decoder == "successive-cancellation" or soft_decoder_of(self.n, self.k) is None

    def _hard_cancellation(self) -> bool:
        return self.decoder == "successive-cancellation" or hard_decoder_of(self.n, self.k) is None


def _mixed_lengths(free: list[bool]) -> int:
    """Return the lengths, added up, of all nodes of the tree that have frozen and free inputs."""
    if all(free) or not any(free):
        return 0
    half = len(free) // 2
    return len(free) + _mixed_lengths(free[:half]) + _mixed_lengths(free[half:])


@functools.lru_cache(maxsize=64)
def _information_positions(n: int, k: int, epsilon: float) -> tuple[int, ...]:
    parameters = bhattacharyya_logits(n, 2 * sqrt(epsilon * (1 - epsilon)))
    return tuple(sorted(sorted(range(n), key=lambda place: (parameters[place], -place))[:k]))


def bhattacharyya_logits(n: int, parameter: float) -> list[float]:
    """Return log Z/(1 − Z) of the Bhattacharyya parameters Z of the n inputs, for a channel of the given parameter.

    Z and 1 − Z change places between Z⁻ = 2Z − Z² = 1 − (1 − Z)² and Z⁺ = Z², so that with the logarithms of both none is
    too near to 0 or 1 to be told from another. The first half of the inputs sees Z⁻ of the channel, the second Z⁺.

    >>> [round(1 / (1 + exp(-logit)), 3) for logit in bhattacharyya_logits(4, 0.5)]
    [0.938, 0.562, 0.438, 0.062]
    """
    logs = [(log(parameter), log1p(-parameter))]
    while len(logs) < n:
        logs = [half for one, other in logs for half in (_minus(one, other), _minus(other, one)[::-1])]
    return [one - other for one, other in logs]


def _minus(one: float, other: float) -> tuple[float, float]:
    """Return log Z⁻ and log(1 − Z⁻) of log Z and log(1 − Z)."""
    return one + log1p(exp(other)), 2 * other


@functools.lru_cache(maxsize=64)
def _generator_matrix(n: int, positions: tuple[int, ...]) -> Matrix:
    # Row i has ones at the places whose ones are all in i, so its last one is at i: reduced from the right, i shows its bit.
    rows = tuple(tuple(int(place & ~row == 0) for place in reversed(range(n))) for row in reversed(positions))
    return tuple(row[::-1] for row in reversed(reduced(rows)[0]))
