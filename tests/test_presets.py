from typing import get_args

import pytest

from bvae_cli.arms import CompareConfig, arms_of
from bvae_cli.config import PluginRef, Sizes, TrainConfig
from bvae_cli.errors import UsageError
from bvae_cli.presets import PRESETS
from bvae_cli.settings import Layer, resolve


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_of_options_that_there_are_and_its_name_can_be_said(name: str) -> None:
    assert PRESETS[name].values.keys() <= TrainConfig.model_fields.keys()
    config = TrainConfig(preset=name)  # type: ignore[arg-type]
    for field, value in PRESETS[name].values.items():
        shown = getattr(config, field)
        if isinstance(shown, PluginRef):
            expected = value if isinstance(value, str) else value["type"]
            assert shown.type == expected
        else:
            assert shown == value


def test_the_names_that_can_be_said_are_those_of_the_presets() -> None:
    assert get_args(TrainConfig.model_fields["preset"].annotation) == ("none", *PRESETS)


def test_everything_that_is_said_stands_above_a_preset() -> None:
    config = TrainConfig(preset="coded-dvae", lr=0.01, latent=160, dataset=PluginRef(type="binarized-mnist"))
    assert (config.lr, config.sizes, config.dataset.type) == (0.01, Sizes(512, 160, 2), "binarized-mnist")
    assert config.ecc.options["R"] == 10
    assert TrainConfig(preset="coded-dvae", params=5).sizes == TrainConfig(params=5).sizes


def test_a_preset_is_no_part_of_what_a_run_is() -> None:
    by_hand = {**PRESETS["coded-dvae"].values}
    assert TrainConfig(**by_hand).deciding() == TrainConfig(preset="coded-dvae").deciding()


def test_values_of_a_preset_are_told_to_be_its() -> None:
    resolved = resolve(TrainConfig, Layer("flag", {"preset": "coded-dvae", "epochs": "3"}, None, {"R": "5"}))
    assert (resolved.origins["lr"], resolved.origins["epochs"]) == ("preset coded-dvae", "flag")
    assert resolved.origins["seed"] == "default"
    assert resolved.config.ecc.options["R"] == 5
    assert resolved.config.sizes.latent == 80


def test_a_comparison_of_a_preset_has_the_three_arms_of_its_code() -> None:
    arms = arms_of(CompareConfig(preset="coded-dvae"))
    assert [(arm.config.ecc.type, arm.config.sizes.latent) for arm in arms] == [
        ("none", 80),
        ("none", 8),
        ("repetition", 80),
    ]
    assert {arm.config.network for arm in arms} == {"dcgan"}


@pytest.mark.parametrize("name", ["coded-dvea", "", 3, ["coded-dvae"], {"coded-dvae": 1}])
def test_what_is_no_preset_is_refused_by_its_name(name: object) -> None:
    with pytest.raises(UsageError, match="preset"):
        resolve(TrainConfig, Layer("flag", {"preset": name}))
