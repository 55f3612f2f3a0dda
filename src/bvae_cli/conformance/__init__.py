"""What every code must do, as named checks; each failure shows a small counterexample and what is likely wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bvae_cli.codes.base import CodeSpec
    from bvae_cli.conformance.checks import Conformance


def conformance_of(spec: CodeSpec, exempt: Mapping[str, str] | None = None) -> Conformance:
    """Return all checks on a code; ``exempt`` names those that do not hold of it, each with the reason.

    >>> from bvae_cli.codes.repetition import Repetition
    >>> {outcome.state for outcome in conformance_of(Repetition(R=3)).outcomes()}
    {'passed'}
    """
    from bvae_cli.conformance import posteriors, words
    from bvae_cli.conformance.checks import Conformance

    return Conformance(spec, {**spec.exemptions(), **(exempt or {})}, (*words.CHECKS, *posteriors.CHECKS))
