"""Exact search over packed codes, beside faiss (its IndexBinaryFlat) and beside numpy as most people write it.

    python benchmarks/search.py [--rows 10000000] [--bits 100] [--queries 1 100] [--k 10] [--threads 2] [--rounds 7]

The codes and queries are random bits. Every contender has its turn in every round, and the order is turned round by round;
the first round is not counted. Two settings: codes that are in memory already (faiss: an index that was filled; bvae: packed
rows), and codes in a file that the system has in its cache (faiss: the file is read and the index filled; bvae: the file is
mapped, as `bvae search` does). Of a few queries what bvae finds is compared with a stable sort of all distances: the same
numbers to the last. What the others find, who break ties as they like, must have the same distances for every query, and the
same numbers below the last distance. Plain numpy takes its turn for single queries alone where faiss is there.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from timing.machine import load_average, machine, seconds_of_others
from timing.summary import ratios, spread

from bvae_cli.code_rows import open_codes, packed_bytes
from bvae_cli.retrieval import faiss_engine
from bvae_cli.retrieval.nearest import CodesInMemory, Neighbours, nearest
from bvae_cli.retrieval.soft import soft_nearest

Found = tuple[np.ndarray, np.ndarray]
Search = Callable[[np.ndarray], Found]
_ROWS_AT_ONCE = 1_000_000
# Queries whose neighbours are also found by sorting all distances.
_SORTED = 3
# faiss' threads go on waiting busily for a while after a search, which would cost whoever comes next.
_PAUSE = 0.1


def write_codes(path: Path, rows: int, bits: int) -> None:
    """Write random packed codes, some at once."""
    random = np.random.default_rng(0)
    codes = np.lib.format.open_memmap(path, "w+", np.uint8, (rows, packed_bytes(bits)))
    for start in range(0, rows, _ROWS_AT_ONCE):
        part = random.integers(0, 256, (min(_ROWS_AT_ONCE, rows - start), codes.shape[1]), dtype=np.uint8)
        part[:, -1] &= 0xFF << (-bits % 8) & 0xFF
        codes[start : start + len(part)] = part
    codes.flush()


def as_found(neighbours: Neighbours) -> Found:
    """Return distances and numbers, as faiss does."""
    return neighbours.distances, neighbours.ids


def plain_numpy(codes: np.ndarray, k: int) -> Search:
    """Return what most people write: all distances of a query, and a partial sort."""
    width = codes.shape[1]
    words = np.zeros((len(codes), -(-width // 8) * 8), np.uint8)
    words[:, :width] = codes
    words = words.view(np.uint64)

    def search(queries: np.ndarray) -> Found:
        padded = np.zeros((len(queries), words.shape[1] * 8), np.uint8)
        padded[:, :width] = queries
        found = []
        for query in padded.view(np.uint64):
            distances = np.bitwise_count(words ^ query).sum(1, dtype=np.uint16)
            ids = np.argpartition(distances, k - 1)[:k]
            found.append(sorted(zip(distances[ids].tolist(), ids.tolist(), strict=True)))
        pairs = np.array(found)
        return pairs[..., 0], pairs[..., 1]

    return search


def contenders(path: Path, bits: int, k: int, threads: int, single: bool) -> dict[str, dict[str, Search]]:
    """Return the searches by setting and name."""
    codes = np.load(path)
    in_memory: dict[str, Search] = {}
    of_file: dict[str, Search] = {}
    if faiss_engine.is_installed():
        import faiss

        index = faiss.IndexBinaryFlat(8 * codes.shape[1])
        index.add(codes)

        def searched(queries: np.ndarray, by: int) -> Found:
            faiss.omp_set_num_threads(by)
            found: Found = index.search(queries, k)
            return found

        in_memory["faiss"] = lambda queries: searched(queries, threads)
        if single:
            # It shares queries among its threads, and they wait for each other block by block.
            in_memory["faiss, one thread"] = lambda queries: searched(queries, 1)

        def filled(queries: np.ndarray) -> Found:
            faiss.omp_set_num_threads(threads)
            fresh = faiss.IndexBinaryFlat(8 * codes.shape[1])
            fresh.add(np.load(path))
            found: Found = fresh.search(queries, k)
            return found

        of_file["faiss"] = filled
    in_memory["bvae"] = lambda queries: as_found(nearest(CodesInMemory(codes), queries, k, threads=threads))
    of_file["bvae"] = lambda queries: as_found(nearest(open_codes(path, {"bits": bits}), queries, k, threads=threads))
    if hasattr(np, "bitwise_count") and (single or not faiss_engine.is_installed()):
        in_memory["plain numpy, one thread"] = plain_numpy(codes, k)
    return {"codes in memory": in_memory, "codes in a file": of_file}


def measured(
    searches: dict[str, Search], queries: np.ndarray, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]], dict[str, Found]]:
    """Return the seconds and the processor's seconds of every round but the first, and what was found."""
    seconds: dict[str, list[float]] = {name: [] for name in searches}
    processor: dict[str, list[float]] = {name: [] for name in searches}
    found: dict[str, Found] = {}
    for number in range(rounds + 1):
        for name in list(searches)[:: 1 if number % 2 else -1]:
            time.sleep(_PAUSE)
            started, busy = time.perf_counter(), time.process_time()
            found[name] = searches[name](queries)
            if number:
                seconds[name].append(time.perf_counter() - started)
                processor[name].append(time.process_time() - busy)
    return seconds, processor, found


def require_equal(found: dict[str, Found]) -> None:
    """Raise SystemExit where a contender's distances are not those of bvae, or a number nearer than the last distance."""
    distances, ids = found["bvae"]
    for name, (theirs, numbers) in found.items():
        if (np.sort(theirs, 1) != distances).any():
            raise SystemExit(f"The distances of {name} are others.")
        for query, last in enumerate(distances[:, -1]):
            near, own = numbers[query][theirs[query] < last], ids[query][distances[query] < last]
            if set(near.tolist()) != set(own.tolist()):
                raise SystemExit(f"The neighbours of {name} for query {query} are others.")


def require_sorted(path: Path, queries: np.ndarray, k: int) -> None:
    """Raise SystemExit where bvae does not find the first of a stable sort of all distances."""
    codes = np.load(path, mmap_mode="r")
    found = nearest(CodesInMemory(codes), queries, k)
    ones = np.array([number.bit_count() for number in range(256)], np.uint8)
    for query, distances, ids in zip(queries, found.distances, found.ids, strict=True):
        chunks = (codes[start : start + _ROWS_AT_ONCE] for start in range(0, len(codes), _ROWS_AT_ONCE))
        every = np.concatenate([ones[chunk ^ query].sum(1, dtype=np.int64) for chunk in chunks])
        first = every.argsort(kind="stable")[:k]
        if (ids != first).any() or (distances != every[first]).any():
            raise SystemExit("bvae does not find the nearest.")


def main() -> None:
    """Measure, compare, and print a row for each contender."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--bits", type=int, default=100)
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 100])
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="where the codes are written [default: a temporary folder]")
    arguments = parser.parse_args()
    # Before faiss loads it: a pool of threads takes its size from there.
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder, "codes.npy")
        write_codes(path, arguments.rows, arguments.bits)
        random = np.random.default_rng(1)
        wanted = np.packbits(random.integers(0, 2, (max(arguments.queries), arguments.bits), dtype=np.uint8), axis=1)
        require_sorted(path, wanted[:_SORTED], arguments.k)
        for count in arguments.queries:
            for setting, searches in contenders(path, arguments.bits, arguments.k, arguments.threads, count == 1).items():
                before, started = seconds_of_others(), time.perf_counter()
                seconds, processor, found = measured(searches, wanted[:count], arguments.rounds)
                after, wall = seconds_of_others(), time.perf_counter() - started
                require_equal(found)
                busy = None if before is None or after is None else (after - before) / wall
                results.append(
                    {"queries": count, "setting": setting, "seconds": seconds, "processor": processor, "others": busy}
                )
                show(results[-1])
        logits = np.random.default_rng(2).normal(size=(1, arguments.bits)).astype(np.float32)
        codes = CodesInMemory(np.load(path))
        soft: dict[str, Search] = {
            "bvae, soft": lambda queries: as_found(soft_nearest(codes, logits, arguments.k, threads=arguments.threads))
        }
        seconds, processor, _ = measured(soft, wanted[:1], arguments.rounds)
        results.append({"queries": 1, "setting": "a soft query", "seconds": seconds, "processor": processor, "others": None})
        show(results[-1])
    facts = {
        **{name: getattr(arguments, name) for name in ("rows", "bits", "k", "threads", "rounds")},
        "machine": machine(),
        "load": load_average(),
        "numpy": np.__version__,
        "faiss": faiss_version(),
    }
    print("All neighbours are equal.", facts)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({**facts, "results": results}, indent=1) + "\n", encoding="utf-8")


def faiss_version() -> str | None:
    """Return the version of faiss, None where it is not installed."""
    if not faiss_engine.is_installed():
        return None
    import faiss

    return str(faiss.__version__)


def show(result: dict[str, Any]) -> None:
    """Print medians and quartiles in milliseconds, and the ratio to the first contender, round by round."""
    yardstick, others = next(iter(result["seconds"].values())), result["others"]
    told = "" if others is None else f"; others kept {others:.1f} processors busy"
    print(f"{result['queries']} queries, {result['setting']}{told}")
    for name, seconds in result["seconds"].items():
        low, middle, high = (1e3 * value for value in spread(seconds))
        ratio, processor = spread(ratios(seconds, yardstick)), 1e3 * spread(result["processor"][name]).middle
        beside = f"× {ratio.middle:.2f} ({ratio.low:.2f}–{ratio.high:.2f}), processor {processor:.1f} ms"
        print(f"  {name:24} {middle:9.1f} ms ({low:.1f}–{high:.1f})   {beside}")


if __name__ == "__main__":
    main()
