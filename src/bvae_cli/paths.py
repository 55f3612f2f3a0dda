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
    return Path(value).expanduser() if value else default
