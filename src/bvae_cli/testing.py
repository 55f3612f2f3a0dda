"""Tests for the authors of plugins: derive, name the spec, and every check is a test of its own.

    from bvae_cli.testing import CodeConformance


    class TestMine(CodeConformance):
        spec = MySpec(R=3)

Needs pytest. ``bvae codes check NAME`` runs the same checks without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import ClassVar

import pytest

from bvae_cli.codes.base import CodeSpec
from bvae_cli.codes.uncoded import Uncoded
from bvae_cli.conformance import conformance_of
from bvae_cli.conformance.checks import Subject

_NAMES = [check.name for check in conformance_of(Uncoded()).checks]


class CodeConformance:
    """What every code must do, a test for each check; see ``bvae_cli.conformance``.

    ``spec`` is the code. ``exempt`` declares what does not hold of it, check by check, with the reason, beside what its
    family declares; those tests are skipped and say why.
    """

    spec: ClassVar[CodeSpec]
    exempt: ClassVar[Mapping[str, str]] = {}

    @pytest.mark.parametrize("name", _NAMES)
    def test_conforms(self, name: str) -> None:
        """Run one check; its failure shows a small counterexample and what is likely wrong."""
        if not hasattr(self, "spec"):
            pytest.fail(f"{type(self).__name__} names no code: spec = MySpec(…) is missing.", pytrace=False)
        conformance = conformance_of(self.spec, self.exempt)
        if unknown := set(conformance.exempt) - set(_NAMES):
            pytest.fail(f"There is no check named {', '.join(sorted(unknown))}.")
        outcome = conformance.outcome(conformance.checks[_NAMES.index(name)], _subject(self.spec))
        if outcome.state == "exempt":
            pytest.skip(f"{name}: {outcome.message}")
        if outcome.state == "failed":
            pytest.fail(f"{name}: {outcome.message}", pytrace=False)


@cache
def _subject(spec: CodeSpec) -> Subject:
    return Subject(spec)
