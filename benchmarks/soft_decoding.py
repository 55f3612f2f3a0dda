"""Throughput of decoding, in turn with other libraries where they are installed (pip install komm sionna ldpc galois).

    python benchmarks/soft_decoding.py [--threads 2] [--rounds 7] [--csv FILE]

Every decoder is run once in each round, on as many words as take it about a tenth of a second; printed are information bits
a second, median and quartiles over the rounds. A library that is not installed is named and left out.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import torch

from bvae_cli.codes.base import CodeSpec
from bvae_cli.codes.bch import Bch
from bvae_cli.codes.convolutional import Convolutional
from bvae_cli.codes.golay import Golay
from bvae_cli.codes.hamming import Hamming
from bvae_cli.codes.ldpc import Ldpc
from bvae_cli.codes.polar import Polar
from bvae_cli.codes.reed_muller import ReedMuller
from bvae_cli.codes.repetition import Repetition

_SECONDS = 0.1
_MOST_WORDS = 1 << 22
_LIBRARIES = ("komm", "sionna", "ldpc", "galois")
_EPSILON = 0.05


class Contender(NamedTuple):
    """A decoder of so many information bits a word: ``prepare(words)`` returns what is to be timed."""

    task: str
    decoder: str
    bits: int
    prepare: Callable[[int], Callable[[], object]]


def _logits(words: int, n: int) -> torch.Tensor:
    return 2 * torch.randn(words, n, generator=torch.Generator().manual_seed(0))


def _flips(words: int, n: int) -> torch.Tensor:
    return (torch.rand(words, n, generator=torch.Generator().manual_seed(0)) < _EPSILON).to(torch.uint8)


def ours(task: str, spec: CodeSpec, hard: bool = False) -> Contender:
    """Return our decoder, on latents of as many blocks as come next to a hundred bits."""
    block = spec.block()
    blocks = max(1, 100 // block.n)
    code = spec.build(blocks * block.n)

    def prepare(words: int) -> Callable[[], object]:
        rows = max(1, words // blocks)
        if hard:
            received = _flips(rows, code.n)
            return lambda: code.decode(received)
        logits = _logits(rows, code.n)
        return lambda: code.soft_decode(logits)

    way = spec.hard_decoding() if hard else spec.soft_decoding()
    return Contender(task, f"**bvae**, {way}", block.k, prepare)


def komms(task: str, code: Any, decoder: Any, hard: bool = False) -> Contender:
    """Return a decoder of komm, on one long row of words."""

    def prepare(words: int) -> Callable[[], object]:
        received = (_flips if hard else _logits)(words, code.length).numpy().ravel()
        if hard:
            received = received.astype(int)
        return lambda: decoder.decode(received)

    return Contender(task, f"komm, {type(decoder).__name__}", code.dimension, prepare)


def sionnas(task: str, decoder: Any, n: int, k: int, what: str) -> Contender:
    """Return a decoder of sionna, on a batch of words."""

    def prepare(words: int) -> Callable[[], object]:
        logits = _logits(words, n)
        return lambda: decoder(logits)

    return Contender(task, f"sionna, {what}", k, prepare)


def contenders(libraries: dict[str, Any]) -> Iterator[Contender]:
    """Return everybody, task by task."""
    komm, sionna, ldpc, galois = (libraries.get(name) for name in _LIBRARIES)
    dense: list[tuple[str, CodeSpec, Any]] = [
        ("repetition R = 3, soft", Repetition(R=3), lambda: komm.RepetitionCode(3)),
        ("Hamming (7, 4), soft", Hamming(r=3), lambda: komm.HammingCode(3)),
        ("Hamming (8, 4), soft", Hamming(r=3, extended=True), lambda: komm.HammingCode(3, extended=True)),
        ("Hamming (31, 26), soft", Hamming(r=5), None),
        ("Reed–Muller (1, 4), soft", ReedMuller(r=1, m=4), lambda: komm.ReedMullerCode(1, 4)),
        ("BCH (15, 7), soft", Bch(n=15, t=2), lambda: komm.BCHCode(4, 5)),
        ("BCH (31, 21), soft", Bch(n=31, t=2), None),
        ("Golay (24, 12), soft", Golay(n=24), lambda: komm.GolayCode(extended=True)),
    ]
    for task, spec, theirs in dense:
        yield ours(task, spec)
        if komm and theirs:
            yield komms(task, theirs(), komm.ExhaustiveBitwiseDecoder(theirs()))
        if sionna and not isinstance(spec, Repetition):
            block = spec.block()
            yield sionnas(task, _sionna_beliefs(sionna, spec, 10), block.n, block.k, "LDPCBPDecoder, 10 rounds, not exact")
    yield from _sparse(sionna, ldpc)
    yield from _convolutional(komm, sionna)
    yield from _polar(komm, sionna)
    for task, spec, make in (
        ("BCH (15, 7), hard", Bch(n=15, t=2), lambda: (galois.BCH(15, 7), "BCH.decode")),
        ("BCH (31, 16), hard", Bch(n=31, t=3), lambda: (galois.BCH(31, 16), "BCH.decode")),
    ):
        yield ours(task, spec, hard=True)
        if komm:
            code = komm.BCHCode(4, 5) if spec.block().n == 15 else komm.BCHCode(5, 7)
            yield komms(task, code, komm.BerlekampDecoder(code), hard=True)
        if galois:
            yield _galois(task, *make(), spec.block().k)


def _galois(task: str, code: Any, what: str, bits: int) -> Contender:
    def prepare(words: int) -> Callable[[], object]:
        received = _flips(words, code.n).numpy()
        return lambda: code.decode(received)

    return Contender(task, f"galois, {what}", bits, prepare)


def _sionna_beliefs(sionna: Any, spec: Any, rounds: int, update: str = "boxplus-phi") -> Any:
    checks = numpy.array(spec.parity_check_matrix(), dtype=numpy.uint8)
    return sionna.LDPCBPDecoder(checks, num_iter=rounds, hard_out=False, cn_update=update, llr_max=None)


def _sparse(sionna: Any, ldpc: Any) -> Iterator[Contender]:
    spec = Ldpc(n=204)
    task, block = "LDPC (204, 102) regular (3, 6), 10 rounds", spec.block()
    yield ours(task, spec)
    if sionna:
        for update in ("boxplus-phi", "boxplus", "minsum"):
            decoder = _sionna_beliefs(sionna, spec, 10, update)
            yield sionnas(task, decoder, block.n, block.k, f"LDPCBPDecoder, {update}")
    if ldpc:
        checks = numpy.array(spec.parity_check_matrix(), dtype=numpy.uint8)
        decoder = ldpc.BpDecoder(checks, error_rate=_EPSILON, max_iter=10, bp_method="product_sum")

        def prepare(words: int) -> Callable[[], object]:
            syndromes = (_flips(words, block.n).numpy() @ checks.T % 2).astype(numpy.uint8)
            return lambda: [decoder.decode(syndrome) for syndrome in syndromes]

        yield Contender(task, "ldpc, BpDecoder, of flips, stops when a codeword is found", block.k, prepare)


def _convolutional(komm: Any, sionna: Any) -> Iterator[Contender]:
    spec = Convolutional(generators="5-7", k=100, termination="terminated")
    task = "convolutional (5, 7), 100 bits, terminated"
    yield ours(task, spec)
    if komm:
        code = komm.TerminatedConvolutionalCode(komm.ConvolutionalCode([[0o7, 0o5]]), 100, mode="zero-termination")
        yield komms(task, code, komm.BCJRDecoder(code, output_type="soft"))
    if sionna:
        encoder = sionna.ConvEncoder(gen_poly=("111", "101"), terminate=True)
        decoder = sionna.BCJRDecoder(encoder=encoder, hard_out=False)
        yield sionnas(task, decoder, spec.block().n, 100, "BCJRDecoder, map")
    yield ours("convolutional (5, 7), 100 bits, tail-biting", Convolutional(generators="5-7", k=100))


def _polar(komm: Any, sionna: Any) -> Iterator[Contender]:
    spec = Polar(n=64, k=32)
    task = "polar (64, 32)"
    yield ours(task, spec)
    frozen = numpy.setdiff1d(numpy.arange(64), numpy.array(spec.information_positions()))
    if komm:
        code = komm.PolarCode(6, [int(place) for place in frozen])
        yield komms(task, code, komm.SCDecoder(code, output_type="soft"))
    if sionna:
        soft = sionna.PolarBPDecoder(frozen, 64, num_iter=10, hard_out=False)
        yield sionnas(task, soft, 64, 32, "PolarBPDecoder, 10 rounds")
        yield sionnas(task, sionna.PolarSCDecoder(frozen, 64), 64, 32, "PolarSCDecoder, hard decisions")


def _installed() -> dict[str, Any]:
    found = {}
    for name in _LIBRARIES:
        try:
            module = importlib.import_module(name)
        except ImportError:
            print(f"{name} is not installed: pip install {name}")
            continue
        found[name] = _sionna_decoders() if name == "sionna" else module
    return found


def _sionna_decoders() -> Any:
    from types import SimpleNamespace

    from sionna.phy.fec import conv, ldpc, polar

    classes = [ldpc.LDPCBPDecoder, conv.ConvEncoder, conv.BCJRDecoder, polar.PolarBPDecoder, polar.PolarSCDecoder]
    return SimpleNamespace(**{item.__name__: item for item in classes})


def _timed(decode: Callable[[], object]) -> float:
    started = time.perf_counter()
    decode()
    return time.perf_counter() - started


def _words_in_time(contender: Contender) -> int:
    """Return how many words take about a tenth of a second, doubling until they take a quarter of it."""
    words = 1
    while words < _MOST_WORDS:
        decode = contender.prepare(words)
        decode()
        taken = min(_timed(decode) for _ in range(3))
        if taken > _SECONDS / 4:
            return max(1, round(words * _SECONDS / taken))
        words *= 4
    return words


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    with torch.no_grad():
        everybody = list(contenders(_installed()))
        prepared = []
        for contender in everybody:
            words = _words_in_time(contender)
            prepared.append((contender, words, contender.prepare(words)))
        rates: list[list[float]] = [[] for _ in prepared]
        for _ in range(arguments.rounds):
            for values, (contender, words, decode) in zip(rates, prepared, strict=True):
                values.append(words * contender.bits / _timed(decode) / 1e6)
    print(f"{platform.machine()}, {arguments.threads} threads, torch {torch.__version__}, {arguments.rounds} rounds in turn")
    print("| task | decoder | Mbit/s, median | quartiles |\n|---|---|---|---|")
    for (contender, words, _), values in zip(prepared, rates, strict=True):
        low, middle, high = statistics.quantiles(values, n=4)
        print(f"| {contender.task} | {contender.decoder} | {middle:.3g} | {low:.3g}–{high:.3g} |")
        rows.append([contender.task, contender.decoder.replace("*", ""), words, *values])
    if arguments.csv:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["task", "decoder", "words", *(f"round {index}" for index in range(arguments.rounds))])
            writer.writerows(rows)


if __name__ == "__main__":
    main()
