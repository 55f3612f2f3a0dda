"""The model card of an exported model: what it is, how it is run, and what was measured of it; nothing else is told.

Every name comes from somebody's data or folder, so it is written in a way in which Markdown shows it and does not obey it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bvae_cli import __version__, runs
from bvae_cli.config import PARAMETER_SETS, PluginRef, Sizes, TrainConfig
from bvae_cli.datasets.base import Splits
from bvae_cli.evaluation.statistics import Estimate
from bvae_cli.exporting.parts import ONNX_OPERATOR_SET
from bvae_cli.fields import main_flag, option_of
from bvae_cli.paths import readable
from bvae_cli.trained import ExportConfig
from bvae_cli.workflows.building import Rebuilt
from bvae_cli.workflows.measuring import Quality

CARD = "README.md"
# What goes into each file of ONNX.
ENTRIES = {"encoder.onnx": "x", "decoder.onnx": "codewords", "code.onnx": "information_bits"}
_NOT_MEASURED = "not measured"
# What Markdown, or the HTML in it, would take for more than a letter.
_MEANT = frozenset("\\`*_[]<>&|~$#!@:")


@dataclass(frozen=True)
class Check:
    """An output of a part of an exported model beside torch's: the largest |a − b| / (1 + |b|) over so many rows."""

    file: str
    part: str
    output: str
    rows: int
    difference: float


@dataclass(frozen=True)
class Described:
    """All that a card tells of: the model and its configuration, the data where they are there, checks and figures."""

    config: ExportConfig
    rebuilt: Rebuilt
    device: str
    splits: Splits | None
    checks: Sequence[Check]
    notes: tuple[str, ...]
    quality: Quality | None


def card_text(facts: Described) -> str:
    """Return the card, in Markdown with a head in YAML."""
    source = _source(facts)
    sections = [
        _head(facts),
        f"# A binary variational autoencoder of {escaped(source)}\n\n"
        f"Trained with bvae and the code {escaped(_code(facts).shown())} on its latent bits. What this page says of how "
        "it was trained stands in the weights; every result was measured by the program that wrote the page, and what was "
        "not measured is called so.",
        *(f"Note: {escaped(note)}" for note in facts.notes),
        _use(facts),
        _section("The model", _table(("fact", "value"), _model_rows(facts))),
        _section("The data", _table(("fact", "value"), _data_rows(facts))),
        _section("The training", _table(("fact", "value"), _training_rows(facts)), _command(facts)),
        _section("Figures", _figures(facts)),
        _section("Checks", _checks(facts)),
    ]
    return "\n\n".join(sections) + "\n"


def escaped(text: object) -> str:
    r"""Return a text for a line of Markdown, in which nothing of it is a mark.

    >>> print(escaped("two\nlines, <b>a | b</b> and [a](http://b)"))
    two\\nlines, \<b\>a \| b\</b\> and \[a\](http\://b)
    """
    return "".join(f"\\{character}" if character in _MEANT else character for character in readable(text))


def training_command(config: dict[str, Any], code: PluginRef) -> str | None:
    """Return the command that asks for a run of this configuration; None where it started from other weights.

    ``code`` is that of the configuration, with the options that tell it from others.
    """
    decides, data = config["decides"], PluginRef(type=config["data"]["type"], options=config["data"]["options"])
    if decides.get("init_from") is not None:
        return None
    sizes = tuple(decides.get(name) for name in Sizes._fields)
    number = next((number for number, known in PARAMETER_SETS.items() if known == sizes), None)
    words = ["bvae", "train", *([] if number is None else ["-n", number])]
    for name, info in TrainConfig.model_fields.items():
        default = info.get_default(call_default_factory=True)
        told = option_of(TrainConfig, name).decides and name in decides and decides[name] != default
        if told and name != "ecc" and not (number is not None and name in Sizes._fields):
            words += [main_flag(TrainConfig, name), decides[name]]
    for flag, found, usual in (("--ecc", code, "none"), ("--dataset", data, "binarized-mnist")):
        if found.label() != usual:
            words += [flag, found.label()]
    return shlex.join(readable(word) for word in words)


def _code(facts: Described) -> PluginRef:
    spec = facts.rebuilt.model.code.spec
    return PluginRef(type=facts.rebuilt.config["code"]["type"], options=spec.told_options())


def _source(facts: Described) -> str:
    data = facts.rebuilt.config["data"]
    return str(data.get("source") or data["type"])


def _head(facts: Described) -> str:
    """Return the head that a hub of models reads; no name of anybody is in it."""
    tags = ["binary-latent", "variational-autoencoder", "error-correcting-code", facts.config.to]
    lines = ["---", "library_name: bvae", "tags:", *(f"- {tag}" for tag in tags)]
    if facts.quality is not None:
        exact = [] if facts.quality.bounds.log_likelihood is None else ["log-likelihood"]
        # A hub lists the names alone: of a cross-entropy they would be wrong.
        measured = ["elbo", "iwae", "kl", *exact] if facts.quality.is_likelihood else ["kl"]
        lines += ["metrics:", *(f"- {name}" for name in measured)]
    return "\n".join([*lines, "---"])


def _use(facts: Described) -> str:
    model, to = facts.rebuilt.model, facts.config.to
    sizes = f"D = {model.features}, N = {model.code.n}, K = {model.code.k}"
    if to == "onnx":
        rows = [(check.file, f"`{ENTRIES[check.file]}`", f"`{check.output}`") for check in facts.checks]
        return _section(
            "How to run it",
            f"{sizes}; any number of rows at once, float32. Logits are log p(1)/p(0); bits and codewords are 0 and 1. The "
            f"operators are those of ONNX's set {ONNX_OPERATOR_SET}.",
            _table(("file", "takes", "gives"), rows),
            _fenced("python", _ONNX_EXAMPLE.format(features=model.features)),
        )
    name = runs.EXPORTED_WEIGHTS[to]
    return _section(
        "How to run it",
        f"`bvae evaluate`, `bvae sample --weights` and `bvae encode` take this folder, or {escaped(name)} in it; so does "
        f"`bvae_cli.load`. {sizes}.",
        _fenced("python", _WEIGHTS_EXAMPLES[to]),
        _without_bvae(facts),
    )


def _without_bvae(facts: Described) -> str:
    """Say how the networks are made of the weights: multilayer perceptrons, whose last numbers the likelihood takes."""
    decides, likelihood = facts.rebuilt.config["decides"], facts.rebuilt.model.likelihood
    if decides.get("network", "mlp") != "mlp":
        return "Its networks are convolutions: they are made again by `bvae_cli.load`, or exported as ONNX."
    named = facts.rebuilt.config["decides"]["activation"]
    activation = "leaky-relu (slope 0.2 below 0)" if named == "leaky-relu" else escaped(named)
    return (
        f"Without bvae: the encoder takes {likelihood.seen} − `encoder.mean` through the layers "
        f"`encoder.layers.0`, `.2`, … (`weight`, `bias`), with the activation {activation} between them, to logits of the N "
        "code bits; the decoder takes 2c − 1 of a codeword c in the same way through `decoder.layers`, to "
        f"{likelihood.given}."
    )


_ONNX_EXAMPLE = """\
import numpy, onnxruntime

encoder = onnxruntime.InferenceSession("encoder.onnx")
rows = numpy.zeros((2, {features}), dtype=numpy.float32)
outputs = dict(zip((output.name for output in encoder.get_outputs()), encoder.run(None, {{"x": rows}})))"""
_WEIGHTS_EXAMPLES = {
    "safetensors": 'from safetensors.torch import load_file\n\nweights = load_file("model.safetensors")',
    "torch": 'import torch\n\nweights = torch.load("model.pt", weights_only=True)["weights"]',
}


def _model_rows(facts: Described) -> list[tuple[str, object]]:
    model, config = facts.rebuilt.model, facts.rebuilt.config
    decides, code = config["decides"], model.code
    distance = "not known" if code.min_distance is None else code.min_distance
    return [
        ("code", f"{_code(facts).shown()} of {config['code']['distribution']} {config['code']['version']}"),
        ("latent size N, code bits", code.n),
        ("information bits K", code.k),
        ("minimum distance of the code", distance),
        ("soft decoding", code.spec.soft_decoding()),
        ("values in a row D", model.features),
        ("likelihood", repr(model.likelihood) if model.likelihood.extra_repr() else model.likelihood.name),
        ("networks", _networks(decides)),
        ("activation", decides.get("activation")),
        ("parameters", f"{sum(parameter.numel() for parameter in model.parameters()):,}"),
    ]


def _networks(decides: dict[str, Any]) -> str:
    hidden, depth, network = decides.get("hidden"), decides.get("depth"), decides.get("network", "mlp")
    if network == "mlp":
        return f"{depth} hidden layers of {hidden} in encoder and in decoder"
    return (
        f"{network}: pictures halved {depth} times, {decides.get('channels', 32)} channels at first, {hidden} hidden units"
    )


def _data_rows(facts: Described) -> list[tuple[str, object]]:
    data = facts.rebuilt.config["data"]
    rows: list[tuple[str, object]] = [
        ("trained on", PluginRef(type=data["type"], options=data["options"]).shown()),
        ("source", data.get("source", "not stated")),
        ("licence of the data", data.get("licence", "not stated")),
        ("sha256 of the values", data["digest"]),
    ]
    if facts.splits is None:
        return [*rows, ("rows", f"{_NOT_MEASURED}: the data were not there")]
    if facts.config.dataset is not None:
        rows += [("measured on", _measured_on(facts)), ("sha256 of these values", facts.splits.digest())]
    splits = facts.splits
    counts = f"{len(splits.train):,} training, {len(splits.validation):,} validation, {len(splits.test):,} test"
    subset = facts.rebuilt.config["decides"].get("subset")
    return [*rows, ("rows", counts), *([("trained on the first", f"{subset} of the training rows")] if subset else [])]


def _training_rows(facts: Described) -> list[tuple[str, object]]:
    config = facts.rebuilt.config
    decides, made = config["decides"], config.get("made_with")
    told = ("estimator", "sampling", "seed", "epochs", "batch_size", "lr", "beta_max", "precision")
    rows: list[tuple[str, object]] = [(name.replace("_", " "), decides[name]) for name in told if name in decides]
    if isinstance(made, dict):
        rows.append(("made with", ", ".join(f"{name} {made[name]}" for name in ("bvae", "torch", "python") if name in made)))
    run = runs.Run(facts.rebuilt.weights.parent)
    result = run.result()
    if run.state() == "finished" and result is not None and (run.config() or {}).get("digest") == config.get("digest"):
        rows.append(
            ("ended", f"{result.get('reason')}; best epoch {result.get('best_epoch')}, as the run's result.json says")
        )
    return rows


def _command(facts: Described) -> str:
    command = training_command(facts.rebuilt.config, _code(facts))
    if command is None:
        return "It started from other weights; the command is not known."
    return "The command that asks for this run:\n\n" + _fenced("sh", command)


def _figures(facts: Described) -> str:
    quality = facts.quality
    if quality is None:
        return f"{_NOT_MEASURED.capitalize()}: the data were not there."
    bounds, latent, meant = quality.bounds, quality.latent, quality.meaning
    rows: list[tuple[object, ...]] = [
        ("ELBO, nats", *_figure(bounds.elbo, 2), meant("elbo")),
        (f"IWAE-{bounds.iwae_samples}, nats", *_figure(bounds.iwae, 2), meant("iwae")),
    ]
    if bounds.log_likelihood is not None:
        rows.append(("log p(x), nats", *_figure(bounds.log_likelihood, 2), meant("log_likelihood")))
    rows += [
        ("KL, nats", *_figure(bounds.kl, 2), meant("kl")),
        ("bits/dim", *_figure(bounds.bits_per_dim, 4), meant("bits_per_dim")),
        ("active bits", f"{latent.active_bits} of {latent.information_bits}", "", "variance of σ(λ) above 0.01"),
        ("inference BER", *_figure(quality.inference.bit_error_rate, 4), "wrong bits when it reads its own samples"),
    ]
    return (
        f"Means over {quality.rows:,} {quality.split} rows of {escaped(_measured_on(facts))}, with standard errors over the "
        f"rows, measured when this was written: bvae {__version__}, torch {escaped(torch.__version__)}, "
        f"{escaped(facts.device)}, seed {facts.config.seed}.\n\n{_table(('quantity', 'value', '± s.e.', 'meaning'), rows)}"
    )


def _checks(facts: Described) -> str:
    rows = [
        (check.file, check.part, f"`{check.output}`", f"{check.rows:,}", f"{check.difference:.2g}") for check in facts.checks
    ]
    ran = "onnxruntime ran the files" if facts.config.to == "onnx" else "The file was read again, and its model run"
    of = "drawn at random" if facts.splits is None else f"of the {facts.config.split} split"
    most = f"{facts.config.tolerance:g}"
    return (
        f"{ran} on rows {of}, beside torch. The difference is the largest |a − b| / (1 + |b|); at most {most} is let "
        f"through.\n\n{_table(('file', 'part', 'output', 'rows', 'difference'), rows)}"
    )


def _measured_on(facts: Described) -> str:
    data = facts.rebuilt.config["data"]
    return (facts.config.dataset or PluginRef(type=data["type"], options=data["options"])).shown()


def _figure(estimate: Estimate, digits: int) -> tuple[str, str]:
    error = "" if estimate.standard_error is None else f"{estimate.standard_error:.{digits}f}"
    return f"{estimate.mean:.{digits}f}", error


def _section(title: str, *paragraphs: str) -> str:
    return "\n\n".join([f"## {title}", *paragraphs])


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table whose cells are texts of anybody; those in backticks are names of ours."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(_cell, row))} |" for row in rows)])


def _cell(value: object) -> str:
    text = str(value)
    ours = text.startswith("`") and text.endswith("`") and text.strip("`").isidentifier()
    return text if ours else escaped(text)


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"
