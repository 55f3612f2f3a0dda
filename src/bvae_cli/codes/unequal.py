"""Unequal protection: different codes for different groups of latent bits."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import Field, field_validator

from bvae_cli.codes.base import Block, CodeSpec, ErrorRates, joined_error_rates
from bvae_cli.config import PluginRef, parse_code
from bvae_cli.errors import UsageError

if TYPE_CHECKING:
    from bvae_cli.codes.parts import PartsCode

# As many code bits as a latent may have.
_LARGEST = 1 << 20
_EXAMPLE = "Write groups as in '60 repetition:R=5 + 140 hamming:r=3 + 100 none': code bits and a code, for each group."


class Group(NamedTuple):
    """So many code bits under one code."""

    size: int
    spec: CodeSpec


class Unequal(CodeSpec):
    """Groups of code bits side by side, each under a code of its own (unequal error protection, Masnick and Wolf 1967).

    Bits that matter more can be given the stronger code, as on the layers of a hierarchical coded model (Martínez-García
    et al. 2024, "Improved Variational Inference in Discrete VAEs using Error Correcting Codes"). A latent is one such row
    of groups, or a whole multiple of it, in which every group has as many times its bits. The distance is the least of the
    groups' distances.

    >>> spec = Unequal(groups="60 repetition:R=5 + 140 hamming:r=3 + 100 none")
    >>> spec.block(), spec.information_bits(600)
    (Block(n=300, k=192, min_distance=1), 384)

    Raises UsageError for a group that names no code, or whose code does not fit its size.
    """

    family: ClassVar[str] = "unequal"
    summary: ClassVar[str] = "different codes for different groups of bits"

    groups: str = Field(
        description="Code bits and a code for each group, as '60 repetition:R=5 + 140 hamming:r=3 + 100 none'."
    )

    @field_validator("groups")
    @classmethod
    def _every_group_fits(cls, text: str) -> str:
        return " + ".join(f"{size} {_kept(spec).label()}" for size, spec in _parsed(text))

    def told_options(self) -> dict[str, object]:
        """Return the groups, each with the options that tell its code from others of its family."""
        told = [f"{size} {PluginRef(type=spec.family, options=spec.told_options()).label()}" for size, spec in self.parts()]
        return {"groups": " + ".join(told)}

    def parts(self) -> tuple[Group, ...]:
        """Return the groups of one row."""
        return _groups(self.groups)

    def block(self) -> Block:
        """Return the sums of the groups' n and k, and the least of their distances (None where one is not known)."""
        groups = self.parts()
        distances = [group.spec.block().min_distance for group in groups]
        known = [distance for distance in distances if distance is not None]
        return Block(
            n=sum(group.size for group in groups),
            k=sum(group.spec.information_bits(group.size) for group in groups),
            min_distance=min(known) if len(known) == len(distances) else None,
        )

    def build(self, n: int) -> PartsCode:
        """Return the code of ``n`` code bits. Raises UsageError where that is no multiple of the groups' sum."""
        from bvae_cli.codes.parts import PartsCode

        self.check_size(n)
        return PartsCode(self, n, [spec.build(size) for size, spec in self._sized(n)])

    def information_bits(self, n: int) -> int:
        """Return K for a latent of ``n`` code bits. Raises UsageError, with the nearest sizes, where ``n`` does not fit."""
        self.check_size(n)
        return sum(spec.information_bits(size) for size, spec in self._sized(n))

    def error_rates(self, n: int, epsilon: float) -> ErrorRates:
        """Return what is known of a latent: the groups' bit errors by their share, any word wrong."""
        self.check_size(n)
        sized = self._sized(n)
        return joined_error_rates([(spec.information_bits(size), spec.error_rates(size, epsilon)) for size, spec in sized])

    def hard_bit_error_rate(self, epsilon: float) -> float | None:
        """Return the mean over the information bits of all groups."""
        return self.error_rates(self.block().n, epsilon).hard_bit

    def hard_block_error_rate(self, epsilon: float) -> float | None:
        """Return the probability that any group is decoded wrongly."""
        return self.error_rates(self.block().n, epsilon).hard_word

    def soft_bit_error_rate(self, epsilon: float) -> float | None:
        """Return the mean over the information bits of all groups."""
        return self.error_rates(self.block().n, epsilon).soft_bit

    def exemptions(self) -> Mapping[str, str]:
        """Return what does not hold of some group."""
        return {check: why for group in self.parts() for check, why in group.spec.exemptions().items()}

    def no_soft_decoder(self) -> str | None:
        """Say which group has no soft decoder."""
        return next((why for group in self.parts() if (why := group.spec.no_soft_decoder())), None)

    def no_hard_decoder(self) -> str | None:
        """Say which group has no hard decoder."""
        return next((why for group in self.parts() if (why := group.spec.no_hard_decoder())), None)

    def soft_decoding(self) -> str:
        """Say how each group is decoded."""
        return "; ".join(f"{group.spec.label()}: {group.spec.soft_decoding()}" for group in self.parts())

    def soft_cost(self) -> float | None:
        """Return the mean over the information bits of all groups, None where one is not known."""
        costs = [(group.spec.information_bits(group.size), group.spec.soft_cost()) for group in self.parts()]
        known = [bits * cost for bits, cost in costs if cost is not None]
        return sum(known) / self.block().k if len(known) == len(costs) else None

    def hard_decoding(self) -> str:
        """Say how each group is decoded."""
        return "; ".join(f"{group.spec.label()}: {group.spec.hard_decoding()}" for group in self.parts())

    def remark(self) -> str | None:
        """Return what is to be known of the groups' codes."""
        remarks = dict.fromkeys(group.spec.remark() for group in self.parts())
        return " ".join(remark for remark in remarks if remark) or None

    def _sized(self, n: int) -> list[Group]:
        """Return the groups as large as they are in a latent of ``n`` code bits."""
        rows = n // self.block().n
        return [Group(rows * group.size, group.spec) for group in self.parts()]


def _kept(spec: CodeSpec) -> PluginRef:
    """Return a code with every option that is not its default: also what it has read from a file."""
    fields = type(spec).model_fields
    options = {name: value for name, value in spec.model_dump(mode="json").items() if value != fields[name].default}
    return PluginRef(type=spec.family, options=options)


def _parsed(text: str) -> list[Group]:
    """Read sizes and codes. Raises UsageError where a group is not one."""
    found = []
    for item in text.split("+"):
        size, _, name = item.strip().partition(" ")
        if not size.isascii() or not size.isdigit() or not 0 < int(size) <= _LARGEST or not name.strip():
            raise UsageError(f"'{item.strip()}' is not a group of latent bits.", _EXAMPLE)
        code: PluginRef = parse_code(name.strip())
        if code.type == Unequal.family:
            raise UsageError("A group cannot itself be of groups.", "Write all groups in one row, joined by '+'.")
        spec: Any = code.spec("code")
        try:
            spec.check_size(int(size))
        except UsageError as error:
            raise UsageError(f"The group '{item.strip()}' does not fit: {error.message}", error.hint) from None
        found.append(Group(int(size), spec))
    return found


@functools.lru_cache(maxsize=64)
def _groups(text: str) -> tuple[Group, ...]:
    return tuple(_parsed(text))
