"""What a command did, as a shell sees it, and the one assertion for everything that is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """Exit code, stdout and stderr of one command."""

    code: int
    out: str
    err: str

    def succeeded(self) -> Outcome:
        """Expect exit code 0 and no word of an error."""
        assert self.code == 0, self.err
        assert "Error" not in self.err
        assert "Traceback" not in self.err
        return self

    def refused(self, code: int, *words: str) -> Outcome:
        """Expect this exit code, a sentence and a hint that hold all of ``words``, no traceback, nothing on stdout."""
        assert self.code == code, self.err
        assert self.out == ""
        assert "Traceback" not in self.err
        *_, sentence, hint = self.err.splitlines()
        assert sentence.startswith("Error: ")
        assert sentence.endswith(".")
        assert hint.startswith("Hint: ")
        assert sum(line.startswith("Error: ") for line in self.err.splitlines()) == 1
        for word in words:
            assert word in sentence + hint, f"{word!r} is not in {sentence!r}, {hint!r}"
        return self

    def json(self) -> Any:
        """Return stdout, which must be one JSON value and nothing else."""
        return json.loads(self.out)


Bvae = Callable[..., Outcome]
