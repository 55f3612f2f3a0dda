"""Exact decoders of short codes beside komm: posteriors by its enumeration, nearest codewords by its own."""

from __future__ import annotations

from statistics import NormalDist

import numpy
import pytest
import torch

from bvae_cli.codes.bch import Bch
from bvae_cli.codes.blocks import BlockSpec
from bvae_cli.codes.golay import Golay
from bvae_cli.codes.hamming import Hamming
from bvae_cli.codes.matrix import Linear
from bvae_cli.codes.parity import Parity
from bvae_cli.codes.reed_muller import ReedMuller

from . import oracle

komm = oracle("komm")

SPECS: list[BlockSpec] = [
    Parity(k=4),
    Hamming(r=3),
    Hamming(r=3, extended=True),
    Golay(n=24),
    ReedMuller(r=1, m=4),
    Bch(n=15, t=2),
    Linear(matrix="100110/010101/001011"),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label())
@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_posteriors_are_those_of_komm(spec: BlockSpec, scale: float) -> None:
    block = spec.block()
    decoder = komm.ExhaustiveBitwiseDecoder(komm.BlockCode(numpy.array(spec.generator_matrix())))
    logits = scale * torch.randn(20, block.n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # Theirs are log p(0)/p(1).
    expected = -torch.from_numpy(decoder.decode(-logits.numpy().ravel())).reshape(20, block.k)
    assert torch.allclose(spec.build(block.n).soft_decode(logits), expected, atol=1e-8)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label())
def test_codewords_are_those_of_komm_for_the_same_matrix(spec: BlockSpec) -> None:
    block = spec.block()
    bits = torch.randint(0, 2, (50, block.k), generator=torch.Generator().manual_seed(1))
    theirs = komm.BlockCode(numpy.array(spec.generator_matrix())).encode(bits.numpy().ravel())
    assert torch.equal(spec.build(block.n).encode(bits), torch.from_numpy(theirs).reshape(50, block.n))


@pytest.mark.parametrize(
    ("spec", "make"),
    [
        (Hamming(r=3), lambda: komm.HammingCode(3)),
        (Hamming(r=5), lambda: komm.HammingCode(5)),
        (Golay(n=23), komm.GolayCode),
        (Golay(n=24), lambda: komm.GolayCode(extended=True)),
        (ReedMuller(r=1, m=4), lambda: komm.ReedMullerCode(1, 4)),
        (ReedMuller(r=2, m=4), lambda: komm.ReedMullerCode(2, 4)),
        (Bch(n=15, t=2), lambda: komm.BCHCode(4, 5)),
        (Bch(n=31, t=3), lambda: komm.BCHCode(5, 7)),
    ],
    ids=lambda value: value.label() if isinstance(value, BlockSpec) else "",
)
def test_families_have_the_weights_of_those_of_komm(spec: BlockSpec, make) -> None:
    """Equivalent codes have equal weights, whatever the order of their bits."""
    code = make()
    assert (code.length, code.dimension) == (spec.block().n, spec.block().k)
    rows = numpy.array(spec.generator_matrix())
    weights = [numpy.bincount(words(matrix).sum(-1), minlength=code.length + 1) for matrix in (rows, code.generator_matrix)]
    assert (weights[0] == weights[1]).all()


def words(matrix: numpy.ndarray) -> numpy.ndarray:
    """Return all words of a small code, or of the dual of one of high rate, whose weights decide its own."""
    matrix = numpy.array(matrix)
    if matrix.shape[0] > 16:
        from bvae_cli.codes import gf2

        matrix = numpy.array(gf2.dual(tuple(map(tuple, matrix.tolist()))))
    k = matrix.shape[0]
    return (numpy.arange(2**k)[:, None] >> numpy.arange(k) & 1) @ matrix % 2


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label())
@pytest.mark.parametrize("epsilon", [0.01, 0.05, 0.1, 0.2])
def test_over_gaussian_noise_decisions_and_error_rates_are_those_of_komm(spec: BlockSpec, epsilon: float) -> None:
    block, words = spec.block(), 300 if spec.block().k > 8 else 3000
    generator = torch.Generator().manual_seed(5)
    code = spec.build(block.n)
    bits = torch.randint(0, 2, (words, block.k), generator=generator)
    deviation = 1 / -NormalDist().inv_cdf(epsilon)
    received = 2.0 * code.encode(bits) - 1 + deviation * torch.randn(words, block.n, generator=generator)
    logits = (2 * received / deviation**2).double()
    decoder = komm.ExhaustiveBitwiseDecoder(komm.BlockCode(numpy.array(spec.generator_matrix())))
    theirs = torch.from_numpy(decoder.decode(-logits.numpy().ravel())).reshape(words, block.k) < 0
    ours = code.soft_decode(logits) > 0
    assert torch.equal(ours, theirs)
    wrong = (ours != bits.bool()).double().mean()
    assert wrong < epsilon * 1.05 + 0.01  # decoded the right way round: no worse than bits alone
