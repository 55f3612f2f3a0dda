"""``bvae codes``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bvae_cli.cli.listing import show_plugins
from bvae_cli.cli.options import Json, single_command


def build(arguments: Sequence[str], lenient: bool) -> Any:
    """Build the command."""
    return single_command(_codes, "codes")


def _codes(json: Json = False) -> None:
    """List the installed codes with their origin, version and options; a broken one says what is wrong with it."""
    show_plugins("code", json)
