"""What a comparison measures of a model: one table of names, titles, units, directions and meanings.

A metric at a flip probability ε is written ``name@ε``, as ``stored_nll@0.05``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Metric:
    """A measured quantity: what it is called, in which unit, whether more of it is better, and what it means.

    ``of_grey_values`` is what it means of values between 0 and 1 that are told by probabilities of bits, if something else.
    """

    name: str
    title: str
    unit: str
    better: Better | None
    meaning: str
    of_grey_values: str = ""

    @property
    def is_rate(self) -> bool:
        """Say whether it is a share of errors, for which a ratio means something."""
        return self.unit == "share" and self.better == "lower"

    def meant(self, is_likelihood: bool) -> str:
        """Return what it means, where the likelihood of the rows is one and where it is none."""
        return self.meaning if is_likelihood else self.of_grey_values or self.meaning

    @property
    def of_images(self) -> bool:
        """Say whether it has a value for each test image, the same image for every model."""
        return self.name in _OF_IMAGES or self.name.startswith("stored_")


_OF_IMAGES = frozenset({"elbo", "iwae", "log_likelihood", "kl", "bitwise_surrogate"})
_ALL = (
    Metric(
        "elbo",
        "ELBO",
        "nats",
        "higher",
        "lower bound of log p(x): hard bits, true codewords",
        "of grey values: minus a cross-entropy, no bound of a likelihood",
    ),
    Metric(
        "iwae",
        "IWAE-{S}",
        "nats",
        "higher",
        "tighter lower bound, in expectation",
        "tighter, and no bound of a likelihood either",
    ),
    Metric(
        "log_likelihood",
        "log p(x)",
        "nats",
        "higher",
        "exact, by summing over all words",
        "summed over all words, of the cross-entropy: no likelihood",
    ),
    Metric("bits_per_dim", "bits/dim", "", "lower", "−ELBO / (D ln 2)", "of the cross-entropy: no code has this length"),
    Metric("kl", "KL", "nats", None, "what the information bits tell of a row"),
    Metric("bitwise_surrogate", "bitwise surrogate", "nats", None, "what bitwise training maximises: no bound of log p(x)"),
    Metric("active_bits", "active bits", "bits", None, "information bits whose σ(λ) varies by more than 0.01"),
    Metric("bit_balance", "bit balance", "", None, "mean |E σ(λ) − ½|: 0 is balanced"),
    Metric("bit_entropy", "bit entropy", "bits", None, "mean H₂(σ(λ)): 0 is certain"),
    Metric("inference_bit_error_rate", "inference BER", "share", "lower", "wrong bits when a model reads its own samples"),
    Metric(
        "inference_active_bit_error_rate", "inference BER, active bits", "share", "lower", "the same over active bits alone"
    ),
    Metric(
        "inference_word_error_rate", "inference WER", "share", "lower", "words with any wrong bit, read from own samples"
    ),
    Metric("calibration_error", "calibration error", "", "lower", "ECE of the bits' confidence on own samples"),
    Metric("channel_bit_error_rate", "channel BER", "share", "lower", "wrong bits of the code alone after flips"),
    Metric("channel_word_error_rate", "channel WER", "share", "lower", "words of the code alone with any wrong bit"),
    Metric("stored_bit_error_rate", "stored BER", "share", "lower", "wrong information bits of stored test images"),
    Metric("stored_nll", "stored NLL", "nats", "lower", "−log p(x given the read word) of stored test images"),
    Metric("stored_psnr", "stored PSNR", "dB", "higher", "of stored test images; data range 1"),
    Metric("stored_accuracy", "stored accuracy", "share", "higher", "decoded images that a fixed classifier recognises"),
    Metric("sample_uniqueness", "sample uniqueness", "share", "higher", "share of distinct samples (MOSES)"),
    Metric("sample_novelty", "sample novelty", "share", None, "distinct samples that are not training rows (MOSES)"),
    Metric(
        "sample_frechet_distance", "sample Fréchet distance", "", "lower", "samples to test images, classifier's features"
    ),
    Metric("epochs", "epochs", "", None, "trained until early stopping or the last"),
    Metric("seconds", "training time", "s", None, "wall clock on this machine, beside whatever else it did"),
    Metric("images_per_second", "training speed", "images/s", None, "median over the epochs"),
    Metric("parameters", "parameters", "", None, "weights and biases of encoder and decoder"),
    Metric("flop_per_image", "arithmetic", "FLOP/image", None, "of one training step, for each image"),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}

# Told in every comparison as claims of their own, corrected for their number, beside one about stored bits; the rest is
# described, not claimed.
_CLAIMED = ("iwae", "inference_bit_error_rate")
# The flip probability of the claim about stored bits: the nearest to this one that was measured, other than 0.
_CLAIMED_EPSILON = 0.05


def at(name: str, epsilon: float) -> str:
    """Name a metric at a flip probability.

    >>> at("stored_nll", 0.05)
    'stored_nll@0.05'
    """
    return f"{name}@{epsilon:g}"


def metric_of(name: str) -> tuple[Metric, float | None]:
    """Return the metric of a name and its ε, if it has one.

    >>> metric_of("stored_nll@0.05")[1]
    0.05
    """
    base, _, epsilon = name.partition("@")
    return METRICS[base], float(epsilon) if epsilon else None


def in_order(names: Iterable[str]) -> list[str]:
    """Sort metrics as the table has them, each rising in ε.

    >>> in_order(["stored_nll@0.1", "stored_nll@0.05", "elbo"])
    ['elbo', 'stored_nll@0.05', 'stored_nll@0.1']
    """
    order = {name: index for index, name in enumerate(METRICS)}
    return sorted(names, key=lambda name: (order[name.partition("@")[0]], metric_of(name)[1] or 0.0))


def title_of(name: str, iwae_samples: int) -> str:
    """Return how a metric is shown, with its number of draws or its ε.

    >>> title_of("iwae", 64), title_of("stored_nll@0.05", 64)
    ('IWAE-64', 'stored NLL, ε = 0.05')
    """
    metric, epsilon = metric_of(name)
    title = metric.title.format(S=iwae_samples)
    return title if epsilon is None else f"{title}, ε = {epsilon:g}"


def claimed_metrics(epsilons: list[float]) -> list[str]:
    """Return the metrics that a comparison makes claims of, given the flip probabilities that it measures at.

    >>> claimed_metrics([0.0, 0.01, 0.1])
    ['iwae', 'inference_bit_error_rate', 'stored_nll@0.01']
    """
    noisy = [epsilon for epsilon in epsilons if epsilon > 0]
    stored = [at("stored_nll", min(noisy, key=lambda epsilon: abs(epsilon - _CLAIMED_EPSILON)))] if noisy else []
    return [*_CLAIMED, *stored]
