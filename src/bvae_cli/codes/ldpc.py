"""Low-density parity-check codes: regular ones made from a seed, or the parity checks of a file."""

from __future__ import annotations

import functools
import hashlib
import random
import re
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from bvae_cli.codes.blocks import BlockSpec
from bvae_cli.codes.gf2 import Matrix
from bvae_cli.errors import InputOutputError, UsageError, reason_of
from bvae_cli.paths import expanded
from bvae_cli.sources import DocumentError, read_text

if TYPE_CHECKING:
    from bvae_cli.codes.decoding import SoftDecoder

# The parity checks of the longest codes of standards have a few MB.
_LARGEST_FILE = 2**24
# Graphs that are begun, each from a seed of its own, before a regular one is given up.
_TRIES = 50
_KEPT = re.compile(r"\d+ bits: [\d /]+$")
_ALIST = "The format: n m, the largest degrees, the degrees of columns and of rows, then the places of ones, from 1."


class Ldpc(BlockSpec):
    """The words that satisfy sparse parity checks, dv for each bit and of dc bits each (Gallager 1962; MacKay 1999).

    n dv / dc checks leave k ≥ n (1 − dv / dc) information bits: more where checks depend on each other. The graph grows
    edge by edge, each to a check as far away as there is one, which keeps cycles long (progressive edge growth: Hu,
    Eleftheriou and Arnold 2005, §III). ``alist`` takes the checks from a file in MacKay's format instead, and keeps them:
    the code needs the file no more. Blocks with k ≤ 12 or n − k ≤ 12 are decoded exactly, larger ones by belief propagation.

    >>> Ldpc(n=12, dv=3, dc=6).block()
    Block(n=12, k=6, min_distance=4)

    Raises UsageError where there is no such graph, InputOutputError where the file cannot be read.
    """

    family: ClassVar[str] = "ldpc"
    summary: ClassVar[str] = "sparse parity checks, regular from a seed or of an alist file; decoded by belief propagation"
    told_when_changed: ClassVar[frozenset[str]] = frozenset({"iterations"})

    n: int = Field(96, ge=4, le=1024, description="Length of a block.")
    dv: int = Field(3, ge=2, le=16, description="Checks on each bit.")
    dc: int = Field(6, ge=3, le=64, description="Bits in each check.")
    seed: int = Field(0, ge=0, description="Seed of the graph.")
    iterations: int = Field(10, ge=1, le=1000, description="Rounds of belief propagation in soft decoding.")
    alist: str = Field("", description="File of parity checks in MacKay's alist format, in place of n, dv, dc and seed.")

    @model_validator(mode="after")
    def _a_graph(self) -> Self:
        if self.alist:
            self._keep_the_file()
        elif self.dv >= self.dc:
            raise UsageError(f"dv={self.dv} with dc={self.dc} leaves no information bits.", "Take a dv less than dc.")
        elif self.n < self.dc:
            raise UsageError(
                f"A check of dc={self.dc} bits has no room in n={self.n}.", "Take a longer block or a smaller dc."
            )
        elif self.n * self.dv % self.dc:
            step = self.dc // gcd(self.dv, self.dc)
            below = self.n // step * step
            near = " or ".join(str(size) for size in (below, below + step) if size >= self.dc)
            raise UsageError(
                f"{self.n} bits with {self.dv} checks each do not fill checks of {self.dc} bits.", f"Take n = {near}."
            )
        return self

    def _keep_the_file(self) -> None:
        """Put the checks where the name of their file is, and their length into ``n``."""
        kept = self.alist if _KEPT.match(self.alist) else _read_alist(expanded(self.alist))
        length = _supports(kept)[0]
        if "n" in self.model_fields_set and self.n != length:
            raise UsageError(f"n={self.n} is said, and the checks of the file are on {length} bits.", "Leave n out.")
        for name in ("dv", "dc", "seed"):
            # A saved configuration names every option: what is the default there was not meant as a wish.
            if getattr(self, name) != type(self).model_fields[name].default:
                raise UsageError(
                    f"{name}={getattr(self, name)} makes a graph, and the checks are those of a file.", f"Leave {name} out."
                )
        object.__setattr__(self, "alist", kept)  # frozen for everybody else
        object.__setattr__(self, "n", length)

    def told_options(self) -> dict[str, object]:
        """Return the options that make the graph; of a file, its length and what tells its checks from others."""
        options = super().told_options()
        if self.alist:
            options = {name: value for name, value in options.items() if name in ("n", "iterations", "pad")}
            options["alist"] = hashlib.sha256(self.alist.encode()).hexdigest()[:8]
        return options

    def has_sparse_checks(self) -> bool:
        """Return True: the family is that of sparse checks, also where a file has a few bits in many of them."""
        return True

    def soft_decoder(self) -> SoftDecoder | None:
        """Return belief propagation of so many rounds, None where an exact decoder can be afforded."""
        return self.beliefs(self.iterations) if self.decoders().soft == "beliefs" else None

    def soft_cost(self) -> float | None:
        """Return about how many exponentials and logarithms a block takes, for each information bit."""
        return self.cost_of_beliefs(self.iterations) if self.decoders().soft == "beliefs" else super().soft_cost()

    def parity_check_matrix(self) -> Matrix:
        """Return H, a row for each check."""
        return _matrix(self.alist, self.n, self.dv, self.dc, self.seed)


@functools.lru_cache(maxsize=16)
def _matrix(kept: str, n: int, dv: int, dc: int, seed: int) -> Matrix:
    supports = _supports(kept)[1] if kept else _regular_graph(n, dv, dc, seed)
    return tuple(tuple(int(bit in row) for bit in range(n)) for row in map(set, supports))


def _regular_graph(n: int, dv: int, dc: int, seed: int) -> list[list[int]]:
    """Return the bits of each check. Raises UsageError where no regular graph is found."""
    for attempt in range(_TRIES):
        graph = _grown(n, dv, dc, random.Random(seed * _TRIES + attempt))
        if graph is not None:
            return graph
    raise UsageError(
        f"No graph of {n} bits with dv={dv}, dc={dc} was found in {_TRIES} tries.", "Take a longer block or fewer checks."
    )


def _grown(n: int, dv: int, dc: int, chance: random.Random) -> list[list[int]] | None:
    """Grow a graph edge by edge, None where the last bits find no check with room."""
    of_check: list[list[int]] = [[] for _ in range(n * dv // dc)]
    of_bit: list[list[int]] = [[] for _ in range(n)]
    for bit in range(n):
        for _ in range(dv):
            far = _farthest_checks(bit, of_bit, of_check, dc)
            if not far:
                return None
            least = min(len(of_check[check]) for check in far)
            lightest = [check for check in far if len(of_check[check]) == least]
            # Only random() gives the same sequence in every version of Python.
            check = lightest[int(chance.random() * len(lightest))]
            of_check[check].append(bit)
            of_bit[bit].append(check)
    return of_check


def _farthest_checks(bit: int, of_bit: list[list[int]], of_check: list[list[int]], dc: int) -> list[int]:
    """Return the checks with room that are reached from a bit last, or never; none that it has already."""
    reached = set(of_bit[bit])
    open_checks = {check for check, bits in enumerate(of_check) if len(bits) < dc} - reached
    edge, seen_bits = list(reached), {bit}
    while edge and open_checks:
        bits = {other for check in edge for other in of_check[check]} - seen_bits
        seen_bits |= bits
        following = {check for other in bits for check in of_bit[other]} - reached
        if not open_checks - following:
            break
        reached |= following
        open_checks -= following
        edge = list(following)
    return sorted(open_checks)


def _read_alist(path: Path) -> str:
    """Read MacKay's format, and return the checks in a line: ``7 bits: 1 2 4/2 3 5``, bits counted from 1.

    Raises InputOutputError where the file is not there or is not of that format.
    """
    try:
        numbers = [[int(word) for word in line.split()] for line in read_text(path, _LARGEST_FILE).splitlines()]
    except OSError as error:
        raise InputOutputError(
            f"The parity checks {path} cannot be read: {reason_of(error)}.", "Name a file in alist format."
        ) from None
    except DocumentError as error:
        raise InputOutputError(f"The parity checks {path} cannot be read: {error}.", _ALIST) from None
    except ValueError:
        raise InputOutputError(f"{path} is not in alist format: it holds more than whole numbers.", _ALIST) from None
    numbers = [line for line in numbers if line]
    try:
        (n, m), degrees = numbers[0], numbers[3]
        rows = [[bit for bit in row if bit] for row in numbers[4 + n : 4 + n + m]]
        columns = [[check for check in column if check] for column in numbers[4 : 4 + n]]
    except (IndexError, ValueError):
        raise InputOutputError(f"{path} is not in alist format: it is too short.", _ALIST) from None
    told = {(check, bit + 1) for bit, column in enumerate(columns) for check in column}
    fits = len(rows) == m and [len(row) for row in rows] == degrees and all(1 <= bit <= n for row in rows for bit in row)
    if not fits or told != {(check + 1, bit) for check, row in enumerate(rows) for bit in row}:
        raise InputOutputError(f"{path} is not in alist format: its rows and columns do not agree.", _ALIST)
    return f"{n} bits: {'/'.join(' '.join(map(str, row)) for row in rows)}"


def _supports(kept: str) -> tuple[int, list[list[int]]]:
    """Return the length and the bits of each check, counted from 0."""
    length, _, rows = kept.partition(" bits: ")
    return int(length), [[int(bit) - 1 for bit in row.split()] for row in rows.split("/")]
