"""Claims, cautions and sentences, on comparisons made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bvae_cli.comparisons import ArmRecord, Effect, Protocol, TunedSetting, TuningRun
from bvae_cli.evaluation.statistics import Estimate
from bvae_cli.workflows.verdict import cautions_of, claimed_pairs, effects_of, verdict_of

from ..comparing import arm_record, protocol_of


def no_images(arm: int, seed: int) -> dict[str, Any]:
    return {}


def judged(arms: list[ArmRecord], **protocol: Any) -> tuple[list[Effect], list[str], list[str]]:
    how = protocol_of(len(arms[0].runs), **protocol)
    effects = effects_of(arms, how, no_images)
    return effects, verdict_of(arms, effects, how), cautions_of(arms, effects, how)


UNCODED = [-100.0, -101.0, -100.5, -99.5, -100.2, -100.8, -99.9, -100.1]
BETTER = [value + 2 + 0.05 * index for index, value in enumerate(UNCODED)]


@pytest.mark.parametrize(
    ("coded", "pairs"),
    [
        ([False, False, True], [(2, 0), (2, 1)]),
        ([False, True, True], [(1, 0), (2, 0)]),
        ([True, True], [(1, 0)]),
        ([False, False, False], [(1, 0), (2, 0)]),
        ([True, False], [(0, 1)]),
    ],
)
def test_each_arm_with_a_code_is_held_against_each_without_else_all_against_the_first(
    coded: list[bool], pairs: list[tuple[int, int]]
) -> None:
    assert claimed_pairs(coded) == pairs


def test_a_clear_gain_is_called_better_and_a_clear_loss_worse() -> None:
    arms = [arm_record("uncoded", "none", iwae=UNCODED), arm_record("coded", "repetition", iwae=BETTER)]
    effects, sentences, cautions = judged(arms, claims=["iwae"])
    assert [effect.verdict for effect in effects if effect.claim] == ["better"]
    assert "coded against uncoded: better in IWAE-64 (+2.17 nats [" in sentences[0]
    assert not cautions
    effects, sentences, _ = judged(
        [arms[0].model_copy(update={"code": "x"}), arms[1].model_copy(update={"code": "none"})], claims=["iwae"]
    )
    assert [effect.verdict for effect in effects if effect.claim] == ["worse"]
    assert "worse in IWAE-64 (-2.17 nats" in sentences[0]


def test_where_less_is_better_the_direction_turns() -> None:
    rates = [0.10 + 0.001 * index for index in range(8)]
    arms = [
        arm_record("uncoded", "none", inference_bit_error_rate=rates),
        arm_record("coded", "repetition", inference_bit_error_rate=[rate / 5 for rate in rates]),
    ]
    effects, sentences, _ = judged(arms, claims=["inference_bit_error_rate"])
    assert effects[0].verdict == "better"
    assert "better in inference BER (-8.28 pp [-8.44, -8.12], -80.0 % [-80.0 %, -80.0 %])" in sentences[0]


def test_a_ratio_that_points_the_other_way_is_not_told_beside_the_difference() -> None:
    # Eight seeds a little worse and two a thousand times better: the mean is worse, the geometric mean better.
    rates = [0.1] * 8 + [0.001] * 2
    coded = [0.13 + 0.001 * index for index in range(8)] + [0.00001] * 2
    arms = [
        arm_record("uncoded", "none", inference_bit_error_rate=rates),
        arm_record("coded", "x", inference_bit_error_rate=coded),
    ]
    effects, sentences, _ = judged(arms, claims=["inference_bit_error_rate"])
    ratio = effects[0].paired.ratio
    assert ratio is not None
    assert effects[0].paired.mean > 0
    assert ratio.mean < 1
    assert "%" not in sentences[0]
    assert " pp [" in sentences[0]


def test_uncoded_arms_are_held_against_each_other_without_a_claim() -> None:
    arms = [arm_record(name, code, iwae=UNCODED) for name, code in (("N", "none"), ("K", "none"), ("coded", "x"))]
    effects, sentences, _ = judged(arms, claims=["iwae"])
    assert [(effect.arm, effect.reference, effect.claim) for effect in effects] == [
        ("coded", "N", True),
        ("coded", "K", True),
        ("K", "N", False),
    ]
    assert len(sentences) == 2


def test_an_arm_without_one_of_the_same_information_beside_it_is_pointed_out() -> None:
    arms = [arm_record("uncoded", "none", iwae=UNCODED), arm_record("coded", "x", iwae=BETTER)]
    assert not any("information bits" in text for text in judged(arms, claims=["iwae"])[2])
    wider = arms[0].model_copy(update={"information_bits": 12})
    assert any("No uncoded arm has the 4 information bits of coded" in text for text in judged([wider, arms[1]])[2])


def test_arms_with_learning_rates_of_their_own_do_not_share_one() -> None:
    arms = [arm_record("uncoded", "none", iwae=UNCODED), arm_record("coded", "x", iwae=BETTER)]
    faster = arms[1].model_copy(update={"settings": arms[1].settings | {"lr": 0.01}})
    cautions = judged([arms[0], faster], claims=["iwae"], tuned=[])[2]
    assert any("were named and not tuned (0.003, 0.01)" in text for text in cautions)
    assert not any("share one" in text for text in cautions)
    assert any("share one" in text for text in judged(arms, claims=["iwae"], tuned=["batch_size"])[2])


def test_given_models_that_differ_in_more_than_their_code_are_pointed_out() -> None:
    arms = [arm_record("uncoded", "none", iwae=UNCODED), arm_record("coded", "x", iwae=BETTER)]
    longer = arms[1].model_copy(update={"settings": arms[1].settings | {"epochs": 9, "lr": 0.01}})
    cautions = judged([arms[0], longer], claims=["iwae"], tuned=[], finished_models=True)[2]
    assert any("They differ in more than their code: epochs, lr." in text for text in cautions)


def test_a_difference_that_the_family_does_not_bear_is_not_claimed() -> None:
    # Alone the p of 1/128 would do; beside six other claims that say nothing it is corrected to 7/128.
    noise = {f"stored_nll@{0.01 * index:g}": [float(seed % 2) for seed in range(8)] for index in range(1, 7)}
    arms = [
        arm_record("uncoded", "none", iwae=UNCODED, **noise),
        arm_record("coded", "repetition", iwae=BETTER, **{name: values[::-1] for name, values in noise.items()}),
    ]
    effects, sentences, cautions = judged(arms, claims=["iwae", *noise])
    claimed = next(effect for effect in effects if effect.metric == "iwae")
    assert claimed.paired.p_value == pytest.approx(1 / 128)
    assert claimed.adjusted_p_value == pytest.approx(7 / 128)
    assert claimed.verdict == "not shown"
    assert "8 seeds decide nothing; measured were IWAE-64 (+2.17 nats" in sentences[0]
    assert any("With 8 seeds no claim can be significant" in text and "9 seeds could" in text for text in cautions)


def test_gains_losses_and_what_is_not_shown_stand_in_one_sentence() -> None:
    noise = [0.3, -0.2, 0.1, -0.4, 0.2, -0.1, 0.4, -0.3]
    arms = [
        arm_record("uncoded", "none", iwae=UNCODED, elbo=UNCODED, **{"stored_nll@0.1": UNCODED}),
        arm_record(
            "coded",
            "x",
            iwae=BETTER,
            elbo=[u + d for u, d in zip(UNCODED, noise, strict=True)],
            **{"stored_nll@0.1": BETTER},
        ),
    ]
    _, sentences, _ = judged(arms, claims=["iwae", "elbo", "stored_nll@0.1"])
    better, worse, equal = sentences[0].split(": ", 1)[1].split("; ")
    assert better.startswith("better in IWAE-64 (+2.17 nats [")
    assert worse.startswith("worse in stored NLL, ε = 0.1 (+2.17 nats [")
    assert equal.startswith("no difference shown in ELBO (")


def test_arms_that_come_out_equal_are_no_difference() -> None:
    arms = [arm_record("uncoded", "none", iwae=UNCODED), arm_record("coded", "repetition", iwae=UNCODED)]
    effects, sentences, _ = judged(arms, claims=["iwae"])
    assert effects[0].adjusted_p_value == 1.0
    assert sentences == ["coded against uncoded: no difference; every claim came out equal, seed by seed."]


def test_one_model_of_each_says_nothing_of_training() -> None:
    arms = [arm_record("uncoded", "none", iwae=[-100.0]), arm_record("coded", "repetition", iwae=[-98.0])]
    effects, sentences, cautions = judged(arms, claims=["iwae"], finished_models=True)
    assert effects[0].verdict is None
    assert "one model each" in sentences[0]
    assert any("not for the way in which they were trained" in text for text in cautions)


def test_untuned_arms_late_ends_and_edges_of_the_grid_are_said() -> None:
    arms = [arm_record("uncoded", "none", stopped="all 5 epochs done", iwae=UNCODED), arm_record("coded", "x", iwae=BETTER)]
    _, _, cautions = judged(arms, claims=["iwae"], tuned=[])
    assert any("share one learning rate" in text for text in cautions)
    assert any("Not every run stopped early (uncoded)" in text for text in cautions)

    def grid(chosen: str) -> dict[str, Any]:
        tried = [
            TunedSetting(
                setting={"lr": lr}, runs=[TuningRun(seed=9, digest="", epochs=1, validation_loss=1.0)], mean_loss=1.0
            )
            for lr in ("0.001", "0.003", "1e-2")
        ]
        return {"tuning": tried, "chosen": {"lr": chosen}}

    middle = [arms[0].model_copy(update=grid("0.003")), arms[1].model_copy(update=grid("0.003"))]
    assert not any("edge" in text for text in judged(middle, claims=["iwae"])[2])
    edge = [arms[0].model_copy(update=grid("0.003")), arms[1].model_copy(update=grid("1e-2"))]
    assert any("edge of what was tried (coded)" in text for text in judged(edge, claims=["iwae"])[2])


def test_models_of_different_versions_of_torch_are_pointed_out() -> None:
    arms = [arm_record("uncoded", "none", iwae=UNCODED), arm_record("coded", "x", iwae=BETTER)]
    runs = [arms[1].runs[0].model_copy(update={"versions": {"torch": "9.9"}}), *arms[1].runs[1:]]
    _, _, cautions = judged([arms[0], arms[1].model_copy(update={"runs": runs})], claims=["iwae"])
    assert any("different versions of torch: 2.13.0, 9.9" in text for text in cautions)


def test_over_images_the_seeds_are_averaged_and_pictures_are_no_metrics() -> None:
    arms = [arm_record("uncoded", "none", elbo=[1.0, 2.0]), arm_record("coded", "x", elbo=[2.0, 4.0])]
    values = {0: [1.0, 2.0], 1: [2.0, 4.0]}
    how: Protocol = protocol_of(2, claims=[])
    effects = effects_of(arms, how, lambda arm, seed: {"elbo": np.full(30, values[arm][seed]), "picture_elbo": np.zeros(2)})
    interval = effects[0].paired.image_interval
    assert interval is not None
    assert (interval.low, interval.high) == (1.5, 1.5)


def test_metrics_without_a_direction_and_those_of_one_arm_only_are_not_compared() -> None:
    arms = [arm_record("uncoded", "none", elbo=[1.0], kl=[2.0]), arm_record("coded", "x", elbo=[1.0], kl=[2.0])]
    run = arms[1].runs[0]
    more = run.model_copy(update={"metrics": run.metrics | {"stored_accuracy@0": Estimate(1.0)}})
    effects, _, _ = judged([arms[0], arms[1].model_copy(update={"runs": [more]})], claims=[])
    assert [effect.metric for effect in effects] == ["elbo"]


def test_a_surrogate_above_the_exact_log_likelihood_is_a_caution_and_one_below_is_none() -> None:
    uncoded, exact = arm_record("uncoded", "none", iwae=[-150.0, -151.0]), [-148.0, -150.0]

    def cautioned(surrogate: list[float]) -> list[str]:
        coded = arm_record("coded", "x", iwae=[-152.0, -153.0], log_likelihood=exact, bitwise_surrogate=surrogate)
        return [sentence for sentence in judged([uncoded, coded], claims=["iwae"])[2] if "no bound" in sentence]

    (said,) = cautioned([-151.0, -140.0])
    assert said.startswith("What coded maximised in training")
    assert "-145.50 nats" in said
    assert "-149.00 nats" in said
    assert not cautioned([-149.0, -150.0])
