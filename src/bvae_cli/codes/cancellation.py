"""Decoders of polar codes: successive cancellation of bits, and soft cancellation of logits.

A block of 2n bits is [a ⊕ b, b] with a and b blocks of n bits (Arıkan 2009, IEEE Trans. IT 55(7), section II, without its
reversal of bits, which orders the code bits and nothing else). Both decoders go through that tree, a before b. Within this
file a logit is log p(0)/p(1), so that the sum of two bits is the product of two signs; what comes in and goes out is
log p(1)/p(0), as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import softplus

from bvae_cli.codes.decoding import CHUNK_BYTES, Tables, in_chunks


@dataclass(frozen=True)
class Node:
    """A block of the tree: its first place, its length, and its halves where some of its inputs are frozen and some free."""

    start: int
    length: int
    frozen: bool
    free: bool
    halves: tuple[Node, Node] | None

    @classmethod
    def of(cls, free: Sequence[bool], start: int = 0) -> Node:
        """Return the tree over inputs that are free, or else frozen to 0.

        An input is free only where the one at the same place of the second half is: of polarised channels the second is
        never the worse.
        """
        half = len(free) // 2
        mixed = any(free) and not all(free)
        assert not mixed or all(free[half + place] for place in range(half) if free[place]), "not ordered by polarisation"
        halves = (cls.of(free[:half], start), cls.of(free[half:], start + half)) if mixed else None
        return cls(start, len(free), not any(free), all(free), halves)


class SoftCancellation:
    """Posterior logits of code bits by soft cancellation: near the exact ones, and differentiable.

    Fayyaz and Barry 2014, IEEE JSAC 32(5), 958–966. Where successive cancellation hands back decisions, a node hands back
    what it knows of each of its bits, B, beside their logits L. With ⊞ for the logit of a sum of two bits, a node of the
    halves a and b asks the first with L_a ⊞ (L_b + B_b) and the second with L_b + (L_a ⊞ B_a), and knows
    [B_a ⊞ (L_b + B_b), B_b + (L_a ⊞ B_a)]; a free input knows 0, a frozen one ∞. The first half is asked with the B_b of the
    iteration before, 0 in the first. The posterior of a code bit is L + B at the root, read at ``places``. It is exact where
    no node has two halves that are each partly frozen: then nothing that is known comes back as news.
    """

    exact = False

    def __init__(self, free: Sequence[bool], places: Sequence[int], iterations: int) -> None:
        self._root = Node.of(free)
        self._places = Tables(torch.tensor(places))
        self._iterations = iterations

    def soft_decode(self, logits: Tensor) -> Tensor:
        """Return posterior logits, ``[rows, n] -> [rows, k]``."""
        rows = max(1, CHUNK_BYTES // (self._root.length * logits.dtype.itemsize))
        kept = 8 * self._iterations * self._root.length * self._root.length.bit_length()
        return in_chunks(lambda chunk: self._decoded(-chunk.contiguous()), logits, rows, kept)

    def _decoded(self, logits: Tensor) -> Tensor:
        (places,) = self._places.on(logits.device)
        before: dict[int, Tensor] = {}
        known = torch.zeros_like(logits)
        for _ in range(self._iterations):
            known = _known(self._root, logits, before)
        return -(logits + known).index_select(0, places)


class SuccessiveCancellation:
    """Hard decoding input after input, each given the decisions before it (Arıkan 2009, section VIII).

    The logits of received bits are ±1: with the smaller of two sizes in place of ⊞ no decision depends on their scale, and
    no noise need be known (Leroux et al. 2013, IEEE Trans. SP 61(2), section II). A decision between equals is a coin's.

    Every pattern of fewer than d/2 errors is corrected. Say 0 was sent, |L| ≤ 1, and count (1 − L)/2 as the error of a bit,
    which is 1 where it is wrong. The smaller of two sizes has at most the sum of their errors, and half of L_a + L_b half of
    it; the code of the first half has a distance of at least d, that of the second of at least d/2. So what is below d/2 at
    a node is so at its halves, down to the single input, whose distance is 1 and whose L is then above 0.
    """

    def __init__(self, free: Sequence[bool], places: Sequence[int]) -> None:
        self._root = Node.of(free)
        self._places = Tables(torch.tensor(places))

    def decode(self, bits: Tensor, generator: Generator) -> Tensor:
        """Return the information bits, ``[rows, n] -> [rows, k]``."""
        (places,) = self._places.on(bits.device)
        return self.codewords(2 * bits.float() - 1, generator).index_select(1, places)

    def codewords(self, logits: Tensor, generator: Generator) -> Tensor:
        """Return the codewords that are decided for, ``[rows, n] -> [rows, n]``, of logits log p(1)/p(0)."""
        rows = max(1, CHUNK_BYTES // (self._root.length * logits.dtype.itemsize))
        signs = []
        for chunk in logits.split(rows):
            coins = 1.0 - 2.0 * (torch.rand(chunk.T.shape, device=logits.device, generator=generator) < 0.5)
            signs.append(_signs(self._root, -chunk.T.contiguous(), coins.to(logits.dtype)))
        return (torch.cat(signs, 1).T < 0).to(logits.dtype)


def box_plus(first: Tensor, second: Tensor) -> Tensor:
    """Return the logit of a sum of two bits, 2 artanh(tanh(a/2) tanh(b/2)), of logits log p(0)/p(1) of one shape.

    Written as sign(a) sign(b) min(|a|, |b|) + log(1 + e^{−|a + b|}) − log(1 + e^{−|a − b|}) it is
    accurate at every size; its derivative by a is σ(a + b) − σ(a − b). Hagenauer, Offer and Papke 1996, IEEE Trans. IT
    42(2), section II.

    >>> box_plus(torch.tensor([1e4, 0.0]), torch.tensor([0.5, 3.0]))
    tensor([0.5000, 0.0000])
    """
    result: Tensor = _BoxPlus.apply(first, second)  # type: ignore[no-untyped-call]
    return result


class _BoxPlus(torch.autograd.Function):
    """The derivative of sign and minimum is wrong where a logit is 0, so it is said here."""

    @staticmethod
    def forward(context: Any, first: Tensor, second: Tensor) -> Tensor:
        context.save_for_backward(first, second)
        together, apart = first + second, first - second
        return _least(first, second).add_(softplus(together.abs_().neg_())).sub_(softplus(apart.abs_().neg_()))

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        first, second = context.saved_tensors
        together, apart = (first + second).sigmoid(), (first - second).sigmoid()
        return gradient * (together - apart), gradient * (together + apart - 1)


def _least(first: Tensor, second: Tensor) -> Tensor:
    """Return sign(a) sign(b) min(|a|, |b|)."""
    return torch.maximum(torch.minimum(first, second), torch.maximum(first, second).neg_())


def _known(node: Node, logits: Tensor, before: dict[int, Tensor]) -> Tensor:
    """Return what a mixed node knows of its bits beside their logits; ``before`` keeps that of second halves."""
    assert node.halves is not None
    first, second = node.halves
    of_first, of_second = logits.chunk(2)
    if first.frozen:
        swapped = torch.cat([of_second, of_first])
        return swapped if second.free else swapped + _known(second, of_first + of_second, before).repeat(2, 1)
    if second.free:
        known = _known(first, box_plus(of_first, of_second), before)
        return box_plus(known.repeat(2, 1), torch.cat([of_second, of_first]))
    earlier = before.get(second.start)
    known = _known(first, box_plus(of_first, of_second if earlier is None else of_second + earlier), before)
    handed = box_plus(known, of_first)
    other = before[second.start] = _known(second, of_second + handed, before)
    return torch.cat([box_plus(known, of_second + other), other + handed])


def _signs(node: Node, logits: Tensor, coins: Tensor) -> Tensor:
    """Return the bits of a node that are decided for, as signs."""
    if node.halves is None:
        coin = coins[node.start : node.start + node.length]
        return torch.where(logits == 0, coin, logits.sign())
    first, second = node.halves
    of_first, of_second = logits.chunk(2)
    if first.frozen:
        return _signs(second, of_first + of_second, coins).repeat(2, 1)
    signs = _signs(first, _least(of_first, of_second), coins)
    other = _signs(second, of_second + signs * of_first, coins)
    return torch.cat([signs * other, other])
