"""Sequences of symbols in a text file of one's own: a row a line, every symbol one of a vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, model_validator

from bvae_cli.datasets.base import SplitName, Splits
from bvae_cli.datasets.divided import Divided
from bvae_cli.datasets.split_file import read_split_file
from bvae_cli.errors import UsageError
from bvae_cli.paths import expanded
from bvae_cli.sources import require_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# A name for each separator that a shell, or `name:key=value,…`, would take for something else.
_SEPARATORS = {"blank": " ", "tab": "\t", "comma": ",", "semicolon": ";"}
_NAMES = {separator: name for name, separator in _SEPARATORS.items()}
OtherFile = Annotated[Path, AfterValidator(expanded)] | None


def _named(separator: str) -> str:
    return _NAMES.get(separator, separator)


class Symbols(Divided):
    """Rows of symbols, as many in each: words, proteins, molecules in a notation of letters, notes.

    A line of the file is a row, of any characters in UTF-8; empty lines are none. There is no header and no comment.

    >>> Symbols(path="words.txt", separator=",").separator
    'comma'
    """

    summary: ClassVar[str] = "your own text file of sequences of symbols, a row a line"

    separator: Annotated[str, AfterValidator(_named)] = Field(
        "",
        max_length=9,
        description="What stands between the symbols of a row: comma, semicolon, tab, blank, or a text; empty: nothing, "
        "each character is a symbol.",
    )
    vocabulary: OtherFile = Field(
        None, description="File of the symbols, one a line, numbered in its order; without it, those of the rows, sorted."
    )
    length: int = Field(
        0, ge=0, le=2**23, description="Fill the rows up to so many symbols; 0: all must have the same number."
    )
    padding: str = Field("_", min_length=1, max_length=40, description="Symbol that fills rows up.")
    split_file: OtherFile = Field(None, description="File that says the split of each row; see the guide.")

    @model_validator(mode="after")
    def _are_symbols(self) -> Self:
        if any(end in self.separator + self.padding for end in "\r\n\0"):
            raise UsageError("A separator and a padding are no ends of lines.", "A line is a row.")
        if not self.separator and len(self.padding) > 1:
            raise UsageError(
                f"padding '{self.padding}' is not one character, and without a separator every symbol is.",
                "As in padding=_, or say a separator.",
            )
        if self.split_file is not None:
            self.require_unnamed("validation", "test", "split_seed", because="split_file says the split of each row")
        return self

    def check(self) -> None:
        """Raise InputOutputError where a file is missing or empty; nothing of it is read."""
        for path in (self.path, self.vocabulary, self.split_file):
            if path is not None:
                require_file(path)

    def load(self) -> Splits:
        """Read the file. Raises InputOutputError, naming the first bad line and place, where it cannot."""
        from bvae_cli.datasets.symbol_text import Filling, read_sequences, read_vocabulary

        self.check()
        separator = _SEPARATORS.get(self.separator, self.separator)
        vocabulary = None if self.vocabulary is None else read_vocabulary(self.vocabulary, bool(separator))
        filling = Filling(self.length, self.padding) if self.length else None
        numbers, names = read_sequences(self.path, separator, vocabulary, filling)
        features = numbers.shape[1]
        return self.divided(
            numbers, (features,), None, likelihood="categorical", categories=(len(names),) * features, vocabulary=names
        )

    def division(self, total: int) -> dict[SplitName, NDArray[np.int64]]:
        """Return the numbers of the rows of each split, as ``split_file`` or the seed says."""
        return super().division(total) if self.split_file is None else read_split_file(self.split_file, total)
