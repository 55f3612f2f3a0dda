"""The two memory layouts of a repetition code: copies K apart ``[..., R, K]`` and adjacent ``[..., K, R]``.

Soft decoding (the sum over the copies) of a batch, the two in turn in one process; medians and quartiles in milliseconds.

    python benchmarks/repetition_layout.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from bvae_cli.codes.repetition import Repetition


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.rounds} rounds\n")
    print("| batch × N | R | copies apart (used), ms | adjacent, ms | ratio of medians |\n|---|---|---|---|---|")
    for batch, latent, copies in ((1000, 300, 3), (10_000, 300, 3), (1000, 200, 2), (10_000, 300, 10)):
        code = Repetition(R=copies).build(latent)
        logits = torch.randn(batch, latent)
        apart, adjacent = _in_turn(
            lambda code=code, logits=logits: code.soft_decode(logits),
            lambda copies=copies, logits=logits: logits.unflatten(-1, (-1, copies)).sum(-1),
            arguments.rounds,
        )
        ratio = statistics.median(adjacent) / statistics.median(apart)
        print(f"| {batch} × {latent} | {copies} | {_shown(apart)} | {_shown(adjacent)} | {ratio:.2f} |")


def _in_turn(first: Callable[[], Tensor], second: Callable[[], Tensor], rounds: int) -> tuple[list[float], list[float]]:
    times: tuple[list[float], list[float]] = ([], [])
    for round_number in range(rounds + 5):
        for calls, kept in zip((first, second), times, strict=True):
            started = time.perf_counter()
            calls()
            if round_number >= 5:
                kept.append(1e3 * (time.perf_counter() - started))
    return times


def _shown(times: list[float]) -> str:
    low, middle, high = statistics.quantiles(times, n=4)
    return f"{middle:.3f} ({low:.3f}–{high:.3f})"


if __name__ == "__main__":
    main()
