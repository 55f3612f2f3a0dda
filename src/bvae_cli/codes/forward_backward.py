"""Decoders of convolutional codes, over the states of the shift register: exact posteriors, and a nearest codeword.

A register of ν bits has 2^ν states; a state is the last ν information bits, the newest the highest. With the present bit
above it, it is a word of ν + 1 bits, a way; a generator, a word as long, gives the parity of the bits that both have. A
block that is terminated starts and ends in state 0; one that is tail-biting starts and ends in any one state, and every
start is carried beside every state. Tensors lie as ``[states, starts, rows]``, so that sums run along contiguous rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from bvae_cli.codes.decoding import CHUNK_BYTES, NEVER, Tables, drawn, in_chunks, marginals, settled

# What is kept of all steps of a chunk of rows.
_KEPT_BYTES = 1 << 26


class Register:
    """The trellis of a shift register: what each way puts out, and which states it joins."""

    def __init__(self, generators: Sequence[int], memory: int, k: int, *, tail_biting: bool) -> None:
        self.memory, self.k, self.tail_biting = memory, k, tail_biting
        self.steps = k if tail_biting else k + memory
        self.states = 2**memory
        self.starts = self.states if tail_biting else 1
        outputs = [[(way & generator).bit_count() % 2 for generator in generators] for way in range(2 * self.states)]
        self._outputs = Tables(torch.tensor(outputs, dtype=torch.float32))

    def worth(self, ones: Tensor) -> tuple[Tensor, ...]:
        """Add up what the ones of each way are worth, ``[n, rows]``, for each step ``[2, states / 2, 2, 1, rows]``.

        The dimensions of a step are the information bit, the bits of the register that stay in it, and the one that leaves.
        """
        (outputs,) = self._outputs.on(ones.device, ones.dtype)
        ways = outputs @ ones.unflatten(0, (self.steps, -1))
        steps: tuple[Tensor, ...] = ways.unflatten(1, (2, -1, 2, 1)).unbind(0)
        return steps

    def edge(self, like: Tensor, other: float) -> Tensor:
        """Return 0 where a state is the start and ``other`` elsewhere, ``[states, starts, 1]``."""
        place = torch.arange(self.states, device=like.device)
        away = place[:, None] != place[: self.starts]
        return other * away.to(like.dtype).unsqueeze(-1)

    def along(self, states: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """Add a step to where it comes from, and return the two ways into each state, 2 × ``[states, starts, rows]``."""
        ways = states.unflatten(0, (-1, 2)) + step
        return ways[:, :, 0].flatten(0, 1), ways[:, :, 1].flatten(0, 1)

    def ahead(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return what lies ahead of a 0 and of a 1, 2 × ``[states / 2, 1, starts, rows]``, whatever the bit that leaves."""
        zero, one = states.unflatten(0, (2, -1, 1))
        return zero, one

    def rows_at_once(self, itemsize: int, kept: int) -> int:
        """Return how many rows are decoded at once, where so many numbers are kept of each step of a row."""
        in_cache: int = CHUNK_BYTES // (self.states * self.starts * itemsize)
        return max(1, min(in_cache, _KEPT_BYTES // (self.steps * kept * itemsize)))


class RegisterPosterior:
    """Exact soft decoding, forward and backward over the states (Bahl, Cocke, Jelinek and Raviv 1974, §II).

    With γ_t(s, u) the sum of the logits of the ones that bit u puts out in state s, s' the next state,
    α_{t+1}(s') = log Σ_{s, u → s'} e^{α_t(s) + γ_t(s, u)}, β_t(s) = log Σ_u e^{γ_t(s, u) + β_{t+1}(s')}, both from each
    start. A state shows the last ν bits: their posterior is read every ν steps off log Σ_starts e^{α_t(s) + β_t(s)}.
    """

    exact = True

    def __init__(self, register: Register) -> None:
        self._register = register

    def soft_decode(self, logits: Tensor) -> Tensor:
        """Return the exact posterior logits of the information bits, ``[rows, n] -> [rows, k]``."""
        register = self._register
        kept = 2 * register.states + -(-register.states * register.starts // register.memory)
        rows = register.rows_at_once(logits.dtype.itemsize, kept)
        return in_chunks(self._decoded, logits, rows, 8 * register.states * register.starts * register.steps)

    def _decoded(self, logits: Tensor) -> Tensor:
        register = self._register
        worth = register.worth(logits)
        read = [*range(register.memory, register.k, register.memory), register.k]
        forward = self._forward(worth, set(read))
        backward, decoded = register.edge(logits, NEVER), []
        for time in range(register.steps, 0, -1):
            if time in forward:
                new = time - max([0, *(earlier for earlier in read if earlier < time)])
                backward = settled(backward)
                decoded.append(self._last_bits(forward[time] + backward, new))
            zero, one = register.ahead(backward)
            step = worth[time - 1]
            backward = torch.logaddexp(zero + step[0], one + step[1]).flatten(0, 1)
        return torch.cat(decoded[::-1])

    def _forward(self, worth: tuple[Tensor, ...], read: set[int]) -> dict[int, Tensor]:
        """Return α at the times at which bits are read."""
        register = self._register
        forward, kept = register.edge(worth[0], NEVER), {}
        for time, step in enumerate(worth[: register.k], 1):
            forward = torch.logaddexp(*register.along(forward, step))
            if time in read:
                kept[time] = forward = settled(forward)
        return kept

    def _last_bits(self, weights: Tensor, count: int) -> Tensor:
        """Return the logits of the newest bits of the register from log weights, ``[states, starts, rows]``."""
        of_states = weights.logsumexp(1) if self._register.starts > 1 else weights[:, 0]
        return torch.cat(marginals(of_states, self._register.memory)[-count:])


class NearestPath:
    """Hard decoding to a nearest codeword, each of those that are equally near with the same probability.

    Backward over the states, the least number of flips to the end is found (Viterbi 1967), and the logarithm of the number
    of paths that need no more; forward, each bit is then drawn as often as such paths go its way. Of a tail-biting block
    the start is drawn first, by the same numbers. Flips are whole numbers, so that ties are ties.
    """

    def __init__(self, register: Register) -> None:
        self._register = register

    def decode(self, bits: Tensor, generator: Generator) -> Tensor:
        """Return the information bits, ``[rows, n] -> [rows, k]``."""
        register = self._register
        chunks = bits.split(register.rows_at_once(torch.float32.itemsize, 4 * register.states))
        return torch.cat([self._decoded(chunk.T.float(), generator) for chunk in chunks], 1).T

    def _decoded(self, received: Tensor, generator: Generator) -> Tensor:
        register = self._register
        # A one costs a flip where a zero was received, and saves one where a one was.
        worth = register.worth(1 - 2 * received)
        edge = register.edge(received, 2.0 * len(received) + 1)
        if register.tail_biting:
            flips, count, _ = self._backward(worth, edge, keep=False)
            place = torch.arange(register.states, device=received.device)
            fewest = flips[place, place]
            start = drawn(count[place, place].where(fewest == fewest.amin(0), NEVER), 0, generator)
            edge = edge[:, start, 0].unsqueeze(1)
        else:
            start = torch.zeros_like(received[0], dtype=torch.long)
        _, _, odds = self._backward(worth, edge, keep=True)
        decoded, state = [], start
        for step in odds[: register.k]:
            chance = step.gather(0, state[None])[0].sigmoid()
            bit = torch.rand(chance.shape, device=chance.device, generator=generator) < chance
            state = (state >> 1) + bit * (register.states >> 1)
            decoded.append(bit)
        return torch.stack(decoded)

    def _backward(self, worth: tuple[Tensor, ...], edge: Tensor, *, keep: bool) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return the flips to the end, the log number of paths with so few, and, if kept, each step's odds of a 1."""
        flips, count, odds = edge, torch.zeros_like(edge), []
        for step in reversed(worth):
            zero, one = (way + cost for way, cost in zip(self._register.ahead(flips), step, strict=True))
            of_zero, of_one = self._register.ahead(count)
            of_zero, of_one = of_zero.where(zero <= one, NEVER), of_one.where(one <= zero, NEVER)
            flips, count = torch.minimum(zero, one).flatten(0, 1), torch.logaddexp(of_zero, of_one).flatten(0, 1)
            if keep:
                odds.append((of_one - of_zero)[:, :, 0].flatten(0, 1))
        return flips, count, odds[::-1]
