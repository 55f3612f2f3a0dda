"""The quality of a model as rows of a table: quantity, value, standard error, meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bvae_cli.cli.render import percent

if TYPE_CHECKING:
    from bvae_cli.evaluation.inference import InferenceErrors, Reconstruction
    from bvae_cli.evaluation.statistics import Estimate
    from bvae_cli.workflows.measuring import Quality

Row = tuple[str, str, str, str]

# What the likelihoods say of a reconstruction: its name, whether it is a share, and what it means.
_ERRORS = {
    "pixel_error_rate": ("reconstruction pixel errors", True, "share of wrong pixels at ½"),
    "symbol_error_rate": ("reconstruction symbol errors", True, "share of symbols that are not the most probable ones"),
    "normalised_mean_square_error": ("reconstruction error", False, "mean square, in variances of each feature"),
    "mean_absolute_error": ("reconstruction error", False, "mean absolute difference, in counts"),
}


def quality_rows(quality: Quality) -> list[Row]:
    """Return the table of a model's quality."""
    bounds, inference, latent, meant = quality.bounds, quality.inference, quality.latent, quality.meaning
    rows = [
        _row("ELBO (nats)", bounds.elbo, 2, meant("elbo")),
        _row(f"IWAE-{bounds.iwae_samples} (nats)", bounds.iwae, 2, meant("iwae")),
    ]
    if bounds.log_likelihood is not None:
        rows.append(_row("log p(x) (nats)", bounds.log_likelihood, 2, meant("log_likelihood")))
    rows += [
        _row("bits/dim", bounds.bits_per_dim, 4, meant("bits_per_dim")),
        _row("KL (nats)", bounds.kl, 2, meant("kl")),
        *_reconstruction(quality.reconstruction),
        ("active bits", f"{latent.active_bits} of {latent.information_bits}", "", "variance of σ(λ) above 0.01"),
        ("bit balance", f"{latent.bit_balance:.3f}", "", "mean |E σ(λ) − ½|: 0 is balanced"),
        ("bit entropy (bits)", f"{latent.bit_entropy:.3f}", "", "mean H₂(σ(λ)): 0 is certain"),
        _rate("inference BER", inference.bit_error_rate, "wrong bits when the model reads its own samples"),
        *_active(inference),
        _rate("inference WER", inference.word_error_rate, "words with any wrong bit"),
        ("calibration error", f"{inference.calibration_error:.4f}", "", "ECE of the bits' confidence, 10 bins"),
    ]
    return rows


def _reconstruction(measured: Reconstruction) -> list[Row]:
    name, is_share, meaning = _ERRORS[measured.error_name]
    error = _rate(name, measured.error, meaning) if is_share else _row(name, measured.error, 4, meaning)
    if measured.psnr is None:
        return [error]
    return [_row("reconstruction PSNR (dB)", measured.psnr, 2, "of the most probable word; data range 1"), error]


def _active(inference: InferenceErrors) -> list[Row]:
    rate = inference.active_bit_error_rate
    return [] if rate is None else [_rate("inference BER, active bits", rate, "the same over the active bits alone")]


def _row(name: str, estimate: Estimate, digits: int, meaning: str) -> Row:
    error = "" if estimate.standard_error is None else f"{estimate.standard_error:.{digits}f}"
    return (name, f"{estimate.mean:.{digits}f}", error, meaning)


def _rate(name: str, estimate: Estimate, meaning: str) -> Row:
    return (
        name,
        percent(estimate.mean),
        "" if estimate.standard_error is None else percent(estimate.standard_error),
        meaning,
    )
