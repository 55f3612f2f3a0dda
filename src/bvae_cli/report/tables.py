"""The tables of a comparison as text: for the terminal and for the report alike."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bvae_cli.comparisons import ArmRecord, Comparison, Effect
from bvae_cli.evaluation.metrics import in_order, metric_of, title_of
from bvae_cli.evaluation.statistics import Interval, student_interval

_SIGNIFICANT_DIGITS = 3
# Of what is measured at flip probabilities the terminal shows one quantity, and a claimed one; the report shows all.
_SHORT = (
    *("elbo", "iwae", "log_likelihood", "bitwise_surrogate", "bits_per_dim", "kl", "active_bits"),
    *("inference_bit_error_rate", "inference_active_bit_error_rate"),
)
_SHORT_AT_FLIPS = "stored_nll"
_SHORT_TAIL = ("inference_word_error_rate", "calibration_error", "sample_frechet_distance", "seconds", "parameters")


@dataclass(frozen=True)
class TextTable:
    """A title, names of columns, and cells."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def arm_table(comparison: Comparison, everything: bool = False) -> TextTable:
    """Return metrics by arm: the mean over seeds and half of its 95 % interval; the closed form where a code has one."""
    names = metric_names(comparison)
    if not everything:
        at_flips = [name for name in names if name.partition("@")[0] == _SHORT_AT_FLIPS]
        claimed = [name for name in comparison.protocol.claims if name not in (*_SHORT, *at_flips)]
        wanted = [*_SHORT, *at_flips, *claimed, *_SHORT_TAIL]
        names = [name for name in wanted if name in names]
    samples = comparison.protocol.iwae_samples
    rows = [[_with_unit(title_of(name, samples), name), *(arm_cell(arm, name) for arm in comparison.arms)] for name in names]
    columns = ["quantity", *(arm.name for arm in comparison.arms)]
    if everything:
        rows = [
            [*row, metric_of(name)[0].meant(comparison.data.is_likelihood)] for row, name in zip(rows, names, strict=True)
        ]
        columns.append("meaning")
    seeds = len(comparison.protocol.seeds)
    what = f"mean over {seeds} seeds ± half of the 95 % interval" if seeds > 1 else "one model of each arm"
    title = f"{what}; {comparison.protocol.evaluation_rows:,} test rows of {comparison.data.label}"
    return TextTable(title[0].upper() + title[1:], columns, rows)


def effect_table(comparison: Comparison, claims_only: bool = False) -> TextTable:
    """Return arm − reference, metric by metric: over seeds, over images, and what a claim comes to."""
    rows = []
    for effect in comparison.effects:
        if effect.claim or not claims_only:
            rows.append(
                [
                    effect.arm,
                    effect.reference,
                    _with_unit(title_of(effect.metric, comparison.protocol.iwae_samples), effect.metric),
                    *effect_cells(effect),
                ]
            )
    columns = ["arm", "against", "quantity", "difference [95 % over seeds]", "[95 % over images]", "ratio", "p", "p (Holm)"]
    title = "Claims: difference of arm and reference over the same seeds" if claims_only else "All differences"
    return TextTable(title, [*columns, "verdict"], rows)


def effect_cells(effect: Effect) -> list[str]:
    """Return the cells of an effect: difference with its interval, interval over images, ratio, p-values, verdict."""
    value, name = effect.paired, effect.metric
    return [
        f"{_signed(value.mean, name)} {_bounds(value.seed_interval, name)}".strip(),
        _bounds(value.image_interval, name),
        "" if value.ratio is None else f"{value.ratio.mean:.3g} {_ratio_bounds(value.ratio.interval)}".strip(),
        "" if value.p_value is None else f"{value.p_value:.2g}",
        "" if effect.adjusted_p_value is None else f"{effect.adjusted_p_value:.2g}",
        effect.verdict or ("" if effect.claim else "described only"),
    ]


def arm_cell(arm: ArmRecord, name: str) -> str:
    """Return the mean over seeds of a metric of an arm, half of its interval, and the closed form beside it.

    A seed may lack a metric, as the errors of active bits where no bit is active; it is said how many have it.
    """
    values = [run.metrics[name].mean for run in arm.runs if name in run.metrics]
    if not values:
        return "–"
    mean, interval = math.fsum(values) / len(values), student_interval(values)
    text = number(mean, name)
    if interval is not None and interval.high > interval.low:
        text += f" ± {number((interval.high - interval.low) / 2, name)}"
    if len(values) < len(arm.runs):
        text += f" ({len(values)} of {len(arm.runs)} seeds have it)"
    closed = arm.closed_forms.get(name)
    return text if closed is None else f"{text} (closed form {number(closed, name)})"


def metric_names(comparison: Comparison) -> list[str]:
    """Return every metric that was measured, in the order of the table of metrics, rising in ε."""
    return in_order({name for arm in comparison.arms for run in arm.runs for name in run.metrics})


def number(value: float, name: str) -> str:
    """Show a value of a metric: rates in percent, nats and dB with two decimals, the rest with three digits.

    >>> number(0.0123, "inference_bit_error_rate"), number(-97.123, "elbo"), number(1234567.0, "parameters")
    ('1.23 %', '-97.12', '1,234,567')
    """
    metric, _ = metric_of(name)
    if metric.unit == "share":
        return f"{100 * value:.{_SIGNIFICANT_DIGITS}g} %"
    if metric.unit in ("nats", "dB"):
        return f"{value:.2f}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{_SIGNIFICANT_DIGITS}g}"


def _with_unit(title: str, name: str) -> str:
    unit = metric_of(name)[0].unit
    return title if unit in ("", "share") else f"{title} ({unit})"


def _signed(value: float, name: str) -> str:
    """Show a difference; that of two rates is in percentage points."""
    text = number(value, name).replace(" %", " pp")
    return text if text.startswith("-") else f"+{text}"


def _bounds(interval: Interval | None, name: str) -> str:
    return "" if interval is None else f"[{_signed(interval.low, name)}, {_signed(interval.high, name)}]"


def _ratio_bounds(interval: Interval | None) -> str:
    return "" if interval is None else f"[{interval.low:.3g}, {interval.high:.3g}]"
