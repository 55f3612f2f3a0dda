"""Folders for data, cache and configuration; ``BVAE_DATA_DIR``, ``BVAE_CACHE_DIR``, ``BVAE_CONFIG_DIR`` override."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

_APPLICATION = "bvae"
FOLDER_VARIABLES = ("BVAE_DATA_DIR", "BVAE_CACHE_DIR", "BVAE_CONFIG_DIR")


def data_dir() -> Path:
    """Return the folder for downloaded data sets (not created here)."""
    return _overridden("BVAE_DATA_DIR", platformdirs.user_data_path(_APPLICATION))


def cache_dir() -> Path:
    """Return the folder for what can be computed again (not created here)."""
    return _overridden("BVAE_CACHE_DIR", platformdirs.user_cache_path(_APPLICATION))


def config_dir() -> Path:
    """Return the folder that may hold the user's ``config.toml`` (not created here)."""
    return _overridden("BVAE_CONFIG_DIR", platformdirs.user_config_path(_APPLICATION))


def _overridden(variable: str, default: Path) -> Path:
    value = os.environ.get(variable)
    return home_expanded(Path(value)) if value else default


def home_expanded(path: Path) -> Path:
    """Return a path with the home folder in place of ``~``; as it is where there is no such home: it names no file then."""
    try:
        return Path(os.path.expanduser(path))  # noqa: PTH111 - pathlib's raises where nobody has that name
    except ValueError:  # a character that no name has
        return path
