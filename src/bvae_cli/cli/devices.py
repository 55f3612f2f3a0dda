"""``bvae devices``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bvae_cli.cli.options import Json, single_command


def build(arguments: Sequence[str], lenient: bool) -> Any:
    """Build the command."""
    return single_command(_devices, "devices")


def _devices(json: Json = False) -> None:
    """List every device, what is chosen and why, precision, memory, and the variables that bear on it."""
    from bvae_cli.cli.render import amount, show_facts, show_json, show_table
    from bvae_cli.devices import survey

    found = survey()
    if json:
        show_json(found)
        return
    rows = [
        (
            device.device,
            device.name,
            "–" if device.memory_bytes is None else f"{amount(device.memory_bytes)}B",
            ", ".join(device.precisions),
        )
        for device in found.devices
    ]
    show_table(("device", "name", "memory", "precisions"), rows)
    chosen, threads = found.chosen, "thread" if found.threads == 1 else "threads"
    show_facts(
        [
            ("chosen", f"{chosen.device} ({chosen.device_reason})"),
            ("precision", f"{chosen.precision} ({chosen.precision_reason})"),
            ("torch", f"{found.torch_version} ({found.torch_build}), {found.threads} CPU {threads}"),
            ("products", f"{found.products.library} ({found.products.reason})"),
            *((name, "not set" if value is None else repr(value)) for name, value in found.variables.items()),
        ]
    )
