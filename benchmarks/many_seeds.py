"""Seconds for several seeds trained one after another, and as one model: ``bvae train --seeds``.

Both ways are taken in turn, so that what else the machine does falls on both; each trains the same runs anew, with all
that a run writes. Prints the machine and the settings, and a Markdown table of medians and quartiles.

    python benchmarks/many_seeds.py --seeds 20 --params 0 --batch-size 128 --epochs 2 --repeats 5
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from bvae_cli.config import TrainConfig
from bvae_cli.workflows.building import load_splits
from bvae_cli.workflows.train import train
from bvae_cli.workflows.train_many import seeded, train_many


def seconds(work: Callable[[Path], object]) -> float:
    """Return how long some work takes in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        work(Path(folder))
        return time.perf_counter() - started


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile; of a single value, that value."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    lower, middle, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, middle, upper


def main() -> None:
    """Measure both ways in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--params", type=int, default=0, help="parameter set")
    parser.add_argument("--ecc", default="none", help="code, as `bvae train` takes it")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--subset", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = vars(parser.parse_args())
    seeds, repeats = arguments.pop("seeds"), arguments.pop("repeats")
    config = TrainConfig(**arguments)
    splits = load_splits(config.dataset)
    rows = len(splits.limited(config.subset).train)

    def in_folder(folder: Path) -> TrainConfig:
        return config.model_copy(update={"output_dir": folder})

    ways: dict[str, Callable[[Path], object]] = {
        "one after another": lambda folder: [train(one, splits=splits) for one in seeded(in_folder(folder), seeds)],
        "as one model": lambda folder: train_many(in_folder(folder), seeds, splits=splits),
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, work in ways.items():
            taken[way].append(seconds(work))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads"
    print(
        f"{platform.machine()}, {device}, torch {torch.__version__}; {seeds} seeds of {config.sizes}, {config.ecc.label()},"
    )
    print(f"batch {config.batch_size}, {config.epochs} epochs of {rows:,} rows; {repeats} times each, in turn\n")
    print("| way | seconds, median | quartiles | images/s together |\n|---|---|---|---|")
    for way, values in taken.items():
        lower, middle, upper = quartiles(values)
        images = seeds * config.epochs * rows / middle
        print(f"| {way} | {middle:.2f} | {lower:.2f} … {upper:.2f} | {images:,.0f} |")
    ratio = statistics.median(taken["as one model"]) / statistics.median(taken["one after another"])
    print(f"\nAs one model it takes {ratio:.2f} of the time.")


if __name__ == "__main__":
    main()
