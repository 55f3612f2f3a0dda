"""Adam takes the steps that the paper and ``torch.optim.Adam`` take, alone and for several models side by side."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from bvae_cli.model.adam import Adam, StackedAdam
from bvae_cli.model.batched import stacked

MODELS = 3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def parameters_of(dtype):
    """Return the parameters of every model: a matrix and a vector."""
    shapes = ((4, 3), (5,))
    return [
        [nn.Parameter(torch.randn(shape, generator=generator(index)).to(dtype)) for shape in shapes]
        for index in range(MODELS)
    ]


def gradients_of(step, dtype):
    """Return gradients of very unequal size for each model."""
    scales = (1.0, 1e-6, 1e3)
    shapes = ((4, 3), (5,))
    draw = generator(100 + step)
    return [[(scale * torch.randn(shape, generator=draw)).to(dtype) for shape in shapes] for scale in scales]


def set_gradients(each, wholes, step, dtype):
    gradients = gradients_of(step, dtype)
    for place, whole in enumerate(wholes):
        whole.grad = torch.stack([own[place] for own in gradients])
    for own, values in zip(each, gradients, strict=True):
        for parameter, value in zip(own, values, strict=True):
            parameter.grad = value.clone()


def set_own_gradients(parameters, step, dtype):
    for parameter, value in zip(parameters, gradients_of(step, dtype)[0], strict=True):
        parameter.grad = value.clone()


def test_the_first_step_is_the_rate_against_the_sign_of_the_gradient():
    weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    weight.grad = torch.tensor([1e-3, -7.0, 0.0], dtype=torch.float64)
    Adam([weight], lr=0.25).step()
    # m / (1 − β₁) = g and √(v / (1 − β₂)) = |g|, so the step is α g / (|g| + ε).
    expected = torch.tensor([-0.25 / (1 + 1e-5), 0.25 / (1 + 1e-8 / 7), 0.0], dtype=torch.float64)
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-9, atol=0)


def test_two_steps_are_those_of_the_papers_formulas_written_out():
    first, second, rate = 0.5, -2.0, 0.1
    weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
    adam = Adam([weight], lr=rate)
    expected, mean, square = 1.0, 0.0, 0.0
    for count, gradient in enumerate((first, second), start=1):
        weight.grad = torch.full((1,), gradient, dtype=torch.float64)
        adam.step()
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        expected -= rate * (mean / (1 - 0.9**count)) / ((square / (1 - 0.999**count)) ** 0.5 + 1e-8)
        assert weight.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_bit_for_bit_torchs_fused_adam_and_goes_on_from_its_state(dtype):
    own, theirs = parameters_of(dtype)[0], parameters_of(dtype)[0]
    reference = torch.optim.Adam(theirs, lr=0.02, fused=True)
    for step in range(3):
        set_own_gradients(theirs, step, dtype)
        reference.step()
    with torch.no_grad():
        for parameter, value in zip(own, theirs, strict=True):
            parameter.copy_(value)
    adam = Adam(own, lr=1.0)
    adam.load_state_dict(copy.deepcopy(reference.state_dict()))
    for step in range(3, 6):
        for parameters, optimizer in ((own, adam), (theirs, reference)):
            set_own_gradients(parameters, step, dtype)
            optimizer.step()
    assert all(torch.equal(one, other) for one, other in zip(own, theirs, strict=True))
    again = torch.optim.Adam(theirs, lr=1.0)
    again.load_state_dict({**reference.state_dict(), "state": adam.state_dict()["state"]})
    for place, moments in reference.state_dict()["state"].items():
        for name, value in moments.items():
            assert torch.equal(again.state_dict()["state"][place][name], value)


def test_a_rate_given_as_a_tensor_is_that_rate():
    one, other = parameters_of(torch.float64)[0], parameters_of(torch.float64)[0]
    for parameters, rate in ((one, 0.3), (other, torch.tensor(0.3, dtype=torch.float64))):
        set_own_gradients(parameters, 0, torch.float64)
        Adam(parameters, lr=rate).step()
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_forgotten_gradients_are_gone():
    parameters = parameters_of(torch.float64)[0]
    set_own_gradients(parameters, 0, torch.float64)
    Adam(parameters, lr=0.1).zero_grad()
    assert all(parameter.grad is None for parameter in parameters)


def test_building_one_and_stepping_does_not_import_torchs_compiler():
    program = (
        "import sys, torch\nfrom bvae_cli.model.adam import Adam\n"
        "weight = torch.nn.Parameter(torch.zeros(2))\nweight.sum().backward()\nAdam([weight], 0.1).step()\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_steps_are_those_of_adam_with_every_models_own_rate_and_count(dtype, tolerance):
    rates = [0.1, 0.001, 0.03]
    solitary, joined = parameters_of(dtype), parameters_of(dtype)
    alone = [torch.optim.Adam(own, lr=rate) for own, rate in zip(solitary, rates, strict=True)]
    optimizers = [Adam(own, lr=rate) for own, rate in zip(joined, rates, strict=True)]
    # The last model has taken two steps before.
    for step in (50, 51):
        for own, optimizer in ((solitary, alone), (joined, optimizers)):
            set_gradients(own, [], step, dtype)
            optimizer[2].step()
    wholes = [stacked(list(own)) for own in zip(*joined, strict=True)]
    adam = StackedAdam(wholes, optimizers)
    for step in range(5):
        set_gradients(solitary, wholes, step, dtype)
        adam.step(torch.tensor(rates, dtype=torch.float64))
        for optimizer in alone:
            optimizer.step()
        for index, own in enumerate(solitary):
            for whole, parameter in zip(wholes, own, strict=True):
                torch.testing.assert_close(whole.detach()[index], parameter.detach(), rtol=tolerance, atol=tolerance)
    for one, other in zip(optimizers, alone, strict=True):
        state, expected = one.state_dict()["state"], other.state_dict()["state"]
        for place in expected:
            assert state[place]["step"] == expected[place]["step"]
            torch.testing.assert_close(state[place]["exp_avg"], expected[place]["exp_avg"])
            torch.testing.assert_close(state[place]["exp_avg_sq"], expected[place]["exp_avg_sq"])


def test_a_model_takes_its_next_step_alone_with_its_slice_of_the_moments():
    solitary, joined = parameters_of(torch.float64), parameters_of(torch.float64)
    alone = torch.optim.Adam(solitary[1], lr=0.1)
    optimizers = [Adam(own, lr=0.1) for own in joined]
    wholes = [stacked(list(own)) for own in zip(*joined, strict=True)]
    adam = StackedAdam(wholes, optimizers)
    set_gradients(solitary, wholes, 0, torch.float64)
    adam.step(torch.full((MODELS,), 0.1, dtype=torch.float64))
    alone.step()
    set_gradients(solitary, [], 1, torch.float64)
    set_gradients(joined, [], 1, torch.float64)
    alone.step()
    optimizers[1].step()
    for parameter, expected in zip(joined[1], solitary[1], strict=True):
        torch.testing.assert_close(parameter.detach(), expected.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("equal", [False, True])
def test_models_of_one_rate_and_one_count_take_the_same_steps_in_one_call_and_in_a_call_each(equal):
    solitary, joined = parameters_of(torch.float64), parameters_of(torch.float64)
    alone = [torch.optim.Adam(own, lr=0.05) for own in solitary]
    wholes = [stacked(list(own)) for own in zip(*joined, strict=True)]
    adam = StackedAdam(wholes, [Adam(own, lr=0.05) for own in joined])
    for step in range(3):
        set_gradients(solitary, wholes, step, torch.float64)
        adam.step(torch.full((MODELS,), 0.05, dtype=torch.float64), equal=equal)
        for optimizer in alone:
            optimizer.step()
    for index, own in enumerate(solitary):
        for whole, parameter in zip(wholes, own, strict=True):
            torch.testing.assert_close(whole.detach()[index], parameter.detach(), rtol=1e-12, atol=1e-12)


def test_equal_rates_of_unequal_counts_are_steps_of_each_ones_own_count():
    joined, solitary = parameters_of(torch.float64), parameters_of(torch.float64)
    alone = [torch.optim.Adam(own, lr=0.05) for own in solitary]
    optimizers = [Adam(own, lr=0.05) for own in joined]
    for own, optimizer in ((solitary, alone), (joined, optimizers)):
        set_gradients(own, [], 9, torch.float64)
        optimizer[1].step()
    wholes = [stacked(list(own)) for own in zip(*joined, strict=True)]
    adam = StackedAdam(wholes, optimizers)
    set_gradients(solitary, wholes, 0, torch.float64)
    adam.step(torch.full((MODELS,), 0.05, dtype=torch.float64), equal=True)
    for optimizer in alone:
        optimizer.step()
    for index, own in enumerate(solitary):
        for whole, parameter in zip(wholes, own, strict=True):
            torch.testing.assert_close(whole.detach()[index], parameter.detach(), rtol=1e-12, atol=1e-12)


def test_a_separated_model_leaves_the_others_moments_alone():
    joined = parameters_of(torch.float64)
    optimizers = [Adam(own, lr=0.1) for own in joined]
    wholes = [stacked(list(own)) for own in zip(*joined, strict=True)]
    adam = StackedAdam(wholes, optimizers)
    set_gradients(parameters_of(torch.float64), wholes, 0, torch.float64)
    adam.step(torch.full((MODELS,), 0.1, dtype=torch.float64))
    before = [mean.clone() for mean in adam.means]
    optimizers[0].separate()
    set_gradients(joined, [], 1, torch.float64)
    optimizers[0].step()
    assert all(torch.equal(mean, kept) for mean, kept in zip(adam.means, before, strict=True))
    assert float(optimizers[0].counts) == 2
    assert adam.counts.tolist() == [1, 1, 1]
