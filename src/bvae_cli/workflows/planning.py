"""What a training run needs, built from its configuration, and what can be said of it before the first step."""

from __future__ import annotations

import functools
import hashlib
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bvae_cli import __version__, devices, processor, registry, runs
from bvae_cli.codes.base import Code
from bvae_cli.config import TrainConfig, digest_of
from bvae_cli.datasets.base import Splits
from bvae_cli.datasets.rows import bytes_in_memory
from bvae_cli.errors import UsageError
from bvae_cli.model.arithmetic import flop_per_image
from bvae_cli.model.bvae import BinaryVAE
from bvae_cli.model.likelihoods import Beginning, beginning, outlined
from bvae_cli.model.networks import Architecture, layers_with_weights
from bvae_cli.workflows.building import (
    architecture_of,
    build_code,
    code_identity,
    grey_note,
    load_model,
    load_splits,
    new_model,
    require_fitting,
)


@dataclass(frozen=True)
class Plan:
    """What is going to be trained, and what it costs: everything that can be said before the first step."""

    device: str
    device_reason: str
    precision: str
    precision_reason: str
    products: str
    products_reason: str
    dataset: str
    source: str
    training_rows: int
    validation_rows: int
    features: int
    likelihood: str
    likelihood_note: str | None
    hidden: int
    latent: int
    depth: int
    network: str
    code: str
    information_bits: int
    rate: float
    parameters: int
    flop_per_image: int
    memory_bytes: int
    steps_per_epoch: int
    epochs: int
    patience: int
    folder: Path
    digest: str
    processes: int = 1
    # Chosen when training begins, by a measurement.
    computing: str = ""
    # Of the epoch that an unfinished run goes on with.
    resumed_step: int = 0


@dataclass(frozen=True)
class Memory:
    """Bytes that a run needs where it needs most: for its data, for its weights and states, for each row of a batch."""

    data: int
    weights: int
    row: int
    rows: int

    @property
    def whole(self) -> int:
        """What it needs in all, with its batches as they are."""
        return self.data + self.weights + self.row * self.rows

    def rows_that_fit(self, available: int) -> int:
        """Return how many rows a batch may have where so much is left after the data were loaded; 0 for none."""
        return max(0, (available - self.weights) // self.row)


@dataclass(frozen=True)
class Prepared:
    """Everything that a run needs, built from its configuration; the model itself is made when it is asked for."""

    plan: Plan
    memory: Memory
    name: str
    run: runs.Run
    config: dict[str, Any]
    splits: Splits
    new_model: Callable[[], BinaryVAE]


class SharedData:
    """Data in memory, with what runs need to know of them: found out once, however many runs there are."""

    def __init__(self, splits: Splits) -> None:
        self.splits = splits
        self._limited: dict[int, Splits] = {}
        self._beginnings: dict[tuple[int, str, float], Beginning] = {}

    @functools.cached_property
    def digest(self) -> str:
        """The digest of the splits."""
        return self.splits.digest()

    def limited(self, subset: int) -> Splits:
        """Return the splits with at most so many training rows (0 keeps them all)."""
        if subset not in self._limited:
            self._limited[subset] = self.splits.limited(subset)
        return self._limited[subset]

    def beginning(self, subset: int, likelihood: str, sigma: float) -> Beginning:
        """Return where models of those training rows begin."""
        key = (subset, likelihood, sigma)
        if key not in self._beginnings:
            self._beginnings[key] = beginning(likelihood, self.limited(subset), sigma)
        return self._beginnings[key]


def prepare(config: TrainConfig, data: Splits | SharedData | None = None) -> Prepared:
    """Choose the device, load the data, build the code, and find the run's folder; nothing is written.

    ``data`` are those of ``config.dataset`` where the caller has loaded them before.
    Raises UsageError, InputOutputError or PluginError for what cannot be had.
    """
    choice = devices.choose(config.device, config.amp)
    products = processor.prepare(config.threads)
    shared = data if isinstance(data, SharedData) else SharedData(load_splits(config.dataset) if data is None else data)
    splits = shared.limited(config.subset)
    likelihood = chosen_likelihood(config, splits)
    code = build_code(config.ecc, config.sizes.latent)
    architecture = architecture_of(config, splits, likelihood)
    outline = _outline(config, code, splits, likelihood, architecture)
    weights = None if config.init_from is None else _weights_for(outline, code, config.init_from)
    identity = code_identity(config.ecc, code)
    decides = {
        **_deciding(config, likelihood, splits),
        "data": shared.digest,
        "code_digest": identity["digest"],
        "precision": choice.precision,
        "init_from": _file_digest(config.init_from),
        # Another torch may round otherwise: its run is another run. Builds of one release (+cpu, +cu130) count as one.
        "torch": torch.__version__.partition("+")[0],
    }
    digest = digest_of(decides)
    name = runs.folder_name(
        config.sizes, config.beta_max, config.lr, config.ecc.type, config.ecc.spec("code").told_options()
    )
    run = runs.open_run(config.output_dir, name, digest)
    origin = registry.origins("data set", config.dataset.type)[0]
    run_config = {
        "format": runs.FORMAT,
        "digest": digest,
        "decides": decides,
        "code": identity,
        "data": {
            "type": config.dataset.type,
            "options": config.dataset.options,
            "distribution": origin.distribution,
            "version": origin.version,
            "digest": shared.digest,
            "feature_shape": list(splits.feature_shape),
            "likelihood": splits.likelihood,
            "source": splits.source,
            "licence": splits.licence,
            **({"categories": list(splits.categories)} if splits.categories else {}),
            **({"vocabulary": list(splits.vocabulary)} if splits.vocabulary else {}),
        },
        "made_with": {
            "bvae": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "products": products.library,
        },
    }
    memory = _memory(choice.device, splits, outline, min(config.batch_size, len(splits.train)))
    what = _plan(config, choice, products, splits, outline, memory, run.folder, digest)

    def made() -> BinaryVAE:
        begins = shared.beginning(config.subset, likelihood, config.sigma)
        model = new_model(code, begins, architecture, config.seed)
        if weights is not None:
            model.load_state_dict(weights)
        model.autocast_dtype = choice.autocast_dtype
        return model

    return Prepared(what, memory, name, run, run_config, splits, made)


def chosen_likelihood(config: TrainConfig, splits: Splits) -> str:
    """Return the likelihood of a run. Raises UsageError for one that is none of its data, or has no σ to be fixed."""
    chosen = splits.likelihood if config.likelihood == "auto" else config.likelihood
    require_fitting(chosen, splits.likelihood, splits.source)
    if config.sigma and chosen != "gaussian":
        raise UsageError(f"--sigma is for the gaussian likelihood; that of {splits.source} is {chosen}.", "Leave it out.")
    return chosen


def _deciding(config: TrainConfig, likelihood: str, splits: Splits) -> dict[str, Any]:
    """Return what decides a run; a likelihood that the data say themselves is no other run where it is named."""
    decides = config.deciding()
    if likelihood == splits.likelihood:
        decides.pop("likelihood", None)
    return decides


def _told(config: TrainConfig) -> str:
    """Return the networks for a person."""
    if config.network == "mlp":
        return f"hidden {config.sizes.hidden} × {config.sizes.depth}"
    return f"{config.network}, {config.channels} channels, halved {config.sizes.depth} times, hidden {config.sizes.hidden}"


def _outline(config: TrainConfig, code: Code, splits: Splits, likelihood: str, architecture: Architecture) -> BinaryVAE:
    """Return the model without its numbers: names and shapes, which take neither memory nor time."""
    with torch.device("meta"):
        begins = outlined(likelihood, splits.features, splits.categories, config.sigma)
        return new_model(code, begins, architecture, config.seed)


def _plan(
    config: TrainConfig,
    choice: devices.Choice,
    products: processor.Products,
    splits: Splits,
    model: BinaryVAE,
    memory: Memory,
    folder: Path,
    digest: str,
) -> Plan:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    rows, batch = len(splits.train), min(config.batch_size, len(splits.train))
    return Plan(
        device=choice.device,
        device_reason=choice.device_reason,
        precision=choice.precision,
        precision_reason=choice.precision_reason,
        products=products.library,
        products_reason=products.reason,
        dataset=config.dataset.label(),
        source=splits.source,
        training_rows=rows,
        validation_rows=len(splits.validation),
        features=splits.features,
        likelihood=model.likelihood.name,
        likelihood_note=grey_note(model.likelihood.name, splits.validation),
        hidden=config.sizes.hidden,
        latent=model.code.n,
        depth=config.sizes.depth,
        network=_told(config),
        code=model.code.spec.label(),
        information_bits=model.code.k,
        rate=model.code.rate,
        parameters=parameters,
        flop_per_image=flop_per_image(model, config.estimator),
        memory_bytes=memory.whole,
        steps_per_epoch=-(-rows // batch),
        epochs=config.epochs,
        patience=config.patience,
        folder=folder,
        digest=digest,
    )


def require_memory(prepared: Prepared) -> None:
    """Raise UsageError where a run needs more memory than its device has left, saying what would fit.

    Elsewhere a step that finds no memory takes its batch in pieces; on a CPU the system may rather end the process.
    """
    plan, memory = prepared.plan, prepared.memory
    available = devices.available_bytes(plan.device)
    if available is None or memory.weights + memory.row * memory.rows <= available:
        return
    rows = memory.rows_that_fit(available)
    need = f"about {_gigabytes(memory.weights + memory.row * memory.rows)} beside its data"
    raise UsageError(
        f"This run needs {need}, and {plan.device} has {_gigabytes(available)} left.",
        f"--batch-size {rows} would fit." if rows else "Not a single row would fit: take a smaller --hidden or --latent.",
    )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.3g} GB"


def _memory(device: str, splits: Splits, model: BinaryVAE, batch: int) -> Memory:
    data = sum(bytes_in_memory(split) for split in (splits.train, splits.validation, splits.test))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Memory(data, _bytes_for_a_parameter(device) * parameters, activation_bytes(model, 1), batch)


def activation_bytes(model: BinaryVAE, batch: int) -> int:
    """Return about how many bytes a step holds for a batch: what goes into and out of the layers, and its gradient.

    The terms of the loss hold the features thrice. What a code's decoder holds is its own, and not counted.
    """
    inputs = sum(map(_inputs_of, layers_with_weights(model.encoder.layers) + layers_with_weights(model.decoder.layers)))
    return 2 * 4 * batch * (inputs + model.code.n + 3 * model.likelihood.width)


def _inputs_of(used: tuple[nn.Module, int]) -> int:
    """Return how many values a layer holds for a row: what goes into it, of a convolution what comes out of it."""
    layer, positions = used
    if isinstance(layer, nn.Linear):
        return layer.in_features
    assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    doubled = layer.stride[0] * layer.stride[1] if isinstance(layer, nn.ConvTranspose2d) else 1
    return 2 * layer.out_channels * positions * doubled


def _bytes_for_a_parameter(device: str) -> int:
    """Return the bytes of device memory that a weight of 4 bytes takes when a run takes most.

    Weight, gradient, Adam's two moments and the best weight; where the device is the machine itself, also the state that
    is kept to resume from (weight, moments, best weight), and its bytes on their way to the disk, which are there twice.
    """
    floats_at_work, floats_of_state = 5, 4
    return 4 * (floats_at_work + (3 * floats_of_state if device == "cpu" else 0))


def _weights_for(outline: BinaryVAE, code: Code, path: Path) -> dict[str, Tensor]:
    other = load_model(path)
    if other.model.code.digest() != code.digest():
        raise UsageError(
            f"{other.weights} was made with {other.label} on {other.model.code.n} code bits, not with "
            f"{code.spec.label()} on {code.n}.",
            "Weights to start from must be of the same code and sizes.",
        )
    weights = other.model.state_dict()
    shapes, wanted = ({name: tuple(v.shape) for name, v in state.items()} for state in (weights, outline.state_dict()))
    if shapes != wanted:
        raise UsageError(
            f"The weights in {other.weights} are of other sizes than the model to train.",
            "Weights to start from must be of the same data, hidden, latent and depth.",
        )
    return weights


def _file_digest(path: Path | None) -> str | None:
    return None if path is None else hashlib.sha256(runs.weights_file(path).read_bytes()).hexdigest()
