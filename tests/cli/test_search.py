from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bvae_cli.cli import row_progress
from bvae_cli.codes.golay import Golay

from ..outcome import Bvae

CODES = np.array([[0, 0, 0, 1], [0, 1, 1, 1], [0, 0, 0, 1], [1, 1, 1, 1]], np.uint8)


@pytest.fixture
def codes(workplace: Path) -> Path:
    np.save("codes.npy", CODES)
    np.save("labels.npy", np.array([5, 5, 7, 7]))
    return workplace


def test_neighbours_are_shown_in_their_order(bvae: Bvae, codes: Path) -> None:
    outcome = bvae("search", "codes.npy", "--in", "codes.npy", "-k", 3, "--rows", "2").succeeded()
    rows = [line.split() for line in outcome.out.splitlines()]
    assert [row for row in rows if row[:1] == ["2"]] == [["2", "1", "0", "0"], ["2", "2", "2", "0"], ["2", "3", "1", "2"]]
    assert "codes.npy, 4 codes of 4 bits" in outcome.out
    assert "1 of codes.npy, by Hamming distance" in outcome.out
    assert outcome.err == ""  # no torch is loaded for it


def test_how_far_it_is_is_said_on_stderr_without_torch(bvae: Bvae, codes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_progress, "_SECONDS_BETWEEN_LINES", 0)
    assert "4 of 4 rows searched\n" in bvae("search", "codes.npy", "--in", "codes.npy", "-k", 1).succeeded().err
    assert bvae("search", "codes.npy", "--in", "codes.npy", "-k", 1, "-q").succeeded().err == ""


def test_codes_and_queries_in_tables_are_searched_as_those_in_arrays(bvae: Bvae, codes: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({f"b{number}": bit for number, bit in enumerate(CODES.T, 1)}), "codes.parquet")
    line = ("-k", 3, "--json")
    arrays = bvae("search", "codes.npy", "--in", "codes.npy", *line).succeeded().json()["neighbours"]
    outcome = bvae("search", "codes.parquet", "--in", "codes.parquet", *line).succeeded()
    assert outcome.json()["neighbours"] == arrays
    assert outcome.err == ""


def test_json_is_one_object(bvae: Bvae, codes: Path) -> None:
    line = ("search", "codes.npy", "--in", "codes.npy", "-k", 1, "--exclude-self", "--json")
    facts = bvae(*line, "--labels", "labels.npy", "--query-labels", "labels.npy").succeeded().json()
    assert facts["neighbours"] == [
        {"query": 0, "ids": [2], "distances": [0]},
        {"query": 1, "ids": [3], "distances": [1]},
        {"query": 2, "ids": [0], "distances": [0]},
        {"query": 3, "ids": [1], "distances": [1]},
    ]
    assert (facts["searched"], facts["bits"], facts["k"], facts["soft"]) == (4, 4, 1, False)
    assert facts["relevance"]["precision"] == 0


def test_labels_are_shown_and_measured(bvae: Bvae, codes: Path) -> None:
    np.save("wanted.npy", np.array([5, 5, 7, 9]))
    line = ("search", "codes.npy", "--in", "codes.npy", "-k", 2, "--labels", "labels.npy", "--query-labels")
    out = bvae(*line, "wanted.npy").succeeded().out
    for said in (
        "label",
        "precision@2",
        "recall@2",
        "mAP@2",
        "of the ranking of all codes",
        "1 queries whose label no code has",
    ):
        assert said in out
    np.save("wanted.npy", np.array([1, 1, 1, 1]))
    assert "no code has the label of any query" in bvae(*line, "wanted.npy").succeeded().out


def test_neighbours_in_a_file_are_not_shown(bvae: Bvae, codes: Path) -> None:
    out = bvae("search", "codes.npy", "--in", "codes.npy", "-k", 2, "-o", "found.npz").succeeded().out
    assert "rank" not in out
    assert "found.npz, ids and distances 4 × 2" in out
    with np.load("found.npz") as archive:
        assert archive["ids"].tolist() == [[0, 2], [1, 3], [0, 2], [3, 1]]
    bvae("search", "codes.npy", "--in", "codes.npy", "-o", "found.npz").refused(2, "is there already")


def test_soft_queries_rank_by_nats(bvae: Bvae, codes: Path) -> None:
    np.save("logits.npy", np.array([[-1.5, 0.25, -1.0, 2.0]]))
    out = bvae("search", "logits.npy", "--in", "codes.npy", "-k", 2).succeeded().out
    assert "nats" in out
    assert "soft, by logits" in out
    np.save("probabilities.npy", np.array([[0.5, 0.25, 1.0, 0.0]]))
    said = bvae("search", "probabilities.npy", "--in", "codes.npy", "-k", 2).succeeded().err
    assert "Note: All numbers in probabilities.npy lie in 0…1" in said
    assert [line.split() for line in out.splitlines() if line.strip()[:1] == "0"] == [
        ["0", "1", "0", "0.25"],
        ["0", "2", "2", "0.25"],
    ]


def test_more_damage_than_the_code_repairs_is_said(bvae: Bvae, codes: Path) -> None:
    np.save("damaged.npy", np.array([[1, 1, 1, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 1]], np.uint8))
    line = ("search", "damaged.npy", "--in", "codes.npy", "-k", 1, "--ecc", "repetition", "--R", 2, "--latent", 8)
    outcome = bvae(*line).succeeded()
    assert "Note: 1 of 2 queries in damaged.npy hold more damage than repetition:R=2 always repairs (rows 0)" in outcome.err
    assert "1 queries hold more damage" in outcome.out
    quiet = bvae(*line, "-q", "--json").succeeded()
    assert quiet.err == ""
    assert quiet.json()["unsure"] == [0]


@pytest.mark.parametrize("searched", ["words", "information"])
def test_damaged_codewords_find_their_own_as_often_as_the_closed_form_says(
    bvae: Bvae, workplace: Path, searched: str
) -> None:
    spec = Golay(n=24)
    information = np.unpackbits(np.arange(2**12, dtype=">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, 4:]
    words = spec.build(24).encode(torch.from_numpy(information)).numpy()
    flips = np.random.default_rng(7).random(words.shape) < 0.1
    np.save("words.npy", np.packbits(words, axis=1))
    np.save("information.npy", information)
    np.save("damaged.npy", np.packbits(words ^ flips, axis=1))
    line = ("search", "damaged.npy", "--in", f"{searched}.npy", "--ecc", "golay", "--latent", 24, "-k", 1, "-o", "found.npz")
    outcome = bvae(*line, "--json").succeeded()
    # All words are searched, so that what a query is decided for is there, and another is found where that is wrong.
    with np.load("found.npz") as archive:
        assert not archive["distances"].any()
        wrong = float((archive["ids"][:, 0] != np.arange(2**12)).mean())
    expected = spec.error_rates(24, 0.1).hard_word
    assert expected is not None
    assert abs(wrong - expected) < 4 * np.sqrt(expected * (1 - expected) / 2**12)
    # Four flips lie as near to other words, more may lie within three of one.
    unsure = outcome.json()["unsure"]
    assert set(np.flatnonzero(flips.sum(1) == 4)) <= set(unsure)
    assert not set(np.flatnonzero(flips.sum(1) < 4)) & set(unsure)
    assert f"Note: {len(unsure)} of 4096 queries in damaged.npy hold more damage" in outcome.err


def test_rows_of_data_are_queries(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    bvae("encode", run_folder, "-o", "codes.npy", "--split", "test").succeeded()
    outcome = bvae("search", "-w", run_folder, "--in", "codes.npy", "--rows", "1", "-k", 1, "--soft").succeeded()
    assert "loading torch" in outcome.err
    assert "1 of the test rows of" in outcome.out


def test_files_that_cannot_be_are_refused(bvae: Bvae, codes: Path) -> None:
    bvae("search", "code.npy", "--in", "codes.npy").refused(3, "There is no file code.npy", "codes.npy")
    bvae("search", "codes.npy", "--in", "codes.npy").refused(2, "-k 10", "holds 4 codes", "-k 4")
    line = ("search", "codes.npy", "--in", "codes.npy", "-k", 1, "--query-labels", "labels.npy", "--labels")
    bvae(*line, "tset").refused(3, "There is no file tset", "Did you mean test?", "train, validation, test")
    bvae(*line, "label.npy").refused(3, "There is no file label.npy", "labels.npy")
    np.save("wide.npy", np.zeros((1, 5), np.uint8))
    bvae("search", "wide.npy", "--in", "codes.npy", "-k", 1).refused(2, "codes of 4 bits", "wide.npy of 5", "--bits")


def test_what_is_searched_is_not_replaced_by_what_is_found(bvae: Bvae, codes: Path) -> None:
    np.save("same", CODES)
    Path("same.npy").rename("same.npz")
    line = ("--in", "codes.npy", "-o", "same.npz", "--overwrite")
    bvae("search", "same.npz", *line).refused(2, "same.npz is read here")
    bvae("search", "codes.npy", *line, "--labels", "same.npz", "--query-labels", "labels.npy").refused(2, "is read here")
