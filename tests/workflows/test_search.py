"""Queries of every kind find their codes, damage is repaired and told, and labels are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bvae_cli
from bvae_cli.codes.golay import Golay
from bvae_cli.errors import InputOutputError, UsageError
from bvae_cli.retrieval import faiss_engine
from bvae_cli.trained import SearchConfig
from bvae_cli.workflows import queries
from bvae_cli.workflows.observing import TrainResult
from bvae_cli.workflows.search import SearchResult, search

from ..retrieval.brute import average_precision, hamming, packed, penalty, ranked


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def bits(place: Path) -> np.ndarray:
    """Codes of 20 bits, in ``codes.npy`` as they are and in ``packed.npy``."""
    values = np.random.default_rng(4).integers(0, 2, (40, 20), dtype=np.uint8)
    np.save("codes.npy", values)
    np.save("packed.npy", packed(values))
    return values


def found(result: SearchResult) -> list[list[tuple[float, int]]]:
    return [list(zip(d.tolist(), i.tolist(), strict=True)) for d, i in zip(result.distances, result.ids, strict=True)]


def expected(wanted: np.ndarray, codes: np.ndarray, k: int) -> list[list[tuple[float, int]]]:
    return [ranked([hamming(query, code) for code in codes], k) for query in wanted]


@pytest.mark.parametrize("query", ["codes.npy", "packed.npy"])
@pytest.mark.parametrize("codes", ["codes.npy", "packed.npy"])
@pytest.mark.parametrize("options", [{}, {"bits": 20}, {"ecc": "none", "latent": 20}])
def test_one_file_of_two_may_say_how_long_the_codes_are(
    bits: np.ndarray, query: str, codes: str, options: dict[str, Any]
) -> None:
    result = bvae_cli.search(codes, query, rows="3,7-8", neighbours=5, **options)
    assert found(result) == expected(bits[[3, 7, 8]], bits, 5)
    assert (result.rows.tolist(), result.searched, result.engine) == ([3, 7, 8], 40, "numpy")
    assert result.bits == (24 if {query, codes} == {"packed.npy"} and not options else 20)


def test_logits_search_by_what_they_say(bits: np.ndarray) -> None:
    logits = np.random.default_rng(5).normal(size=(3, 20)).astype(np.float16)
    np.save("logits.npy", logits)
    result = bvae_cli.search("packed.npy", "logits.npy", neighbours=6)
    assert (result.soft, result.bits) == (True, 20)
    for query, row in enumerate(logits.astype(float).tolist()):
        distances, ids = zip(*ranked([penalty(row, code) for code in bits], 6), strict=True)
        assert result.ids[query].tolist() == list(ids)
        assert result.distances[query] == pytest.approx(distances, rel=1e-12)


def test_neighbours_are_written_and_a_query_is_not_its_own(bits: np.ndarray) -> None:
    result = bvae_cli.search("codes.npy", "codes.npy", rows="5,2", neighbours=3, exclude_self=True, output="found.npz")
    with np.load("found.npz") as archive:
        assert (archive["ids"] == result.ids).all()
        assert (archive["distances"] == result.distances).all()
        assert archive["queries"].tolist() == [5, 2]
    assert 5 not in result.ids[0]
    assert 2 not in result.ids[1]
    with pytest.raises(UsageError, match="is there already"):
        bvae_cli.search("codes.npy", "codes.npy", output="found.npz")


def test_own_codes_of_other_rows_are_noted_where_queries_are_a_file(bits: np.ndarray) -> None:
    def notes_of(query: np.ndarray, rows: str = "") -> list[str]:
        np.save("query.npy", query)
        notes: list[str] = []
        config = SearchConfig(codes="codes.npy", query="query.npy", rows=rows, exclude_self=True)
        search(config, frozenset(), notes.append)
        return notes

    damaged = bits ^ (np.random.default_rng(1).random(bits.shape) < 0.15)
    logits = np.where(damaged, 2.0, -3.0)
    # As signs of the logits of a code that decides otherwise: nearer than others are, though not by much.
    far = bits ^ (np.random.default_rng(2).random(bits.shape) < 0.3)
    for same in (bits, packed(bits), damaged, logits, far):
        assert notes_of(same) == []
    for other in (bits[::-1], packed(np.roll(bits, 3, axis=0)), logits[::-1].copy()):
        (note,) = notes_of(other)
        assert "query.npy and codes.npy those of one number differ as much as those of other rows do" in note
        assert notes_of(other, "0-5,39") == [note]


def test_own_codes_of_other_rows_are_refused_where_the_rows_are_encoded(place: Path, trained: TrainResult) -> None:
    bvae_cli.encode(trained.folder, "codes.npy")
    options: dict[str, Any] = {"weights": trained.folder, "split": "all", "exclude_self": True, "neighbours": 1}
    for soft in (False, True):
        bvae_cli.search("codes.npy", soft=soft, **options)
    np.save("others.npy", np.load("codes.npy")[::-1])
    for soft in (False, True):
        with pytest.raises(UsageError, match=r"all rows of .* and the codes of these numbers in others\.npy differ as much"):
            bvae_cli.search("others.npy", soft=soft, **options)


def test_labels_of_two_splits_leave_no_own_code_out() -> None:
    for options in ({"split": "test"}, {"query": "q.npy", "query_labels": "test", "dataset": "binarized-mnist"}):
        with pytest.raises(UsageError, match="of train rows for the codes and of test rows for the queries"):
            SearchConfig(codes="codes.npy", labels="train", exclude_self=True, **options)
    SearchConfig(codes="codes.npy", labels="train", split="train", exclude_self=True)
    SearchConfig(codes="codes.npy", split="train", exclude_self=True)


def test_damaged_codewords_are_repaired_before_information_bits_are_searched(place: Path) -> None:
    code = Golay(n=24).build(48)
    information = np.random.default_rng(6).integers(0, 2, (30, 24), dtype=np.uint8)
    words = code.encode(torch.from_numpy(information)).numpy()
    damaged = words[:4].copy()
    damaged[1, [0, 5, 9, 30, 31, 40]] ^= 1  # three in each block
    damaged[3, :4] ^= 1
    np.save("information.npy", information)
    np.save("words.npy", packed(words))
    np.save("damaged.npy", packed(damaged))
    notes: list[str] = []
    config = SearchConfig(codes="information.npy", query="damaged.npy", ecc="golay", latent=48, neighbours=1)
    result = search(config, frozenset({"ecc", "latent"}), notes.append)
    assert result.ids[:3, 0].tolist() == [0, 1, 2]
    assert result.distances[:3, 0].tolist() == [0, 0, 0]
    assert result.unsure.tolist() == [3]
    assert "1 of 4 queries in damaged.npy hold more damage than golay" in notes[0]
    assert "(rows 3)" in notes[0]
    # Among codewords they are repaired as well, and information bits are encoded for them.
    options: dict[str, Any] = {"ecc": "golay", "latent": 48, "neighbours": 2}
    among = bvae_cli.search("words.npy", "damaged.npy", **options)
    assert found(among) == expected(code.encode(code.decode(torch.from_numpy(damaged))).numpy(), words, 2)
    assert (among.queries, among.unsure.tolist()) == ("damaged.npy, repaired", [3])
    assert search(
        config.model_copy(update={"codes": Path("words.npy")}), frozenset({"ecc"}), notes.append
    ).unsure.tolist() == [3]
    assert notes[1] == notes[0]
    # Without the code they are searched as they are.
    assert found(bvae_cli.search("words.npy", "damaged.npy", bits=48, neighbours=2)) == expected(damaged, words, 2)
    assert found(bvae_cli.search("words.npy", "information.npy", **options)) == expected(words, words, 2)
    np.save("logits.npy", 4.0 * damaged - 2)
    soft = bvae_cli.search("information.npy", "logits.npy", **options)
    assert soft.soft
    assert soft.ids[:3, 0].tolist() == [0, 1, 2]
    np.save("logits.npy", 4.0 * information - 2)
    with pytest.raises(UsageError, match=r"logits of information bits, and words\.npy codewords"):
        bvae_cli.search("words.npy", "logits.npy", **options)


def test_codewords_are_repaired_some_at_once_and_each_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = Golay(n=24).build(24)
    words = code.encode(torch.from_numpy(np.random.default_rng(3).integers(0, 2, (9, 12), dtype=np.uint8))).numpy()
    damaged = words.copy()
    damaged[:, [1, 8, 20]] ^= 1
    damaged[5, 4] ^= 1
    np.save("words.npy", words)
    np.save("damaged.npy", damaged)
    monkeypatch.setattr(queries, "_VALUES_AT_ONCE", 48)
    result = bvae_cli.search("words.npy", "damaged.npy", ecc="golay", latent=24, rows="8,5,0-3", neighbours=1)
    assert result.unsure.tolist() == [5]
    assert np.delete(result.ids[:, 0], 1).tolist() == [8, 0, 1, 2, 3]
    assert np.delete(result.distances[:, 0], 1).tolist() == [0] * 5
    # Where there is no redundancy there is nothing to repair.
    assert bvae_cli.search("words.npy", "damaged.npy", ecc="none", latent=24, neighbours=1).queries == "damaged.npy"


def test_a_code_without_a_hard_decoder_says_so_of_damaged_codewords(place: Path) -> None:
    np.save("words.npy", np.zeros((12, 63), np.uint8))
    options: dict[str, Any] = {"ecc": "bch:n=63,t=5", "latent": 63, "neighbours": 1}
    with pytest.raises(UsageError, match=r"too large to be decoded from bits(?s:.*)searched as they are"):
        bvae_cli.search("words.npy", "words.npy", **options)
    np.save("logits.npy", np.full((2, 63), -2.5))
    assert bvae_cli.search("words.npy", "logits.npy", **options).soft
    assert bvae_cli.search("words.npy", "words.npy", bits=63, neighbours=1).queries == "words.npy"


def test_rows_of_data_are_encoded_as_queries_of_the_kind_of_the_codes(place: Path, trained: TrainResult) -> None:
    for write, soft in (("information-bits", "logits"), ("codewords", "code-logits")):
        bvae_cli.encode(trained.folder, "codes.npy", write=write, packed=True, overwrite=True)
        bvae_cli.encode(trained.folder, "bits.npy", write=write, overwrite=True)
        bvae_cli.encode(trained.folder, "logits.npy", write=soft, overwrite=True)
        options: dict[str, Any] = {"weights": trained.folder, "split": "all", "neighbours": 4}
        hard = bvae_cli.search("codes.npy", rows="0,9", **options)
        assert found(hard) == expected(np.load("bits.npy")[[0, 9]], np.load("bits.npy"), 4)
        by_logits = bvae_cli.search("codes.npy", soft=True, **options)
        of_file = bvae_cli.search("codes.npy", "logits.npy", neighbours=4, weights=trained.folder)
        assert (by_logits.ids == of_file.ids).all()


def test_labels_give_precision_recall_and_mean_average_precision(bits: np.ndarray) -> None:
    labels = np.arange(40) % 3
    np.save("labels.npy", labels)
    options: dict[str, Any] = {"labels": "labels.npy", "query_labels": "labels.npy", "neighbours": 39, "exclude_self": True}
    result = bvae_cli.search("packed.npy", "codes.npy", **options)
    assert result.relevance is not None
    relevant = labels[result.ids] == labels[:, None]
    assert result.relevance.precision == pytest.approx(relevant.mean())
    assert result.relevance.recall == 1  # of a list of all codes
    # Of a list of all codes both are averages of one ranking, which differ by the order of ties alone.
    assert result.relevance.average_precision_at_k == pytest.approx(
        np.mean([float(average_precision(row.tolist())) for row in relevant])
    )
    assert result.relevance.average_precision == pytest.approx(result.relevance.average_precision_at_k, abs=0.02)
    few = bvae_cli.search("packed.npy", "codes.npy", **{**options, "neighbours": 5})
    assert few.relevance is not None
    assert few.relevance.average_precision == result.relevance.average_precision
    there = np.array([(labels == label).sum() - 1 for label in labels])
    assert few.relevance.recall == pytest.approx((relevant[:, :5].sum(1) / there).mean())
    np.save("logits.npy", 2.0 * bits - 1)
    soft = bvae_cli.search("packed.npy", "logits.npy", **{**options, "neighbours": 5})
    assert soft.relevance is not None
    # Logits of one size make the distance of Hamming, and its ties.
    assert soft.relevance.average_precision == pytest.approx(few.relevance.average_precision)
    assert soft.relevance.precision == few.relevance.precision


def test_labels_of_a_data_set_are_those_of_the_rows_that_are_encoded(
    place: Path, trained: TrainResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.load(trained.folder.parents[1] / "bits.npy")
    np.savez("labelled.npz", x=rows, y=np.arange(60))
    bvae_cli.encode(trained.folder, "codes.npy")
    np.save("labels.npy", np.arange(60))
    for split in ("all", "test", "validation"):
        options: dict[str, Any] = {"dataset": "labelled.npz", "labels": "labels.npy", "split": split, "neighbours": 60}
        result = bvae_cli.search("codes.npy", weights=trained.folder, **options)
        assert result.query_labels is not None
        assert result.labels is not None
        # Every label is there once: the row itself, which lies at distance 0.
        at = result.ids == result.query_labels[:, None]
        assert at.sum(1).tolist() == [1] * len(result.rows)
        assert (result.distances[at] == 0).all()
        # The split that the codes are of has them too.
        named = bvae_cli.search("codes.npy", weights=trained.folder, **{**options, "labels": "all"})
        assert named.labels is not None
        assert named.labels.tolist() == list(range(60))
        of_file = {"dataset": "labelled.npz", "labels": "all", "query_labels": "all", "neighbours": 1}
        own = bvae_cli.search("codes.npy", "codes.npy", **of_file)
        assert own.relevance is not None
        assert own.relevance.queries == 60
    with pytest.raises(UsageError, match=r"There are 6 of the test rows of .*, and 60 rows in codes\.npy"):
        bvae_cli.search("codes.npy", "codes.npy", **{**of_file, "labels": "test"})
    with pytest.raises(UsageError, match="'all' names the labels of a data set"):
        bvae_cli.search("codes.npy", "codes.npy", labels="all", query_labels="labels.npy")
    with pytest.raises(UsageError, match="has no labels"):
        bvae_cli.search("codes.npy", "codes.npy", **{**of_file, "dataset": str(trained.folder.parents[1] / "bits.npy")})
    with pytest.raises(UsageError, match="no labels of the queries"):
        bvae_cli.search("codes.npy", weights=trained.folder, labels="labels.npy")


@pytest.mark.skipif(not faiss_engine.is_installed(), reason="faiss is not installed")
def test_the_engines_agree(bits: np.ndarray) -> None:
    options: dict[str, Any] = {"neighbours": 20, "exclude_self": True}
    own, other = (bvae_cli.search("codes.npy", "packed.npy", engine=engine, **options) for engine in ("numpy", "faiss"))
    assert (own.ids == other.ids).all()
    assert (own.distances == other.distances).all()


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "more than there are": ({"neighbours": 41}, "-k 41 asks for more .* holds 40 codes(?s:.*)-k 40"),
    "more than there are others": ({"neighbours": 40, "exclude_self": True}, "-k 40 asks for more(?s:.*)-k 39"),
    "a row that is not there": ({"rows": "3,40"}, "--rows names row 40; codes.npy has 40 rows"),
    "no rows": ({"rows": "7-3"}, "'7-3' names no rows"),
    "words for rows": ({"rows": "a"}, "'a' names no rows"),
    "too many rows": ({"rows": "0-99999999"}, "names more than 10,000,000 rows"),
    "soft bits": ({"soft": True}, "--soft is for rows that are encoded"),
    "labels of one side": ({"labels": "labels.npy"}, "--query-labels are not"),
    "labels of the other": ({"query_labels": "labels.npy"}, "--labels are not"),
    "another file": ({"output": "ids.npy"}, r"names no \.npz file"),
    "a length of its own": ({"bits": 21}, "rows of 20 uint8; codes have 21 bits"),
    "another code": ({"ecc": "golay", "latent": 24}, "rows of 20 uint8; codes of golay"),
}


@pytest.mark.parametrize(("options", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_searched_is_refused(bits: np.ndarray, options: dict[str, Any], words: str) -> None:
    with pytest.raises((UsageError, InputOutputError), match=words):
        bvae_cli.search("codes.npy", "codes.npy", **options)


def test_files_that_do_not_fit_are_refused(bits: np.ndarray) -> None:
    np.save("logits.npy", np.full((3, 20), 0.5))
    with pytest.raises(InputOutputError, match="holds logits; codes that are searched are bits"):
        bvae_cli.search("logits.npy", "codes.npy")
    with pytest.raises(UsageError, match=r"these queries are soft|faiss is not installed"):
        bvae_cli.search("codes.npy", "logits.npy", engine="faiss", neighbours=2)
    np.save("real.npy", bits.astype(np.float32))
    for files in (("codes.npy", "real.npy"), ("real.npy", "codes.npy")):
        with pytest.raises(InputOutputError, match=r"real\.npy holds 0 and 1 as floating-point numbers"):
            bvae_cli.search(*files)
    np.save("short.npy", bits[:, :9])
    with pytest.raises(UsageError, match=r"codes of 20 bits and short.npy of 9\.(?s:.*)--bits"):
        bvae_cli.search("codes.npy", "short.npy")
    np.save("more.npy", np.concatenate([bits, bits]))
    with pytest.raises(UsageError, match=r"of 80 rows \(more\.npy\) and codes\.npy holds 40 codes"):
        bvae_cli.search("codes.npy", "more.npy", exclude_self=True)
    for labels in (np.zeros(39, int), np.zeros(40), np.zeros((40, 1), int)):
        np.save("labels.npy", labels)
        with pytest.raises(InputOutputError, match="labels are whole numbers, one for each of 40 rows in codes"):
            bvae_cli.search("codes.npy", "codes.npy", labels="labels.npy", query_labels="labels.npy")
    damaged = packed(bits)
    damaged[17, 2] |= 1
    np.save("damaged.npy", damaged)
    with pytest.raises(InputOutputError, match=r"Row 17 of damaged\.npy"):
        bvae_cli.search("damaged.npy", "codes.npy", bits=20)


def test_labels_that_are_not_there_may_be_a_split_that_is(bits: np.ndarray) -> None:
    np.save("labels.npy", np.zeros(40, int))
    with pytest.raises(InputOutputError, match=r"no file lables\.npy\.\n.*Did you mean labels\.npy"):
        bvae_cli.search("codes.npy", "codes.npy", labels="lables.npy", query_labels="labels.npy")
    with pytest.raises(
        InputOutputError, match=r"no split of that name\.\n.*Did you mean test\? .*all, train, validation, test"
    ):
        bvae_cli.search("codes.npy", "codes.npy", labels="tset", query_labels="labels.npy")


def test_labels_that_nothing_has_measure_nothing(bits: np.ndarray) -> None:
    np.save("labels.npy", np.zeros(40, int))
    np.save("others.npy", np.ones(40, int))
    result = bvae_cli.search("codes.npy", "codes.npy", labels="labels.npy", query_labels="others.npy")
    assert result.relevance is None
