"""``bvae datasets``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bvae_cli.cli.listing import show_plugins
from bvae_cli.cli.options import Json, single_command


def build(arguments: Sequence[str], lenient: bool) -> Any:
    """Build the command."""
    return single_command(_datasets, "datasets")


def _datasets(json: Json = False) -> None:
    """List the installed data sets with their origin, licence and options; a broken one says what is wrong with it."""
    show_plugins("data set", json)
