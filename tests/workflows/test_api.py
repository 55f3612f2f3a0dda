"""The Python side: the options of the command line as arguments, and a trained model to work with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import bvae_cli
from bvae_cli.errors import InputOutputError, UsageError
from bvae_cli.workflows.observing import TrainResult

from ..conftest import write_bits


@pytest.fixture
def rows(trained: TrainResult) -> np.ndarray:
    loaded: np.ndarray = np.load(trained.folder.parents[1] / "bits.npy")
    return loaded


def test_every_public_name_is_there() -> None:
    assert set(bvae_cli.__all__) <= set(dir(bvae_cli))
    for name in bvae_cli.__all__:
        assert getattr(bvae_cli, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'tarin'"):
        bvae_cli.tarin  # noqa: B018


def test_train_sample_evaluate_and_load_in_four_lines(tmp_path: Path) -> None:
    write_bits(tmp_path / "bits.npy")
    result = bvae_cli.train(
        dataset=tmp_path / "bits.npy", hidden=8, latent=12, epochs=2, ecc="repetition:R=2", output_dir=tmp_path
    )
    drawn = bvae_cli.sample(result.folder, num_samples=3, iwae_samples=2)
    quality = bvae_cli.evaluate(result.folder, split="test", iwae_samples=2)
    model = bvae_cli.load(result.folder)
    assert result.epochs == 2
    assert drawn.count == 3
    assert quality.split == "test"
    assert (model.code.n, model.code.k) == (12, 6)


def test_a_wrong_option_is_answered_as_on_the_command_line() -> None:
    with pytest.raises(UsageError, match="Did you mean 'epochs'"):
        bvae_cli.train(epoch=3)
    with pytest.raises(UsageError, match="at least 1"):
        bvae_cli.train(epochs=0)
    with pytest.raises(UsageError, match="Parameter sets that fit: 5, 7"):
        bvae_cli.train(params=0, ecc="repetition:R=3")
    with pytest.raises(UsageError, match="Did you mean 'num_samples'"):
        bvae_cli.sample("weights", num_sample=3)
    with pytest.raises(InputOutputError):
        bvae_cli.load("nowhere.pt")
    with pytest.raises(UsageError, match="path is empty"):
        bvae_cli.load("")
    with pytest.raises(UsageError, match="names no path"):
        bvae_cli.evaluate("")


def test_posterior_and_bits_agree(trained: TrainResult, rows: np.ndarray) -> None:
    model = bvae_cli.load(trained.folder)
    posterior = model.posterior(rows)
    assert posterior.shape == (60, 4)
    assert bool(((posterior > 0) & (posterior < 1)).all())
    assert torch.equal(model.encode(rows), (posterior > 0.5).float())


def test_information_bits_decode_to_probabilities_by_way_of_their_codeword(trained: TrainResult) -> None:
    model = bvae_cli.load(trained.folder)
    bits = [[0, 1, 0, 1], [1, 1, 1, 1]]
    decoded = model.decode(bits)
    assert decoded.shape == (2, 12)
    assert torch.allclose(decoded, model.network.decode(torch.tensor(bits).repeat(1, 3).float()))
    with pytest.raises(UsageError, match="4 information bits; the rows hold 3"):
        model.decode([[0, 1, 0]])


def test_samples_depend_on_their_seed_alone(trained: TrainResult) -> None:
    model = bvae_cli.load(trained.folder)
    torch.manual_seed(1)
    first = model.sample(5, seed=3)
    torch.manual_seed(2)
    assert torch.equal(first.rows, model.sample(5, seed=3).rows)
    assert not torch.equal(first.rows, model.sample(5, seed=4).rows)
    assert torch.equal(first.codewords, model.code.encode(first.information_bits))


def test_the_bounds_of_a_row_lie_below_its_likelihood_in_expectation(trained: TrainResult, rows: np.ndarray) -> None:
    model = bvae_cli.load(trained.folder)
    exact = model.log_likelihood(rows)
    bound = model.log_likelihood_bound(rows, samples=2000)
    elbo = torch.stack([model.elbo(rows, seed=seed) for seed in range(400)]).mean(0)
    assert exact.shape == bound.shape == elbo.shape == (60,)
    assert torch.allclose(bound, exact, atol=0.05)
    assert bool((elbo < exact + 0.05).all())


def test_rows_can_be_lists_arrays_and_tensors(trained: TrainResult, rows: np.ndarray) -> None:
    model = bvae_cli.load(trained.folder)
    expected = model.posterior(rows)
    for same in (rows.tolist(), torch.from_numpy(rows), rows.astype("float64")):
        assert torch.equal(model.posterior(same), expected)


@pytest.mark.parametrize("shape", [(12,), (2, 11), (1, 2, 12)])
def test_rows_of_another_shape_are_refused(trained: TrainResult, shape: tuple[int, ...]) -> None:
    model = bvae_cli.load(trained.folder)
    for call in (model.posterior, model.encode, model.log_likelihood, model.log_likelihood_bound, model.elbo):
        with pytest.raises(UsageError, match="rows of 12 values"):
            call(np.zeros(shape))


def test_the_configuration_of_the_run_is_at_hand(trained: TrainResult) -> None:
    assert bvae_cli.load(trained.folder).config["decides"]["epochs"] == 4


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.1, 1.5, 255])
def test_rows_outside_of_what_a_model_is_trained_on_are_refused(trained: TrainResult, rows: np.ndarray, bad: float) -> None:
    model = bvae_cli.load(trained.folder)
    values = rows.astype("float64")
    values[3, 2] = bad
    for call in (model.posterior, model.encode, model.log_likelihood, model.log_likelihood_bound, model.elbo):
        with pytest.raises(UsageError, match="not in 0…1"):
            call(values)


@pytest.mark.parametrize("what", ["abc", None, [[0, 1], [1]], [["a"] * 12], object()])
def test_what_is_no_array_is_refused(trained: TrainResult, what: object) -> None:
    model = bvae_cli.load(trained.folder)
    for call in (model.encode, model.decode):
        with pytest.raises(UsageError, match="cannot be read as rows of numbers"):
            call(what)


@pytest.mark.parametrize("bad", [0.5, 2, -1, float("nan")])
def test_only_bits_are_decoded(trained: TrainResult, bad: float) -> None:
    model = bvae_cli.load(trained.folder)
    with pytest.raises(UsageError, match="no bits"):
        model.decode([[0, 1, bad, 1]])
    with pytest.raises(UsageError, match="4 information bits"):
        model.decode(1)


@pytest.mark.parametrize("count", [0, -1, 2.5, True, "3"])
def test_numbers_of_draws_are_whole_and_positive(trained: TrainResult, rows: np.ndarray, count: object) -> None:
    model = bvae_cli.load(trained.folder)
    with pytest.raises(UsageError, match="count must be a whole number of at least 1"):
        model.sample(count)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="samples must be a whole number of at least 1"):
        model.log_likelihood_bound(rows, samples=count)  # type: ignore[arg-type]


def test_seeds_and_temperatures_are_checked(trained: TrainResult, rows: np.ndarray) -> None:
    model = bvae_cli.load(trained.folder)
    with pytest.raises(UsageError, match="seed"):
        model.sample(1, seed=-1)
    with pytest.raises(UsageError, match="seed"):
        model.elbo(rows, seed=2**70)
    with pytest.raises(UsageError, match="temperature"):
        model.sample(1, temperature=0)
