"""Decoders of one block: by all codewords, by coset leaders, and by the trellis of syndromes.

Each works on rows of blocks, ``[rows, n] -> [rows, k]``, keeps its tables once for each device, and never waits for the
device. A logit is log p(1)/p(0).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Generator, Tensor
from torch.utils.checkpoint import checkpoint

from bvae_cli.codes import gf2
from bvae_cli.codes.base import LARGEST_LOGIT

# Scores of a chunk of rows are kept to about 2 MB: two to three times faster than one large product.
CHUNK_BYTES = 1 << 21
# Bits of lightest errors that are kept in a list.
_MOST_LISTED = 1 << 26
# What a step of training may keep of its sums for their gradient.
_MOST_KEPT = 1 << 29
# What stands for log 0: below every sum of clamped logits, and finite, so that its gradient is 0 and not NaN.
NEVER = -1e9


class HardDecoder(Protocol):
    """Decodes the bits of blocks."""

    def decode(self, bits: Tensor, generator: Generator) -> Tensor:
        """Return the information bits, ``[rows, n] -> [rows, k]``; ties by a coin drawn from ``generator``."""
        ...


class SoftDecoder(Protocol):
    """Decodes the logits of blocks; ``exact`` says whether the result is the posterior."""

    exact: bool

    def soft_decode(self, logits: Tensor) -> Tensor:
        """Return posterior logits, ``[rows, n] -> [rows, k]``, of logits clamped to ±1e4 in at least single precision."""
        ...


class Tables:
    """Constant tensors, copied once to each device and dtype in which they are needed."""

    def __init__(self, *tensors: Tensor) -> None:
        self._tensors = tensors
        self._placed: dict[tuple[torch.device, torch.dtype | None], tuple[Tensor, ...]] = {}

    def on(self, device: torch.device, dtype: torch.dtype | None = None) -> tuple[Tensor, ...]:
        """Return the tensors on a device, in ``dtype`` where one is named."""
        key = (device, dtype)
        if key not in self._placed:
            # Tables made under inference_mode could not be saved for a later backward pass.
            with torch.inference_mode(False):
                self._placed[key] = tuple(tensor.to(device, dtype or tensor.dtype) for tensor in self._tensors)
        return self._placed[key]


class WordTable:
    """All 2^k codewords of a block, of any code, linear or not.

    Soft decoding is exact: λ_i = logsumexp_{m: m_i = 1} Σ_j c_j l_j − logsumexp_{m: m_i = 0} Σ_j c_j l_j. The scores of the
    words are summed over one half of the bits and over the other, and so on within each half: two exponentials a word in
    all, where summing bit by bit takes k, and no probability is too small to be seen.
    """

    exact = True

    def __init__(self, codewords: Tensor) -> None:
        self.k = int(math.log2(len(codewords)))
        self.words = gf2_words(self.k)
        self._tables = Tables(self.words, codewords)

    def decode(self, bits: Tensor, generator: Generator) -> Tensor:
        """Decode to a nearest codeword; among equally near ones each is drawn with the same probability."""
        words, codewords = self._tables.on(bits.device, torch.float32)
        signs = 2 * codewords.T - 1
        nearest = []
        for chunk in bits.split(self._rows_at_once(torch.float32)):
            agreement = (2 * chunk.float() - 1) @ signs
            # Agreements are whole numbers of one parity, so a draw in [0, 1) decides among equals and nothing else.
            draw = torch.rand(agreement.shape, device=bits.device, generator=generator)
            nearest.append((agreement + draw).argmax(-1))
        return words[torch.cat(nearest)]

    def soft_decode(self, logits: Tensor) -> Tensor:
        """Return the exact posterior logits of the information bits."""
        _, codewords = self._tables.on(logits.device, logits.dtype)
        return in_chunks(
            lambda chunk: torch.cat(marginals(codewords @ chunk, self.k)),
            logits,
            self._rows_at_once(logits.dtype),
            kept=2 * len(codewords),
        )

    def _rows_at_once(self, dtype: torch.dtype) -> int:
        bytes_of_row: int = 2**self.k * dtype.itemsize
        return max(1, CHUNK_BYTES // bytes_of_row)


class LeaderTable:
    """For each syndrome the lightest errors that have it: the nearest codeword is what is left without one of them.

    MacWilliams and Sloane 1977, ch. 1 §5. ``checks`` are the rows of H ``[n − k, n]``, ``unencoder`` is T ``[n, k]`` with
    m = c T for every codeword c = m G. Where there are few lightest errors they are kept in a list, else one is found step
    by step: from a syndrome to one of a lighter coset, in proportion to the ways on from there. Every error of w bits has
    w! orders, so that all lightest errors are equally likely.
    """

    def __init__(self, checks: gf2.Matrix, unencoder: gf2.Matrix) -> None:
        self.length = len(unencoder)
        columns = [gf2.as_word(column) for column in gf2.transposed(checks)] if checks else [0] * self.length
        weights, ways = _coset_weights(columns, len(checks))
        self._radius = int(weights.max())
        factorials = torch.tensor([math.factorial(weight) for weight in range(self._radius + 1)], dtype=torch.float64)
        self._listed = float((ways / factorials[weights.long()]).sum()) * self.length <= _MOST_LISTED
        powers = torch.tensor([1 << row for row in range(len(checks))], dtype=torch.float64)
        self._checks = Tables(torch.tensor(checks, dtype=torch.float32).reshape(len(checks), self.length).T)
        self._unencoder = Tables(torch.tensor(unencoder, dtype=torch.float32))
        cosets = _leaders(columns, weights) if self._listed else (torch.tensor(columns), weights, ways.float())
        self._cosets = Tables(powers.long(), *cosets)

    def decode(self, bits: Tensor, generator: Generator) -> Tensor:
        """Decode to a nearest codeword; among equally near ones each is drawn with the same probability."""
        (columns,) = self._checks.on(bits.device)
        (unencoder,) = self._unencoder.on(bits.device)
        powers, *cosets = self._cosets.on(bits.device)
        received = bits.float()
        syndrome = ((received @ columns) % 2).long() @ powers if len(powers) else torch.zeros_like(received[:, 0]).long()
        find = self._looked_up if self._listed else self._walked
        return ((received + find(syndrome, generator, *cosets)) % 2) @ unencoder % 2

    def _looked_up(self, syndrome: Tensor, generator: Generator, patterns: Tensor, first: Tensor, count: Tensor) -> Tensor:
        draw = torch.rand(syndrome.shape, device=syndrome.device, generator=generator)
        several = count[syndrome]
        chosen = first[syndrome] + (draw * several).long().minimum(several - 1)
        return patterns[chosen].float()

    def _walked(self, syndrome: Tensor, generator: Generator, columns: Tensor, weights: Tensor, ways: Tensor) -> Tensor:
        rows = max(1, CHUNK_BYTES // (8 * self.length))
        return torch.cat([self._path(some, generator, columns, weights, ways) for some in syndrome.split(rows)])

    def _path(self, syndrome: Tensor, generator: Generator, columns: Tensor, weights: Tensor, ways: Tensor) -> Tensor:
        errors = torch.zeros(len(syndrome), self.length, device=syndrome.device)
        for _ in range(self._radius):
            reached = syndrome[:, None] ^ columns
            lighter = weights[reached] < weights[syndrome][:, None]
            chosen = drawn(torch.where(lighter, ways[reached].log(), NEVER), 1, generator)[:, None]
            going = weights[syndrome][:, None] > 0
            errors += torch.zeros_like(errors).scatter_(1, chosen, going.float())
            syndrome = torch.where(going[:, 0], reached.gather(1, chosen)[:, 0], syndrome)
        return errors


class SyndromeTrellis:
    """Exact soft decoding over the 2^{n−k} partial syndromes, forward and backward (Wolf 1978; Bahl et al. 1974).

    α_{j+1}(s) = log[e^{α_j(s)} + e^{α_j(s ⊕ h_j) + l_j}] with h_j the j-th column of H, and β the same from the end. The
    posterior of code bit j is λ_j = logsumexp_s [α_j(s) + l_j + β_{j+1}(s ⊕ h_j)] − logsumexp_s [α_j(s) + β_{j+1}(s)]. An
    information bit is read where the codeword shows it, ``places[i]``.
    """

    exact = True

    def __init__(self, checks: gf2.Matrix, places: Sequence[int]) -> None:
        self._places = list(places)
        columns = [gf2.as_word(column) for column in gf2.transposed(checks)]
        states = torch.arange(2 ** len(checks))
        self._steps = Tables(*(states ^ column for column in columns))

    def soft_decode(self, logits: Tensor) -> Tensor:
        """Return the exact posterior logits of the information bits."""
        steps = self._steps.on(logits.device)
        states = len(steps[0])
        rows = max(1, CHUNK_BYTES // (states * logits.dtype.itemsize))
        return in_chunks(lambda chunk: self._decoded(chunk, steps), logits, rows, kept=8 * states * len(steps))

    def _decoded(self, logits: Tensor, steps: tuple[Tensor, ...]) -> Tensor:
        start = logits.new_full((len(steps[0]), logits.shape[1]), NEVER)
        start[0] = 0.0
        forward = [start]
        for step, logit in zip(steps[:-1], logits[:-1], strict=True):
            forward.append(settled(torch.logaddexp(forward[-1], forward[-1][step] + logit)))
        backward, decoded = start, {}
        for place in range(len(steps) - 1, -1, -1):
            one = backward[steps[place]] + logits[place]
            if place in self._places:
                decoded[place] = (forward[place] + one).logsumexp(0) - (forward[place] + backward).logsumexp(0)
            backward = settled(torch.logaddexp(backward, one))
        return torch.stack([decoded[place] for place in self._places])


def in_chunks(decode: Callable[[Tensor], Tensor], logits: Tensor, rows: int, kept: int) -> Tensor:
    """Decode so many rows at once, ``[rows, n] -> [rows, k]``, by a function ``[n, rows] -> [k, rows]``.

    ``kept`` is about how many numbers a row leaves behind for its gradient. Where those of all rows are more than half a
    gigabyte, nothing is left behind, and each chunk is decoded once more on the way back: half as long again, and a block
    of many states can be trained with at all (Chen et al. 2016, arXiv:1604.06174).
    """
    chunks = logits.split(rows)
    again = torch.is_grad_enabled() and logits.requires_grad
    if again and len(logits) * kept * logits.dtype.itemsize > _MOST_KEPT:
        decoded = [checkpoint(decode, chunk.T, use_reentrant=False, preserve_rng_state=False) for chunk in chunks]
    else:
        decoded = [decode(chunk.T) for chunk in chunks]
    # The bits lie along the first dimension: sums over them run along contiguous rows.
    return torch.cat(decoded, 1).T


def settled(scores: Tensor) -> Tensor:
    """Return log weights ``[…, rows]`` less the largest of each row: no posterior changes, and sums keep their digits."""
    return scores - scores.detach().amax(tuple(range(scores.dim() - 1)), keepdim=True)


def drawn(logs: Tensor, dim: int, generator: Generator) -> Tensor:
    """Draw an index along ``dim`` in proportion to e^logs: the largest of logarithms with Gumbel noise falls so."""
    noise = -torch.rand(logs.shape, device=logs.device, generator=generator).log().neg().log()
    return (logs + noise).argmax(dim)


def clamped(logits: Tensor) -> Tensor:
    """Return logits in at least single precision and within ±1e4, where an infinity is as good as certainty."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).clamp(-LARGEST_LOGIT, LARGEST_LOGIT)


def gf2_words(k: int) -> Tensor:
    """Return all words of k bits, ``[2^k, k]`` uint8, in counting order, the first bit the lowest."""
    return ((torch.arange(2**k)[:, None] >> torch.arange(k)) & 1).to(torch.uint8)


def marginals(table: Tensor, bits: int) -> list[Tensor]:
    """Return the logits of the bits from log weights of all words, ``[2^bits, rows] -> bits × [1, rows]``, the low first."""
    if bits == 1:
        return [table[1:] - table[:1]]
    low = bits // 2
    halves = table.unflatten(0, (2 ** (bits - low), 2**low))
    return marginals(halves.logsumexp(0), low) + marginals(halves.logsumexp(1), bits - low)


def _coset_weights(columns: Sequence[int], checks: int) -> tuple[Tensor, Tensor]:
    """Return for each syndrome the weight of its coset, and in how many orders a lightest error can be put together.

    Weight by weight: a lightest error without one of its bits is a lightest error of another coset.
    """
    weights = torch.full((2**checks,), -1, dtype=torch.int16)
    ways = torch.zeros(2**checks, dtype=torch.float64)
    weights[0], ways[0] = 0, 1.0
    edge = torch.zeros(1, dtype=torch.long)
    for weight in range(1, len(columns) + 1):
        for column in columns:
            reached = edge ^ column
            fresh = (weights[reached] < 0) | (weights[reached] == weight)
            weights[reached[fresh]] = weight
            ways[reached[fresh]] += ways[edge[fresh]]  # one column leads to each syndrome once
        edge = (weights == weight).nonzero()[:, 0]
        if not len(edge):
            break
    return weights, ways


def _leaders(columns: Sequence[int], weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the coset leaders sorted by syndrome ``[all, n]`` uint8, and for each syndrome where they begin and how many.

    A leader without its last one is a leader of another coset, so that all are found weight by weight.
    """
    numbers = torch.tensor(columns)
    words, syndromes = torch.zeros(1, len(columns), dtype=torch.uint8), torch.zeros(1, dtype=torch.long)
    last = torch.full((1,), -1)
    found = [(words, syndromes)]
    place = torch.arange(len(columns))
    for weight in range(1, int(weights.max()) + 1):
        parent, added = (place > last[:, None]).nonzero(as_tuple=True)
        reached = syndromes[parent] ^ numbers[added]
        kept = (weights[reached] == weight).nonzero()[:, 0]
        words = words[parent[kept]].scatter(1, added[kept, None], 1)
        syndromes, last = reached[kept], added[kept]
        found.append((words, syndromes))
    patterns, of = torch.cat([words for words, _ in found]), torch.cat([syndromes for _, syndromes in found])
    order = of.argsort(stable=True)
    count = torch.bincount(of, minlength=len(weights))
    return patterns[order], count.cumsum(0) - count, count
