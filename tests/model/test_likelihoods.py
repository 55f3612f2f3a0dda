import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, distributions

from bvae_cli.codes.repetition import Repetition
from bvae_cli.codes.uncoded import Uncoded
from bvae_cli.config import VALUES, LikelihoodName
from bvae_cli.datasets.base import Splits
from bvae_cli.errors import InputOutputError, UsageError
from bvae_cli.model.batched import StackedVAE
from bvae_cli.model.bvae import BinaryVAE
from bvae_cli.model.likelihoods import (
    Beginning,
    Bernoulli,
    Categorical,
    Gaussian,
    Likelihood,
    NegativeBinomial,
    Poisson,
    beginning,
    outlined,
    unfitted,
)
from bvae_cli.model.networks import Architecture
from bvae_cli.model.objective import all_words, elbo, iwae, log_likelihood, training_losses

NAMES = list(get_args(LikelihoodName))
CATEGORIES = (2, 5, 3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def likelihood(name: str) -> Likelihood:
    """A likelihood of three features in float64 whose shared parameters are no round numbers."""
    made = unfitted(name, 3, CATEGORIES).double()
    noise = generator(1)
    if isinstance(made, Gaussian):
        made.location.copy_(torch.tensor([-2.0, 0.5, 30.0]))
        made.spread.copy_(torch.tensor([0.5, 1.0, 7.0]))
    for parameter in made.parameters():
        parameter.data += 0.5 * torch.randn(parameter.shape, generator=noise, dtype=torch.float64)
    return made


def rows(name: str, count: int = 40, seed: int = 2) -> Tensor:
    """Rows that the likelihood allows, float64 ``[count, 3]``."""
    uniform = torch.rand(count, 3, generator=generator(seed), dtype=torch.float64)
    return {
        "bernoulli": (uniform < 0.4).double(),
        "gaussian": torch.tensor([-2.0, 0.5, 30.0]) + 8 * (uniform - 0.5),
        "poisson": (9 * uniform).floor(),
        "negative-binomial": (9 * uniform**2).floor(),
        "categorical": (uniform * torch.tensor(CATEGORIES)).floor(),
    }[name]


def outputs_of(made: Likelihood, words: int = 4) -> Tensor:
    return 1.5 * torch.randn(words, made.width, generator=generator(3), dtype=torch.float64)


def splits_of(name: str, count: int = 60) -> Splits:
    x = rows(name, count)
    dtype = {"bernoulli": torch.uint8, "categorical": torch.int16}.get(name, torch.float32)
    return Splits(
        *(part.to(dtype) for part in x.split(count // 3)),
        feature_shape=(3,),
        source="made up",
        licence="none",
        likelihood=name,  # type: ignore[arg-type]
        categories=CATEGORIES if name == "categorical" else (),
    )


def model_of(name: str, seed: int = 0, code: object = None) -> BinaryVAE:
    torch.manual_seed(seed)
    model = BinaryVAE(code or Repetition(R=2).build(8), beginning(name, splits_of(name)), Architecture(hidden=6, depth=1))  # type: ignore[arg-type]
    for parameter in model.decoder.parameters():  # so that words differ
        parameter.data *= 3
    return model.double()


# --- densities and probabilities


def one_feature(name: str) -> tuple[Likelihood, Tensor]:
    """A likelihood of one feature, and all values that are not too improbable, ``[values, 1]``."""
    made = unfitted(name, 1, (6,)).double()
    if isinstance(made, Gaussian):
        made.location.fill_(3.0)
        made.spread.fill_(0.2)
    counts = torch.arange(4000, dtype=torch.float64)
    return made, {
        "bernoulli": counts[:2],
        "gaussian": torch.linspace(-7, 13, 20001, dtype=torch.float64),
        "poisson": counts,
        "negative-binomial": counts,
        "categorical": counts[:6],
    }[name].unsqueeze(1)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_likelihood_says_of_all_values_adds_to_one(name: str) -> None:
    made, values = one_feature(name)
    step = 0.001 if name == "gaussian" else 1.0
    for output in (-1.3, 0.0, 1.7):
        outputs = torch.full((1, made.width), output, dtype=torch.float64)
        outputs[:, 0] += 0.3
        logs = -made.negative_log_likelihood(outputs.expand(len(values), -1), values).detach()
        assert float(logs.exp().sum() * step) == pytest.approx(1.0, abs=1e-9)


def test_every_likelihood_that_has_a_name_is_made_and_says_of_what_values_it_is() -> None:
    assert set(VALUES) == set(NAMES) == {unfitted(name, 3, CATEGORIES).name for name in NAMES}


@pytest.mark.parametrize("log_dispersion", [-3.0, 0.0, 3.0])
@pytest.mark.parametrize("mean", [0.01, 10.0, 1e5, 1e7])
def test_large_counts_keep_their_digits_in_float32(mean: float, log_dispersion: float) -> None:
    outputs = torch.full((200, 1), math.log(mean))
    counted = NegativeBinomial(1)
    counted.log_dispersion.data.fill_(log_dispersion)
    r, rate = counted.log_dispersion.detach().double().exp(), outputs.double().exp()
    spread = torch.from_numpy(numpy.random.default_rng(0).gamma(float(r), size=(200, 1)))
    for made, rates, theirs in (
        (Poisson(1), rate, distributions.Poisson(rate)),
        (counted, rate * spread / r, distributions.NegativeBinomial(r, logits=rate.log() - r.log())),
    ):
        x = torch.from_numpy(numpy.random.default_rng(1).poisson(rates.numpy())).float()
        ours = made.negative_log_likelihood(outputs, x).detach()
        # A log mean of ten millions itself has only so many digits: at a distance of four deviations a nat's hundredth.
        assert torch.allclose(ours.double(), -theirs.log_prob(x.double()).squeeze(1), atol=2e-2 if mean > 1e6 else 2e-3)


@pytest.mark.parametrize("name", ["poisson", "negative-binomial"])
def test_means_beyond_all_counts_can_still_be_drawn_from(name: str) -> None:
    drawn = likelihood(name).draw(torch.full((2, 3), 800.0, dtype=torch.float64), generator(), 1.0)
    assert bool(drawn.isfinite().all())


@pytest.mark.parametrize("name", ["poisson", "negative-binomial"])
def test_a_guess_is_about_what_the_beginning_costs_also_of_large_counts(name: str) -> None:
    many = numpy.random.default_rng(0)
    for mean in (0.1, 3.0, 500.0, 30_000.0):
        counts = torch.from_numpy(many.poisson(mean * many.gamma(0.5, 2.0, (300, 3)))).float()
        splits = replace(splits_of(name), train=counts, validation=counts, test=counts)
        begins = beginning(name, splits)
        costs = begins.likelihood.negative_log_likelihood(begins.bias.unsqueeze(0), counts).mean()
        assert 0.5 < begins.likelihood.guess(counts) / float(costs.detach()) < 6
        assert 10 * begins.likelihood.guess(counts) > float(
            begins.likelihood.negative_log_likelihood(begins.bias.unsqueeze(0) + 0.5, counts).mean()
        )


@pytest.mark.parametrize("sigma", [0.0, 0.02, 5.0])
def test_a_guess_of_real_values_is_what_the_beginning_costs_and_the_floor_what_is_met_exactly(sigma: float) -> None:
    splits = splits_of("gaussian", 300)
    begins = beginning("gaussian", splits, sigma)
    x, made = torch.as_tensor(splits.train), begins.likelihood
    costs = made.negative_log_likelihood(begins.bias.unsqueeze(0), x).mean()
    assert made.guess(x) == pytest.approx(float(costs.detach()), rel=1e-4)
    if sigma:
        met = made.negative_log_likelihood((x - made.location) / made.spread, x).mean()  # type: ignore[operator]
        assert made.floor() == pytest.approx(float(met), rel=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.floats(-3, 3), st.floats(-2, 2), st.integers(0, 30))
def test_each_likelihood_is_that_of_torchs_distribution(output: float, shared: float, count: int) -> None:
    outputs, x = torch.tensor([[output]], dtype=torch.float64), torch.tensor([[float(count)]], dtype=torch.float64)
    real = torch.tensor([[shared * 3]], dtype=torch.float64)
    gaussian = Gaussian(1).double()
    gaussian.location.fill_(1.0)
    gaussian.spread.fill_(2.5)
    gaussian.raw_sigma.data.fill_(6 + shared)
    counted = NegativeBinomial(1).double()
    counted.log_dispersion.data.fill_(shared)
    r = math.exp(shared)
    logits = torch.tensor([[output, shared, 0.0]], dtype=torch.float64)
    pairs: list[tuple[Tensor, Tensor]] = [
        (
            gaussian.negative_log_likelihood(outputs, real),
            distributions.Normal(1 + 2.5 * outputs, gaussian.sigmas).log_prob(real),
        ),
        (Poisson(1).negative_log_likelihood(outputs, x), distributions.Poisson(outputs.exp()).log_prob(x)),
        (
            counted.negative_log_likelihood(outputs, x),
            distributions.NegativeBinomial(torch.tensor(r, dtype=torch.float64), logits=outputs - shared).log_prob(x),
        ),
        (
            Categorical([3]).negative_log_likelihood(logits, x % 3),
            distributions.Categorical(logits=logits).log_prob(x.squeeze(1) % 3),
        ),
    ]
    for ours, theirs in pairs:
        assert float(ours.detach().sum()) == pytest.approx(-float(theirs.sum()), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_the_exponential_family_says_what_the_direct_form_says(name: str) -> None:
    made, x = likelihood(name), rows(name)
    outputs = outputs_of(made)
    natural = made.natural(outputs)
    joint = made.statistics(x) @ natural.parameters.T - natural.log_normaliser + made.base(x).unsqueeze(1)
    pairs = (outputs.expand(len(x), -1, -1), x.unsqueeze(1).expand(-1, len(outputs), -1))
    direct = -made.negative_log_likelihood(*pairs)
    assert torch.allclose(joint, direct, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_draws_have_the_means_that_are_told(name: str) -> None:
    made, many = likelihood(name), 20_000
    outputs = outputs_of(made, 1).expand(many, -1)
    drawn = made.draw(outputs, generator(5), 1.0)
    assert bool(made.supports(drawn).all())
    seen = made.encoder_inputs(drawn) if name == "categorical" else drawn
    told = made.means(outputs[:1])
    assert bool(((seen.mean(0) - told).abs() < 6 * seen.std(0) / math.sqrt(many) + 1e-12).all())


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_draws_the_same_rows(name: str) -> None:
    made = likelihood(name)
    outputs = outputs_of(made, 50)
    first, again, other = (made.draw(outputs, generator(seed), 1.0) for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_draws_of_a_negative_binomial_vary_as_they_should() -> None:
    made = NegativeBinomial(1)
    made.log_dispersion.data.fill_(math.log(2.0))
    drawn = made.draw(torch.full((40_000, 1), math.log(6.0)), generator(), 1.0)
    # μ + μ²/r
    assert float(drawn.var()) == pytest.approx(6 + 36 / 2, rel=0.05)


def test_a_temperature_narrows_what_is_drawn_and_counts_have_none() -> None:
    made = Gaussian(1)
    narrow, wide = (made.draw(torch.zeros(20_000, 1), generator(), temperature) for temperature in (0.25, 1.0))
    assert torch.allclose(narrow, wide / 2, atol=1e-6)
    symbols = Categorical([4])
    outputs = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    assert torch.allclose(symbols.tempered_means(outputs, 0.5), (2 * outputs).softmax(-1))
    for counts in (Poisson(1), NegativeBinomial(1)):
        with pytest.raises(UsageError, match="temperature 1"):
            counts.draw(torch.zeros(1, 1), generator(), 0.5)


# --- what the encoder sees, what people see


def test_symbols_are_seen_as_bits_of_which_one_in_each_column_is_set() -> None:
    made = Categorical((2, 3))
    assert made.encoder_inputs(torch.tensor([[1, 0], [0, 2]])).tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]
    assert made.rows_of(torch.tensor([[0.2, 0.8, 0.1, 0.5, 0.4]])).tolist() == [[1, 1]]


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_between_black_and_white(name: str) -> None:
    made = likelihood(name)
    for values in (rows(name), made.rows_of(made.means(outputs_of(made)))):
        shades = made.shades(values)
        assert shades.shape[-1] == 3
        assert float(shades.min()) >= 0
        assert float(shades.max()) <= 1


@pytest.mark.parametrize(
    ("name", "bad"),
    [("bernoulli", 1.5), ("gaussian", math.inf), ("poisson", 0.5), ("negative-binomial", -1.0), ("categorical", 5.0)],
)
def test_values_outside_the_support_are_seen(name: str, bad: float) -> None:
    x = rows(name)
    assert bool(likelihood(name).supports(x).all())
    for value in (bad, math.nan):
        x[3, 1] = value
        assert (~likelihood(name).supports(x)).nonzero().tolist() == [[3, 1]]


def test_errors_by_hand() -> None:
    half = torch.tensor([[0.4, 0.9]])
    assert Bernoulli(2).error(half, torch.tensor([[1.0, 1.0]])).tolist() == [0.5]
    assert Poisson(2).error(torch.tensor([[2.0, 5.0]]), torch.tensor([[1.0, 5.0]])).tolist() == [0.5]
    made = Gaussian(1)
    made.spread.fill_(2.0)
    assert made.error(torch.tensor([[3.0]]), torch.tensor([[7.0]])).tolist() == [4.0]
    assert Categorical((2, 2)).error(torch.tensor([[0.9, 0.1, 0.3, 0.7]]), torch.tensor([[0.0, 0.0]])).tolist() == [0.5]


# --- where models begin


@pytest.mark.parametrize("name", NAMES)
def test_a_model_begins_at_the_best_that_says_the_same_of_every_row(name: str) -> None:
    splits = splits_of(name)
    begins = beginning(name, splits)
    made, x = begins.likelihood, splits.train.float()  # type: ignore[union-attr]
    loss = float(made.negative_log_likelihood(begins.bias.float().expand(len(x), -1), x).mean())
    for place, shift in itertools.product(range(made.width), (-0.05, 0.05)):
        bias = begins.bias.float().clone()
        bias[place] += shift
        other = float(made.negative_log_likelihood(bias.expand(len(x), -1), x).mean())
        assert other > loss - 1e-6
    assert torch.allclose(begins.mean.float(), made.encoder_inputs(x).mean(0), atol=1e-5)


def test_a_learned_sigma_begins_at_the_spread_of_the_data() -> None:
    splits = splits_of("gaussian")
    made = beginning("gaussian", splits).likelihood
    assert isinstance(made, Gaussian)
    assert torch.allclose(made.sigmas.squeeze(0), splits.train.std(0, correction=0), rtol=1e-5)  # type: ignore[union-attr]


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_units_of_real_data_change_nothing_but_the_density(factor: float) -> None:
    splits = splits_of("gaussian")
    scaled = Splits(
        *(part * factor for part in (splits.train, splits.validation, splits.test)),  # type: ignore[operator]
        feature_shape=(3,),
        source="made up",
        licence="none",
        likelihood="gaussian",
    )
    losses = []
    for data in (splits, scaled):
        begins = beginning("gaussian", data)
        torch.manual_seed(0)
        model = BinaryVAE(Uncoded().build(4), begins, Architecture(hidden=5, depth=1))
        losses.append(elbo(model, data.test, generator()))  # type: ignore[arg-type]
    assert torch.allclose(losses[1] + 3 * math.log(factor), losses[0], atol=2e-4)


def test_a_column_of_one_value_is_refused_where_its_sigma_would_be_learned() -> None:
    splits = splits_of("gaussian")
    splits.train[:, 1] = 4.0  # type: ignore[index]
    with pytest.raises(InputOutputError, match="Column 2 of made up is the same in every training row"):
        beginning("gaussian", splits)
    pictures = replace(splits, feature_shape=(3, 1))
    with pytest.raises(InputOutputError, match="The value at 2, 1 of 3 × 1 of made up is the same") as caught:
        beginning("gaussian", pictures)
    assert caught.value.hint == "Fix σ for all, as --sigma 0.1."
    begins = beginning("gaussian", splits, sigma=0.5)
    fixed = begins.likelihood
    assert isinstance(fixed, Gaussian)
    assert torch.allclose(fixed.sigmas, torch.full((1, 3), 0.5))
    assert not list(fixed.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_an_outline_has_the_names_and_shapes_of_what_is_fitted(name: str) -> None:
    def shapes(begins: Beginning) -> dict[str, tuple[int, ...]]:
        return {key: tuple(value.shape) for key, value in begins.likelihood.state_dict().items()} | {
            "mean": tuple(begins.mean.shape),
            "bias": tuple(begins.bias.shape),
        }

    splits = splits_of(name)
    assert shapes(outlined(name, 3, splits.categories)) == shapes(beginning(name, splits))


# --- in a model


@pytest.mark.parametrize("name", NAMES)
def test_log_p_is_the_sum_over_all_words_and_the_bounds_are_below_it(name: str) -> None:
    model, x = model_of(name), rows(name, 8)
    words = model.code.encode(all_words(model.code.k, dtype=torch.float64))
    joint = torch.stack([-model.negative_log_likelihood(word.expand(len(x), -1), x) for word in words])
    by_hand = joint.logsumexp(0) - model.code.k * math.log(2)
    assert torch.allclose(log_likelihood(model, x), by_hand, atol=1e-9)
    many = torch.stack([elbo(model, x, generator(seed)) for seed in range(400)]).mean(0)
    tight = torch.stack([iwae(model, x, 16, generator(seed)) for seed in range(50)]).mean(0)
    slack = 0.05 * (by_hand - many).abs() + 1e-6
    assert bool((many <= by_hand + slack).all())
    assert bool((tight <= by_hand + slack).all())
    assert bool(many.mean() < tight.mean())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("estimator", ["reinmax", "disarm", "gumbel"])
def test_models_side_by_side_have_the_losses_and_gradients_of_each_alone(name: str, estimator: str) -> None:
    models, alone = ([model_of(name, seed) for seed in (1, 2)] for _ in range(2))
    x = torch.stack([rows(name, 5, seed) for seed in (3, 4)])
    noise = torch.rand(2, 5, models[0].code.k, generator=generator(), dtype=torch.float64)
    whole = StackedVAE(models)
    assert whole.likelihood.__class__ is models[0].likelihood.__class__

    def loss(model: BinaryVAE | StackedVAE, x: Tensor, noise: Tensor) -> Tensor:
        return training_losses(model, x, noise, estimator, "codeword", 0.7).total(1.0, 0.01)

    together = loss(whole, x, noise)
    together.sum().backward()
    for place, model in enumerate(alone):
        own = loss(model, x[place], noise[place])
        own.backward()
        assert torch.allclose(own, together[place], atol=1e-10)
        for (key, mine), theirs in zip(model.named_parameters(), whole.parameters(), strict=True):
            assert mine.grad is not None, key
            assert torch.allclose(mine.grad, theirs.grad[place], atol=1e-9), key  # type: ignore[index]


@pytest.mark.parametrize("name", ["gaussian", "negative-binomial"])
def test_what_a_model_learns_of_its_likelihood_is_its_own(name: str) -> None:
    begins = beginning(name, splits_of(name))
    first, second = (BinaryVAE(Uncoded().build(4), begins, Architecture(hidden=5, depth=1)) for _ in range(2))
    next(first.likelihood.parameters()).data += 1.0
    assert not torch.equal(next(first.likelihood.parameters()), next(second.likelihood.parameters()))
    together = StackedVAE([first, second])
    next(together.likelihood.parameters()).data[1] += 2.0
    assert torch.equal(next(together.likelihood.parameters())[1], next(second.likelihood.parameters()))


@pytest.mark.parametrize("name", NAMES)
def test_a_model_draws_rows_that_its_likelihood_allows(name: str) -> None:
    model = model_of(name)
    samples = model.sample(30, generator())
    assert samples.rows.shape == (30, 3)
    assert bool(model.likelihood.supports(samples.rows).all())
    assert model.encode(samples.rows).logits.shape == (30, 4)


def _slopes(function: Callable[[Tensor], Tensor], at: Tensor) -> bool:
    return torch.autograd.gradcheck(function, (at.requires_grad_(),))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_differences(name: str) -> None:
    made, x = likelihood(name), rows(name, 4)
    assert _slopes(lambda outputs: made.negative_log_likelihood(outputs, x), outputs_of(made))
