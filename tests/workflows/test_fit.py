"""The bare loop: schedules, patience, resuming, and what it does when the loss is no longer a number."""

from __future__ import annotations

import io
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from bvae_cli.codes.repetition import Repetition
from bvae_cli.codes.uncoded import Uncoded
from bvae_cli.errors import DivergedError, ExitCode
from bvae_cli.model.bvae import BinaryVAE
from bvae_cli.model.networks import Architecture
from bvae_cli.model.objective import Losses, training_losses
from bvae_cli.workflows.fit import EpochStats, Fit

# So small a rate leaves the weights where they are.
STILL = 1e-12


def bits(rows: int = 40, features: int = 10, seed: int = 0) -> Tensor:
    """Rows of a pattern or of its opposite, one bit in ten wrong; another seed gives other rows of the same."""
    pattern = torch.arange(features) % 3 == 0
    patterns = torch.stack([pattern, ~pattern])
    generator = torch.Generator().manual_seed(seed + 1)
    flips = torch.rand(rows, features, generator=generator) < 0.1
    return (patterns[torch.randint(2, (rows,), generator=generator)] ^ flips).to(torch.uint8)


def model_of(train: Tensor, seed: int = 0, copies: int = 0) -> BinaryVAE:
    code = Repetition(R=copies).build(12) if copies else Uncoded().build(8)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return BinaryVAE(code, train.float().mean(0), Architecture(hidden=16, depth=1))


def make(train: Tensor | None = None, model: BinaryVAE | None = None, **options: Any) -> Fit:
    train = bits() if train is None else train
    defaults = {"epochs": 4, "batch_size": 16, "lr": 0.01, "patience": 100}
    return Fit(model or model_of(train), train, bits(20, train.shape[1], seed=1), **(defaults | options))


def epochs_of(fit: Fit) -> list[EpochStats]:
    return list(fit)


def numbers(stats: EpochStats) -> tuple[Any, ...]:
    """Return what must be the same wherever an epoch is run: all but its time."""
    return (stats.epoch, stats.training_loss, stats.validation_loss, stats.kl, stats.lr, stats.improved)


def same_weights(one: BinaryVAE, other: BinaryVAE) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Return a list of every batch whose losses are computed."""
    seen: list[Tensor] = []

    def losses(model: Any, x: Tensor, *rest: Any) -> Losses:
        seen.append(x.clone())
        return training_losses(model, x, *rest)

    monkeypatch.setattr("bvae_cli.workflows.fit.training_losses", losses)
    return seen


# --- schedules, by their closed forms


@pytest.mark.parametrize(("beta_max", "warmup"), [(1.0, 10), (0.3, 4), (2.0, 1), (1.0, 0), (0.0, 5)])
def test_beta_rises_in_a_straight_line_from_zero_and_stays(beta_max: float, warmup: int) -> None:
    fit = make(beta_max=beta_max, beta_warmup_epochs=warmup)
    for epoch in range(15):
        expected = beta_max if epoch >= warmup else beta_max * epoch / warmup
        assert fit.beta(epoch) == pytest.approx(expected, abs=1e-12)
    if warmup:
        assert fit.beta(0) == 0


def test_the_temperature_falls_by_a_twentieth_an_epoch_until_its_end() -> None:
    fit = make(tau_start=2.0, tau_end=0.5)
    for epoch in range(60):
        assert fit.temperature(epoch) == pytest.approx(max(0.5, 2.0 * 0.95**epoch))
    assert fit.temperature(27) > 0.5
    assert fit.temperature(28) == 0.5


def test_the_cosine_schedule_goes_from_the_rate_to_zero_over_all_steps() -> None:
    fit = make(epochs=4, batch_size=10, lr=0.2, lr_schedule="cosine")
    assert fit.steps_per_epoch == 4
    assert fit.learning_rate(0) == pytest.approx(0.2)
    assert fit.learning_rate(4) == pytest.approx(0.2 * (2 + math.sqrt(2)) / 4)
    assert fit.learning_rate(8) == pytest.approx(0.1)
    assert fit.learning_rate(16) == pytest.approx(0.0, abs=1e-12)


def test_the_constant_schedule_is_constant() -> None:
    fit = make(lr=0.2, lr_schedule="constant")
    assert {fit.learning_rate(step) for step in range(20)} == {0.2}


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_an_epoch_reports_the_values_that_it_was_trained_with(schedule: str) -> None:
    fit = make(epochs=5, lr=0.02, lr_schedule=schedule, beta_warmup_epochs=3, tau_start=1.0, tau_end=0.9)
    for index, stats in enumerate(fit):
        assert stats.epoch == index + 1
        assert stats.beta == fit.beta(index)
        assert stats.temperature == fit.temperature(index)
        assert stats.lr == fit.learning_rate((index + 1) * 3 - 1)
        assert fit.optimizer.param_groups[0]["lr"] == stats.lr
        assert stats.images_per_second == pytest.approx(40 / stats.seconds)


# --- the data


def test_an_epoch_takes_every_row_once_in_an_order_of_its_own(batches: list[Tensor]) -> None:
    train = torch.eye(10, dtype=torch.uint8)
    epochs_of(make(train, epochs=2, batch_size=4))
    assert [len(batch) for batch in batches] == [4, 4, 2, 4, 4, 2]
    orders = [torch.cat(batches[start : start + 3]).argmax(1).tolist() for start in (0, 3)]
    assert [sorted(order) for order in orders] == [list(range(10))] * 2
    assert orders[0] != orders[1]
    assert orders[0] != list(range(10))


def test_a_batch_larger_than_the_data_is_one_step_an_epoch() -> None:
    steps: list[tuple[int, int]] = []
    fit = make(batch_size=10_000, epochs=3, on_step=lambda step, of: steps.append((step, of)))
    assert len(epochs_of(fit)) == 3
    assert steps == [(1, 1)] * 3


def test_fresh_bits_are_drawn_anew_in_every_epoch_with_the_given_probabilities(batches: list[Tensor]) -> None:
    probabilities = torch.tensor([0.0, 0.25, 0.5, 1.0]).repeat(4000, 1)
    epochs_of(make(probabilities, fresh_bits=True, epochs=2, batch_size=4000))
    first, second = batches
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(first, second)
    # Four standard deviations of a share among 4000 are below 0.032.
    assert first.mean(0).tolist() == pytest.approx([0.0, 0.25, 0.5, 1.0], abs=0.032)
    assert first[:, 0].sum() == 0
    assert first[:, 3].sum() == 4000


def test_without_fresh_bits_the_values_are_taken_as_they_are(batches: list[Tensor]) -> None:
    grey = torch.linspace(0, 1, 40).reshape(10, 4)
    epochs_of(make(grey, epochs=1, batch_size=10))
    assert torch.equal(batches[0].sort(0).values, grey)


def test_training_makes_the_validation_loss_fall() -> None:
    for copies in (0, 3):
        train = bits(200)
        losses = [stats.validation_loss for stats in make(train, model_of(train, copies=copies), epochs=30, lr=0.02)]
        # Ten fair bits cost 10 ln 2 nats; which of the two patterns it is, and the wrong bits, cost ln 2 + 10 H(0.1).
        assert losses[0] == pytest.approx(10 * math.log(2), rel=0.1)
        assert min(losses) < 5


# --- the validation loss


def test_the_validation_loss_does_not_move_with_beta() -> None:
    stats = epochs_of(make(lr=STILL, epochs=6, beta_warmup_epochs=4))
    assert [round(one.beta, 6) for one in stats] == [0, 0.25, 0.5, 0.75, 1, 1]
    assert [one.validation_loss for one in stats] == pytest.approx([stats[0].validation_loss] * 6, rel=1e-6)
    losses = [one.training_loss for one in stats]
    assert losses[5] > losses[0]


def test_the_noise_of_the_validation_loss_is_the_same_for_every_seed() -> None:
    losses = [epochs_of(make(lr=STILL, epochs=1, seed=seed))[0].validation_loss for seed in (0, 1)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_the_validation_loss_weighs_the_kl_by_beta_max() -> None:
    train = bits()
    model, validation = model_of(train), bits(20, seed=1)
    with torch.no_grad():
        probability = model.encode(validation.float()).logits.sigmoid().double()
    entropy = -(probability * probability.log() + (1 - probability) * (1 - probability).log())
    kl = float((math.log(2) - entropy).sum(1).mean())
    low, high = (epochs_of(make(train, model_of(train), lr=STILL, epochs=1, beta_max=beta))[0] for beta in (0.0, 2.0))
    assert high.validation_loss - low.validation_loss == pytest.approx(2 * kl, rel=1e-4)


# --- patience


def test_patience_ends_training_that_does_not_improve() -> None:
    fit = make(lr=STILL, epochs=50, patience=3, beta_warmup_epochs=0, min_delta=0.01)
    assert [stats.epochs_without_improvement for stats in fit] == [0, 1, 2, 3]
    assert fit.stop_reason == "no improvement for 3 epochs"


def test_patience_counts_only_after_the_warm_up() -> None:
    fit = make(lr=STILL, epochs=50, patience=2, beta_warmup_epochs=4, min_delta=0.01)
    assert [stats.epochs_without_improvement for stats in fit] == [0, 0, 0, 0, 1, 2]
    assert fit.stop_reason == "no improvement for 2 epochs"


def scripted(losses: list[float], **options: Any) -> tuple[Fit, list[EpochStats]]:
    """Run epochs whose validation losses are given."""
    fit = make(epochs=len(losses), beta_warmup_epochs=0, **options)
    remaining = iter(losses)
    fit._validation_loss = lambda: next(remaining)  # type: ignore[method-assign]
    return fit, list(fit)


def test_training_that_improves_goes_on_to_the_last_epoch() -> None:
    fit, stats = scripted([6.0, 5.0, 4.0, 3.0, 2.0], patience=1)
    assert len(stats) == 5
    assert fit.stop_reason == "all 5 epochs done"


def test_an_improvement_below_min_delta_is_kept_and_yet_runs_out_of_patience() -> None:
    fit, stats = scripted([10, 9.9, 9.8, 9.7, 9.6], min_delta=0.35, patience=3)
    assert [one.improved for one in stats] == [True, True, True, True]
    assert [one.epochs_without_improvement for one in stats] == [0, 1, 2, 3]
    assert (fit.best_epoch, fit.best_validation_loss) == (4, 9.7)


def test_small_improvements_add_up_to_one_that_counts() -> None:
    _, stats = scripted([10, 9.9, 9.8, 9.6, 9.5], min_delta=0.35, patience=3)
    assert [one.epochs_without_improvement for one in stats] == [0, 1, 2, 0, 1]


def test_the_best_weights_are_those_of_the_best_epoch() -> None:
    weights = []
    fit = make(epochs=4, beta_warmup_epochs=0)
    losses = iter([5.0, 3.0, 4.0, 6.0])
    fit._validation_loss = lambda: next(losses)  # type: ignore[method-assign]
    for stats in fit:
        assert stats.improved == (stats.epoch <= 2)
        weights.append({name: value.clone() for name, value in fit.model.state_dict().items()})
    assert fit.best_epoch == 2
    assert all(torch.equal(fit.best_weights[name], weights[1][name]) for name in weights[1])
    assert any(not torch.equal(fit.best_weights[name], weights[3][name]) for name in weights[3])


# --- the same seed, and going on


def test_the_same_seed_gives_the_same_epochs_and_another_differs() -> None:
    runs = [[numbers(stats) for stats in make(seed=seed)] for seed in (3, 3, 4)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_training_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    epochs_of(make(fresh_bits=True))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr_schedule": "cosine", "grad_clip": 0.5},
        {"fresh_bits": True},
        {"estimator": "gumbel", "sampling": "bitwise"},
    ],
)
@pytest.mark.parametrize("after", [1, 3])
def test_going_on_from_a_saved_state_is_bit_for_bit_an_uninterrupted_run(options: dict[str, Any], after: int) -> None:
    train = torch.rand(40, 10, generator=torch.Generator().manual_seed(2)) if options.get("fresh_bits") else bits()
    whole = make(train, epochs=5, patience=3, beta_warmup_epochs=2, **options)
    expected = [numbers(stats) for stats in whole]

    first = make(train, epochs=5, patience=3, beta_warmup_epochs=2, **options)
    done = [numbers(stats) for stats in itertools.islice(first, after)]
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)

    # Another seed and other weights: everything that matters must come out of the state.
    second = make(train, model_of(train, seed=9), epochs=5, patience=3, beta_warmup_epochs=2, seed=9, **options)
    second.load_state_dict(torch.load(buffer, weights_only=True))
    assert done + [numbers(stats) for stats in second] == expected
    assert same_weights(second.model, whole.model)
    assert second.best_epoch == whole.best_epoch
    assert all(torch.equal(second.best_weights[name], whole.best_weights[name]) for name in whole.best_weights)


def test_patience_goes_on_where_it_was() -> None:
    options: dict[str, Any] = {"lr": STILL, "epochs": 50, "patience": 4, "beta_warmup_epochs": 0, "min_delta": 0.01}
    first = make(**options)
    iterator = iter(first)
    assert [next(iterator).epochs_without_improvement for _ in range(3)] == [0, 1, 2]
    second = make(**options)
    second.load_state_dict(first.state_dict())
    assert [stats.epochs_without_improvement for stats in second] == [3, 4]


# --- divergence


def test_weights_that_are_not_numbers_end_training_with_the_best_ones_kept() -> None:
    fit = make(epochs=10)
    iterator = iter(fit)
    next(iterator), next(iterator)
    with torch.no_grad():
        next(fit.model.parameters()).fill_(math.nan)
    with pytest.raises(DivergedError, match="epoch 3") as caught:
        next(iterator)
    assert caught.value.exit_code == ExitCode.DIVERGED
    assert "--lr" in (caught.value.hint or "")
    assert fit.epoch == 2
    assert all(bool(value.isfinite().all()) for value in fit.best_weights.values())


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_validation_loss_that_is_no_number_ends_training(loss: float) -> None:
    with pytest.raises(DivergedError, match="epoch 2"):
        scripted([1.0, loss, 1.0])


def test_a_rate_that_is_far_too_large_diverges() -> None:
    train = bits()
    code = Uncoded().build(12)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        deep = BinaryVAE(code, train.float().mean(0), Architecture(hidden=64, depth=30))
    with pytest.raises(DivergedError):
        epochs_of(make(train, deep, lr=10.0, epochs=20))


def test_clipping_bounds_the_norm_of_the_gradient() -> None:
    fit = make(grad_clip=0.01, epochs=1, batch_size=40)
    epochs_of(fit)
    norms = [parameter.grad.norm() for parameter in fit.model.parameters() if parameter.grad is not None]
    assert float(torch.stack(norms).norm()) == pytest.approx(0.01, rel=1e-3)
