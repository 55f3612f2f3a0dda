"""One assertion for every input that is refused: the type, the exit code and the words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bvae_cli.errors import ExitCode, InputOutputError


@contextmanager
def refused(*words: str) -> Iterator[None]:
    """Expect an InputOutputError with exit code 3, a hint, one sentence, and all of ``words`` in message or hint."""
    with pytest.raises(InputOutputError) as caught:
        yield
    error = caught.value
    assert error.exit_code == ExitCode.INPUT_OUTPUT == 3
    assert error.hint
    assert error.message.endswith(".")
    assert "\n" not in error.message
    for word in words:
        assert word in str(error), f"{word!r} not in {error}"
