"""Figures as SVG that stands inside a page: its colours follow the page, light or dark, and its text stays text."""

from __future__ import annotations

import html
import io
import re

import matplotlib
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from bvae_cli.paths import readable

# Placeholders that matplotlib draws with, the page's variable that takes their place, and the colour outside a page.
INK, FAINT = "#010203", "#010204"
# Told apart by people who see fewer colours too (Wong 2011), and light or dark enough on either ground.
_ARM_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#6c71c4", "#2aa198", "#7f7f7f")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":")
_VARIABLES = {INK: "var(--ink, #1b1b1f)", FAINT: "var(--faint, #c8c8d0)"}
_IDENTIFIER = re.compile(r'(\bid="|url\(#|href="#)([^")]+)')


def arm_colour(index: int) -> str:
    """Return the colour of an arm."""
    return _ARM_COLOURS[index % len(_ARM_COLOURS)]


def new_figure(width: float = 4.6, height: float = 3.2) -> Figure:
    """Return an empty figure, in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.patch.set_alpha(0.0)
    return figure


def style(axis: object) -> None:
    """Give an axis the page's ink: no box, faint grid."""
    for name, spine in axis.spines.items():  # type: ignore[attr-defined]
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(INK)
    axis.tick_params(colors=INK, which="both", labelsize=9)  # type: ignore[attr-defined]
    axis.patch.set_alpha(0.0)  # type: ignore[attr-defined]
    axis.grid(color=FAINT, linewidth=0.6)  # type: ignore[attr-defined]
    axis.set_axisbelow(True)  # type: ignore[attr-defined]
    for label in (axis.xaxis.label, axis.yaxis.label, axis.title):  # type: ignore[attr-defined]
        label.set_color(INK)
        label.set_fontsize(9.5)


def plain_log_ticks(line: Axis) -> None:
    """Label a logarithmic axis with plain numbers, once all is drawn: powers of ten, or a few values within one."""
    low, high = sorted(line.get_view_interval())
    line.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    line.set_minor_formatter(NullFormatter())
    if high > 10 * low:
        line.set_major_locator(LogLocator(numticks=8))
    else:
        line.set_major_locator(MaxNLocator(5))
        line.set_minor_locator(NullLocator())


def as_svg(figure: Figure, name: str, alternative: str) -> str:
    """Return a figure as an ``<svg>`` element with a text alternative; ``name`` keeps its identifiers apart from others'."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "bvae"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = _IDENTIFIER.sub(lambda found: f"{found[1]}{name}-{found[2]}", text)
    for placeholder, variable in _VARIABLES.items():
        text = text.replace(placeholder, variable)
    opening = text[: text.index(">")]
    bare = re.sub(r'\s(width|height)="[^"]*"', "", opening)
    alternative = readable(alternative)
    label = html.escape(alternative, quote=True)
    return f'{bare} role="img" aria-label="{label}"><title>{html.escape(alternative)}</title>{text[len(opening) + 1 :]}'
