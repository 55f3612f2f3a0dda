"""Belief propagation beside the library `ldpc` (Roffe), which decodes syndromes with the same messages."""

from __future__ import annotations

from statistics import NormalDist

import numpy
import pytest
import torch

from bvae_cli.codes import gf2
from bvae_cli.codes.belief_propagation import BeliefPropagation
from bvae_cli.codes.blocks import HARD_ITERATIONS
from bvae_cli.codes.ldpc import Ldpc

from ..helpers import joint_threshold
from . import oracle

ldpc = oracle("ldpc")

SPEC = Ldpc(n=96)
WORDS = 2000
# Hard decoding reads received bits as right with probability 0.95, whatever the channel.
TRUSTED_ERROR = 0.05


def theirs(flips: numpy.ndarray, checks: numpy.ndarray) -> numpy.ndarray:
    decoder = ldpc.BpDecoder(checks, error_rate=TRUSTED_ERROR, max_iter=HARD_ITERATIONS, bp_method="product_sum")
    syndromes = (flips @ checks.T % 2).astype(numpy.uint8)
    return numpy.stack([decoder.decode(syndrome).copy() for syndrome in syndromes])


@pytest.mark.parametrize("epsilon", [0.01, 0.03, 0.05, 0.07])
def test_hard_decisions_are_those_of_the_library_wherever_it_finds_a_codeword(epsilon: float) -> None:
    """It stops at the first codeword; ours goes on, and in about one word of a thousand leaves it again."""
    checks = numpy.array(SPEC.parity_check_matrix(), dtype=numpy.uint8)
    flips = (numpy.random.default_rng(3).random((WORDS, SPEC.n)) < epsilon).astype(numpy.uint8)
    errors = theirs(flips, checks)
    converged = (errors @ checks.T % 2 == flips @ checks.T % 2).all(-1)
    assert converged.mean() > 0.6
    code = SPEC.build(SPEC.n)
    found = code.decode(torch.from_numpy(flips)).numpy()  # of the word 0: what is left of the flips
    expected = (flips ^ errors)[:, list(places())]
    assert (found[converged] == expected[converged]).all(-1).mean() > 0.995
    more = (found.astype(float) - expected).mean(-1)
    assert abs(more.mean()) <= joint_threshold(4) * more.std() / WORDS**0.5


def places() -> tuple[int, ...]:
    """Return where a codeword shows its information bits."""
    shown = gf2.unit_columns(SPEC.generator_matrix())
    assert shown is not None
    return shown


def test_posteriors_are_those_of_the_library_after_every_number_of_rounds() -> None:
    checks = numpy.array(SPEC.parity_check_matrix(), dtype=numpy.uint8)
    flips = (numpy.random.default_rng(4).random((20, SPEC.n)) < 0.08).astype(numpy.uint8)
    for rounds in (1, 2, 5):
        decoder = ldpc.BpDecoder(checks, error_rate=TRUSTED_ERROR, max_iter=rounds, bp_method="product_sum")
        ours = BeliefPropagation(checks.tolist(), range(SPEC.n), rounds)
        size = float(numpy.log((1 - TRUSTED_ERROR) / TRUSTED_ERROR))
        posterior = ours.soft_decode(torch.from_numpy(size * (2.0 * flips - 1)))
        for row, flipped in zip(posterior, flips, strict=True):
            decoder.decode((flipped @ checks.T % 2).astype(numpy.uint8))
            if decoder.converge and decoder.iter < rounds:
                continue  # it stopped earlier
            # Theirs is log p(no error)/p(error) of each bit; the word sent is 0, so an error is a received 1.
            expected = -torch.tensor(decoder.log_prob_ratios, dtype=torch.float64) * torch.from_numpy(1 - 2.0 * flipped)
            assert torch.allclose(row, expected, atol=1e-6)


@pytest.mark.parametrize("epsilon", [0.02, 0.05, 0.1, 0.14])
def test_over_gaussian_noise_posteriors_are_those_of_the_library(epsilon: float) -> None:
    """Theirs decodes the syndrome of the hard decisions, with the probability that each of them is wrong."""
    checks = numpy.array(SPEC.parity_check_matrix(), dtype=numpy.uint8)
    deviation, rounds = 1 / -NormalDist().inv_cdf(epsilon), 10
    noise = numpy.random.default_rng(7).normal(size=(40, SPEC.n))
    logits = 2 * (-1 + deviation * noise) / deviation**2  # of the word 0
    ours = BeliefPropagation(checks.tolist(), range(SPEC.n), rounds).soft_decode(torch.from_numpy(logits))
    compared = 0
    for row, posterior in zip(logits, ours, strict=True):
        decided = (row > 0).astype(numpy.uint8)
        doubts = 1 / (1 + numpy.exp(numpy.abs(row)))
        decoder = ldpc.BpDecoder(checks, error_channel=doubts.tolist(), max_iter=rounds, bp_method="product_sum")
        decoder.decode((decided @ checks.T % 2).astype(numpy.uint8))
        if decoder.converge and decoder.iter < rounds:
            found = (posterior.numpy() > 0).astype(numpy.uint8)
            assert (found == decided ^ decoder.decoding).mean() > 0.98  # it stopped earlier, at a codeword
            continue
        expected = -torch.tensor(decoder.log_prob_ratios, dtype=torch.float64) * torch.from_numpy(1 - 2.0 * decided)
        assert torch.allclose(posterior, expected, rtol=1e-5, atol=1e-6)
        compared += 1
    assert compared or epsilon < 0.1
