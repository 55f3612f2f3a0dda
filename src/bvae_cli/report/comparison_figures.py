"""The figures of a comparison, each with its text alternative."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
from matplotlib.ticker import MaxNLocator

from bvae_cli.comparisons import ArmRecord, Comparison, Effect
from bvae_cli.datasets.base import unit_of
from bvae_cli.evaluation.metrics import METRICS, at, metric_of, title_of
from bvae_cli.evaluation.statistics import student_interval
from bvae_cli.paths import readable
from bvae_cli.report.tables import arm_cell, effect_cells
from bvae_cli.report.vector import INK, LINES, MARKERS, arm_colour, as_svg, new_figure, plain_log_ticks, style


@dataclass(frozen=True)
class Drawing:
    """A figure of the report: a file's name, a caption, and the SVG with its text alternative."""

    name: str
    caption: str
    svg: str


def effect_drawings(comparison: Comparison) -> list[Drawing]:
    """Forest plots: the effect on every metric with its 95 % interval over seeds (over images where there is one seed)."""
    drawings = []
    groups: list[tuple[str, str, Callable[[Effect], bool]]] = [
        ("bounds", "Likelihood and stored images, in nats", lambda effect: metric_of(effect.metric)[0].unit == "nats"),
        ("errors", "Error rates: ratio to the reference", _is_model_error),
        ("decibels", "Reconstruction, in dB", lambda effect: metric_of(effect.metric)[0].unit == "dB"),
    ]
    for name, caption, belongs in groups:
        effects = [effect for effect in comparison.effects if belongs(effect)]
        if effects:
            ratio = name == "errors"
            explained = (
                "A ratio of 1 is no difference, below 1 fewer errors than the reference."
                if ratio
                else "The gain is the difference in the direction that is better: right of 0 the arm is better."
            )
            drawings.append(
                Drawing(
                    f"effects_{name}",
                    f"{caption}. {explained} Bars are 95 % intervals over {_unit_of(comparison)}; filled marks are claims.",
                    _forest(comparison, effects, f"effects_{name}", ratio),
                )
            )
    return drawings


def seed_drawings(comparison: Comparison) -> list[Drawing]:
    """Draw the value of every seed, for each claimed metric."""
    drawings = []
    for name in comparison.protocol.claims:
        figure = new_figure(4.6, 0.55 * len(comparison.arms) + 1.1)
        axis = figure.subplots()
        scale = 100.0 if metric_of(name)[0].unit == "share" else 1.0
        for index, arm in enumerate(comparison.arms):
            values = [scale * value for value in _values(arm, name)]
            offsets = numpy.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else [0.0]
            axis.plot(
                values,
                index + numpy.asarray(offsets),
                MARKERS[index % 8],
                color=arm_colour(index),
                alpha=0.75,
                markersize=4.5,
            )
            mean, low, high = _interval([value / scale for value in values])
            axis.plot([scale * low, scale * high], [index, index], color=INK, linewidth=1.4)
            axis.plot([scale * mean], [index], "|", color=INK, markersize=11)
        axis.set_yticks(range(len(comparison.arms)), [_short(arm.name) for arm in comparison.arms])
        axis.set_ylim(len(comparison.arms) - 0.5, -0.5)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.set_xlabel(_axis_title(name, comparison))
        style(axis)
        alternative = f"{title_of(name, comparison.protocol.iwae_samples)} of every seed. " + _spoken(comparison, name)
        caption = f"{_axis_title(name, comparison)}: every seed, with the mean and its 95 % interval."
        drawings.append(Drawing(f"seeds_{_file(name)}", caption, as_svg(figure, f"seeds_{_file(name)}", alternative)))
    return drawings


def curve_drawings(comparison: Comparison) -> list[Drawing]:
    """Draw the learning curves of every seed: validation loss against the epoch, an arm a picture, on one scale."""
    every = [run.curve for arm in comparison.arms for run in arm.runs]
    low = min(min(curve.validation[-1:] + curve.training[-1:] + [min(curve.validation)]) for curve in every)
    high = max(losses[len(losses) // 10] for curve in every for losses in (curve.validation, curve.training))
    longest = max(run.epochs for arm in comparison.arms for run in arm.runs)
    drawings = []
    for index, arm in enumerate(comparison.arms):
        figure = new_figure()
        axis = figure.subplots()
        for run in arm.runs:
            numbers = range(1, len(run.curve.validation) + 1)
            axis.plot(numbers, run.curve.validation, color=arm_colour(index), linewidth=1.0, alpha=0.8)
            axis.plot(numbers, run.curve.training, color=INK, linewidth=0.6, alpha=0.35)
            if run.best_epoch:
                best = run.curve.validation[run.best_epoch - 1]
                axis.plot([run.best_epoch], [best], "o", color=arm_colour(index), markersize=3.5)
        margin = 0.05 * (high - low or 1.0)
        axis.set_ylim(low - 3 * margin, high + margin)
        axis.set_xlim(0, longest + 1)
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axis.set_xlabel("epoch")
        axis.set_ylabel(f"loss ({unit_of(comparison.data.feature_shape)})")
        axis.set_title(_short(arm.name))
        style(axis)
        best_losses, epochs = [run.validation_loss for run in arm.runs], [run.epochs for run in arm.runs]
        alternative = (
            f"Learning curves of {arm.name}, {len(arm.runs)} seeds: the best validation losses are "
            f"{min(best_losses):.2f} to {max(best_losses):.2f} nats, after {min(epochs)} to {max(epochs)} epochs."
        )
        caption = f"{arm.name}: validation loss in colour, training loss thin, the best epoch marked."
        drawings.append(Drawing(f"curves_{index}", caption, as_svg(figure, f"curves_{index}", alternative)))
    return drawings


def channel_drawings(comparison: Comparison) -> list[Drawing]:
    """Draw error rates of the codes alone against ε, measured, with the closed forms drawn in."""
    drawings = []
    for base in ("channel_bit_error_rate", "channel_word_error_rate"):
        figure = new_figure()
        axis = figure.subplots()
        epsilons = [epsilon for epsilon in comparison.protocol.noise_epsilon if epsilon > 0]
        if not epsilons:
            return []
        for index, arm in enumerate(comparison.arms):
            _draw_closed_form(axis, arm, base, epsilons, index)
            means, lows, highs = _over_epsilons(arm, base, epsilons)
            _draw_points(axis, epsilons, means, lows, highs, index, _short(arm.name))
        axis.set_xscale("log")
        if any(_values(arm, at(base, epsilon))[0] > 0 for arm in comparison.arms for epsilon in epsilons):
            axis.set_yscale("log")
        axis.set_xlabel("flip probability ε of a stored code bit")
        axis.set_ylabel(f"{METRICS[base].title} (share)")
        _finish(axis)
        at_largest = at(base, epsilons[-1])
        alternative = (
            f"{METRICS[base].title} of each arm's code against the flip probability. At ε = {epsilons[-1]:g}: "
            + _spoken(comparison, at_largest)
        )
        caption = f"{METRICS[base].title}: {METRICS[base].meaning}. Marks are measured, lines are closed forms."
        drawings.append(Drawing(base, caption, as_svg(figure, base, alternative)))
    return drawings


def stored_drawings(comparison: Comparison) -> list[Drawing]:
    """Draw what flips of stored bits do to the test images: NLL, PSNR, wrong bits, and what a classifier recognises."""
    drawings = []
    epsilons = comparison.protocol.noise_epsilon
    for base in ("stored_nll", "stored_psnr", "stored_bit_error_rate", "stored_accuracy"):
        if at(base, epsilons[0]) not in comparison.arms[0].runs[0].metrics:
            continue
        figure = new_figure()
        axis = figure.subplots()
        for index, arm in enumerate(comparison.arms):
            means, lows, highs = _over_epsilons(arm, base, epsilons)
            _draw_points(axis, epsilons, means, lows, highs, index, _short(arm.name), joined=True)
        if base == "stored_accuracy" and comparison.data.classifier_accuracy is not None:
            axis.axhline(comparison.data.classifier_accuracy, color=INK, linewidth=0.8, linestyle=":", label="real images")
        unit = METRICS[base].unit
        axis.set_xlabel("flip probability ε of a stored code bit")
        axis.set_ylabel(f"{METRICS[base].title} ({unit})")
        _finish(axis)
        name = at(base, epsilons[-1])
        alternative = (
            f"{METRICS[base].title} against the flip probability. At ε = {epsilons[-1]:g}: {_spoken(comparison, name)}"
        )
        intervals = "; 95 % intervals over seeds" if len(comparison.protocol.seeds) > 1 else ""
        caption = f"{METRICS[base].title}: {METRICS[base].meaning}{intervals}."
        drawings.append(Drawing(base, caption, as_svg(figure, base, alternative)))
    return drawings


def reliability_drawings(comparison: Comparison) -> list[Drawing]:
    """Draw the reliability diagram of every seed: accuracy of the bits against the encoder's confidence."""
    drawings = []
    for index, arm in enumerate(comparison.arms):
        figure = new_figure(4.0, 3.4)
        axis = figure.subplots()
        axis.plot([0.5, 1], [0.5, 1], color=INK, linewidth=0.8, linestyle="--")
        for run in arm.runs:
            pairs = zip(run.reliability.confidence, run.reliability.accuracy, strict=True)
            points = [(sure, right) for sure, right in pairs if sure is not None and right is not None]
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, color=arm_colour(index), linewidth=1, alpha=0.8)
        axis.set_xlabel("confidence max(σ(λ), 1 − σ(λ))")
        axis.set_ylabel("share of right bits")
        axis.set_title(_short(arm.name))
        style(axis)
        error = arm_cell(arm, "calibration_error")
        alternative = (
            f"Reliability diagram of {arm.name}: expected calibration error {error}; on the diagonal it would be 0."
        )
        caption = f"{arm.name}: expected calibration error {error}. On the dashed line confidence is deserved."
        drawings.append(Drawing(f"reliability_{index}", caption, as_svg(figure, f"reliability_{index}", alternative)))
    return drawings


def tuning_drawings(comparison: Comparison) -> list[Drawing]:
    """Draw the tuning grid, where one number was tuned: validation loss against its value."""
    if len(comparison.protocol.tuned) != 1:
        return []
    name = comparison.protocol.tuned[0]
    try:
        values = [[float(tuned.setting[name]) for tuned in arm.tuning] for arm in comparison.arms]
    except ValueError:
        return []
    figure = new_figure()
    axis = figure.subplots()
    for index, (arm, tried) in enumerate(zip(comparison.arms, values, strict=True)):
        pairs = [
            (value, tuned.mean_loss) for value, tuned in zip(tried, arm.tuning, strict=True) if tuned.mean_loss is not None
        ]
        axis.plot(
            *zip(*sorted(pairs), strict=True),
            color=arm_colour(index),
            marker=MARKERS[index % 8],
            linestyle=LINES[index % 4],
            linewidth=1.4,
            label=_short(arm.name),
        )
    if min(value for tried in values for value in tried) > 0:
        axis.set_xscale("log")
    axis.set_xlabel(_short(name))
    axis.set_ylabel("validation loss (nats)")
    _finish(axis)
    chosen = "; ".join(f"{arm.name}: {arm.chosen[name]}" for arm in comparison.arms)
    caption = f"Validation loss of every tuned value of {name}, over {len(comparison.protocol.tuning_seeds)} tuning seeds."
    return [
        Drawing("tuning", caption, as_svg(figure, "tuning", f"Tuning of {name} on the validation split. Chosen: {chosen}."))
    ]


def _is_model_error(effect: Effect) -> bool:
    """Say whether it is a ratio of errors of the models: those of the codes alone are drawn with their closed forms."""
    return effect.paired.ratio is not None and not effect.metric.startswith("channel")


def _forest(comparison: Comparison, effects: Sequence[Effect], name: str, ratio: bool) -> str:
    references = list(dict.fromkeys((effect.arm, effect.reference) for effect in effects))
    metrics = list(dict.fromkeys(effect.metric for effect in effects))
    spread = 0.26
    figure = new_figure(4.8, 0.42 * len(metrics) + 1.1 + 0.2 * len(references))
    axis = figure.subplots()
    axis.axvline(1.0 if ratio else 0.0, color=INK, linewidth=0.9)
    for effect in effects:
        which = references.index((effect.arm, effect.reference))
        height = metrics.index(effect.metric) + spread * (which - (len(references) - 1) / 2)
        mean, low, high = _ratio_of(effect) if ratio else _gain_of(effect)
        axis.plot([low, high], [height, height], color=arm_colour(which), linewidth=1.6)
        axis.plot(
            [mean],
            [height],
            MARKERS[which % 8],
            color=arm_colour(which),
            markersize=5.5,
            markerfacecolor=arm_colour(which) if effect.claim else "none",
            label=f"{_short(effect.arm)} against {_short(effect.reference)}" if effect.metric == metrics[0] else None,
        )
    axis.set_yticks(range(len(metrics)), [title_of(metric, comparison.protocol.iwae_samples) for metric in metrics])
    axis.set_ylim(len(metrics) - 0.4, -0.6)
    if ratio:
        axis.set_xscale("log")
    else:
        axis.xaxis.set_major_locator(MaxNLocator(6))
    unit = metric_of(metrics[0])[0].unit
    axis.set_xlabel("ratio of error rates" if ratio else f"gain in {unit}")
    _finish(axis, below=True)
    spoken = " ".join(
        f"{effect.arm} against {effect.reference}, {title_of(effect.metric, comparison.protocol.iwae_samples)}: "
        f"{effect_cells(effect)[0]}."
        for effect in effects
        if effect.claim
    )
    return as_svg(figure, name, f"Forest plot of {len(effects)} effects. Claims: {spoken or 'none of these.'}")


def _gain_of(effect: Effect) -> tuple[float, float, float]:
    sign = 1.0 if metric_of(effect.metric)[0].better == "higher" else -1.0
    interval = effect.paired.seed_interval or effect.paired.image_interval
    mean = sign * effect.paired.mean
    if interval is None:
        return mean, mean, mean
    low, high = sorted((sign * interval.low, sign * interval.high))
    return mean, low, high


def _ratio_of(effect: Effect) -> tuple[float, float, float]:
    ratio = effect.paired.ratio
    assert ratio is not None  # chosen by the caller
    return (
        (ratio.mean, ratio.mean, ratio.mean)
        if ratio.interval is None
        else (ratio.mean, ratio.interval.low, ratio.interval.high)
    )


def _draw_closed_form(axis: Any, arm: ArmRecord, base: str, epsilons: Sequence[float], index: int) -> None:
    """Draw the closed form over the range that was measured, and a little beyond."""
    curves = arm.closed_form_curves
    if base not in curves:
        return
    low, high = epsilons[0] / 1.5, epsilons[-1] * 1.5
    points = [(x, y) for x, y in zip(curves["epsilon"], curves[base], strict=True) if low <= x <= high and y > 0]
    if points:
        axis.plot(*zip(*points, strict=True), color=arm_colour(index), linewidth=1.2, linestyle=LINES[index % 4])


def _draw_points(
    axis: Any,
    x: Sequence[float],
    means: Sequence[float],
    lows: Sequence[float],
    highs: Sequence[float],
    index: int,
    label: str,
    joined: bool = False,
) -> None:
    for position, low, high in zip(x, lows, highs, strict=True):
        axis.plot([position, position], [low, high], color=arm_colour(index), linewidth=1.2)
    axis.plot(
        x,
        means,
        MARKERS[index % 8],
        color=arm_colour(index),
        markersize=5,
        linestyle=LINES[index % 4] if joined else "none",
        linewidth=1.2,
        label=label,
    )


def _finish(axis: Any, below: bool = False) -> None:
    for line in (axis.xaxis, axis.yaxis):
        if line.get_scale() == "log":
            plain_log_ticks(line)
    style(axis)
    handles, labels = axis.get_legend_handles_labels()
    if not labels:
        return
    place = (
        {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0)}
        if not below
        else {"loc": "lower left", "bbox_to_anchor": (-0.3, 1.0)}
    )
    axis.legend(handles, labels, frameon=False, fontsize=8.5, labelcolor=INK, borderaxespad=0.2, **place)


def _over_epsilons(arm: ArmRecord, base: str, epsilons: Sequence[float]) -> tuple[list[float], list[float], list[float]]:
    found = [_interval(_values(arm, at(base, epsilon))) for epsilon in epsilons]
    means, lows, highs = (list(values) for values in zip(*found, strict=True))
    floor = min((mean for mean in means if mean > 0), default=0.0) / 10
    return means, [max(low, floor) if METRICS[base].unit == "share" else low for low in lows], highs


def _interval(values: Sequence[float]) -> tuple[float, float, float]:
    mean, interval = math.fsum(values) / len(values), student_interval(values)
    return (mean, mean, mean) if interval is None else (mean, interval.low, interval.high)


def _values(arm: ArmRecord, name: str) -> list[float]:
    return [run.metrics[name].mean for run in arm.runs]


def _spoken(comparison: Comparison, name: str) -> str:
    return "; ".join(f"{arm.name} {arm_cell(arm, name)}" for arm in comparison.arms) + "."


def _axis_title(name: str, comparison: Comparison) -> str:
    unit = metric_of(name)[0].unit
    shown = "%" if unit == "share" else unit
    return f"{title_of(name, comparison.protocol.iwae_samples)}{f' ({shown})' if shown else ''}"


def _unit_of(comparison: Comparison) -> str:
    return "seeds" if len(comparison.protocol.seeds) > 1 else "images"


def _short(name: str) -> str:
    """Cut a long name, and escape what matplotlib would read as mathematics, or a reader of the file as no text."""
    name = readable(name)
    return (name if len(name) <= 38 else name[:37] + "…").replace("$", r"\$")


def _file(name: str) -> str:
    return name.replace("@", "_at_")
