"""Which decoder a block of each size gets, at both sides of every limit."""

from __future__ import annotations

import pytest

from bvae_cli.codes.bch import Bch
from bvae_cli.codes.limits import (
    hard_decoder_of,
    is_sparse,
    no_hard_decoder,
    no_soft_decoder,
    soft_decoder_of,
)
from bvae_cli.codes.matrix import Linear


@pytest.mark.parametrize(
    ("k", "checks", "decoder"),
    [(12, 30, "words"), (12, 1, "words"), (13, 12, "trellis"), (13, 13, None), (500, 12, "trellis")],
)
def test_logits_are_decoded_over_twelve_information_bits_or_twelve_checks(k: int, checks: int, decoder: str | None) -> None:
    assert soft_decoder_of(k + checks, k) == decoder


@pytest.mark.parametrize(
    ("k", "checks", "decoder"),
    [
        (1, 12, "leaders"),
        (500, 12, "leaders"),
        (12, 13, "words"),
        (13, 13, "leaders"),
        (12, 20, "words"),
        (13, 20, "leaders"),
        (13, 21, "words"),
        (16, 21, "words"),
        (17, 20, "leaders"),
        (17, 21, None),
    ],
)
def test_bits_are_decoded_by_leaders_where_these_are_fewer_and_by_words_up_to_sixteen_bits(
    k: int, checks: int, decoder: str | None
) -> None:
    assert hard_decoder_of(k + checks, k) == decoder


def test_checks_are_sparse_where_no_bit_is_in_more_than_six_of_them() -> None:
    assert is_sparse(((1, 1, 1),))
    assert is_sparse(((1, 0),) * 6)
    assert not is_sparse(((0, 1),) * 7)
    assert not is_sparse(())


def test_a_refusal_says_what_a_block_has_and_what_it_would_take() -> None:
    assert no_soft_decoder(Bch(n=31, t=3)) == (
        "bch(n=31, t=3) has no exact soft decoder that can be afforded, so no model can be trained with it: that takes "
        "k ≤ 12 or n − k ≤ 12, and a block has k = 16, n − k = 15. Belief propagation, which is not exact, is for sparse "
        "parity checks only."
    )
    assert no_hard_decoder(Bch(n=63, t=5)) == (
        "bch(n=63, t=5) is too large to be decoded from bits: that takes k ≤ 16 or n − k ≤ 20, and a block has k = 36, "
        "n − k = 27."
    )
    hidden = Linear(matrix="/".join("".join(str(int(row <= place)) for place in range(14)) for row in range(13)))
    assert no_soft_decoder(hidden).endswith(
        "its 13 information bits are too many to be summed over, and for the trellis of syndromes a codeword has to show "
        "every one of them. Reduced rows make the same code do so."
    )
