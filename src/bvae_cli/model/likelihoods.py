"""What the decoder says of a row: p(x given c), a normalised density or probability of independent values.

Every one is an exponential family in x, log p(x given c) = η(c) · T(x) − A(c) + h(x), which is how log p(x) is summed over
all words by products of matrices; training uses a direct form that loses fewer digits.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from bvae_cli.config import LikelihoodName
from bvae_cli.datasets.base import Splits, place_in
from bvae_cli.datasets.rows import Rows, extremes, mean_row, moments
from bvae_cli.errors import InputOutputError, UsageError
from bvae_cli.model.terms import negative_log_likelihood

_LOG_2PI = math.log(2 * math.pi)
# A feature that never varies would start the decoder at an infinite logit.
_SMALLEST_MEAN = 1e-3
# Of the spread of a feature: a learned σ that reaches 0 where rows are met exactly would make the density infinite.
_SMALLEST_SIGMA = 1e-3
_LARGEST_SEEN = 10.0
_FIRST_DISPERSION = (0.1, 100.0)
_LARGEST_LOG_MEAN = 30.0
_OFF_BY_A_THIRD = math.expm1(1 / 3) - 1 / 3
# From here on Stirling's series has the digits of float64 but for a relative 1e-13 of a term below 0.01.
_LARGE = 16.0


class Natural(NamedTuple):
    """η ``[..., T]`` and A ``[...]`` of words, of log p(x given c) = η · T(x) − A + h(x)."""

    parameters: Tensor
    log_normaliser: Tensor


class Likelihood(nn.Module):
    """p(x given c) of rows of D values; the decoder gives E numbers for each word, the encoder sees E of each row.

    E is D but for ``categorical``. Parameters that all words share, as a learned σ, are this module's; of M models side by
    side they are ``[M, D]`` and everything else has a leading M as well.
    """

    name: ClassVar[LikelihoodName]
    # What each value of ``means`` is, for a person and as the name of an array; and what ``error`` is.
    told: ClassVar[str] = "means"
    error_name: ClassVar[str]
    # Of the model card: what the encoder sees of a row x, and what the decoder's last numbers are.
    seen: ClassVar[str] = "x"
    given: ClassVar[str]
    # What values are allowed, in words; and the type that holds rows.
    support: ClassVar[str]
    row_dtype: ClassVar[torch.dtype] = torch.float32

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    @property
    def width(self) -> int:
        """E: the numbers that the decoder gives for a word."""
        return self.features

    @abstractmethod
    def negative_log_likelihood(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Return −log p(x given c) in nats, ``([..., E], [..., D]) -> [...]``."""

    @abstractmethod
    def natural(self, outputs: Tensor) -> Natural:
        """Return η and A of words, ``[W, E] -> [W, T], [W]``."""

    def statistics(self, x: Tensor) -> Tensor:
        """Return T(x), ``[B, D] -> [B, T]``."""
        return x

    def base(self, x: Tensor) -> Tensor:
        """Return h(x), ``[B, D] -> [B]``."""
        return x.new_zeros(len(x))

    def encoder_inputs(self, x: Tensor) -> Tensor:
        """Return what the encoder sees of rows, ``[..., D] -> [..., E]``."""
        return x

    @abstractmethod
    def means(self, outputs: Tensor) -> Tensor:
        """Return the mean of what is drawn, ``[..., E] -> [..., D]``; of symbols their probabilities, ``[..., E]``."""

    @abstractmethod
    def draw(self, outputs: Tensor, generator: Generator | None, temperature: float) -> Tensor:
        """Draw a row for each word, ``[S, E] -> [S, D]``, from p(x given c)^(1/temperature), normalised.

        Raises UsageError where that is not known for another temperature than 1.
        """

    def tempered_means(self, outputs: Tensor, temperature: float) -> Tensor:
        """Return the mean of what is drawn at a temperature."""
        return self.means(outputs)

    @abstractmethod
    def error(self, means: Tensor, x: Tensor) -> Tensor:
        """Return how far means are from rows, the mean over the features, ``[B, D] -> [B]``; ``error_name`` says in what."""

    @abstractmethod
    def supports(self, x: Tensor) -> Tensor:
        """Say of each value whether it is one that has a density or probability here, ``[..., D] -> [..., D]`` bool."""

    def rows_of(self, means: Tensor) -> Tensor:
        """Return rows as the data have them: the means, or of symbols the most probable ones, ``[..., D]``."""
        return means

    def scaled(self, means: Tensor) -> Tensor:
        """Return means in units in which a change by ½ is large."""
        return means

    def shades(self, rows: Tensor) -> Tensor:
        """Return what a picture shows of rows, ``[..., D]`` in 0…1."""
        return rows

    def guess(self, rows: Tensor | Rows) -> float:
        """Return about what one of the rows costs where no two are told apart, in nats: a scale for what explodes."""
        return self.features * math.log(2)

    def floor(self) -> float:
        """Return what ``guess`` is counted from, in nats: a probability costs at least nothing, a density less than that."""
        return 0.0


class Bernoulli(Likelihood):
    """Bits, Bernoulli(σ(outputs)); values between 0 and 1 are taken for probabilities of bits, E log p of them.

    >>> Bernoulli(2).negative_log_likelihood(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]])) / math.log(2)
    tensor([2.])
    """

    name = "bernoulli"
    told = "probabilities"
    given = "the logits of the D features"
    error_name = "pixel_error_rate"
    support = "in 0…1"
    row_dtype = torch.uint8

    def negative_log_likelihood(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Return Σ softplus(logit) − x · logit."""
        return negative_log_likelihood(outputs, x)

    def natural(self, outputs: Tensor) -> Natural:
        """Return the logits, and Σ softplus(logit)."""
        return Natural(outputs, functional.softplus(outputs).sum(-1))

    def means(self, outputs: Tensor) -> Tensor:
        """Return the probabilities."""
        return outputs.sigmoid()

    def tempered_means(self, outputs: Tensor, temperature: float) -> Tensor:
        """Return σ(logit / temperature)."""
        return (outputs / temperature).sigmoid()

    def draw(self, outputs: Tensor, generator: Generator | None, temperature: float) -> Tensor:
        """Draw bits."""
        probabilities = self.tempered_means(outputs, temperature)
        uniform = torch.rand(outputs.shape, device=outputs.device, generator=generator)
        return (uniform < probabilities).to(outputs.dtype)

    def supports(self, x: Tensor) -> Tensor:
        """Say whether values are in 0…1."""
        return (x >= 0) & (x <= 1)

    def error(self, means: Tensor, x: Tensor) -> Tensor:
        """Return the share of values on the wrong side of ½."""
        return ((means > 0.5) != (x > 0.5)).float().mean(-1)


class Gaussian(Likelihood):
    """Real values, N(μ(c), σ²), σ one of each feature: learned with the weights, or fixed.

    The networks work on standardised values z = (x − location) / spread, so that the units of the data do not matter to
    them; the density is that of x in its own units, log p(x) = Σ log N(z; outputs, σ/spread) − log spread. The encoder
    sees z cut off at ±10: a feature that is nearly always the same is not to outshout all others when it is not. A learned
    σ is at least a thousandth of the spread.

    >>> one = Gaussian(1, sigma=2.0)
    >>> one.negative_log_likelihood(torch.zeros(1, 1), torch.zeros(1, 1)) - math.log(2 * math.sqrt(2 * math.pi))
    tensor([0.])
    """

    name = "gaussian"
    seen = "(x − `likelihood.location`) / `likelihood.spread`, cut off at ±10,"
    given = "the means of the D features, in units of `likelihood.spread` from `likelihood.location`"
    error_name = "normalised_mean_square_error"
    support = "finite numbers"
    location: Tensor
    spread: Tensor
    extremes: Tensor

    def __init__(self, features: int, sigma: float = 0.0) -> None:
        super().__init__(features)
        self.sigma = sigma
        self.register_buffer("location", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        # The least and the largest value of the training rows: what is black and white in pictures.
        self.register_buffer("extremes", torch.tensor([0.0, 1.0]))
        if not sigma:
            # σ = spread at the start: that of the best model that says the same of every row.
            self.raw_sigma = nn.Parameter(torch.full((features,), _softplus_inverse(-math.log(_SMALLEST_SIGMA))))

    def extra_repr(self) -> str:
        """Say what tells it from others of its kind."""
        return f"features={self.features}, sigma={self.sigma or 'learned'}"

    @property
    def log_sigma(self) -> Tensor:
        """Log σ in units of the spread, ``[1, D]``, or ``[M, 1, D]``."""
        if self.sigma:
            return (self.sigma / self.spread).log().unsqueeze(-2)
        return math.log(_SMALLEST_SIGMA) + functional.softplus(self.raw_sigma).unsqueeze(-2)

    @property
    def sigmas(self) -> Tensor:
        """σ of each feature in the units of the data, ``[1, D]``."""
        return self.log_sigma.exp() * self.spread.unsqueeze(-2)

    def negative_log_likelihood(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Return Σ ½((z − outputs)/σ)² + log σ + log spread + ½ log 2π."""
        log_sigma = self.log_sigma
        residual = (self._standardised(x) - outputs) * (-log_sigma).exp()
        return (0.5 * residual.square() + log_sigma + self._log_spread()).sum(-1)

    def natural(self, outputs: Tensor) -> Natural:
        """Return outputs/σ² and Σ ½ (outputs/σ)², in float64: they are differences of large numbers."""
        precise, precision = outputs.double(), (-2 * self.log_sigma.double()).exp()
        return Natural(precise * precision, 0.5 * (precise.square() * precision).sum(-1))

    def statistics(self, x: Tensor) -> Tensor:
        """Return z."""
        return self._standardised(x.double())

    def base(self, x: Tensor) -> Tensor:
        """Return −Σ ½ (z/σ)² + log σ + log spread + ½ log 2π."""
        log_sigma = self.log_sigma.double()
        scaled = self.statistics(x) * (-log_sigma).exp()
        return -(0.5 * scaled.square() + log_sigma + self._log_spread()).sum(-1)

    def encoder_inputs(self, x: Tensor) -> Tensor:
        """Return z, cut off at ±10."""
        return self._standardised(x).clamp(-_LARGEST_SEEN, _LARGEST_SEEN)

    def means(self, outputs: Tensor) -> Tensor:
        """Return location + spread · outputs."""
        return self.location.unsqueeze(-2) + self.spread.unsqueeze(-2) * outputs

    def draw(self, outputs: Tensor, generator: Generator | None, temperature: float) -> Tensor:
        """Draw from N(μ, temperature · σ²)."""
        noise = torch.randn(outputs.shape, device=outputs.device, dtype=outputs.dtype, generator=generator)
        return self.means(outputs + self.log_sigma.exp() * math.sqrt(temperature) * noise)

    def supports(self, x: Tensor) -> Tensor:
        """Say whether values are finite."""
        return x.isfinite()

    def error(self, means: Tensor, x: Tensor) -> Tensor:
        """Return the mean square of the difference in units of each feature's spread: 1 is the mean row's on average."""
        return (self._standardised(means) - self._standardised(x)).square().mean(-1)

    def scaled(self, means: Tensor) -> Tensor:
        """Return means in units of the spread."""
        return means / self.spread.unsqueeze(-2)

    def shades(self, rows: Tensor) -> Tensor:
        """Return rows, the least value of the training rows black and the largest white."""
        low, high = self.extremes[0], self.extremes[1]
        return ((rows - low) / (high - low).clamp_min(torch.finfo(high.dtype).tiny)).clamp(0, 1)

    def guess(self, rows: Tensor | Rows) -> float:
        """Return Σ ½ log 2πe · spread², or with a given σ Σ ½ (spread / σ)² + ½ log 2πσ²."""
        if self.sigma:
            return self.floor() + 0.5 * float((self.spread / self.sigma).square().sum())
        return self.floor() + self.features

    def floor(self) -> float:
        """Return what rows cost that are met exactly, with a given σ; without, a nat less for each feature than a guess."""
        if self.sigma:
            return self.features * (math.log(self.sigma) + 0.5 * _LOG_2PI)
        return float(self.spread.log().sum()) + self.features * 0.5 * (_LOG_2PI - 1)

    def _standardised(self, x: Tensor) -> Tensor:
        return (x - self.location.unsqueeze(-2)) / self.spread.unsqueeze(-2)

    def _log_spread(self) -> Tensor:
        return self.spread.log().unsqueeze(-2) + 0.5 * _LOG_2PI


class _OfCounts(Likelihood):
    """Counts 0, 1, 2 …; outputs are log means, and the encoder sees log(1 + x).

    In −log p of a count of a million numbers of ten millions cancel, of which float32 has no digit behind the point left.
    So every logarithm of a factorial is taken as its main part, Stirling's, of which the rest of −log p is told from
    beforehand, and a small correction (``_correction``).
    """

    error_name = "mean_absolute_error"
    seen = "log(1 + x)"
    given = "the logarithms of the D means"
    support = "counts 0, 1, 2 …"

    def encoder_inputs(self, x: Tensor) -> Tensor:
        """Return log(1 + x)."""
        return x.log1p()

    def statistics(self, x: Tensor) -> Tensor:
        """Return x, in float64."""
        return x.double()

    def means(self, outputs: Tensor) -> Tensor:
        """Return exp(outputs)."""
        return outputs.exp()

    def draw(self, outputs: Tensor, generator: Generator | None, temperature: float) -> Tensor:
        """Draw counts; at the temperature 1 only."""
        if temperature != 1:
            raise UsageError(
                f"Counts are drawn at the temperature 1; got {temperature:g}.",
                f"Leave --temperature out: p(x)^(1/T) of the likelihood {self.name} has no form that can be drawn from.",
            )
        # Of numpy: torch draws from a Gamma distribution with its global generator only.
        seed = int(torch.randint(2**62, (), device=outputs.device, generator=generator))
        generated = numpy.random.Generator(numpy.random.PCG64(seed))
        # numpy refuses means beyond 2^63.
        return self._drawn(generated, outputs.detach().double().clamp_max(_LARGEST_LOG_MEAN)).to(outputs)

    def supports(self, x: Tensor) -> Tensor:
        """Say whether values are counts."""
        return (x >= 0) & (x == x.floor()) & x.isfinite()

    def error(self, means: Tensor, x: Tensor) -> Tensor:
        """Return the mean absolute difference, in counts."""
        return (means - x).abs().mean(-1)

    def shades(self, rows: Tensor) -> Tensor:
        """Return x / (1 + x)."""
        return rows / (1 + rows)

    @abstractmethod
    def _drawn(self, generator: numpy.random.Generator, outputs: Tensor) -> Tensor:
        """Return counts for log means in float64."""


class Poisson(_OfCounts):
    """Counts, Poisson(exp(outputs)).

    >>> Poisson(1).negative_log_likelihood(torch.zeros(1, 1), torch.tensor([[2.0]]))  # 1 + log 2!
    tensor([1.6931])
    """

    name = "poisson"

    def negative_log_likelihood(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Return Σ exp(o) − x o + log x! = (x + 1)(expm1(d) − d) + d + ½ log 2π(x + 1) + s(x + 1), d = o − log(x + 1)."""
        whole = x + 1
        logs = whole.log()
        difference = outputs - logs
        of_rows = 0.5 * (logs + _LOG_2PI) + _correction(whole)
        return (whole * (difference.expm1() - difference) + difference + of_rows).sum(-1)

    def natural(self, outputs: Tensor) -> Natural:
        """Return o and Σ exp(o), in float64."""
        return Natural(outputs.double(), outputs.double().exp().sum(-1))

    def base(self, x: Tensor) -> Tensor:
        """Return −Σ log x!."""
        return -torch.lgamma(x.double() + 1).sum(-1)

    def guess(self, rows: Tensor | Rows) -> float:
        """Return Σ ½ log 2π(1 + mean) + variance / (2 mean) + 0.06 mean.

        The first two are of the Poisson distribution of each feature's mean, the third is what a log mean costs that is off
        by ⅓, as those of a network are before it has learnt.
        """
        mean, variance = moments(rows)
        shared = variance / (2 * mean.clamp_min(_SMALLEST_MEAN))
        return float((0.5 * (mean.log1p() + _LOG_2PI) + shared + _OFF_BY_A_THIRD * mean).sum())

    def _drawn(self, generator: numpy.random.Generator, outputs: Tensor) -> Tensor:
        return torch.from_numpy(generator.poisson(outputs.exp().cpu().numpy()))


class NegativeBinomial(_OfCounts):
    """Counts with mean μ = exp(outputs) and variance μ + μ²/r, the dispersion r one of each feature, learned.

    p(x) = Γ(x + r) / (Γ(r) x!) · (r/(r + μ))^r (μ/(r + μ))^x; a Poisson distribution is the limit of large r.

    >>> one = NegativeBinomial(1)
    >>> _ = one.log_dispersion.data.fill_(0.0)  # r = 1: geometric, ½ ½^x at the mean 1
    >>> one.negative_log_likelihood(torch.zeros(1, 1), torch.tensor([[2.0]])) / math.log(2)
    tensor([3.], grad_fn=<DivBackward0>)
    """

    name = "negative-binomial"
    given = "the logarithms of the D means; those of the dispersions are `likelihood.log_dispersion`"

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.log_dispersion = nn.Parameter(torch.zeros(features))

    def negative_log_likelihood(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Return −Σ log p(x), with the factorials by Stirling.

        log p = x [log((x + r)/(x + 1)) − log((μ + r)/μ)] + (r − ½) log((x + r)/r) − r log((μ + r)/r) − ½ log 2π(x + 1) + 1
        + s(x + r) − s(x + 1) − s(r).
        """
        rho = self.log_dispersion.unsqueeze(-2)
        r, whole = rho.exp(), x + 1
        of_mean = functional.softplus(rho - outputs)
        powers = x * (((r - 1) / whole).log1p() - of_mean) - r * functional.softplus(outputs - rho)
        of_rows = (r - 0.5) * (x / r).log1p() - 0.5 * (whole.log() + _LOG_2PI) + 1
        corrections = _correction(x + r) - _correction(whole) - _correction(r)
        return -(powers + of_rows + corrections).sum(-1)

    def natural(self, outputs: Tensor) -> Natural:
        """Return log μ/(r + μ), and Σ r log (r + μ)/r, in float64."""
        rho, precise = self.log_dispersion.double().unsqueeze(-2), outputs.double()
        whole = torch.logaddexp(rho, precise)
        return Natural(precise - whole, (rho.exp() * (whole - rho)).sum(-1))

    def base(self, x: Tensor) -> Tensor:
        """Return Σ log Γ(x + r) / (Γ(r) x!)."""
        r, precise = self.log_dispersion.double().unsqueeze(-2).exp(), x.double()
        return (torch.lgamma(precise + r) - torch.lgamma(r) - torch.lgamma(precise + 1)).sum(-1)

    def guess(self, rows: Tensor | Rows) -> float:
        """Return Σ ½ log 2πe(1 + variance): of a normal distribution as wide as each feature."""
        _, variance = moments(rows)
        return float((0.5 * (variance.log1p() + _LOG_2PI + 1)).sum())

    def _drawn(self, generator: numpy.random.Generator, outputs: Tensor) -> Tensor:
        r = self.log_dispersion.detach().double().exp().expand(outputs.shape)
        share = r / (r + outputs.exp())
        return torch.from_numpy(generator.negative_binomial(r.cpu().numpy(), share.cpu().numpy()))


class Categorical(Likelihood):
    """Symbols: in column d one of ``categories[d]``, whose logits are the outputs, column after column, E = Σ categories.

    The encoder sees the symbols as E bits, one of each column 1.

    >>> Categorical([2, 4]).negative_log_likelihood(torch.zeros(1, 6), torch.tensor([[1, 3]])) / math.log(2)
    tensor([3.])
    """

    name = "categorical"
    seen = "the symbols as bits, of which one in each column is set,"
    given = "the logits of the symbols, column after column"
    told = "probabilities"
    error_name = "symbol_error_rate"
    support = "numbers of symbols of their columns"
    row_dtype = torch.int16
    column: Tensor
    symbol: Tensor
    place: Tensor

    def __init__(self, categories: Sequence[int]) -> None:
        super().__init__(len(categories))
        self.categories = tuple(categories)
        self._most = max(self.categories)
        sizes, counts = torch.tensor(self.categories), torch.arange(self._most)
        inside = counts < sizes.unsqueeze(1)
        # The column and the symbol of each output, [E]; and where the logits of a column stand in the outputs, [D, S]: what
        # a column lacks of the most symbols is the place behind them.
        pairs = [(column, symbol) for column, size in enumerate(self.categories) for symbol in range(size)]
        self.register_buffer("column", torch.tensor([column for column, _ in pairs]), persistent=False)
        self.register_buffer("symbol", torch.tensor([symbol for _, symbol in pairs]), persistent=False)
        first = (sizes.cumsum(0) - sizes).unsqueeze(1)
        self.register_buffer("place", torch.where(inside, first + counts, self.width), persistent=False)

    def extra_repr(self) -> str:
        """Say what tells it from others of its kind."""
        return f"categories={self.categories}"

    @property
    def width(self) -> int:
        """The numbers of symbols of all columns, added."""
        return sum(self.categories)

    def negative_log_likelihood(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Return −Σ log p of the symbols that are there."""
        chosen = self._log_probabilities(outputs).gather(-1, x.long().unsqueeze(-1)).squeeze(-1)
        return -chosen.sum(-1)

    def natural(self, outputs: Tensor) -> Natural:
        """Return the log-probabilities of all symbols, ``[W, E]``, and 0."""
        logs = self._log_probabilities(outputs).flatten(-2).index_select(-1, self.column * self._most + self.symbol)
        return Natural(logs, logs.new_zeros(logs.shape[:-1]))

    def statistics(self, x: Tensor) -> Tensor:
        """Return the symbols as bits."""
        return self.encoder_inputs(x)

    def encoder_inputs(self, x: Tensor) -> Tensor:
        """Return the symbols as bits, ``[..., D] -> [..., E]``."""
        return (x.index_select(-1, self.column) == self.symbol).to(_float_of(x))

    def means(self, outputs: Tensor) -> Tensor:
        """Return the probabilities of all symbols, ``[..., E]``."""
        return self.natural(outputs).parameters.exp()

    def tempered_means(self, outputs: Tensor, temperature: float) -> Tensor:
        """Return the probabilities for logits divided by the temperature."""
        return self.means(outputs / temperature)

    def draw(self, outputs: Tensor, generator: Generator | None, temperature: float) -> Tensor:
        """Draw symbols, as their numbers."""
        probabilities = self._log_probabilities(outputs / temperature).exp()
        drawn = torch.multinomial(probabilities.flatten(0, -2), 1, replacement=True, generator=generator)
        return drawn.view(*outputs.shape[:-1], self.features).to(outputs.dtype)

    def supports(self, x: Tensor) -> Tensor:
        """Say whether values are symbols of their columns."""
        return (x >= 0) & (x == x.floor()) & (x < torch.tensor(self.categories, device=x.device))

    def error(self, means: Tensor, x: Tensor) -> Tensor:
        """Return the share of columns whose most probable symbol is another."""
        return (self.rows_of(means) != x).float().mean(-1)

    def rows_of(self, means: Tensor) -> Tensor:
        """Return the most probable symbol of each column."""
        return self._by_column(means, -1.0).argmax(-1).to(means.dtype)

    def shades(self, rows: Tensor) -> Tensor:
        """Return the numbers of the symbols, the last one of a column white."""
        return rows / (torch.tensor(self.categories, device=rows.device) - 1).clamp_min(1)

    def guess(self, rows: Tensor | Rows) -> float:
        """Return Σ log of the numbers of symbols."""
        return sum(map(math.log, self.categories))

    def _log_probabilities(self, outputs: Tensor) -> Tensor:
        """Return log p of each symbol of each column, ``[..., E] -> [..., D, S]``, −∞ for what a column lacks."""
        return self._by_column(outputs, -math.inf).log_softmax(-1)

    def _by_column(self, values: Tensor, lacking: float) -> Tensor:
        """Return values of all symbols column by column, ``[..., E] -> [..., D, S]``."""
        if self.width == self.features * self._most:
            padded = values
        else:
            padded = functional.pad(values, (0, 1), value=lacking).index_select(-1, self.place.flatten())
        return padded.view(*values.shape[:-1], self.features, self._most)


# Those that need to know no more than how many values a row has.
_OF_FEATURES: tuple[type[Bernoulli | Poisson | NegativeBinomial], ...] = (Bernoulli, Poisson, NegativeBinomial)


class Beginning(NamedTuple):
    """Where a model begins: its likelihood, the mean of what the encoder sees ``[E]``, and the decoder's last bias ``[E]``.

    With that bias the decoder says of every row what the best model without a latent says.
    """

    likelihood: Likelihood
    mean: Tensor
    bias: Tensor


def _correction(z: Tensor) -> Tensor:
    """Return s(z) = log Γ(z) − (z − ½) log z + z − ½ log 2π for z > 0, where it is small by its own series (DLMF 5.11.1)."""
    large, small = z.clamp_min(_LARGE), z.clamp_max(_LARGE)
    inverse = large.reciprocal()
    square = inverse.square()
    series = inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680)))
    direct = torch.lgamma(small) - (small - 0.5) * small.log() + small - 0.5 * _LOG_2PI
    return torch.where(z < _LARGE, direct, series)


def unfitted(name: str, features: int, categories: Sequence[int] = (), sigma: float = 0.0) -> Likelihood:
    """Return a likelihood of rows of so many values, or of columns of so many symbols, without what it knows of data."""
    if name == Categorical.name:
        return Categorical(categories)
    if name == Gaussian.name:
        return Gaussian(features, sigma)
    return next(kind for kind in _OF_FEATURES if kind.name == name)(features)


def outlined(name: str, features: int, categories: Sequence[int] = (), sigma: float = 0.0) -> Beginning:
    """Return a beginning of the right shapes that knows nothing of any data."""
    likelihood = unfitted(name, features, categories, sigma)
    return Beginning(likelihood, torch.zeros(likelihood.width), torch.zeros(likelihood.width))


def beginning(name: str, splits: Splits, sigma: float = 0.0) -> Beginning:
    """Return where a model of the training rows begins. Raises InputOutputError for a feature that never varies where its
    σ would be learned.
    """
    likelihood = unfitted(name, splits.features, splits.categories, sigma)
    train = splits.train
    if isinstance(likelihood, Gaussian):
        return _gaussian_beginning(likelihood, splits)
    if isinstance(likelihood, Bernoulli):
        return bernoulli_beginning(mean_row(train))
    mean, _ = moments(train, likelihood.encoder_inputs)
    if isinstance(likelihood, Categorical):
        return Beginning(likelihood, mean.float(), mean.clamp_min(_SMALLEST_MEAN).log().float())
    average, variance = moments(train)
    if isinstance(likelihood, NegativeBinomial):
        # By the method of moments, r = μ² / (variance − μ).
        found = average.square() / (variance - average).clamp_min(1e-12)
        likelihood.log_dispersion.data.copy_(found.clamp(*_FIRST_DISPERSION).log())
    return Beginning(likelihood, mean.float(), average.clamp_min(_SMALLEST_MEAN).log().float())


def bernoulli_beginning(mean: Tensor) -> Beginning:
    """Return where a model of bits begins, whose mean is ``[D]``: at the logits of the mean."""
    # An outline without numbers has none to set, and asking it imports torch's compiler, which takes seconds.
    bias = mean if mean.is_meta else mean.clamp(_SMALLEST_MEAN, 1 - _SMALLEST_MEAN).logit()
    return Beginning(Bernoulli(mean.numel()), mean, bias)


def _gaussian_beginning(likelihood: Gaussian, splits: Splits) -> Beginning:
    train = splits.train
    mean, variance = moments(train)
    spread = variance.sqrt()
    constant = spread <= 1e-7 * mean.abs()
    if not likelihood.sigma and bool(constant.any()):
        column = int(constant.nonzero()[0])
        of_pictures = len(splits.feature_shape) > 1
        what = f"The value at {place_in(column, splits.feature_shape)}" if of_pictures else f"Column {column + 1}"
        raise InputOutputError(
            f"{what} of {splits.source} is the same in every training row: its σ would shrink to 0, and the density grow "
            "without end.",
            f"{'Fix' if of_pictures else 'Leave the column out, or fix'} σ for all, as --sigma 0.1.",
        )
    likelihood.location.copy_(mean)
    likelihood.spread.copy_(torch.where(constant, 1.0, spread))
    likelihood.extremes.copy_(torch.tensor(extremes(train)))
    zero = torch.zeros(likelihood.width)
    return Beginning(likelihood, zero, zero)


def _softplus_inverse(value: float) -> float:
    return math.log(math.expm1(value))


def _float_of(x: Tensor) -> torch.dtype:
    return x.dtype if x.is_floating_point() else torch.float32
