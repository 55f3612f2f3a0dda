"""One model on the CPU: ours and every rival in turn, beside the ceiling of the matrix products; and what a code costs."""

from __future__ import annotations

from typing import Any

from timing import table
from timing.records import PEAKS, Record, measured, models, name_of, peaks
from timing.setting import Scale, Setting
from timing.summary import ratios, spread
from timing.tournament import tournament

TITLE = "One model"
BATCHES = (1000, 128)
GOALS = {1000: (1.5, 2.0), 128: (1.8, 3.0)}
RIVALS = ("yardstick", "compiled", "pythae")
OURS = ("ours-fp32", "ours-compiled-fp32", "ours-bf16", "ours-compiled-bf16")
PRODUCTS = ("products-fp32", "products-bf16")
CODES = {"none": 1.0, "repetition:R=3": 1.1, "hamming:r=3,pad=true": 1.25}
# What a code costs is measured of these.
CODED = ("ours-fp32", "ours-compiled-fp32")
_CODED_LATENT = 300


def measure(scale: Scale) -> dict[str, Any]:
    """Measure the models, the codes and the ceiling, all in one tournament."""
    batches = BATCHES[:1] if scale.quick else BATCHES
    settings = [Setting(name, batch=batch) for batch in batches for name in (*RIVALS, *OURS, *PRODUCTS)]
    settings += [
        Setting(name, latent=_CODED_LATENT, batch=batch, code=code) for batch in batches for name in CODED for code in CODES
    ]
    settings += [Setting(name) for name in PEAKS]
    return {"records": tournament(settings, scale)}


def section(part: dict[str, Any]) -> list[str]:
    """Return the section of the page."""
    records = part["records"]
    plain = [one for one in records if one["setting"]["latent"] != _CODED_LATENT]
    lines = [
        "784-200-200-100 (set 1), learning rate 0.001, the bundled binarised MNIST, epochs without validation.",
        "The yardstick is `benchmarks/plain_torch_vae.py`, in float32 as it stands; so are the other rivals. pythae has",
        "no binary latent: its Gaussian one is the nearest model, and needs two heads where ours needs one.",
        "",
        *peaks(records),
    ]
    contenders = [one for one in records if one["implementation"] not in PEAKS]
    batches = dict.fromkeys(one["setting"]["batch"] for one in contenders)
    for batch, (least, goal) in zip(batches, GOALS.values(), strict=False):
        of_this = [one for one in contenders if one["setting"]["batch"] == batch]
        mine = [one for one in of_this if one in plain]
        lines += [f"### Batch {batch}", "", *models(mine, records), "", *_verdicts(mine, least, goal), ""]
        for name in CODED:
            coded = [one for one in of_this if one not in plain and one["implementation"] == name]
            lines += _codes(coded) if coded else []
    return lines


def _verdicts(records: list[Record], least: float, goal: float) -> list[str]:
    yardstick = measured(records, "yardstick")
    lines = []
    for one in records:
        if yardstick is not None and one["implementation"] in OURS and "missing" not in one:
            ratio = spread(ratios(one["rates"], yardstick["rates"])).middle
            lines.append(f"* {name_of(one['implementation'])}: {table.verdict(ratio, least, goal)}.")
            alone = measured(records, f"products-{one['implementation'].rpartition('-')[2]}")
            if alone is not None:
                part = spread(ratios(one["rates"], alone["rates"])).middle
                most = spread(ratios(alone["rates"], yardstick["rates"])).middle
                lines[-1] += f" Its matrix products alone take {100 * part:.0f} % of its time: were all else free, it"
                lines[-1] += f" would be {table.number(most)} times the yardstick."
    return lines


def _codes(records: list[Record]) -> list[str]:
    uncoded = next(one for one in records if one["setting"]["code"] == "none")
    rows = []
    for one in records:
        code = one["setting"]["code"]
        if "missing" in one:
            rows.append([f"`{code}`", f"not measured: {one['missing']}", "", ""])
            continue
        # Times are the inverse of rates.
        cost = ratios(uncoded["rates"], one["rates"])
        kept = f"at most {CODES[code]}: {table.at_most(spread(cost).middle, CODES[code])}"
        beside = ["1", ""] if one is uncoded else [table.spread_of(cost), kept]
        rows.append([f"`{code}`", table.spread_of(one["rates"]), *beside])
    setting = uncoded["setting"]
    return [
        f"What a code costs, N = {setting['latent']}, batch {setting['batch']}, {name_of(uncoded['implementation'])}:",
        "",
        *table.table(["code", "images/s, median (quartiles)", "time × uncoded, of one round", "goal"], rows),
        "",
        "What a block code takes is its soft decoding: exponentials of the scores of all words, forward and backward.",
        "",
    ]
