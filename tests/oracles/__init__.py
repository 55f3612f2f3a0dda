"""Comparisons with libraries that others wrote. Without a library its tests are skipped, unless TESTS_NEED_ORACLES=1."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

import pytest


def oracle(name: str) -> ModuleType:
    """Import a library, or skip the test; fail instead where TESTS_NEED_ORACLES=1 says that it must be there."""
    try:
        return importlib.import_module(name)
    except ImportError as missing:
        if os.environ.get("TESTS_NEED_ORACLES") == "1":
            pytest.fail(f"TESTS_NEED_ORACLES=1, and {name} cannot be imported: {missing}")
        pytest.skip(f"needs {name}")
