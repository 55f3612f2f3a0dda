"""Steps by epochs: recorded or not, the same steps are taken on the same rows with the same rates, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bvae_cli.codes.repetition import Repetition
from bvae_cli.datasets.resident import ResidentBits
from bvae_cli.workflows.fit import Fit
from bvae_cli.workflows.fit_many import FitMany
from bvae_cli.workflows.steps import CUDAGraphs, Epochs, recorder_for
from tests.helpers import small_model


class Plain:
    """A recorder that does again what it was given, as a CUDA graph would: on the tensors that it was recorded with."""

    def __init__(self, steps: int = 3) -> None:
        self.steps, self.recordings, self.replays = steps, 0, 0

    def __call__(self, action: Callable[[], None], generators: Sequence[torch.Generator]) -> Callable[[], None]:
        self.recordings += 1

        def replay() -> None:
            self.replays += 1
            action()

        return replay


class Refusing(Plain):
    """A recorder of actions that cannot be recorded, which draws before it notices."""

    def __call__(self, action: Callable[[], None], generators: Sequence[torch.Generator]) -> Callable[[], None]:
        for generator in generators:
            torch.rand(5, generator=generator)
        raise RuntimeError("operation not permitted when stream is capturing\nand more")


class Counted:
    """A step that notes what it was given and returns the number of rows twice."""

    def __init__(self) -> None:
        self.seen: list[tuple[list[int], float, float, float]] = []

    def __call__(self, rows: Tensor, rates: Tensor, beta: Tensor, temperature: Tensor) -> Tensor:
        self.seen.append((rows.tolist(), float(rates), float(beta), float(temperature)))
        return torch.full((2,), float(len(rows)), dtype=torch.float64)


def numbers(*values: float) -> list[Tensor]:
    return [torch.tensor(value, dtype=torch.float64) for value in values]


def nothing() -> Tensor:
    return torch.zeros(2, dtype=torch.float64)


@given(rows=st.integers(1, 60), batch=st.integers(1, 20), steps=st.integers(1, 5), epochs=st.integers(1, 3))
def test_every_row_has_its_step_its_rate_and_its_epochs_settings(rows: int, batch: int, steps: int, epochs: int) -> None:
    recorder, step = Plain(steps), Counted()
    taking = Epochs(step, [], recorder, None)
    expected = []
    for epoch in range(epochs):
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(epoch))
        batches = order.split(batch)
        rates = torch.arange(1.0, len(batches) + 1, dtype=torch.float64) / (epoch + 1)
        beta, temperature = numbers(epoch / 7, 1 / (epoch + 1))
        sums = nothing()
        taking.train(order, batch, rates, beta, temperature, sums)
        assert sums.tolist() == [rows, rows]
        settings = (float(beta), float(temperature))
        expected += [(part.tolist(), float(rate), *settings) for part, rate in zip(batches, rates, strict=True)]
    assert step.seen == expected
    # Of several batches, of one, and of a last one of other size.
    assert recorder.recordings <= 3


def test_the_first_steps_are_taken_as_they_are_and_what_is_left_over_one_by_one() -> None:
    recorder, step, heard = Plain(3), Counted(), []
    taking = Epochs(step, [], recorder, None)
    rates = torch.zeros(12, dtype=torch.float64)
    taking.train(torch.arange(58), 5, rates, *numbers(0, 0), nothing(), on_step=lambda done, of: heard.append((done, of)))
    # Three by one, two recordings of three, two whole batches that are recorded alone, and the last three rows.
    assert [done for done, _ in heard] == [1, 2, 3, 6, 9, 10, 11, 12]
    assert {of for _, of in heard} == {12}
    assert (recorder.recordings, recorder.replays) == (2, 4)


def test_a_last_batch_of_other_size_is_recorded_too_when_it_was_taken_often_enough() -> None:
    recorder = Plain(3)
    taking = Epochs(Counted(), [], recorder, None)
    for _ in range(5):
        taking.train(torch.arange(7), 5, torch.zeros(2, dtype=torch.float64), *numbers(0, 0), nothing())
    # Each size three times by itself.
    assert (recorder.recordings, recorder.replays) == (2, 4)


@given(done=st.integers(0, 7), steps=st.integers(1, 3))
def test_an_epoch_that_was_begun_goes_on_behind_the_steps_that_are_done(done: int, steps: int) -> None:
    order, rates, sums = torch.arange(20), torch.arange(7, dtype=torch.float64), torch.tensor([100.0, 200.0])
    step, heard = Counted(), []
    taking = Epochs(step, [], Plain(steps), None)
    taking.train(order, 3, rates, *numbers(0, 0), sums.double(), done, lambda at, of: heard.append(at))
    assert [rows for rows, *_ in step.seen] == [part.tolist() for part in order.split(3)][done:]
    assert [rate for _, rate, *_ in step.seen] == rates.tolist()[done:]
    assert heard[-1:] == ([7] if done < 7 else [])


def test_what_cannot_be_recorded_is_taken_step_by_step_with_the_draws_it_would_have_had() -> None:
    generator = torch.Generator().manual_seed(5)
    drawn: list[float] = []

    def step(rows: Tensor, rates: Tensor, beta: Tensor, temperature: Tensor) -> Tensor:
        drawn.append(float(torch.rand((), generator=generator)))
        return torch.zeros(2, dtype=torch.float64)

    taking = Epochs(step, [generator], Refusing(), None)
    taking.train(torch.arange(8), 1, torch.zeros(8, dtype=torch.float64), *numbers(0, 0), nothing())
    reference = torch.Generator().manual_seed(5)
    assert drawn == [float(torch.rand((), generator=reference)) for _ in range(8)]
    assert taking.eager_because == "its step cannot be recorded (operation not permitted when stream is capturing)"


def test_a_forgotten_recording_is_made_again() -> None:
    recorder = Plain(2)
    taking = Epochs(Counted(), [], recorder, None)
    for _ in range(2):
        taking.train(torch.arange(20), 2, torch.zeros(10, dtype=torch.float64), *numbers(0, 0), nothing())
        taking.forget()
    # The first epoch records two steps as one and the one that is left over, the second two as one again.
    assert recorder.recordings == 3


def test_what_a_run_has_recorded_alone_is_forgotten_when_it_becomes_a_part_of_several() -> None:
    fits = [fit_of(seed=seed, epochs=3) for seed in range(2)]
    recorder = Plain(4)
    next(iter(recorded(fits[0], recorder)))
    before = recorder.recordings
    next(iter(FitMany(fits)))
    assert recorder.recordings == before
    next(iter(fits[0]))
    # Its weights lie elsewhere now: both kinds are recorded anew.
    assert recorder.recordings == 2 * before


class Placed:
    """Rows on a device that need not be there."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)


def test_only_a_cuda_device_records_and_every_other_says_why_not() -> None:
    recorder, reason = recorder_for(Placed("cuda"), scaled=False)  # type: ignore[arg-type]
    assert isinstance(recorder, CUDAGraphs)
    assert reason is None
    for device, scaled, word in (("cpu", False, "cpu"), ("mps", False, "mps"), ("cuda", True, "float16")):
        recorder, reason = recorder_for(Placed(device), scaled)  # type: ignore[arg-type]
        assert recorder is None
        assert reason is not None
        assert word in reason


DATA = (torch.rand(70, 6, generator=torch.Generator().manual_seed(1)) < 0.4).to(torch.uint8)
VALIDATION = DATA[:20]


def fit_of(device: str = "cpu", **options: object) -> Fit:
    code = Repetition(R=3).build(12)
    model = small_model(code, features=6).to(device)
    settings: dict[str, object] = {"epochs": 3, "batch_size": 4, "lr": 0.01, "lr_schedule": "cosine", "grad_clip": 1.0}
    return Fit(model, DATA.to(device), VALIDATION.to(device), **{**settings, **options})  # type: ignore[arg-type]


def recorded(fit: Fit, recorder: Plain) -> Fit:
    fit.steps = Epochs(fit._step, [fit.generator], recorder, None)
    return fit


@pytest.mark.parametrize("fresh_bits", [False, True])
@pytest.mark.parametrize("estimator", ["reinmax", "gumbel", "disarm"])
def test_a_run_of_recordings_is_bit_for_bit_the_run_of_single_steps(estimator: str, fresh_bits: bool) -> None:
    recorder = Plain(4)
    runs = [fit_of(estimator=estimator, fresh_bits=fresh_bits) for _ in range(2)]
    recorded(runs[1], recorder)
    epochs = [list(run) for run in runs]
    assert recorder.replays > 5
    for one, other in zip(*epochs, strict=True):
        assert one.validation_loss == other.validation_loss
        assert (one.training_loss, one.kl) == (other.training_loss, other.kl)
    weights = [run.weights() for run in runs]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.slow
def test_several_runs_of_recordings_are_the_runs_of_single_steps_also_after_one_has_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorders: list[Plain] = []

    def plain(device: torch.device, scaled: bool) -> tuple[Plain, None]:
        recorders.append(Plain(4))
        return recorders[-1], None

    losses = []
    for record in (False, True):
        if record:
            monkeypatch.setattr("bvae_cli.workflows.fit_many.recorder_for", plain)
        fits = [fit_of(seed=seed, epochs=2 + seed, lr=0.01 * (1 + seed)) for seed in range(2)]
        losses.append([{index: stats.validation_loss for index, stats in epoch.items()} for epoch in FitMany(fits)])
    assert losses[0] == losses[1]
    assert [recorder.recordings for recorder in recorders] == [2, 2]


@pytest.mark.parametrize("record", [False, True])
def test_a_run_on_bits_that_are_kept_packed_is_bit_for_bit_the_run(record: bool) -> None:
    packed = Fit(
        fit_of().model, ResidentBits.of(DATA, "cpu"), ResidentBits.of(VALIDATION, "cpu"), epochs=3, batch_size=4, lr=0.01
    )
    plain = Fit(fit_of().model, DATA, VALIDATION, epochs=3, batch_size=4, lr=0.01)
    assert packed.steps.eager_because == plain.steps.eager_because
    if record:
        recorded(packed, Plain(4))
    assert [stats.validation_loss for stats in packed] == [stats.validation_loss for stats in plain]


@pytest.mark.gpu
def test_on_a_gpu_steps_that_take_packed_bits_are_captured() -> None:
    data = [ResidentBits.of(rows, "cuda") for rows in (DATA, VALIDATION)]
    runs = [
        Fit(fit_of("cuda").model, *rows, epochs=3, batch_size=4, lr=0.01)
        for rows in (data, (DATA.cuda(), VALIDATION.cuda()))
    ]
    losses = [[stats.validation_loss for stats in run] for run in runs]
    assert runs[0].steps.eager_because is None
    torch.testing.assert_close(torch.tensor(losses[0]), torch.tensor(losses[1]), rtol=1e-6, atol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("estimator", ["reinmax", "gumbel", "disarm"])
def test_on_a_gpu_captured_steps_are_near_to_the_bit_those_of_single_ones(estimator: str) -> None:
    runs = [fit_of("cuda", estimator=estimator, record=record) for record in (False, True)]
    losses = [[stats.validation_loss for stats in run] for run in runs]
    assert runs[1].steps.eager_because is None
    torch.testing.assert_close(torch.tensor(losses[1]), torch.tensor(losses[0]), rtol=1e-6, atol=0)


@pytest.mark.gpu
def test_on_a_gpu_a_run_that_cannot_be_recorded_goes_on_with_the_noise_that_it_would_have_had() -> None:
    runs = [fit_of("cuda", record=False), fit_of("cuda")]

    def looked_at_by_the_host(*of_a_step: Tensor) -> Tensor:
        sums = runs[1]._step(*of_a_step)
        sums.cpu()
        return sums

    runs[1].steps = Epochs(looked_at_by_the_host, [runs[1].generator], CUDAGraphs(), None)
    losses = [[stats.validation_loss for stats in run] for run in runs]
    assert "cannot be recorded" in (runs[1].steps.eager_because or "")
    assert losses[0] == losses[1]


@pytest.mark.gpu
@pytest.mark.parametrize("begun", [1, 5, 9])
def test_on_a_gpu_the_sums_of_an_epoch_do_not_tell_where_it_was_interrupted(begun: int) -> None:
    class InterruptedHereError(Exception):
        pass

    def interrupt(done: int, steps: int) -> None:
        if done >= begun:
            raise InterruptedHereError

    whole, part = fit_of("cuda"), fit_of("cuda", on_step=interrupt)
    expected = [(stats.training_loss, stats.kl, stats.validation_loss) for stats in whole]
    with pytest.raises(InterruptedHereError):
        next(iter(part))
    rest = fit_of("cuda")
    rest.load_state_dict(part.state_dict())
    assert [(stats.training_loss, stats.kl, stats.validation_loss) for stats in rest] == expected
