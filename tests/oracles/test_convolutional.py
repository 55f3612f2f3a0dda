"""Convolutional codes beside komm's: the same matrices, posteriors and nearest codewords on the same received values."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

import pytest
import torch
from torch import Tensor

from bvae_cli.codes.convolutional import Convolutional
from tests.helpers import joint_threshold
from tests.oracles import oracle

komm = oracle("komm")

GENERATORS = ("5-7", "15-17", "23-35", "133-171", "13-15-17")
EPSILONS = (0.01, 0.03, 0.06, 0.1)
MODES = {"tail-biting": "tail-biting", "terminated": "zero-termination"}
K = 100


def theirs(spec: Convolutional):
    """Return komm's code: its polynomials have the present bit lowest."""
    length = spec.memory() + 1
    polynomials = [int(f"{polynomial:0{length}b}"[::-1], 2) for polynomial in spec.polynomials()]
    code = komm.ConvolutionalCode([polynomials])
    return komm.TerminatedConvolutionalCode(code, spec.k, mode=MODES[spec.termination])


def sent_over(spec: Convolutional, words: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return random words and their codewords as ±1."""
    generator = torch.Generator().manual_seed(seed)
    sent = torch.randint(0, 2, (words, spec.k), generator=generator, dtype=torch.float64)
    return sent, 2 * spec.build(spec.block().n).encode(sent) - 1


@pytest.mark.parametrize("termination", MODES)
@pytest.mark.parametrize("generators", GENERATORS)
def test_the_generator_matrix_is_komms(generators: str, termination: str) -> None:
    spec = Convolutional(generators=generators, k=20, termination=termination)
    assert theirs(spec).generator_matrix.tolist() == [list(row) for row in spec.generator_matrix()]


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("generators", GENERATORS)
def test_posteriors_over_noise_are_komms(generators: str, epsilon: float) -> None:
    """Equal posteriors on equal noise give equal error rates, word by word."""
    spec = Convolutional(generators=generators, k=K, termination="terminated")
    _, signal = sent_over(spec, 30, seed=1)
    deviation = -1 / NormalDist().inv_cdf(epsilon)
    noise = torch.randn(signal.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    logits = 2 * (signal + deviation * noise) / deviation**2
    expected = -torch.as_tensor(komm.BCJRDecoder(theirs(spec)).decode(-logits.numpy()))
    assert torch.allclose(spec.build(spec.block().n).soft_decode(logits), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("generators", GENERATORS)
def test_codewords_over_flips_are_as_near_as_komms_and_right_as_often(generators: str, epsilon: float) -> None:
    """Among equally near words every choice is right equally often: the difference over the same flips has mean 0."""
    spec, words = Convolutional(generators=generators, k=K, termination="terminated"), 400
    code = spec.build(spec.block().n)
    sent, signal = sent_over(spec, words, seed=3)
    flipped = torch.rand(signal.shape, generator=torch.Generator().manual_seed(4)) < epsilon
    received = ((signal > 0) ^ flipped).double()
    ours = code.decode(received, torch.Generator().manual_seed(5))
    expected = torch.as_tensor(komm.ViterbiDecoder(theirs(spec)).decode(received.int().numpy())).double()
    ours_away, away = ((code.encode(decoded) != received).sum(-1) for decoded in (ours, expected))
    assert torch.equal(ours_away, away)
    right, right_there = ((decoded == sent).all(-1).double() for decoded in (ours, expected))
    gap = right - right_there
    if gap.any():
        limit = joint_threshold(len(GENERATORS) * len(EPSILONS)) * sqrt(float(gap.square().sum()))
        assert abs(float(gap.sum())) < limit
