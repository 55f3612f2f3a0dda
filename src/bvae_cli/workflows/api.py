"""The Python API: ``train``, ``compare``, ``sample``, ``evaluate``, ``load``, with the command line's options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from bvae_cli import devices
from bvae_cli.arms import CompareConfig
from bvae_cli.comparisons import Comparison
from bvae_cli.config import SampleConfig, TrainConfig
from bvae_cli.errors import UsageError
from bvae_cli.fields import validated
from bvae_cli.model.bvae import BinaryVAE, Samples
from bvae_cli.model.objective import elbo, iwae, log_likelihood
from bvae_cli.workflows.building import load_model
from bvae_cli.workflows.compare import CompareObserver
from bvae_cli.workflows.compare import compare as _compare
from bvae_cli.workflows.measuring import Quality, measure
from bvae_cli.workflows.sample import SampleResult
from bvae_cli.workflows.sample import sample as _sample
from bvae_cli.workflows.train import Observer, TrainResult
from bvae_cli.workflows.train import train as _train

__all__ = [
    "CompareObserver",
    "Comparison",
    "Observer",
    "TrainResult",
    "TrainedModel",
    "compare",
    "evaluate",
    "load",
    "sample",
    "train",
]


def train(*, observer: Observer | None = None, overwrite: bool = False, **options: Any) -> TrainResult:
    """Train a model; ``options`` are the fields of ``TrainConfig``, each with its default.

    A code and a data set are written as on the command line, ``ecc="repetition:R=3"``. Raises UsageError for a wrong
    option, InputOutputError, DivergedError (best weights kept).
    """
    return _train(validated(TrainConfig, options, "train"), observer, overwrite)


def compare(*, observer: CompareObserver | None = None, **options: Any) -> Comparison:
    """Compare arms over seeds; ``options`` are the fields of ``CompareConfig``, as ``ecc="repetition:R=3", seeds=8``.

    Writes what the command line does but the report, which ``bvae report`` draws of the folder. Raises UsageError,
    InterruptedRunError (everything finished is kept), DivergedError, InputOutputError.
    """
    return _compare(validated(CompareConfig, options, "compare"), observer)


def sample(weights: Path | str, **options: Any) -> SampleResult:
    """Write samples of a trained model beside its weights and measure it; ``options`` are fields of ``SampleConfig``."""
    return _sample(validated(SampleConfig, {**options, "weights": weights}, "sample"), frozenset(options))


def evaluate(weights: Path | str, **options: Any) -> Quality:
    """Measure a trained model; ``options`` are fields of ``SampleConfig``, as ``split="test"``."""
    return measure(validated(SampleConfig, {**options, "weights": weights}, "evaluate"), frozenset(options))


def load(path: Path | str, device: str = "auto") -> TrainedModel:
    """Return the model that a run's folder or a weights file holds.

    Raises InputOutputError for a file that cannot be read, PluginError where its code is missing or has changed.
    """
    rebuilt = load_model(Path(path), devices.choose(device, "off").device)
    return TrainedModel(rebuilt.model, rebuilt.config)


class TrainedModel:
    """A trained model: images to bits and back, samples, and bounds of the log-likelihood.

    Rows are anything that ``torch.as_tensor`` takes, ``[rows, D]`` with values in [0, 1]; results are float tensors on
    the model's device.
    """

    def __init__(self, network: BinaryVAE, config: dict[str, Any]) -> None:
        self.network = network
        self.config = config

    @property
    def code(self) -> Any:
        """The code on the latent bits: ``n``, ``k``, ``encode``, ``decode``, ``soft_decode``."""
        return self.network.code

    @torch.no_grad()
    def posterior(self, rows: Any) -> Tensor:
        """Posterior probabilities of the information bits, ``[rows, D] -> [rows, K]``."""
        return self.network.encode(self._rows(rows)).logits.sigmoid()

    @torch.no_grad()
    def encode(self, rows: Any) -> Tensor:
        """Most probable information bits, ``[rows, D] -> [rows, K]``."""
        return self.network.encode(self._rows(rows)).information_bits

    @torch.no_grad()
    def decode(self, information_bits: Any) -> Tensor:
        """Probabilities of the features of information bits, ``[rows, K] -> [rows, D]``."""
        bits = torch.as_tensor(information_bits, device=self._device).to(torch.float32)
        if bits.shape[-1] != self.code.k:
            raise UsageError(f"This model has {self.code.k} information bits; the rows hold {bits.shape[-1]}.")
        return self.network.decode(self.code.encode(bits))

    def sample(self, count: int, seed: int = 0, temperature: float = 1.0) -> Samples:
        """Draw from the model; the same seed gives the same samples."""
        return self.network.sample(count, self._generator(seed), temperature)

    @torch.no_grad()
    def log_likelihood_bound(self, rows: Any, samples: int = 64, seed: int = 0) -> Tensor:
        """IWAE-S of each row in nats, ``[rows, D] -> [rows]``: in expectation between the ELBO and log p(x)."""
        return iwae(self.network, self._rows(rows), samples, self._generator(seed))

    @torch.no_grad()
    def elbo(self, rows: Any, seed: int = 0) -> Tensor:
        """Evidence lower bound of each row in nats, ``[rows, D] -> [rows]``."""
        return elbo(self.network, self._rows(rows), self._generator(seed))

    @torch.no_grad()
    def log_likelihood(self, rows: Any) -> Tensor:
        """Exact log p(x) of each row in nats; raises UsageError for more than 16 information bits."""
        return log_likelihood(self.network, self._rows(rows))

    @property
    def _device(self) -> torch.device:
        return self.network.encoder.mean.device

    def _generator(self, seed: int) -> Generator:
        return Generator(self._device).manual_seed(seed)

    def _rows(self, rows: Any) -> Tensor:
        tensor = torch.as_tensor(rows, device=self._device).to(torch.float32)
        if tensor.ndim != 2 or tensor.shape[1] != self.network.features:
            raise UsageError(
                f"This model takes rows of {self.network.features} values; got an array of shape {tuple(tensor.shape)}."
            )
        return tensor
