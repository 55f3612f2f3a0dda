"""Short words beside the pictures of a grid, drawn as values between 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy
from matplotlib import get_data_path
from matplotlib.ft2font import FT2Font

_POINTS, _DOTS_PER_INCH = 8, 100
# Pixels from one line to the next, and of those the part above the line that letters stand on.
LINE, _ABOVE = 14, 11


def lettered(text: str) -> Any:
    """Return a text of one or several lines, ``[height, width]``: 1 where there is a letter, 0 where there is none."""
    lines = [_line(line) for line in text.split("\n")]
    width = max(line.shape[1] for line in lines)
    return numpy.concatenate([numpy.pad(line, ((0, 0), (0, width - line.shape[1]))) for line in lines])


def height_of(texts: Sequence[str]) -> int:
    """Return the pixels that the tallest of these texts takes; 0 where all of them are empty."""
    return max((LINE * len(text.split("\n")) for text in texts if text), default=0)


def width_of(texts: Sequence[str]) -> int:
    """Return the pixels that the widest of these texts takes; 0 where all of them are empty."""
    return max((lettered(text).shape[1] for text in texts if text), default=0)


def _line(text: str) -> Any:
    font = _font()
    font.set_text(text)
    font.draw_glyphs_to_bitmap(antialiased=True)
    letters = numpy.asarray(font.get_image(), dtype=numpy.float32) / 255
    # Letters that hang below the line end lower than others.
    top = max(0, _ABOVE - (letters.shape[0] - font.get_descent() // 64))
    line = numpy.zeros((LINE, letters.shape[1]), dtype=numpy.float32)
    shown = letters[: LINE - top]
    line[top : top + len(shown)] = shown
    return line


@cache
def _font() -> FT2Font:
    """Return the font that matplotlib brings along: the fonts of the machine are not looked for."""
    font = FT2Font(str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")))
    font.set_size(_POINTS, _DOTS_PER_INCH)
    return font
