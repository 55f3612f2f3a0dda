"""One GPU: ours beside the yardstick, captured steps, many seeds as one model, seconds to a bound from a cold process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from timing import table
from timing.records import PEAKS, Record, measured, models, name_of, peaks
from timing.setting import Scale, Setting
from timing.summary import ratios, significant, spread
from timing.tournament import tournament

TITLE = "One GPU"
BATCHES = (128, 1000)
SEEDS = ((20, 128), (100, 1000), (1000, 128))
TARGET = 105.0
_QUICK_TARGET = 1e9
_MOST_EPOCHS = 400
_COLD_RUNS = 3
_OURS = ("ours-fp32", "ours-bf16", "ours-compiled-bf16")
_MANY = ("many-bf16", "many-compiled-bf16")
_FOLDER = Path(__file__).parents[2]
_LIMIT_OF_A_STEP = [
    "What limits a small batch is the number of kernels in a step: the products of matrices of each layer, forward and",
    "backward, and the passes between them run one after another, and each takes a microsecond or several however small it",
    "is.",
    "",
]
_LIMIT_OF_MANY = [
    "The goal was 100 million. What limits many seeds at small batches is Adam's traffic: every step reads and writes each",
    "weight and its two moments. Beside it stand the noise, which each seed draws by a kernel of its own, and the passes",
    "over the logits of the features.",
    "",
]


def measure(scale: Scale) -> dict[str, Any]:
    """Measure everything on the GPU; on a machine that has none say so, but for a quick run, which takes the CPU."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not scale.quick:
        return {"missing": "no CUDA device could be had for this page"}
    scale = scale._replace(device=device)
    settings = [Setting(name, batch=batch) for batch in BATCHES for name in ("yardstick", "compiled", *_OURS)]
    settings += [Setting(name) for name in PEAKS]
    records = tournament(settings, scale)
    # By themselves: their weights and states take gigabytes.
    for seeds, batch in SEEDS[:1] if scale.quick else SEEDS:
        records += tournament([Setting(name, batch=batch, models=seeds) for name in _MANY], scale)
    target = _QUICK_TARGET if scale.quick else TARGET
    cold = {str(batch): [_cold(scale, batch, target) for _ in range(1 if scale.quick else _COLD_RUNS)] for batch in BATCHES}
    return {"device": device, "records": records, "target": target, "cold": cold}


def section(part: dict[str, Any]) -> list[str]:
    """Return the section of the page."""
    if "missing" in part:
        return [
            f"Not measured: {part['missing']}. Where there is one, `python benchmarks/performance.py --parts cuda`",
            "measures set 1 at batch 128 and 1000 beside the yardstick, the microseconds of a captured step, 20, 100 and",
            f"1,000 seeds as one model, and the seconds to {TARGET:g} nats of validation bound from a cold process. The",
            "same lines run on the CPU, with tiny sizes, among the tests.",
            "",
        ]
    records: list[Record] = part["records"]
    single = [one for one in records if one["setting"]["models"] == 1 and one["implementation"] not in PEAKS]
    lines = peaks(records)
    for batch in dict.fromkeys(one["setting"]["batch"] for one in single):
        mine = [one for one in single if one["setting"]["batch"] == batch]
        lines += [f"### On the GPU, batch {batch}", "", *models(mine, records), "", *_steps(mine), ""]
        lines += [*_goals(mine, of_a_step=batch == single[0]["setting"]["batch"]), ""]
    return [
        *lines,
        *_LIMIT_OF_A_STEP,
        "### On the GPU, many seeds",
        "",
        *_many(records),
        *_LIMIT_OF_MANY,
        "### On the GPU, from a cold start",
        "",
        *_cold_table(part),
    ]


def _steps(records: list[Record]) -> list[str]:
    found = [one for one in records if "missing" not in one]
    microseconds = {
        one["implementation"]: table.spread_of([1e6 * one["setting"]["batch"] / rate for rate in one["rates"]])
        for one in found
    }
    rows = [[name_of(name), said] for name, said in microseconds.items()]
    return table.table(["implementation", "µs a step, median (quartiles)"], rows)


def _goals(records: list[Record], of_a_step: bool) -> list[str]:
    """Return what is reached of the goals; those beside the yardstick and of a step are of the smaller batch alone."""
    yardstick = measured(records, "yardstick")
    lines = []
    for name in _OURS:
        one = measured(records, name)
        if one is None or yardstick is None:
            continue
        rate = spread(one["rates"]).middle
        said = f"{table.number(rate / 1e6)} million images/s (wanted 1.5: {table.at_least(rate / 1e6, 1.5)})"
        if of_a_step:
            ratio = spread(ratios(one["rates"], yardstick["rates"])).middle
            step = 1e6 * one["setting"]["batch"] / rate
            said += f", {table.number(ratio)} times the yardstick (wanted 15: {table.at_least(ratio, 15)})"
            said += f", {table.number(step)} µs a step (wanted at most 60: {table.at_most(step, 60)})"
        lines.append(f"* {name_of(one['implementation'])}: {said}.")
    return lines


def _many(records: list[Record]) -> list[str]:
    rows = []
    for one in records:
        if one["implementation"] not in _MANY:
            continue
        setting = [f"{one['setting']['models']:,}", str(one["setting"]["batch"]), name_of(one["implementation"])]
        if "missing" in one:
            rows.append([*setting, f"not measured: {one['missing']}", ""])
            continue
        millions = [rate / 1e6 for rate in one["rates"]]
        rows.append([*setting, table.spread_of(millions), table.at_least(spread(millions).middle, 30)])
    head = ["seeds as one model", "batch", "implementation", "million images/s of all, median (quartiles)", "wanted 30"]
    return [*table.table(head, rows), ""]


def _cold_table(part: dict[str, Any]) -> list[str]:
    rows = []
    for batch, runs in part["cold"].items():
        reached = [run for run in runs if run["seconds"] is not None]
        said = table.spread_of([run["seconds"] for run in reached]) if reached else f"not in {_MOST_EPOCHS} epochs"
        rows.append([batch, said, ", ".join(str(run["epochs"]) for run in reached)])
    return [
        f"From the start of a process until the validation bound is at most {part['target']:g} nats, bfloat16:",
        "",
        *table.table(["batch", "seconds, median (quartiles)", "epochs"], rows),
        "",
    ]


def _cold(scale: Scale, batch: int, target: float) -> dict[str, Any]:
    """Return the seconds from the start of a process to the target, None where the epochs did not suffice."""
    setting = scale.fitted(Setting("ours-bf16", batch=batch))
    started = time.perf_counter()
    asked = json.dumps({"setting": setting._asdict(), "target": target, "most_epochs": _MOST_EPOCHS})
    words = [sys.executable, "-m", "timing.cold", asked]
    with subprocess.Popen(words, cwd=_FOLDER, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        seconds = time.perf_counter() - started
    if process.returncode or not said:
        raise RuntimeError(f"the cold run failed with {process.returncode}")
    answer = json.loads(said)
    return {"seconds": significant(seconds) if answer["reached"] else None, "epochs": answer["epochs"]}
