"""The count of a step's arithmetic, beside torch's own counter of what a step really does."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bvae_cli.codes.base import CodeSpec
from bvae_cli.codes.golay import Golay
from bvae_cli.codes.repetition import Repetition
from bvae_cli.codes.uncoded import Uncoded
from bvae_cli.model.arithmetic import flop_per_image, layers_of_step
from bvae_cli.model.bvae import BinaryVAE
from bvae_cli.model.networks import Architecture
from bvae_cli.model.relaxation import ESTIMATORS
from bvae_cli.workflows.fit import Fit

ROWS = 6
UNCODED = Uncoded()


def model_of(spec: CodeSpec = UNCODED, latent: int = 12, features: int = 9, hidden: int = 5, depth: int = 2) -> BinaryVAE:
    return BinaryVAE(spec.build(latent), torch.full((features,), 0.5), Architecture(hidden, depth))


def counted(model: BinaryVAE, estimator: str = "reinmax", sampling: str = "codeword") -> float:
    """Return the FLOP for each image that torch counts in a step of training."""
    rows = torch.zeros(ROWS, model.features)
    fit = Fit(model, rows, rows, epochs=1, batch_size=ROWS, lr=0.1, estimator=estimator, sampling=sampling)
    with FlopCounterMode(display=False) as counter:
        next(iter(fit))
    with torch.no_grad(), FlopCounterMode(display=False) as of_validation:
        fit._validation_loss()
    return (counter.get_total_flops() - of_validation.get_total_flops()) / ROWS


@pytest.mark.parametrize("sampling", ["codeword", "bitwise"])
@pytest.mark.parametrize("spec", [UNCODED, Repetition(R=3)], ids=["none", "repetition"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_does_as_many_as_are_counted(estimator: str, spec: CodeSpec, sampling: str) -> None:
    model = model_of(spec)
    assert flop_per_image(model, estimator) == counted(model, estimator, sampling)


@pytest.mark.parametrize("estimator", ["reinmax", "disarm"])
@pytest.mark.parametrize(
    ("latent", "features", "hidden", "depth"), [(1, 1, 1, 1), (7, 20, 3, 1), (30, 4, 11, 3), (8, 784, 16, 2), (5, 6, 7, 0)]
)
def test_models_of_every_size_do_as_many_as_are_counted(
    latent: int, features: int, hidden: int, depth: int, estimator: str
) -> None:
    model = model_of(UNCODED, latent, features, hidden, depth)
    assert flop_per_image(model, estimator) == counted(model, estimator)


def test_mixed_precision_does_as_many() -> None:
    model = model_of()
    model.autocast_dtype = torch.bfloat16
    assert flop_per_image(model, "reinmax") == counted(model)


def test_what_a_code_computes_is_not_counted() -> None:
    # Golay's decoder multiplies with all of its words: torch counts these products, the networks do not have them.
    coded = model_of(Golay(), latent=24)
    assert flop_per_image(coded, "reinmax") == flop_per_image(model_of(UNCODED, latent=24), "reinmax")
    assert flop_per_image(coded, "reinmax") < counted(coded)


def test_a_step_by_hand() -> None:
    # Encoder 9→5→12, decoder 12→5→9. The data, and with disarm the bits, get no gradient.
    model, weights = model_of(depth=1), [9 * 5, 5 * 12, 12 * 5, 5 * 9]
    assert [layer.forward for layer in layers_of_step(model, "reinmax")] == [2 * count for count in weights]
    backward = [layer.backward for layer in layers_of_step(model, "reinmax")]
    assert backward == [2 * weights[0], *(4 * count for count in weights[1:])]
    twice = layers_of_step(model, "disarm")[2:]
    assert [(layer.forward, layer.backward) for layer in twice] == [
        (4 * weights[2], 4 * weights[2]),
        (4 * weights[3], 8 * weights[3]),
    ]


def test_a_model_without_numbers_is_counted_as_well() -> None:
    with torch.device("meta"):
        outline = model_of()
    assert flop_per_image(outline, "st") == flop_per_image(model_of(), "st")
