import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from bvae_cli.codes.repetition import Repetition
from bvae_cli.codes.uncoded import Uncoded
from bvae_cli.errors import UsageError
from bvae_cli.model.arithmetic import layers_of_step
from bvae_cli.model.batched import StackedVAE
from bvae_cli.model.bvae import BinaryVAE
from bvae_cli.model.convolutions import Convolutions, Picture, picture_of, sizes_of
from bvae_cli.model.networks import Architecture
from bvae_cli.model.objective import training_losses

NETWORKS = ["conv", "dcgan"]
SMALL = Picture(7, 5, 1)


def model_of(network: str, picture: Picture = SMALL, depth: int = 2, seed: int = 0) -> BinaryVAE:
    torch.manual_seed(seed)
    mean = 0.2 + 0.6 * torch.rand(math.prod(picture), generator=torch.Generator().manual_seed(3))
    return BinaryVAE(Repetition(R=2).build(8), mean, Architecture(6, depth, "silu", network, 3, picture))


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(NETWORKS), st.integers(2, 13), st.integers(2, 13), st.sampled_from([1, 3]), st.integers(1, 3))
def test_every_size_of_picture_comes_back_as_it_was(network: str, height: int, width: int, colours: int, depth: int) -> None:
    picture, depth = Picture(height, width, colours), min(depth, min(height, width).bit_length() - 1)
    model = model_of(network, picture, depth)
    x = torch.rand(3, math.prod(picture))
    assert model.encode(x).code_logits.shape == (3, 8)
    assert model.decode(torch.ones(2, 3, 8)).shape == (2, 3, math.prod(picture))


def test_a_row_is_a_picture_line_by_line_with_its_colours_last() -> None:
    picture = Picture(2, 3, 2)
    same = torch.nn.Conv2d(2, 2, 1, bias=False)
    same.weight.data.copy_(torch.tensor([[0.0, 1.0], [10.0, 0.0]]).view(2, 2, 1, 1))
    rows = torch.arange(24.0).view(2, 12)
    seen = Convolutions(picture, [same], [6])(rows)
    pixels = rows.view(2, 2, 3, 2)
    assert torch.equal(seen.view(2, 2, 3, 2), torch.stack([pixels[..., 1], 10 * pixels[..., 0]], -1))


@pytest.mark.parametrize("network", NETWORKS)
def test_a_moved_picture_moves_what_the_convolutions_see(network: str) -> None:
    # Two lines further down is one line further down in what is half as large; the rim sees other neighbours.
    layers = Architecture(6, 1, "relu", network, 3, Picture(16, 16, 1)).encoder(256, 4)[0]
    x = torch.zeros(1, 16, 16)
    x[:, 4:9, 5:11] = torch.rand(5, 6)
    before = layers(x.view(1, -1)).view(8, 8, -1)
    after = layers(x.roll(2, 1).view(1, -1)).view(8, 8, -1)
    torch.testing.assert_close(after[2:], before[1:-1])


@pytest.mark.parametrize("network", NETWORKS)
def test_the_decoder_has_a_bias_for_each_value_and_begins_at_the_mean_of_the_data(network: str) -> None:
    model = model_of(network)
    for parameter in model.decoder.layers[:-1].parameters():
        parameter.data.zero_()
    torch.testing.assert_close(model.decode(torch.ones(4, 8)), model.encoder.mean.expand(4, -1))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("estimator", ["reinmax", "disarm"])
def test_models_side_by_side_have_the_losses_and_gradients_of_each_alone(network: str, estimator: str) -> None:
    models, alone = ([model_of(network, seed=seed).double() for seed in (1, 2)] for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 5, 35, generator=generator, dtype=torch.float64)
    noise = torch.rand(2, 5, 4, generator=generator, dtype=torch.float64)
    whole = StackedVAE(models)
    together = training_losses(whole, x, noise, estimator, "codeword", 1.0).total(1.0, 0.01)
    together.sum().backward()
    for place, model in enumerate(alone):
        own = training_losses(model, x[place], noise[place], estimator, "codeword", 1.0).total(1.0, 0.01)
        own.backward()
        torch.testing.assert_close(own, together[place])
        for mine, theirs in zip(model.parameters(), whole.parameters(), strict=True):
            assert theirs.grad is not None
            torch.testing.assert_close(mine.grad, theirs.grad[place])


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
def test_the_arithmetic_is_that_which_torch_counts(network: str, size: tuple[int, int]) -> None:
    model, rows = model_of(network, Picture(*size, 1)), 4
    layers = layers_of_step(model, "reinmax")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.encoder(torch.rand(rows, math.prod(size)))
        model.decoder(torch.rand(rows, 8))
    assert sum(layer.forward for layer in layers) * rows == counter.get_total_flops()


@pytest.mark.parametrize(("shape", "features"), [((12,), 12), ((3, 4, 5), 60), ((2, 2, 2, 2), 16), ((3, 4), 24)], ids=str)
def test_rows_that_are_no_pictures_are_refused(shape: tuple[int, ...], features: int) -> None:
    with pytest.raises(UsageError, match="Convolutions are for pictures"):
        picture_of(shape, features)


def test_a_picture_is_not_halved_to_nothing() -> None:
    assert [tuple(size) for size in sizes_of(Picture(28, 28, 1), 3)] == [(28, 28, 1), (14, 14, 1), (7, 7, 1), (3, 3, 1)]
    with pytest.raises(UsageError, match="cannot be halved 5 times") as caught:
        sizes_of(Picture(28, 30, 1), 5)
    assert caught.value.hint == "Take --depth 4 at most."


def test_a_perceptron_needs_no_picture() -> None:
    model = BinaryVAE(Uncoded().build(3), torch.full((4,), 0.5), Architecture(5, 2))
    assert [type(layer).__name__ for layer in model.encoder.layers] == [
        "Linear",
        "LeakyReLU",
        "Linear",
        "LeakyReLU",
        "Linear",
    ]
