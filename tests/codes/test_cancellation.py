"""Soft and successive cancellation: how much is kept, and rows one by one."""

from __future__ import annotations

import pytest
import torch

from bvae_cli.codes import cancellation
from bvae_cli.codes.cancellation import Node, SoftCancellation, SuccessiveCancellation
from tests.helpers import bytes_that_are_kept

# Inputs 3, 5, 6 and 7 of eight are free.
FREE, PLACES = [False, False, False, True, False, True, True, True], [3, 5, 6, 7]


@pytest.mark.parametrize("iterations", [1, 3])
def test_what_a_gradient_would_keep_is_eight_numbers_for_every_place_on_every_level(
    iterations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = SoftCancellation(FREE, PLACES, iterations)
    logits = torch.randn(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert bytes_that_are_kept(decoder.soft_decode, logits, monkeypatch) == 3 * 8 * 8 * iterations * 8 * 4


def test_rows_that_are_decoded_one_by_one_are_decoded_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    soft, hard = SoftCancellation(FREE, PLACES, 2), SuccessiveCancellation(FREE, PLACES)
    posterior, codewords = soft.soft_decode(logits), hard.codewords(logits, torch.Generator())
    monkeypatch.setattr(cancellation, "CHUNK_BYTES", 1)
    assert torch.allclose(soft.soft_decode(logits), posterior, rtol=0, atol=1e-13)
    assert torch.equal(hard.codewords(logits, torch.Generator()), codewords)


def test_a_node_is_divided_where_it_is_partly_frozen() -> None:
    root = Node.of(FREE)
    assert (root.start, root.length, root.frozen, root.free) == (0, 8, False, False)
    assert root.halves is not None
    first, second = root.halves
    assert (first.start, second.start, first.length, second.length) == (0, 4, 4, 4)
    assert first.halves is not None
    assert second.halves is not None
    assert [(node.start, node.length, node.frozen, node.free) for node in (*first.halves, *second.halves)] == [
        (0, 2, True, False),
        (2, 2, False, False),
        (4, 2, False, False),
        (6, 2, False, True),
    ]
    with pytest.raises(AssertionError, match="not ordered by polarisation"):
        Node.of([True, False])


def test_a_block_whose_first_half_is_frozen_is_the_second_half_twice() -> None:
    logits = torch.randn(6, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    both = logits[:, :8] + logits[:, 8:]
    twice = SoftCancellation([False] * 8 + FREE, [8 + place for place in PLACES], 3)
    assert torch.allclose(twice.soft_decode(logits), SoftCancellation(FREE, PLACES, 3).soft_decode(both), rtol=0, atol=1e-12)
    assert twice.exact is False
