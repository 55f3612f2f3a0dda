"""Data of every kind of values are shown, trained on and sampled from by one command each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ..outcome import Bvae

_OPTIONS = ("--hidden", 8, "--latent", 12, "--depth", 1, "--epochs", 1, "--batch-size", 16)


def _counts() -> None:
    np.save("x.npy", np.random.default_rng(0).poisson(3, (30, 6)))


def _real_values() -> None:
    np.save("x.npy", np.random.default_rng(0).normal(size=(30, 6)))


def _words() -> None:
    Path("x.txt").write_text("\n".join(f"{word:04b}" for word in range(16)))


def _nothing() -> None:
    pass


SETS: dict[str, tuple[str, str, Callable[[], None]]] = {
    "arrays, real values": ("x.npy", "gaussian", _real_values),
    "arrays, counts": ("x.npy", "poisson", _counts),
    "arrays, counts with more variance": ("x.npy", "negative-binomial", _counts),
    "arrays, symbols": ("x.npy", "categorical", _counts),
    "random-symbols": ("random-symbols:n=6,k=3,epsilon=0.05,rows=100", "auto", _nothing),
    "symbols": ("symbols:path=x.txt", "auto", _words),
    "symbols, by name": ("symbols:path=x.txt", "categorical", _words),
}


@pytest.mark.parametrize("name", SETS)
def test_it_is_trained_on_and_sampled_from(bvae: Bvae, workplace: Path, name: str) -> None:
    dataset, likelihood, write = SETS[name]
    write()
    line = ("train", "--dataset", dataset, "--likelihood", likelihood, *_OPTIONS, "--json")
    trained = bvae(*line).succeeded().json()
    assert trained["state"] == "finished"
    bvae("sample", "-w", trained["folder"], "--num-samples", 4, "--subset", 16, "--iwae-samples", 2).succeeded()


@pytest.mark.parametrize(
    "options",
    [("--likelihood", "poisson"), ("--likelihood", "negative-binomial"), ("--likelihood", "gaussian", "--sigma", 0.05)],
)
def test_a_run_on_large_values_has_not_diverged_because_guessing_costs_much(
    bvae: Bvae, workplace: Path, options: tuple[object, ...]
) -> None:
    many = np.random.default_rng(0)
    np.save("x.npy", many.poisson(1000 * many.gamma(0.5, 2.0, (60, 10))))
    trained = bvae("train", "--dataset", "x.npy", *options, *_OPTIONS, "--json").succeeded().json()
    assert (trained["state"], trained["rewinds"]) == ("finished", 0)


@pytest.mark.parametrize("mean", [1e4, 1e6])
def test_large_counts_that_hardly_vary_are_trained_on(bvae: Bvae, workplace: Path, mean: float) -> None:
    many = np.random.default_rng(0)
    rows = many.poisson(mean, (400, 12))
    rows[:, 0], rows[:, 1] = 0, 1_000_000
    np.save("x.npy", rows)
    line = ("train", "--dataset", "x.npy", "--likelihood", "poisson", *_OPTIONS[:-1], 400, "--json")
    trained = bvae(*line).succeeded().json()
    assert (trained["state"], trained["rewinds"]) == ("finished", 0)
    bvae(*line, "--lr", 10, "--output-dir", "wild").refused(5, "diverged")


def test_a_likelihood_that_does_not_fit_the_values_is_refused(bvae: Bvae, workplace: Path) -> None:
    _words()
    line = ("train", "--dataset", "symbols:path=x.txt", *_OPTIONS)
    for likelihood in ("gaussian", "poisson", "bernoulli"):
        bvae(*line, "--likelihood", likelihood).refused(2, likelihood)
