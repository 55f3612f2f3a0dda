"""Tables and figures of a page, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from timing.summary import spread


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def number(value: float) -> str:
    """Return a figure with three digits, whole numbers with their thousands.

    >>> number(54321.9), number(1.2345), number(0.012345)
    ('54,300', '1.23', '0.0123')
    """
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{value:#.3g}"


def spread_of(values: Sequence[float]) -> str:
    """Return median and quartiles.

    >>> spread_of([1.0, 2.0, 3.0])
    '2.00 (1.50–2.50)'
    """
    low, middle, high = spread(values)
    return f"{number(middle)} ({number(low)}–{number(high)})"


def percent(shares: Sequence[float]) -> str:
    """Return the median of shares in percent.

    >>> percent([0.25, 0.5])
    '38 %'
    """
    return f"{100 * spread(shares).middle:.0f} %"


def verdict(value: float, least: float, goal: float) -> str:
    """Say whether a ratio reaches what was wanted, at least ``least`` and hopefully ``goal``, and by how much it does not.

    >>> verdict(1.4, 1.5, 2.0)
    '1.40 times the yardstick, wanted are 1.5: missed by 7 %'
    """
    said = f"{number(value)} times the yardstick, wanted are {least:g}: "
    if value < least:
        return said + f"missed by {100 * (1 - value / least):.0f} %"
    hoped = f"the goal of {goal:g} is reached too" if value >= goal else f"the goal of {goal:g} is not"
    return said + f"reached; {hoped}"


def at_most(value: float, most: float) -> str:
    """Say whether a cost is within what is allowed.

    >>> at_most(1.2, 1.25), at_most(1.3, 1.25), at_most(3, 1)
    ('kept', 'missed by 4 %', 'missed, 3.00 times as much')
    """
    if value <= most:
        return "kept"
    return (
        f"missed, {number(value / most)} times as much"
        if value > 2 * most
        else f"missed by {100 * (value / most - 1):.0f} %"
    )


def at_least(value: float, least: float) -> str:
    """Say whether a figure reaches what is wanted.

    >>> at_least(1.5, 1.5), at_least(12, 15)
    ('reached', 'missed by 20 %')
    """
    return "reached" if value >= least else f"missed by {100 * (1 - value / least):.0f} %"
