import copy
import math
import pickle

import pytest
import torch

from bvae_cli.codes.repetition import Repetition
from bvae_cli.codes.uncoded import Uncoded
from bvae_cli.model.bvae import BinaryVAE, Posterior
from bvae_cli.model.networks import Architecture
from tests.helpers import (
    Hamming,
    all_words,
    encoded_by_hand,
    every_small_code,
    joint_threshold,
    posterior_by_enumeration,
    small_model,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@every_small_code
def test_shapes_are_those_of_data_latent_and_information_bits(spec, n):
    code = spec.build(n)
    model = small_model(code, features=6)
    posterior = model.encode(torch.zeros(3, 6, dtype=torch.float64))
    assert posterior.code_logits.shape == (3, n)
    assert posterior.logits.shape == posterior.information_bits.shape == (3, code.k)
    assert model.outputs(torch.zeros(2, 4, n, dtype=torch.float64)).shape == (2, 4, 6)
    assert model.features == 6


@every_small_code
def test_the_posterior_is_the_soft_decoding_of_the_encoder(spec, n):
    model = small_model(spec.build(n), features=6, gain=2.0).requires_grad_(False)
    x = torch.randint(0, 2, (3, 6), generator=generator()).double()
    posterior = model.encode(x)
    assert torch.equal(posterior.code_logits, model.encoder(x))
    for code_logits, logits in zip(posterior.code_logits.tolist(), posterior.logits.tolist(), strict=True):
        assert logits == pytest.approx(posterior_by_enumeration(spec, model.code.k, code_logits), abs=1e-10)


def test_the_most_probable_bits_are_those_of_positive_logits():
    posterior = Posterior(torch.zeros(1, 4), torch.tensor([[-2.0, -0.0, 1e-30, 3.0]]))
    assert posterior.information_bits.tolist() == [[0.0, 0.0, 1.0, 1.0]]
    assert posterior.information_bits.dtype == torch.float32


def test_decoding_gives_the_probabilities_of_its_logits():
    model = small_model(Uncoded().build(4), gain=3.0).requires_grad_(False)
    codewords = torch.randint(0, 2, (8, 4), generator=generator()).double()
    assert torch.allclose(model.decode(codewords), 1 / (1 + torch.exp(-model.outputs(codewords))))


@every_small_code
def test_samples_are_true_codewords_of_their_bits_with_images_of_zeros_and_ones(spec, n):
    code = spec.build(n)
    model = small_model(code, features=6).float()
    samples = model.sample(50, generator())
    assert [tensor.shape for tensor in samples] == [(50, code.k), (50, n), (50, 6), (50, 6)]
    assert {tensor.dtype for tensor in samples} == {torch.float32}
    by_hand = [encoded_by_hand(spec, [int(bit) for bit in word]) for word in samples.information_bits.tolist()]
    assert [tuple(map(int, codeword)) for codeword in samples.codewords.tolist()] == by_hand
    assert torch.equal(samples.means, model.decode(samples.codewords).detach())
    assert ((samples.rows == 0) | (samples.rows == 1)).all()


def test_samples_are_decided_by_their_generator_and_leave_the_global_one_alone():
    model = small_model(Hamming().build(7))
    state = torch.get_rng_state()
    first, again, other = (model.sample(20, generator(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.information_bits, other.information_bits)
    assert not torch.equal(first.rows, other.rows)
    assert torch.equal(torch.get_rng_state(), state)


def test_samples_follow_the_prior_and_the_decoder():
    # 16 words, 4 bits and 6 pixels: 26 checks, jointly at 1 %.
    count, spec = 40_000, Hamming()
    model = small_model(spec.build(7), features=6, gain=2.0)
    samples = model.sample(count, generator(1))
    limit = joint_threshold(26)
    words, times = samples.information_bits.unique(dim=0, return_counts=True)
    assert len(words) == 16
    assert ((times - count / 16).abs() / math.sqrt(count * 15 / 256)).max() < limit
    assert ((samples.information_bits.mean(0) - 0.5).abs() * 2 * math.sqrt(count)).max() < limit
    spread = (samples.means * (1 - samples.means)).mean(0)
    z = (samples.rows - samples.means).mean(0) / (spread / count).sqrt()
    assert z.abs().max() < limit


def test_a_temperature_divides_the_logits_of_the_samples():
    model = small_model(Uncoded().build(4), features=6, gain=2.0)
    warm, plain, cold = (model.sample(50, generator(), temperature) for temperature in (2.0, 1.0, 1e-4))
    assert torch.equal(warm.information_bits, plain.information_bits)
    assert torch.allclose(warm.means.logit(), plain.means.logit() / 2, atol=1e-10)
    assert torch.equal(cold.rows, (plain.means > 0.5).double())


@every_small_code
def test_mixed_precision_stays_inside_the_networks(spec, n):
    model = small_model(spec.build(n), features=6).float().requires_grad_(False)
    x = torch.randint(0, 2, (5, 6), generator=generator()).float()
    exact = model.encode(x)
    inside = []
    for network in (model.encoder, model.decoder):
        network.layers[-1].register_forward_hook(lambda module, inputs, output: inside.append(output.dtype))
    model.autocast_dtype = torch.bfloat16
    posterior = model.encode(x)
    decoded = model.outputs(torch.zeros(5, n))
    assert inside == [torch.bfloat16, torch.bfloat16]
    assert posterior.code_logits.dtype == posterior.logits.dtype == decoded.dtype == torch.float32
    assert {tensor.dtype for tensor in model.sample(4, generator())} == {torch.float32}
    # Eight bits of mantissa through two layers: close, and visibly not the same.
    assert torch.allclose(posterior.code_logits, exact.code_logits, atol=0.05)
    assert not torch.equal(posterior.code_logits, exact.code_logits)


def test_a_repetition_code_behind_linear_layers_is_a_reparametrisation_of_the_uncoded_model():
    """Method §1: the sum of R logits is one linear map, and R equal inputs are one input with summed weights."""
    copies, k, d = 3, 4, 6
    coded = small_model(Repetition(R=copies).build(copies * k), d, gain=2.0).requires_grad_(False)
    plain = BinaryVAE(Uncoded().build(k), coded.encoder.mean, Architecture(hidden=8, depth=1)).double().requires_grad_(False)
    plain.encoder.layers[0].load_state_dict(coded.encoder.layers[0].state_dict())
    last = coded.encoder.layers[-1]
    plain.encoder.layers[-1].weight.copy_(last.weight.reshape(copies, k, 8).sum(0))
    plain.encoder.layers[-1].bias.copy_(last.bias.reshape(copies, k).sum(0))
    first = coded.decoder.layers[0]
    plain.decoder.layers[0].weight.copy_(first.weight.reshape(8, copies, k).sum(1))
    plain.decoder.layers[0].bias.copy_(first.bias)
    plain.decoder.layers[-1].load_state_dict(coded.decoder.layers[-1].state_dict())
    x = torch.randint(0, 2, (10, d), generator=generator()).double()
    assert torch.allclose(plain.encode(x).logits, coded.encode(x).logits, atol=1e-12)
    words = torch.tensor(all_words(k), dtype=torch.float64)
    assert torch.allclose(plain.outputs(words), coded.outputs(coded.code.encode(words)), atol=1e-12)


@every_small_code
def test_a_model_survives_pickling_copying_and_its_own_state(spec, n):
    model = small_model(spec.build(n), features=6, seed=1)
    x = torch.randint(0, 2, (3, 6), generator=generator()).double()
    expected = model.encode(x).logits
    fresh = small_model(spec.build(n), features=6, seed=2)
    assert not torch.allclose(fresh.encode(x).logits, expected)
    fresh.load_state_dict(model.state_dict())
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), fresh):
        assert torch.equal(twin.encode(x).logits, expected)
