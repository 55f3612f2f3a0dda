"""Throughput of soft decoding, in turn with the codes of other libraries where they are installed.

    python benchmarks/soft_decoding.py [--threads 2] [--rounds 7]

Prints information bits a second: median and quartiles over the rounds, every decoder once in each round. A rival is skipped,
and said to be, where it is not installed.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch

from bvae_cli.codes.base import CodeSpec
from bvae_cli.codes.bch import Bch
from bvae_cli.codes.golay import Golay
from bvae_cli.codes.hamming import Hamming
from bvae_cli.codes.reed_muller import ReedMuller
from bvae_cli.codes.repetition import Repetition

# A code, and how many blocks are decoded at once.
OURS: list[tuple[CodeSpec, int]] = [
    (Repetition(R=3), 3_000_000),
    (Hamming(r=3), 200_000),
    (Hamming(r=3, extended=True), 200_000),
    (Hamming(r=5), 20_000),
    (ReedMuller(r=1, m=4), 100_000),
    (Bch(n=15, t=2), 50_000),
    (Bch(n=31, t=2), 2_000),
    (Golay(n=24), 4_000),
]
Decoder = tuple[str, int, Callable[[], object]]


def ours() -> list[Decoder]:
    """Return our decoders with their inputs."""
    decoders = []
    for spec, blocks in OURS:
        block = spec.block()
        # A batch of latents of a hundred blocks each, as a model decodes them.
        rows, across = max(1, blocks // 100), min(blocks, 100)
        code = spec.build(across * block.n)
        logits = 2 * torch.randn(rows, code.n, generator=torch.Generator().manual_seed(0))
        decoders.append(
            (f"bvae {spec.label()}, {spec.soft_decoding()}", rows * code.k, lambda c=code, x=logits: c.soft_decode(x))
        )
    return decoders


def rivals() -> list[Decoder]:
    """Return soft decoders of other libraries."""
    found: list[Decoder] = []
    try:
        import komm
        import numpy as np
    except ImportError:
        print("komm is not installed: pip install komm")
        return found
    for name, code, words in (
        ("hamming(7,4)", komm.HammingCode(3), 20_000),
        ("hamming(8,4)", komm.HammingCode(3, extended=True), 20_000),
        ("reed-muller(1,4)", komm.ReedMullerCode(1, 4), 5_000),
        ("bch(15,7)", komm.BCHCode(4, 5), 2_000),
        ("golay(24,12)", komm.GolayCode(extended=True), 100),
    ):
        decoder = komm.ExhaustiveBitwiseDecoder(code)
        received = np.random.default_rng(0).normal(size=code.length * words)
        name = f"komm {komm.__version__} {name}, ExhaustiveBitwiseDecoder"
        found.append((name, code.dimension * words, lambda d=decoder, r=received: d.decode(r)))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    decoders = [*ours(), *rivals()]
    rates: dict[str, list[float]] = {name: [] for name, _, _ in decoders}
    with torch.no_grad():
        for _, _, decode in decoders:
            decode()
        for _ in range(arguments.rounds):
            for name, bits, decode in decoders:
                started = time.perf_counter()
                decode()
                rates[name].append(bits / (time.perf_counter() - started) / 1e6)
    print(f"{platform.machine()}, {arguments.threads} threads, torch {torch.__version__}, {arguments.rounds} rounds in turn")
    print("| decoder | Mbit/s of information bits, median (quartiles) |\n|---|---|")
    for name, values in rates.items():
        low, middle, high = statistics.quantiles(values, n=4)
        print(f"| {name} | {middle:.4g} ({low:.4g}–{high:.4g}) |")


if __name__ == "__main__":
    main()
