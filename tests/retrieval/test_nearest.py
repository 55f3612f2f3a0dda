"""The nearest codes are those of a sort by distance and number, whatever the blocks, threads and engine."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bvae_cli.code_rows import packed_bytes
from bvae_cli.errors import InputOutputError
from bvae_cli.retrieval import faiss_engine, words
from bvae_cli.retrieval import nearest as nearest_module
from bvae_cli.retrieval.nearest import CodesInMemory, nearest
from bvae_cli.retrieval.soft import soft_nearest

from ..helpers import property_settings
from .brute import hamming, packed, penalty, ranked


@st.composite
def searches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int, np.ndarray | None]:
    """Codes with many ties, queries, k, and perhaps a number for each query that is left out."""
    width, rows, queries = draw(st.integers(1, 200)), draw(st.integers(2, 70)), draw(st.integers(1, 4))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    centres = random.integers(0, 2, (draw(st.integers(1, 4)), width), dtype=np.uint8)
    noise = random.random((rows, width)) < draw(st.sampled_from([0.0, 0.05, 0.5]))
    codes = centres[random.integers(0, len(centres), rows)] ^ noise
    wanted = np.concatenate([codes[:1], random.integers(0, 2, (queries - 1, width), dtype=np.uint8)])
    without = random.integers(0, rows, queries) if draw(st.booleans()) else None
    return codes, wanted, draw(st.integers(1, rows - 1)), without


@pytest.fixture(params=["one block", "blocks of 8 in two threads"], scope="module")
def way(request: pytest.FixtureRequest) -> object:
    with pytest.MonkeyPatch.context() as patch:
        if request.param != "one block":
            patch.setattr(nearest_module, "_WORTH_A_THREAD", 1)
            patch.setattr(nearest_module, "_ROWS_OF_THE_FIRST", 4)
            patch.setattr(nearest_module, "_BYTES_OF_A_BLOCK", 64)
            patch.setattr(nearest_module, "_FEWEST_OF_A_BLOCK", 8)
            patch.setattr(nearest_module, "_ROWS_OF_A_CHUNK", 16)
        yield {"threads": 1 if request.param == "one block" else 2}


@property_settings
@given(search=searches())
def test_hamming_search_is_a_sort_by_distance_and_number(way: dict[str, int], search: tuple) -> None:
    codes, wanted, k, without = search
    found = nearest(CodesInMemory(packed(codes)), packed(wanted), k, without=without, **way)
    for query, code in enumerate(wanted):
        left_out = None if without is None else without[query]
        expected = ranked([hamming(code, other) for other in codes], k, left_out)
        assert list(zip(found.distances[query], found.ids[query], strict=True)) == expected


@property_settings
@given(search=searches(), seed=st.integers(0, 2**32))
def test_soft_search_is_a_sort_by_the_formula(way: dict[str, int], search: tuple, seed: int) -> None:
    codes, wanted, k, without = search
    # Multiples of 1/8: every sum of them is exact, so that ties are ties.
    logits = (np.random.default_rng(seed).integers(-40, 40, wanted.shape) / 8).astype(np.float32)
    found = soft_nearest(CodesInMemory(packed(codes)), logits, k, without=without, **way)
    for query, row in enumerate(logits.tolist()):
        left_out = None if without is None else without[query]
        expected = ranked([penalty(row, other) for other in codes], k, left_out)
        assert list(zip(found.distances[query], found.ids[query], strict=True)) == expected


def test_an_infinite_logit_outweighs_all_others_and_loses_no_code() -> None:
    codes = np.array([[1, 1, 1], [0, 0, 0], [0, 1, 1]], np.uint8)
    logits = np.array([[np.inf, 5, -3]], np.float32)
    found = soft_nearest(CodesInMemory(packed(codes)), logits, 3)
    assert found.ids.tolist() == [[0, 2, 1]]
    assert found.distances.tolist() == [[3.0, 10003.0, 10005.0]]


def test_equal_logits_rank_as_hamming_distance_does() -> None:
    random = np.random.default_rng(3)
    codes, wanted = random.integers(0, 2, (300, 70), np.uint8), random.integers(0, 2, (2, 70), np.uint8)
    hard = nearest(CodesInMemory(packed(codes)), packed(wanted), 50)
    soft = soft_nearest(CodesInMemory(packed(codes)), (2.0 * wanted - 1).astype(np.float32), 50)
    assert (hard.ids == soft.ids).all()
    assert (hard.distances == soft.distances).all()


@pytest.mark.skipif(not faiss_engine.is_installed(), reason="faiss is not installed")
@property_settings
@given(search=searches())
def test_faiss_finds_the_same_to_the_last_number(search: tuple) -> None:
    codes, wanted, k, without = search
    own = nearest(CodesInMemory(packed(codes)), packed(wanted), k, without=without)
    other = faiss_engine.nearest_by_faiss(CodesInMemory(packed(codes)), packed(wanted), k, without=without)
    assert (own.ids == other.ids).all()
    assert (own.distances == other.distances).all()


@property_settings
@given(size=st.integers(1, 40), rows=st.integers(1, 9), seed=st.integers(0, 2**32))
def test_words_hold_every_bit_once_and_both_ways_count_them(size: int, rows: int, seed: int) -> None:
    bytes_of_codes = np.random.default_rng(seed).integers(0, 256, (rows, size), dtype=np.uint8)
    made = words.words_of(bytes_of_codes)
    assert made.shape == (packed_bytes(8 * size + 56) // 8, rows)
    ones = np.unpackbits(bytes_of_codes, axis=1).sum(1)
    for count in {words.count_ones, words._counted_by_table}:
        counted = [count(word, np.empty(rows, np.uint8)).astype(int) for word in made]
        assert (sum(counted) == ones).all()


def test_rows_are_told_as_they_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest_module, "_WORTH_A_THREAD", 1)
    told: list[tuple[int, int]] = []
    codes = CodesInMemory(np.zeros((5, 2), np.uint8))
    nearest(codes, np.zeros((1, 2), np.uint8), 1, threads=2, on_rows=lambda done, rows: told.append((done, rows)))
    assert told == [(3, 5), (5, 5)]


def test_what_goes_wrong_in_one_thread_ends_the_others_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest_module, "_WORTH_A_THREAD", 1)
    for name in ("_ROWS_OF_A_CHUNK", "_BYTES_OF_A_BLOCK", "_FEWEST_OF_A_BLOCK"):
        monkeypatch.setattr(nearest_module, name, 1)
    taken: list[int] = []

    class Bad(CodesInMemory):
        def packed(self, start: int, stop: int) -> np.ndarray:
            taken.append(start)
            time.sleep(0.001)
            if start <= 5 < stop:
                raise InputOutputError("Row 5 is bad.")
            return super().packed(start, stop)

    with pytest.raises(InputOutputError, match="Row 5"):
        nearest(Bad(np.zeros((5000, 2), np.uint8)), np.zeros((1, 2), np.uint8), 1, threads=2)
    assert len(taken) < 1000
