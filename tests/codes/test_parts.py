"""Codes side by side: each its own stretch, one generator for all of them."""

from __future__ import annotations

import torch

from bvae_cli.codes.hamming import Hamming
from bvae_cli.codes.polar import Polar
from bvae_cli.codes.repetition import Repetition
from bvae_cli.codes.uncoded import Uncoded
from bvae_cli.codes.unequal import Unequal


def test_each_part_does_with_its_stretch_what_it_does_alone() -> None:
    code = Unequal(groups="7 hamming:r=3 + 6 repetition:R=2 + 2 none").build(15)
    alone = [(Hamming(r=3).build(7), 4), (Repetition(R=2).build(6), 3), (Uncoded().build(2), 2)]
    random = torch.Generator().manual_seed(0)
    bits, logits = torch.randint(0, 2, (5, 9), generator=random), torch.randn(5, 15, generator=random)
    inner, outer = bits.split([4, 3, 2], -1), logits.split([7, 6, 2], -1)
    assert (code.n, code.k) == (15, 9)
    assert torch.equal(
        code.encode(bits), torch.cat([part.encode(some) for (part, _), some in zip(alone, inner, strict=True)], -1)
    )
    told = bits.float() * 0.8 + 0.1
    for method, of in (("encode_probs", told), ("encode_logits", 2 * told - 1)):
        expected = [getattr(part, method)(some) for (part, _), some in zip(alone, of.split([4, 3, 2], -1), strict=True)]
        assert torch.equal(getattr(code, method)(of), torch.cat(expected, -1))
    posterior = [part.soft_decode(some) for (part, _), some in zip(alone, outer, strict=True)]
    assert torch.equal(code.soft_decode(logits), torch.cat(posterior, -1))


def test_coins_of_the_parts_are_thrown_with_the_generator_that_is_given() -> None:
    code = Unequal(groups="40 repetition:R=2 + 2 none").build(42)
    tied = torch.cat([torch.ones(20), torch.zeros(20), torch.ones(2)])
    first, again, other = (code.decode(tied, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(first[-2:], torch.ones(2))


def test_the_whole_is_exact_where_every_part_is() -> None:
    assert Unequal(groups="7 hamming:r=3 + 2 none").build(9).exact is True
    assert Unequal(groups="64 polar:n=64,k=32 + 2 none").build(66).exact is False
    assert Polar(n=64, k=32).build(64).exact is False
