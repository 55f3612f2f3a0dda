"""Export a trained model into a folder: written, run beside torch on rows of its data, described by what was measured."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bvae_cli import files
from bvae_cli.checkpoints import FORMAT, exported_bytes, weights_bytes
from bvae_cli.datasets.base import Splits
from bvae_cli.datasets.rows import Rows, first_rows
from bvae_cli.errors import BvaeError
from bvae_cli.exporting import parts
from bvae_cli.exporting.parts import Part
from bvae_cli.exporting.tracing import NotExportableError
from bvae_cli.runs import EXPORTED_WEIGHTS
from bvae_cli.trained import ExportConfig
from bvae_cli.workflows.building import Rebuilt, grey_note, load_model
from bvae_cli.workflows.measuring import OnNote, Quality, load_alone, load_data, measure_on
from bvae_cli.workflows.model_card import CARD, Check, Described, card_text

# Everything that a folder of an export may hold.
NAMES = frozenset({CARD, "encoder.onnx", "decoder.onnx", "code.onnx", *EXPORTED_WEIGHTS.values()})
# On so many rows the exported model is run beside torch.
_CHECKED_ROWS = 1000
_DRAWN_ROWS = 256


@dataclass(frozen=True)
class ExportResult:
    """What was written, how far it is from torch, and what was measured of the model; None where its data are not there."""

    folder: Path
    format: str
    files: list[str]
    checks: list[Check]
    tolerance: float
    notes: list[str]
    weights: Path
    code: str
    quality: Quality | None
    seconds: float


def export(
    config: ExportConfig,
    named: frozenset[str] = frozenset(),
    on_note: OnNote | None = None,
    overwrite: bool = False,
) -> ExportResult:
    """Write a trained model into ``config.output``; the folder has its name only when all of it is checked.

    Raises UsageError where the folder is there already or is read, InputOutputError where weights cannot be read or the
    folder cannot be written, BvaeError where what is written computes something else than torch.
    """
    files.require_apart(config.output, config.inputs)
    files.require_new_folder(config.output, overwrite, NAMES)
    started = time.perf_counter()
    tell = on_note or (lambda note: None)
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        tell(text)

    rebuilt, device = load_alone(config, named, tell)
    files.require_apart(config.output, [rebuilt.weights])
    splits = _data_if_there(config, rebuilt, note)
    on_cpu = load_model(rebuilt.weights)
    if splits is not None and (grey := grey_note(on_cpu.model.likelihood.name, splits.split(config.split))):
        note(grey)
    x = _drawn(on_cpu) if splits is None else _some(splits, config)
    with files.new_folder(config.output, overwrite, NAMES) as folder:
        checks = _WRITERS[config.to](folder, on_cpu, x, config, note)
        quality = None if splits is None else measure_on(rebuilt, _all(splits, config).to(device), config)
        facts = Described(config, on_cpu, device, splits, checks, tuple(notes), quality)
        files.write_file(folder / CARD, card_text(facts).encode())
        written = sorted(path.name for path in folder.iterdir())
    return ExportResult(
        folder=config.output,
        format=config.to,
        files=written,
        checks=checks,
        tolerance=config.tolerance,
        notes=notes,
        weights=rebuilt.weights,
        code=rebuilt.label,
        quality=quality,
        seconds=time.perf_counter() - started,
    )


def _data_if_there(config: ExportConfig, rebuilt: Rebuilt, note: OnNote) -> Splits | None:
    """Load the data; those of the training may be gone, those that are named may not."""
    try:
        return load_data(config, rebuilt)
    except BvaeError as error:
        if config.dataset is not None:
            raise
        note(f"Nothing is measured, and the check takes rows drawn at random. {error.message}")
        return None


def _all(splits: Splits, config: ExportConfig) -> Tensor | Rows:
    return first_rows(splits.split(config.split), config.subset)


def _some(splits: Splits, config: ExportConfig) -> Tensor:
    return torch.as_tensor(_all(splits, config)[:_CHECKED_ROWS]).float()


def _drawn(rebuilt: Rebuilt) -> Tensor:
    return (torch.rand(_DRAWN_ROWS, rebuilt.model.features, generator=torch.Generator().manual_seed(0)) < 0.5).float()


@torch.no_grad()
def _inputs(rebuilt: Rebuilt, x: Tensor) -> dict[str, Tensor]:
    """Return rows for each part, by the name of what goes in: the data, the bits that they have, and their codewords."""
    bits = rebuilt.model.encode(x).information_bits
    return {"x": x, parts.BITS: bits, "codewords": rebuilt.model.code.encode(bits)}


def _write_onnx(folder: Path, rebuilt: Rebuilt, x: Tensor, config: ExportConfig, note: OnNote) -> list[Check]:
    model, inputs = rebuilt.model, _inputs(rebuilt, x)
    writer = _OnnxWriter(folder, rebuilt, inputs, config)
    try:
        checks = writer.written(parts.encoder(model))
    except NotExportableError as error:
        note(
            f"encoder.onnx goes up to the logits of the code bits: the soft decoder of {rebuilt.label} is not in it, "
            f"because {error}."
        )
        with _refused("encoder"):
            checks = writer.written(parts.encoder_alone(model))
    with _refused("decoder"):
        checks += writer.written(parts.decoder(model))
    try:
        checks += writer.written(parts.code(model))
    except NotExportableError as error:
        note(f"There is no code.onnx: the encoding of {rebuilt.label} cannot be written, because {error}.")
    return checks


@dataclass(frozen=True)
class _OnnxWriter:
    folder: Path
    rebuilt: Rebuilt
    inputs: Mapping[str, Tensor]
    config: ExportConfig

    def written(self, part: Part) -> list[Check]:
        """Write a part and run it; there is a file only of one that computes what torch does. Raises NotExportableError."""
        from bvae_cli.exporting.onnx_models import onnx_bytes, run

        name, rows = f"{part.name}.onnx", self.inputs[part.entry]
        weights = {**dict(self.rebuilt.model.named_parameters()), **dict(self.rebuilt.model.named_buffers())}
        facts = {"bvae": json.dumps({"format": FORMAT, "config": self.rebuilt.config}, sort_keys=True)}
        content = onnx_bytes(part, _at_least_three(rows), weights, facts)
        checks = _checked(name, part, rows, self.config.tolerance, run(content, rows, self.config.threads))
        files.write_file(self.folder / name, content)
        return checks


def _at_least_three(rows: Tensor) -> Tensor:
    return rows.repeat(-(-3 // len(rows)), 1)


def _checked(file: str, part: Part, rows: Tensor, tolerance: float, found: Mapping[str, Tensor]) -> list[Check]:
    """Compare a part with torch. Raises NotExportableError where it is further off than the tolerance."""
    apart = parts.differences(part, rows, found, tolerance)
    for output, difference in apart.items():
        if not difference <= tolerance:
            raise NotExportableError(
                f"its {output} would differ from torch's by {difference:.1e}, more than --tolerance {tolerance:g}"
            )
    return [Check(file, part.name, output, len(rows), difference) for output, difference in apart.items()]


@contextmanager
def _refused(what: str) -> Iterator[None]:
    try:
        yield
    except NotExportableError as error:
        raise BvaeError(
            f"The {what} cannot be exported: {error}.", "Nothing was written; --to safetensors and --to torch are exact."
        ) from None


def _write_weights(folder: Path, rebuilt: Rebuilt, x: Tensor, config: ExportConfig, note: OnNote) -> list[Check]:
    name = EXPORTED_WEIGHTS[config.to]
    contents = exported_bytes if config.to == "safetensors" else weights_bytes
    files.write_file(folder / name, contents(rebuilt.config, rebuilt.model.state_dict()))
    back, inputs = load_model(folder / name).model, _inputs(rebuilt, x)
    checks = []
    for part_of in (parts.encoder, parts.decoder):
        part = part_of(rebuilt.model)
        rows = inputs[part.entry]
        with _refused(part.name), torch.no_grad():
            checks += _checked(name, part, rows, config.tolerance, part_of(back).function(rows))
    return checks


_WRITERS: dict[str, Callable[[Path, Rebuilt, Tensor, ExportConfig, OnNote], list[Check]]] = {
    "onnx": _write_onnx,
    "safetensors": _write_weights,
    "torch": _write_weights,
}
