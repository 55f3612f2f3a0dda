"""The errors of a code, alone, on a channel: measured, to stand beside the closed forms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import torch

from bvae_cli.codes.base import Code
from bvae_cli.evaluation.statistics import Estimate

Channel = Literal["hard", "soft"]
_VALUES_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class ChannelErrors:
    """Share of wrong information bits and of words with any wrong bit; errors are counted over words."""

    bit_error_rate: Estimate
    word_error_rate: Estimate
    words: int


@torch.no_grad()
def measure_channel(code: Code, epsilon: float, words: int, channel: Channel, seed: int = 0) -> ChannelErrors:
    """Send ``words`` random words of ``code`` through a channel and count what is wrong after decoding.

    ``hard``: each code bit is flipped with probability ε and the word is decoded from bits. ``soft``: Gaussian noise is
    added to ±1, of the strength at which a lone bit is wrong with probability ε, and the word is decoded from the logits
    2y/σ².
    """
    generator = torch.Generator().manual_seed(seed)
    sums = torch.zeros(3, dtype=torch.float64)
    done = 0
    while done < words:
        count = min(words - done, max(1, _VALUES_AT_ONCE // code.n))
        sent = (torch.rand(count, code.k, generator=generator) < 0.5).float()
        received = _sent_through(code, sent, epsilon, channel, generator)
        wrong = (received != sent).double()
        share = wrong.mean(-1)
        sums += torch.stack([share.sum(), share.square().sum(), wrong.amax(-1).sum()])
        done += count
    return errors_of(sums, words, code.k, epsilon)


def errors_of(sums: torch.Tensor, words: int, k: int, epsilon: float) -> ChannelErrors:
    """Return the rates of so many words of ``k`` information bits, flipped with probability ε.

    ``sums`` are those of the words' shares of wrong bits, of the squares of these, and of the words with any wrong bit.
    """
    bit, square, word = (sums / words).tolist()
    if not word and epsilon > 0:
        # No error in so many words does not say that there are none: one more word could have had one.
        return ChannelErrors(Estimate(0.0, 1 / (words * k)), Estimate(0.0, 1 / words), words)
    return ChannelErrors(
        Estimate(bit, math.sqrt(max(0.0, square - bit * bit) / words)),
        Estimate(word, math.sqrt(max(0.0, word * (1 - word)) / words)),
        words,
    )


def _sent_through(
    code: Code, sent: torch.Tensor, epsilon: float, channel: Channel, generator: torch.Generator
) -> torch.Tensor:
    codewords = code.encode(sent)
    if channel == "hard":
        flips = torch.rand(codewords.shape, generator=generator) < epsilon
        return code.decode((codewords != flips).float(), generator)
    deviation = 1 / -NormalDist().inv_cdf(epsilon)
    signal = 2 * codewords - 1 + deviation * torch.randn(codewords.shape, generator=generator)
    return (code.soft_decode(2 * signal / deviation**2) > 0).float()
