"""Every estimator against the exact gradient, which is a sum over all words of K bits.

What an estimator gives in expectation is found in one of two ways. The hard ones see the noise only through thresholds at
σ(l) and 1 − σ(l), so the unit cube of the noise falls into 3^K boxes on each of which they are constant: their expectation
is a finite sum, with no sampling at all. The relaxed ones are averaged over many draws.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Bernoulli

from bvae_cli.codes.base import CodeSpec
from bvae_cli.codes.repetition import Repetition
from bvae_cli.codes.uncoded import Uncoded
from bvae_cli.model.relaxation import DVAE_INVERSE_TEMPERATURE, ESTIMATORS, relaxed_bits, smoothed_bits
from tests.helpers import Hamming, exact_gradient, joint_threshold, property_settings, small_model, words_tensor

HARD = [name for name, estimator in ESTIMATORS.items() if estimator.hard]
RELAXED = [name for name, estimator in ESTIMATORS.items() if not estimator.hard]
PIECEWISE_CONSTANT = ["st", "reinmax", "disarm"]
DRAWS = 40_000

Loss = Callable[[Tensor], Tensor]


class Problem(NamedTuple):
    """A loss ``[M, K] -> [M]`` of bits, the logits ``[K]`` of their distribution, and its gradient by enumeration."""

    f: Loss
    logits: Tensor
    gradient: Tensor


def through_a_decoder(spec: CodeSpec, n: int) -> Problem:
    """−log p(x given C(m)) of a curved decoder with ten pixels, the bits going through the code as in training."""
    code = spec.build(n)
    model = small_model(code, features=10, gain=2.5, seed=3).requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    x = (torch.rand(10, generator=generator) < 0.5).double()
    logits = torch.randn(code.k, generator=generator, dtype=torch.float64)

    def f(bits: Tensor) -> Tensor:
        return -Bernoulli(logits=model.outputs(code.encode_probs(bits))).log_prob(x).sum(-1)

    return Problem(f, logits, exact_gradient(f, logits))


PROBLEMS = {
    "none": through_a_decoder(Uncoded(), 6),
    "repetition": through_a_decoder(Repetition(R=3), 18),
    "hamming": through_a_decoder(Hamming(), 14),
}
COMPONENTS = sum(len(problem.logits) for problem in PROBLEMS.values())


def gradients(name: str, f: Loss, logits: Tensor, uniform: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return the loss ``[M]`` and the gradient ``[M, K]`` that an estimator gives for each row of noise ``[M, K]``."""
    rows = logits.expand(uniform.shape).clone().requires_grad_()
    loss = ESTIMATORS[name].expected_loss(f, rows, uniform, temperature)
    (gradient,) = torch.autograd.grad(loss.sum(), rows)
    return loss.detach(), gradient


def in_expectation(name: str, f: Loss, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Expected loss and gradient of an estimator that is constant between its thresholds: a sum over 3^K boxes."""
    assert name in PIECEWISE_CONSTANT
    p = torch.sigmoid(logits)
    edges = torch.stack([torch.zeros_like(p), torch.minimum(p, 1 - p), torch.maximum(p, 1 - p), torch.ones_like(p)])
    middles, widths = (edges[1:] + edges[:-1]) / 2, edges[1:] - edges[:-1]
    boxes = torch.tensor(list(itertools.product(range(3), repeat=len(logits))))
    weights = widths.gather(0, boxes).prod(-1)
    loss, gradient = gradients(name, f, logits, middles.gather(0, boxes))
    return weights @ loss, weights @ gradient


def multilinear(coefficients: Tensor) -> Loss:
    """Σ_S a_S ∏_{k in S} b_k over all subsets S of K bits."""
    subsets = words_tensor(int(math.log2(len(coefficients))))
    return lambda bits: (torch.where(subsets > 0, bits.unsqueeze(-2), 1.0).prod(-1) * coefficients).sum(-1)


def draws(rows: int, k: int, seed: int = 0) -> Tensor:
    return torch.rand(rows, k, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def cosine(one: Tensor, other: Tensor) -> float:
    return torch.cosine_similarity(one, other, dim=0).item()


# The reference itself


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_gradient_by_enumeration_is_the_slope_of_the_expectation_by_enumeration(name):
    f, logits, gradient = PROBLEMS[name]
    words = words_tensor(len(logits))

    def expectation(at: Tensor) -> float:
        return (Bernoulli(logits=at).log_prob(words).sum(-1).exp() @ f(words)).item()

    for k in range(len(logits)):
        step = torch.zeros_like(logits)
        step[k] = 1e-5
        slope = (expectation(logits + step) - expectation(logits - step)) / 2e-5
        assert gradient[k].item() == pytest.approx(slope, rel=1e-6, abs=1e-8)


# The unbiased estimator


@pytest.mark.parametrize("name", PROBLEMS)
def test_disarm_is_unbiased_to_the_last_digit_when_the_noise_is_integrated_out(name):
    f, logits, gradient = PROBLEMS[name]
    _, expected = in_expectation("disarm", f, logits)
    assert torch.allclose(expected, gradient, rtol=1e-11, atol=1e-12)


def z_scores(name: str, problem: Problem, seed: int) -> Tensor:
    f, logits, gradient = problem
    _, measured = gradients(name, f, logits, draws(DRAWS, len(logits), seed))
    return (measured.mean(0) - gradient) / (measured.std(0) / math.sqrt(DRAWS))


@pytest.mark.parametrize("name", [name for name, estimator in ESTIMATORS.items() if estimator.unbiased])
def test_unbiased_estimators_pass_a_z_test_in_every_component_of_every_problem(name):
    """The 20 components of the three codes fail together with probability 1 % (Bonferroni: 3.48 standard errors)."""
    assert COMPONENTS == 20
    for number, problem in enumerate(PROBLEMS.values()):
        assert z_scores(name, problem, seed=number).abs().max() < joint_threshold(COMPONENTS)


@pytest.mark.parametrize("name", [name for name, estimator in ESTIMATORS.items() if not estimator.unbiased])
def test_the_same_z_test_finds_every_estimator_that_is_called_biased(name):
    """So the test above has the power to fail: each of the others is off by many standard errors somewhere."""
    assert max(z_scores(name, problem, seed=7).abs().max() for problem in PROBLEMS.values()) > joint_threshold(COMPONENTS)


@pytest.mark.parametrize("name", ["st", "reinmax", "disarm"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_hard_estimators_report_the_expected_loss_without_bias(name, problem):
    f, logits, _ = PROBLEMS[problem]
    words = words_tensor(len(logits))
    exact = Bernoulli(logits=logits).log_prob(words).sum(-1).exp() @ f(words)
    loss, _ = in_expectation(name, f, logits)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-12)


# The biased ones

# Least cosine to the exact gradient over the three codes, rounded down from what was measured on these problems (each
# test reports its own): the theory promises only that they agree where the loss is nearly linear (st) or quadratic
# (reinmax) in a bit, or the bits nearly hard (gumbel at low temperature, dvae), and these losses are far from linear: the
# decoder's weights are 2.5 times those of a new one. The least are all with the Hamming code.
LEAST_COSINE = {
    ("gumbel", 1.0): 0.93,
    ("gumbel", 0.4): 0.97,
    ("gumbel-st", 1.0): 0.88,
    ("gumbel-st", 0.4): 0.94,
    ("st", 1.0): 0.84,
    ("reinmax", 1.0): 0.98,
    ("dvae", 1.0): 0.99,
}


def expected_gradient(name: str, temperature: float, problem: Problem) -> Tensor:
    if name in PIECEWISE_CONSTANT:
        return in_expectation(name, problem.f, problem.logits)[1]
    return gradients(name, problem.f, problem.logits, draws(DRAWS, len(problem.logits), 1), temperature)[1].mean(0)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize(("name", "temperature"), LEAST_COSINE)
def test_biased_estimators_point_the_way_of_the_exact_gradient(name, temperature, problem, record_property):
    expected = expected_gradient(name, temperature, PROBLEMS[problem])
    exact = PROBLEMS[problem].gradient
    record_property("cosine", cosine(expected, exact))
    record_property("length", (expected.norm() / exact.norm()).item())
    assert cosine(expected, exact) > LEAST_COSINE[name, temperature]
    # A factor of two in the formula is seen here, where the direction cannot show it.
    assert 0.6 < (expected.norm() / exact.norm()).item() < 1.2


def over_a_grid(name: str, f: Loss, logit: float, temperature: float) -> float:
    """Expected gradient for one bit: the mean over an even grid of the noise."""
    points = 200_000
    uniform = ((torch.arange(points, dtype=torch.float64) + 0.5) / points).unsqueeze(-1)
    return gradients(name, f, torch.tensor([logit], dtype=torch.float64), uniform, temperature)[1].mean().item()


@pytest.mark.parametrize("logit", [-1.5, 0.4, 2.0])
def test_at_low_temperature_gumbel_gives_the_exact_gradient_and_its_straight_through_form_the_trapezoid_rule(logit):
    """With τ → 0 the slope of the relaxed bit is a peak at the threshold, of weight p(1 − p).

    Below the threshold the hard bit is 0 and above it 1, so `gumbel-st` sees the mean of f′(0) and f′(1), as `reinmax`
    does; `gumbel` sees f′ at every value between and with it f(1) − f(0).
    """
    p = 1 / (1 + math.exp(-logit))

    def f(bits: Tensor) -> Tensor:
        return (2 * bits.pow(3) - bits.pow(2) + 0.5 * bits).sum(-1)

    exact, trapezoid = 1.5 * p * (1 - p), 0.5 * (0.5 + 4.5) * p * (1 - p)
    for name, limit in (("gumbel", exact), ("gumbel-st", trapezoid)):
        distances = [abs(over_a_grid(name, f, logit, temperature) / limit - 1) for temperature in (1.0, 0.1, 0.01)]
        # An error of the order of τ: each step takes a factor of ten off.
        assert distances[0] > 5 * distances[1] > 25 * distances[2]
        assert distances[2] < 0.02


# Where theory says that they are exact


@given(seed=st.integers(0, 10**6))
@property_settings
def test_straight_through_is_exact_where_the_loss_is_linear_in_each_bit(seed):
    generator = torch.Generator().manual_seed(seed)
    f = multilinear(torch.randn(16, generator=generator, dtype=torch.float64))
    logits = 2 * torch.randn(4, generator=generator, dtype=torch.float64)
    _, expected = in_expectation("st", f, logits)
    assert torch.allclose(expected, exact_gradient(f, logits), atol=1e-12)


@given(seed=st.integers(0, 10**6))
@property_settings
def test_reinmax_is_exact_where_the_loss_is_quadratic_in_each_bit(seed):
    """Also with products of bits: given the others, the derivative is the trapezoid rule of a linear function."""
    generator = torch.Generator().manual_seed(seed)
    linear, curved = (multilinear(torch.randn(16, generator=generator, dtype=torch.float64)) for _ in range(2))
    squares = torch.randn(4, generator=generator, dtype=torch.float64)
    logits = 2 * torch.randn(4, generator=generator, dtype=torch.float64)

    def f(bits: Tensor) -> Tensor:
        return linear(bits) + curved(bits.square()) + bits.square() @ squares

    _, expected = in_expectation("reinmax", f, logits)
    assert torch.allclose(expected, exact_gradient(f, logits), atol=1e-11)


@pytest.mark.parametrize("name", ["st", "reinmax"])
def test_estimators_that_are_exact_for_products_are_exact_through_the_sums_of_a_code(name):
    """A code bit's probability is linear in each information bit's: the path through the XORs adds no bias."""
    code = Hamming().build(14)
    weights = torch.randn(14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits = torch.randn(8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def f(bits: Tensor) -> Tensor:
        return code.encode_probs(bits) @ weights

    _, expected = in_expectation(name, f, logits)
    assert torch.allclose(expected, exact_gradient(f, logits), atol=1e-12)


@pytest.mark.parametrize("logit", [-2.0, 0.0, 0.5, 3.0])
@pytest.mark.parametrize(("name", "power", "factor"), [("st", 1, 1.0), ("reinmax", 2, 1.0), ("reinmax", 3, 1.5)])
def test_the_bias_on_a_power_of_one_bit_is_that_of_the_rule(name, power, factor, logit):
    """d/dl E[b^r] = p(1 − p); the trapezoid rule sees ½(0 + r) where the difference is 1: exact up to r = 2."""
    _, expected = in_expectation(name, lambda bits: bits.pow(power).sum(-1), torch.tensor([logit], dtype=torch.float64))
    p = 1 / (1 + math.exp(-logit))
    assert expected.item() == pytest.approx(factor * p * (1 - p), rel=1e-12)


@pytest.mark.parametrize("logit", [-2.0, 0.0, 3.0])
def test_straight_through_overrates_a_square_by_twice_the_probability(logit):
    _, expected = in_expectation("st", lambda bits: bits.square().sum(-1), torch.tensor([logit], dtype=torch.float64))
    p = 1 / (1 + math.exp(-logit))
    assert expected.item() == pytest.approx(2 * p * p * (1 - p), rel=1e-12)


def test_each_draw_of_reinmax_and_straight_through_has_the_weight_of_its_formula():
    logits = torch.tensor([-1.5, 0.3, 2.0], dtype=torch.float64)
    slopes = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    uniform = draws(200, 3)
    p = logits.sigmoid()
    bits = (uniform < p).double()
    probability = torch.where(bits > 0, p, 1 - p)
    _, reinmax = gradients("reinmax", lambda b: b @ slopes, logits, uniform)
    assert torch.allclose(reinmax, 0.5 * (1 - probability) * slopes, atol=1e-14)
    _, first = gradients("st", lambda b: b @ slopes, logits, uniform)
    assert torch.allclose(first, (p * (1 - p) * slopes).expand_as(first), atol=1e-14)


def test_gumbel_straight_through_passes_the_slope_at_the_hard_bits_times_that_of_the_relaxed_ones():
    logits = torch.tensor([-1.0, 0.2, 1.5], dtype=torch.float64)
    uniform, temperature = draws(500, 3), 0.6
    logistic = uniform.log() - (1 - uniform).log()
    relaxed = 1 / (1 + torch.exp(-(logits + logistic) / temperature))
    hard = (logits + logistic > 0).double()
    _, measured = gradients("gumbel-st", lambda b: b.pow(3).sum(-1), logits, uniform, temperature)
    assert torch.allclose(measured, 3 * hard.square() * relaxed * (1 - relaxed) / temperature, atol=1e-12)


# The bits that the decoder sees


def bits_seen(name: str, logits: Tensor, uniform: Tensor, temperature: float = 0.7) -> list[Tensor]:
    seen = []

    def f(bits: Tensor) -> Tensor:
        seen.append(bits.detach().clone())
        return bits.square().sum(-1)

    ESTIMATORS[name].expected_loss(f, logits.requires_grad_(), uniform, temperature)
    return seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", HARD)
def test_hard_estimators_show_nothing_but_zeros_and_ones(name, dtype):
    logits = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)).to(dtype) * 4
    for bits in bits_seen(name, logits, draws(500, 6).to(dtype)):
        assert bits.dtype == dtype
        assert ((bits == 0) | (bits == 1)).all()
        assert 0.2 < bits.mean() < 0.8


@pytest.mark.parametrize("name", RELAXED)
def test_relaxed_estimators_show_bits_between_zero_and_one(name):
    (bits,) = bits_seen(name, torch.randn(500, 6, dtype=torch.float64), draws(500, 6))
    assert ((bits > 0) & (bits < 1)).all()


@pytest.mark.parametrize("logit", [-3.0, -0.4, 0.0, 1.2, 4.0])
@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "dvae"])
def test_bits_are_one_with_the_probability_of_their_logit(name, logit):
    """Over an even grid of the noise, not over draws: the share is right to one point of the grid at each end."""
    points = 20_000
    uniform = ((torch.arange(points, dtype=torch.float64) + 0.5) / points).unsqueeze(-1)
    for bits in bits_seen(name, torch.full((points, 1), logit, dtype=torch.float64), uniform):
        assert (bits > 0.5).double().mean().item() == pytest.approx(1 / (1 + math.exp(-logit)), abs=1.01 / points)


def test_the_pair_of_disarm_is_antithetic():
    points = 10_000
    uniform = ((torch.arange(points, dtype=torch.float64) + 0.5) / points).unsqueeze(-1)
    for logit in (-1.0, 0.0, 2.0):
        one, other = bits_seen("disarm", torch.full((points, 1), logit, dtype=torch.float64), uniform)
        p = 1 / (1 + math.exp(-logit))
        # As few pairs of ones as two bits of probability p allow.
        assert (one * other).mean().item() == pytest.approx(max(0.0, 2 * p - 1), abs=2.01 / points)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator_draws_nothing_and_changes_nothing(name):
    logits, uniform = torch.randn(20, 4, dtype=torch.float64), draws(20, 4)
    state, kept = torch.get_rng_state(), (logits.clone(), uniform.clone())
    first = gradients(name, lambda bits: bits.pow(3).sum(-1), logits, uniform)
    again = gradients(name, lambda bits: bits.pow(3).sum(-1), logits, uniform)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(logits, kept[0])
    assert torch.equal(uniform, kept[1])
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])


@pytest.mark.parametrize("name", ESTIMATORS)
def test_rows_of_a_batch_have_gradients_of_their_own(name):
    logits, uniform = torch.randn(6, 4, dtype=torch.float64), draws(6, 4)

    def of(rows: slice) -> Tensor:
        leaf = logits[rows].clone().requires_grad_()
        loss = ESTIMATORS[name].expected_loss(lambda bits: bits.pow(3).sum(-1).exp(), leaf, uniform[rows], 0.5)
        assert loss.shape == leaf.shape[:1]
        return torch.autograd.grad(loss.sum(), leaf)[0]

    together = of(slice(None))
    for row in range(6):
        assert torch.allclose(of(slice(row, row + 1))[0], together[row], atol=1e-14)


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("logit", [-100.0, -30.0, -5.0, 0.0, 5.0, 30.0, 100.0])
def test_sure_logits_and_noise_at_the_edges_give_finite_values_and_gradients_in_single_precision(name, logit):
    edges = torch.tensor([[0.0], [2.0**-24], [1e-6], [0.5], [1 - 1e-6], [1 - 2.0**-24]])
    for temperature in (1.0, 0.1):
        loss, gradient = gradients(name, lambda bits: bits.square().sum(-1), torch.tensor([logit]), edges, temperature)
        assert loss.isfinite().all()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("name", HARD)
def test_the_loss_of_hard_estimators_does_not_depend_on_how_sure_bits_became(name):
    """At saturated logits the bits are what the logits say, whatever the noise."""
    logits = torch.tensor([[-60.0, 60.0, -60.0]])
    for bits in bits_seen(name, logits.expand(100, 3).clone(), draws(100, 3).float()):
        assert torch.equal(bits, torch.tensor([0.0, 1.0, 0.0]).expand(100, 3))


# Binary concrete variables


@given(logit=st.floats(-8, 8), uniform=st.floats(1e-4, 1 - 1e-4), temperature=st.floats(0.3, 3.0))
@property_settings
def test_relaxed_bits_are_distributed_as_binary_concrete_variables(logit, uniform, temperature):
    """Their distribution function is σ(τ logit(z) − l) (Maddison et al. 2017, appendix B); at z(u) it is u."""
    z = relaxed_bits(*torch.tensor([[logit], [uniform]], dtype=torch.float64), temperature).item()
    if 1e-9 < z < 1 - 1e-9:
        position = temperature * math.log(z / (1 - z)) - logit
        assert 1 / (1 + math.exp(-position)) == pytest.approx(uniform, rel=1e-6)
    else:
        # Too near to an edge for the identity in double precision, and on the right side of it.
        assert (z > 0.5) == (uniform > 1 / (1 + math.exp(logit)))


def test_relaxed_bits_become_hard_as_the_temperature_falls():
    logits, uniform = torch.randn(20_000, 1, dtype=torch.float64), draws(20_000, 1)
    hard = (uniform > 1 - logits.sigmoid()).double()
    distances = [(relaxed_bits(logits, uniform, t) - hard).abs().mean().item() for t in (1.0, 0.1, 0.01, 0.001)]
    # P(z not within δ of a bit) is of the order of τ: each step takes a factor of ten off.
    for warmer, colder in itertools.pairwise(distances):
        assert colder < 0.15 * warmer
    assert distances[-1] < 1e-3


def test_the_loss_of_gumbel_at_low_temperature_is_the_expected_loss_of_hard_bits():
    f, logits, _ = PROBLEMS["none"]
    words = words_tensor(len(logits))
    exact = (Bernoulli(logits=logits).log_prob(words).sum(-1).exp() @ f(words)).item()
    loss, _ = gradients("gumbel", f, logits, draws(DRAWS, len(logits), 5), 0.001)
    assert abs(loss.mean().item() - exact) < joint_threshold(1) * (loss.std().item() / math.sqrt(DRAWS))


# Smoothed bits


def mixture(z: Tensor, logits: Tensor, b: float) -> tuple[Tensor, Tensor, Tensor]:
    """Distribution function of the mixture of truncated exponentials, its slope in the logit, and its density at z."""
    q, p = torch.sigmoid(logits), torch.sigmoid(-logits)
    whole = 1 - math.exp(-b)
    if_zero, if_one = -torch.expm1(-b * z) / whole, (torch.exp(b * (z - 1)) - math.exp(-b)) / whole
    density = b * (p * torch.exp(-b * z) + q * torch.exp(b * (z - 1))) / whole
    return p * if_zero + q * if_one, p * q * (if_one - if_zero), density


def scattered(low: float, high: float, count: int = 5000) -> tuple[Tensor, Tensor]:
    """Logits between two bounds, and noise."""
    logits, uniform = draws(count, 2, seed=17).T
    return low + (high - low) * logits, uniform


@pytest.mark.parametrize("b", [3.0, DVAE_INVERSE_TEMPERATURE])
@pytest.mark.parametrize(("low", "high"), [(-100, -8), (-8, 8), (8, 30)])
def test_smoothed_bits_are_distributed_as_the_mixture(low, high, b):
    """At z(u) the distribution function is u: the identity that makes z(u) of uniform u follow the mixture."""
    logits, uniform = scattered(low, high)
    position, _, _ = mixture(smoothed_bits(logits, uniform, b), logits, b)
    assert (position - uniform).abs().max() < 1e-13


@pytest.mark.parametrize("logit", [-4.0, 0.0, 2.0])
def test_draws_of_smoothed_bits_pass_a_kolmogorov_smirnov_test_in_single_precision(logit):
    # Three tests, jointly at 1 %: √n D exceeds 1.83 with probability 2 e^(−2 · 1.83²) < 0.01 / 3.
    n = 20_000
    logits = torch.full((n,), logit)
    z = smoothed_bits(logits, torch.rand(n, generator=torch.Generator().manual_seed(8))).double().sort().values
    position, _, _ = mixture(z, logits.double(), DVAE_INVERSE_TEMPERATURE)
    steps = torch.arange(n + 1, dtype=torch.float64) / n
    distance = torch.maximum((position - steps[:-1]).abs().max(), (position - steps[1:]).abs().max())
    assert math.sqrt(n) * distance < 1.83


@pytest.mark.parametrize("b", [3.0, DVAE_INVERSE_TEMPERATURE])
def test_the_slope_of_smoothed_bits_is_that_of_the_implicit_function(b):
    """From F(z(l), l) = u: dz/dl = −(∂F/∂l) / (∂F/∂z)."""
    logits, uniform = scattered(-8, 8)
    logits.requires_grad_()
    z = smoothed_bits(logits, uniform, b)
    (slope,) = torch.autograd.grad(z.sum(), logits)
    _, in_logit, density = mixture(z.detach(), logits.detach(), b)
    assert torch.allclose(slope, -in_logit / density, rtol=1e-6, atol=1e-12)


def test_smoothed_bits_have_finite_values_and_slopes_in_single_precision_over_the_whole_range():
    logits = torch.linspace(-100, 30, 521).repeat_interleave(40).requires_grad_()
    uniform = torch.cat([torch.rand(521, 38, generator=torch.Generator().manual_seed(0)), torch.zeros(521, 1)], 1)
    uniform = torch.cat([uniform, torch.full((521, 1), 1 - 2.0**-24)], 1).flatten()
    z = smoothed_bits(logits, uniform)
    (slope,) = torch.autograd.grad(z.sum(), logits)
    assert z.isfinite().all()
    assert ((z >= 0) & (z <= 1 + torch.finfo(torch.float32).eps)).all()
    assert slope.isfinite().all()
    error = (z.detach().double() - smoothed_bits(logits.detach().double(), uniform.double())).abs()
    # At u = 1 − 2⁻²⁴ a rounding of 2⁻²³ stands beside e⁻ᵇ = 3e-7, which is worth 0.4 / b of z; elsewhere nothing is lost.
    assert error.max() < 0.4 / DVAE_INVERSE_TEMPERATURE
    assert error.quantile(0.95) < 1e-5


def test_slopes_of_smoothed_bits_do_not_cancel_in_single_precision():
    """The textbook form gives 64 % exact zeros at q = 0.99, where the true slopes are all positive."""
    for low, high in ((-8, 8), (math.log(99), math.log(99) + 0.01)):
        logits, uniform = scattered(low, high)
        single, double = logits.float().requires_grad_(), logits.float().double().requires_grad_()
        (measured,) = torch.autograd.grad(smoothed_bits(single, uniform.float()).sum(), single)
        (exact,) = torch.autograd.grad(smoothed_bits(double, uniform.float().double()).sum(), double)
        assert (measured != 0).all()
        error = (measured.double() - exact).abs()
        assert error.max() < 5e-3
        assert (error / exact).quantile(0.99) < 5e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("logit", [-100.0, -20.0, -3.0, 0.0, 3.0, 20.0, 30.0])
def test_smoothed_bits_grow_with_the_noise(logit, dtype):
    uniform = torch.linspace(0, 1 - 2.0**-20, 5000, dtype=dtype)
    z = smoothed_bits(torch.full_like(uniform, logit), uniform)
    # Never down by more than a rounding, and from one end to the other.
    assert z.diff().min() > -2 * torch.finfo(dtype).eps
    assert z[-1] - z[0] > 0.5


@pytest.mark.parametrize("uniform", [0.1, 0.5, 0.9])
def test_smoothed_bits_grow_with_their_logit(uniform):
    z = smoothed_bits(torch.linspace(-30, 30, 2000, dtype=torch.float64), torch.full((2000,), uniform, dtype=torch.float64))
    assert z.diff().min() > -1e-12
    z = smoothed_bits(torch.linspace(-8, 8, 2000, dtype=torch.float64), torch.full((2000,), uniform, dtype=torch.float64))
    assert (z.diff() > 0).all()


def test_smoothed_bits_are_mirrored_when_the_logit_turns():
    logits, uniform = scattered(-8, 8)
    assert torch.allclose(smoothed_bits(-logits, 1 - uniform), 1 - smoothed_bits(logits, uniform), atol=1e-11)


def test_smoothed_bits_become_hard_as_the_inverse_temperature_grows():
    logits, uniform = scattered(-3, 3)
    hard = (uniform > 1 - logits.sigmoid()).double()
    distances = [(smoothed_bits(logits, uniform, b) - hard).abs().mean().item() for b in (5.0, 15.0, 45.0, 135.0)]
    # The mean of an exponential is 1/b: each step takes a factor of three off.
    for softer, harder in itertools.pairwise(distances):
        assert harder < 0.4 * softer
    assert distances[-1] == pytest.approx(1 / 135, rel=0.05)
