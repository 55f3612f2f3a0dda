from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from bvae_cli.codes.golay import Golay

from ..outcome import Bvae

GOLAY = ("--ecc", "golay", "--latent", 24)


@pytest.fixture
def words(workplace: Path) -> np.ndarray:
    """Forty words of the Golay code in ``words.npy``, packed; in ``damaged.npy`` row 3 has a flip, row 8 has four."""
    information = np.random.default_rng(2).integers(0, 2, (40, 12), dtype=np.uint8)
    codewords = Golay(n=24).build(24).encode(torch.from_numpy(information)).numpy()
    np.save("words.npy", np.packbits(codewords, axis=1))
    damaged = codewords.copy()
    damaged[3, 20] ^= 1
    damaged[8, 2:6] ^= 1
    np.save("damaged.npy", damaged)
    np.save("information.npy", information)
    return information


def test_what_was_repaired_and_what_is_not_sure_is_said(bvae: Bvae, words: np.ndarray) -> None:
    outcome = bvae("decode", "damaged.npy", *GOLAY, "-o", "out.npy", "--unsure", "unsure.npy").succeeded()
    for said in (
        "damaged.npy, codewords of 40 rows, 24 in each",
        "golay:n=24, always repairs 3 in a block",
        "38 rows are codewords",
        "2 rows, 5 bits",
        "1 rows (more repaired in a block than the code always repairs): 8",
        "of the rows wrong or more, seen or not: 0.521 % of the bits were repaired",
        "out.npy, information-bits, 40 × 12 uint8",
        "unsure.npy",
    ):
        assert said in outcome.out
    assert "loading torch" in outcome.err
    right = (np.load("out.npy") == words).all(1)
    assert np.flatnonzero(~right).tolist() in ([], [8])
    assert np.load("unsure.npy").tolist() == [8]


def test_damage_on_purpose_is_shown_beside_the_closed_form(bvae: Bvae, words: np.ndarray) -> None:
    outcome = bvae("decode", "words.npy", *GOLAY, "--flip", 0.1, "--seed", 1, "-q").succeeded()
    for said in ("bits flipped (each with probability 0.1, seed 1)", "closed form", "words with a wrong bit", "seem sure"):
        assert said in outcome.out
    assert outcome.err == ""
    facts = bvae("decode", "words.npy", *GOLAY, "--flip", 0.1, "--seed", 1, "-q", "--json").succeeded().json()
    assert facts["damage"]["closed_form"]["hard_word"] == pytest.approx(Golay(n=24).error_rates(24, 0.1).hard_word)
    assert (facts["rows"], facts["packed"], facts["file"], facts["corrects"]) == (40, True, None, 3)


def test_logits_are_said_to_be_sure_or_not(bvae: Bvae, words: np.ndarray) -> None:
    np.save("logits.npy", np.full((3, 24), 0.01, np.float32))
    outcome = bvae("decode", "logits.npy", *GOLAY).succeeded()
    out = outcome.out
    assert "Note: All numbers in logits.npy lie in 0…1 and are taken for logits" in outcome.err
    assert "logits.npy, code logits of 3 rows" in out
    assert "3 rows (an information bit is wrong with more than 0.01): 0, 1, 2" in out
    assert "wrong information bits in all, if the logits are calibrated" in out


def test_words_that_may_be_of_another_code_are_noted(bvae: Bvae, words: np.ndarray) -> None:
    np.save("other.npy", np.repeat(words, 2, axis=1))
    outcome = bvae("decode", "other.npy", *GOLAY, "--json").succeeded()
    assert "Note: 0 of 40 rows of other.npy are codewords of golay:n=24" in outcome.err
    assert "may be of another code, model or order of bits" in outcome.err
    assert outcome.json()["like_random_words"] is True
    damaged = bvae("decode", "damaged.npy", *GOLAY, "--json").succeeded()
    assert "Note" not in damaged.err
    assert damaged.json()["like_random_words"] is False


def test_without_redundancy_it_is_noted_that_damage_does_not_show(bvae: Bvae, words: np.ndarray) -> None:
    outcome = bvae("decode", "damaged.npy", "--ecc", "none", "--latent", 24).succeeded()
    assert "Note: Every word is a codeword of none, which adds no bits: damage does not show" in outcome.err
    assert "40 rows are codewords" in outcome.out
    on_purpose = bvae("decode", "damaged.npy", "--ecc", "none", "--latent", 24, "--flip", 0.1).succeeded()
    assert "Note" not in on_purpose.err


def test_a_model_makes_data_of_its_codes(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    bvae("encode", run_folder, "-o", "codes.npy").succeeded()
    out = bvae("decode", "codes.npy", run_folder, "--write", "probabilities", "-o", "data.npy").succeeded().out
    assert "nothing: information bits alone show no damage" in out
    assert "not sure  0 rows" in out
    assert np.load("data.npy").shape == (60, 12)
    bvae("decode", "codes.npy", run_folder, "-w", run_folder).refused(2, "named twice")
    # Weights by their sizes, as everywhere.
    sizes = ("--hidden", 8, "--latent", 12, "--depth", 1, "--R", 3)
    bvae("decode", "codes.npy", *sizes, "--write", "samples", "-o", "s.npy").refused(3, "There is no trained model")
    Path("weights").mkdir()
    shutil.copytree(run_folder, Path("weights", run_folder.name))
    by_sizes = ("decode", "codes.npy", *sizes, "--lr", 0.01, "--write", "samples", "--packed", "-o", "s.npy")
    assert "samples, 60 × 2 uint8" in bvae(*by_sizes).succeeded().out


def test_files_that_cannot_be_are_refused(bvae: Bvae, words: np.ndarray) -> None:
    bvae("decode", "word.npy", *GOLAY).refused(3, "There is no file word.npy", "words.npy")
    bvae("decode", "words.npy", "--ecc", "golay", "--latent", 72).refused(3, "rows of 3 uint8", "72 code bits")
    bvae("decode", "words.npy", *GOLAY, "-o", "words.npy").refused(2, "is read here")
    np.save("real.npy", np.load("damaged.npy").astype(np.float32))
    bvae("decode", "real.npy", *GOLAY).refused(3, "real.npy holds 0 and 1 as floating-point numbers", "uint8")
    bvae("decode", "information.npy", *GOLAY).refused(2, "show no damage", "--write codewords")
    np.save("padded.npy", np.full((3, 3), 255, np.uint8))
    line = ("decode", "padded.npy", "--ecc", "repetition", "--R", 2, "--latent", 22)
    bvae(*line).refused(3, "Row 0 of padded.npy", "another order")
    bvae("decode", "words.npy", "--ecc", "ldpc", "--latent", 24).refused(2)


def test_the_codes_are_not_replaced_by_what_is_decoded_of_them(bvae: Bvae, words: np.ndarray) -> None:
    before = Path("words.npy").read_bytes()
    for option in ("-o", "--unsure"):
        bvae("decode", "words.npy", *GOLAY, option, "words.npy", "--overwrite").refused(2, "words.npy is read here")
    assert Path("words.npy").read_bytes() == before


@pytest.mark.parametrize("option", [("--write", "codewords"), ("--write", "samples"), ("--packed",)])
def test_what_is_to_be_written_needs_a_file(bvae: Bvae, words: np.ndarray, option: tuple[str, ...]) -> None:
    bvae("decode", "words.npy", *GOLAY, *option).refused(2, f"{option[0]} says what is written", "-o FILE.npy")
