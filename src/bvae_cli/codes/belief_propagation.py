"""Belief propagation over sparse parity checks: soft decoding that is not exact, and hard decoding by the same messages."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from bvae_cli.codes import gf2
from bvae_cli.codes.decoding import CHUNK_BYTES, Tables, in_chunks

# Received bits are read as right with this probability: the messages of hard decoding need a scale.
_TRUST = 0.95


class BeliefPropagation:
    """The sum–product algorithm on the graph of the parity checks (Gallager 1963; Kschischang, Frey and Loeliger 2001).

    A bit tells each of its checks what its own logit and its other checks say, v = l + Σ u; a check tells each of its bits
    what the others make likely, u = −2 artanh ∏ tanh(−v/2). After a number of rounds, always the same, the posterior of a
    code bit is λ = l + Σ u: the truth on a graph without cycles, else near it on a sparse graph and wrong on a dense one.
    ``checks`` are the rows of H; an information bit is read where the codeword shows it, ``places[i]``.
    """

    exact = False

    def __init__(self, checks: gf2.Matrix, places: Sequence[int], iterations: int) -> None:
        self._iterations = iterations
        of_check = [[bit for bit, one in enumerate(row) if one] for row in checks]
        edges = [(check, bit) for check, bits in enumerate(of_check) for bit in bits]
        of_bit: list[list[int]] = [[] for _ in checks[0]]
        for edge, (_, bit) in enumerate(edges):
            of_bit[bit].append(edge)
        at_check: list[list[int]] = [[] for _ in checks]
        for edge, (check, _) in enumerate(edges):
            at_check[check].append(edge)
        # Missing edges point behind the last one, at a message that says nothing there.
        self._tables = Tables(
            torch.tensor([bit for _, bit in edges]),
            _filled(at_check, len(edges)),
            _filled(of_bit, len(edges)),
            _slots(at_check),
        )
        self._places = Tables(torch.tensor(places))
        self._edges = len(edges)

    def soft_decode(self, logits: Tensor) -> Tensor:
        """Return approximate posterior logits of the information bits, ``[rows, n] -> [rows, k]``."""
        (places,) = self._places.on(logits.device)
        rows = max(1, CHUNK_BYTES // (self._edges * logits.dtype.itemsize))
        kept = 8 * self._edges * self._iterations
        return in_chunks(lambda chunk: self._posterior(chunk).index_select(0, places), logits, rows, kept)

    def decode(self, bits: Tensor, generator: Generator) -> Tensor:
        """Decode to the signs of the posterior of bits that are right with probability 0.95, a fair coin where it is 0."""
        logit = torch.logit(torch.tensor(_TRUST)).to(bits.device)
        posterior = self.soft_decode((2 * bits.float() - 1) * logit)
        coin = torch.rand(posterior.shape, device=bits.device, generator=generator) < 0.5
        return torch.where(posterior == 0, coin, posterior > 0)

    def _posterior(self, logits: Tensor) -> Tensor:
        """Return the logits of the code bits, ``[n, rows] -> [n, rows]``."""
        bit_of_edge, at_check, of_bit, slots = self._tables.on(logits.device)
        nothing = torch.zeros_like(logits[:1])
        certain = torch.ones_like(logits[:1])
        limit = 1 - torch.finfo(logits.dtype).eps
        to_bits = logits.new_zeros(self._edges, logits.shape[1])
        posterior = logits
        for _ in range(self._iterations):
            parity = torch.tanh((to_bits - posterior.index_select(0, bit_of_edge)) / 2)
            others = _product_of_others(torch.cat([parity, certain]), at_check)
            to_bits = -2 * others.index_select(0, slots).clamp(-limit, limit).atanh()
            told = torch.cat([to_bits, nothing])
            posterior = logits + sum(told.index_select(0, edges) for edges in of_bit.unbind(1))
        return posterior


def _product_of_others(parity: Tensor, at_check: Tensor) -> Tensor:
    """Return for every slot of every check the product over its other slots, ``[slots · checks, rows]``, slot by slot."""
    factors = [parity.index_select(0, edges) for edges in at_check.unbind(1)]
    before, behind = [torch.ones_like(factors[0])], [torch.ones_like(factors[0])]
    for factor, other in zip(factors[:-1], factors[:0:-1], strict=True):
        before.append(before[-1] * factor)
        behind.append(behind[-1] * other)
    return torch.cat([first * second for first, second in zip(before, reversed(behind), strict=True)])


def _filled(lists: Sequence[Sequence[int]], behind: int) -> Tensor:
    most = max(map(len, lists))
    return torch.tensor([[*items, *[behind] * (most - len(items))] for items in lists])


def _slots(at_check: Sequence[Sequence[int]]) -> Tensor:
    """Return for each edge where ``_product_of_others`` puts it."""
    where = {edge: slot * len(at_check) + check for check, edges in enumerate(at_check) for slot, edge in enumerate(edges)}
    return torch.tensor([where[edge] for edge in range(len(where))])
