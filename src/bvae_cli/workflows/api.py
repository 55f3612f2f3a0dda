"""The Python API: a function for each command that makes or measures a model; options are the commands' own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from bvae_cli import devices
from bvae_cli.arms import CompareConfig
from bvae_cli.comparisons import Comparison
from bvae_cli.config import TrainConfig
from bvae_cli.errors import UsageError, is_out_of_memory
from bvae_cli.fields import validated
from bvae_cli.files import require_new
from bvae_cli.model.bvae import BinaryVAE, Samples
from bvae_cli.model.objective import elbo, iwae, log_likelihood
from bvae_cli.trained import DecodeConfig, EncodeConfig, ExportConfig, SampleConfig, SearchConfig
from bvae_cli.workflows.building import load_model
from bvae_cli.workflows.compare import CompareObserver
from bvae_cli.workflows.compare import compare as _compare
from bvae_cli.workflows.decode import DecodeResult
from bvae_cli.workflows.decode import decode as _decode
from bvae_cli.workflows.encode import EncodeResult
from bvae_cli.workflows.encode import encode as _encode
from bvae_cli.workflows.export import ExportResult
from bvae_cli.workflows.export import export as _export
from bvae_cli.workflows.measuring import Quality, measure
from bvae_cli.workflows.observing import Observer, TrainResult
from bvae_cli.workflows.resuming import finished, unfinished
from bvae_cli.workflows.sample import SampleResult
from bvae_cli.workflows.sample import sample as _sample
from bvae_cli.workflows.search import SearchResult
from bvae_cli.workflows.search import search as _search
from bvae_cli.workflows.train import train as _train

__all__ = [
    "CompareObserver",
    "Comparison",
    "Observer",
    "TrainResult",
    "TrainedModel",
    "compare",
    "decode",
    "encode",
    "evaluate",
    "export",
    "load",
    "resume",
    "sample",
    "search",
    "train",
]


def train(*, observer: Observer | None = None, overwrite: bool = False, **options: Any) -> TrainResult:
    """Train a model; ``options`` are the fields of ``TrainConfig``, each with its default.

    A code and a data set are written as on the command line, ``ecc="repetition:R=3"``. Raises UsageError for a wrong
    option, InputOutputError, DivergedError (best weights kept).
    """
    config = validated(TrainConfig, options, "train")
    config.require_use(options)
    return _train(config, observer, overwrite)


def resume(folder: Path | str, *, observer: Observer | None = None, **options: Any) -> TrainResult:
    """Go on with the unfinished run in a folder, with the options that it was started with, but for those given here.

    A finished one is left alone. Raises InputOutputError where there is no run to go on with, or where what decides it has
    changed; UsageError, DivergedError, InterruptedRunError.
    """
    found = unfinished(Path(folder), options)
    if found is None:
        return finished(Path(folder))
    with found.where_it_was_started():
        return _train(found.config, observer, folder=found.folder)


def compare(*, observer: CompareObserver | None = None, **options: Any) -> Comparison:
    """Compare arms over seeds; ``options`` are the fields of ``CompareConfig``, as ``ecc="repetition:R=3", seeds=8``.

    Writes what the command line does but the report, which ``bvae report`` draws of the folder. Raises UsageError,
    InterruptedRunError (everything finished is kept), DivergedError, InputOutputError.
    """
    config = validated(CompareConfig, options, "compare")
    config.require_use(options)
    return _compare(config, observer)


def sample(weights: Path | str, **options: Any) -> SampleResult:
    """Write samples of a trained model beside its weights and measure it; ``options`` are fields of ``SampleConfig``."""
    return _sample(validated(SampleConfig, {**options, "weights": weights}, "sample"), frozenset(options))


def evaluate(weights: Path | str, **options: Any) -> Quality:
    """Measure a trained model; ``options`` are fields of ``SampleConfig``, as ``split="test"``."""
    return measure(validated(SampleConfig, {**options, "weights": weights}, "evaluate"), frozenset(options))


def encode(weights: Path | str, output: Path | str, overwrite: bool = False, **options: Any) -> EncodeResult:
    """Encode data of any size into a .npy or .parquet file; ``options`` are fields of ``EncodeConfig``, as ``split="test"``.

    Raises UsageError where the file is there already and is not to be overwritten, InputOutputError.
    """
    config = validated(EncodeConfig, {**options, "weights": weights, "output": output}, "encode")
    require_new(config.output, overwrite, config.inputs)
    return _encode(config, frozenset(options))


def export(weights: Path | str, output: Path | str, to: str, overwrite: bool = False, **options: Any) -> ExportResult:
    """Write a trained model into a folder, ``to`` being onnx, safetensors or torch.

    ``options`` are fields of ``ExportConfig``, as ``split="test"``. Raises UsageError where the folder is there already or a
    package is missing, InputOutputError, BvaeError where what is written computes something else than torch.
    """
    config = validated(ExportConfig, {**options, "weights": weights, "output": output, "to": to}, "export")
    return _export(config, frozenset(options), overwrite=overwrite)


def decode(codes: Path | str, overwrite: bool = False, **options: Any) -> DecodeResult:
    """Repair codes of a .npy or .parquet file; ``options`` are fields of ``DecodeConfig``, as ``ecc="golay", latent=240``.

    Raises UsageError where a file is there already and is not to be overwritten, InputOutputError.
    """
    config = validated(DecodeConfig, {**options, "codes": codes}, "decode")
    for path in (config.output, config.unsure):
        if path is not None:
            require_new(path, overwrite, config.inputs)
    return _decode(config, frozenset(options))


def search(codes: Path | str, query: Path | str | None = None, overwrite: bool = False, **options: Any) -> SearchResult:
    """Find the nearest codes of each query; ``options`` are fields of ``SearchConfig``, as ``neighbours=10``.

    Without ``query`` rows of a data set are encoded: name a model by its ``weights``. Raises UsageError, InputOutputError.
    """
    config = validated(SearchConfig, {**options, "codes": codes, "query": query}, "search")
    if config.output is not None:
        require_new(config.output, overwrite, config.inputs)
    return _search(config, frozenset(options))


def load(path: Path | str, device: str = "auto") -> TrainedModel:
    """Return the model that a run's folder or a weights file holds.

    Raises InputOutputError for a file that cannot be read, PluginError where its code is missing or has changed.
    """
    if not str(path):
        raise UsageError("The path is empty.", "Name a run's folder or its weights.")
    rebuilt = load_model(Path(path), devices.choose(device, "off").device)
    return TrainedModel(rebuilt.model, rebuilt.config)


class TrainedModel:
    """A trained model: rows to bits and back, samples, and bounds of the log-likelihood.

    Rows are anything that ``torch.as_tensor`` takes, ``[rows, D]`` with the values of the model's likelihood (in [0, 1]
    for Bernoulli); results are float tensors on the model's device.
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
        """Means of the features given information bits, ``[rows, K] -> [rows, D]``: of bits their probabilities."""
        bits = self._tensor(information_bits)
        if bits.ndim == 0 or bits.shape[-1] != self.code.k:
            held = bits.shape[-1] if bits.ndim else "a single number"
            raise UsageError(f"This model has {self.code.k} information bits; the rows hold {held}.")
        if not bool(((bits == 0) | (bits == 1)).all()):
            raise UsageError(
                "The rows hold values that are no bits.", "Give 0 or 1, as `encode` does; `posterior(rows) > 0.5` are bits."
            )
        return self.network.decode(self.code.encode(bits))

    def sample(self, count: int, seed: int = 0, temperature: float = 1.0) -> Samples:
        """Draw from the model; the same seed gives the same samples."""
        _require_count("count", count)
        if not (isinstance(temperature, int | float) and 0 < temperature < math.inf):
            raise UsageError(f"temperature must be a number greater than 0; got {temperature}.")
        return self.network.sample(count, self._generator(seed), temperature)

    @torch.no_grad()
    def log_likelihood_bound(self, rows: Any, samples: int = 64, seed: int = 0) -> Tensor:
        """IWAE-S of each row in nats, ``[rows, D] -> [rows]``: in expectation between the ELBO and log p(x)."""
        _require_count("samples", samples)
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
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
            raise UsageError(f"seed must be a whole number from 0 to 2^63 - 1; got {seed!r}.")
        return Generator(self._device).manual_seed(seed)

    def _rows(self, rows: Any) -> Tensor:
        tensor = self._tensor(rows)
        if tensor.ndim != 2 or tensor.shape[1] != self.network.features:
            raise UsageError(
                f"This model takes rows of {self.network.features} values; got an array of shape {tuple(tensor.shape)}."
            )
        likelihood = self.network.likelihood
        if not bool(likelihood.supports(tensor).all()):
            hint = "Scale them as the data of the training: grey values by 255." if likelihood.name == "bernoulli" else None
            raise UsageError(f"The rows hold values that are not {likelihood.support}, or NaN.", hint)
        return tensor

    def _tensor(self, values: Any) -> Tensor:
        try:
            return torch.as_tensor(values, device=self._device).to(torch.float32)
        except (TypeError, ValueError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            raise UsageError(
                f"{type(values).__name__} cannot be read as rows of numbers: {error}.",
                "Give a tensor, an array or lists of equal length.",
            ) from None


def _require_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{name} must be a whole number of at least 1; got {value!r}.")
