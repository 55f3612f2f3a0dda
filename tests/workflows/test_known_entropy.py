"""Where the distribution of the rows is known, so is what a model can reach: a bound is judged beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bvae_cli.config import TrainConfig
from bvae_cli.datasets.random_code import RandomCode
from bvae_cli.trained import SampleConfig
from bvae_cli.workflows.measuring import measure
from bvae_cli.workflows.train import train


@pytest.mark.slow
@pytest.mark.parametrize(("ecc", "latent"), [("none", 6), ("repetition:R=2", 12)])
def test_log_p_of_a_trained_model_is_near_the_entropy_and_the_bounds_are_below_it(
    tmp_path: Path, ecc: str, latent: int
) -> None:
    data = RandomCode(n=16, k=3, epsilon=0.05)
    config = TrainConfig(
        dataset="random-code:n=16,k=3,epsilon=0.05",  # type: ignore[arg-type]
        ecc=ecc,  # type: ignore[arg-type]
        hidden=100,
        latent=latent,
        depth=2,
        epochs=40,
        batch_size=250,
        lr=0.002,
        lr_schedule="cosine",
        beta_warmup_epochs=0,
        output_dir=tmp_path,
    )
    folder = train(config).folder
    bounds = measure(SampleConfig(weights=folder, split="test")).bounds
    entropy, best = data.entropy(), float(data.log_prob(data.load().test).mean())  # type: ignore[arg-type]
    assert bounds.log_likelihood is not None
    log_p = bounds.log_likelihood.mean
    assert abs(log_p + entropy) < 0.05 * entropy
    # On these rows nobody is above the truth but by what chance lets rows fall; nor is a bound above log p.
    assert bounds.elbo.mean < bounds.iwae.mean + 0.02
    assert bounds.elbo.mean < log_p
    assert bounds.iwae.mean < log_p + 0.01
    assert log_p < best + 0.01
