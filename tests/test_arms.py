"""Which arms a comparison has, and how a person says them."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from bvae_cli.arms import TUNING_SEED_OFFSET, CompareConfig, arms_of, command_of, tuned_settings
from bvae_cli.config import parse_code
from bvae_cli.errors import BvaeError, UsageError
from bvae_cli.fields import validated


def config(**values: Any) -> CompareConfig:
    made: CompareConfig = validated(CompareConfig, {"params": 5, **values}, "compare")
    return made


def refused(**values: Any) -> UsageError:
    def planned() -> None:
        made = config(**values)
        arms_of(made)
        tuned_settings(made)

    with pytest.raises(UsageError) as caught:
        planned()
    assert caught.value.hint
    return caught.value


def test_a_code_makes_three_arms_with_n_bits_with_k_bits_and_coded() -> None:
    arms = arms_of(config(ecc="repetition:R=3"))
    assert [arm.name for arm in arms] == ["uncoded N=300", "uncoded K=100", "repetition(R=3) N=300"]
    assert [arm.config.latent for arm in arms] == [300, 100, 300]
    assert [arm.coded for arm in arms] == [False, False, True]
    # Nothing but the code and the size tells them apart.
    different = {"latent", "ecc"}
    kept = [{key: value for key, value in arm.config.deciding().items() if key not in different} for arm in arms]
    assert kept[0] == kept[1] == kept[2]
    assert all(arm.note is None for arm in arms)


def test_a_k_that_no_set_has_is_built_exactly_and_said() -> None:
    arms = arms_of(config(params=1, ecc="repetition:R=2"))
    assert arms[1].config.latent == 50
    assert arms[1].note is not None
    assert "K = 50" in arms[1].note


def test_an_arm_is_a_code_its_options_and_options_of_train() -> None:
    arms = arms_of(config(arm=["uncoded:latent=100,lr=0.003", "repetition:R=3,sampling=bitwise", "repetition:ecc_R=5"]))
    assert [arm.name for arm in arms] == [
        "uncoded N=100, lr=0.003",
        "repetition(R=3) N=300, sampling=bitwise",
        "repetition(R=5) N=300",
    ]
    assert arms[0].config.lr == 0.003
    assert arms[1].config.sampling == "bitwise"
    assert arms[1].config.ecc.options == {"R": 3}


def test_an_option_of_an_arm_that_holds_commas_stands_in_brackets() -> None:
    groups = "9 repetition:R=3 + 8 hamming:r=3,extended=true + 5 none"
    _, arm = arms_of(config(arm=["uncoded:latent=22", f"unequal:groups=({groups}), latent=22"]))
    assert arm.config.ecc.spec("code") == parse_code(f"unequal:groups=({groups})").spec("code")
    assert arm.config.latent == 22


def test_an_arm_may_take_another_set_or_override_a_size() -> None:
    arms = arms_of(config(arm=["uncoded:params=1", "baseline:hidden=50", "none:batch-size=10"]))
    assert arms[0].config.sizes == (200, 100, 2)
    assert arms[1].config.sizes == (50, 300, 2)
    assert arms[2].config.batch_size == 10


def test_arms_beside_a_code_come_after_its_three() -> None:
    arms = arms_of(config(ecc="repetition:R=3", arm=["repetition:R=5"]))
    assert [arm.config.ecc.options for arm in arms] == [{}, {}, {"R": 3}, {"R": 5}]


def test_arms_that_are_the_same_in_everything_are_one() -> None:
    assert len(arms_of(config(ecc="repetition:R=3", arm=["uncoded:latent=100", "repetition:R=3,lr=0.001"]))) == 3
    # With R = 1 both uncoded arms have N = K bits.
    assert len(arms_of(config(ecc="repetition:R=1"))) == 2


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "needs a code"),
        ({"arm": ["uncoded"]}, "two different arms"),
        ({"arm": ["uncoded", "uncoded:lr=0.001"]}, "two different arms"),
        ({"arm": ["repetiton:R=3", "uncoded"]}, "no code 'repetiton'"),
        ({"arm": ["repetition:Q=3", "uncoded"]}, "'Q' is not an option of the arm 'repetition:Q=3'"),
        ({"arm": ["uncoded:lattent=3", "uncoded"]}, "'lattent'"),
        ({"arm": ["uncoded:latent", "uncoded"]}, "is not an option"),
        ({"arm": ["uncoded:latent=", "uncoded"]}, "is not an option"),
        ({"arm": ["uncoded:seed=3", "uncoded"]}, "names a seed"),
        ({"arm": ["uncoded:dataset=mnist", "uncoded"]}, "'dataset' is not an option of the arm"),
        ({"arm": ["repetition:R=7", "uncoded"]}, "not a multiple of the block length 7"),
        ({"arm": ["uncoded:lr=-1", "uncoded"]}, "--lr must be greater than 0"),
        ({"ecc": "repetition:R=3", "seeds": 0}, "--seeds must be at least 1"),
        ({"ecc": "repetition:R=3", "noise_epsilon": [0.6]}, "--noise-epsilon must be at most 0.5"),
        ({"ecc": "repetition:R=3", "noise_epsilon": [-0.1]}, "--noise-epsilon must be at least 0"),
        ({"ecc": "repetition:R=3", "noise_epsilon": ["x"]}, "--noise-epsilon must be a number"),
        ({"ecc": "repetition:R=3", "eval_subset": 99}, "too few for 10 bins"),
        ({"ecc": "repetition:R=3", "calibration_bins": 1}, "--calibration-bins must be at least 2"),
        ({"ecc": "repetition:R=3", "tune": ["lr"]}, "names no values"),
        ({"ecc": "repetition:R=3", "tune": ["lr=x"]}, "--lr must be a number"),
        ({"ecc": "repetition:R=3", "tune": ["learning=1"]}, "not an option of `train` that can be tuned"),
        ({"ecc": "repetition:R=3", "tune": ["lr=1", "lr=2"]}, "names lr twice"),
        ({"ecc": "repetition:R=3", "tune": ["seed=1,2"]}, "seed is not tuned"),
        ({"ecc": "repetition:R=3", "tune": ["lr="]}, "names no values"),
        ({"ecc": "repetition:R=3", "tune": ["latent=6,12"]}, "latent is not tuned: it makes another arm"),
        ({"ecc": "repetition:R=3", "tune": ["subset=6,12"]}, "subset is not tuned: it is the data"),
        ({"ecc": "repetition:R=3", "tune": ["epochs=6,12"]}, "epochs is not tuned: it is the budget"),
        ({"arm": ["uncoded:subset=100", "repetition:R=3"]}, "all arms have the same data"),
        ({"arm": ["uncoded:latent=4,latent=5", "repetition:R=3"]}, "names latent twice"),
        ({"arm": ["uncoded", "repetition:R=3,R=2"]}, "names R twice"),
        ({"ecc": "repetition:R=3", "noise_epsilon": [0.0123456, 0.01234561]}, "the same in six digits"),
        ({"ecc": "repetition:R=3", "seed": 2**63 - 2}, "leaves no room for the seeds"),
        ({"baseline_weights": ["a"], "ecc_weights": ["b"], "lr": 0.1}, "--lr cannot change them"),
        ({"baseline_weights": ["a"], "ecc_weights": ["b"], "ecc": "repetition"}, "--ecc cannot change them"),
        ({"baseline_weights": ["a"]}, "--ecc-weights is missing"),
        ({"ecc_weights": ["a"]}, "--baseline-weights is missing"),
        ({"ecc_weights": ["a"], "baseline_weights": ["b"], "seeds": 2}, "leave nothing to train"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_sentence(values: dict[str, Any], words: str) -> None:
    assert words in refused(**values).message


def test_a_typo_in_an_arm_is_answered_with_the_nearest_key() -> None:
    assert "'latent'" in str(refused(arm=["uncoded:lattent=3", "uncoded"]).hint)
    assert "'lr'" in str(refused(ecc="repetition:R=3", tune=["l_r=1"]).hint)


def test_what_is_tuned_is_every_combination_and_equal_values_count_once() -> None:
    assert tuned_settings(config(ecc="repetition:R=3")) == [{}]
    settings = tuned_settings(config(ecc="repetition:R=3", tune=["lr=1e-3,3e-3,0.001", "batch-size=100,200"]))
    assert [(float(setting["lr"]), int(setting["batch_size"])) for setting in settings] == [
        (0.001, 100),
        (0.001, 200),
        (0.003, 100),
        (0.003, 200),
    ]


def test_arms_of_one_size_and_other_layers_have_names_of_their_own() -> None:
    arms = arms_of(config(arm=["uncoded:params=0", "uncoded:params=1", "repetition:R=2,params=0"]))
    assert [arm.name for arm in arms] == [
        "uncoded N=100, params=0",
        "uncoded N=100, params=1",
        "repetition(R=2) N=100, params=0",
    ]


def test_the_command_of_a_comparison_asks_for_the_same_one_again() -> None:
    made = config(
        ecc="repetition:R=3", params=5, seeds=3, noise_epsilon="0.2,0.1", tune="lr=1e-3,3e-3", iwae_samples=7, out="a b"
    )
    assert "--out" not in command_of(made)
    words = shlex.split(command_of(made, here=True))
    assert words[:4] == ["bvae", "compare", "-n", "5"]
    assert {"--ecc", "repetition:R=3", "--noise-epsilon", "0.2", "0.1", "--tune", "lr=1e-3,3e-3", "--out", "a b"} <= {*words}
    assert "--lr" not in words
    odd = shlex.split(command_of(config(ecc="repetition:R=3", hidden=7, latent=9, depth=1)))
    assert {"--hidden", "7", "--latent", "9", "--depth", "1"} <= {*odd}


def test_a_grid_too_large_is_refused() -> None:
    values = ",".join(str(index) for index in range(1, 1002))
    assert "1001 settings" in refused(ecc="repetition:R=3", tune=[f"batch_size={values}"]).message


def test_a_setting_and_a_seed_make_the_configuration_of_a_run() -> None:
    arm = arms_of(config(ecc="repetition:R=3"))[2]
    run = arm.with_settings({"lr": "0.003"}, 7)
    assert (run.lr, run.seed, run.ecc.options, run.latent) == (0.003, 7, {"R": 3}, 300)
    with pytest.raises(BvaeError):
        arm.with_settings({"latent": "100"}, 7)


def test_no_seed_serves_both_the_tuning_and_the_verdict() -> None:
    assert CompareConfig.model_fields["seeds"].metadata[1].le < TUNING_SEED_OFFSET


def test_lists_may_come_as_text_from_a_variable() -> None:
    made = config(noise_epsilon="0.1, 0,0.1", arm="uncoded; repetition:R=3,lr=0.003", tune="lr=1e-3,3e-3")
    assert made.noise_epsilon == [0.0, 0.1]
    assert made.arm == ["uncoded", "repetition:R=3,lr=0.003"]
    assert made.tune == ["lr=1e-3,3e-3"]


def test_channels_are_of_use_where_an_arm_or_the_tuning_takes_a_convolution() -> None:
    with pytest.raises(UsageError, match="--channels is for"):
        CompareConfig(ecc="repetition:R=2", channels=8).require_use({"channels"})
    CompareConfig(arm=["none", "none:network=conv"], channels=8).require_use({"channels"})
    CompareConfig(ecc="repetition:R=2", tune=["network=mlp,conv"], channels=8).require_use({"channels"})
