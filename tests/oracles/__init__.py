"""Our numbers beside those of other people's libraries, which are installed for these tests alone."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

import pytest


def oracle(name: str) -> Any:
    """Return a library to compare with; without it the tests of the module skip, or fail where TESTS_NEED_ORACLES=1."""
    if importlib.util.find_spec(name) is None:
        if os.environ.get("TESTS_NEED_ORACLES") == "1":
            pytest.fail(f"{name} is not installed, and TESTS_NEED_ORACLES=1.", pytrace=False)
        pytest.skip(f"needs {name}", allow_module_level=True)
    return importlib.import_module(name)
