"""Commands made of configurations: every field an option, of one's own code too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from bvae_cli.config import TrainConfig
from bvae_cli.fields import flags_of
from bvae_cli.trained import SampleConfig

from ..outcome import Bvae


@pytest.mark.parametrize(("command", "model"), [("train", TrainConfig), ("sample", SampleConfig)])
def test_every_option_stands_in_the_help_with_its_description(bvae: Bvae, command: str, model: type[BaseModel]) -> None:
    shown = " ".join(bvae(command, "--help").succeeded().out.split())
    for field, info in model.model_fields.items():
        for flag in flags_of(model, field):
            assert f"{flag}" in shown
        assert " ".join((info.description or "").split()) in shown


def test_the_help_shows_defaults_and_choices(bvae: Bvae) -> None:
    shown = " ".join(bvae("train", "--help").succeeded().out.split())
    for words in (
        "[default: 100]",
        "constant|cosine",
        "gumbel|gumbel-st|st|reinmax|disarm|dvae",
        "--save-every-epoch / --no-save-every-epoch",
        "[default: binarized-mnist]",
    ):
        assert words in shown


def test_the_options_of_a_code_stand_in_their_own_section(bvae: Bvae) -> None:
    shown = bvae("train", "--ecc", "repetition", "--help").succeeded().out
    section = shown.split("Options of repetition:")[1].split("\n\n")[0]
    assert "--R, --ecc-R" in section
    assert "[default: 3]" in section


def test_the_code_can_be_named_in_every_way(bvae: Bvae, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (
        ["--ecc", "repetition"],
        ["--ecc=repetition"],
        ["--ecc-type", "repetition"],
        ["--ecc", "none", "--ecc", "repetition"],
        [],
    ):
        outcome = bvae("config", "show", *arguments, "--R", 2, "--json").succeeded()
        assert outcome.json()["ecc"]["value"] == {"type": "repetition", "options": {"R": 2}}
    monkeypatch.setenv("BVAE_ECC", "repetition")
    assert bvae("config", "show", "--R", 5, "--json").succeeded().json()["ecc"]["value"]["options"] == {"R": 5}


def test_an_option_of_another_code_is_refused_naming_that_code(bvae: Bvae, workplace: Path) -> None:
    bvae("train", "--ecc", "none", "--R", 2).refused(2, "--R", "repetition")


def test_a_flag_can_be_switched_off_again(bvae: Bvae, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def value(*arguments: Any) -> Any:
        return bvae("config", "show", *arguments, "--json").succeeded().json()["save_every_epoch"]

    assert value() == {"value": False, "from": "default"}
    assert value("--save-every-epoch") == {"value": True, "from": "flag"}
    monkeypatch.setenv("BVAE_SAVE_EVERY_EPOCH", "true")
    assert value() == {"value": True, "from": "environment"}
    assert value("--no-save-every-epoch") == {"value": False, "from": "flag"}


@pytest.mark.parametrize("value", ["-1", "x", "2.5"])
def test_a_wrong_value_is_refused_with_the_same_words_wherever_it_comes_from(
    bvae: Bvae, workplace: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    by_flag = bvae("train", "--subset", value).refused(2, "--subset", f"'{value}'").err.splitlines()
    Path("my.toml").write_text(f'subset = "{value}"')
    by_file = bvae("train", "--config", "my.toml").refused(2).err.splitlines()
    monkeypatch.setenv("BVAE_SUBSET", value)
    by_variable = bvae("train").refused(2).err.splitlines()
    assert by_flag[1] == by_file[1] == by_variable[1]
    assert by_file[0] == by_flag[0].removesuffix(".") + " (from my.toml)."
    assert by_variable[0] == by_flag[0].removesuffix(".") + " (from environment)."


def test_the_same_option_twice_takes_the_last(bvae: Bvae, workplace: Path) -> None:
    assert bvae("config", "show", "--seed", 1, "--seed", 2, "--json").succeeded().json()["seed"]["value"] == 2
