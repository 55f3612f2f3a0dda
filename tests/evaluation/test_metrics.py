import pytest

from bvae_cli.evaluation.metrics import METRICS, at, claimed_metrics, in_order, metric_of, title_of


def test_every_metric_says_what_it_is_and_which_way_is_better():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.title
        assert metric.meaning
        assert metric.better in ("higher", "lower", None)


def test_every_claim_is_made_of_a_metric_with_a_direction():
    for name in claimed_metrics([0.0, 0.05]):
        assert metric_of(name)[0].better is not None


@pytest.mark.parametrize(
    ("epsilons", "claimed"),
    [
        ([0.0, 0.01, 0.02, 0.05, 0.1], "stored_nll@0.05"),
        ([0.02], "stored_nll@0.02"),
        ([0.0, 0.04, 0.1], "stored_nll@0.04"),
    ],
)
def test_the_claim_about_stored_bits_is_made_at_the_flip_probability_nearest_to_five_percent(epsilons, claimed):
    assert claimed_metrics(epsilons)[-1] == claimed


def test_without_flips_there_is_no_claim_about_stored_bits():
    assert claimed_metrics([0.0]) == ["iwae", "inference_bit_error_rate"]


def test_a_metric_at_a_flip_probability_is_found_again_by_its_name():
    metric, epsilon = metric_of(at("channel_bit_error_rate", 1e-5))
    assert (metric.name, epsilon) == ("channel_bit_error_rate", 1e-5)
    assert title_of("iwae", 7) == "IWAE-7"


def test_metrics_are_sorted_as_the_table_has_them_and_rising_in_epsilon():
    assert in_order(["stored_nll@0.1", "kl", "stored_nll@0.02", "elbo"]) == [
        "elbo",
        "kl",
        "stored_nll@0.02",
        "stored_nll@0.1",
    ]


def test_only_error_rates_are_rates_whose_ratio_means_something():
    assert METRICS["channel_bit_error_rate"].is_rate
    assert METRICS["inference_word_error_rate"].is_rate
    for name in ("stored_accuracy", "sample_uniqueness", "stored_nll", "calibration_error"):
        assert not METRICS[name].is_rate


def test_of_grey_values_what_is_made_of_a_likelihood_means_something_else():
    changed = {name for name, metric in METRICS.items() if metric.meant(False) != metric.meant(True)}
    assert changed == {"elbo", "iwae", "log_likelihood", "bits_per_dim"}
    assert all(METRICS[name].meant(True) == METRICS[name].meaning for name in METRICS)
