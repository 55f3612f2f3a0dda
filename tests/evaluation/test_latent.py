import math

import pytest
import torch

from bvae_cli.codes.repetition import Repetition
from bvae_cli.codes.uncoded import Uncoded
from bvae_cli.evaluation import latent
from bvae_cli.evaluation.latent import LatentUse, active, latent_use, posterior_logits
from bvae_cli.model.bvae import BinaryVAE
from tests.helpers import constructed_model, logit_of


def use_of(model: BinaryVAE, x: torch.Tensor) -> LatentUse:
    return latent_use(posterior_logits(model, x))


def test_active_bits_balance_and_entropy_of_constructed_logits_by_hand():
    """Bit 0 follows its pixel, bit 1 is always 1, bit 2 always even: one active, balance (0 + ½ + 0)/3, entropy 1/3 bit."""
    model = constructed_model(Uncoded().build(3), 0.0, 1.0)
    with torch.no_grad():
        model.encoder.layers[0].weight[0, 0] = 200.0
        model.encoder.layers[0].bias[1] = 100.0
    x = torch.tensor([[0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 1]], dtype=torch.uint8)
    use = use_of(model, x)
    assert (use.active_bits, use.information_bits) == (1, 3)
    assert active(posterior_logits(model, x)).tolist() == [True, False, False]
    assert use.bit_balance == pytest.approx(0.5 / 3, abs=1e-9)
    assert use.bit_entropy == pytest.approx(1 / 3, abs=1e-9)


def test_a_bit_is_active_from_a_variance_of_one_hundredth():
    """σ(λ) = ½ ± s has the variance s² over as many ones as zeros."""
    for deviation, bits in ((0.099, 0), (0.101, 2)):
        model = constructed_model(Uncoded().build(2), logit_of(0.5 - deviation), 1.0)
        assert use_of(model, torch.tensor([[0, 1], [1, 0]])).active_bits == bits


def test_balance_and_entropy_of_a_leaning_bit_by_hand():
    # Three ones in four rows at σ = 0.9 and one zero at 0.1: the mean is 0.7, the entropy H₂(0.1) throughout.
    model = constructed_model(Uncoded().build(1), logit_of(0.1), 1.0)
    use = use_of(model, torch.tensor([[1], [1], [0], [1]]))
    assert use.bit_balance == pytest.approx(0.2, abs=1e-6)
    assert use.bit_entropy == pytest.approx(-0.1 * math.log2(0.1) - 0.9 * math.log2(0.9), abs=1e-6)


def test_bits_that_lean_to_opposite_sides_do_not_balance_each_other():
    model = constructed_model(Uncoded().build(2), 100.0, 1.0)
    use = use_of(model, torch.tensor([[1, 0], [1, 0]]))
    assert use.bit_balance == pytest.approx(0.5, abs=1e-9)


def test_the_use_of_a_coded_latent_is_that_of_its_information_bits():
    model = constructed_model(Repetition(R=2).build(4), 0.5 * logit_of(0.1), 1.0)
    # Copies add: λ = ± logit(0.9) where both pixels agree and 0 where they do not.
    use = use_of(model, torch.tensor([[1, 1, 1, 0], [0, 1, 0, 0]]))
    assert use.information_bits == 2
    assert use.active_bits == 1
    assert use.bit_entropy == pytest.approx((-0.1 * math.log2(0.1) - 0.9 * math.log2(0.9) + 1) / 2, abs=1e-6)


def test_the_use_of_bits_over_several_pieces_is_that_of_the_whole(monkeypatch):
    model = constructed_model(Uncoded().build(1), logit_of(0.1), 1.0)
    monkeypatch.setattr(latent, "_ROWS", 2)
    use = use_of(model, torch.tensor([[0], [0], [1], [1]]))
    # Within each piece the bit is constant; over all of them it varies by 0.4.
    assert use.active_bits == 1
    assert use.bit_balance == pytest.approx(0, abs=1e-6)
