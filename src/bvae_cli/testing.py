"""Tests for the authors of plugins: derive, name the spec, and every check is a test of its own.

    from bvae_cli.testing import CodeConformance


    class TestMine(CodeConformance):
        spec = MySpec(R=3)

    class TestMyData(DatasetConformance):
        spec = MyData(rows=100)

Needs pytest. ``bvae codes check NAME`` and ``bvae datasets check NAME`` run the same checks without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import ClassVar

import pytest

from bvae_cli.codes.base import CodeSpec
from bvae_cli.codes.uncoded import Uncoded
from bvae_cli.conformance import conformance_of
from bvae_cli.conformance.checks import Subject
from bvae_cli.conformance.data import CHECKS, DataSubject, outcome_of
from bvae_cli.datasets.base import DatasetSpec

_SUBJECTS: dict[type, DataSubject] = {}
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


class DatasetConformance:
    """What every data set must do, a test for each check; see ``bvae_cli.conformance.data``.

    ``spec`` is the data set, and ``missing`` the same with files that are not there, where it reads files. A data set of
    files overrides ``make_spec`` and ``make_missing`` instead, which get an empty folder to write them into. ``exempt``
    declares what does not hold of it, check by check, with the reason.
    """

    spec: ClassVar[DatasetSpec]
    missing: ClassVar[DatasetSpec | None] = None
    exempt: ClassVar[Mapping[str, str]] = {}

    def make_spec(self, folder: Path) -> DatasetSpec:
        """Return the data set under test; what it needs may be written into ``folder``."""
        return self.spec

    def make_missing(self, folder: Path) -> DatasetSpec | None:
        """Return the data set with files that are not there; None for one without files."""
        return self.missing

    @pytest.fixture
    def subject(self, tmp_path_factory: pytest.TempPathFactory) -> DataSubject:
        """The data set with what it needs, made once for all checks of a class."""
        kind = type(self)
        if kind not in _SUBJECTS:
            spec, missing = (
                self.make_spec(tmp_path_factory.mktemp("data")),
                self.make_missing(tmp_path_factory.mktemp("nothing")),
            )
            _SUBJECTS[kind] = DataSubject(spec, missing)
        return _SUBJECTS[kind]

    @pytest.mark.parametrize("name", [check.name for check in CHECKS])
    def test_conforms(self, name: str, subject: DataSubject) -> None:
        """Run one check; its failure says what was seen and what is likely wrong."""
        if unknown := set(self.exempt) - {check.name for check in CHECKS}:
            pytest.fail(f"There is no check named {', '.join(sorted(unknown))}.")
        if reason := self.exempt.get(name):
            pytest.skip(f"{name}: {reason}")
        outcome = outcome_of(next(check for check in CHECKS if check.name == name), subject)
        if outcome.state == "exempt":
            pytest.skip(f"{name}: {outcome.message}")
        if outcome.state == "failed":
            pytest.fail(f"{name}: {outcome.message}", pytrace=False)
