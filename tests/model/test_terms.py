"""The two terms of the bound: their values and gradients are those of the definitions, in nats."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bvae_cli.model.terms import kl_to_uniform, negative_log_likelihood

WIDTHS = (1, 2, 55, 56, 57, 112, 784)


def draws(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def defined_likelihood(logits, x):
    """−Σ_d [x ln p + (1 − x) ln(1 − p)] with p and 1 − p as logistic functions of their own."""
    return -(x * logits.sigmoid().log() + (1 - x) * (-logits).sigmoid().log()).sum(-1)


def defined_kl(logits):
    q, p = logits.sigmoid(), (-logits).sigmoid()
    return (q * (2 * q).log() + p * (2 * p).log()).sum(-1)


@pytest.mark.parametrize("features", WIDTHS)
def test_the_likelihood_is_that_of_independent_bits_or_greys(features):
    logits = 4 * draws(features, 3, 2, features)
    for x in ((draws(1, 3, 2, features) > 0).double(), draws(2, 3, 2, features).sigmoid()):
        torch.testing.assert_close(negative_log_likelihood(logits, x), defined_likelihood(logits, x), rtol=1e-12, atol=1e-12)


@given(seed=st.integers(0, 2**31), features=st.sampled_from(WIDTHS), scale=st.sampled_from([0.01, 1.0, 8.0]))
def test_both_gradients_are_those_of_the_definitions_for_rows_of_unequal_weight(seed, features, scale):
    logits = (scale * draws(seed, 4, features)).requires_grad_()
    x, weights = draws(seed + 1, 4, features).sigmoid(), draws(seed + 2, 4)
    pairs = (
        (negative_log_likelihood(logits, x), defined_likelihood(logits, x)),
        (kl_to_uniform(logits), defined_kl(logits)),
    )
    for value, definition in pairs:
        torch.testing.assert_close(value, definition, rtol=1e-10, atol=1e-12)
        gradients = [torch.autograd.grad((weights * each).sum(), logits)[0] for each in (value, definition)]
        torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


def test_gradients_pass_torchs_own_check_by_differences():
    logits, x = draws(0, 3, 57).requires_grad_(), draws(1, 3, 57).sigmoid()
    assert torch.autograd.gradcheck(lambda values: negative_log_likelihood(values, x), (logits,))
    assert torch.autograd.gradcheck(kl_to_uniform, (logits,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_beyond_every_digit_cost_what_they_are_and_stay_finite(dtype):
    logits = torch.tensor([[200.0, -200.0, 1e4, 0.0]], dtype=dtype, requires_grad=True)
    x = torch.tensor([[0.0, 1.0, 1.0, 1.0]], dtype=dtype)
    value = negative_log_likelihood(logits, x)
    assert value.item() == pytest.approx(400 + math.log(2), rel=1e-6)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert gradient.tolist() == [[1.0, -1.0, 0.0, -0.5]]
    kl = kl_to_uniform(logits)
    assert kl.item() == pytest.approx(3 * math.log(2), rel=1e-6)
    (gradient,) = torch.autograd.grad(kl.sum(), logits)
    assert gradient.abs().max() < 1e-30


def test_single_precision_loses_no_more_than_the_sum_of_its_roundings():
    logits = (6 * draws(0, 200, 784)).float()
    x = (draws(1, 200, 784) > 0).float()
    exact = defined_likelihood(logits.double(), x.double())
    torch.testing.assert_close(negative_log_likelihood(logits, x).double(), exact, rtol=5e-7, atol=0)


def test_a_small_divergence_keeps_its_digits_in_single_precision():
    logits = (0.02 * draws(0, 100, 300)).float()
    # Σ λ²/8 to fourth order.
    expected = (logits.double() ** 2 / 8 - logits.double() ** 4 / 64).sum(-1)
    torch.testing.assert_close(kl_to_uniform(logits).double(), expected, rtol=0, atol=2e-5)


def test_one_row_of_data_serves_many_draws_of_logits():
    logits, x = draws(0, 5, 2, 60), draws(1, 2, 60).sigmoid()
    torch.testing.assert_close(negative_log_likelihood(logits, x), defined_likelihood(logits, x.expand(5, 2, 60)))


def test_no_second_derivative_is_given_rather_than_a_wrong_one():
    logits = draws(0, 2, 3).requires_grad_()
    for value in (negative_log_likelihood(logits, torch.zeros(2, 3).double()), kl_to_uniform(logits)):
        (gradient,) = torch.autograd.grad(value.sum(), logits, create_graph=True)
        with pytest.raises(RuntimeError):
            torch.autograd.grad(gradient.sum(), logits)
