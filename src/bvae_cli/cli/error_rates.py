"""``bvae codes ber``: error rates of codes, measured over two channels, beside their closed forms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

from bvae_cli import registry
from bvae_cli.cli.render import percent, plain, say, show_json, show_table
from bvae_cli.codes.base import CodeSpec
from bvae_cli.errors import UsageError

_FORMATS = ("png", "svg", "pdf")


def show_error_rates(
    specs: Sequence[CodeSpec], epsilons: Sequence[float], words: int, seed: int, plot: Path | None, as_json: bool
) -> None:
    """Measure, print and draw the share of wrong information bits of codes.

    ``hard`` is a channel that flips each bit with probability ε; ``soft`` has Gaussian noise of the deviation σ at which a
    bit sent alone is wrong with probability ε.
    """
    file_format = None if plot is None else plot.suffix.removeprefix(".").lower()
    if plot is not None and file_format not in _FORMATS:
        raise UsageError(f"'{plot.suffix}' is not a format of a figure.", f"Name a file in one of: .{', .'.join(_FORMATS)}.")
    say("bvae codes ber: loading torch …")
    rates = [_rate(spec, epsilon, words, seed) for spec in specs for epsilon in sorted(epsilons)]
    if as_json:
        show_json(rates)
    else:
        _print(rates, words)
    if plot is not None and file_format is not None:
        from bvae_cli.files import write_file
        from bvae_cli.report.figures import error_rates

        write_file(plot, error_rates(rates, file_format))
        say(f"Drawn: {plot}")


def _rate(spec: CodeSpec, epsilon: float, words: int, seed: int) -> dict[str, Any]:
    from bvae_cli.evaluation.channel import measure_channel

    measured: dict[str, Any] = {"hard": None, "soft": None}
    with registry.blaming("code", spec.family):
        code = spec.build(spec.block().n)
        if spec.no_hard_decoder() is None:
            measured["hard"] = plain(measure_channel(code, epsilon, words, "hard", seed).bit_error_rate)
        if spec.no_soft_decoder() is None and 0 < epsilon < 0.5:
            measured["soft"] = plain(measure_channel(code, epsilon, words, "soft", seed).bit_error_rate)
        known = {"hard": spec.hard_bit_error_rate(epsilon), "soft": spec.soft_bit_error_rate(epsilon)}
    return {
        "code": spec.label(),
        "rate": code.rate,
        "epsilon": epsilon,
        "sigma": 1 / -NormalDist().inv_cdf(epsilon) if 0 < epsilon < 0.5 else None,
        "measured": measured,
        "closed_form": known,
    }


def _print(rates: Sequence[dict[str, Any]], words: int) -> None:
    rows = [
        [
            rate["code"],
            f"{rate['rate']:.3f}",
            percent(rate["epsilon"]),
            _measured(rate["measured"]["hard"]),
            percent(rate["closed_form"]["hard"]),
            "–" if rate["sigma"] is None else f"{rate['sigma']:.3f}",
            _measured(rate["measured"]["soft"]),
            percent(rate["closed_form"]["soft"]),
        ]
        for rate in rates
    ]
    columns = ["code", "rate", "ε", "BER of flips ± s.e.", "closed form", "σ", "BER of noise ± s.e.", "closed form"]
    show_table(columns, rows, f"Wrong information bits of {words:,} random words")


def _measured(rate: dict[str, float] | None) -> str:
    return "–" if rate is None else f"{percent(rate['mean'])} ± {percent(rate['standard_error'])}"
