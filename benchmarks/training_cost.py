"""What a code costs in training: milliseconds of a whole step, every code in turn, beside the uncoded model.

    python benchmarks/training_cost.py [--threads 1] [--rounds 9] [--batch 1000] [--csv FILE]

Set 5 (784-200-200-300), random bits as data: the arithmetic does not depend on what they are. Printed are the median and the
quartiles of the rounds, and the ratio of medians to the uncoded model.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from pathlib import Path

import torch

from bvae_cli.config import PARAMETER_SETS, PluginRef, parse_code
from bvae_cli.model.bvae import BinaryVAE
from bvae_cli.workflows.fit import Fit

_SIZES = PARAMETER_SETS[5]
CODES = [
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
]


def fit_of(reference: PluginRef, x: torch.Tensor, batch: int) -> Fit:
    """Return a training run on rows ``x`` with a code; an epoch of it is what is timed."""
    torch.manual_seed(0)
    code = reference.spec("code").build(_SIZES.latent)
    model = BinaryVAE(code, x.float().mean(0), _SIZES.hidden, _SIZES.depth)
    return Fit(model, x, x[:1], epochs=1_000_000, batch_size=batch, lr=0.001, patience=1_000_000)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    x = (torch.rand(2 * arguments.batch, 784, generator=torch.Generator().manual_seed(0)) < 0.3).to(torch.uint8)
    fits = {name: iter(fit_of(parse_code(name), x, arguments.batch)) for name in CODES}
    times: dict[str, list[float]] = {name: [] for name in CODES}
    for fit in fits.values():
        next(fit)
    for _ in range(arguments.rounds):
        for name, fit in fits.items():
            started = time.perf_counter()
            next(fit)
            times[name].append(1e3 * (time.perf_counter() - started) / 2)
    middle = statistics.median(times["none"])
    print(
        f"torch {torch.__version__}, {arguments.threads} threads, batch {arguments.batch}, {arguments.rounds} rounds in turn"
    )
    print("| code | ms a step, median | quartiles | beside `none` |\n|---|---|---|---|")
    for name, values in times.items():
        low, median, high = statistics.quantiles(values, n=4)
        print(f"| `{name}` | {median:.1f} | {low:.1f}–{high:.1f} | {median / middle:.2f} |")
    if arguments.csv:
        with arguments.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([name, *values] for name, values in times.items())


if __name__ == "__main__":
    main()
