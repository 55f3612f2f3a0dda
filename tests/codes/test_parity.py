"""Single parity checks."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bvae_cli.codes.parity import Parity


@pytest.mark.parametrize("k", [1, 2, 5, 1024])
def test_a_block_is_its_bits_and_their_sum(k: int) -> None:
    matrix = Parity(k=k).generator_matrix()
    assert matrix == tuple((*(int(row == column) for column in range(k)), 1) for row in range(k))
    assert Parity().k == 4


@pytest.mark.parametrize("k", [0, 1025])
def test_no_bits_and_too_many_are_refused(k: int) -> None:
    with pytest.raises(ValidationError):
        Parity(k=k)


def test_it_is_said_that_hard_decoding_loses_and_soft_decoding_gains() -> None:
    remark = Parity().remark()
    assert remark.startswith("One check finds a single wrong bit and cannot tell which it is. Hard decoding then turns one")
    assert "random, and makes more bit errors than no code. Soft decoding gains," in remark
    # As is said: at 5 % flips the closed form of the bit errors is above that of no code.
    assert Parity(k=4).hard_bit_error_rate(0.05) > 0.05
