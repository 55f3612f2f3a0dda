"""Polar codes against those of komm (https://komm.dev), whose logits are log p(0)/p(1)."""

from __future__ import annotations

import math
from statistics import NormalDist
from types import ModuleType

import pytest
import torch
from torch import Tensor

from bvae_cli.codes import gf2
from bvae_cli.codes.cancellation import SuccessiveCancellation
from bvae_cli.codes.polar import Polar
from bvae_cli.evaluation.channel import measure_channel
from tests.helpers import joint_threshold
from tests.oracles import oracle

EPSILONS = (0.02, 0.05, 0.1, 0.15)
SIZES = [(16, 8), (64, 32)]
WORDS = 20_000


@pytest.fixture(scope="module")
def komm() -> ModuleType:
    return oracle("komm")


def theirs(komm: ModuleType, spec: Polar):
    """Return komm's code of the same frozen positions."""
    return komm.PolarCode(spec.n.bit_length() - 1, [p for p in range(spec.n) if p not in spec.information_positions()])


def noise_logits(komm: ModuleType, spec: Polar, epsilon: float, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return codewords of komm's and what is received of them over Gaussian noise, as log p(0)/p(1)."""
    generator = torch.Generator().manual_seed(seed)
    sent = torch.tensor(theirs(komm, spec).encode(torch.randint(0, 2, (rows, spec.k), generator=generator).numpy()))
    deviation = 1 / -NormalDist().inv_cdf(epsilon)
    received = 1 - 2 * sent.double() + deviation * torch.randn(sent.shape, generator=generator, dtype=torch.float64)
    return sent, 2 * received / deviation**2


def shown_errors(spec: Polar, sent: Tensor, decoded: Tensor) -> tuple[float, float]:
    """Return the share of wrong bits at the information positions, and its standard error over words."""
    places = list(spec.information_positions())
    share = (sent[:, places] != decoded[:, places]).double().mean(-1)
    return float(share.mean()), float(share.std()) / len(share) ** 0.5


@pytest.mark.parametrize(("n", "k"), [(8, 4), (16, 11), (32, 12), (64, 32), (256, 100)])
def test_komm_has_the_same_words(komm: ModuleType, n: int, k: int) -> None:
    spec = Polar(n=n, k=k)
    rows = tuple(tuple(int(bit) for bit in row) for row in theirs(komm, spec).generator_matrix)
    assert gf2.reduced(rows) == gf2.reduced(spec.generator_matrix())


@pytest.mark.parametrize(("n", "k"), [(8, 4), (16, 8), (32, 16)])
def test_komm_counts_the_same_minimum_distance(komm: ModuleType, n: int, k: int) -> None:
    spec = Polar(n=n, k=k)
    assert theirs(komm, spec).minimum_distance() == spec.block().min_distance


@pytest.mark.parametrize(("n", "k"), [(16, 8), (32, 8)])
def test_the_exact_posterior_is_that_of_komm(komm: ModuleType, n: int, k: int) -> None:
    spec = Polar(n=n, k=k)
    _, logits = noise_logits(komm, spec, 0.1, 200, seed=1)
    expected = -torch.tensor(komm.ExhaustiveBitwiseDecoder(theirs(komm, spec)).decode_to_codeword(logits.numpy()))
    found = spec.build(n).soft_decode(-logits)
    assert torch.allclose(found, expected[:, list(spec.information_positions())], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("n", "k"), [*SIZES, (256, 100)])
def test_komm_decides_the_same_by_successive_cancellation(komm: ModuleType, n: int, k: int) -> None:
    """At very large logits the logit of a sum is the smaller of the two."""
    spec = Polar(n=n, k=k)
    sent, logits = noise_logits(komm, spec, 0.15, 1000, seed=2)
    code = theirs(komm, spec)
    expected = torch.tensor(code.encode(komm.SCDecoder(code, output_type="hard").decode(1e5 * logits.numpy())))
    free = [place in spec.information_positions() for place in range(n)]
    decoder = SuccessiveCancellation(free, spec.information_positions())
    assert torch.equal(decoder.codewords(-logits, torch.Generator().manual_seed(0)).long(), expected)
    assert not torch.equal(sent, expected)


@pytest.mark.parametrize(("n", "k"), SIZES)
@pytest.mark.parametrize("epsilon", EPSILONS)
def test_flips_leave_as_many_errors_as_with_komm(komm: ModuleType, n: int, k: int, epsilon: float) -> None:
    spec = Polar(n=n, k=k, decoder="successive-cancellation")
    code, generator = theirs(komm, spec), torch.Generator().manual_seed(3)
    sent = torch.tensor(code.encode(torch.randint(0, 2, (WORDS, k), generator=generator).numpy()))
    received = (sent + (torch.rand(sent.shape, generator=generator) < epsilon)) % 2
    logits = (1 - 2 * received.double()) * math.log((1 - epsilon) / epsilon)
    decoded = torch.tensor(code.encode(komm.SCDecoder(code, output_type="hard").decode(logits.numpy())))
    expected, error = shown_errors(spec, sent, decoded)
    measured = measure_channel(spec.build(n), epsilon, WORDS, "hard", seed=4).bit_error_rate
    spread = math.hypot(error, measured.standard_error or 0.0)
    assert abs(measured.mean - expected) < joint_threshold(len(SIZES) * len(EPSILONS)) * spread


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_noise_leaves_as_many_errors_as_with_the_exact_posterior_of_komm(komm: ModuleType, epsilon: float) -> None:
    spec = Polar(n=16, k=8)
    sent, logits = noise_logits(komm, spec, epsilon, WORDS, seed=5)
    decoder = komm.ExhaustiveBitwiseDecoder(theirs(komm, spec), output_type="hard")
    expected, error = shown_errors(spec, sent, torch.tensor(decoder.decode_to_codeword(logits.numpy())))
    measured = measure_channel(spec.build(16), epsilon, WORDS, "soft", seed=6).bit_error_rate
    spread = math.hypot(error, measured.standard_error or 0.0)
    assert abs(measured.mean - expected) < joint_threshold(len(EPSILONS)) * spread


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_noise_leaves_no_more_errors_to_soft_cancellation_than_to_komm_deciding_bit_after_bit(
    komm: ModuleType, epsilon: float
) -> None:
    spec = Polar(n=64, k=32)
    sent, logits = noise_logits(komm, spec, epsilon, WORDS, seed=7)
    code = theirs(komm, spec)
    decoded = torch.tensor(code.encode(komm.SCDecoder(code, output_type="hard").decode(logits.numpy())))
    expected, error = shown_errors(spec, sent, decoded)
    measured = measure_channel(spec.build(64), epsilon, WORDS, "soft", seed=8).bit_error_rate
    assert measured.mean < expected + joint_threshold(len(EPSILONS)) * math.hypot(error, measured.standard_error or 0.0)
