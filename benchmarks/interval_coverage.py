"""How often the intervals of a comparison cover, how often its test is wrong, and what it can find.

    python benchmarks/interval_coverage.py [--runs benchmarks/data/seed_values.csv] [--comparisons 4000]

Synthetic comparisons are made of real ones: the paired differences of measured runs (arm − reference, seed by seed) are
centred, so that the true difference is 0, and resampled with replacement, all claims of a seed together. The file holds
`arm,seed,metric,value`, as `bvae compare` writes them.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Callable
from pathlib import Path

import numpy
from scipy import stats

from bvae_cli.evaluation.statistics import ALPHA, holm, sign_flip_p_value, student_interval

Interval = tuple[float, float]
METRICS = ("iwae", "inference_bit_error_rate", "stored_nll@0.05")


def paired_differences(path: Path) -> dict[str, numpy.ndarray]:
    """Return the centred differences ``[seeds]`` of the last arm and each other, by claim."""
    values: dict[tuple[str, str], dict[int, float]] = {}
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            values.setdefault((row["arm"], row["metric"]), {})[int(row["seed"])] = float(row["value"])
    arms = list(dict.fromkeys(arm for arm, _ in values))
    found = {}
    for reference in arms[:-1]:
        for metric in METRICS:
            one, other = values[arms[-1], metric], values[reference, metric]
            differences = numpy.array([one[seed] - other[seed] for seed in sorted(one)])
            # Scaled, because centring takes one degree of freedom from the spread.
            size = len(differences)
            found[f"{metric}, against {reference}"] = (differences - differences.mean()) * math.sqrt(size / (size - 1))
    return found


def student(sample: numpy.ndarray) -> Interval:
    """Return Student's t interval."""
    interval = student_interval(sample.tolist())
    assert interval is not None
    return interval.low, interval.high


def bootstrap(method: str) -> Callable[[numpy.ndarray], Interval]:
    """Return a bootstrap interval over the seeds, of scipy's ``percentile`` or ``BCa``."""

    def interval(sample: numpy.ndarray) -> Interval:
        if numpy.ptp(sample) == 0:
            return float(sample[0]), float(sample[0])
        found = stats.bootstrap((sample,), numpy.mean, n_resamples=1000, method=method, rng=numpy.random.default_rng(0))
        return float(found.confidence_interval.low), float(found.confidence_interval.high)

    return interval


def coverage(pool: numpy.ndarray, seeds: int, interval: Callable[[numpy.ndarray], Interval], comparisons: int) -> float:
    """Return the share of synthetic comparisons whose interval covers the true difference, 0."""
    draws = numpy.random.default_rng(1).choice(pool, (comparisons, seeds))
    bounds = [interval(sample) for sample in draws]
    return float(numpy.mean([low <= 0 <= high for low, high in bounds]))


def rejections(pools: list[numpy.ndarray], seeds: int, shift: float, comparisons: int) -> numpy.ndarray:
    """Return, ``[comparisons, claims]``, what is claimed after Holm when the first claim is ``shift`` deviations true."""
    random, claimed = numpy.random.default_rng(2), []
    for _ in range(comparisons):
        drawn = random.integers(0, len(pools[0]), seeds)
        # Each seed's arms may be exchanged under the null; all claims of a seed together.
        signs = random.choice((-1.0, 1.0), seeds)
        p_values = []
        for index, pool in enumerate(pools):
            sample = pool[drawn] * signs
            if index == 0:
                sample = sample + shift * pool.std()
            p_values.append(sign_flip_p_value(sample.tolist()))
        claimed.append([adjusted <= ALPHA for adjusted in holm(p_values)])
    return numpy.array(claimed)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path(__file__).parent / "data" / "seed_values.csv")
    parser.add_argument("--comparisons", type=int, default=4000)
    arguments = parser.parse_args()
    pools, count = paired_differences(arguments.runs), arguments.comparisons
    methods = {"Student's t": student, "percentile bootstrap": bootstrap("percentile"), "BCa bootstrap": bootstrap("BCa")}
    print(f"Coverage of the 95 % interval over {count} synthetic comparisons for each claim, in percent")
    print(f"| {'claim':58} | seeds | {' | '.join(methods)} |")
    standardised = numpy.concatenate([pool / pool.std() for pool in pools.values()])
    for name, pool in {**pools, "all of them, each in units of its spread": standardised}.items():
        for seeds in (5, 8, 10):
            cells = [f"{100 * coverage(pool, seeds, method, count):.1f}" for method in methods.values()]
            print(f"| {name:58} | {seeds:5} | {' | '.join(cells)} |", flush=True)
    every = list(pools.values())
    for seeds in (8, 10):
        null = rejections(every, seeds, 0.0, count).any(1).mean()
        error = math.sqrt(ALPHA * (1 - ALPHA) / count)
        print(f"{seeds} seeds, no difference: a claim is made in {100 * null:.2f} % (at most 5 % + 2 × {100 * error:.2f} %)")
        for shift, what in ((2 / math.sqrt(2), "two deviations of an arm"), (2.0, "two deviations of the difference")):
            power = rejections(every, seeds, shift, count)[:, 0].mean()
            print(f"{seeds} seeds: a difference of {what}, one of {len(every)} claims, found in {100 * power:.1f} %")


if __name__ == "__main__":
    main()
