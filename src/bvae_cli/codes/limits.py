"""How large a block may be for each decoder, and the words in which a larger one is refused."""

from __future__ import annotations

from typing import Literal

from bvae_cli.codes import gf2
from bvae_cli.codes.base import CodeSpec

# All 2^k words of a block are enumerated for exact soft decoding; 2^(n−k) syndromes are the states of a trellis.
MAX_ENUMERATED_BITS = 12
MAX_TRELLIS_CHECKS = 12
# Ones in any column of sparse parity checks: belief propagation is for these only. A random matrix that is too large for
# an exact decoder has columns of more.
_MOST_CHECKS_OF_A_BIT = 6
# Hard decoding looks up the leaders of 2^(n−k) cosets, or correlates with all 2^k codewords.
MAX_LEADER_CHECKS = 20
MAX_CORRELATED_BITS = 16


def soft_decoder_of(n: int, k: int) -> Literal["words", "trellis"] | None:
    """Choose the exact soft decoder of a linear block: all words, the trellis of syndromes, or none that can be afforded.

    >>> soft_decoder_of(24, 12), soft_decoder_of(31, 26), soft_decoder_of(31, 16)
    ('words', 'trellis', None)
    """
    if k <= MAX_ENUMERATED_BITS:
        return "words"
    return "trellis" if n - k <= MAX_TRELLIS_CHECKS else None


def is_sparse(checks: gf2.Matrix) -> bool:
    """Say whether a parity-check matrix has so few ones that belief propagation is worth its name.

    >>> is_sparse(((1, 1, 0, 1), (0, 1, 1, 0)))
    True
    """
    return len(checks) > 0 and max(map(sum, gf2.transposed(checks))) <= _MOST_CHECKS_OF_A_BIT


def hard_decoder_of(n: int, k: int) -> Literal["leaders", "words"] | None:
    """Choose the hard decoder of a linear block. A look-up of leaders costs the same whatever k, correlation grows with 2^k.

    >>> hard_decoder_of(7, 4), hard_decoder_of(32, 6), hard_decoder_of(31, 16), hard_decoder_of(64, 32)
    ('leaders', 'words', 'leaders', None)
    """
    if n - k <= MAX_ENUMERATED_BITS or (n - k <= MAX_LEADER_CHECKS and k > MAX_ENUMERATED_BITS):
        return "leaders"
    return "words" if k <= MAX_CORRELATED_BITS else None


def no_soft_decoder(spec: CodeSpec) -> str:
    """Say why a linear code has no soft decoder."""
    block = spec.block()
    if soft_decoder_of(block.n, block.k) == "trellis":
        return (
            f"{spec.label()} has no exact soft decoder that can be afforded, so no model can be trained with it: its "
            f"{block.k} information bits are too many to be summed over, and for the trellis of syndromes a codeword has to "
            f"show every one of them. Reduced rows make the same code do so."
        )
    return (
        f"{spec.label()} has no exact soft decoder that can be afforded, so no model can be trained with it: that takes "
        f"k ≤ {MAX_ENUMERATED_BITS} or n − k ≤ {MAX_TRELLIS_CHECKS}, and a block has k = {block.k}, "
        f"n − k = {block.n - block.k}. Belief propagation, which is not exact, is for sparse parity checks only."
    )


def no_hard_decoder(spec: CodeSpec) -> str:
    """Say why a linear code has no hard decoder."""
    block = spec.block()
    return (
        f"{spec.label()} is too large to be decoded from bits: that takes k ≤ {MAX_CORRELATED_BITS} or n − k ≤ "
        f"{MAX_LEADER_CHECKS}, and a block has k = {block.k}, n − k = {block.n - block.k}."
    )
