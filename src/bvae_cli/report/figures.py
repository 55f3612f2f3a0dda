"""Figures as bytes of a PNG or SVG file: loss curves, and grids of images."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator

from bvae_cli.paths import readable
from bvae_cli.report.lettering import height_of, lettered, width_of

_PANELS = (
    ("training_loss", "training loss ({unit})"),
    ("validation_loss", "validation loss ({unit})"),
    ("kl", "KL ({unit})"),
    ("beta", "β"),
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_SMALLEST_GRID_SIDE = 28
# Pixels between the pictures of a grid, and what is there: a blue, since real values may well be of any grey.
_GAP = 4
_BETWEEN = (0.25, 0.4, 0.62)
_COLOURS = 3
# A row of at most so many values that is no picture is a bar: its pixels, and those of a value at least.
_LONGEST_BAR = 32
_WIDTH_OF_BAR, _HEIGHT_OF_BAR, _LEAST_OF_BAR = 120, 16, 3


class Captions(NamedTuple):
    """What stands above the columns of a grid and beside its rows: a text for each, empty where nothing is to be said."""

    columns: Sequence[str] = ()
    rows: Sequence[str] = ()


_NO_CAPTIONS = Captions()


def loss_curves(records: Mapping[str, Mapping[str, Sequence[float]]], file_format: str, unit: str = "nats per row") -> bytes:
    """Draw training loss, validation loss, KL and β against the epoch, a line for each run; the losses have the ``unit``."""
    figure = Figure(figsize=(10, 6.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2, sharex=True).ravel()
    for axis, (column, label) in zip(axes, _PANELS, strict=True):
        for record in records.values():
            values = record[column]
            axis.plot(range(1, len(values) + 1), values, linewidth=1.6, marker="o" if len(values) == 1 else None)
        axis.set_ylabel(label.format(unit=unit))
        axis.grid(alpha=0.3)
        axis.margins(x=0.02)
    for axis in axes[2:]:
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    lines = axes[0].get_lines()
    figure.legend(lines, [_breakable(name) for name in records], loc="outside upper left", frameon=False, fontsize=9)
    return _saved(figure, file_format)


def error_rates(rates: Sequence[Mapping[str, Any]], file_format: str) -> bytes:
    """Draw bit error rates of codes over flips and over Gaussian noise: marks are measured, lines are closed forms."""
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2)
    codes = list(dict.fromkeys(rate["code"] for rate in rates))
    panels = (("hard", "epsilon", "flip probability ε"), ("soft", "sigma", "deviation σ of Gaussian noise on ±1"))
    for axis, (channel, abscissa, label) in zip(axes, panels, strict=True):
        for index, code in enumerate(codes):
            mine = [rate for rate in rates if rate["code"] == code and rate[abscissa] is not None]
            colour, marker = f"C{index % 10}", _MARKERS[index % len(_MARKERS)]
            measured = [(r[abscissa], r["measured"][channel]["mean"]) for r in mine if r["measured"][channel] is not None]
            known = [(r[abscissa], r["closed_form"][channel]) for r in mine if r["closed_form"][channel]]
            seen = [(x, y) for x, y in measured if y > 0]
            if seen:
                axis.plot(*zip(*seen, strict=True), marker, color=colour, markersize=5, label=_breakable(code))
            if known:
                axis.plot(*zip(*known, strict=True), color=colour, linewidth=1.2)
        axis.set_xlabel(label)
        axis.set_ylabel("share of wrong information bits")
        axis.set_yscale("log")
        axis.grid(alpha=0.3)
    axes[0].set_xscale("log")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)
    return _saved(figure, file_format)


def image_grid(
    images: Any,
    feature_shape: Sequence[int],
    columns: int | None = None,
    column_groups: Sequence[int] = (),
    row_groups: Sequence[int] = (),
    captions: Captions = _NO_CAPTIONS,
) -> bytes:
    """Draw rows ``[S, D]`` with values in [0, 1] as a grid of pictures, a PNG.

    A row of height × width features is one picture, one of height × width × 3 a picture in colour; any other is drawn as
    ``drawn_as`` says. NaN has the colour between the pictures, which is no grey: a value that is not there.
    ``column_groups`` are the sizes of groups of columns that stand further apart, ``row_groups`` those of rows of the grid.
    """
    pictures = _enlarged(numpy.asarray(images, dtype=numpy.float32), feature_shape)
    count, height, width = pictures.shape[:3]
    columns = columns or int(numpy.ceil(numpy.sqrt(count * height / width)))
    above, beside = height_of(captions.columns), width_of(captions.rows)
    tops, bottom = _places([height] * -(-count // columns), row_groups, above + (_GAP if above else 0))
    lefts, right = _places(_widths(width, columns, captions.columns), column_groups, beside + (2 * _GAP if beside else 0))
    grid = numpy.full((bottom, right, _COLOURS), _BETWEEN, dtype=numpy.float32)
    for index, picture in enumerate(pictures):
        top, left = tops[index // columns], lefts[index % columns]
        coloured = picture[..., numpy.newaxis] if picture.ndim == 2 else picture
        grid[top : top + height, left : left + width] = numpy.where(numpy.isnan(coloured), _BETWEEN, coloured)
    for text, left in zip(captions.columns, lefts, strict=False):
        _write(grid, text, _GAP, left)
    for text, top in zip(captions.rows, tops, strict=False):
        _write(grid, text, top + max(0, (height - height_of([text])) // 2), _GAP)
    buffer = io.BytesIO()
    imsave(buffer, grid.clip(0, 1), format="png")
    return buffer.getvalue()


def drawn_as(feature_shape: Sequence[int]) -> str | None:
    """Say in words how a grid draws rows that are no pictures: a short one as a bar, a long one folded; else return None."""
    if _is_picture(feature_shape):
        return None
    features = math.prod(feature_shape)
    if features <= _LONGEST_BAR:
        return f"a bar of its {features} values" if features > 1 else "a bar of its one value"
    return f"its {features:,} values in lines of {_side(features)}"


def _places(sides: Sequence[int], groups: Sequence[int], first: int) -> tuple[list[int], int]:
    """Return where each of the pictures in a line begins, behind ``first`` pixels, and where the line ends, in pixels."""
    apart = set(accumulate(groups))
    places, end = [], _GAP + first
    for number, side in enumerate(sides):
        end += 2 * _GAP * (number in apart)
        places.append(end)
        end += side + _GAP
    return places, end


def _widths(width: int, columns: int, titles: Sequence[str]) -> list[int]:
    """Return the pixels of each column: a title has its own, and where none follows it those of the next ones as well."""
    follows = [bool(title) for title in titles[1:]] + [True] * bool(titles)
    widths = [max(width, width_of([title])) if last else width for title, last in zip(titles, follows, strict=True)]
    return widths or [width] * columns


def _write(grid: Any, text: str, top: int, left: int) -> None:
    """Write a text in white; what lies outside the grid is cut off."""
    if text:
        there = grid[top:, left:]
        letters = lettered(text)[: there.shape[0], : there.shape[1], numpy.newaxis]
        part = there[: letters.shape[0], : letters.shape[1]]
        part += letters * (1 - part)


def _enlarged(rows: Any, feature_shape: Sequence[int]) -> Any:
    """Return rows as pictures of a size to see: small ones enlarged by a whole number, so that a pixel stays a square."""
    features = rows.shape[1]
    if _is_picture(feature_shape):
        pictures = rows.reshape(len(rows), *feature_shape)
    elif features <= _LONGEST_BAR:
        return rows[:, numpy.newaxis].repeat(_HEIGHT_OF_BAR, 1).repeat(max(_LEAST_OF_BAR, _WIDTH_OF_BAR // features), 2)
    else:
        width = _side(features)
        height = -(-features // width)
        padded = numpy.full((len(rows), height * width), numpy.nan, dtype=rows.dtype)
        padded[:, :features] = rows
        pictures = padded.reshape(len(rows), height, width)
    scale = max(1, 2 * _SMALLEST_GRID_SIDE // max(pictures.shape[1:3]))
    return pictures.repeat(scale, 1).repeat(scale, 2)


def _is_picture(feature_shape: Sequence[int]) -> bool:
    return len(feature_shape) == 2 or (len(feature_shape) == 3 and feature_shape[2] == _COLOURS)


def _side(features: int) -> int:
    """Return the values in a line of a row that is folded, as near to a square as it goes."""
    return math.ceil(math.sqrt(features))


def _saved(figure: Figure, file_format: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=file_format, dpi=120)
    return buffer.getvalue()


def _breakable(name: str) -> str:
    """Escape what matplotlib would read as mathematics or cannot draw, and a leading underscore, which hides a line."""
    return readable(name).replace("$", r"\$").lstrip("_")
