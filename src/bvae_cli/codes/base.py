"""The contract of a code: a cheap, validated description (``CodeSpec``) that builds the code itself (``Code``).

A logit is log p(1)/p(0) everywhere. ``n`` is the number of code bits, the latent size N; ``k`` the number K of information
bits. Nothing here imports torch when it is itself imported, so that the command line can list and check codes quickly.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

from bvae_cli.codes.closed_forms import any_of, any_of_each
from bvae_cli.errors import UsageError

if TYPE_CHECKING:
    from torch import Generator, Tensor

# Beyond this a logit is certainty in every dtype; it keeps infinities out of the sums of soft decoding.
LARGEST_LOGIT = 1e4
# Code bits that are held at once for a code's digest.
_DIGESTED_AT_ONCE = 1 << 26


@dataclass(frozen=True)
class Block:
    """Length n, information bits k and minimum distance d (None where unknown) of one block of a code."""

    n: int
    k: int
    min_distance: int | None = None

    @property
    def correctable(self) -> int | None:
        """Number t = ⌊(d − 1)/2⌋ of errors that are always corrected."""
        return None if self.min_distance is None else (self.min_distance - 1) // 2


@dataclass(frozen=True)
class ErrorRates:
    """What is known in closed form of a whole latent: shares of wrong information bits and of wrong words, None if not.

    ``hard_bit`` and ``hard_word`` are of bits flipped with probability ε, ``soft_bit`` is of Gaussian noise at which a bit
    sent alone is wrong with probability ε.
    """

    hard_bit: float | None = None
    hard_word: float | None = None
    soft_bit: float | None = None


def joined_error_rates(parts: Sequence[tuple[int, ErrorRates]]) -> ErrorRates:
    """Return the rates of parts side by side, each given as (information bits, its rates).

    >>> joined_error_rates([(1, ErrorRates(0.5, 0.5)), (3, ErrorRates(0.25, 0.5))])
    ErrorRates(hard_bit=0.3125, hard_word=0.75, soft_bit=None)
    """
    return ErrorRates(
        _mean([(bits, rates.hard_bit) for bits, rates in parts]),
        _any([rates.hard_word for _, rates in parts]),
        _mean([(bits, rates.soft_bit) for bits, rates in parts]),
    )


def _mean(weighted: Sequence[tuple[int, float | None]]) -> float | None:
    known = [(weight, rate) for weight, rate in weighted if rate is not None]
    total = sum(weight for weight, _ in weighted)
    return sum(weight * rate for weight, rate in known) / total if len(known) == len(weighted) else None


def _any(rates: Sequence[float | None]) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return any_of_each(known) if len(known) == len(rates) else None


class CodeSpec(BaseModel):
    """What a person says to get a code: the family's options are the fields, with bounds and a description each.

    A family states its ``block()`` and how it is ``build``-ed; where it knows its error rates in closed form it says them
    too. Building a spec, and asking it anything but ``build``, must not import torch or numpy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_version: ClassVar[int] = 1
    family: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    # Options of which a label need not speak while they have their defaults.
    told_when_changed: ClassVar[frozenset[str]] = frozenset()
    # Checks of `bvae codes check` that do not hold of this family, each with the reason.
    exempt: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def block(self) -> Block:
        """Return the parameters of one block; the latent is a row of such blocks."""

    @abstractmethod
    def build(self, n: int) -> Code:
        """Return the code of a latent of ``n`` code bits. Raises UsageError where ``n`` does not fit."""

    def label(self) -> str:
        """Return the family and its options, as ``repetition(R=3)``."""
        options = ", ".join(f"{key}={value}" for key, value in self.told_options().items())
        return f"{self.family}({options})" if options else self.family

    def told_options(self) -> dict[str, object]:
        """Return the options that tell this code from others of its family.

        What has its default is not told where it is switched off (false, none or 0) or one of ``told_when_changed``;
        options of the base class come last.
        """
        fields, values = type(self).model_fields, self.model_dump(mode="json")
        inherited = {name for base in type(self).__mro__[1:] for name in getattr(base, "__annotations__", {})}
        ordered = sorted(fields, key=lambda name: name in inherited)
        told = [name for name in ordered if values[name] and name not in self.told_when_changed]
        return {name: values[name] for name in ordered if name in told or values[name] != fields[name].default}

    def information_bits(self, n: int) -> int:
        """Return K for a latent of ``n`` code bits. Raises UsageError, with the nearest sizes, where ``n`` does not fit."""
        self.check_size(n)
        block = self.block()
        return n // block.n * block.k

    def uncoded_bits(self, n: int) -> int:
        """Return how many code bits at the end of a latent of ``n`` no block covers."""
        return n % self.block().n

    def fits(self, n: int) -> bool:
        """Say whether a latent of ``n`` code bits is a whole number of blocks."""
        return n > 0 and n % self.block().n == 0

    def check_size(self, n: int) -> None:
        """Raise UsageError, with the nearest valid sizes, where a latent of ``n`` code bits does not fit."""
        if self.fits(n):
            return
        block = self.block()
        below = max(n, 0) // block.n
        near = [blocks * block.n for blocks in (below, below + 1) if blocks > 0]
        bits = [size // block.n * block.k for size in near]
        sizes = ", ".join(
            f"{size} ({count} information bit{'' if count == 1 else 's'})" for size, count in zip(near, bits, strict=True)
        )
        raise UsageError(
            f"Latent size {n} is not a multiple of the block length {block.n} of {self.label()}; nearest valid: {sizes}."
        )

    def hard_bit_error_rate(self, epsilon: float) -> float | None:
        """Share of wrong information bits after hard decoding of bits flipped with probability ``epsilon``, if known."""
        return None

    def hard_block_error_rate(self, epsilon: float) -> float | None:
        """Share of blocks with any wrong information bit after hard decoding, if known."""
        return None

    def soft_bit_error_rate(self, epsilon: float) -> float | None:
        """Share of wrong information bits after soft decoding, if known.

        The channel has Gaussian noise of the strength at which a single bit sent alone is wrong with probability
        ``epsilon``.
        """
        return None

    def error_rates(self, n: int, epsilon: float) -> ErrorRates:
        """Return what is known of the error rates of a latent of ``n`` code bits, blocks failing one by one.

        Raises UsageError where ``n`` does not fit.
        """
        self.check_size(n)
        block_rate = self.hard_block_error_rate(epsilon)
        word_rate = None if block_rate is None else any_of(n // self.block().n, block_rate)
        return ErrorRates(self.hard_bit_error_rate(epsilon), word_rate, self.soft_bit_error_rate(epsilon))

    def exemptions(self) -> Mapping[str, str]:
        """Return the checks that do not hold of this code, each with the reason; what ``exempt`` says, unless overridden."""
        return type(self).exempt

    def no_soft_decoder(self) -> str | None:
        """Say in a sentence why ``soft_decode`` cannot be had, so that no model can be trained; None where it can."""
        return None

    def no_hard_decoder(self) -> str | None:
        """Say in a sentence why ``decode`` cannot be had; None where it can."""
        return None

    def soft_decoding(self) -> str:
        """Say how logits are decoded, and whether the result is the exact posterior."""
        return "by a decoder of its own"

    def soft_cost(self) -> float | None:
        """Return about how many exponentials and logarithms an information bit takes in soft decoding, None if not known."""
        return None

    def hard_decoding(self) -> str:
        """Say how bits are decoded."""
        return "by a decoder of its own"

    def remark(self) -> str | None:
        """Return what a person should know of this code before using it, in one or two sentences."""
        return None


class Code(ABC):
    """A code on a latent of ``n`` code bits carrying ``k`` information bits.

    Bits are 0 and 1 in any dtype, batched over any leading dimensions; results keep device and dtype. ``exact`` says
    whether ``soft_decode`` gives the true marginal posteriors.
    """

    exact: bool = True

    def __init__(self, spec: CodeSpec, n: int) -> None:
        self.spec = spec
        self.n = n
        self.k = spec.information_bits(n)
        self.min_distance = spec.block().min_distance
        self.correctable = spec.block().correctable

    @property
    def rate(self) -> float:
        """Information bits for each code bit, K / N."""
        return self.k / self.n

    @abstractmethod
    def encode(self, bits: Tensor) -> Tensor:
        """Encode information bits, ``[..., k] -> [..., n]``."""

    @abstractmethod
    def encode_probs(self, probabilities: Tensor) -> Tensor:
        """Encode independent bit probabilities into code bit probabilities, ``[..., k] -> [..., n]``, differentiably.

        On hard bits this equals ``encode``; its derivative is the gradient path through the code.
        """

    @abstractmethod
    def decode(self, bits: Tensor, generator: Generator | None = None) -> Tensor:
        """Decode hard code bits to information bits, ``[..., n] -> [..., k]``.

        Ties are broken by a fair coin drawn from ``generator``, never from the global one; without a generator the coin
        is the same at every call.
        """

    @abstractmethod
    def soft_decode(self, logits: Tensor) -> Tensor:
        """Posterior logits of the information bits from the logits of the code bits, ``[..., n] -> [..., k]``."""

    def is_guaranteed(self, repaired: Tensor) -> Tensor:
        """Say whether a decision is sure, bool ``[..., n] -> [...]``.

        ``repaired`` is where its codeword is not the received word. No block may have more than t = ⌊(d − 1)/2⌋ such bits:
        no other codeword is as near then, and what was stored is found again unless more than t bits of a block were
        flipped. A code that does not say where its blocks lie is taken for one block.
        """
        return repaired.sum(-1) <= (self.correctable or 0)

    def encode_logits(self, logits: Tensor) -> Tensor:
        """Code bit logits from independent information bit logits, ``[..., k] -> [..., n]``, differentiably."""
        return self.encode_probs(logits.sigmoid()).logit(eps=1e-6)

    def digest(self) -> str:
        """Return a sha256 that changes when the map from information bits to code bits changes.

        It is taken over the size and the encoding of every single bit, of every neighbouring pair and of all ones, a slice
        at a time: whole, they would take K · N bytes.
        """
        import torch

        sha = hashlib.sha256(json.dumps([self.n, self.k]).encode())
        rows = max(1, _DIGESTED_AT_ONCE // self.n)
        for beside in (False, True):
            for start in range(0, self.k, rows):
                place = torch.arange(start, min(start + rows, self.k))
                words = torch.zeros(len(place), self.k, dtype=torch.uint8).scatter_(1, place[:, None], 1)
                if beside:
                    words.scatter_(1, (place[:, None] - 1) % self.k, 1)
                sha.update(self._encoded_bytes(words))
        sha.update(self._encoded_bytes(torch.ones(1, self.k, dtype=torch.uint8)))
        return sha.hexdigest()

    def _encoded_bytes(self, words: Tensor) -> bytes:
        import torch

        return self.encode(words).to(torch.uint8).contiguous().numpy().tobytes()
