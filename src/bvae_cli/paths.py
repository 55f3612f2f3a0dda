"""Folders for data, cache and configuration, and how a name is read and shown.

``BVAE_DATA_DIR``, ``BVAE_CACHE_DIR`` and ``BVAE_CONFIG_DIR`` override the folders.

Somebody without a home folder, as a service or a user of a container has none, has none of the three either.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import platformdirs

_APPLICATION = "bvae"
FOLDER_VARIABLES = ("BVAE_DATA_DIR", "BVAE_CACHE_DIR", "BVAE_CONFIG_DIR")
# Control characters, lone surrogates, separators of lines and of paragraphs.
_UNSEEN = frozenset({"Cc", "Cs", "Zl", "Zp"})
_FIRST_STRAY_BYTE, _LAST_STRAY_BYTE = 0xDC80, 0xDCFF
# They turn the direction of all that follows them on a line.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def data_dir() -> Path | None:
    """Return the folder for downloaded data sets (not created here), None where there is no home folder for it."""
    return _folder("BVAE_DATA_DIR", platformdirs.user_data_path)


def cache_dir() -> Path | None:
    """Return the folder for what can be computed again (not created here), None where there is no home folder for it."""
    return _folder("BVAE_CACHE_DIR", platformdirs.user_cache_path)


def config_dir() -> Path | None:
    """Return the folder that may hold the user's ``config.toml`` (not created here), None where there is no home folder."""
    return _folder("BVAE_CONFIG_DIR", platformdirs.user_config_path)


def expanded(path: str | Path) -> Path:
    """Return a path with ``~`` and ``~name`` in front replaced by that home folder; as in a shell, an unknown one stays.

    >>> expanded("~nobody-of-this-name/bits.npy").parts[0]
    '~nobody-of-this-name'
    """
    try:
        return Path(path).expanduser()
    except (RuntimeError, ValueError):  # nobody's home, or a name that nobody can have
        return Path(path)


def readable(text: object) -> str:
    """Return a text in one line of valid Unicode: what a name may hold and nobody can see is written as an escape.

    >>> print(readable("two\\nlines, one \\x1b[31m colour, one stray \\udcff byte"))
    two\\nlines, one \\x1b[31m colour, one stray \\xff byte
    """
    return "".join(_escape(character) for character in str(text))


def _escape(character: str) -> str:
    if _FIRST_STRAY_BYTE <= ord(character) <= _LAST_STRAY_BYTE:
        return f"\\x{ord(character) - 0xDC00:02x}"
    if unicodedata.category(character) in _UNSEEN or character in _TURNING:
        return character.encode("unicode_escape").decode()
    return character


def _folder(variable: str, default: Callable[[str], Path]) -> Path | None:
    value = os.environ.get(variable)
    if value:
        return expanded(value)
    try:
        found = default(_APPLICATION)
    except RuntimeError:
        return None
    # Without a home, some versions of platformdirs give a folder that is named ~ in the current one.
    return found if found.is_absolute() else None
