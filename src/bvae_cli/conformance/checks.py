"""A check, its failure, and how all of them are run on one code."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn, Protocol

import torch
from torch import Tensor

from bvae_cli.codes import gf2
from bvae_cli.codes.base import Code, CodeSpec
from bvae_cli.codes.decoding import gf2_words

# Words of a block that are all tried; beyond, so many random ones.
MAX_ENUMERATED_BITS = 12
_RANDOM_WORDS = 256
# Cosets that are looked at one by one where there are too many words.
MAX_CHECK_BITS = 12
# Rows that are decoded at once: more than a decoder is likely to take in one piece.
MANY_ROWS = 8192
TOO_MANY_WORDS = "its words are too many to be summed over"


class CheckFailedError(AssertionError):
    """A code does not do what it must: in one sentence, with the smallest counterexample that was found."""


class NotCheckedError(Exception):
    """A check cannot be made of this code; the reason is told in place of "passed"."""


def fail(problem: str, likely: str) -> NoReturn:
    """Raise CheckFailedError: what was seen, and what is likely wrong."""
    raise CheckFailedError(f"{problem} Likely: {likely}")


@dataclass(frozen=True)
class Subject:
    """The code under test: its spec, one block (or the least latent) and two of them."""

    spec: CodeSpec
    seed: int = 0

    @cached_property
    def n(self) -> int:
        """The least latent size."""
        return self.spec.block().n

    @cached_property
    def code(self) -> Code:
        """The code of the least latent."""
        return self.spec.build(self.n)

    @cached_property
    def twice(self) -> Code:
        """The code of a latent of two blocks."""
        return self.spec.build(2 * self.n)

    @property
    def enumerated(self) -> bool:
        """Say whether all words of a block are few enough to be tried."""
        return self.code.k <= MAX_ENUMERATED_BITS

    @cached_property
    def words(self) -> Tensor:
        """Words of a block, ``[words, k]`` uint8: all of them from the lightest on, or the light ones and random ones."""
        if self.enumerated:
            words = gf2_words(self.code.k)
            return words[words.sum(-1).argsort(stable=True)]
        light = torch.cat([torch.zeros(1, self.code.k), torch.eye(self.code.k)])
        return torch.cat([light, torch.randint(0, 2, (_RANDOM_WORDS, self.code.k), generator=self.generator())]).to(
            torch.uint8
        )

    @cached_property
    def codewords(self) -> Tensor:
        """What ``encode`` makes of them, ``[words, n]``."""
        return self.code.encode(self.words)

    @cached_property
    def matrix(self) -> gf2.Matrix:
        """The rows that ``encode`` makes of the unit words: a generator matrix, where the code is linear."""
        rows = self.code.encode(torch.eye(self.code.k, dtype=torch.uint8)).tolist()
        return tuple(tuple(int(bit) for bit in row) for row in rows)

    @cached_property
    def soft(self) -> str | None:
        """Why there is no soft decoder, or None where there is one."""
        return self.spec.no_soft_decoder()

    def generator(self) -> torch.Generator:
        """Return a generator of the subject's own, always the same."""
        return torch.Generator().manual_seed(self.seed)

    def logits(self, rows: int, scale: float = 1.5, dtype: torch.dtype = torch.float64) -> Tensor:
        """Return random code bit logits of one block, ``[rows, n]``."""
        return (scale * torch.randn(rows, self.n, generator=self.generator(), dtype=torch.float64)).to(dtype)


@dataclass(frozen=True)
class Check:
    """One thing that every code must do."""

    name: str
    meaning: str
    run: Callable[[Subject], None]
    needs_soft: bool = False
    needs_exact: bool = False


class Named(Protocol):
    """A check of codes or of data sets, as it is told of."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def meaning(self) -> str:
        """What must hold."""


@dataclass(frozen=True)
class Outcome:
    """What became of a check: ``passed``, ``failed``, ``exempt`` (declared, or not to be made; with its reason)."""

    check: Named
    state: str
    message: str = ""


def tried(check: Named, run: Callable[[], None]) -> Outcome:
    """Run a check on its subject, and say what became of it."""
    try:
        run()
    except NotCheckedError as why:
        return Outcome(check, "exempt", str(why))
    except CheckFailedError as failure:
        return Outcome(check, "failed", str(failure))
    except Exception as error:  # whatever a stranger's plugin raises is that check's failure
        where = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome(check, "failed", f"{type(error).__name__} in {where.name}, line {where.lineno}: {error}")
    return Outcome(check, "passed")


Body = Callable[[Subject], None]


def check_into(checks: list[Check]) -> Callable[..., Callable[[Body], Body]]:
    """Return a decorator that puts functions into a list of checks; the docstring says what must hold."""

    def check(needs_soft: bool = False, needs_exact: bool = False) -> Callable[[Body], Body]:
        def register(function: Body) -> Body:
            checks.append(Check(function.__name__, function.__doc__ or "", function, needs_soft, needs_exact))
            return function

        return register

    return check


@dataclass(frozen=True)
class Conformance:
    """Checks on one code. ``exempt`` names those that do not hold of it, each with the reason."""

    spec: CodeSpec
    exempt: Mapping[str, str]
    checks: tuple[Check, ...]

    def outcomes(self) -> Iterator[Outcome]:
        """Run every check, and go on after a failure. Raises what building the code raises."""
        subject = Subject(self.spec)
        subject.code.encode(subject.words[:1])
        for one in self.checks:
            yield self.outcome(one, subject)

    def outcome(self, one: Check, subject: Subject) -> Outcome:
        """Run one check."""
        if reason := self.reason(one, subject):
            return Outcome(one, "exempt", reason)
        return tried(one, lambda: one.run(subject))

    def reason(self, one: Check, subject: Subject) -> str | None:
        """Return why a check does not apply, None where it does."""
        if reason := self.exempt.get(one.name) or (subject.soft if one.needs_soft else None):
            return reason
        if one.needs_exact and not subject.code.exact:
            return "the code says of itself that its soft decoding is not exact (exact = False)"
        return None


def shown(bits: Tensor) -> str:
    """Show a word of bits or logits, cut where it is long.

    >>> shown(torch.tensor([1, 0, 1]))
    '101'
    """
    values = bits.flatten().tolist()
    if all(value in (0, 1) for value in values):
        text = "".join(str(int(value)) for value in values)
        return text if len(text) <= 40 else f"{text[:40]}…"
    text = ", ".join(f"{value:.4g}" for value in values[:8])
    return f"[{text}{', …' if len(values) > 8 else ''}]"
