"""Packages that only some commands need, and that pip brings along when their extra is named."""

from __future__ import annotations

import importlib.util

from bvae_cli.errors import UsageError


def require_extra(extra: str, *packages: str) -> None:
    """Raise UsageError, with what to install, where one of the packages of an extra is missing; none is imported."""
    missing = [package for package in packages if not _is_installed(package)]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise UsageError(f"{' and '.join(missing)} {verb} not installed.", f"pip install 'bvae-cli[{extra}]'")


def _is_installed(package: str) -> bool:
    found = importlib.util.find_spec(package)
    # A folder of that name, as somebody may export into, is a package without a file.
    return found is not None and found.origin is not None
