"""The arithmetic of the page: quartiles, ratios of rounds, FLOP of a step."""

import doctest
from importlib import import_module

import pytest
import torch
from plain_torch_vae import PlainVAE
from timing.summary import flop_per_image, ratios, significant, spread
from torch.utils.flop_counter import FlopCounterMode


@pytest.mark.parametrize("name", ["timing.summary", "timing.table", "timing.machine", "timing.parts.start"])
def test_the_examples_hold(name):
    failed, tried = doctest.testmod(import_module(name))
    assert tried > 0
    assert failed == 0


def test_quartiles_are_those_between_values_whatever_their_order():
    assert spread([4.0, 1.0, 3.0, 2.0]) == (1.75, 2.5, 3.25)
    assert spread([7.0]) == (7.0, 7.0, 7.0)


def test_a_ratio_is_of_one_round_and_not_of_medians():
    ours, yardstick = [2.0, 2.0, 12.0], [1.0, 2.0, 4.0]
    assert spread(ours).middle / spread(yardstick).middle == 1.0
    assert spread(ratios(ours, yardstick)).middle == 2.0


def test_rounds_of_unequal_number_have_no_ratios():
    with pytest.raises(ValueError, match="argument"):
        ratios([1.0, 2.0], [1.0])


def test_what_a_file_keeps_is_near_to_what_was_measured():
    assert significant(1 / 3) == 0.33333
    assert significant(0.0) == 0.0


@pytest.mark.parametrize(("hidden", "latent", "depth"), [(200, 100, 2), (12, 7, 1), (9, 5, 4)])
def test_the_flop_of_a_step_are_those_that_torch_counts_in_the_yardsticks(hidden, latent, depth):
    model, rows = PlainVAE(784, hidden, latent, depth, copies=1), 6
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(rows, 784), 1.0, 0.5, hard=False).backward()
    assert flop_per_image(hidden, latent, depth) * rows == counter.get_total_flops()
