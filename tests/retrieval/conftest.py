"""Tests here run on one thread."""

from tests.helpers import one_thread

__all__ = ["one_thread"]
