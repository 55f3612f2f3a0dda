"""Sheets: every picture is that of its word, and the words are those that were asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bvae_cli
from bvae_cli.datasets.arrays import Arrays
from bvae_cli.errors import UsageError
from bvae_cli.trained import SampleConfig
from bvae_cli.workflows.observing import TrainResult
from bvae_cli.workflows.sample import sample
from bvae_cli.workflows.sheets import Sheet, draw_sheet


def sheet_of(run: TrainResult, out: Path, **options: Any) -> tuple[Sheet, dict[str, Any]]:
    sheet = draw_sheet(SampleConfig(weights=run.folder, out=out, **options), frozenset(options))
    with np.load(sheet.file, allow_pickle=False) as arrays:
        return sheet, dict(arrays)


def rows_of(run: TrainResult) -> torch.Tensor:
    return Arrays(path=run.folder.parent.parent / "bits.npy").load().validation[:].float()


def test_words_codewords_and_pictures_belong_together(trained: TrainResult, tmp_path: Path) -> None:
    model = bvae_cli.load(trained.folder)
    for options in ({"sweep": "m2,m4"}, {"posterior": "0,3"}, {"between": "0,5"}):
        _, arrays = sheet_of(trained, tmp_path, **options)
        bits = arrays["information_bits"]
        assert (arrays["codewords"] == np.tile(bits, 3)).all()
        assert arrays["probabilities"] == pytest.approx(model.decode(bits).numpy(), abs=1e-6)


def test_a_sweep_shows_each_word_with_the_bit_at_0_and_at_1(trained: TrainResult, tmp_path: Path) -> None:
    sheet, arrays = sheet_of(trained, tmp_path, sweep="m2,m4", fix="m1=1", num_samples=5)
    words = arrays["information_bits"].reshape(5, 2, 2, 4)
    for place, bit in enumerate((1, 3)):
        assert (words[:, place, 0, bit] == 0).all()
        assert (words[:, place, 1, bit] == 1).all()
        others = [other for other in range(4) if other != bit]
        assert (words[:, place, 0][:, others] == words[:, place, 1][:, others]).all()
    assert (words[..., 0] == 1).all()
    assert sheet.groups == (2, 2)
    assert sheet.columns == ["m2 = 0", "m2 = 1", "m4 = 0", "m4 = 1"]
    assert sheet.lines == ["word 1", "word 2", "word 3", "word 4", "word 5"]
    assert sheet.pictures.shape == (20, 12)
    assert sheet.pictures == pytest.approx(arrays["probabilities"])


def test_the_strongest_bits_are_those_whose_flip_changes_most(trained: TrainResult, tmp_path: Path) -> None:
    sheet, arrays = sheet_of(trained, tmp_path, sweep="strongest", num_samples=6, fix="m3=0")
    model, first = bvae_cli.load(trained.folder), arrays["information_bits"].reshape(6, 3, 2, 4)[:, 0, 0]
    named = [int(fact["bit"][1:]) - 1 for fact in sheet.facts]
    words = first.copy()
    words[:, named[0]] = arrays["information_bits"].reshape(6, 3, 2, 4)[:, 1, 0, named[0]]  # as it was drawn
    changes = []
    for bit in range(4):
        flipped = words.copy()
        flipped[:, bit] ^= 1
        changes.append(float((model.decode(flipped) - model.decode(words)).abs().mean()))
    assert arrays["mean_change"] == pytest.approx(changes, rel=1e-4)
    assert named == [bit for bit in np.argsort(-np.array(changes), kind="stable").tolist() if bit != 2]
    assert [fact["rank of that"] for fact in sheet.facts] == sorted(fact["rank of that"] for fact in sheet.facts)


def test_a_posterior_shows_the_row_its_most_probable_word_and_draws(trained: TrainResult, tmp_path: Path) -> None:
    model, rows = bvae_cli.load(trained.folder), rows_of(trained)[[4, 1]]
    sheet, arrays = sheet_of(trained, tmp_path, posterior="4,1", num_samples=4000)
    words = arrays["information_bits"].reshape(2, 4001, 4)
    posterior = model.posterior(rows).numpy()
    assert (words[:, 0] == (posterior > 0.5)).all()
    # Five standard deviations of a mean of 4000 draws are below 0.04.
    assert words[:, 1:].mean(1) == pytest.approx(posterior, abs=0.04)
    assert arrays["rows"].tolist() == [4, 1]
    assert (sheet.pictures.reshape(2, 4002, 12)[:, 0] == rows.numpy()).all()
    assert sheet.groups == (1, 1, 4000)
    assert sheet.columns[:4] == ["original", "most\nprobable", "draws\nfrom q", ""]
    assert (len(sheet.columns), sheet.lines) == (4002, ["row 4", "row 1"])
    entropy = -(posterior * np.log2(posterior) + (1 - posterior) * np.log2(1 - posterior)).sum(1)
    assert [fact["entropy of q (bits)"] for fact in sheet.facts] == pytest.approx(entropy, abs=1e-4)
    assert [fact["KL (nats)"] for fact in sheet.facts] == pytest.approx((4 - entropy) * np.log(2), abs=1e-4)


def test_the_way_between_two_rows_changes_one_bit_after_the_other(trained: TrainResult, tmp_path: Path) -> None:
    model, rows = bvae_cli.load(trained.folder), rows_of(trained)
    ends = model.encode(rows).numpy()
    pairs = ((one, other) for one in range(len(ends)) for other in range(one) if (ends[one] != ends[other]).sum() > 1)
    one, other = next(pairs)
    sheet, arrays = sheet_of(trained, tmp_path, between=f"{one},{other}")
    words = arrays["information_bits"].astype(int)
    assert (words[0] == ends[one]).all()
    assert (words[-1] == ends[other]).all()
    assert (np.abs(np.diff(words, axis=0)).sum(1) == 1).all()
    differing = np.flatnonzero(ends[one] != ends[other])
    assert sheet.facts[0]["path"].split() == [f"m{bit + 1}" for bit in differing]
    assert sheet.facts[0]["Hamming distance (code bits)"] == 3 * len(differing)
    assert (sheet.pictures[0] == rows[one].numpy()).all()
    assert (sheet.pictures[-1] == rows[other].numpy()).all()


def test_a_long_way_is_shown_at_equal_steps(uncoded: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bvae_cli.workflows.sheets._LONGEST_PATH", 3)
    ends = bvae_cli.load(uncoded.folder).encode(rows_of(uncoded)).numpy()
    far = int((ends != ends[0]).sum(1).argmax())
    length = int((ends[far] != ends[0]).sum())
    assert length > 3
    sheet, arrays = sheet_of(uncoded, tmp_path, between=f"0,{far}")
    steps = (arrays["information_bits"] != ends[0]).sum(1)
    assert steps.tolist() == [0, round(length / 2), length]
    assert sheet.groups == (1, 3, 1)
    assert sheet.columns == ["row 0", "0 bits", f"{round(length / 2)} bits", f"{length} bits", f"row {far}"]


def test_between_rows_of_one_word_there_is_that_word(trained: TrainResult, tmp_path: Path) -> None:
    ends = bvae_cli.load(trained.folder).encode(rows_of(trained)).tolist()
    one, other = next((one, other) for one in range(len(ends)) for other in range(one) if ends[one] == ends[other])
    sheet, arrays = sheet_of(trained, tmp_path, between=f"{one},{other}")
    assert len(arrays["information_bits"]) == 1
    assert sheet.facts[0]["path"] == ""


def test_fixed_bits_are_fixed_and_the_others_are_drawn_as_without(trained: TrainResult, tmp_path: Path) -> None:
    def bits(**options: Any) -> Any:
        config = SampleConfig(weights=trained.folder, out=tmp_path, num_samples=50, iwae_samples=1, **options)
        return np.load(sample(config).file)["information_bits"]

    free, fixed = bits(), bits(fix="m2=1,m3=0")
    assert (fixed[:, 1] == 1).all()
    assert (fixed[:, 2] == 0).all()
    assert (fixed[:, [0, 3]] == free[:, [0, 3]]).all()
    assert 0 < free[:, 1].mean() < 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sweep": "m5"}, "--sweep names m5; the model has 4 information bits"),
        ({"sweep": "m1", "fix": "m9=1"}, "--fix names m9; the model has 4"),
        ({"posterior": "100000"}, "--posterior names row 100000; the validation split has"),
        ({"between": "0,99", "subset": 3}, "--between names row 99; the validation split has 3 rows here"),
    ],
)
def test_bits_and_rows_that_are_not_there_are_refused(
    trained: TrainResult, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        sheet_of(trained, tmp_path, **options)
    assert words in caught.value.message
    with pytest.raises(UsageError, match="--fix names m5"):
        sample(SampleConfig(weights=trained.folder, fix="m5=1"))


def test_where_all_bits_are_fixed_none_is_left_to_sweep(trained: TrainResult, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names all 4 bits: none is left to sweep"):
        sheet_of(trained, tmp_path / "sheets", sweep="strongest", fix="m1=1,m2=0,m3=1,m4=0")
    assert not (tmp_path / "sheets").exists()
