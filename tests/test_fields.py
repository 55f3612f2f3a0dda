from __future__ import annotations

import numpy as np
import pytest
from pydantic import BaseModel, Field, field_validator, model_validator

from bvae_cli.arms import CompareConfig
from bvae_cli.config import TrainConfig
from bvae_cli.errors import UsageError
from bvae_cli.fields import flags_of, main_flag, validated
from bvae_cli.trained import DecodeConfig, SampleConfig


@pytest.mark.parametrize("model", [TrainConfig, SampleConfig, CompareConfig])
def test_no_two_options_share_a_flag(model: type[BaseModel]) -> None:
    flags = [flag for field in model.model_fields for flag in flags_of(model, field)]
    assert len(flags) == len(set(flags))
    for field in model.model_fields:
        assert main_flag(model, field).startswith("--")
    assert main_flag(model, "params") == "--params"
    assert main_flag(model, "ecc") == "--ecc"


@pytest.mark.parametrize("model", [TrainConfig, SampleConfig, CompareConfig])
def test_every_option_says_what_it_is(model: type[BaseModel]) -> None:
    for info in model.model_fields.values():
        assert info.description
        assert info.description.endswith(".")


class Strange(BaseModel, extra="forbid"):
    """Options of a stranger, with checks of their own."""

    odd: int = Field(1, description="An odd number.")
    even: int = 2

    @field_validator("odd")
    @classmethod
    def _is_odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("it must be odd")
        return value

    @model_validator(mode="after")
    def _different(self) -> Strange:
        if self.odd > self.even:
            raise ValueError("odd is above even")
        return self


def test_a_strangers_own_checks_are_passed_on_in_their_own_words() -> None:
    with pytest.raises(UsageError) as caught:
        validated(Strange, {"odd": 2}, "the code 'Strange'")
    assert caught.value.message == "odd is not valid: it must be odd; got 2."
    assert caught.value.hint == "odd: An odd number."
    with pytest.raises(UsageError) as caught:
        validated(Strange, {"odd": 3}, "the code 'Strange'")
    assert caught.value.message == "The code 'Strange' is not valid: odd is above even."


def test_a_value_from_elsewhere_is_refused_with_the_place_that_it_came_from() -> None:
    with pytest.raises(UsageError, match=r"got 0 \(from my\.toml\)"):
        validated(TrainConfig, {"epochs": 0}, "train", {"epochs": "my.toml"})


def test_an_array_in_place_of_a_path_or_a_number_is_refused_in_a_sentence() -> None:
    rows = np.zeros((3, 12))
    with pytest.raises(UsageError, match=r"codes takes a path, and got an array.\n.*numpy.save"):
        validated(DecodeConfig, {"codes": rows}, "decode")
    with pytest.raises(UsageError, match="--dataset takes a path, and got an array"):
        validated(DecodeConfig, {"codes": "a.npy", "dataset": rows}, "decode")
    with pytest.raises(UsageError, match="--seed takes one value"):
        validated(DecodeConfig, {"codes": "a.npy", "seed": rows}, "decode")
