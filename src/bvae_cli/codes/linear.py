"""Codes that are a row of equal blocks over the latent, from a generator matrix or from a way to encode a block."""

from __future__ import annotations

import functools
import hashlib
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from bvae_cli.codes import gf2
from bvae_cli.codes.base import Code, CodeSpec
from bvae_cli.codes.decoding import (
    HardDecoder,
    LeaderTable,
    SoftDecoder,
    SyndromeTrellis,
    Tables,
    WordTable,
    clamped,
    gf2_words,
)
from bvae_cli.codes.limits import (
    MAX_ENUMERATED_BITS,
    hard_decoder_of,
    no_hard_decoder,
    no_soft_decoder,
    soft_decoder_of,
)
from bvae_cli.errors import UsageError

# What stands for a factor of 0 in a product of 1 − 2p: small, and far from the smallest number whose square is not 0.
_NEARLY_ZERO = 1e-30


class BlockCode(Code):
    """N / n blocks side by side: information bits k by k, code bits n by n.

    A block decoder maps rows of blocks, ``[rows, n] -> [rows, k]``.

    Raises UsageError where N is not a whole number of blocks.
    """

    def __init__(self, spec: CodeSpec, n: int) -> None:
        super().__init__(spec, n)
        block = spec.block()
        self.block_n, self.block_k = block.n, block.k

    @abstractmethod
    def _decode_blocks(self, blocks: Tensor, generator: Generator) -> Tensor:
        """Decode hard bits, ``[rows, n] -> [rows, k]``."""

    @abstractmethod
    def _soft_decode_blocks(self, blocks: Tensor) -> Tensor:
        """Posterior logits from clamped logits of at least single precision, ``[rows, n] -> [rows, k]``."""

    def is_guaranteed(self, repaired: Tensor) -> Tensor:
        """Say whether no block has more bits repaired than it always corrects, ``[..., N] -> [...]``."""
        sure: Tensor = (repaired.unflatten(-1, (-1, self.block_n)).sum(-1) <= (self.correctable or 0)).all(-1)
        return sure

    def decode(self, bits: Tensor, generator: Generator | None = None) -> Tensor:
        """Decode block by block, ties by a fair coin, ``[..., N] -> [..., K]``."""
        if generator is None:
            generator = torch.Generator(bits.device).manual_seed(0)
        rows = bits.reshape(-1, self.block_n)
        return self._decode_blocks(rows, generator).reshape(*bits.shape[:-1], self.k).to(bits.dtype)

    def soft_decode(self, logits: Tensor) -> Tensor:
        """Decode block by block, ``[..., N] -> [..., K]``; inputs are clamped to ±1e4.

        Half precision is summed in float32: rounded scores of whole words would turn the signs of single bits.
        """
        rows = clamped(logits).reshape(-1, self.block_n)
        return self._soft_decode_blocks(rows).reshape(*logits.shape[:-1], self.k).to(logits.dtype)


class LinearCode(BlockCode):
    """Blocks of a binary linear code with generator ``G [k, n]``, codeword c = m G mod 2.

    Soft decoding is exact, by all 2^k words for k ≤ 12, else, for n − k ≤ 12 and a G of which every information bit shows
    in the codeword, by the trellis of 2^{n−k} syndromes. Hard decoding takes a nearest codeword, by coset leaders for
    n − k ≤ 20 or by correlation for k ≤ 16. MacWilliams and Sloane 1977, ch. 1. A family with decoders of its own hands them
    over as ``soft`` and ``hard``.

    Raises UsageError where ``n`` is not a whole number of blocks, the shape of G is not that of the spec's block, or its
    rows are dependent; ``decode`` and ``soft_decode`` raise it where the block is too large for them.
    """

    def __init__(
        self,
        spec: CodeSpec,
        n: int,
        generator_matrix: Sequence[Sequence[int]],
        *,
        soft: SoftDecoder | None = None,
        hard: HardDecoder | None = None,
    ) -> None:
        super().__init__(spec, n)
        matrix = tuple(tuple(int(entry) for entry in row) for row in generator_matrix)
        if (len(matrix[0]), len(matrix)) != (self.block_n, self.block_k):
            raise UsageError(
                f"The generator matrix of {spec.label()} is {len(matrix)} × {len(matrix[0])}; its block says "
                f"{self.block_k} × {self.block_n}."
            )
        if gf2.rank(matrix) < self.block_k:
            raise UsageError(f"The rows of the generator matrix of {spec.label()} are linearly dependent.")
        self._generator = Tables(torch.tensor(matrix, dtype=torch.float32))
        self._matrix, self._own_hard = matrix, hard
        self._soft = soft or _soft_decoder(matrix)
        self.exact = self._soft is None or self._soft.exact

    @functools.cached_property
    def _hard(self) -> HardDecoder | None:
        """The hard decoder: its tables are large, and training has no use for them."""
        return self._own_hard or _hard_decoder(self._matrix)

    def encode(self, bits: Tensor) -> Tensor:
        """Encode block by block, c = m G mod 2, ``[..., K] -> [..., N]``."""
        # float32 sums of at most k bits are exact; integer matrix products are not on every device.
        (generator,) = self._generator.on(bits.device)
        codewords: Tensor = bits.unflatten(-1, (-1, self.block_k)).float() @ generator % 2
        return codewords.flatten(-2).to(bits.dtype)

    def encode_probs(self, probabilities: Tensor) -> Tensor:
        """Probabilities of the code bits of independent bits: ĉ_j = ½ (1 − ∏_{i in supp G_j} (1 − 2 p_i))."""
        wide = probabilities.to(torch.promote_types(probabilities.dtype, torch.float32))
        (generator,) = self._generator.on(wide.device, wide.dtype)
        factors = 1 - 2 * wide.unflatten(-1, (-1, self.block_k))
        # As exp Σ log, two products of matrices do for all code bits. A factor of 0 is moved off it, and keeps its gradient.
        moved = factors + torch.where(factors.abs() < _NEARLY_ZERO, _NEARLY_ZERO - factors, 0.0).detach()
        size = (moved.abs().log() @ generator).exp()
        odd = (moved < 0).to(wide.dtype) @ generator % 2
        encoded: Tensor = 0.5 * (1 - (1 - 2 * odd) * size)
        return encoded.flatten(-2).to(probabilities.dtype)

    def _decode_blocks(self, blocks: Tensor, generator: Generator) -> Tensor:
        if self._hard is None:
            raise UsageError(self.spec.no_hard_decoder() or no_hard_decoder(self.spec))
        return self._hard.decode(blocks, generator)

    def _soft_decode_blocks(self, blocks: Tensor) -> Tensor:
        if self._soft is None:
            raise UsageError(self.spec.no_soft_decoder() or no_soft_decoder(self.spec))
        return self._soft.soft_decode(blocks)


class CodebookCode(BlockCode):
    """Blocks of any code of at most 2^12 words, which need not be linear.

    Soft and hard decoding are those of all words. The probability of a code bit under independent information bits is its
    mean over all words, ĉ_j = Σ_m ∏_i p_i^{m_i} (1 − p_i)^{1 − m_i} c_j(m).
    """

    def __init__(self, spec: CodeSpec, n: int, codewords: Sequence[Sequence[int]]) -> None:
        super().__init__(spec, n)
        if self.block_k > MAX_ENUMERATED_BITS or len(codewords) != 2**self.block_k:
            raise UsageError(
                f"{spec.label()} has {len(codewords)} words; it needs {2**self.block_k}, and can have at most "
                f"{2**MAX_ENUMERATED_BITS}."
            )
        table = torch.tensor(codewords, dtype=torch.uint8)
        if len(torch.unique(table, dim=0)) < len(table):
            raise UsageError(f"Two words of {spec.label()} have one codeword.")
        self._words, self._codewords = WordTable(table), Tables(table)
        self._powers = Tables(2 ** torch.arange(self.block_k))

    def digest(self) -> str:
        """Return a sha256 over every codeword of a block: of a code that is not linear a few do not tell the others."""
        (table,) = self._codewords.on(torch.device("cpu"))
        return hashlib.sha256(super().digest().encode() + table.contiguous().numpy().tobytes()).hexdigest()

    def encode(self, bits: Tensor) -> Tensor:
        """Look up the codeword of each block, ``[..., K] -> [..., N]``."""
        (table,), (powers,) = self._codewords.on(bits.device), self._powers.on(bits.device)
        index = (bits.unflatten(-1, (-1, self.block_k)).long() * powers).sum(-1)
        return table[index].flatten(-2).to(bits.dtype)

    def encode_probs(self, probabilities: Tensor) -> Tensor:
        """Return the mean of each code bit under independent information bits."""
        (table,) = self._codewords.on(probabilities.device, probabilities.dtype)
        blocks = probabilities.unflatten(-1, (-1, self.block_k))
        weights = torch.ones_like(blocks[..., :1])
        for p in blocks.unbind(-1):
            weights = torch.cat([weights * (1 - p).unsqueeze(-1), weights * p.unsqueeze(-1)], -1)
        return (weights @ table).flatten(-2)

    def _decode_blocks(self, blocks: Tensor, generator: Generator) -> Tensor:
        return self._words.decode(blocks, generator)

    def _soft_decode_blocks(self, blocks: Tensor) -> Tensor:
        return self._words.soft_decode(blocks)


def _soft_decoder(matrix: gf2.Matrix) -> SoftDecoder | None:
    """Return the exact soft decoder of a block, None where it is too large for any."""
    choice, places = soft_decoder_of(len(matrix[0]), len(matrix)), gf2.unit_columns(matrix)
    if choice == "words":
        return WordTable(_codewords(matrix))
    return SyndromeTrellis(gf2.dual(matrix), places) if choice == "trellis" and places is not None else None


def _hard_decoder(matrix: gf2.Matrix) -> HardDecoder | None:
    """Return the nearest-codeword decoder of a block, None where it is too large for any."""
    choice = hard_decoder_of(len(matrix[0]), len(matrix))
    if choice == "leaders":
        return LeaderTable(gf2.dual(matrix), gf2.unencoder(matrix))
    return WordTable(_codewords(matrix)) if choice == "words" else None


def _codewords(matrix: gf2.Matrix) -> Tensor:
    generator = torch.tensor(matrix, dtype=torch.float32)
    return (gf2_words(len(matrix)).float() @ generator % 2).to(torch.uint8)
