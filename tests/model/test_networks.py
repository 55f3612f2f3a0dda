import math

import pytest
import torch
from torch import nn

from bvae_cli.model.likelihoods import bernoulli_beginning
from bvae_cli.model.networks import ACTIVATIONS, Architecture, CenteredDecoder, CenteredEncoder, perceptron

MEAN = torch.tensor([0.25, 0.5, 0.125, 0.75, 0.0625])


def encoder(mean: torch.Tensor = MEAN) -> CenteredEncoder:
    torch.manual_seed(0)
    return CenteredEncoder(mean, Architecture(hidden=7, depth=2), latent=3)


def decoder(mean: torch.Tensor = MEAN, depth: int = 2) -> CenteredDecoder:
    torch.manual_seed(0)
    return CenteredDecoder(bernoulli_beginning(mean).bias, Architecture(hidden=7, depth=depth), latent=3)


def test_the_encoder_does_not_see_a_shift_of_data_and_mean_together():
    # Multiples of 1/16: nothing is rounded.
    x = torch.randint(0, 16, (20, 5), generator=torch.Generator().manual_seed(1)) / 16
    assert torch.equal(encoder()(x), encoder(MEAN + 2.5)(x + 2.5))
    assert not torch.allclose(encoder()(x), encoder()(x + 0.5))


def test_the_encoder_of_the_mean_itself_sees_zeros():
    seen = []
    network = encoder()
    network.layers[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network(MEAN.unsqueeze(0))
    assert torch.equal(seen[0], torch.zeros(1, 5))


def test_the_mean_is_stored_with_the_weights_and_is_not_one_of_them():
    mean = MEAN.clone()
    network = encoder(mean)
    mean.zero_()
    assert torch.equal(network.state_dict()["mean"], MEAN)
    assert "mean" not in dict(network.named_parameters())
    other = encoder(torch.zeros(5))
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(MEAN.unsqueeze(0)), network(MEAN.unsqueeze(0)))


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_a_decoder_that_says_nothing_yet_stands_at_the_mean_of_the_data(depth):
    network = decoder(depth=depth)
    nn.init.zeros_(network.layers[-1].weight)
    codewords = torch.randint(0, 2, (6, 3)).float()
    assert torch.allclose(network(codewords).sigmoid(), MEAN.expand(6, 5), atol=1e-6)


def test_features_that_never_vary_start_at_a_large_but_finite_logit():
    network = decoder(torch.tensor([0.0, 1.0, 0.5]))
    bias = network.layers[-1].bias.tolist()
    assert bias == pytest.approx([-math.log(999), math.log(999), 0.0], rel=1e-4)


def test_the_decoder_sees_code_bits_as_signs():
    seen = []
    network = decoder()
    network.layers[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network(torch.tensor([[0.0, 1.0, 0.5]]))
    assert seen[0].tolist() == [[-1.0, 1.0, 0.0]]


@pytest.mark.parametrize("leading", [(), (4,), (2, 3), (0,)])
def test_networks_keep_leading_dimensions(leading):
    assert encoder()(torch.zeros(*leading, 5)).shape == (*leading, 3)
    assert decoder()(torch.zeros(*leading, 3)).shape == (*leading, 5)


@pytest.mark.parametrize(("widths", "weights"), [([4, 2], 4 * 2 + 2), ([4, 8, 8, 2], 4 * 8 + 8 + 8 * 8 + 8 + 8 * 2 + 2)])
def test_a_perceptron_has_the_weights_of_its_widths(widths, weights):
    assert sum(parameter.numel() for parameter in perceptron(widths, "relu").parameters()) == weights


def test_a_perceptron_has_an_activation_between_its_layers_and_none_after_the_last():
    network = perceptron([3, 4, 4, 2], "relu")
    assert [type(layer) for layer in network] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    first, second, last = network[0], network[2], network[4]
    hidden = (x @ first.weight.T + first.bias).clamp_min(0)
    hidden = (hidden @ second.weight.T + second.bias).clamp_min(0)
    assert torch.allclose(network(x), hidden @ last.weight.T + last.bias, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [
        ("relu", lambda x: max(x, 0.0)),
        ("leaky-relu", lambda x: x if x > 0 else 0.2 * x),
        ("silu", lambda x: x / (1 + math.exp(-x))),
        ("gelu", lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2)))),
    ],
)
def test_activations_are_what_their_names_say(name, by_hand):
    for x in (-3.0, -0.5, 0.0, 0.7, 4.0):
        assert ACTIVATIONS[name]()(torch.tensor(x, dtype=torch.float64)).item() == pytest.approx(by_hand(x), rel=1e-12)


def test_every_activation_has_a_test_of_its_name():
    assert set(ACTIVATIONS) == {"relu", "leaky-relu", "silu", "gelu"}
