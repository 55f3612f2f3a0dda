"""Figures as bytes of a PNG or SVG file: loss curves, and grids of images."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator

from bvae_cli.paths import readable

_PANELS = (
    ("training_loss", "training loss (nats per image)"),
    ("validation_loss", "validation loss (nats per image)"),
    ("kl", "KL (nats per image)"),
    ("beta", "β"),
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_SMALLEST_GRID_SIDE = 28
# Pixels between the pictures of a grid, and what is there: a blue, since real values may well be of any grey.
_GAP = 4
_BETWEEN = (0.25, 0.4, 0.62)
_COLOURS = 3


def loss_curves(records: Mapping[str, Mapping[str, Sequence[float]]], file_format: str) -> bytes:
    """Draw training loss, validation loss, KL and β against the epoch, a line for each run."""
    figure = Figure(figsize=(10, 6.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2, sharex=True).ravel()
    for axis, (column, label) in zip(axes, _PANELS, strict=True):
        for record in records.values():
            values = record[column]
            axis.plot(range(1, len(values) + 1), values, linewidth=1.6, marker="o" if len(values) == 1 else None)
        axis.set_ylabel(label)
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
) -> bytes:
    """Draw rows ``[S, D]`` with values in [0, 1] as a grid of pictures, a PNG.

    A row of height × width features is one picture, one of height × width × 3 a picture in colour; any other is drawn as
    near to a square as it goes. NaN has the colour between the pictures, which is no grey: a value that is not there.
    ``column_groups`` are the sizes of groups of columns that stand further apart, ``row_groups`` those of rows of the grid.
    """
    pictures = _as_pictures(numpy.asarray(images, dtype=numpy.float32), feature_shape)
    # Small pictures are shown enlarged by a whole number, so that a pixel stays a square.
    scale = max(1, 2 * _SMALLEST_GRID_SIDE // max(pictures.shape[1:3]))
    pictures = pictures.repeat(scale, 1).repeat(scale, 2)
    count, height, width = pictures.shape[:3]
    columns = columns or int(numpy.ceil(numpy.sqrt(count)))
    tops, bottom = _places(-(-count // columns), height, row_groups)
    lefts, right = _places(columns, width, column_groups)
    grid = numpy.full((bottom, right, _COLOURS), _BETWEEN, dtype=numpy.float32)
    for index, picture in enumerate(pictures):
        top, left = tops[index // columns], lefts[index % columns]
        coloured = picture[..., numpy.newaxis] if picture.ndim == 2 else picture
        grid[top : top + height, left : left + width] = numpy.where(numpy.isnan(coloured), _BETWEEN, coloured)
    buffer = io.BytesIO()
    imsave(buffer, grid.clip(0, 1), format="png")
    return buffer.getvalue()


def _places(count: int, side: int, groups: Sequence[int]) -> tuple[list[int], int]:
    """Return where each of so many pictures in a line begins, and where the line ends, in pixels."""
    apart = set(accumulate(groups))
    places, end = [], _GAP
    for number in range(count):
        end += 2 * _GAP * (number in apart)
        places.append(end)
        end += side + _GAP
    return places, end


def _as_pictures(rows: Any, feature_shape: Sequence[int]) -> Any:
    if len(feature_shape) == 2 or (len(feature_shape) == 3 and feature_shape[2] == _COLOURS):
        return rows.reshape(len(rows), *feature_shape)
    features = rows.shape[1]
    width = int(numpy.ceil(numpy.sqrt(features)))
    height = -(-features // width)
    padded = numpy.full((len(rows), height * width), numpy.nan, dtype=rows.dtype)
    padded[:, :features] = rows
    return padded.reshape(len(rows), height, width)


def _saved(figure: Figure, file_format: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=file_format, dpi=120)
    return buffer.getvalue()


def _breakable(name: str) -> str:
    """Escape what matplotlib would read as mathematics or cannot draw, and a leading underscore, which hides a line."""
    return readable(name).replace("$", r"\$").lstrip("_")
