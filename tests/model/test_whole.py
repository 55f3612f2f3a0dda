"""A whole step as one function is the step: the same losses and weights to the last digits, for every code and estimator."""

from __future__ import annotations

import functools

import pytest
import torch

from bvae_cli.config import parse_code
from bvae_cli.datasets.base import Splits
from bvae_cli.errors import UsageError
from bvae_cli.model.convolutions import Picture
from bvae_cli.model.likelihoods import beginning, bernoulli_beginning
from bvae_cli.model.networks import Architecture
from bvae_cli.model.relaxation import ESTIMATORS
from bvae_cli.workflows.building import build_code, new_model
from bvae_cli.workflows.choosing import compiler_problem
from bvae_cli.workflows.fit import EpochStats, Fit
from bvae_cli.workflows.fit_many import FitMany
from tests.helpers import small_model

DATA = (torch.rand(44, 6, generator=torch.Generator().manual_seed(1)) < 0.4).to(torch.uint8)
VALIDATION = DATA[:10]
CODES = {
    "none": 8,
    "repetition:R=3": 12,
    "parity": 10,
    "hamming:r=3": 14,
    "golay": 24,
    "reed-muller:r=1,m=3": 8,
    "bch:n=15,t=2": 15,
    "ldpc": 96,
    "polar": 64,
    "convolutional": 100,
    "linear:matrix=100110/010101/001011": 12,
    "unequal:groups=6 repetition:R=3 + 7 hamming:r=3 + 2 none": 15,
}
OPTIONS: list[dict[str, object]] = [
    *({"estimator": name} for name in ESTIMATORS if name != "reinmax"),
    {"sampling": "bitwise"},
    {"fresh_bits": True, "grad_clip": 0.1, "lr_schedule": "cosine"},
    {"consistency_weight": 0.7, "beta_warmup_epochs": 0},
]


@pytest.fixture
def _traced_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that a compiler is given, but its operations taken as torch has them."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))


def fit_of(compiled: bool, code: str = "hamming:r=3", **options: object) -> Fit:
    """A short run in float64, the last batch of each epoch smaller than the others."""
    model = small_model(build_code(parse_code(code), CODES[code]), features=6)
    settings: dict[str, object] = {"epochs": 2, "batch_size": 8, "lr": 0.01, "compiled": compiled, **options}
    return Fit(model, DATA, VALIDATION, **settings)  # type: ignore[arg-type]


def assert_same_run(one: Fit, other: Fit) -> None:
    for mine, theirs in zip(one, other, strict=True):
        assert_same_epoch(mine, theirs)
    weights = one.weights(), other.weights()
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-9, atol=1e-12)


def assert_same_epoch(mine: EpochStats, theirs: EpochStats) -> None:
    losses = [(epoch.training_loss, epoch.kl, epoch.validation_loss) for epoch in (mine, theirs)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


@pytest.mark.usefixtures("_traced_only")
@pytest.mark.parametrize("code", CODES)
def test_a_run_of_whole_steps_is_the_run_for_every_family_of_codes(code: str) -> None:
    assert_same_run(fit_of(True, code), fit_of(False, code))


@pytest.mark.usefixtures("_traced_only")
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_run_of_whole_steps_is_the_run_with_every_option(options: dict[str, object]) -> None:
    assert_same_run(fit_of(True, **options), fit_of(False, **options))


@pytest.mark.slow
@pytest.mark.usefixtures("_traced_only")
def test_runs_as_one_have_each_its_own_rate_clipping_weights_and_count() -> None:
    groups = []
    for compiled in (True, False):
        own = [
            {"seed": seed, "lr": 0.01 * (1 + seed), "grad_clip": 0.1 * seed, "beta_max": 1 + seed / 2} for seed in range(3)
        ]
        fits = [fit_of(compiled, epochs=3, consistency_weight=0.1 * len(each), **each) for each in own]
        fits[2]._run_epoch()  # alone, so that Adam has counted further
        groups.append((fits, list(FitMany(fits))))
    for mine, theirs in zip(groups[0][1], groups[1][1], strict=True):
        assert mine.keys() == theirs.keys()
        for index in mine:
            assert_same_epoch(mine[index], theirs[index])
    assert [float(fit.optimizer.counts) for fit in groups[0][0]] == [18, 18, 18]


@pytest.mark.usefixtures("_traced_only")
def test_a_batch_of_another_shape_is_taken_as_it_is() -> None:
    fit = fit_of(True)
    next(iter(fit))
    step = fit._compiled_step
    assert step is not None
    assert step.takes(DATA[:8])
    assert not step.takes(DATA[:4])


@pytest.mark.usefixtures("_traced_only")
def test_more_shapes_than_torch_keeps_of_a_function_are_compiled_all() -> None:
    for batch_size in range(2, 12):
        next(iter(fit_of(True, "none", batch_size=batch_size)))


def test_a_compiler_that_fails_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("ld: cannot find -lgomp\nand more")

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=broken))
    with pytest.raises(UsageError, match=r"^The step cannot be compiled: .*ld: cannot find -lgomp"):
        next(iter(fit_of(True)))


@pytest.mark.slow
@pytest.mark.skipif(compiler_problem("cpu") is not None, reason="there is no compiler")
@pytest.mark.parametrize("code", ["none", "hamming:r=3"])
def test_a_compiled_run_is_the_run(code: str) -> None:
    assert_same_run(fit_of(True, code), fit_of(False, code))


@pytest.mark.gpu
def test_on_a_gpu_compiled_and_captured_steps_are_the_steps_but_for_rounding() -> None:
    runs = []
    for compiled in (True, False):
        code = build_code(parse_code("none"), 100)
        beginning = bernoulli_beginning(torch.full((784,), 0.4))
        model = new_model(code, beginning, Architecture(hidden=200, depth=2), 0).to("cuda")
        data = (torch.rand(4096, 784, generator=torch.Generator().manual_seed(1)) < 0.4).to(torch.uint8).cuda()
        runs.append(Fit(model, data, data[:100], epochs=2, batch_size=128, lr=0.001, compiled=compiled, record=compiled))
    losses = [torch.tensor([epoch.validation_loss for epoch in run]) for run in runs]
    assert runs[0].steps.eager_because is None
    # In single precision a hard bit that flips by rounding makes the runs part.
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-3, atol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("network", ["conv", "dcgan"])
def test_on_a_gpu_networks_of_convolutions_are_captured_and_several_as_one_are_what_each_is_alone(network: str) -> None:
    data = (torch.rand(400, 64, generator=torch.Generator().manual_seed(1)) < 0.4).to(torch.uint8).cuda()
    validation = data[:100]
    architecture = Architecture(hidden=16, depth=2, network=network, channels=4, picture=Picture(8, 8, 1))

    def fit_of_seed(seed: int, record: bool = True) -> Fit:
        code = build_code(parse_code("repetition:R=3"), 12)
        model = new_model(code, bernoulli_beginning(torch.full((64,), 0.4)), architecture, seed).to("cuda").double()
        return Fit(model, data, validation, epochs=2, batch_size=16, lr=0.001, seed=seed, record=record)

    eager = [[stats.validation_loss for stats in fit_of_seed(seed, record=False)] for seed in (0, 1)]
    fits = [fit_of_seed(seed) for seed in (0, 1)]
    together = [[stats[seed].validation_loss for seed in (0, 1)] for stats in FitMany(fits)]
    alone = fit_of_seed(0)
    torch.testing.assert_close([stats.validation_loss for stats in alone], eager[0], rtol=1e-9, atol=0)
    torch.testing.assert_close(torch.tensor(together).T, torch.tensor(eager), rtol=1e-9, atol=0)
    assert alone.steps.eager_because is None


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["bernoulli", "gaussian", "categorical", "poisson", "negative-binomial"])
def test_on_a_gpu_each_likelihood_has_the_value_and_gradient_of_the_cpu_and_is_captured(kind: str) -> None:
    rows = torch.randint(0, 2 if kind == "bernoulli" else 4, (60, 6), generator=torch.Generator().manual_seed(3))
    rows = rows.to({"bernoulli": torch.uint8, "categorical": torch.int16}.get(kind, torch.float32))
    categories = (4,) * 6 if kind == "categorical" else ()
    splits = Splits(rows, rows[:12], rows[:12], (6,), "drawn", "none", categories=categories)
    words = torch.randint(0, 2, (60, 5), generator=torch.Generator().manual_seed(4)).double()
    found = []
    for device in ("cpu", "cuda"):
        model = new_model(build_code(parse_code("none"), 5), beginning(kind, splits), Architecture(hidden=8, depth=1), 0)
        model = model.double().to(device)
        seen = rows.to(device)
        values = model.negative_log_likelihood(words.to(device), seen.double() if kind == "bernoulli" else seen)
        values.sum().backward()
        found.append([values.cpu(), *(p.grad.cpu() for p in model.parameters() if p.grad is not None)])
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)
    # What it was differentiated for is of another stream, and must be gone before a step is captured.
    del values
    fit = Fit(model, rows.cuda(), rows[:12].cuda(), epochs=3, batch_size=4, lr=0.01)
    assert [stats for stats in fit if stats.validation_loss != stats.validation_loss] == []
    assert fit.steps.eager_because is None
