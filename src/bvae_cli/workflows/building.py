"""From plain arguments to a model on a device, and from weights back to one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bvae_cli import devices, registry, runs
from bvae_cli.codes.base import Code
from bvae_cli.config import NETWORKS, VALUES, VALUES_IN_WORDS, LikelihoodName, PluginRef, TrainConfig, fitting
from bvae_cli.datasets.base import Splits
from bvae_cli.datasets.resident import ResidentBits
from bvae_cli.datasets.rows import Rows
from bvae_cli.errors import BvaeError, InputOutputError, PluginError, UsageError, is_out_of_memory
from bvae_cli.model.bvae import BinaryVAE
from bvae_cli.model.convolutions import picture_of, sizes_of
from bvae_cli.model.likelihoods import Beginning, outlined
from bvae_cli.model.networks import ACTIVATIONS, Architecture

# The rest of a GPU's memory is for models and batches.
_SHARE_OF_MEMORY_FOR_ROWS = 0.25
_MOST_PLACES = 2**26
# A picture that is halved so often would be larger than any.
_DEEPEST = 64
_DATA_FACTS = {"type", "options", "digest"}


@dataclass(frozen=True)
class Rebuilt:
    """A model made of saved weights, the configuration that stands beside them, and where they were."""

    model: BinaryVAE
    config: dict[str, Any]
    weights: Path

    @property
    def label(self) -> str:
        """The code with its options."""
        return PluginRef(type=self.config["code"]["type"], options=self.config["code"]["options"]).shown()


def placed(rows: Tensor | Rows, device: str) -> Tensor | Rows:
    """Bring the rows of a split to a device.

    Bits in a file go to a GPU packed, where that takes at most a quarter of its memory: steps that ask nothing of the host
    can be recorded. Other rows in a file stay there.
    """
    if isinstance(rows, Rows) and rows.dtype is torch.uint8 and device.startswith("cuda"):
        memory = devices.memory_bytes(device) or 0
        if ResidentBits.bytes_of(rows) <= _SHARE_OF_MEMORY_FOR_ROWS * memory:
            return ResidentBits.of(rows, device)
    return rows.to(device)


def new_model(code: Code, beginning: Beginning, architecture: Architecture, seed: int) -> BinaryVAE:
    """Return a model with fresh weights, the same on every device; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BinaryVAE(code, beginning, architecture)


def architecture_of(config: TrainConfig, splits: Splits, likelihood: str) -> Architecture:
    """Return the networks of a run. Raises UsageError where convolutions are asked for and rows are no pictures."""
    picture = None
    if config.network != "mlp":
        if likelihood == "categorical":
            raise UsageError("Convolutions are for pictures, not for symbols.", "Take --network mlp.")
        picture = picture_of(splits.feature_shape, splits.features)
        sizes_of(picture, config.sizes.depth)
    hidden, _, depth = config.sizes
    return Architecture(hidden, depth, config.activation, config.network, config.channels, picture)


def code_identity(reference: PluginRef, code: Code) -> dict[str, Any]:
    """Return what a checkpoint keeps of its code: who made it, its options and a digest of its map."""
    origin = registry.origins("code", reference.type)[0]
    return {
        "type": reference.type,
        "options": reference.options,
        "n": code.n,
        "k": code.k,
        "digest": code.digest(),
        "distribution": origin.distribution,
        "version": origin.version,
    }


def build_code(reference: PluginRef, n: int) -> Code:
    """Return the code of a latent of ``n`` code bits.

    Raises UsageError for what does not fit, PluginError where the code's own program fails.
    """
    spec = reference.spec("code")
    with registry.blaming("code", reference.type):
        code: Code = spec.build(n)
        code.digest()
    return code


def load_splits(reference: PluginRef, likelihood: str = "auto", *, one_pass: bool = False) -> Splits:
    """Return the data, read for a likelihood where one is named, and with little memory for one who needs them once.

    Raises InputOutputError where it cannot be read, PluginError where its own program fails.
    """
    spec = reference.spec("data set")
    with registry.blaming("data set", reference.type):
        spec = spec.for_likelihood(likelihood)
        splits: Splits = (spec.for_one_pass() if one_pass else spec).load()
        problem = splits.problem()
    if problem is not None:
        origin = registry.origins("data set", reference.type)[0]
        raise PluginError(
            f"The data set '{reference.type}' of {origin} gave {problem}.",
            registry.hint_of_mistake("data set", reference.type),
        )
    return splits


def require_fitting(likelihood: str, best: LikelihoodName, source: str) -> None:
    """Raise UsageError where a likelihood is not one of values such as those that ``best`` fits, of the data ``source``."""
    *others, last = fitting(best)
    if likelihood not in (*others, last):
        named = f"{', '.join(others)} or {last}" if others else last
        raise UsageError(
            f"The values of {source} are {VALUES_IN_WORDS[VALUES[best]]}: the likelihood {likelihood} is of others.",
            f"They fit --likelihood {named}; data of your own are read for the one that is named.",
        )


def grey_note(likelihood: str, rows: Tensor | Rows) -> str | None:
    """Return what must be known where values between 0 and 1 are told by probabilities of bits; None where they are not."""
    if likelihood != "bernoulli" or rows.dtype == torch.uint8:
        return None
    return (
        "The values lie between 0 and 1, and the likelihood bernoulli is normalised over bits alone: bounds, log p(x) and "
        "bits/dim are of a cross-entropy, which orders models of these rows and is no likelihood. Of bits, or with "
        "--likelihood gaussian, it is one."
    )


def require_same_symbols(rebuilt: Rebuilt, splits: Splits) -> None:
    """Raise UsageError where data have other symbols than those that a model was trained on."""
    known = rebuilt.config["data"].get("vocabulary", [])
    if splits.vocabulary and list(splits.vocabulary) != known:
        raise UsageError(
            f"The symbols of {splits.source} are not those that the model in {rebuilt.weights} was trained on.",
            "Read it with the vocabulary of the training.",
        )
    categories = getattr(rebuilt.model.likelihood, "categories", ())
    for column, (found, most) in enumerate(zip(splits.categories, categories, strict=False), start=1):
        if found > most:
            raise UsageError(
                f"Column {column} of {splits.source} has the symbol {found - 1}; the model in {rebuilt.weights} knows 0 to "
                f"{most - 1}.",
                "Train on data that have every symbol.",
            )


def load_model(path: Path, device: str = "cpu") -> Rebuilt:
    """Build the model that a weights file or a run's folder holds.

    Raises InputOutputError for a file that cannot be read, PluginError where its code is not installed or has changed.
    """
    weights = runs.weights_file(path)
    checkpoint = runs.load_checkpoint(weights)
    code_facts = checkpoint.config["code"]
    if missing := _DATA_FACTS - checkpoint.config["data"].keys():
        raise InputOutputError(
            f"{weights} does not say what it was trained on: there is no {sorted(missing)[0]} of its data.",
            "Give a file that `bvae train` wrote.",
        )
    try:
        width = checkpoint.weights["encoder.mean"].numel()
        begins = _outlined_as(checkpoint.config, width)
        architecture = _architecture_of(checkpoint.config, begins)
        _require_shapes(checkpoint.weights, begins, architecture, code_facts["n"])
        model = BinaryVAE(_same_code(code_facts, weights), begins, architecture)
        model.load_state_dict(checkpoint.weights)
    except (RuntimeError, KeyError, TypeError) as error:
        if is_out_of_memory(error):
            raise
        raise InputOutputError(
            f"The weights in {weights} do not fit the model that the file describes ({type(error).__name__}).",
            "The file is damaged: train again, or restore it.",
        ) from None
    return Rebuilt(model.to(device).eval(), checkpoint.config, weights)


def likelihood_of(config: dict[str, Any]) -> str:
    """Return the likelihood that a model's configuration tells of: one that was named, else that of its data."""
    name: str = config["decides"].get("likelihood", config["data"].get("likelihood", "bernoulli"))
    return name


def _outlined_as(config: dict[str, Any], width: int) -> Beginning:
    """Return the likelihood that a configuration tells of. Raises KeyError for one that is none, or of another width."""
    data, decides, name = config["data"], config["decides"], likelihood_of(config)
    categories, sigma = data.get("categories", []), decides.get("sigma", 0.0)
    if name == "categorical":
        of_counts = isinstance(categories, list) and all(type(count) is int and count > 0 for count in categories)
        # What a column lacks of the most symbols is padded: a lie could ask for more than the weights are.
        if not of_counts or sum(categories) != width or len(categories) * max(categories) > _MOST_PLACES:
            raise KeyError("categories")
    if name not in VALUES or not isinstance(sigma, int | float) or not 0 <= sigma < math.inf:
        raise KeyError("likelihood")
    return outlined(name, width, categories, sigma)


def _architecture_of(config: dict[str, Any], begins: Beginning) -> Architecture:
    """Return the networks that a configuration tells of. Raises KeyError for what none has."""
    decides = config["decides"]
    network, channels = decides.get("network", "mlp"), decides.get("channels", 32)
    if network not in NETWORKS or type(channels) is not int or channels < 1 or decides["activation"] not in ACTIVATIONS:
        raise KeyError("network")
    picture = None
    if network != "mlp":
        shape = config["data"].get("feature_shape")
        if not isinstance(shape, list) or not all(type(size) is int and size > 0 for size in shape):
            raise KeyError("feature_shape")
        try:
            picture = picture_of(shape, begins.likelihood.width)
            sizes_of(picture, decides["depth"] if 0 < decides["depth"] < _DEEPEST else _DEEPEST)
        except UsageError:
            raise KeyError("feature_shape") from None
    return Architecture(decides["hidden"], decides["depth"], decides["activation"], network, channels, picture)


def _require_shapes(weights: dict[str, Tensor], begins: Beginning, architecture: Architecture, latent: int) -> None:
    """Raise KeyError where weights are not those of these sizes: a model as large as somebody claims is not built first."""
    if not 0 < architecture.depth <= len(weights) or not all(values.is_floating_point() for values in weights.values()):
        raise KeyError("depth")
    width = begins.likelihood.width
    # Outlines, which take no memory.
    with torch.device("meta"):
        parts = {"encoder": architecture.encoder(width, latent), "decoder": architecture.decoder(latent, width)}
    for part, layers in parts.items():
        for name, wanted in layers.state_dict().items():
            if weights[f"{part}.layers.{name}"].shape != wanted.shape or 0 in wanted.shape:
                raise KeyError(name)


def _same_code(facts: dict[str, Any], weights: Path) -> Code:
    reference = PluginRef(type=facts["type"], options=facts["options"])
    if reference.type not in registry.names("code"):
        raise PluginError(
            f"{weights} was made with the code '{reference.type}', which is not installed.",
            f"Install {facts['distribution']} {facts['version']}: pip install '{facts['distribution']}'.",
        )
    try:
        code = build_code(reference, facts["n"])
    except BvaeError as error:
        raise PluginError(
            f"{weights} was made with {reference.shown()}, which cannot be built: {error.message}",
            f"Install {facts['distribution']} {facts['version']}.",
        ) from None
    if code.digest() != facts["digest"]:
        here = registry.origins("code", reference.type)[0]
        raise PluginError(
            f"The code '{reference.type}' is not the one that {weights} was made with: its codewords differ.",
            f"It was that of {facts['distribution']} {facts['version']}; here is {here}.",
        )
    return code
