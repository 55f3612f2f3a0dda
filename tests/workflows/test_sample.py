from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bvae_cli
from bvae_cli.config import TrainConfig
from bvae_cli.datasets.arrays import Arrays
from bvae_cli.errors import InputOutputError
from bvae_cli.trained import SampleConfig
from bvae_cli.workflows.observing import TrainResult
from bvae_cli.workflows.sample import sample
from bvae_cli.workflows.train import train

from .conftest import config_for


def draw(run: TrainResult, out: Path, **options: Any) -> Any:
    values = {"weights": run.folder, "out": out, "num_samples": 20, "iwae_samples": 4} | options
    return sample(SampleConfig(**values), frozenset(options))


def test_the_file_holds_bits_codewords_and_probabilities_that_belong_together(trained: TrainResult, tmp_path: Path) -> None:
    result = draw(trained, tmp_path)
    assert result.file == tmp_path / "samples_seed_0_count=20.npz"
    with np.load(result.file, allow_pickle=False) as arrays:
        assert sorted(arrays) == ["codewords", "information_bits", "probabilities", "samples"]
        bits, codewords, probabilities, samples = (
            arrays[name] for name in ("information_bits", "codewords", "probabilities", "samples")
        )
    assert (bits.shape, codewords.shape, probabilities.shape, samples.shape) == ((20, 4), (20, 12), (20, 12), (20, 12))
    assert {bits.dtype, codewords.dtype, samples.dtype} == {np.dtype("uint8")}
    assert (codewords == np.tile(bits, 3)).all()
    decoded = bvae_cli.load(trained.folder).decode(bits).numpy()
    assert probabilities == pytest.approx(decoded, abs=1e-6)
    assert set(np.unique(samples)) <= {0, 1}


def test_samples_follow_their_probabilities(trained: TrainResult, tmp_path: Path) -> None:
    result = draw(trained, tmp_path, num_samples=4000, subset=1)
    with np.load(result.file) as arrays:
        p, x, bits = arrays["probabilities"], arrays["samples"], arrays["information_bits"]
    # Mean of 4000 independent draws: five standard deviations are below 0.04.
    assert x.mean(0) == pytest.approx(p.mean(0), abs=0.04)
    assert bits.mean(0) == pytest.approx(np.full(4, 0.5), abs=0.04)


def test_the_same_seed_gives_the_same_file_and_another_does_not(trained: TrainResult, tmp_path: Path) -> None:
    first = draw(trained, tmp_path / "a").file.read_bytes()
    assert draw(trained, tmp_path / "b").file.read_bytes() == first
    other = draw(trained, tmp_path / "a", seed=1)
    assert other.file.name == "samples_seed_1_count=20.npz"
    assert not np.array_equal(
        np.load(other.file)["samples"], np.load(tmp_path / "a" / "samples_seed_0_count=20.npz")["samples"]
    )


def test_samples_lie_beside_the_weights_unless_a_folder_is_named(tmp_path: Path) -> None:
    run = train(config_for(tmp_path, epochs=1))
    assert sample(SampleConfig(weights=run.folder, iwae_samples=1)).file.parent == run.folder / "samples"


def test_a_low_temperature_makes_the_samples_sharper(trained: TrainResult, tmp_path: Path) -> None:
    p, sharp = (
        np.load(draw(trained, tmp_path / str(t), temperature=t).file)["probabilities"].astype("float64") for t in (1.0, 0.25)
    )
    logits = np.log(p / (1 - p))
    assert sharp == pytest.approx(1 / (1 + np.exp(-4 * logits)), abs=1e-4)


def test_uniqueness_and_novelty_are_shares_of_distinct_rows(trained: TrainResult, tmp_path: Path) -> None:
    result = draw(trained, tmp_path, num_samples=300)
    distinct = {row.tobytes() for row in np.load(result.file)["samples"]}
    training = Arrays(path=trained.folder.parents[1] / "bits.npy").load().train
    assert result.uniqueness == len(distinct) / 300
    assert result.novelty == len(distinct - {row.tobytes() for row in training.numpy()}) / len(distinct)
    assert 0 < result.novelty < 1


def test_novelty_of_samples_is_no_question_where_the_data_are_no_bits(tmp_path: Path) -> None:
    np.save(tmp_path / "bits.npy", np.random.default_rng(0).random((30, 6)).astype("float32"))
    run = train(config_for(tmp_path, epochs=1))
    assert draw(run, tmp_path).novelty is None


def test_the_quality_is_measured_on_as_many_rows_as_asked_for(trained: TrainResult, tmp_path: Path) -> None:
    assert draw(trained, tmp_path).quality.rows == 6
    assert draw(trained, tmp_path, subset=4).quality.rows == 4
    assert draw(trained, tmp_path).feature_shape == (12,)


def test_a_folder_that_cannot_be_written_is_an_output_error(trained: TrainResult, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputOutputError, match="Cannot write to"):
        draw(trained, tmp_path / "file" / "samples")


def test_symbols_with_names_are_written_as_text(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("\n".join(["ACGT", "AACC", "TTGA", "GATC"] * 10))
    config = TrainConfig(
        dataset=f"symbols:path={tmp_path / 'words.txt'}",  # type: ignore[arg-type]
        hidden=8,
        latent=6,
        depth=1,
        epochs=1,
        output_dir=tmp_path / "w",
    )
    result = sample(SampleConfig(weights=train(config).folder, num_samples=5, iwae_samples=1))
    assert result.text_file is not None
    numbers = np.load(result.file)["samples"]
    assert result.text_file.read_text().splitlines() == ["".join("ACGT"[number] for number in row) for row in numbers]
