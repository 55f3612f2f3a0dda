import math

import pytest
import torch

from bvae_cli.codes.repetition import Repetition
from bvae_cli.codes.uncoded import Uncoded
from bvae_cli.evaluation.assessment import assess, closed_form_curves, closed_forms, new_judge
from bvae_cli.evaluation.metrics import METRICS
from bvae_cli.model.bvae import BinaryVAE
from bvae_cli.model.networks import Architecture
from bvae_cli.model.objective import bitwise_surrogate, elbo, log_likelihood
from tests.helpers import COSET_LEADERS, Hamming, joint_threshold, small_model

EPSILONS = (0.0, 0.01, 0.02, 0.05, 0.1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(count: int, columns: int = 5) -> torch.Tensor:
    return (torch.rand(count, columns, generator=generator(7)) < 0.4).to(torch.uint8)


def test_everything_is_measured_under_names_of_the_table_of_metrics():
    x = rows(300)
    labels = x[:, 0].long()
    judge = new_judge(x, labels, x, labels)
    measured = assess(
        small_model(Repetition(R=3).build(12), gain=2.0).float(),
        x,
        training=x,
        labels=labels,
        judge=judge,
        iwae_samples=4,
        epsilons=(0.0, 0.1),
        sampling="bitwise",
    )
    assert {name.partition("@")[0] for name in measured.metrics} == METRICS.keys() - {
        "epochs",
        "seconds",
        "images_per_second",
        "parameters",
        "flop_per_image",
    }
    for name, values in measured.by_image.items():
        assert values.shape == (300,)
        assert measured.metrics[name].mean == pytest.approx(float(values.double().mean()), abs=1e-5)


def test_without_labels_nothing_is_said_that_needs_them_and_without_bits_no_novelty():
    measured = assess(small_model(Uncoded().build(17)).float(), rows(50), training=rows(50).float() / 2)
    absent = {"stored_accuracy@0", "sample_frechet_distance", "sample_novelty", "log_likelihood", "bitwise_surrogate"}
    assert not absent & measured.metrics.keys()


def test_the_bounds_are_ordered_below_the_enumerated_likelihood():
    model = small_model(Hamming().build(14), gain=2.0).float()
    x = rows(2000)
    measured = assess(model, x, training=x, iwae_samples=8).metrics
    exact = float(log_likelihood(model, x.float()).detach().double().mean())
    assert measured["log_likelihood"].mean == pytest.approx(exact, abs=1e-5)
    assert measured["elbo"].mean < measured["iwae"].mean < exact + 3 * measured["iwae"].standard_error
    assert measured["bits_per_dim"].mean == pytest.approx(-measured["elbo"].mean / (5 * math.log(2)))


def test_the_same_seed_measures_the_same_and_another_does_not():
    model, x = small_model(Repetition(R=3).build(12)).float(), rows(200)
    one, same, other = (assess(model, x, training=x, epsilons=(0.1,), seed=seed) for seed in (1, 1, 2))
    assert one.metrics == same.metrics
    assert one.metrics["elbo"] != other.metrics["elbo"]


CODES = [(Uncoded(), 12), (Repetition(R=2), 12), (Repetition(R=3), 12)]


@pytest.mark.parametrize(("spec", "n"), CODES, ids=str)
def test_channel_rates_stand_beside_closed_forms_that_hold_them(spec, n):
    x = rows(20_000)
    measured = assess(small_model(spec.build(n)).float(), x, training=x, iwae_samples=1, epsilons=EPSILONS).metrics
    known = closed_forms(spec, n, EPSILONS)
    assert {name.partition("@")[0] for name in known} == {
        "channel_bit_error_rate",
        "channel_word_error_rate",
        "stored_bit_error_rate",
    }
    checks = len(known) * len(CODES)
    bits = n // spec.block().n
    for name, rate in known.items():
        # Words are independent, and so are the bits of a repetition code: the errors follow from the closed form.
        draws = len(x) * (1 if "word" in name else bits)
        error = math.sqrt(rate * (1 - rate) / draws)
        assert abs(measured[name].mean - rate) <= joint_threshold(checks) * error + 1e-12, name


def test_the_closed_form_of_words_counts_the_blocks_of_the_latent():
    # K / k independent blocks: 1 − (1 − P)^blocks, with P from the coset leaders by hand.
    class Known(Hamming):
        def hard_block_error_rate(self, epsilon: float) -> float:
            leaders = COSET_LEADERS[Hamming]
            return 1 - sum(count * epsilon**weight * (1 - epsilon) ** (7 - weight) for weight, count in enumerate(leaders))

    block = 1 - (0.95**7 + 7 * 0.05 * 0.95**6)
    assert closed_forms(Known(), 21, [0.05]) == {"channel_word_error_rate@0.05": pytest.approx(1 - (1 - block) ** 3)}
    assert closed_forms(Hamming(), 7, [0.05]) == {}
    assert closed_form_curves(Hamming(), 7) == {}


def test_the_curves_to_draw_are_the_closed_forms_from_a_thousandth_to_a_half():
    curves = closed_form_curves(Repetition(R=3), 9)
    assert curves["epsilon"][0] == pytest.approx(0.001)
    assert curves["epsilon"][-1] == pytest.approx(0.5)
    for epsilon, bit, word in zip(*(curves[name] for name in curves), strict=True):
        rate = 3 * epsilon**2 - 2 * epsilon**3
        assert bit == pytest.approx(rate)
        assert word == pytest.approx(1 - (1 - rate) ** 3)


def test_the_bitwise_surrogate_exceeds_log_p_where_no_true_codeword_gives_what_independent_copies_do():
    # One bit three times; the decoder makes the pixel bright only where the copies differ, which no codeword's do.
    model = BinaryVAE(Repetition(R=3).build(3), torch.tensor([0.5]), Architecture(hidden=2, depth=1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()  # so the encoder says nothing: q = ½, KL = 0
        model.decoder.layers[0].weight.copy_(torch.tensor([[1.0] * 3, [-1.0] * 3]))
        model.decoder.layers[2].weight.fill_(-4.0)
        model.decoder.layers[2].bias.fill_(8.0)
    x = torch.ones(4000, 1)
    # |sum of ±1| is 1 for six of eight patterns and 3 for two; leaky(s) + leaky(−s) = 0.8 |s|.
    mixed, equal = (-math.log1p(math.exp(-(8 - 3.2 * size))) for size in (1, 3))
    surrogate = bitwise_surrogate(model, x, generator(3)).detach().double()
    error = float(surrogate.std()) / math.sqrt(len(x))
    assert abs(float(surrogate.mean()) - (0.75 * mixed + 0.25 * equal)) < 3 * error
    assert float(log_likelihood(model, x[:1]).detach()) == pytest.approx(equal, rel=1e-5)
    assert float(surrogate.mean()) > equal + 1.0
    assert float(elbo(model, x[:1], generator(1)).detach()) == pytest.approx(equal, rel=1e-5)
