"""Records of contenders on the page: their names, and what share of the ceiling they reach."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from timing import table
from timing.summary import flop_per_image, ratios

Record = dict[str, Any]
PEAKS = ("matmul-fp32", "matmul-bf16")
NAMES = {
    "yardstick": "plain PyTorch (the yardstick), float32",
    "compiled": "the same model, loop by hand, all compiled, float32",
    "pythae": "pythae, Gaussian latent, float32",
    "ours-fp32": "**bvae**, float32",
    "ours-bf16": "**bvae**, bfloat16",
    "ours-compiled-fp32": "**bvae** with `--compile on`, float32",
    "ours-compiled-bf16": "**bvae** with `--compile on`, bfloat16",
    "many-fp32": "**bvae**, several seeds as one model, float32",
    "many-bf16": "**bvae**, several seeds as one model, bfloat16",
    "many-compiled-bf16": "**bvae** with `--compile on`, several seeds as one model, bfloat16",
    "products-fp32": "the step's matrix products alone, float32",
    "products-bf16": "the step's matrix products alone, bfloat16",
    "matmul-fp32": "a large matrix product, float32",
    "matmul-bf16": "a large matrix product, bfloat16",
}


def name_of(implementation: str) -> str:
    """Return the name of an implementation on the page: its own where it has no other."""
    return NAMES.get(implementation, implementation)


def measured(records: Iterable[Record], implementation: str) -> Record | None:
    """Return the first record of an implementation, None where it was not measured."""
    return next((one for one in records if one["implementation"] == implementation and "missing" not in one), None)


def shares(one: Record, records: Iterable[Record]) -> list[float] | None:
    """Return FLOP a second of the model's matrix products over those of a large one of that precision, round by round.

    None where no such product was measured, and for a model whose FLOP are not those of ours.
    """
    peak = measured(records, "matmul-bf16" if one["implementation"].endswith("bf16") else "matmul-fp32")
    if peak is None or one["implementation"] == "pythae":
        return None
    setting = one["setting"]
    flop = flop_per_image(setting["hidden"], setting["latent"], setting["depth"])
    return [flop * ratio for ratio in ratios(one["rates"], peak["rates"])]


def peaks(records: Iterable[Record]) -> list[str]:
    """Return the table of the ceiling."""
    records = list(records)
    found = [(name, measured(records, name)) for name in PEAKS]
    rows = [[name_of(name), table.spread_of([rate / 1e9 for rate in one["rates"]])] for name, one in found if one]
    return [*table.table(["the ceiling", "GFLOP/s, median (quartiles)"], rows), ""]


def models(records: list[Record], all_records: list[Record]) -> list[str]:
    """Return the table of implementations of one setting, beside the yardstick and the ceiling."""
    yardstick = measured(records, "yardstick")
    rows = []
    for one in records:
        name = name_of(one["implementation"])
        if "missing" in one:
            rows.append([name, f"not measured: {one['missing']}", "", ""])
            continue
        against = "–" if yardstick is None else table.spread_of(ratios(one["rates"], yardstick["rates"]))
        share = shares(one, all_records)
        reached = "–" if share is None else table.percent(share)
        rows.append([name, table.spread_of(one["rates"]), "1" if one is yardstick else against, reached])
    head = ["implementation", "images/s, median (quartiles)", "× yardstick, of one round", "share of the ceiling"]
    return table.table(head, rows)
