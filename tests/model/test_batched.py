"""Models side by side: values, gradients, clipping and Adam's steps are those of each model alone."""

import copy
import math

import pytest
import torch
from torch import nn

from bvae_cli.codes.repetition import Repetition
from bvae_cli.model.batched import StackedVAE, clip_gradients, stacked
from bvae_cli.model.bvae import BinaryVAE
from bvae_cli.model.convolutions import Picture
from bvae_cli.model.networks import Architecture
from bvae_cli.model.objective import training_losses
from bvae_cli.model.relaxation import ESTIMATORS
from tests.helpers import every_small_code, small_model

MODELS, ROWS, FEATURES = 3, 7, 6


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def models_of(code):
    """Return unequal models in float64."""
    torch.manual_seed(0)
    return [small_model(code, features=FEATURES) for _ in range(MODELS)]


def batches():
    return torch.randint(0, 2, (MODELS, ROWS, FEATURES), generator=generator()).double()


@every_small_code
def test_every_model_computes_what_it_computes_alone(spec, n):
    models, x = models_of(spec.build(n)), batches()
    stack = StackedVAE(models)
    posterior = stack.encode(x)
    codewords = torch.rand(MODELS, ROWS, n, dtype=torch.float64, generator=generator(1))
    probabilities = stack.decode(codewords)
    for index, model in enumerate(models):
        alone = model.encode(x[index])
        torch.testing.assert_close(posterior.code_logits[index], alone.code_logits, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(posterior.logits[index], alone.logits, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(probabilities[index], model.decode(codewords[index]), rtol=1e-10, atol=1e-10)
    assert not torch.allclose(posterior.logits[0], posterior.logits[1])


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("sampling", ["codeword", "bitwise"])
def test_losses_and_gradients_of_every_model_are_its_own(estimator, sampling):
    code = Repetition(R=2).build(6)
    models, x = models_of(code), batches()
    solitary = copy.deepcopy(models)
    uniform = torch.rand(MODELS, ROWS, code.k if sampling == "codeword" else code.n, generator=generator(2))
    betas, weights, temperatures = [0.5, 1.0, 2.0], [0.0, 0.1, 1.0], [1.0, 0.7, 0.4]
    stack = StackedVAE(models)
    losses = training_losses(stack, x, uniform, estimator, sampling, torch.tensor(temperatures).reshape(-1, 1, 1))
    totals = losses.total(torch.tensor(betas)[:, None], torch.tensor(weights)[:, None].double())
    totals.sum().backward()
    for index, model in enumerate(solitary):
        alone = training_losses(model, x[index], uniform[index], estimator, sampling, temperatures[index])
        loss = alone.total(betas[index], weights[index])
        loss.backward()
        assert float(totals[index].detach()) == pytest.approx(float(loss.detach()), rel=1e-6)
        for whole, parameter in zip(stack.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(whole.grad[index], parameter.grad, rtol=1e-6, atol=1e-7)


def test_models_and_stack_share_their_weights():
    models = models_of(Repetition(R=2).build(6))
    before = [model.state_dict() for model in copy.deepcopy(models)]
    stack = StackedVAE(models)
    assert [name for name, _ in stack.named_parameters()] == [name for name, _ in models[0].named_parameters()]
    assert all(torch.equal(value, before[1][name]) for name, value in models[1].state_dict().items())
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter[1] += 1
    for name, parameter in models[1].named_parameters():
        torch.testing.assert_close(parameter.detach(), before[1][name] + 1)
    assert all(torch.equal(value, before[2][name]) for name, value in models[2].state_dict().items())


def test_networks_compute_in_the_precision_of_the_models_and_give_back_that_of_the_data():
    models = [
        BinaryVAE(Repetition(R=2).build(6), torch.full((FEATURES,), 0.5), Architecture(hidden=8, depth=1))
        for _ in range(MODELS)
    ]
    for model in models:
        model.autocast_dtype = torch.bfloat16
    x = batches().float()
    logits = StackedVAE(models).encode(x).code_logits
    assert logits.dtype == torch.float32
    assert torch.equal(logits, logits.bfloat16().float())
    for index, model in enumerate(models):
        torch.testing.assert_close(logits[index], model.encode(x[index]).code_logits, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("network", ["conv", "dcgan"])
def test_convolutions_compute_in_the_precision_of_the_models_too(network: str) -> None:
    architecture = Architecture(hidden=8, depth=2, network=network, channels=4, picture=Picture(8, 8, 1))
    models = [BinaryVAE(Repetition(R=2).build(6), torch.full((64,), 0.5), architecture) for _ in range(MODELS)]
    x, words = torch.rand(MODELS, 7, 64), torch.randint(0, 2, (MODELS, 7, 6)).float()
    exact = [one.decode(words[index]) for index, one in enumerate(models)]
    for one in models:
        one.autocast_dtype = torch.bfloat16
    together = StackedVAE(models)
    logits, means = together.encode(x).code_logits, together.decode(words)
    assert logits.dtype == means.dtype == torch.float32
    means.sum().backward()
    for index, one in enumerate(models):
        torch.testing.assert_close(logits[index], one.encode(x[index]).code_logits, rtol=0.05, atol=0.05)
        torch.testing.assert_close(means[index], one.decode(words[index]), rtol=0.05, atol=0.05)
        assert not torch.equal(means[index], exact[index])
    assert all(parameter.grad.dtype == torch.float32 for parameter in together.decoder.parameters())


def test_gradients_are_clipped_by_the_norm_of_each_model_and_zero_clips_none():
    bounds, scales = [0.5, 1.0, 0.0], (1.0, 1e-6, 1e3)
    shapes = ((4, 3), (5,))
    gradients = [
        [scale * torch.randn(shape, generator=generator(), dtype=torch.float64) for shape in shapes] for scale in scales
    ]
    wholes = [stacked([nn.Parameter(torch.zeros_like(values)) for values in own]) for own in zip(*gradients, strict=True)]
    for whole, own in zip(wholes, zip(*gradients, strict=True), strict=True):
        whole.grad = torch.stack(own)
    clip_gradients(wholes, torch.tensor(bounds, dtype=torch.float64))
    for index, (own, bound) in enumerate(zip(gradients, bounds, strict=True)):
        norm = math.sqrt(sum(float((values**2).sum()) for values in own))
        scale = min(1.0, bound / (norm + 1e-6)) if bound else 1.0
        for whole, values in zip(wholes, own, strict=True):
            torch.testing.assert_close(whole.grad[index], values * scale, rtol=1e-12, atol=0)
