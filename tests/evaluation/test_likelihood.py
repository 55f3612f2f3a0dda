import math

import pytest
import torch
from torch.distributions import Bernoulli

from bvae_cli.codes.repetition import Repetition
from bvae_cli.codes.uncoded import Uncoded
from bvae_cli.evaluation import likelihood
from bvae_cli.evaluation.likelihood import measure_bounds
from bvae_cli.model.bvae import BinaryVAE
from tests.helpers import Hamming, all_words, constructed_model, encoded_by_hand, joint_threshold, small_model

LN2 = math.log(2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_x(rows: int, features: int) -> torch.Tensor:
    return torch.randint(0, 2, (rows, features), generator=generator(7), dtype=torch.uint8)


@pytest.mark.parametrize("logit", [0.0, 0.7, 3.0])
def test_an_encoder_that_is_the_true_posterior_makes_every_bound_log_p(logit):
    """Pixel j is bit j, wrong with probability δ = σ(−a): p(x) = 2^−D, and q(m given x) with logits ±a is the posterior.

    So log w = log p(x) for every draw of IWAE. The ELBO, whose KL is in closed form, has that mean, and the spread of
    log p(x given m): a² δ (1 − δ) for each pixel. KL = D (ln 2 − H(δ)).
    """
    d, rows = 6, 5000
    bounds = measure_bounds(constructed_model(Uncoded().build(d), logit, logit), some_x(rows, d), 5, generator())
    delta = 1 / (1 + math.exp(logit))
    entropy = -delta * math.log(delta) - (1 - delta) * math.log(1 - delta)
    for bound in (bounds.iwae, bounds.log_likelihood):
        assert bound.mean == pytest.approx(-d * LN2, rel=1e-5)
        assert bound.standard_error == pytest.approx(0, abs=1e-5)
    spread = logit * math.sqrt(d * delta * (1 - delta) / rows)
    assert bounds.elbo.standard_error == pytest.approx(spread, rel=0.1)
    assert abs(bounds.elbo.mean + d * LN2) <= joint_threshold(3) * spread + 1e-5
    assert bounds.bits_per_dim.mean == pytest.approx(1, abs=(joint_threshold(3) * spread + 1e-5) / (d * LN2))
    assert bounds.kl.mean == pytest.approx(d * (LN2 - entropy), abs=1e-5)
    assert bounds.iwae_samples == 5


def test_an_encoder_that_says_nothing_loses_the_whole_information_of_the_pixels():
    """With q uniform the KL is zero and E[log p(x given m)] = −D (softplus(a) − a/2) at x of zeros and ones."""
    d, logit, rows = 4, 2.0, 4000
    bounds = measure_bounds(constructed_model(Uncoded().build(d), 0.0, logit), some_x(rows, d), 64, generator())
    expected = -d * (math.log1p(math.exp(logit)) - logit / 2)
    assert bounds.kl.mean == pytest.approx(0, abs=1e-6)
    assert abs(bounds.elbo.mean - expected) < joint_threshold(1) * bounds.elbo.standard_error
    # Each pixel's term is ±a/2 around its mean: the standard error is known.
    assert bounds.elbo.standard_error == pytest.approx(math.sqrt(d / rows) * logit / 2, rel=0.1)
    assert bounds.log_likelihood.mean == pytest.approx(-d * LN2, rel=1e-5)
    assert bounds.elbo.mean < bounds.iwae.mean < bounds.log_likelihood.mean + 5 * bounds.iwae.standard_error


@pytest.mark.parametrize(("spec", "n"), [(Uncoded(), 5), (Repetition(R=2), 8), (Hamming(), 7)])
def test_the_log_likelihood_of_a_data_set_is_the_mean_over_its_rows_of_sums_over_all_words(spec, n):
    model = small_model(spec.build(n), features=5, gain=2.0).float()
    x = some_x(40, 5)
    codewords = torch.tensor([encoded_by_hand(spec, word) for word in all_words(model.code.k)]).float()
    with torch.no_grad():
        pixels = Bernoulli(logits=model.decoder(codewords).double())
        rows = pixels.log_prob(x.double().unsqueeze(1)).sum(-1).logsumexp(-1) - model.code.k * LN2
    bounds = measure_bounds(model, x, 3, generator())
    assert bounds.log_likelihood.mean == pytest.approx(rows.mean().item(), rel=1e-5)
    assert bounds.log_likelihood.standard_error == pytest.approx(rows.std().item() / math.sqrt(40), rel=1e-4)
    assert bounds.bits_per_dim.mean == pytest.approx(-bounds.elbo.mean / (5 * LN2), rel=1e-12)
    assert bounds.bits_per_dim.standard_error == pytest.approx(bounds.elbo.standard_error / (5 * LN2), rel=1e-12)


def test_log_p_is_reported_up_to_sixteen_information_bits_where_it_can_be_afforded(monkeypatch):
    for bits, reported in ((12, True), (13, True), (17, False)):
        bounds = measure_bounds(small_model(Uncoded().build(bits), 3).float(), some_x(4, 3), 2, generator())
        assert (bounds.log_likelihood is not None) == reported
    monkeypatch.setattr(likelihood, "_AFFORDED_FLOP", 2.0 * 4 * 3 * 2**13 - 1)
    for bits, reported in ((12, True), (13, False)):
        bounds = measure_bounds(small_model(Uncoded().build(bits), 3).float(), some_x(4, 3), 2, generator())
        assert (bounds.log_likelihood is not None) == reported


def test_information_bits_decide_whether_log_p_is_reported_and_not_code_bits():
    bounds = measure_bounds(small_model(Repetition(R=4).build(40), 3).float(), some_x(4, 3), 2, generator())
    assert bounds.log_likelihood is not None


def test_a_data_set_in_several_pieces_is_measured_whole(monkeypatch):
    model = constructed_model(Uncoded().build(3), 1.0, 2.0)
    x = some_x(25, 3)
    whole = measure_bounds(model, x, 3, generator())
    monkeypatch.setattr(likelihood, "_ROWS", 7)
    pieces = measure_bounds(model, x, 3, generator())
    # What needs no draws is the same; all 25 rows are in each mean.
    assert pieces.kl.mean == pytest.approx(whole.kl.mean, rel=1e-6)
    assert pieces.kl.standard_error == pytest.approx(whole.kl.standard_error, abs=1e-6)
    assert pieces.log_likelihood.mean == pytest.approx(whole.log_likelihood.mean, rel=1e-6)


def test_the_generator_alone_decides_the_draws():
    model: BinaryVAE = small_model(Hamming().build(7), 5, gain=2.0).float()
    state = torch.get_rng_state()
    first, again, other = (measure_bounds(model, some_x(10, 5), 2, generator(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first.elbo != other.elbo
    assert first.log_likelihood == other.log_likelihood
    assert torch.equal(torch.get_rng_state(), state)


def test_a_single_image_has_bounds_without_errors():
    bounds = measure_bounds(constructed_model(Uncoded().build(3), 1.0, 1.0), some_x(1, 3), 2, generator())
    assert bounds.elbo.standard_error is bounds.bits_per_dim.standard_error is None
    assert bounds.iwae.mean == pytest.approx(-3 * LN2, rel=1e-5)
