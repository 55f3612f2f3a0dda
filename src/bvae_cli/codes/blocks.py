"""Codes that are one block, repeated over the latent: a family writes one matrix, or how a block is encoded.

From that come the parameters of the block, its error rates in closed form where they can be counted, and the code itself
with its decoders. Nothing here imports torch or numpy.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from bvae_cli.codes import gf2
from bvae_cli.codes.base import Block, Code, CodeSpec, ErrorRates, joined_error_rates
from bvae_cli.codes.closed_forms import nearest_codeword_block_error_rate
from bvae_cli.codes.limits import (
    MAX_ENUMERATED_BITS,
    hard_decoder_of,
    is_sparse,
    no_hard_decoder,
    no_soft_decoder,
    soft_decoder_of,
)
from bvae_cli.codes.uncoded import Uncoded
from bvae_cli.errors import UsageError

if TYPE_CHECKING:
    from bvae_cli.codes.belief_propagation import BeliefPropagation
    from bvae_cli.codes.decoding import HardDecoder, SoftDecoder

# Pairs of a coset leader and a codeword that are visited for the error rate of single bits.
_MOST_VISITED = 1 << 20


# Rounds of belief propagation. Soft decoding of a regular (96, 48) code, on noise at which 5 and 10 % of lone bits are
# wrong, leaves 0.029 and 2.4 % wrong with 10 rounds, 0.011 and 2.0 % with 50; training pays for each of them at every step.
SOFT_ITERATIONS, HARD_ITERATIONS = 10, 50


class Decoders(NamedTuple):
    """Which decoders a block can afford, None for none."""

    soft: Literal["words", "trellis", "beliefs"] | None
    hard: Literal["leaders", "words", "beliefs"] | None


class BlockSpec(CodeSpec):
    """A code of one block. A family overrides one of

    * ``generator_matrix()``: rows of G ``[k, n]``, codeword c = m G mod 2 (MacWilliams and Sloane 1977, ch. 1 §2);
    * ``parity_check_matrix()``: rows of H, the codewords are all c with H c = 0;
    * ``encode_block(bits)`` together with ``block()``: k bits to n bits, for a code that need not be linear.

    >>> class Parity(BlockSpec):
    ...     family = "one-check"
    ...     def generator_matrix(self):
    ...         return ((1, 0, 1), (0, 1, 1))
    >>> Parity().block()
    Block(n=3, k=2, min_distance=2)
    """

    pad: bool = Field(False, description="Leave the bits behind the last whole block uncoded.")

    def generator_matrix(self) -> gf2.Matrix | None:
        """Return the rows of G, None for a code that is not linear."""
        checks = self.parity_check_matrix() if _says(self, "parity_check_matrix") else None
        return None if checks is None else gf2.dual(checks)

    def parity_check_matrix(self) -> gf2.Matrix | None:
        """Return the rows of H, None for a code that is not linear."""
        generator = self.generator_matrix() if _says(self, "generator_matrix") else None
        return None if generator is None else gf2.dual(generator)

    def encode_block(self, bits: tuple[int, ...]) -> tuple[int, ...]:
        """Encode the bits of one block, ``[k] -> [n]``; a family that has a matrix need not say this."""
        rows = [gf2.as_word(row) for row in _matrix_of(self)]
        word = functools.reduce(int.__xor__, (row for row, bit in zip(rows, bits, strict=True) if bit), 0)
        return gf2.as_bits(word, self.block().n)

    def block(self) -> Block:
        """Return n, k and, where it can be counted, the minimum distance."""
        return _counted_block(self)

    def build(self, n: int) -> Code:
        """Return the code of ``n`` code bits. Raises UsageError where ``n`` does not fit."""
        from bvae_cli.codes.parts import PartsCode

        self.check_size(n)
        rest = n % self.block().n
        blocks = self._blocks(n - rest)
        return PartsCode(self, n, [blocks, Uncoded().build(rest)]) if rest else blocks

    def soft_decoder(self) -> SoftDecoder | None:
        """Return a decoder of logits of the family's own; None lets the size of the block choose an exact one.

        A family with one of its own also says ``no_soft_decoder()`` and ``soft_decoding()``. Sparse parity checks that are
        too large for an exact decoder have belief propagation.
        """
        return self.beliefs(SOFT_ITERATIONS) if self.decoders().soft == "beliefs" else None

    def hard_decoder(self) -> HardDecoder | None:
        """Return a decoder of bits of the family's own; None lets the size of the block choose one of nearest codewords.

        A family with one of its own also says ``no_hard_decoder()`` and ``hard_decoding()``, and in ``exemptions()`` what
        does not hold of it.
        """
        return self.beliefs(HARD_ITERATIONS) if self.decoders().hard == "beliefs" else None

    def has_sparse_checks(self) -> bool:
        """Say whether beliefs may be propagated over the parity checks: the family states them, and they are sparse."""
        return _says(self, "parity_check_matrix") and is_sparse(self.parity_check_matrix() or ())

    def decoders(self) -> Decoders:
        """Return which of the host's decoders the size of the block can afford."""
        return _decoders(self)

    def beliefs(self, iterations: int) -> BeliefPropagation:
        """Return belief propagation over the family's own parity checks, of so many rounds."""
        from bvae_cli.codes.belief_propagation import BeliefPropagation

        matrix, checks = self.generator_matrix(), self.parity_check_matrix()
        assert matrix is not None
        assert checks is not None
        places = gf2.unit_columns(matrix)
        assert places is not None  # a dual basis shows every information bit
        return BeliefPropagation(checks, places, iterations)

    def exemptions(self) -> Mapping[str, str]:
        """Return what ``exempt`` says, and what belief propagation cannot do."""
        if self.decoders().hard != "beliefs":
            return super().exemptions()
        return {**super().exemptions(), "nearest": "belief propagation need not find a nearest codeword"}

    def _blocks(self, n: int) -> Code:
        """Return the code of a whole number of blocks."""
        from bvae_cli.codes.linear import CodebookCode, LinearCode

        matrix = self.generator_matrix()
        if matrix is not None:
            return LinearCode(self, n, matrix, soft=self.soft_decoder(), hard=self.hard_decoder())
        k = self.block().k
        return CodebookCode(self, n, [self.encode_block(gf2.as_bits(word, k)) for word in range(2**k)])

    def fits(self, n: int) -> bool:
        """Say whether a latent of ``n`` code bits is a whole number of blocks, or more than one block where it is padded."""
        return super().fits(n) or (self.pad and n > self.block().n)

    def information_bits(self, n: int) -> int:
        """Return K for a latent of ``n`` code bits. Raises UsageError, with the nearest sizes, where ``n`` does not fit."""
        self.check_size(n)
        block = self.block()
        return n // block.n * block.k + (n % block.n if self.pad else 0)

    def no_soft_decoder(self) -> str | None:
        """Say why no soft decoder can be afforded, None where one can."""
        return None if self.decoders().soft or _brings(self, "soft_decoder", "no_soft_decoder") else no_soft_decoder(self)

    def no_hard_decoder(self) -> str | None:
        """Say why no hard decoder can be afforded, None where one can."""
        return None if self.decoders().hard or _brings(self, "hard_decoder", "no_hard_decoder") else no_hard_decoder(self)

    def soft_decoding(self) -> str:
        """Say which sums give the posterior, and whether it is exact."""
        block, choice = self.block(), self.decoders().soft
        if choice == "words":
            return f"sums over all {2**block.k:,} words of a block, exact"
        if choice == "beliefs":
            return "belief propagation over the parity checks, not exact"
        return f"forward and backward over the trellis of {2 ** (block.n - block.k):,} syndromes, exact"

    def soft_cost(self) -> float | None:
        """Return about how many exponentials and logarithms a block takes, for each information bit."""
        block, choice = self.block(), self.decoders().soft
        if _brings(self, "soft_decoder", "soft_cost"):
            return None
        if choice == "words":
            return 2.0 ** (block.k + 1) / block.k
        if choice == "trellis":
            return 2.0 ** (block.n - block.k) * (4 * block.n + 2 * block.k) / block.k
        if choice == "beliefs":
            return self.cost_of_beliefs(SOFT_ITERATIONS)
        return None

    def cost_of_beliefs(self, iterations: int) -> float:
        """Return the exponentials and logarithms of so many rounds of belief propagation, for each information bit."""
        return 2 * iterations * sum(map(sum, self.parity_check_matrix() or ())) / self.block().k

    def hard_decoding(self) -> str:
        """Say how a codeword is found."""
        block, choice = self.block(), self.decoders().hard
        if choice == "beliefs":
            return "belief propagation over the parity checks, which need not find a nearest codeword"
        if self.generator_matrix() is not None and choice == "leaders":
            return f"the leaders of {2 ** (block.n - block.k):,} cosets, a fair coin where several are as light"
        return f"the nearest of {2**block.k:,} codewords, a fair coin where several are as near"

    def hard_block_error_rate(self, epsilon: float) -> float | None:
        """Return 1 − Σ_w a_w ε^w (1−ε)^{n−w} over the coset leaders.

        None where they cannot be counted, or the hard decoder need not find a nearest codeword.
        """
        leaders = None if "nearest" in self.exemptions() else _leaders(self)
        return None if leaders is None else nearest_codeword_block_error_rate(leaders, self.block().n, epsilon)

    def hard_bit_error_rate(self, epsilon: float) -> float | None:
        """Return the share of wrong information bits of nearest-codeword decoding with fair ties.

        None where leaders times codewords are more than 2^20.
        """
        shares = None if "nearest" in self.exemptions() else _wrong_shares(self)
        n = self.block().n
        return None if shares is None else sum(s * epsilon**w * (1 - epsilon) ** (n - w) for w, s in enumerate(shares))

    def error_rates(self, n: int, epsilon: float) -> ErrorRates:
        """Return what is known of the error rates of a latent: of its blocks, and of the uncoded rest behind them."""
        self.check_size(n)
        rest = n % self.block().n
        coded = super().error_rates(n - rest, epsilon)
        if not rest:
            return coded
        uncoded = Uncoded()
        return joined_error_rates([(self.information_bits(n - rest), coded), (rest, uncoded.error_rates(rest, epsilon))])


@functools.lru_cache(maxsize=64)
def _decoders(spec: BlockSpec) -> Decoders:
    block, matrix = spec.block(), spec.generator_matrix()
    sparse: Literal["beliefs"] | None = "beliefs" if spec.has_sparse_checks() else None
    soft, hard = soft_decoder_of(block.n, block.k), hard_decoder_of(block.n, block.k)
    if soft == "trellis" and (matrix is None or gf2.unit_columns(matrix) is None):
        soft, sparse = None, None
    return Decoders(soft or sparse, hard or sparse)


def _brings(spec: BlockSpec, decoder: str, said: str) -> bool:
    """Say whether a family has a decoder of its own and leaves to the host what is ``said`` of it."""
    return _says(spec, decoder) and not _says(spec, said)


def _says(spec: BlockSpec, method: str) -> bool:
    return getattr(type(spec), method) is not getattr(BlockSpec, method)


def _matrix_of(spec: BlockSpec) -> gf2.Matrix:
    matrix = spec.generator_matrix()
    if matrix is not None:
        matrix = tuple(tuple(int(entry) for entry in row) for row in matrix)
    assert matrix is not None, f"{spec.family} overrides none of generator_matrix, parity_check_matrix and encode_block"
    return matrix


def _require_matrix(spec: BlockSpec, matrix: gf2.Matrix) -> None:
    """Raise UsageError where a matrix is empty, ragged, not of 0 and 1, or has rows that depend on each other."""
    of = f"the generator matrix of {spec.label()}"
    if not len(matrix) and _says(spec, "parity_check_matrix"):
        raise UsageError(
            f"The parity checks of {spec.label()} leave no information bit: as many as the block has bits are independent.",
            "Leave some of them out.",
        )
    if not len(matrix) or not len(matrix[0]):
        raise UsageError(f"{of[0].upper()}{of[1:]} is empty.", "It has a row for each information bit.")
    for index, row in enumerate(matrix):
        if len(row) != len(matrix[0]):
            raise UsageError(
                f"Row {index} of {of} has {len(row)} entries, row 0 has {len(matrix[0])}.", "All rows are of one length."
            )
        wrong = next((place for place, entry in enumerate(row) if entry not in (0, 1)), None)
        if wrong is not None:
            raise UsageError(f"Row {index} of {of} has {row[wrong]} at place {wrong}.", "Entries are 0 or 1.")
    if gf2.rank(matrix) < len(matrix):
        index = next(index for index in range(len(matrix)) if gf2.rank(matrix[: index + 1]) <= index)
        if not any(matrix[index]):
            raise UsageError(f"Row {index} of {of} is all zeros.", "Leave it out: its information bit would not be sent.")
        raise UsageError(
            f"The rows of {of} are linearly dependent: row {index} is a sum of rows before it.", "Leave it out."
        )


@functools.lru_cache(maxsize=64)
def _counted_block(spec: BlockSpec) -> Block:
    matrix = _matrix_of(spec)
    _require_matrix(spec, matrix)
    return Block(len(matrix[0]), len(matrix), gf2.min_distance(matrix))


@functools.lru_cache(maxsize=64)
def _leaders(spec: BlockSpec) -> tuple[int, ...] | None:
    checks = spec.parity_check_matrix()
    return None if checks is None else gf2.coset_leaders(checks, spec.block().n)


@functools.lru_cache(maxsize=64)
def _wrong_shares(spec: BlockSpec) -> tuple[float, ...] | None:
    """Return, for each weight of an error pattern, the expected share of wrong information bits summed over the patterns.

    An error e = ℓ + c of a coset with leaders L is taken for ℓ with probability 1/|L|; what is left is the codeword c, and
    its information bits are wrong.
    """
    counted = _leaders(spec)
    block = spec.block()
    if counted is None or block.k > MAX_ENUMERATED_BITS:
        return None
    checks = spec.parity_check_matrix()
    by_coset = gf2.leaders_of_cosets(checks or (), block.n, _MOST_VISITED >> block.k)
    if by_coset is None:
        return None
    rows = [gf2.as_word(row) for row in _matrix_of(spec)]
    codewords = [
        (functools.reduce(int.__xor__, (row for place, row in enumerate(rows) if word >> place & 1), 0), word.bit_count())
        for word in range(1, 2**block.k)
    ]
    shares = [0.0] * (block.n + 1)
    for leaders in by_coset:
        for leader in leaders:
            for codeword, wrong in codewords:
                shares[(leader ^ codeword).bit_count()] += wrong / (block.k * len(leaders))
    return tuple(shares)
