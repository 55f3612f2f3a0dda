"""Polar codes against those of komm (Nobrega; https://komm.dev), whose logits are log p(0)/p(1)."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
import torch

from bvae_cli.codes import cancellation, gf2
from bvae_cli.codes.cancellation import SuccessiveCancellation
from bvae_cli.codes.polar import Polar
from bvae_cli.evaluation.channel import measure_channel
from tests.helpers import joint_threshold
from tests.oracles import oracle

EPSILONS = (0.02, 0.05, 0.1, 0.15)


def theirs(spec: Polar):
    """Return komm's code of the same frozen positions."""
    frozen = [place for place in range(spec.n) if place not in spec.information_positions()]
    return oracle("komm").PolarCode(spec.n.bit_length() - 1, frozen)


def sizes_are_the_smaller(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return cancellation.box_plus(first, second)


@pytest.mark.parametrize(("n", "k"), [(8, 4), (16, 11), (32, 12), (64, 32), (256, 100)])
def test_komm_has_the_same_words(n: int, k: int) -> None:
    spec = Polar(n=n, k=k)
    rows = tuple(tuple(int(bit) for bit in row) for row in theirs(spec).generator_matrix)
    assert gf2.reduced(rows) == gf2.reduced(spec.generator_matrix())


@pytest.mark.parametrize(("n", "k"), [(8, 4), (16, 8), (32, 16)])
def test_komm_counts_the_same_minimum_distance(n: int, k: int) -> None:
    spec = Polar(n=n, k=k)
    assert theirs(spec).minimum_distance() == spec.block().min_distance
