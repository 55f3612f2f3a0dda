"""Binary convolutional codes of rate 1/n₀ without feedback, in blocks."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from bvae_cli.codes.base import Block
from bvae_cli.codes.blocks import BlockSpec
from bvae_cli.codes.gf2 import Matrix, polynomial_divisor
from bvae_cli.codes.limits import hard_decoder_of
from bvae_cli.errors import UsageError

if TYPE_CHECKING:
    from bvae_cli.codes.decoding import HardDecoder, SoftDecoder
    from bvae_cli.codes.forward_backward import Register

# States, or pairs of a start and a state, over which a block is decoded.
MOST_STATES = 1 << 12
MOST_MEMORY = 12
MOST_GENERATORS = 8
# k · 4^ν, with which the search for the minimum distance of a tail-biting block grows.
_MOST_SEARCHED = 1 << 26
_KNOWN = "Take generators that are known to be good, as 5-7, 15-17, 23-35 or 133-171."


class Convolutional(BlockSpec):
    """Each information bit and the ν before it give n₀ code bits, c_{t,j} = Σ_i g_{j,i} u_{t−i} mod 2.

    Elias 1955; Lin and Costello 2004, ch. 11. The generators are octal numbers of ν + 1 bits, of which the leftmost,
    g_{j,0}, multiplies the present bit; all of them read from the right give a code of the same distances. Zeros that all
    of them have on the right are left out. A code bit of step t lies at n₀ t + j.

    ``tail-biting`` goes round: the bits before the first are the last ones, n = n₀ k (Solomon and van Tilborg 1979; Ma and
    Wolf 1986). ``terminated`` has ν zeros before the start and at the end, n = n₀ (k + ν). Generators with a common factor
    are catastrophic and refused (Massey and Sain 1968).

    Raises UsageError where the options make no code.

    >>> Convolutional(k=50).block()
    Block(n=100, k=50, min_distance=5)
    >>> Convolutional(generators="133,171", k=44, termination="terminated").block()
    Block(n=100, k=44, min_distance=10)
    """

    family: ClassVar[str] = "convolutional"
    summary: ClassVar[str] = "each bit and the few before it give the code bits; long blocks, decoded over few states"

    generators: str = Field("5-7", description="Octal generators, as 5-7 or 133-171; leftmost bit: the present bit.")
    k: int = Field(50, ge=1, le=1000, description="Information bits of a block.")
    termination: Literal["tail-biting", "terminated"] = Field(
        "tail-biting", description="How a block ends: as it begins, or with as many zeros as the memory has."
    )

    @field_validator("generators")
    @classmethod
    def _written_alike(cls, text: str) -> str:
        words = [word for word in re.split(r"[-,;/\s]+", text) if word]
        for word in words:
            if not re.fullmatch("[0-7]+", word):
                raise UsageError(f"'{word}' in generators={text} is not an octal number.", "Digits are 0 to 7, as in 5-7.")
        numbers = [int(word, 8) for word in words]
        if not 2 <= len(numbers) <= MOST_GENERATORS:
            raise UsageError(
                f"generators={text} has {len(numbers)} generator{'' if len(numbers) == 1 else 's'}; a code takes 2 to "
                f"{MOST_GENERATORS}.",
                "Separate them with a hyphen, as 5-7.",
            )
        if 0 in numbers:
            raise UsageError(f"generators={text} has a generator that is zero: its code bits say nothing.", _KNOWN)
        while all(number % 2 == 0 for number in numbers):
            numbers = [number >> 1 for number in numbers]
        return "-".join(f"{number:o}" for number in numbers)

    @model_validator(mode="after")
    def _makes_a_code(self) -> Self:
        factor, memory = functools.reduce(polynomial_divisor, self.polynomials()), self.memory()
        if memory > MOST_MEMORY:
            raise UsageError(f"generators={self.generators} has memory {memory}; at most {MOST_MEMORY} is decoded.", _KNOWN)
        if memory == 0:
            raise UsageError(
                f"generators={self.generators} has no memory: it only repeats each bit.",
                f"Take the code repetition with R={len(self.polynomials())}.",
            )
        if factor != 1:
            raise UsageError(
                f"generators={self.generators} is catastrophic: all have the factor {factor:b} (as bits), so that few "
                "flips may turn any number of information bits.",
                _KNOWN,
            )
        if self.termination == "tail-biting" and self.k < memory:
            raise UsageError(
                f"k={self.k} is less than the memory {memory} of generators={self.generators}, and a tail-biting block "
                "has at least as many information bits.",
                f"Take k={memory} or more, or termination=terminated.",
            )
        return self

    def polynomials(self) -> tuple[int, ...]:
        """Return the generators as integers, the bit of the present information bit the highest, at place ν."""
        return tuple(int(word, 8) for word in self.generators.split("-"))

    def memory(self) -> int:
        """Return ν, the number of earlier bits on which a code bit depends."""
        return max(number.bit_length() for number in self.polynomials()) - 1

    def block(self) -> Block:
        """Return n, k and, where it can be searched, the minimum distance."""
        tail_biting = self.termination == "tail-biting"
        steps = self.k if tail_biting else self.k + self.memory()
        distance = minimum_distance(self.polynomials(), self.k, tail_biting=tail_biting)
        return Block(len(self.polynomials()) * steps, self.k, distance)

    def generator_matrix(self) -> Matrix:
        """Return in row i the generators, bit by bit side by side, from step i on."""
        memory, polynomials = self.memory(), self.polynomials()
        steps = self.k if self.termination == "tail-biting" else self.k + memory
        rows = []
        for first in range(self.k):
            row = [0] * (steps * len(polynomials))
            for delay in range(memory + 1):
                for index, polynomial in enumerate(polynomials):
                    # A block of as many bits as the memory meets its first bit again, and they cancel where both count.
                    row[(first + delay) % steps * len(polynomials) + index] ^= polynomial >> (memory - delay) & 1
            rows.append(tuple(row))
        return tuple(rows)

    def soft_decoder(self) -> SoftDecoder | None:
        """Return the recursion over the states, where it is cheaper than all words."""
        from bvae_cli.codes.forward_backward import RegisterPosterior

        return RegisterPosterior(self._register()) if self._over_states() else None

    def hard_decoder(self) -> HardDecoder | None:
        """Return the search over the states, where neither coset leaders nor all words are cheaper."""
        from bvae_cli.codes.forward_backward import NearestPath

        return NearestPath(self._register()) if self._over_paths() else None

    def no_soft_decoder(self) -> str | None:
        """Say how many pairs of states a tail-biting block of large memory would take, None where it can be decoded."""
        if self._over_states() or super().no_soft_decoder() is None:
            return None
        return (
            f"{self.label()} has no exact soft decoder that can be afforded, so no model can be trained with it: "
            f"{self._too_many_pairs()}"
        )

    def no_hard_decoder(self) -> str | None:
        """Say how many pairs of states a tail-biting block of large memory would take, None where it can be decoded."""
        if self._over_paths() or super().no_hard_decoder() is None:
            return None
        return f"{self.label()} is too large to be decoded from bits: {self._too_many_pairs()}"

    def soft_decoding(self) -> str:
        """Say which sums give the exact posterior."""
        return f"forward and backward over {self._told_states()}, exact" if self._over_states() else super().soft_decoding()

    def soft_cost(self) -> float | None:
        """Return about how many exponentials and logarithms a block takes, for each information bit."""
        if not self._over_states():
            return super().soft_cost()
        pairs = 2.0 ** (self.memory() * (2 if self.termination == "tail-biting" else 1))
        return 4 * pairs * self.block().n / len(self.polynomials()) / self.k

    def hard_decoding(self) -> str:
        """Say how a nearest codeword is found."""
        if not self._over_paths():
            return super().hard_decoding()
        return f"the shortest path over {self._told_states()}, a fair coin among all that are as short"

    def remark(self) -> str | None:
        """Say what a tail-biting block of several states costs."""
        if not self._over_states() or self.termination == "terminated" or self.memory() < 4:
            return None
        states = 2 ** self.memory()
        return (
            f"With generators={self.generators} a tail-biting block carries every one of {states} starts beside every "
            f"state: with termination=terminated decoding takes about {states} times fewer sums, and n is "
            f"{len(self.polynomials()) * self.memory()} more."
        )

    def _register(self) -> Register:
        from bvae_cli.codes.forward_backward import Register

        return Register(self.polynomials(), self.memory(), self.k, tail_biting=self.termination == "tail-biting")

    def _carried(self) -> int:
        """Return the number of states, or of pairs of a start and a state."""
        return int(4 ** self.memory() if self.termination == "tail-biting" else 2 ** self.memory())

    def _over_states(self) -> bool:
        return self._carried() <= MOST_STATES and self.k * self._carried() < 2**self.k

    def _over_paths(self) -> bool:
        block = self.block()
        return self._over_states() and (self.k > MOST_MEMORY or hard_decoder_of(block.n, block.k) != "leaders")

    def _told_states(self) -> str:
        states = f"{2 ** self.memory():,} states"
        return f"{states} from each of as many starts" if self.termination == "tail-biting" else states

    def _too_many_pairs(self) -> str:
        return (
            f"a tail-biting block of memory {self.memory()} takes {self._carried():,} pairs of states, and {MOST_STATES:,} "
            f"can be; with termination=terminated it takes {2 ** self.memory():,} states."
        )


@functools.lru_cache(maxsize=256)
def minimum_distance(polynomials: tuple[int, ...], k: int, *, tail_biting: bool) -> int | None:
    """Return the least weight of a codeword other than 0, by a search over paths; None where that would take too long.

    A terminated codeword, moved to the left, leaves state 0 at once. A tail-biting one that meets state 0 anywhere, turned
    round, does so too, and ends with ν zeros; of one that never does, the search begins in the smallest of its states.

    >>> minimum_distance((0b101, 0b111), 100, tail_biting=False), minimum_distance((0b101, 0b111), 4, tail_biting=True)
    (5, 2)
    """
    memory = max(polynomials).bit_length() - 1
    weights = [sum((way & generator).bit_count() % 2 for generator in polynomials) for way in range(2 << memory)]
    if not tail_biting:
        return _lightest_from_zero(weights, memory, k)
    most = len(polynomials) * k + 1
    best = _lightest_from_zero(weights, memory, k - memory) if k > memory else most
    anywhere = _onward(weights, dict.fromkeys(range(1, 1 << memory), 0), k, best, 1)
    if not anywhere:
        return best
    if k << 2 * memory > _MOST_SEARCHED:
        return None
    for start in range(1, 1 << memory):
        best = _onward(weights, {start: 0}, k, best, start).get(start, best)
    return best


def _lightest_from_zero(weights: list[int], memory: int, k: int) -> int:
    """Return the least weight of a path that leaves state 0 at once and is back after k steps and ν zeros at the latest."""
    first, top = 1 << memory, 1 << memory - 1
    live, best = {top: weights[first]}, sum(weights)
    for step in range(1, k + memory):
        following: dict[int, int] = {}
        for state, weight in live.items():
            for way in (state, state | first) if step < k else (state,):
                reached, total = way >> 1, weight + weights[way]
                if total < following.get(reached, best):
                    following[reached] = total
        best = following.pop(0, best)
        live = following
    return best


def _onward(weights: list[int], live: dict[int, int], steps: int, below: int, least: int) -> dict[int, int]:
    """Return the least weights of paths of so many steps over states from ``least`` on, those below a bound."""
    first = len(weights) >> 1
    for _ in range(steps):
        following: dict[int, int] = {}
        for state, weight in live.items():
            for way in (state, state | first):
                reached, total = way >> 1, weight + weights[way]
                if reached >= least and total < following.get(reached, below):
                    following[reached] = total
        live = following
        if not live:
            break
    return live
