"""What several tests share: small linear codes, references by enumeration in plain Python, and the level of a test."""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import settings
from torch import Tensor

from bvae_cli.codes import decoding
from bvae_cli.codes.base import Block, Code, CodeSpec
from bvae_cli.codes.linear import LinearCode
from bvae_cli.codes.repetition import Repetition
from bvae_cli.codes.uncoded import Uncoded
from bvae_cli.model.bvae import BinaryVAE
from bvae_cli.model.networks import Architecture
from bvae_cli.runs import Run

Rows = tuple[tuple[int, ...], ...]
Word = tuple[int, ...]

# Properties are checked on the same examples in every run: a failure is a failure for everybody.
property_settings = settings(deadline=None, derandomize=True, max_examples=40)


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Small tensors on a shared machine: more threads only wait for each other. Imported by each folder's conftest."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def uncounted() -> dict[str, str]:
    """Return the environment without what lets coverage write a file in every process: some tests allow no such file."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


def saved_fit(folder: Path) -> dict[str, Any]:
    """Return the last state of a run's training; it must be there and whole."""
    _, state = next(Run(folder).saved_states())
    assert state is not None
    fit: dict[str, Any] = state["fit"]
    return fit


class MatrixSpec(CodeSpec):
    """A linear code from its rows, as the author of a plugin would write it."""

    rows: ClassVar[Rows] = ()
    distance: ClassVar[int | None] = None

    def block(self) -> Block:
        return Block(n=len(self.rows[0]), k=len(self.rows), min_distance=self.distance)

    def build(self, n: int) -> LinearCode:
        return LinearCode(self, n, self.rows)

    def label(self) -> str:
        return f"{self.family}({len(self.rows[0])},{len(self.rows)})"


class Hamming(MatrixSpec):
    """The [7, 4, 3] code."""

    family = "hamming"
    rows = ((1, 0, 0, 0, 0, 1, 1), (0, 1, 0, 0, 1, 0, 1), (0, 0, 1, 0, 1, 1, 0), (0, 0, 0, 1, 1, 1, 1))
    distance = 3


class ExtendedHamming(MatrixSpec):
    """The [8, 4, 4] code: a word two flips away is as near to four codewords."""

    family = "hamming"
    rows = tuple((*row, sum(row) % 2) for row in Hamming.rows)
    distance = 4


class Golay(MatrixSpec):
    """The [24, 12, 8] code: shifts of x¹¹ + x¹⁰ + x⁶ + x⁵ + x⁴ + x² + 1, each with its parity bit."""

    family = "golay"
    rows = tuple((*(shift * (0,)), *(1, 0, 1, 0, 1, 1, 1, 0, 0, 0, 1, 1), *((11 - shift) * (0,)), 1) for shift in range(12))
    distance = 8


# Number of coset leaders of each weight: MacWilliams and Sloane 1977, ch. 1; each sums to 2^(n − k).
COSET_LEADERS: dict[type[MatrixSpec], tuple[int, ...]] = {
    Hamming: (1, 7),
    ExtendedHamming: (1, 8, 7),
    Golay: (1, 24, 276, 2024, 1771),
}

# A spec and a latent size for each way in which a code can be made, small enough to enumerate.
SMALL_CODES: dict[str, tuple[CodeSpec, int]] = {
    "none": (Uncoded(), 5),
    "repetition(R=1)": (Repetition(R=1), 4),
    "repetition(R=2)": (Repetition(R=2), 8),
    "repetition(R=3)": (Repetition(R=3), 12),
    "hamming(7,4)": (Hamming(), 7),
    "hamming(7,4) twice": (Hamming(), 14),
    "hamming(8,4)": (ExtendedHamming(), 8),
}


def every_small_code(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test with ``spec`` and ``n`` of each of the small codes."""
    values = [pytest.param(spec, n, id=name) for name, (spec, n) in SMALL_CODES.items()]
    mark = pytest.mark.parametrize(("spec", "n"), values)
    return mark(test)


def all_words(k: int) -> list[Word]:
    return list(itertools.product((0, 1), repeat=k))


def encoded_by_hand(spec: CodeSpec, word: Sequence[int]) -> Word:
    """Encode a word in plain Python: itself, R copies of the whole word, or block by block through the rows."""
    if isinstance(spec, Uncoded):
        return tuple(word)
    if isinstance(spec, Repetition):
        return tuple(word) * spec.R
    assert isinstance(spec, MatrixSpec)
    k = len(spec.rows)
    return tuple(
        sum(bit * entry for bit, entry in zip(word[start : start + k], column, strict=True)) % 2
        for start in range(0, len(word), k)
        for column in zip(*spec.rows, strict=True)
    )


@functools.cache
def codebook(spec: CodeSpec, k: int) -> dict[Word, Word]:
    """Return every word of k bits with its codeword."""
    return {word: encoded_by_hand(spec, word) for word in all_words(k)}


def expected_codeword(spec: CodeSpec, probabilities: Sequence[float]) -> list[float]:
    """Expectation of each code bit under independent information bits, over all 2^k words."""
    weighted = [(probability_of(word, probabilities), code) for word, code in codebook(spec, len(probabilities)).items()]
    return [
        math.fsum(weight * bit for weight, bit in zip([w for w, _ in weighted], column, strict=True))
        for column in zip(*(code for _, code in weighted), strict=True)
    ]


def log_sum_exp(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values))


def posterior_by_enumeration(spec: CodeSpec, k: int, logits: Sequence[float]) -> list[float]:
    """Posterior logits of k information bits under a uniform prior, over all 2^k words of the whole latent."""
    scores = [
        (word, math.fsum(bit * logit for bit, logit in zip(codeword, logits, strict=True)))
        for word, codeword in codebook(spec, k).items()
    ]
    return [
        log_sum_exp([score for word, score in scores if word[bit]])
        - log_sum_exp([score for word, score in scores if not word[bit]])
        for bit in range(k)
    ]


def probability_of(word: Sequence[int], probabilities: Sequence[float]) -> float:
    return math.prod(p if bit else 1 - p for bit, p in zip(word, probabilities, strict=True))


def words_tensor(k: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return all words of k bits as a tensor ``[2^k, k]``."""
    return torch.tensor(all_words(k), dtype=dtype)


def exact_gradient(f: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    """Gradient of E_{b ~ Bernoulli(σ(l))}[f(b)] for ``logits [K]``, by summing over all 2^K words.

    ∂/∂l_k = σ(l_k)(1 − σ(l_k)) (E[f given b_k = 1] − E[f given b_k = 0]), in which f is only evaluated on hard bits.
    """
    words = words_tensor(len(logits), logits.dtype)
    with torch.no_grad():
        values = f(words)
    p = torch.sigmoid(logits.detach())
    weights = torch.where(words > 0, p, 1 - p).prod(-1)
    return torch.stack(
        [(weights * values * torch.where(words[:, bit] > 0, 1 - p[bit], -p[bit])).sum() for bit in range(len(logits))]
    )


def joint_threshold(checks: int, level: float = 0.01) -> float:
    """Largest |z| accepted in each of so many two-sided checks when ALL together may fail at ``level`` (Bonferroni)."""
    return NormalDist().inv_cdf(1 - level / (2 * checks))


def small_model(code: Code, features: int = 5, *, gain: float = 1.0, seed: int = 0) -> BinaryVAE:
    """Return a float64 model of 8 hidden units with fixed random weights, the larger the more curved."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        mean = torch.rand(features) * 0.6 + 0.2
        model = BinaryVAE(code, mean, Architecture(hidden=8, depth=1)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(gain)
    return model


def logit_of(error: float) -> float:
    """Return the logit of a bit that is right but for a share of errors."""
    return math.log((1 - error) / error)


def constructed_model(code: Code, encoder_gain: float, decoder_logit: float) -> BinaryVAE:
    """Return a model without hidden layers whose pixels are its code bits: D = N.

    The decoder gives pixel j the logit ``±decoder_logit`` of code bit j; the encoder gives code bit j the logit
    ``±encoder_gain`` of pixel j.
    """
    model = BinaryVAE(code, torch.full((code.n,), 0.5), Architecture(hidden=1, depth=0))
    encoder, decoder = model.encoder.layers[0], model.decoder.layers[0]
    with torch.no_grad():
        encoder.weight.copy_(2 * encoder_gain * torch.eye(code.n))
        decoder.weight.copy_(decoder_logit * torch.eye(code.n))
        encoder.bias.zero_()
        decoder.bias.zero_()
    return model


def bytes_that_are_kept(decode: Callable[[Tensor], Tensor], logits: Tensor, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the least limit of bytes at which a decoder keeps what its gradient needs, and makes nothing twice."""
    calls: list[object] = []
    monkeypatch.setattr(decoding, "checkpoint", lambda decode, chunk, **how: calls.append(how) or decode(chunk))

    def again(most: int) -> bool:
        calls.clear()
        monkeypatch.setattr(decoding, "_MOST_KEPT", most)
        decode(logits.detach().requires_grad_(True))
        return bool(calls)

    least, most = -1, 1 << 40
    assert again(least)
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if again(middle) else (least, middle)
    return most


class KilledError(Exception):
    """Ends a run without a word, as SIGKILL does."""
