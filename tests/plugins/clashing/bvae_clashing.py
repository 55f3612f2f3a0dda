"""A repetition code of somebody else: nothing is wrong with it but its name."""

from __future__ import annotations

from bvae_cli.codes import repetition


class Repetition(repetition.Repetition):
    """The same, under the same name."""
