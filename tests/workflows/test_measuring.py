from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bvae_cli
from bvae_cli import runs
from bvae_cli.errors import InputOutputError, InterruptedRunError, UsageError
from bvae_cli.trained import SampleConfig
from bvae_cli.workflows.fit import EpochStats
from bvae_cli.workflows.measuring import find_weights, measure
from bvae_cli.workflows.observing import Observer, TrainResult
from bvae_cli.workflows.train import train

from .conftest import config_for

LN2 = float(np.log(2))


def measured(run: TrainResult, **options: Any) -> Any:
    return measure(
        SampleConfig(weights=run.folder, iwae_samples=options.pop("iwae_samples", 16), **options), frozenset(options)
    )


def test_the_bounds_lie_in_their_order_below_the_exact_likelihood(trained: TrainResult) -> None:
    bounds = measured(trained).bounds
    exact, iwae, elbo = bounds.log_likelihood, bounds.iwae, bounds.elbo
    slack = 4 * (elbo.standard_error + iwae.standard_error)
    assert elbo.mean <= iwae.mean + slack
    assert iwae.mean <= exact.mean + slack
    assert bounds.iwae_samples == 16
    assert bounds.bits_per_dim.mean == pytest.approx(-elbo.mean / (12 * LN2))


def test_the_exact_likelihood_is_that_of_the_loaded_model(trained: TrainResult) -> None:
    data = np.load(trained.folder.parents[1] / "bits.npy")
    model = bvae_cli.load(trained.folder)
    words = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    p = model.decode(words).double().numpy()
    by_hand = np.log(np.stack([np.where(row, p, 1 - p).prod(1).mean() for row in data.astype(bool)]))
    assert model.log_likelihood(data).numpy() == pytest.approx(by_hand, rel=1e-5)
    # The six validation rows are six of these.
    assert by_hand.min() <= measured(trained).bounds.log_likelihood.mean <= by_hand.max()


def test_the_elbo_agrees_with_the_loss_that_the_run_recorded(uncoded: TrainResult) -> None:
    bounds = measured(uncoded).bounds
    assert -bounds.elbo.mean == pytest.approx(uncoded.best_validation_loss, abs=6 * bounds.elbo.standard_error)
    assert 0 <= bounds.kl.mean <= 12 * LN2


def test_the_same_seed_measures_the_same_and_another_draws_anew(trained: TrainResult) -> None:
    assert measured(trained) == measured(trained)
    assert measured(trained, seed=1).bounds.elbo != measured(trained).bounds.elbo
    assert measured(trained, seed=1).bounds.log_likelihood == measured(trained).bounds.log_likelihood


def test_the_facts_of_the_run_are_named(trained: TrainResult) -> None:
    quality = measured(trained, split="test", subset=3)
    assert (quality.code, quality.split, quality.rows) == ("repetition:R=3", "test", 3)
    assert quality.weights == trained.folder / "bvae_best_model_with.pt"
    assert quality.latent.information_bits == 4


def test_the_test_split_is_not_the_validation_split(trained: TrainResult) -> None:
    assert measured(trained, split="test").bounds.log_likelihood != measured(trained).bounds.log_likelihood


def test_many_information_bits_are_not_enumerated(tmp_path: Path) -> None:
    run = train(config_for(tmp_path, latent=17, epochs=1))
    assert measured(run).bounds.log_likelihood is None


def test_without_weights_the_run_of_the_same_options_is_found(trained: TrainResult) -> None:
    options = {"hidden": 8, "latent": 12, "depth": 1, "lr": 0.01, "ecc": "repetition:R=3"}
    config = SampleConfig(output_dir=trained.folder.parent, **options)
    assert find_weights(config, frozenset(options)) == trained.folder / "bvae_best_model_with.pt"
    for name, value in (("hidden", 9), ("lr", 0.1), ("beta_max", 0.5), ("ecc", "none")):
        with pytest.raises(InputOutputError, match="no trained model"):
            find_weights(SampleConfig(output_dir=trained.folder.parent, **(options | {name: value})), frozenset())


def found(place: Path) -> tuple[Path, list[str]]:
    """Return the weights that the sizes of a tiny run find, and what is said of them."""
    notes: list[str] = []
    sizes = {"hidden": 8, "latent": 12, "depth": 1, "lr": 0.01}
    config = SampleConfig(**{"output_dir": place / "weights", "iwae_samples": 1, **sizes})
    return measure(config, frozenset(sizes), notes.append).weights, notes


def test_a_run_found_by_its_sizes_is_said_to_have_namesakes(tmp_path: Path) -> None:
    first = train(config_for(tmp_path, epochs=1))
    assert found(tmp_path) == (first.folder / runs.WEIGHTS, [])
    second = train(config_for(tmp_path, epochs=1, seed=1))
    weights, notes = found(tmp_path)
    assert weights == first.folder / runs.WEIGHTS
    assert notes == [
        f"This is {first.folder}. There is 1 other run of these sizes with other settings; name one to take it, as "
        f"--weights '{second.folder}'."
    ]
    train(config_for(tmp_path, epochs=1, seed=2))
    assert "There are 2 other runs" in found(tmp_path)[1][0]
    notes = []
    measure(SampleConfig(weights=first.folder, iwae_samples=1), frozenset(), notes.append)
    assert notes == []
    (first.folder / runs.WEIGHTS).unlink()
    with pytest.raises(InputOutputError, match="no trained model") as caught:
        found(tmp_path)
    assert "There are 2 other runs" in (caught.value.hint or "")


def test_a_run_that_is_unfinished_is_said_to_be(tmp_path: Path) -> None:
    class Impatient(Observer):
        def on_epoch(self, stats: EpochStats) -> None:
            if stats.epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(InterruptedRunError):
        train(config_for(tmp_path), Impatient())
    assert found(tmp_path)[1] == ["This run is unfinished: these are its best weights after 2 of 4 epochs."]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hidden": 9}, "hidden 8, not 9"),
        ({"latent": 24}, "latent 12, not 24"),
        ({"depth": 2}, "depth 1, not 2"),
        ({"params": 0}, "hidden 8, not 100"),
        ({"ecc": "none"}, "repetition:R=3, not none"),
        ({"ecc": "repetition:R=2"}, "not repetition:R=2"),
    ],
)
def test_sizes_and_codes_that_are_not_those_of_the_weights_are_refused(
    trained: TrainResult, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        measured(trained, **options)
    assert words in caught.value.message
    assert "know theirs" in (caught.value.hint or "")


def test_sizes_and_codes_that_are_those_of_the_weights_are_no_mistake(trained: TrainResult) -> None:
    assert measured(trained, hidden=8, latent=12, depth=1, ecc="repetition:R=3").rows == 6


def test_sizes_that_nobody_named_are_not_compared(trained: TrainResult) -> None:
    assert measure(SampleConfig(weights=trained.folder, iwae_samples=1, params=0)).rows == 6


def test_other_data_of_the_same_width_can_be_measured(trained: TrainResult, tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", np.ones((50, 12), dtype="uint8"))
    quality = measured(trained, dataset=tmp_path / "other.npy")
    assert quality.rows == 5
    assert quality.bounds.log_likelihood.standard_error == pytest.approx(0, abs=1e-6)


def test_other_data_of_another_width_are_refused(trained: TrainResult, tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", np.ones((50, 13), dtype="uint8"))
    with pytest.raises(UsageError, match=r"13 values in a row; .* trained on 12"):
        measured(trained, dataset=tmp_path / "wide.npy")


def test_data_that_have_moved_are_said_to_have(tmp_path: Path) -> None:
    run = train(config_for(tmp_path, epochs=1))
    (tmp_path / "bits.npy").rename(tmp_path / "moved.npy")
    with pytest.raises(InputOutputError, match=r"was trained on cannot be loaded: There is no file .*bits\.npy") as caught:
        measured(run)
    assert "--dataset" in (caught.value.hint or "")
    assert measured(run, dataset=tmp_path / "moved.npy").rows == 6
