"""Figures as bytes of a PNG or SVG file: loss curves, and grids of images."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
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
# Pixels between the pictures of a grid.
_GAP = 2
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


def image_grid(images: Any, feature_shape: Sequence[int], columns: int | None = None) -> bytes:
    """Draw rows ``[S, D]`` with values in [0, 1] as a grid of pictures, a PNG.

    A row of height × width features is one picture, one of height × width × 3 a picture in colour; any other is drawn as
    near to a square as it goes.
    """
    pictures = _as_pictures(numpy.asarray(images, dtype=numpy.float32), feature_shape)
    count, height, width, *colours = pictures.shape
    columns = columns or int(numpy.ceil(numpy.sqrt(count)))
    rows = -(-count // columns)
    size = (rows * (height + _GAP) + _GAP, columns * (width + _GAP) + _GAP, *colours)
    grid = numpy.full(size, 0.5, dtype=numpy.float32)
    for index, picture in enumerate(pictures):
        top = _GAP + (index // columns) * (height + _GAP)
        left = _GAP + (index % columns) * (width + _GAP)
        grid[top : top + height, left : left + width] = picture
    # Small pictures are shown enlarged by a whole number, so that a pixel stays a square.
    scale = max(1, 2 * _SMALLEST_GRID_SIDE // max(height, width))
    buffer = io.BytesIO()
    imsave(buffer, grid.repeat(scale, 0).repeat(scale, 1), cmap="gray", vmin=0.0, vmax=1.0, format="png")
    return buffer.getvalue()


def _as_pictures(rows: Any, feature_shape: Sequence[int]) -> Any:
    if len(feature_shape) == 2 or (len(feature_shape) == 3 and feature_shape[2] == _COLOURS):
        return rows.reshape(len(rows), *feature_shape)
    features = rows.shape[1]
    width = int(numpy.ceil(numpy.sqrt(features)))
    height = -(-features // width)
    padded = numpy.zeros((len(rows), height * width), dtype=rows.dtype)
    padded[:, :features] = rows
    return padded.reshape(len(rows), height, width)


def _saved(figure: Figure, file_format: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=file_format, dpi=120)
    return buffer.getvalue()


def _breakable(name: str) -> str:
    """Escape what matplotlib would read as mathematics or cannot draw, and a leading underscore, which hides a line."""
    return readable(name).replace("$", r"\$").lstrip("_")
