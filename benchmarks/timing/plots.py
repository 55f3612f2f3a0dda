"""The page's plots, as SVG whose bytes depend on the data alone (and on matplotlib's version)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bvae_cli.report.vector import INK, LINES, MARKERS, arm_colour, as_svg, new_figure, plain_log_ticks, style
from timing.summary import Spread

Point = tuple[float, Spread]
_NAMES = {"ours-fp32": "bvae, float32", "ours-bf16": "bvae, bfloat16", "yardstick": "plain PyTorch"}
_COLUMNS = 3


def panels(file: Path, found: Mapping[str, Mapping[str, Sequence[Point]]], label: str, logarithmic: bool) -> None:
    """Draw a panel for each abscissa, in it a line for each implementation with bars from quartile to quartile."""
    rows = -(-len(found) // _COLUMNS)
    figure = new_figure(10, 3.1 * rows)
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    handles = {}
    for axis, (abscissa, lines) in zip(axes, found.items(), strict=False):
        for implementation, points in lines.items():
            index = list(_NAMES).index(implementation)
            middles = [point.middle for _, point in points]
            below = [point.middle - point.low for _, point in points]
            above = [point.high - point.middle for _, point in points]
            handles[implementation] = axis.errorbar(
                [value for value, _ in points],
                middles,
                (below, above),
                color=arm_colour(index),
                marker=MARKERS[index],
                linestyle=LINES[index],
                markersize=4,
                linewidth=1.4,
                capsize=2,
            )
        style(axis)
        axis.set_xlabel(abscissa)
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_locator(FixedLocator(sorted({value for points in lines.values() for value, _ in points})))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        if logarithmic:
            axis.set_yscale("log")
            plain_log_ticks(axis.yaxis)
        else:
            axis.set_ylim(bottom=0)
    for axis in axes[::_COLUMNS]:
        axis.set_ylabel(label)
    for axis in axes[len(found) :]:
        axis.set_visible(False)
    shown = [name for name in _NAMES if name in handles]
    figure.legend(
        [handles[name] for name in shown],
        [_NAMES[name] for name in shown],
        loc="outside upper center",
        ncols=len(shown),
        frameon=False,
        labelcolor=INK,
    )
    _save(figure, file, f"{label} against {', '.join(found)}; the tables below have the figures.")


def bars(file: Path, found: Mapping[str, Spread], label: str) -> None:
    """Draw a bar for each name, with its quartiles."""
    figure = new_figure(9, 0.36 * len(found) + 0.8)
    axis = figure.subplots()
    names = list(found)
    middles = [one.middle for one in found.values()]
    error = ([one.middle - one.low for one in found.values()], [one.high - one.middle for one in found.values()])
    axis.barh(range(len(names)), middles, xerr=error, height=0.6, color=arm_colour(0), alpha=0.6, ecolor=INK, capsize=2)
    style(axis)
    axis.axvline(1, color=INK, linewidth=1)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.grid(visible=False, axis="y")
    axis.invert_yaxis()
    axis.set_xlabel(label)
    _save(figure, file, f"{label}, for each code; the table above has the figures.")


def _save(figure: Figure, file: Path, alternative: str) -> None:
    # The file is shown as it is, on a page that may be dark.
    figure.patch.set_alpha(1.0)
    file.parent.mkdir(parents=True, exist_ok=True)
    drawn = as_svg(figure, file.stem, alternative)
    file.write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{drawn}\n', encoding="utf-8")
