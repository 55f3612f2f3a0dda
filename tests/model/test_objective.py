"""The objective and the bounds against sums over all words, and over all draws."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Bernoulli, kl_divergence

from bvae_cli.codes.base import CodeSpec
from bvae_cli.codes.repetition import Repetition
from bvae_cli.codes.uncoded import Uncoded
from bvae_cli.errors import UsageError
from bvae_cli.model import objective
from bvae_cli.model.bvae import BinaryVAE, Posterior
from bvae_cli.model.objective import (
    Losses,
    bitwise_surrogate,
    consistency,
    elbo,
    elbo_with,
    iwae,
    kl_to_uniform,
    log_likelihood,
    training_losses,
)
from bvae_cli.model.relaxation import ESTIMATORS
from bvae_cli.model.terms import negative_log_likelihood
from tests.helpers import (
    SMALL_CODES,
    Hamming,
    all_words,
    encoded_by_hand,
    every_small_code,
    expected_codeword,
    joint_threshold,
    property_settings,
    small_model,
    words_tensor,
)

LN2 = math.log(2)
# Four information bits each: 16 words, and 256 pairs of them.
OF_FOUR_BITS = {"none": (Uncoded(), 4), "repetition": (Repetition(R=2), 8), "hamming": (Hamming(), 7)}


def of_four_bits(name: str, features: int = 5) -> BinaryVAE:
    spec, n = OF_FOUR_BITS[name]
    return small_model(spec.build(n), features, gain=2.0, seed=1).requires_grad_(False)


def some_x(features: int, rows: int = 1, seed: int = 0) -> Tensor:
    return torch.randint(0, 2, (rows, features), generator=torch.Generator().manual_seed(seed)).double()


def log_joint(model: BinaryVAE, spec: CodeSpec, x: Tensor) -> dict[tuple[int, ...], float]:
    """ln p(x, m) of every word m in plain Python from the decoder's logits of its codeword, for one x ``[D]``."""
    joint = {}
    for word in all_words(model.code.k):
        logits = model.decoder(torch.tensor(encoded_by_hand(spec, word), dtype=torch.float64)).tolist()
        joint[word] = (
            math.fsum(
                math.log(1 / (1 + math.exp(-logit)) if pixel else 1 / (1 + math.exp(logit)))
                for pixel, logit in zip(x.tolist(), logits, strict=True)
            )
            - len(word) * LN2
        )
    return joint


def log_posterior(model: BinaryVAE, x: Tensor) -> dict[tuple[int, ...], float]:
    """ln q(m given x) of every word m, from the logits λ of one x ``[D]``."""
    logits = model.encode(x.unsqueeze(0)).logits[0].tolist()
    return {
        word: math.fsum(-math.log1p(math.exp(-logit if bit else logit)) for bit, logit in zip(word, logits, strict=True))
        for word in all_words(model.code.k)
    }


# The terms


@given(logits=st.lists(st.floats(-30, 30), min_size=1, max_size=12))
@property_settings
def test_kl_is_the_explicit_sum_over_both_values_of_each_bit(logits):
    expected = 0.0
    for logit in logits:
        p = 1 / (1 + math.exp(-logit))
        expected += sum(mass * math.log(2 * mass) for mass in (p, 1 / (1 + math.exp(logit))))
    assert kl_to_uniform(torch.tensor(logits, dtype=torch.float64)).item() == pytest.approx(expected, abs=1e-12)


def test_kl_is_that_of_torch_distributions():
    logits = 3 * torch.randn(50, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    uniform = Bernoulli(probs=torch.tensor(0.5, dtype=torch.float64))
    assert torch.allclose(kl_to_uniform(logits), kl_divergence(Bernoulli(logits=logits), uniform).sum(-1), atol=1e-12)


def test_kl_of_sure_bits_is_ln_2_each_and_of_even_bits_zero_in_single_precision():
    assert kl_to_uniform(torch.tensor([200.0, -200.0, 1e4])).item() == pytest.approx(3 * LN2, rel=1e-6)
    assert kl_to_uniform(torch.zeros(100)).item() == pytest.approx(0.0, abs=1e-5)


def test_the_slope_of_the_kl_is_the_logit_times_the_variance_of_its_bit():
    logits = torch.linspace(-40, 40, 161, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(kl_to_uniform(logits), logits)
    with torch.no_grad():
        assert torch.allclose(slope, logits * torch.sigmoid(logits) * torch.sigmoid(-logits), atol=1e-12)


def test_the_negative_log_likelihood_of_bits_is_that_of_torch_distributions():
    logits, x = 4 * torch.randn(3, 20, 6, dtype=torch.float64), some_x(6, 20)
    expected = -Bernoulli(logits=logits).log_prob(x.expand(3, 20, 6)).sum(-1)
    assert torch.allclose(negative_log_likelihood(logits, x.expand(3, 20, 6)), expected, atol=1e-12)


@given(logit=st.floats(-30, 30), x=st.floats(0, 1))
@property_settings
def test_the_negative_log_likelihood_of_grey_is_the_cross_entropy(logit, x):
    expected = x * math.log1p(math.exp(-logit)) + (1 - x) * math.log1p(math.exp(logit))
    values = torch.tensor([[logit], [x]], dtype=torch.float64)
    assert negative_log_likelihood(values[0], values[1]).item() == pytest.approx(expected, abs=1e-12)


def test_the_negative_log_likelihood_of_a_sure_mistake_is_its_logit_and_not_infinite():
    logits = torch.tensor([1e4, -1e4, 1e4])
    assert negative_log_likelihood(logits, torch.tensor([0.0, 1.0, 1.0])).item() == pytest.approx(2e4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_consistency_without_a_code_is_exactly_zero(dtype):
    model = small_model(Uncoded().build(6))
    logits = 5 * torch.randn(100, 6).to(dtype)
    assert torch.equal(consistency(model, Posterior(logits, model.code.soft_decode(logits))), torch.zeros(100, dtype=dtype))


def test_consistency_favours_saturated_copies_even_where_they_agree():
    model = small_model(Repetition(R=3).build(3))

    def at(logit: float) -> float:
        logits = torch.full((1, 3), logit, dtype=torch.float64)
        return consistency(model, Posterior(logits, model.code.soft_decode(logits))).item()

    assert at(1.0) == pytest.approx((1 / (1 + math.exp(-1)) - 1 / (1 + math.exp(-3))) ** 2, rel=1e-12)
    assert at(1.0) == pytest.approx(0.049, abs=5e-4)
    assert at(8.0) < 1e-6


@every_small_code
def test_consistency_is_the_mean_square_between_code_bits_and_expected_codeword(spec, n):
    model = small_model(spec.build(n))
    logits = 2 * torch.randn(1, n, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    decoded = model.code.soft_decode(logits)
    expected = expected_codeword(spec, decoded.sigmoid()[0].tolist())
    squares = [(p - c) ** 2 for p, c in zip(logits.sigmoid()[0].tolist(), expected, strict=True)]
    assert consistency(model, Posterior(logits, decoded)).item() == pytest.approx(math.fsum(squares) / n, abs=1e-13)


def test_consistency_of_models_side_by_side_is_that_of_each():
    model = small_model(Repetition(R=3).build(6))
    logits = 2 * torch.randn(2, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    both, first, second = (consistency(model, Posterior(some, model.code.soft_decode(some))) for some in (logits, *logits))
    assert torch.equal(both, torch.stack([first, second]))


def test_the_total_is_the_batch_mean_of_the_weighted_terms():
    losses = Losses(torch.tensor([1.0, 3.0]), torch.tensor([10.0, 30.0]), torch.tensor([100.0, 300.0]))
    assert losses.total(0.5, 0.01).item() == pytest.approx(2 + 0.5 * 20 + 0.01 * 200)
    assert losses.total(torch.tensor(0.0), 0.0).item() == pytest.approx(2.0)
    side_by_side = Losses(*(torch.stack([term, 2 * term]) for term in losses))
    totals = side_by_side.total(torch.tensor([[0.5], [1.0]]), torch.tensor([[0.01], [0.0]]))
    assert totals.tolist() == pytest.approx([14.0, 44.0])


# The training loss


def expected_training_gradient(model: BinaryVAE, spec: CodeSpec, x: Tensor) -> tuple[float, list[Tensor]]:
    """E_q[−ln p(x given C(m))] as a sum over all words, and its gradient in every weight, for one x ``[1, D]``."""
    words = words_tensor(model.code.k)
    codewords = torch.tensor([encoded_by_hand(spec, word) for word in all_words(model.code.k)], dtype=torch.float64)
    weights = Bernoulli(logits=model.encode(x).logits).log_prob(words).sum(-1).exp()
    loss = -Bernoulli(logits=model.decoder(codewords)).log_prob(x).sum(-1)
    total = weights @ loss
    return total.item(), list(torch.autograd.grad(total, list(model.parameters())))


@pytest.mark.parametrize("name", OF_FOUR_BITS)
def test_the_training_loss_and_its_gradient_in_all_weights_are_unbiased_with_disarm(name):
    """The noise is integrated out: `disarm` is constant on the 3⁴ boxes between its thresholds."""
    model = of_four_bits(name).requires_grad_(True)
    x = some_x(5)
    exact, exact_gradients = expected_training_gradient(model, OF_FOUR_BITS[name][0], x)
    p = model.encode(x).logits[0].sigmoid().detach()
    edges = torch.stack([torch.zeros_like(p), torch.minimum(p, 1 - p), torch.maximum(p, 1 - p), torch.ones_like(p)])
    boxes = torch.tensor(list(itertools.product(range(3), repeat=4)))
    uniform = ((edges[1:] + edges[:-1]) / 2).gather(0, boxes)
    volume = (edges[1:] - edges[:-1]).gather(0, boxes).prod(-1)
    losses = training_losses(model, x.expand(len(boxes), 5), uniform, "disarm", "codeword", 1.0)
    expected = volume @ losses.reconstruction
    assert expected.item() == pytest.approx(exact, rel=1e-12)
    for measured, by_hand in zip(torch.autograd.grad(expected, list(model.parameters())), exact_gradients, strict=True):
        assert torch.allclose(measured, by_hand, rtol=1e-9, atol=1e-11)


def test_the_kl_of_the_training_loss_is_over_information_bits_and_not_over_code_bits():
    model = of_four_bits("repetition")
    x = some_x(5, 8)
    losses = training_losses(model, x, torch.rand(8, 4, dtype=torch.float64), "st", "codeword", 1.0)
    logits = model.encode(x).logits
    assert logits.shape == (8, 4)
    assert torch.allclose(losses.kl, kl_divergence(Bernoulli(logits=logits), Bernoulli(torch.tensor(0.5).double())).sum(-1))
    assert (losses.kl <= 4 * LN2).all()


def inputs_of_the_decoder(model: BinaryVAE, x: Tensor, uniform: Tensor, estimator: str, sampling: str) -> list[Tensor]:
    seen: list[Tensor] = []
    handle = model.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    training_losses(model, x, uniform, estimator, sampling, 0.5)
    handle.remove()
    return seen


@every_small_code
@pytest.mark.parametrize("estimator", [name for name, estimator in ESTIMATORS.items() if estimator.hard])
def test_with_codeword_sampling_the_decoder_sees_true_codewords_only(spec, n, estimator):
    model = small_model(spec.build(n))
    codebook = {encoded_by_hand(spec, word) for word in all_words(model.code.k)}
    uniform = torch.rand(200, model.code.k, dtype=torch.float64)
    for seen in inputs_of_the_decoder(model, some_x(5, 200), uniform, estimator, "codeword"):
        assert {tuple(row) for row in seen.tolist()} <= codebook


def test_with_bitwise_sampling_each_code_bit_is_drawn_on_its_own_from_its_re_encoded_marginal():
    model = of_four_bits("repetition")
    x, uniform = some_x(5, 200), torch.rand(200, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (seen,) = inputs_of_the_decoder(model, x, uniform, "st", "bitwise")
    marginals = model.encode(x).logits.sigmoid().repeat(1, 2)
    assert torch.equal(seen, (uniform < marginals).double())
    assert (seen[:, :4] != seen[:, 4:]).any()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_without_a_code_both_ways_of_sampling_are_the_same(estimator):
    model = of_four_bits("none").requires_grad_(True)
    x, uniform = some_x(5, 30), torch.rand(30, 4, dtype=torch.float64)
    totals = [training_losses(model, x, uniform, estimator, way, 0.5).total(1.0, 0.01) for way in ("codeword", "bitwise")]
    assert torch.equal(*totals)
    for one, other in zip(*(torch.autograd.grad(total, list(model.parameters())) for total in totals), strict=True):
        assert torch.equal(one, other)


@every_small_code
@pytest.mark.parametrize("sampling", ["codeword", "bitwise"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_trains_every_weight_through_every_code(spec, n, estimator, sampling):
    model = small_model(spec.build(n), features=5).float()
    noise = model.code.k if sampling == "codeword" else n
    losses = training_losses(model, some_x(5, 6).float(), torch.rand(6, noise), estimator, sampling, 0.7)
    assert [term.shape for term in losses] == [(6,)] * 3
    losses.total(1.0, 0.01).backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()


# The bounds, with their draws enumerated


def with_draws(monkeypatch: pytest.MonkeyPatch, words: Tensor) -> None:
    """Let the words ``[S, B, K]`` be drawn, instead of random ones."""

    def draw(logits: Tensor, samples: int, generator: object) -> Tensor:
        assert (samples, *logits.shape) == words.shape
        return words

    monkeypatch.setattr(objective, "_draw", draw)


def all_draws(model: BinaryVAE, x: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Return all draws of so many words, ``[S, 2^(K S), K]``, and the probability of each under q, ``[2^(K S)]``."""
    k = model.code.k
    words = torch.tensor(list(itertools.product(all_words(k), repeat=samples)), dtype=torch.float64).transpose(0, 1)
    log_q = Bernoulli(logits=model.encode(x).logits).log_prob(words).sum((0, -1))
    return words, log_q.exp()


@pytest.mark.parametrize("name", OF_FOUR_BITS)
@pytest.mark.parametrize("row", range(3))
def test_bounds_are_in_order_in_expectation_over_all_draws(name, row, monkeypatch):
    """E[ELBO] = E[IWAE-1] ≤ E[IWAE-2] ≤ log p(x), each the sum of its definition in plain Python."""
    model, spec = of_four_bits(name), OF_FOUR_BITS[name][0]
    x = some_x(5, 3)[row : row + 1]
    log_p, log_q = log_joint(model, spec, x[0]), log_posterior(model, x[0])
    log_w = {word: log_p[word] - log_q[word] for word in log_p}
    expected_one = math.fsum(math.exp(log_q[m]) * log_w[m] for m in log_w)
    expected_two = math.fsum(
        math.exp(log_q[a] + log_q[b]) * math.log((math.exp(log_w[a]) + math.exp(log_w[b])) / 2) for a in log_w for b in log_w
    )
    exact = math.log(math.fsum(math.exp(value) for value in log_p.values()))

    one, weights = all_draws(model, x, 1)
    with_draws(monkeypatch, one)
    elbo_mean = (weights @ elbo(model, x.expand(16, 5))).item()
    iwae_mean = (weights @ iwae(model, x.expand(16, 5), 1)).item()
    two, weights = all_draws(model, x, 2)
    with_draws(monkeypatch, two)
    iwae_two_mean = (weights @ iwae(model, x.expand(256, 5), 2)).item()

    assert elbo_mean == pytest.approx(expected_one, rel=1e-12)
    assert iwae_mean == pytest.approx(expected_one, rel=1e-12)
    assert iwae_two_mean == pytest.approx(expected_two, rel=1e-12)
    assert log_likelihood(model, x).item() == pytest.approx(exact, rel=1e-12)
    assert elbo_mean < iwae_two_mean < log_likelihood(model, x).item()


@pytest.mark.parametrize(
    ("spec", "n"), [(Uncoded(), 8), (Hamming(), 14), (Repetition(R=3), 30), (Uncoded(), 12), (Hamming(), 21)]
)
def test_bounds_are_in_order_up_to_twelve_information_bits(spec, n, monkeypatch):
    """IWAE-1 of a word is its log w; over all words and all pairs of words these give E[IWAE-1] and E[IWAE-2]."""
    model = small_model(spec.build(n), gain=2.0, seed=4).requires_grad_(False)
    x = some_x(5)
    words, q = all_draws(model, x, 1)
    with_draws(monkeypatch, words)
    log_w = iwae(model, x.expand(words.shape[1], 5), 1)
    exact = log_likelihood(model, x).item()
    assert torch.logsumexp(q.log() + log_w, 0).item() == pytest.approx(exact, rel=1e-10)
    pairs = sum(
        (q[some] @ (torch.logaddexp(log_w[some, None], log_w) - LN2) @ q).item() for some in torch.arange(len(q)).split(512)
    )
    assert (q @ log_w).item() < pairs < exact


@pytest.mark.parametrize(("spec", "n"), [(Uncoded(), 4), (Hamming(), 7), (Repetition(R=2), 12), (Uncoded(), 8)])
def test_the_mean_of_many_iwae_64_lies_between_the_elbo_and_log_p(spec, n):
    """One draw may exceed log p(x). The four models, two sides each, fail together with probability 1 %."""
    model = small_model(spec.build(n), gain=3.0, seed=2).requires_grad_(False)
    x = some_x(5)
    log_q = log_posterior(model, x[0])
    log_p = log_joint(model, spec, x[0])
    elbo_mean = math.fsum(math.exp(log_q[m]) * (log_p[m] - log_q[m]) for m in log_q)
    values = iwae(model, x.expand(3000, 5), 64, torch.Generator().manual_seed(1))
    error = values.std().item() / math.sqrt(len(values))
    assert values.mean().item() < log_likelihood(model, x).item() + joint_threshold(8) * error
    assert values.mean().item() > elbo_mean + joint_threshold(8) * error


@pytest.mark.parametrize("name", OF_FOUR_BITS)
def test_elbos_of_random_draws_have_the_expectation_of_the_enumerated_ones(name):
    model, spec = of_four_bits(name), OF_FOUR_BITS[name][0]
    x = some_x(5)
    log_p, log_q = log_joint(model, spec, x[0]), log_posterior(model, x[0])
    expected = math.fsum(math.exp(log_q[m]) * (log_p[m] - log_q[m]) for m in log_q)
    values = elbo(model, x.expand(20_000, 5), torch.Generator().manual_seed(5))
    assert abs(values.mean().item() - expected) < joint_threshold(3) * values.std().item() / math.sqrt(20_000)


@pytest.mark.parametrize("name", OF_FOUR_BITS)
def test_the_bound_with_given_noise_is_that_of_the_word_that_the_noise_draws(name):
    """A bit is 1 where its noise is below its probability, and 0 where they are equal."""
    model, spec = of_four_bits(name), OF_FOUR_BITS[name][0]
    x, uniform = some_x(5, 20), torch.rand(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    logits = model.encode(x).logits
    uniform[0] = logits[0].sigmoid()
    probabilities = logits.sigmoid().tolist()
    words = [
        tuple(int(u < p) for u, p in zip(*row, strict=True)) for row in zip(uniform.tolist(), probabilities, strict=True)
    ]
    assert words[0] == (0, 0, 0, 0)
    codewords = torch.tensor([encoded_by_hand(spec, word) for word in words], dtype=torch.float64)
    log_p = Bernoulli(logits=model.decoder(codewords)).log_prob(x).sum(-1)
    kl = kl_divergence(Bernoulli(logits=logits), Bernoulli(torch.tensor(0.5).double())).sum(-1)
    assert torch.allclose(elbo_with(model, x, uniform), log_p - kl, rtol=1e-12)
    assert torch.allclose(elbo_with(model, x, uniform, 0.25), log_p - 0.25 * kl, rtol=1e-12)


def test_the_bitwise_surrogate_is_log_p_given_the_drawn_code_bits_less_the_kl_of_information_bits(monkeypatch):
    model, x = of_four_bits("repetition"), some_x(5, 6)
    code_bits = torch.randint(0, 2, (1, 6, 8), generator=torch.Generator().manual_seed(7)).double()
    logits = model.encode(x).logits
    with_draws(monkeypatch, code_bits)
    log_p = Bernoulli(logits=model.decoder(code_bits[0])).log_prob(x).sum(-1)
    kl = kl_divergence(Bernoulli(logits=logits), Bernoulli(torch.tensor(0.5).double())).sum(-1)
    assert torch.allclose(bitwise_surrogate(model, x), log_p - kl, rtol=1e-12)


def test_without_a_code_the_bitwise_surrogate_is_the_elbo():
    model, x = of_four_bits("none"), some_x(5, 9)
    surrogate, bound = (of(model, x, torch.Generator().manual_seed(2)) for of in (bitwise_surrogate, elbo))
    assert torch.allclose(surrogate, bound, rtol=1e-12)


def test_a_bit_that_is_surely_0_is_not_drawn_even_by_noise_of_exactly_0(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda shape, generator, **others: torch.zeros(shape, **others))
    assert objective._draw(torch.tensor([-1e4, 0.0]), 1, None).tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_words_are_drawn_with_noise_of_the_precision_of_the_model(dtype):
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(8)).to(dtype)
    noise = torch.rand(5, 3, 4, dtype=dtype, generator=torch.Generator().manual_seed(9))
    drawn = objective._draw(logits, 5, torch.Generator().manual_seed(9))
    assert drawn.dtype == dtype
    assert torch.equal(drawn, (noise < logits.sigmoid()).to(dtype))


def test_beta_weighs_the_kl_of_the_elbo_and_nothing_else():
    model, x = of_four_bits("hamming"), some_x(5, 7)
    full, half = (elbo(model, x, torch.Generator().manual_seed(0), beta) for beta in (1.0, 0.5))
    assert torch.allclose(half - full, 0.5 * kl_to_uniform(model.encode(x).logits), atol=1e-12)


def test_the_same_generator_gives_the_same_bound_and_the_global_one_is_left_alone():
    model, x = of_four_bits("repetition"), some_x(5, 9)
    state = torch.get_rng_state()
    for bound in (elbo, lambda *a: iwae(a[0], a[1], 3, a[2])):
        first, again, other = (bound(model, x, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_iwae_in_slices_of_rows_is_iwae_at_once(monkeypatch):
    """An encoder as sure as this draws the same words whatever the noise, so the slices must agree."""
    model, x = of_four_bits("hamming"), some_x(5, 9)
    with torch.no_grad():
        model.encoder.layers[-1].weight.mul_(1e4)
    whole = iwae(model, x, 4, torch.Generator().manual_seed(0))
    for values in (1, 60, 100):
        monkeypatch.setattr(objective, "_VALUES_AT_ONCE", values)
        assert torch.allclose(iwae(model, x, 4, torch.Generator().manual_seed(3)), whole, rtol=1e-12)
    assert whole.shape == (9,)


# The exact log-likelihood


@every_small_code
def test_the_log_likelihood_is_a_naive_loop_over_all_words(spec, n):
    model = small_model(spec.build(n), gain=2.0).requires_grad_(False)
    x = some_x(5, 4)
    measured = log_likelihood(model, x)
    for row, value in zip(x, measured.tolist(), strict=True):
        by_hand = math.log(math.fsum(math.exp(joint) for joint in log_joint(model, spec, row).values()))
        assert value == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("features", [1, 3, 6])
@pytest.mark.parametrize("name", SMALL_CODES)
def test_the_likelihoods_of_all_possible_images_sum_to_one(name, features):
    spec, n = SMALL_CODES[name]
    model = small_model(spec.build(n), features, gain=3.0).requires_grad_(False)
    assert log_likelihood(model, words_tensor(features)).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_the_log_likelihood_in_slices_of_words_is_that_at_once(monkeypatch):
    model, x = of_four_bits("hamming"), some_x(5, 6)
    whole = log_likelihood(model, x)
    for values in (1, 60, 100):
        monkeypatch.setattr(objective, "_VALUES_AT_ONCE", values)
        assert torch.allclose(log_likelihood(model, x), whole, rtol=1e-13)


def test_sixteen_information_bits_are_enumerated_and_seventeen_refused():
    model = small_model(Uncoded().build(16), 2).requires_grad_(False)
    assert log_likelihood(model, words_tensor(2)).exp().sum().item() == pytest.approx(1, abs=1e-10)
    with pytest.raises(UsageError, match="at most 16 information bits; this model has 17"):
        log_likelihood(small_model(Uncoded().build(17), 2), words_tensor(2))


def test_all_words_come_in_counting_order_with_the_first_bit_the_lowest():
    assert objective.all_words(2).tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]
    assert len({tuple(word) for word in objective.all_words(9).tolist()}) == 512
    assert objective.all_words(3, dtype=torch.uint8).dtype == torch.uint8


@pytest.mark.parametrize("name", OF_FOUR_BITS)
@pytest.mark.parametrize(("noise", "bit"), [(0.0, 1), (1.0, 0)])
def test_the_bound_with_given_noise_is_that_of_the_word_that_the_noise_makes(name: str, noise: float, bit: int) -> None:
    model = of_four_bits(name)
    x = some_x(5)
    word = (bit,) * 4
    of_the_word = log_joint(model, OF_FOUR_BITS[name][0], x[0])[word] + 4 * LN2
    divergence = kl_to_uniform(model.encode(x).logits)
    found = elbo_with(model, x, torch.full((1, 4), noise, dtype=x.dtype), beta=0.3)
    assert float(found[0]) == pytest.approx(of_the_word - 0.3 * float(divergence[0]), rel=1e-9)


# Where tensors are made: the device "meta" holds shapes alone, and refuses a tensor of another device.


@pytest.mark.parametrize("name", OF_FOUR_BITS)
def test_bounds_are_made_where_the_model_is(name):
    model, x = of_four_bits(name).to("meta"), some_x(5, 3).to("meta")
    for bound in (elbo, lambda *both: iwae(*both, 2), bitwise_surrogate, log_likelihood):
        values = bound(model, x)
        assert (values.device.type, values.shape) == ("meta", (3,))
    assert objective.all_words(3, "meta").device.type == "meta"


# --- training over a channel


@pytest.mark.parametrize("name", OF_FOUR_BITS)
@pytest.mark.parametrize("sampling", ["codeword", "bitwise"])
def test_over_a_channel_the_decoder_sees_the_drawn_word_with_the_flipped_bits(name: str, sampling: str) -> None:
    model, x, epsilon = of_four_bits(name), some_x(5, 6), 0.3
    code, generator = model.code, torch.Generator().manual_seed(2)
    bits = objective.noise_bits(code, sampling)
    assert objective.noise_bits(code, sampling, epsilon) == bits + code.n
    uniform = torch.rand(6, bits + code.n, generator=generator, dtype=torch.float64)
    losses = training_losses(model, x, uniform, "st", sampling, 1.0, epsilon)
    posterior = model.encode(x)
    if sampling == "codeword":
        sent = code.encode((uniform[:, :bits] < posterior.logits.sigmoid()).double())
    else:
        sent = (uniform[:, :bits] < code.encode_logits(posterior.logits).sigmoid()).double()
    received = (sent.bool() ^ (uniform[:, bits:] < epsilon)).double()
    assert 0 < float((received != sent).double().mean()) < 1
    torch.testing.assert_close(losses.reconstruction, model.negative_log_likelihood(received, x))
    silent = training_losses(model, x, uniform[:, :bits], "st", sampling, 1.0)
    torch.testing.assert_close(losses.kl, silent.kl)
    torch.testing.assert_close(losses.consistency, silent.consistency)


def test_over_a_channel_the_gradient_is_that_of_the_mean_over_all_flips() -> None:
    epsilon = 0.25
    model, x = of_four_bits("none", features=3), some_x(3)
    words = torch.tensor(all_words(4), dtype=torch.float64)
    flips = (words * math.log(epsilon) + (1 - words) * math.log(1 - epsilon)).sum(-1).exp()

    def gradient_of_mean(logits: Tensor) -> Tensor:
        """d/dλ of Σ over all words and all flips of q P(flips) (−log p(x given word ⊕ flips)), by enumeration."""
        q = (words * torch.nn.functional.logsigmoid(logits) + (1 - words) * torch.nn.functional.logsigmoid(-logits)).sum(-1)
        received = (words.unsqueeze(1) != words).double()
        loss = model.negative_log_likelihood(received, x.expand(16, 16, -1))
        mean = (q.exp().unsqueeze(1) * flips * loss).sum()
        (slope,) = torch.autograd.grad(mean, logits)
        return slope

    bias = model.encoder.layers[-1].bias.requires_grad_()
    logits = model.encode(x).logits.detach().squeeze(0).requires_grad_()
    exact = gradient_of_mean(logits)
    generator, many = torch.Generator().manual_seed(0), 40_000
    rows = x.expand(many, -1)
    uniform = torch.rand(many, 8, generator=generator, dtype=torch.float64)
    # disarm is unbiased: the mean of many draws is that gradient, which the last bias has as it stands.
    losses = training_losses(model, rows, uniform, "disarm", "codeword", 1.0, epsilon)
    (found,) = torch.autograd.grad(losses.reconstruction.mean(), bias)
    torch.testing.assert_close(found, exact, atol=0.02, rtol=0.05)
