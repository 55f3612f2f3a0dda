"""Runs trained as one beside the same runs alone, in float64: every one must be what it is alone."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from bvae_cli.codes.base import Code
from bvae_cli.codes.hamming import Hamming
from bvae_cli.codes.ldpc import Ldpc
from bvae_cli.codes.repetition import Repetition
from bvae_cli.codes.uncoded import Uncoded
from bvae_cli.errors import UsageError
from bvae_cli.model.bvae import BinaryVAE
from bvae_cli.model.networks import Architecture
from bvae_cli.workflows.fit import EpochStats, Fit
from bvae_cli.workflows.fit_many import FitMany

from .test_fit import STILL, bits

CODES: dict[str, Code] = {
    "none": Uncoded().build(8),
    "repetition": Repetition(R=3).build(12),
    "hamming": Hamming(r=3).build(14),
    "ldpc": Ldpc(n=12, dv=3, dc=4, seed=1).build(12),
}
TRAIN, VALIDATION = bits(40), bits(20, seed=1)
# 40 rows in batches of 16: the last one has 8.
DEFAULTS: dict[str, Any] = {"epochs": 4, "batch_size": 16, "lr": 0.01, "patience": 100, "beta_warmup_epochs": 2}
UNEQUAL: list[dict[str, Any]] = [
    {"seed": 3, "lr": 0.01, "beta_max": 1.0, "consistency_weight": 0.01},
    {"seed": 4, "lr": 0.03, "beta_max": 0.5, "consistency_weight": 0.0},
    {"seed": 5, "lr": 0.002, "beta_max": 2.0, "consistency_weight": 0.3},
]


def alone(train: Tensor = TRAIN, validation: Tensor = VALIDATION, code: str = "none", **options: Any) -> Fit:
    """Return a run in float64 whose weights are of its own seed."""
    options = DEFAULTS | options
    with torch.random.fork_rng():
        torch.manual_seed(options.get("seed", 0))
        model = BinaryVAE(CODES[code], train.float().mean(0), Architecture(hidden=16, depth=2)).double()
    return Fit(model, train, validation, **options)


def fits(each: Sequence[dict[str, Any]] = UNEQUAL, **shared: Any) -> list[Fit]:
    return [alone(**(shared | own)) for own in each]


def epochs_of_each(many: FitMany) -> list[list[EpochStats]]:
    """Return the epochs of every run."""
    stats: list[list[EpochStats]] = [[] for _ in many.fits]
    for epoch in many:
        for index, one in epoch.items():
            stats[index].append(one)
    return stats


def numbers(stats: EpochStats) -> list[float]:
    """Return all that is told of an epoch but its time."""
    return [value for name, value in vars(stats).items() if name not in ("seconds", "images_per_second")]


def tensors_of(state: Any) -> list[Tensor]:
    if isinstance(state, dict):
        return [tensor for value in state.values() for tensor in tensors_of(value)]
    return [state] if isinstance(state, Tensor) else []


def require_same_epochs(batched: list[EpochStats], solitary: list[EpochStats]) -> None:
    assert len(batched) == len(solitary)
    for one, other in zip(batched, solitary, strict=True):
        assert numbers(one) == pytest.approx(numbers(other), rel=1e-9, abs=1e-12)


def require_same_state(one: Fit, other: Fit) -> None:
    """Compare weights, best weights, moments, random state and patience."""
    states = one.state_dict(), other.state_dict()
    assert list(states[0]) == list(states[1])
    tensors, others = map(tensors_of, states)
    assert len(tensors) == len(others) > 0
    for tensor, another in zip(tensors, others, strict=True):
        assert tensor.dtype == another.dtype
        torch.testing.assert_close(tensor, another, rtol=1e-9, atol=1e-9)
    for name in ("epoch", "best_epoch", "epochs_without_improvement"):
        assert states[0][name] == states[1][name]
    assert states[0]["best_validation_loss"] == pytest.approx(states[1]["best_validation_loss"], rel=1e-9)
    assert states[0]["optimizer"]["param_groups"] == states[1]["optimizer"]["param_groups"]


def require_each_is_what_it_is_alone(many: FitMany, solitary: list[Fit]) -> None:
    batched = epochs_of_each(many)
    for index, fit in enumerate(solitary):
        require_same_epochs(batched[index], list(fit))
        require_same_state(many.fits[index], fit)
        assert many.fits[index].stop_reason == fit.stop_reason


def resumed(state: dict[str, Any], **options: Any) -> Fit:
    """Return a run that goes on from a state that was written and read."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    fit = alone(**options)
    fit.load_state_dict(torch.load(buffer, weights_only=True))
    return fit


# --- each is what it is alone


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("estimator", ["reinmax", "st", "disarm", "gumbel", "gumbel-st", "dvae"])
def test_runs_of_unequal_settings_are_what_they_are_alone(code: str, estimator: str) -> None:
    options: dict[str, Any] = {"code": code, "estimator": estimator}
    require_each_is_what_it_is_alone(FitMany(fits(**options)), fits(**options))


@pytest.mark.parametrize(
    "options",
    [
        {"sampling": "bitwise", "code": "repetition"},
        {"lr_schedule": "cosine"},
        {"grad_clip": 0.5},
        {"batch_size": 1000},
        {"batch_size": 40},
        {"tau_start": 2.0, "tau_end": 1.95, "estimator": "gumbel"},
    ],
    ids=str,
)
def test_every_setting_is_what_it_is_alone(options: dict[str, Any]) -> None:
    require_each_is_what_it_is_alone(FitMany(fits(**options)), fits(**options))


def test_fresh_bits_are_drawn_by_each_run_for_itself() -> None:
    grey = torch.rand(40, 10, generator=torch.Generator().manual_seed(2))
    options: dict[str, Any] = {"train": grey, "fresh_bits": True}
    require_each_is_what_it_is_alone(FitMany(fits(**options)), fits(**options))


def test_gradients_are_clipped_for_each_run_by_its_own_norm() -> None:
    each = [{"grad_clip": 0.0}, {"grad_clip": 0.1}, {"grad_clip": 0.01}]
    many, solitary = FitMany(fits(each)), fits(each)
    require_each_is_what_it_is_alone(many, solitary)
    losses = [fit.best_validation_loss for fit in solitary]
    assert len(set(losses)) == 3


def test_runs_of_different_lengths_and_schedules_are_what_they_are_alone() -> None:
    each: list[dict[str, Any]] = [
        {"epochs": 2, "lr_schedule": "cosine"},
        {"epochs": 5, "beta_warmup_epochs": 0},
        {"epochs": 3, "tau_start": 0.6, "tau_end": 0.58},
    ]
    each = [own | {"estimator": "gumbel", "seed": seed} for seed, own in enumerate(each)]
    many = FitMany(fits(each))
    assert [sorted(epoch) for epoch in FitMany(fits(each))] == [[0, 1, 2], [0, 1, 2], [1, 2], [1], [1]]
    require_each_is_what_it_is_alone(many, fits(each))


def test_one_run_is_what_it_is_alone() -> None:
    require_each_is_what_it_is_alone(FitMany(fits(UNEQUAL[:1])), fits(UNEQUAL[:1]))


def test_runs_of_one_seed_and_unequal_rates_see_the_same_rows_and_part() -> None:
    many = FitMany(fits([{"lr": 0.01}, {"lr": 0.01}, {"lr": 0.02}]))
    first, second, third = epochs_of_each(many)
    assert [numbers(one) for one in first] == [numbers(one) for one in second]
    assert first[0].training_loss != third[0].training_loss


def test_runs_of_unequal_seeds_part() -> None:
    first, second = epochs_of_each(FitMany(fits([{"seed": 0}, {"seed": 1}])))
    assert first[0].training_loss != second[0].training_loss


# --- a run that ends in the middle


def test_a_run_that_stops_early_leaves_and_the_others_go_on_as_alone() -> None:
    each: list[dict[str, Any]] = [
        {"seed": 1},
        {"seed": 2, "lr": STILL, "patience": 2, "min_delta": 0.01, "beta_warmup_epochs": 0},
        {"seed": 3, "lr": 0.02},
    ]
    many = FitMany(fits(each, epochs=6))
    in_training = [sorted(epoch) for epoch in FitMany(fits(each, epochs=6))]
    assert in_training == [[0, 1, 2]] * 3 + [[0, 2]] * 3
    require_each_is_what_it_is_alone(many, fits(each, epochs=6))
    assert many.fits[1].stop_reason == "no improvement for 2 epochs"


def test_a_run_that_has_left_no_longer_moves_and_shares_no_memory() -> None:
    many = FitMany(fits([{"epochs": 1}, {"epochs": 3}]))
    epochs = iter(many)
    next(epochs)
    kept = many.fits[0].weights()
    places = {parameter.untyped_storage().data_ptr() for parameter in many.fits[0].model.parameters()}
    list(epochs)
    assert all(torch.equal(value, kept[name]) for name, value in many.fits[0].weights().items())
    assert places.isdisjoint(parameter.untyped_storage().data_ptr() for parameter in many.fits[1].model.parameters())
    assert all(p.untyped_storage().nbytes() == p.numel() * p.element_size() for p in many.fits[0].model.parameters())


def test_a_run_that_diverges_leaves_with_its_error_and_the_others_go_on_as_alone() -> None:
    each = [{"seed": 1}, {"seed": 2}, {"seed": 3}]
    many, solitary = FitMany(fits(each)), fits(each)
    epochs = iter(many)
    first = next(epochs)
    with torch.no_grad():
        next(many.fits[1].model.parameters()).fill_(math.nan)
    rest = list(epochs)
    assert [sorted(epoch) for epoch in (first, *rest)] == [[0, 1, 2], [0, 2], [0, 2], [0, 2]]
    assert "epoch 2" in many.diverged[1].message
    assert many.fits[1].epoch == 1
    assert all(bool(value.isfinite().all()) for value in many.fits[1].best_weights.values())
    for index in (0, 2):
        require_same_epochs([epoch[index] for epoch in (first, *rest)], list(solitary[index]))
        require_same_state(many.fits[index], solitary[index])


def test_a_run_that_is_rewound_comes_back_to_the_others_and_is_what_it_is_alone() -> None:
    each = [{"seed": 1}, {"seed": 2, "most_rewinds": 1}, {"seed": 3}]
    many, solitary = FitMany(fits(each)), fits(each)
    told: list[str] = []
    many.fits[1].on_rewind = lambda error: told.append(error.message)
    batched, alone_epochs = iter(many), iter(solitary[1])
    first, first_alone = next(batched), next(alone_epochs)
    with torch.no_grad():
        for fit in (many.fits[1], solitary[1]):
            next(fit.model.parameters()).fill_(math.nan)
    rest = list(batched)
    assert [sorted(epoch) for epoch in (first, *rest)] == [[0, 1, 2], [0, 2], [0, 1, 2], [0, 1, 2], [1]]
    assert many.diverged == {}
    assert told == ["Training diverged in epoch 2: the loss is not a number."]
    assert many.fits[1].rewinds == 1
    require_same_epochs([epoch[1] for epoch in (first, *rest) if 1 in epoch], [first_alone, *alone_epochs])
    require_same_state(many.fits[1], solitary[1])
    for index in (0, 2):
        require_same_epochs([epoch[index] for epoch in (first, *rest) if index in epoch], list(solitary[index]))
        require_same_state(many.fits[index], solitary[index])


# --- from a batch to alone, and back


@pytest.mark.parametrize("options", [{}, {"lr_schedule": "cosine", "grad_clip": 0.5, "code": "repetition"}], ids=str)
def test_a_state_of_a_batch_is_gone_on_from_alone_and_in_a_batch_again(options: dict[str, Any]) -> None:
    options = options | {"epochs": 6, "patience": 3}
    many, solitary = FitMany(fits(**options)), fits(**options)
    expected = [list(fit) for fit in solitary]
    batched = list(itertools.islice(many, 2))
    states = [fit.state_dict() for fit in many.fits]
    # Another seed: everything that matters must come out of the state.
    one_by_one = [resumed(state, **(options | own | {"seed": 9})) for state, own in zip(states, UNEQUAL, strict=True)]
    middle = [list(itertools.islice(fit, 2)) for fit in one_by_one]
    again = FitMany(
        [resumed(fit.state_dict(), **(options | own | {"seed": 8})) for fit, own in zip(one_by_one, UNEQUAL, strict=True)]
    )
    last = epochs_of_each(again)
    for index, fit in enumerate(solitary):
        stats = [epoch[index] for epoch in batched] + middle[index] + last[index]
        require_same_epochs(stats, expected[index])
        require_same_state(again.fits[index], fit)


def test_a_run_goes_on_alone_from_where_its_batch_was_left() -> None:
    many, solitary = FitMany(fits()), fits()
    list(itertools.islice(many, 1))
    fit = many.fits[1]
    list(itertools.islice(fit, 1))
    # The others have not moved.
    assert [one.epoch for one in many.fits] == [1, 2, 1]
    list(FitMany(many.fits))
    for one, other in zip(many.fits, solitary, strict=True):
        list(other)
        require_same_state(one, other)


def test_runs_that_stand_at_different_epochs_are_trained_as_one() -> None:
    batched, solitary = fits(lr_schedule="cosine"), fits(lr_schedule="cosine")
    list(itertools.islice(batched[0], 3))
    list(itertools.islice(batched[2], 1))
    assert [sorted(epoch) for epoch in FitMany(batched)] == [[0, 1, 2], [1, 2], [1, 2], [1]]
    for one, other in zip(batched, solitary, strict=True):
        list(other)
        require_same_state(one, other)


def test_nothing_is_left_to_do_for_runs_that_are_over() -> None:
    over = fits()
    list(FitMany(over))
    assert list(FitMany(over)) == []
    assert list(FitMany([])) == []


# --- what else is told and refused


def test_a_hook_hears_of_every_step() -> None:
    heard: list[tuple[int, int]] = []
    list(FitMany(fits(epochs=2), on_step=lambda step, of: heard.append((step, of))))
    assert heard == [(1, 3), (2, 3), (3, 3)] * 2


def test_training_leaves_the_global_random_state_alone() -> None:
    batch = fits()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(FitMany(batch))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"code": "repetition"}, "networks, code"),
        ({"batch_size": 8}, "batch size"),
        ({"estimator": "st"}, "estimator"),
        ({"sampling": "bitwise"}, "sampling"),
        ({"train": bits(41)}, "data"),
        ({"fresh_bits": True}, "fresh bits"),
    ],
)
def test_runs_of_unequal_shape_are_refused_by_what_differs(options: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError, match=f"different {what} cannot"):
        FitMany([alone(), alone(**options)])


def test_runs_in_half_precision_are_refused() -> None:
    model = alone().model.float()
    model.autocast_dtype = torch.float16
    with pytest.raises(UsageError, match="float16"):
        FitMany([Fit(model, TRAIN, VALIDATION, **DEFAULTS)])
