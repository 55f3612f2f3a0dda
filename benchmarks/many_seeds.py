"""Seconds for several seeds, one after another and in every way that ``bvae train --seeds`` knows.

The ways: one after another with all threads; as one model, in batches of several sizes; worker processes × threads of each ×
models in a batch; and the way that the tool chooses by itself, with the time of its measurement. In each round every way is
taken once, in an order that moves on from round to round, so that what else the machine does falls on all. Each trains the
same runs anew, for a fixed number of epochs, with validation, records, and everything else that a run writes; only the data
are loaded and hashed beforehand. Workers are started, load torch and the data, and end within their time.

Prints the machine, the settings and a Markdown table of medians and quartiles; ``--json FILE`` keeps every single time.

    python benchmarks/many_seeds.py --seeds 20 --params 0 --batch-size 128 --epochs 5 --repeats 5 --json many_seeds.json
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from bvae_cli import __version__
from bvae_cli.config import TrainConfig
from bvae_cli.workflows.building import load_splits
from bvae_cli.workflows.planning import SharedData
from bvae_cli.workflows.train import train
from bvae_cli.workflows.train_many import ManyObserver, seeded, train_many
from bvae_cli.workflows.ways import Way, name_of

ONE_AFTER_ANOTHER, CHOSEN = "one after another", "chosen by the tool"


class Noting(ManyObserver):
    """Remembers the way in which runs are trained."""

    way: Way | None = None

    def on_way(self, way: Way) -> None:
        """Remember it."""
        self.way = way


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


def processor() -> str:
    """Return the name of the processor, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def forced_ways(seeds: int, threads: int, batches: list[int], workers: list[int]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the ways that are asked for, with the options that ask for them; ``threads`` are those of all workers."""
    for models in sorted({min(count, seeds) for count in batches}):
        yield name_of(1, threads, models), {"workers": "1", "models_at_once": models}
    for count in workers:
        share = -(-seeds // count)
        for models in sorted({1, *(min(size, share) for size in batches)}):
            yield (
                name_of(count, max(1, threads // count), models),
                {"workers": str(count), "models_at_once": models},
            )


def arguments_of() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--params", type=int, default=0, help="parameter set")
    parser.add_argument("--ecc", default="none", help="code, as `bvae train` takes it")
    parser.add_argument("--dataset", default="binarized-mnist", help="data, as `bvae train` takes them")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=5, help="the tool starts no workers for less than half a minute")
    parser.add_argument("--subset", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="threads of all workers together; 0 takes torch's number")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batches", type=int, nargs="*", default=[5, 10, 20], help="models in a batch")
    parser.add_argument("--workers", type=int, nargs="*", help="worker processes [default: as many as threads]")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="file for every single time")
    return parser.parse_args()


def main() -> None:
    """Measure every way in turn and print the table."""
    arguments = arguments_of()
    names = ("params", "ecc", "dataset", "batch_size", "epochs", "subset", "threads", "device")
    # Patience must not end a run: in every way the same work is done.
    config = TrainConfig(**{name: getattr(arguments, name) for name in names}, patience=arguments.epochs)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    threads, seeds = torch.get_num_threads(), arguments.seeds
    workers = arguments.workers if arguments.workers is not None else [threads] if threads > 1 else []
    data = SharedData(load_splits(config.dataset))
    data.beginning(config.subset, "bernoulli", 0.0)  # found out here, as is the digest, and used by every way
    digest = data.digest
    rows = len(data.limited(config.subset).train)
    chosen: list[str] = []

    def one_after_another(folder: Path) -> None:
        for one in seeded(config.model_copy(update={"output_dir": folder}), seeds):
            train(one, splits=data)

    def in_way(options: dict[str, Any]) -> Callable[[Path], None]:
        def work(folder: Path) -> None:
            observer = Noting()
            train_many(config.model_copy(update={"output_dir": folder, **options}), seeds, observer, data=data)
            if not options and observer.way is not None:
                chosen.append(str(observer.way))

        return work

    ways = {ONE_AFTER_ANOTHER: one_after_another}
    for name, options in forced_ways(seeds, threads, arguments.batches, workers):
        ways[name] = in_way(options)
    ways[CHOSEN] = in_way({})
    taken: dict[str, list[float]] = {way: [] for way in ways}
    order = list(ways)
    for round_ in range(arguments.repeats):
        for way in order[round_ % len(order) :] + order[: round_ % len(order)]:
            taken[way].append(seconds(ways[way]))

    images = seeds * arguments.epochs * rows
    result = {
        "machine": {
            "processor": processor(),
            "threads": threads,
            "device": arguments.device,
            "system": platform.platform(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "bvae": __version__,
        },
        "settings": {**{name: getattr(arguments, name) for name in names}, "seeds": seeds, "rows": rows, "data": digest},
        "seconds": taken,
        "chosen": chosen,
    }
    show(result, images, f"{config.sizes}, {config.ecc.label()}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def show(result: dict[str, Any], images: int, what: str) -> None:
    """Print the machine, the settings and the table."""
    machine, settings, taken = result["machine"], result["settings"], result["seconds"]
    repeats = len(taken[ONE_AFTER_ANOTHER])
    print(f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}; {settings['seeds']} seeds")
    print(f"of {what}; batch {settings['batch_size']}, {settings['epochs']} epochs of {settings['rows']:,} rows;")
    print(f"{repeats} rounds\n")
    print("| way | seconds, median | quartiles | of one after another | images/s together |\n|---|---|---|---|---|")
    for way, values in taken.items():
        lower, middle, upper = quartiles(values)
        # Each round by itself: what slowed all of it down cancels.
        pairs = zip(values, taken[ONE_AFTER_ANOTHER], strict=True)
        ratio = statistics.median(mine / theirs for mine, theirs in pairs)
        print(f"| {way} | {middle:.2f} | {lower:.2f} … {upper:.2f} | {ratio:.2f} | {images / middle:,.0f} |")
    for way in dict.fromkeys(result["chosen"]):
        print(f"\nThe tool chose {way}.")


if __name__ == "__main__":
    main()
