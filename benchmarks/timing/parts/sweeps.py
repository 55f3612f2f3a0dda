"""Cost against batch, width, N, depth and threads, and of every code: one thing changed at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from timing import plots, table
from timing.records import PEAKS, Record, measured, shares
from timing.setting import Scale, Setting
from timing.summary import ratios, spread
from timing.tournament import cores, tournament

TITLE = "Cost against size, threads and code"
# Of the seconds of a turn elsewhere: there are many settings.
_TURN = 0.4
_PAIR = ("yardstick", "ours-fp32")
_HEADS = {"ours-fp32": "bvae, float32", "ours-bf16": "bvae, bfloat16"}
_QUICK = ("batch", "threads", "codes")
_VALUES: dict[str, tuple[int, ...]] = {
    "batch": (32, 128, 512, 1000, 4000),
    "hidden": (64, 200, 512, 1024),
    "latent": (16, 100, 256, 512),
    "depth": (1, 2, 3, 4),
}
_LABELS = {
    "batch": "batch size",
    "hidden": "width of the hidden layers",
    "latent": "N, bits of the latent",
    "depth": "hidden layers in each network",
    "threads": "threads, batch 1000",
    "threads at 128": "threads, batch 128",
}
CODES = (
    "none",
    "repetition:R=3",
    "repetition:R=2",
    "parity:k=4",
    "hamming:r=3,pad=true",
    "hamming:r=3,extended=true,pad=true",
    "golay:pad=true",
    "reed-muller:r=1,m=4,pad=true",
    "bch:n=15,t=2",
    "polar:n=32,k=16,pad=true",
    "ldpc:n=300",
    "convolutional:k=150",
    "linear:matrix=100110/010101/001011",
    "unequal:groups=60 repetition:R=5 + 140 hamming:r=3 + 100 none",
)


def settings() -> dict[str, list[Setting]]:
    """Return what is measured, sweep by sweep."""
    found: dict[str, list[Setting]] = {}
    for field, values in _VALUES.items():
        names = (*_PAIR, "ours-bf16") if field == "batch" else _PAIR
        changes: list[dict[str, Any]] = [{field: value} for value in values]
        found[field] = [Setting(name)._replace(**change) for change in changes for name in names]
    for sweep, batch in (("threads", 1000), ("threads at 128", 128)):
        threads = [count for count in (1, 2, 4, 8, 16, 32, 64) if count <= cores()]
        found[sweep] = [Setting(name, threads=count, batch=batch) for count in threads for name in _PAIR]
    for sweep in found:
        found[sweep] += [Setting(name) for name in PEAKS]
    found["codes"] = [Setting("ours-fp32", latent=300, code=code) for code in CODES]
    return found


def measure(scale: Scale) -> dict[str, Any]:
    """Measure each sweep in a tournament of its own."""
    scale = scale._replace(seconds=_TURN * scale.seconds)
    records: list[Record] = []
    for sweep, some in settings().items():
        if scale.quick and sweep not in _QUICK:
            continue
        wanted = _few(some) if scale.quick else some
        records += [{**one, "sweep": sweep} for one in tournament(wanted, scale)]
    return {"records": records}


def section(part: dict[str, Any]) -> list[str]:
    """Return the section of the page."""
    codes = _of(part, "codes")
    lines = [
        "Set 1 at batch 1000 with one thing changed: images/s, and the share of the ceiling of the same precision,",
        "measured in the same rounds. Points are medians, bars reach from quartile to quartile.",
        "",
        "![Images a second against each size](images/performance_rates.svg)",
        "",
        "![Share of the ceiling against each size](images/performance_shares.svg)",
        "",
    ]
    for sweep, label in _measured(part).items():
        lines += [*_table(part, sweep, label), ""]
    uncoded = next(one for one in codes if one["setting"]["code"] == "none")
    setting = uncoded["setting"]
    rows = [[f"`{one['setting']['code']}`", *_cost(one, uncoded)] for one in codes]
    head = ["code", "ms a step, median (quartiles)", "time × uncoded, of one round"]
    return [
        *lines,
        f"Every code, N = {setting['latent']}, batch {setting['batch']}, float32:",
        "",
        *table.table(head, rows),
        "",
        "![Cost of every code beside the uncoded model](images/performance_codes.svg)",
        "",
    ]


def draw(part: dict[str, Any], folder: Path) -> None:
    """Write the plots."""
    rates: dict[str, dict[str, list[plots.Point]]] = {}
    reached: dict[str, dict[str, list[plots.Point]]] = {}
    for sweep, label in _measured(part).items():
        rates[label], reached[label] = {}, {}
        records = _of(part, sweep)
        for one in records:
            name = one["implementation"]
            if name in PEAKS or "missing" in one:
                continue
            thousands = spread([rate / 1000 for rate in one["rates"]])
            rates[label].setdefault(name, []).append((_value(one, sweep), thousands))
            share = shares(one, records)
            if share is not None:
                percent = spread([100 * each for each in share])
                reached[label].setdefault(name, []).append((_value(one, sweep), percent))
    plots.panels(folder / "performance_rates.svg", rates, "thousand images/s", logarithmic=True)
    plots.panels(folder / "performance_shares.svg", reached, "share of the ceiling, %", logarithmic=False)
    codes = _of(part, "codes")
    uncoded = next(one for one in codes if one["setting"]["code"] == "none")
    bars = {one["setting"]["code"]: spread(ratios(uncoded["rates"], one["rates"])) for one in codes if "missing" not in one}
    plots.bars(folder / "performance_codes.svg", bars, "time of a step beside the uncoded model")


def _few(some: list[Setting]) -> list[Setting]:
    """Return the first pair of a sweep, and what stands beside it."""
    return some[:2] + [one for one in some if one.implementation in PEAKS]


def _of(part: dict[str, Any], sweep: str) -> list[Record]:
    return [one for one in part["records"] if one["sweep"] == sweep]


def _measured(part: dict[str, Any]) -> dict[str, str]:
    return {sweep: label for sweep, label in _LABELS.items() if _of(part, sweep)}


def _value(one: Record, sweep: str) -> int:
    value: int = one["setting"][sweep.partition(" ")[0]]
    return value


def _table(part: dict[str, Any], sweep: str, label: str) -> list[str]:
    records = _of(part, sweep)
    contenders = [one for one in records if one["implementation"] not in PEAKS and "missing" not in one]
    ours = [name for name in _HEADS if any(one["implementation"] == name for one in contenders)]
    head, rows = [label, "yardstick, images/s, share"], []
    for name in ours:
        head += [f"{_HEADS[name]}, images/s, share", "× yardstick"]
    for value in dict.fromkeys(_value(one, sweep) for one in contenders):
        of_value = [one for one in contenders if _value(one, sweep) == value]
        yardstick = measured(of_value, "yardstick")
        cells = [f"{value:,}", _rate(yardstick, records)]
        for name in ours:
            one = measured(of_value, name)
            beside = "–"
            if one is not None and yardstick is not None:
                beside = table.spread_of(ratios(one["rates"], yardstick["rates"]))
            cells += [_rate(one, records), beside]
        rows.append(cells)
    return table.table(head, rows)


def _rate(one: Record | None, records: list[Record]) -> str:
    if one is None:
        return "–"
    share = shares(one, records)
    return table.spread_of(one["rates"]) + ("" if share is None else f", {table.percent(share)}")


def _cost(one: Record, uncoded: Record) -> list[str]:
    if "missing" in one:
        return [f"not measured: {one['missing']}", ""]
    milliseconds = [1000 * one["setting"]["batch"] / rate for rate in one["rates"]]
    beside = "1" if one is uncoded else table.spread_of(ratios(uncoded["rates"], one["rates"]))
    return [table.spread_of(milliseconds), beside]
