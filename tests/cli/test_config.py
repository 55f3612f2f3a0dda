from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bvae_cli.config import TrainConfig
from bvae_cli.trained import SampleConfig

from ..outcome import Bvae


def shown(bvae: Bvae, *arguments: Any) -> Any:
    return bvae("config", "show", *arguments, "--json").succeeded().json()


def test_every_option_is_shown_with_its_value_and_origin(
    bvae: Bvae, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("my.toml").write_text("lr = 0.5\npatience = 3\n")
    monkeypatch.setenv("BVAE_PATIENCE", "4")
    monkeypatch.setenv("BVAE_SEED", "5")
    values = shown(bvae, "--config", "my.toml", "--seed", 6, "-n", 3)
    assert set(values) == set(TrainConfig.model_fields)
    assert values["lr"] == {"value": 0.5, "from": "my.toml"}
    assert values["patience"] == {"value": 4, "from": "environment"}
    assert values["seed"] == {"value": 6, "from": "flag"}
    assert values["hidden"] == {"value": 200, "from": "flag, by the set"}
    assert values["params"] == {"value": 3, "from": "flag"}


def test_the_table_says_flag_key_value_and_origin(bvae: Bvae, workplace: Path) -> None:
    lines = bvae("config", "show", "--batch-size", 7).succeeded().out.splitlines()
    (row,) = [line.split() for line in lines if "batch_size" in line]
    assert row == ["--batch-size", "batch_size", "7", "flag"]
    (row,) = [line.split() for line in lines if " ecc " in line]
    assert row == ["--ecc", "ecc", "none", "default"]


def test_the_options_of_sample_can_be_shown(bvae: Bvae, workplace: Path) -> None:
    assert set(shown(bvae, "sample")) == set(SampleConfig.model_fields)
    assert shown(bvae, "sample", "--num-samples", 3)["num_samples"] == {"value": 3, "from": "flag"}
    bvae("config", "show", "--num-samples", 3).refused(2, "--num-samples")


def test_show_is_what_it_does_when_nothing_is_said(bvae: Bvae, workplace: Path) -> None:
    assert bvae("config").succeeded().out == bvae("config", "show", "train").succeeded().out


def test_a_bare_option_of_a_code_is_noted(bvae: Bvae, workplace: Path) -> None:
    outcome = bvae("config", "show", "--R", 2, "--json").succeeded()
    assert "taking --ecc repetition" in outcome.err
    assert outcome.json()["ecc"]["value"] == {"type": "repetition", "options": {"R": 2}}


def test_a_wrong_word_is_answered_with_the_nearest(bvae: Bvae, workplace: Path) -> None:
    bvae("config", "shwo").refused(2, "'shwo'", "'show'")
    bvae("config", "show", "tran").refused(2, "'tran'", "'train'")
    bvae("config", "show", "train", "more").refused(2, "more")
