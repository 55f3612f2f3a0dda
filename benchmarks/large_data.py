"""Training and encoding from a mapped file of packed bits, beside the same rows in memory: throughput, and memory by size.

    python benchmarks/large_data.py [--rows 100000 1000000] [--rounds 5] [--threads 2] [--batch 1000] [--subset 0]

The rows are digits of binarised MNIST, drawn with replacement, each pixel flipped with probability 1/32. Throughput is that
of the largest size, set 1: an epoch from memory and an epoch from the file in turn, round after round, and so for `encode`,
beside what the products with the encoder's weights take by themselves, on rows that lie ready as float32.
Memory is that of a process of its own for each size and each way, by the kernel's count: what it is before the data are
opened, and the most it is until the end of an epoch, or of the encoding. Pages of a mapped file that a process holds are
counted (RssFile).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy
import torch

from bvae_cli import processor
from bvae_cli.config import PluginRef, TrainConfig
from bvae_cli.datasets.binarized_mnist import BinarizedMnist
from bvae_cli.model.networks import layers_with_weights
from bvae_cli.trained import EncodeConfig
from bvae_cli.workflows.building import load_model
from bvae_cli.workflows.encode import encode
from bvae_cli.workflows.fit import Fit
from bvae_cli.workflows.planning import prepare
from bvae_cli.workflows.train import fit_of, train

_FEATURES = 784
_CHUNK = 50_000
_SECONDS_BETWEEN_LOOKS = 0.01
WAYS = {"memory": "never", "file": "always"}
TASKS = ("train", "encode")
PRODUCTS = "the encoder's products alone"
# As many as `encode` takes at once.
_ROWS_OF_A_PRODUCT = 2000


def write_rows(path: Path, rows: int) -> None:
    """Write packed rows, some at once."""
    random = numpy.random.default_rng(0)
    digits = numpy.packbits(BinarizedMnist().load().train.numpy(), axis=1)
    packed = numpy.lib.format.open_memmap(path, "w+", numpy.uint8, (rows, digits.shape[1]))
    for start in range(0, rows, _CHUNK):
        part = digits[random.integers(len(digits), size=min(_CHUNK, rows - start))]
        # Five fair coins that all fall on one side: 1/32.
        flips = numpy.bitwise_and.reduce(random.integers(0, 256, (5, *part.shape), dtype=numpy.uint8), axis=0)
        packed[start : start + len(part)] = part ^ flips
    packed.flush()


def data(folder: Path, rows: int, way: str) -> PluginRef:
    """Name the file of so many rows, to be mapped or to be read."""
    options = {"path": folder / f"rows_{rows}.npy", "features": _FEATURES, "mapped": WAYS[way]}
    return PluginRef(type="packed", options=options)


def new_fit(folder: Path, reference: PluginRef, batch: int, threads: int, subset: int = 0) -> Fit:
    """Return a training run on data, before its first epoch."""
    config = TrainConfig(
        dataset=reference, batch_size=batch, threads=threads, subset=subset, device="cpu", output_dir=folder / "runs"
    )
    prepared = prepare(config)
    return fit_of(config, prepared, prepared.splits.train.to("cpu"), prepared.splits.validation.to("cpu"), None)


def encoding(folder: Path, reference: PluginRef, threads: int) -> float:
    """Encode every row; return images/s."""
    weights = next((folder / "model").iterdir())
    config = EncodeConfig(
        weights=weights, dataset=reference, output=folder / "codes.npy", packed=True, threads=threads, device="cpu"
    )
    return encode(config).images_per_second


@torch.no_grad()
def bare_products(folder: Path, rows: int) -> float:
    """Return the images/s of the products of the encoder's weights alone, on the same few rows again and again."""
    model = load_model(next((folder / "model").iterdir())).model
    inputs = [torch.rand(_ROWS_OF_A_PRODUCT, layer.in_features) for layer, _ in layers_with_weights(model.encoder.layers)]
    weights = [layer.weight.t() for layer, _ in layers_with_weights(model.encoder.layers)]
    outputs = [one @ weight for one, weight in zip(inputs, weights, strict=True)]
    times = rows // _ROWS_OF_A_PRODUCT
    started = time.perf_counter()
    for _ in range(times):
        for one, weight, output in zip(inputs, weights, outputs, strict=True):
            torch.mm(one, weight, out=output)
    return times * _ROWS_OF_A_PRODUCT / (time.perf_counter() - started)


def throughput(folder: Path, rows: int, arguments: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Return images/s by task and way, one for each round."""
    rates: dict[str, dict[str, list[float]]] = {task: {way: [] for way in WAYS} for task in TASKS}
    sizes = (arguments.batch, arguments.threads, arguments.subset)
    fits = {way: iter(new_fit(folder, data(folder, rows, way), *sizes)) for way in WAYS}
    for round_number in range(max(2, arguments.rounds) + 1):
        # The one that goes first goes second in the next round; the first round is not counted.
        for way in list(WAYS)[:: 1 if round_number % 2 else -1]:
            rate = next(fits[way]).images_per_second
            if round_number:
                rates["train"][way].append(rate)
    del fits
    for round_number in range(max(2, arguments.rounds) + 1):
        for way in [*WAYS, PRODUCTS][:: 1 if round_number % 2 else -1]:
            rate = (
                bare_products(folder, rows)
                if way == PRODUCTS
                else encoding(folder, data(folder, rows, way), arguments.threads)
            )
            if round_number:
                rates["encode"].setdefault(way, []).append(rate)
    return rates


def memory_now() -> dict[str, int]:
    """Return what the kernel counts of this process, in kB: RssAnon, RssFile and their sum with shared memory, VmRSS."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    facts = dict(line.split(":", 1) for line in lines)
    return {name: int(facts[name].split()[0]) for name in ("VmRSS", "RssAnon", "RssFile")}


def most_memory(work: Callable[[], object]) -> tuple[dict[str, int], dict[str, int]]:
    """Return the memory before ``work``, and the most of each kind while it goes on, looked at a hundred times a second."""
    before, most, done = memory_now(), memory_now(), threading.Event()

    def look() -> None:
        while not done.wait(_SECONDS_BETWEEN_LOOKS):
            for name, value in memory_now().items():
                most[name] = max(most[name], value)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return before, most


def measure_memory(folder: Path, task: str, rows: int, way: str, batch: int, threads: int) -> None:
    """Print, as JSON, the memory of one task on one size in this process."""
    processor.prepare(threads)
    small = folder / "few.npy"
    # Once on few rows: what torch and the model take is not what the data take.
    few = PluginRef(type="packed", options={"path": small, "features": _FEATURES, "mapped": WAYS[way]})
    works: dict[str, Callable[[PluginRef], object]] = {
        "train": lambda reference: next(iter(new_fit(folder, reference, batch, threads))),
        "encode": lambda reference: encoding(folder, reference, threads),
    }
    works[task](few)
    before, most = most_memory(lambda: works[task](data(folder, rows, way)))
    print(json.dumps({"before": before, "most": most}))


def show_throughput(rows: int, rates: dict[str, dict[str, list[float]]]) -> None:
    """Print medians, quartiles and the ratio."""
    columns = "| task | from | images/s, median | quartiles | beside memory | beside the products |"
    print(f"\n{rows:,} rows\n\n{columns}\n|---|---|---|---|---|---|")
    for task, by_way in rates.items():
        middle = statistics.median(by_way["memory"])
        for way, values in by_way.items():
            low, median, high = statistics.quantiles(values, n=4)
            bare = f"{median / statistics.median(by_way[PRODUCTS]):.3f}" if PRODUCTS in by_way else ""
            print(f"| {task} | {way} | {median:,.0f} | {low:,.0f}–{high:,.0f} | {median / middle:.3f} | {bare} |")


def show_memory(folder: Path, arguments: argparse.Namespace) -> None:
    """Print the memory of every task, size and way, each in a process of its own."""
    print("\n| task | rows | from | before, MB | most, MB | most anonymous | most pages of files |")
    print("|---|---|---|---|---|---|---|")
    for task in TASKS:
        for way in WAYS:
            for rows in arguments.rows:
                options = [task, str(rows), way, str(arguments.batch), str(arguments.threads)]
                command = [sys.executable, __file__, "--folder", str(folder), "--measure", *options]
                found = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
                before, most = found["before"], found["most"]
                figures = [before["VmRSS"], most["VmRSS"], most["RssAnon"], most["RssFile"]]
                print(
                    f"| {task} | {rows:,} | {way} | {' | '.join(f'{value / 1e3:,.0f}' for value in figures)} |", flush=True
                )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=5, help="At least 2.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--subset", type=int, default=0, help="Rows in an epoch that is timed; 0 takes all.")
    parser.add_argument("--folder", type=Path, help="Where the files are made [default: a temporary folder].")
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        task, rows, way, batch, threads = arguments.measure
        measure_memory(arguments.folder, task, int(rows), way, int(batch), int(threads))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        write_rows(folder / "few.npy", 5000)
        for rows in arguments.rows:
            if not (folder / f"rows_{rows}.npy").exists():
                write_rows(folder / f"rows_{rows}.npy", rows)
        train(TrainConfig(subset=1000, epochs=1, device="cpu", output_dir=folder / "model"))
        print(f"torch {torch.__version__}, {arguments.threads} threads, batch {arguments.batch}, {arguments.rounds} rounds")
        show_memory(folder, arguments)
        rows = max(arguments.rows)
        show_throughput(rows, throughput(folder, rows, arguments))
        print(f"\n{time.perf_counter() - started:.0f} s in all")


if __name__ == "__main__":
    main()
