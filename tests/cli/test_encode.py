from __future__ import annotations

from pathlib import Path

import numpy as np

from bvae_cli.cli import row_progress
from bvae_cli.workflows.observing import TrainResult

from ..outcome import Bvae


def test_a_file_of_bits_is_written_and_said(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    outcome = bvae("encode", run_folder, "-o", "codes.npy").succeeded()
    for words in ("codes.npy", "information-bits of 60 rows (all)", "60 × 4 uint8", "repetition:R=3", "images/s"):
        assert words in outcome.out
    assert "loading torch" in outcome.err
    codes = np.load("codes.npy")
    assert (codes.shape, codes.dtype) == ((60, 4), np.uint8)


def test_json_is_one_object(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    options = ("--write", "codewords", "--packed", "--split", "test", "--dataset", "bits.npy")
    outcome = bvae("encode", "-w", run_folder, "-o", "codes.npy", *options, "--json", "-q").succeeded()
    facts = outcome.json()
    assert outcome.err == ""
    assert {name: facts[name] for name in ("file", "written", "rows", "columns", "bits_in_a_row", "packed", "split")} == {
        "file": "codes.npy",
        "written": "codewords",
        "rows": 6,
        "columns": 2,
        "bits_in_a_row": 12,
        "packed": True,
        "split": "test",
    }


def test_a_file_that_is_there_is_written_anew_only_when_asked(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    Path("codes.npy").write_bytes(b"mine")
    bvae("encode", run_folder, "-o", "codes.npy").refused(2, "codes.npy is there already", "--overwrite")
    assert Path("codes.npy").read_bytes() == b"mine"
    bvae("encode", run_folder, "-o", "codes.npy", "--overwrite").succeeded()
    assert np.load("codes.npy").shape == (60, 4)


def test_the_weights_are_named_once_and_must_be_there(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    for one in (run_folder, run_folder / "bvae_best_model_with.pt"):
        twice = bvae("encode", one, "-w", run_folder, "-o", "c.npy")
        twice.refused(2, "The weights are named twice.", "bvae encode DATA --weights FOLDER")
        assert "loading torch" not in twice.err
    bvae("encode", run_folder, run_folder, "-o", "c.npy").refused(2, f"{run_folder} is named twice.", "Name it once")
    Path("empty").mkdir()
    bvae("encode", "empty", "-w", run_folder, "-o", "c.npy").refused(3, "no train-images-idx3-ubyte")
    bvae("encode", "nowhere", "-o", "c.npy").refused(3, "There is no file nowhere")
    bvae("encode", run_folder, "-o", "c.npy", "--dataset", "none.npy").refused(3, "There is no file none.npy")


def test_how_far_it_is_is_said_on_stderr(bvae: Bvae, run_folder: Path, workplace: Path, monkeypatch) -> None:
    monkeypatch.setattr(row_progress, "_SECONDS_BETWEEN_LINES", 0)
    assert "60 of 60 rows encoded\n" in bvae("encode", run_folder, "-o", "codes.npy").succeeded().err
    assert bvae("encode", run_folder, "-o", "codes.npy", "--overwrite", "-q").succeeded().err == ""


def test_data_and_weights_are_not_replaced_by_codes(bvae: Bvae, trained: TrainResult, workplace: Path) -> None:
    line = ("encode", trained.folder, "-o", "bits.npy", "--overwrite")
    before = Path("bits.npy").read_bytes()
    bvae(*line, "--dataset", "./bits.npy").refused(2, "bits.npy is read here")
    assert Path("bits.npy").read_bytes() == before
    own = trained.folder.parents[1] / "bits.npy"
    before = own.read_bytes()
    bvae("encode", trained.folder, "-o", own, "--overwrite").refused(2, "bits.npy is read here")
    assert own.read_bytes() == before


def test_with_weights_the_argument_is_the_data(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    np.save("other.npy", np.load("bits.npy")[:40])
    bvae("encode", "other.npy", "--weights", run_folder, "--out", "codes.npy").succeeded()
    assert np.load("codes.npy").shape == (40, 4)
    line = ("encode", "other.npy", "-w", run_folder, "--dataset", "bits.npy", "-o", "c.npy")
    bvae(*line).refused(2, "Both DATA and --dataset name data")
