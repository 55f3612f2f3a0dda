"""What became of the checks of a code or a data set, shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bvae_cli.cli.render import show_line, show_table
from bvae_cli.errors import BvaeError, ExitCode

if TYPE_CHECKING:
    from bvae_cli.conformance.checks import Outcome


def show_outcomes(label: str, outcomes: Sequence[Outcome]) -> None:
    """Print a row for each check of what is called so, and below them what was seen."""
    rows = [[one.check.name, one.state, one.check.meaning.rstrip(".")] for one in outcomes]
    show_table(["check", "state", "what must hold"], rows, f"{label}, {len(outcomes)} checks")
    for one in outcomes:
        if one.message:
            show_line(f"{one.check.name}: {one.message}")


def outcome_facts(kind: str, label: str, outcome: Outcome) -> dict[str, str]:
    """Return an outcome as plain values; ``kind`` names the thing that was checked."""
    return {
        kind: label,
        "check": outcome.check.name,
        "state": outcome.state,
        "must": outcome.check.meaning,
        "message": outcome.message,
    }


def require_passed(label: str, outcomes: Sequence[Outcome]) -> None:
    """Raise BvaeError where a check failed."""
    if failed := [one.check.name for one in outcomes if one.state == "failed"]:
        raise BvaeError(
            f"{label} fails {len(failed)} of {len(outcomes)} checks: {', '.join(failed)}.",
            "Each says above what was seen and what is likely wrong. Begin with the first: others may follow from it.",
            ExitCode.PLUGIN,
        )
