"""Reading sequences of symbols from a text file, a row a line: as numbers of symbols, and the vocabulary that names them.

Some millions of characters are read at once, and numbered by a table: a Python loop goes over the symbols only where some
are longer than a character and stand between separators.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bvae_cli.datasets.base import MOST_CATEGORIES
from bvae_cli.errors import InputOutputError, nearest
from bvae_cli.sources import DocumentError, open_file, read_text, reading, require_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLANK = " "
_CHARACTERS_AT_ONCE = 2**21
_LONGEST_LINE = 2**23
_LONGEST_SHOWN = 40
_ALL_CHARACTERS = 0x110000
_LINE_END = ord("\n")
# Rows that are filled up may take so many bytes for each byte of the file, where they take more than 256 MiB.
_LARGE, _BYTES_OF_A_BYTE = 2**28, 100
_NOT_TEXT = "Save it as UTF-8, or give the file that was meant."


class Sequences(NamedTuple):
    """``numbers`` is ``[rows, D]`` int16, numbers of the symbols of ``vocabulary``."""

    numbers: NDArray[np.int16]
    vocabulary: tuple[str, ...]


class Filling(NamedTuple):
    """The length to which rows are filled up, and the symbol that fills them."""

    length: int
    symbol: str


class _Block(NamedTuple):
    """Rows of a file: the numbers of all their symbols, one after another, the length and the line of each row."""

    numbers: NDArray[np.int32]
    lengths: NDArray[np.int64]
    lines: NDArray[np.int64]


def read_vocabulary(path: Path, separated: bool) -> list[str]:
    """Return the symbols of a file, one a line, in its order; where they are not ``separated`` each is one character.

    Raises InputOutputError for a missing file, no text, an empty line, a symbol that is there twice, and too many.
    """
    require_file(path)
    with reading(path):
        try:
            text = read_text(path)
        except DocumentError as error:
            raise InputOutputError(f"{path} is no vocabulary: {error}.", "Write one symbol a line.") from error
    lines = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
    first: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        symbol = line.strip() if separated else line
        if not symbol:
            raise InputOutputError(f"Line {number} of {path} is empty.", "A line of a vocabulary is a symbol.")
        if not separated and len(symbol) > 1:
            raise InputOutputError(
                f"Line {number} of {path} is {_shown(symbol)}, and without a separator a symbol is one character.",
                "Say what stands between the symbols of a row: separator=comma, tab, blank ….",
            )
        if symbol in first:
            raise InputOutputError(
                f"Line {number} of {path} repeats {_shown(symbol)} of line {first[symbol]}.", "Name every symbol once."
            )
        first[symbol] = number
    if len(first) > MOST_CATEGORIES:
        raise _too_many(path)
    return list(first)


def read_sequences(
    path: Path, separator: str, vocabulary: Sequence[str] | None = None, filling: Filling | None = None
) -> Sequences:
    """Return the rows of a text file, a line each; lines without a symbol are no rows.

    ``separator`` stands between the symbols of a row: where it is empty each character is one, where it is a blank any
    blanks do, and else the blanks around a symbol do not count. Without a ``vocabulary`` it is the symbols that are there,
    sorted; the one that fills rows up is added as the last where it is missing. Raises InputOutputError, naming the line,
    for a symbol that the vocabulary lacks or that is empty, rows of unequal length, or longer than they may be.
    """
    require_file(path)
    alphabet = _Alphabet(path, vocabulary)
    fill = None if filling is None else alphabet.number_of(filling.symbol)
    parts: list[NDArray[np.int16]] = []
    rows, width, most = 0, None if filling is None else filling.length, 0
    for first_line, text in _blocks(path):
        block = _block(text, first_line, separator, alphabet, path)
        if not len(block.lengths):
            continue
        width = int(block.lengths[0]) if width is None else width
        rows, most = rows + len(block.lengths), max(most, int(block.lengths.max()))
        _require_lengths(block, width, filling, path)
        if filling is not None:
            _require_sensible(rows, filling.length, path)
        parts.append(_rectangle(block, width, fill))
    if not parts:
        raise InputOutputError(f"{path} has no rows.", "Write one row of symbols a line.")
    if separator and vocabulary is None and most == 1:
        _require_separated([name for name in alphabet.known() if filling is None or name != filling.symbol], separator, path)
    order, names = alphabet.ordered(None if filling is None else filling.symbol)
    for number, part in enumerate(parts):
        parts[number] = order[part]
    return Sequences(np.concatenate(parts), names)


class _Alphabet:
    """The numbers of symbols: those of a vocabulary, or in the order in which they are found."""

    def __init__(self, path: Path, vocabulary: Sequence[str] | None) -> None:
        self._path, self._grows = path, vocabulary is None
        self._numbers: dict[str, int] = {}
        self._of_character = np.full(_ALL_CHARACTERS, -1, np.int32)
        self._add(vocabulary or ())

    def number_of(self, symbol: str) -> int:
        """Return the number of a symbol, which is added where it is missing."""
        if symbol not in self._numbers:
            self._add([symbol])
        return self._numbers[symbol]

    def of_characters(self, codes: NDArray[np.uint32]) -> NDArray[np.int32]:
        """Return the numbers of symbols of one character each, −1 for what the vocabulary lacks."""
        if self._grows:
            self._add([character for character in _distinct(codes) if character not in self._numbers])
        return self._of_character.take(codes)

    def of_words(self, words: list[str]) -> NDArray[np.int32]:
        """Return the numbers of symbols, −1 for what the vocabulary lacks, and for what is empty."""
        numbers = np.fromiter(map(self._numbers.get, words, repeat(-1)), np.int32, len(words))
        missing = (numbers < 0).nonzero()[0]
        if self._grows and len(missing):
            strange = [words[place] for place in missing.tolist()]
            self._add(sorted(set(strange) - {""}))
            numbers[missing] = np.fromiter(map(self._numbers.get, strange, repeat(-1)), np.int32, len(strange))
        return numbers

    def known(self) -> list[str]:
        """Return the symbols in the order of their numbers."""
        return list(self._numbers)

    def ordered(self, last: str | None) -> tuple[NDArray[np.int16], tuple[str, ...]]:
        """Return the final number of each symbol, and the vocabulary in this order: that of a file, or sorted."""
        names = list(self._numbers)
        if self._grows:
            names = sorted(names, key=lambda name: (name == last, name))
        numbers = {name: number for number, name in enumerate(names)}
        return np.array([numbers[name] for name in self._numbers], np.int16), tuple(names)

    def _add(self, symbols: Iterable[str]) -> None:
        for symbol in symbols:
            number = self._numbers[symbol] = len(self._numbers)
            if len(symbol) == 1:
                self._of_character[ord(symbol)] = number
        if len(self._numbers) > MOST_CATEGORIES:
            raise _too_many(self._path)


def _blocks(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file, some millions of characters at once, with the number of the first of them."""
    with reading(path), io.TextIOWrapper(open_file(path), "utf-8-sig") as file:
        try:
            number, rest = 1, ""
            while text := file.read(_CHARACTERS_AT_ONCE):
                if "\0" in text:
                    raise InputOutputError(f"{path} is not text.", _NOT_TEXT)
                text = rest + text
                end = text.rfind("\n") + 1
                rest = text[end:]
                if end:
                    yield number, text[:end]
                    number += text.count("\n")
                if len(rest) > _LONGEST_LINE:
                    raise InputOutputError(
                        f"Line {number} of {path} has more than {_LONGEST_LINE:,} characters.", "Write a row a line."
                    )
            if rest:
                yield number, rest + "\n"
        except UnicodeDecodeError as error:
            raise InputOutputError(f"{path} is not text in UTF-8.", _NOT_TEXT) from error


def _block(text: str, first_line: int, separator: str, alphabet: _Alphabet, path: Path) -> _Block:
    characters: NDArray[np.uint32] = np.frombuffer(text.encode("utf-32-le"), "<u4")
    codes = _between(characters, separator) if separator else characters
    if codes is None:
        words, lengths = _words(text, separator, characters)
        numbers = alphabet.of_words(words)
    else:
        ends = codes == _LINE_END
        lengths = np.diff(ends.nonzero()[0], prepend=-1) - 1
        codes = codes[~ends]
        words, numbers = [], alphabet.of_characters(codes)
    lines = first_line + lengths.nonzero()[0]
    lengths = lengths[lengths > 0]
    if not (numbers < 0).any():
        return _Block(numbers, lengths, lines)
    place = int((numbers < 0).argmax())
    row = int(np.searchsorted(lengths.cumsum(), place, side="right"))
    said = f"Line {lines[row]}, place {place - int(lengths[:row].sum()) + 1} of {path}"
    symbol = chr(codes[place]) if codes is not None else words[place]
    raise _not_a_symbol(said, symbol, alphabet)


def _not_a_symbol(place: str, symbol: str, alphabet: _Alphabet) -> InputOutputError:
    if not symbol:
        return InputOutputError(f"{place} is empty.", "A symbol stands between two separators, and none ends a line.")
    near = nearest(symbol[:_LONGEST_SHOWN], alphabet.known())
    return InputOutputError(
        f"{place} is {_shown(symbol)}, which the vocabulary lacks (counted from 1).",
        f"Did you mean {_shown(near)}?" if near else "Add it, or leave the vocabulary out: it is then what the file holds.",
    )


def _between(characters: NDArray[np.uint32], separator: str) -> NDArray[np.uint32] | None:
    """Return characters and line ends without separators where every symbol is one character, between two of those."""
    if len(separator) > 1 or len(characters) % 2:
        return None
    symbols, others = characters[::2], characters[1::2]
    ends = others == _LINE_END
    if separator in _distinct(symbols) or _has_blanks(symbols) or (~ends & (others != ord(separator))).any():
        return None
    kept = np.ones(len(characters), bool)
    kept[1::2] = ends
    return characters[kept]


def _words(text: str, separator: str, characters: NDArray[np.uint32]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the symbols of all lines, and how many each line has."""
    lines = text.removesuffix("\n").split("\n")
    if separator == BLANK:
        cells = [line.split() for line in lines]
    else:
        cells = [line.split(separator) if line.strip() else [] for line in lines]
    words: Iterable[str] = chain.from_iterable(cells)
    if _has_blanks(characters[characters != _LINE_END]):
        words = map(str.strip, words)
    return list(words), np.fromiter(map(len, cells), np.int64, len(cells))


def _has_blanks(characters: NDArray[np.uint32]) -> bool:
    return any(character.isspace() for character in _distinct(characters))


def _distinct(characters: NDArray[np.uint32]) -> list[str]:
    there = np.zeros(_ALL_CHARACTERS, bool)
    there[characters] = True
    return list(map(chr, there.nonzero()[0].tolist()))


def _rectangle(block: _Block, width: int, fill: int | None) -> NDArray[np.int16]:
    if fill is None or bool((block.lengths == width).all()):
        return block.numbers.astype(np.int16).reshape(-1, width)
    values = np.full((len(block.lengths), width), fill, np.int16)
    values[np.arange(width) < block.lengths[:, np.newaxis]] = block.numbers
    return values


def _require_separated(symbols: list[str], separator: str, path: Path) -> None:
    """Raise InputOutputError where lines without a separator were taken whole, though they are longer than a character."""
    lines = [symbol for symbol in symbols if len(symbol) > 1]
    if lines:
        raise InputOutputError(
            f"No line of {path} has the separator {separator!r}: each would be one symbol, as {_shown(lines[0])}.",
            "Leave separator out where every character is a symbol, or say what stands between them; symbols that are "
            "whole lines are named in a vocabulary.",
        )


def _require_lengths(block: _Block, width: int, filling: Filling | None, path: Path) -> None:
    bad = block.lengths != width if filling is None else block.lengths > width
    if bad.any():
        row = int(bad.argmax())
        said = f"Line {block.lines[row]} of {path} has {_count(int(block.lengths[row]))}"
        if filling is None:
            raise InputOutputError(
                f"{said}, {width} expected.", "Give every row the same number, or say length=N to fill shorter ones up."
            )
        raise InputOutputError(f"{said}, more than the length {width}.", "Say a larger length, or leave the row out.")


def _require_sensible(rows: int, length: int, path: Path) -> None:
    size, there = rows * length * 2, path.stat().st_size
    if size > max(_LARGE, _BYTES_OF_A_BYTE * there):
        raise InputOutputError(
            f"The rows of {path}, filled up to the length {length:,}, would take more than {size / 2**30:,.1f} GiB, "
            f"from a file of {there / 2**20:,.1f} MiB.",
            "Say a smaller length.",
        )


def _too_many(path: Path) -> InputOutputError:
    return InputOutputError(
        f"{path} has more than {MOST_CATEGORIES:,} different symbols.", "Are they symbols? A separator says where one ends."
    )


def _shown(symbol: Any) -> str:
    return repr(f"{symbol[:_LONGEST_SHOWN]}…" if len(symbol) > _LONGEST_SHOWN else symbol)


def _count(symbols: int) -> str:
    return f"{symbols} symbol" if symbols == 1 else f"{symbols} symbols"
