"""The report of a comparison: one page that stands on its own, and its figures as files."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2

from bvae_cli.comparisons import FIGURES, PICTURE_PREFIX, REPORT, Comparison, ComparisonFolder
from bvae_cli.errors import InputOutputError
from bvae_cli.paths import readable
from bvae_cli.report import comparison_figures
from bvae_cli.report.comparison_figures import Drawing
from bvae_cli.report.figures import image_grid
from bvae_cli.report.tables import TextTable, arm_table, effect_table


@dataclass(frozen=True)
class Sheet:
    """A sheet of pictures: a file's name, a PNG, a caption and a text alternative."""

    name: str
    png: bytes
    caption: str
    alternative: str

    @property
    def base64(self) -> str:
        """The PNG as text, to stand inside a page."""
        return base64.b64encode(self.png).decode()


def write_report(folder: ComparisonFolder, comparison: Comparison) -> Path:
    """Write ``report.html`` and the figures into the comparison's folder; return where the page is.

    Everything is drawn from ``comparison`` and the pictures that were kept: nothing is trained or measured. Raises
    InputOutputError where the pictures cannot be read or the folder cannot be written.
    """
    drawings = _drawings(comparison)
    sheets = _sheets(folder, comparison)
    for drawing in (one for several in drawings.values() for one in several):
        standalone = f'<?xml version="1.0" encoding="utf-8"?>\n{drawing.svg}\n'
        folder.write(f"{FIGURES}/{drawing.name}.svg", standalone.encode())
    for sheet in sheets:
        folder.write(f"{FIGURES}/{sheet.name}.png", sheet.png)
    # A name may hold bytes that are no text; a page may not.
    return folder.write(REPORT, _page(comparison, drawings, sheets).encode(errors="replace"))


def _drawings(comparison: Comparison) -> dict[str, list[Drawing]]:
    return {
        "effect_drawings": comparison_figures.effect_drawings(comparison),
        "seed_drawings": comparison_figures.seed_drawings(comparison),
        "curve_drawings": comparison_figures.curve_drawings(comparison),
        "channel_drawings": comparison_figures.channel_drawings(comparison),
        "stored_drawings": comparison_figures.stored_drawings(comparison),
        "reliability_drawings": comparison_figures.reliability_drawings(comparison),
        "tuning_drawings": comparison_figures.tuning_drawings(comparison),
    }


def _sheets(folder: ComparisonFolder, comparison: Comparison) -> list[Sheet]:
    """Return the sheets of pictures: the test images once, then each arm's reconstructions and samples."""
    sheets: list[Sheet] = []
    shape = comparison.data.feature_shape
    epsilon = max(comparison.protocol.noise_epsilon)
    for index, arm in enumerate(comparison.arms):
        arrays = folder.arrays(index, comparison.protocol.seeds[0])
        try:
            kept = {name: arrays[PICTURE_PREFIX + name] for name in ("original", "stored", "stored_noisy", "samples")}
        except KeyError:
            raise InputOutputError(
                f"The pictures of {arm.name} are missing in {folder.folder}.", "Run the comparison again."
            ) from None
        if not sheets:
            sheets.append(
                Sheet("test_images", image_grid(kept["original"], shape), "Test images.", "The first test images.")
            )
        what = [
            ("stored", "read back without flips"),
            ("stored_noisy", f"read back after flips with ε = {epsilon:g}"),
            ("samples", "samples: the decoder's probabilities of words from the prior"),
        ]
        for name, words in what:
            sheets.append(
                Sheet(
                    f"{name}_{index}",
                    image_grid(kept[name], shape),
                    f"{arm.name}: {words}.",
                    f"Pictures of {arm.name}, {words}.",
                )
            )
    return sheets


def _page(comparison: Comparison, drawings: dict[str, list[Drawing]], sheets: list[Sheet]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bvae_cli.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: readable(value) if type(value) is str else value,  # the SVG that we drew is no such text
    )
    protocol = comparison.protocol
    seeds = f"{len(protocol.seeds)} seeds of each arm" if len(protocol.seeds) > 1 else "one model of each arm"
    return environment.get_template("comparison.html").render(
        comparison=comparison,
        version=version("bvae-cli"),
        title=" · ".join(arm.name for arm in comparison.arms),
        subtitle=f"{seeds}, measured on {protocol.evaluation_rows:,} test rows of {comparison.data.source}.",
        arms=arm_table(comparison),
        everything=arm_table(comparison, everything=True),
        claims=effect_table(comparison, claims_only=True),
        all_effects=effect_table(comparison),
        effects_explained=_effects_explained(comparison),
        tuning=_tuning_table(comparison),
        tuning_runs=sum(len(tuned.runs) for tuned in comparison.arms[0].tuning),
        how=_how(comparison),
        configuration=_configuration(comparison),
        shared=TextTable(
            "Options that all arms share",
            ["option", "value"],
            [[name, _plain(value)] for name, value in sorted(protocol.settings.items())],
        ),
        sheets=sheets,
        **drawings,
    )


def _effects_explained(comparison: Comparison) -> str:
    protocol = comparison.protocol
    claims = sum(effect.claim for effect in comparison.effects)
    if len(protocol.seeds) == 1:
        return (
            "There is one model of each arm, so that nothing can be said of training; the intervals are over images and "
            "hold for these very models."
        )
    return (
        f"Claims about training take the seed as their unit: Student's t interval of the paired differences of "
        f"{len(protocol.seeds)} seeds, the exact sign-flip permutation test, and Holm's correction over the {claims} claims "
        f"at {protocol.alpha:g}. The interval over images (bootstrap, {protocol.bootstrap_samples:,} resamples), where a "
        "quantity is one of images, takes the image as its unit: it is about these very models, and says nothing of another "
        "training."
    )


def _how(comparison: Comparison) -> list[str]:
    data, protocol = comparison.data, comparison.protocol
    lines = [
        f"Data: {data.source}, {data.training_rows:,} training, {data.validation_rows:,} validation and "
        f"{data.test_rows:,} test rows of {data.features} values; likelihood {data.likelihood}.",
        "The training split trained, the validation split chose (best epoch, early stopping"
        + (f", {', '.join(protocol.tuned)}" if protocol.tuned else "")
        + f"), and the test split, {protocol.evaluation_rows:,} rows of it, gave the bounds, the use of the bits and "
        "everything about stored images. Learning curves and tuning are of the validation split; inference errors, "
        "calibration, the channel and the samples are of as many draws from the model or the code itself.",
        f"Seeds {', '.join(map(str, protocol.seeds))}; versions: bvae {comparison.machine['bvae']}, torch "
        f"{comparison.machine['torch']}, Python {comparison.machine['python']}, {comparison.machine['system']}, measured on "
        f"{comparison.machine['device']}.",
    ]
    if data.classifier_accuracy is not None:
        lines.append(
            "The fixed classifier was trained on real images only; it recognises "
            f"{100 * data.classifier_accuracy:.2f} % of the real test rows."
        )
    return lines + [f"{arm.name}: {arm.note}" for arm in comparison.arms if arm.note]


def _configuration(comparison: Comparison) -> TextTable:
    names = sorted(
        {name for arm in comparison.arms for name in arm.settings} - set(comparison.protocol.settings) - {"seed", "ecc"}
    )
    rows: list[list[str]] = [
        ["code", *(_code(arm.settings["ecc"]) for arm in comparison.arms)],
        ["code bits N", *(str(arm.latent) for arm in comparison.arms)],
        ["information bits K", *(str(arm.information_bits) for arm in comparison.arms)],
        ["parameters", *(f"{arm.parameters:,}" for arm in comparison.arms)],
        ["FLOP an image and step", *(f"{arm.flop_per_image:,}" for arm in comparison.arms)],
        *[[name, *(_plain(arm.settings.get(name)) for arm in comparison.arms)] for name in names],
        ["chosen by tuning", *(_setting(arm.chosen) or "–" for arm in comparison.arms)],
        ["stopped", *(_stopped(run.stopped for run in arm.runs) for arm in comparison.arms)],
        ["weights of the first seed", *(arm.runs[0].folder for arm in comparison.arms)],
        ["torch", *(", ".join(sorted({run.versions["torch"] for run in arm.runs})) for arm in comparison.arms)],
    ]
    return TextTable("How the arms differ", ["", *(arm.name for arm in comparison.arms)], rows)


def _tuning_table(comparison: Comparison) -> TextTable:
    rows = []
    for arm in comparison.arms:
        for tuned in arm.tuning:
            losses = ", ".join(
                "diverged" if run.validation_loss is None else f"{run.validation_loss:.2f}" for run in tuned.runs
            )
            mean = "diverged" if tuned.mean_loss is None else f"{tuned.mean_loss:.2f}"
            epochs = ", ".join(str(run.epochs) for run in tuned.runs)
            rows.append(
                [arm.name, _setting(tuned.setting), losses, mean, epochs, "chosen" if tuned.setting == arm.chosen else ""]
            )
    columns = ["arm", "setting", "validation loss by seed (nats)", "mean", "epochs", ""]
    return TextTable("Everything that was tried", columns, rows)


def _stopped(reasons: Iterable[str]) -> str:
    listed = list(reasons)
    return "; ".join(f"{listed.count(reason)} × {reason}" for reason in dict.fromkeys(listed))


def _setting(setting: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in setting.items())


def _code(code: dict[str, Any]) -> str:
    options = ", ".join(f"{name}={value}" for name, value in code["options"].items())
    return f"{code['type']}({options})" if options else str(code["type"])


def _plain(value: Any) -> str:
    if isinstance(value, dict) and "type" in value:
        return _code(value)
    return "–" if value is None else str(value)
