"""File < variables < flags, and the two rules beyond that."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from bvae_cli.config import PluginRef, Sizes, TrainConfig
from bvae_cli.errors import BvaeError, InputOutputError, UsageError
from bvae_cli.settings import Layer, Resolved, resolve
from bvae_cli.trained import SampleConfig


@pytest.fixture
def settle(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Resolve what a file, the variables and the flags say."""

    def run(
        file: str = "", variables: dict[str, str] | None = None, model: type[Any] = TrainConfig, **flags: Any
    ) -> Resolved[Any]:
        for name, value in (variables or {}).items():
            monkeypatch.setenv(f"BVAE_{name}", value)
        path = None
        if file:
            path = workplace / "my.toml"
            path.write_text(file)
        code, options = flags.pop("code", None), flags.pop("code_options", {})
        return resolve(model, Layer("flag", flags, code, options), path)

    return run


def test_the_defaults_stand_where_nobody_says_anything(settle: Any) -> None:
    resolved = settle()
    assert resolved.config == TrainConfig()
    assert set(resolved.origins.values()) == {"default"}
    assert resolved.notes == []


@pytest.mark.parametrize("said", list(itertools.product([False, True], repeat=3)))
def test_a_flag_wins_over_a_variable_and_a_variable_over_the_file(settle: Any, said: tuple[bool, bool, bool]) -> None:
    in_file, in_environment, in_flags = said
    resolved = settle(
        "epochs = 11" if in_file else "",
        {"EPOCHS": "12"} if in_environment else {},
        **({"epochs": "13"} if in_flags else {}),
    )
    expected = next((value for value, here in ((13, in_flags), (12, in_environment), (11, in_file)) if here), 100)
    origin = {13: "flag", 12: "environment", 100: "default"}.get(expected, str(Path.cwd() / "my.toml"))
    assert resolved.config.epochs == expected
    assert resolved.origins["epochs"] == origin


def test_values_of_different_levels_stand_side_by_side(settle: Any) -> None:
    resolved = settle("lr = 0.5\nseed = 1", {"SEED": "2", "PATIENCE": "4"}, patience="5")
    assert (resolved.config.lr, resolved.config.seed, resolved.config.patience) == (0.5, 2, 5)


def test_a_set_at_a_higher_level_discards_sizes_from_a_lower_one(settle: Any) -> None:
    assert settle("latent = 64\nhidden = 32", params="5").config.sizes == Sizes(200, 300, 2)
    assert settle("latent = 64", {"PARAMS": "5"}).config.sizes == Sizes(200, 300, 2)
    resolved = settle("latent = 64", params="5")
    assert resolved.origins["latent"] == "flag, by the set"


def test_the_origin_of_a_code_names_every_source_of_its_options(settle: Any) -> None:
    resolved = settle('[ecc]\ntype = "repetition"\nR = 3\n', {"ECC_R": "2"}, latent="12")
    assert resolved.config.ecc == PluginRef(type="repetition", options={"R": 2})
    assert resolved.origins["ecc"].endswith("my.toml, R environment")


def test_an_option_alone_below_another_code_is_not_that_codes(settle: Any) -> None:
    assert settle(variables={"ECC_R": "2"}, code="none").config.ecc == PluginRef(type="none")


def test_a_size_is_not_built_where_weights_bring_their_own(settle: Any) -> None:
    assert settle(model=SampleConfig, weights="run", code="repetition", code_options={"R": "3"}).config.ecc.options == {
        "R": 3
    }
    with pytest.raises(UsageError, match="not a multiple"):
        settle(model=SampleConfig, code="repetition", code_options={"R": "3"})


def test_a_set_and_a_size_of_one_level_stand_side_by_side(settle: Any) -> None:
    assert settle("params = 5\nlatent = 64").config.sizes == Sizes(200, 64, 2)
    assert settle(params="5", latent="64").config.sizes == Sizes(200, 64, 2)


def test_a_size_at_a_higher_level_changes_the_set_of_a_lower_one(settle: Any) -> None:
    assert settle("params = 5", latent="64").config.sizes == Sizes(200, 64, 2)


def test_an_option_of_a_code_alone_means_repetition_and_says_so(settle: Any) -> None:
    resolved = settle(latent="12", code_options={"R": "2"})
    assert resolved.config.ecc == PluginRef(type="repetition", options={"R": 2})
    assert resolved.origins["ecc"] == "flag"
    assert resolved.notes == ["R=2 is given without a code: taking --ecc repetition."]


def test_a_named_code_needs_no_note(settle: Any) -> None:
    assert settle(latent="12", code="repetition", code_options={"R": "2"}).notes == []


@pytest.mark.parametrize(
    "file",
    [
        'latent = 12\necc = "repetition:R=2"',
        'latent = 12\necc_type = "repetition"\necc_R = 2',
        'latent = 12\n[ecc]\ntype = "repetition"\nR = 2',
        'latent = 12\n[ecc]\ntype = "repetition:R=2"',
        "latent = 12\necc_R = 2",
        "latent = 12\n[ecc]\nR = 2",
    ],
)
def test_a_code_in_a_file_can_be_written_in_several_ways(settle: Any, file: str) -> None:
    assert settle(file).config.ecc == PluginRef(type="repetition", options={"R": 2})


def test_a_variable_in_capitals_is_an_option_in_its_own_spelling(settle: Any) -> None:
    resolved = settle("", {"ECC_R": "2", "LATENT": "12"})
    assert resolved.config.ecc.options == {"R": 2}
    assert resolved.notes == ["R=2 is given without a code: taking --ecc repetition."]


def test_an_option_at_a_higher_level_changes_the_code_of_a_lower_one(settle: Any) -> None:
    resolved = settle('latent = 12\necc = "repetition:R=2"', code_options={"R": "4"})
    assert resolved.config.ecc.options == {"R": 4}


def test_another_code_at_a_higher_level_discards_the_options_of_a_lower_one(settle: Any) -> None:
    resolved = settle('latent = 12\necc = "repetition:R=2"', code="none")
    assert resolved.config.ecc == PluginRef(type="none")
    assert resolved.origins["ecc"] == "flag"


def test_the_same_code_at_a_higher_level_keeps_the_options_of_a_lower_one(settle: Any) -> None:
    assert settle('latent = 12\necc = "repetition:R=2"', code="repetition").config.ecc.options == {"R": 2}


def test_a_key_of_another_command_is_no_mistake(settle: Any) -> None:
    resolved = settle("epochs = 3\nnum_samples = 4", model=SampleConfig)
    assert resolved.config.num_samples == 4
    assert "epochs" not in resolved.origins


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("epoch = 3", ["'epoch'", "'epochs'", "my.toml"]),
        ("R = 3", ["'R'", "'ecc_R'"]),
        ("qqqq = 3", ["'qqqq'", "config show"]),
        ("[train]\nepochs = 3", ["'train'"]),
        ("epochs = 0", ["--epochs", "at least 1", "my.toml"]),
        ("ecc = 5", ["ecc", "5", "bvae codes"]),
        ("[ecc]\ntype = 5", ["5", "bvae codes"]),
        ('ecc = ""', ["''"]),
        ("= 3", ["not TOML"]),
        ('ecc = "repetition"\necc_Q = 3', ["'Q'"]),
    ],
)
def test_a_mistake_in_a_file_is_named(settle: Any, file: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        settle(file)
    assert caught.value.hint
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("EPOCH", "3", ["'BVAE_EPOCH'", "'BVAE_EPOCHS'"]),
        ("R", "3", ["'BVAE_R'", "'BVAE_ECC_R'"]),
        ("EPOCHS", "x", ["--epochs", "'x'", "environment"]),
        ("ECC", "repitition", ["'repitition'", "'repetition'"]),
        ("ECC_R", "x", ["R must be a whole number"]),
    ],
)
def test_a_mistake_in_a_variable_is_named(settle: Any, name: str, value: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        settle("", {name: value})
    for word in words:
        assert word in str(caught.value)


def test_bytes_that_are_no_text_are_not_toml(settle: Any, workplace: Path) -> None:
    (workplace / "other.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not TOML"):
        resolve(TrainConfig, Layer("flag", {}), workplace / "other.toml")


def test_a_file_that_is_not_there_is_an_input_error(settle: Any, workplace: Path) -> None:
    for path in (workplace / "none.toml", workplace):
        with pytest.raises(InputOutputError, match="cannot be read") as caught:
            resolve(TrainConfig, Layer("flag", {}), path)
        assert caught.value.hint


def test_files_are_taken_from_the_flag_then_the_variable_then_the_users_folder(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BVAE_CONFIG_DIR", str(workplace / "own"))
    (workplace / "own").mkdir()
    nothing = Layer("flag", {})
    assert resolve(TrainConfig, nothing).config.epochs == 100
    (workplace / "own" / "config.toml").write_text("epochs = 1")
    assert resolve(TrainConfig, nothing).config.epochs == 1
    (workplace / "two.toml").write_text("epochs = 2")
    monkeypatch.setenv("BVAE_CONFIG", "two.toml")
    assert resolve(TrainConfig, nothing).config.epochs == 2
    (workplace / "three.toml").write_text("epochs = 3")
    assert resolve(TrainConfig, nothing, workplace / "three.toml").config.epochs == 3


def test_the_variables_that_name_folders_are_no_options(settle: Any) -> None:
    assert settle("", {"DATA_DIR": "x", "CACHE_DIR": "y"}).config == TrainConfig()


def test_every_mistake_is_a_bvae_error(settle: Any) -> None:
    for file in ("ecc = [1]", "ecc = true", "[ecc]\nR = [1]", "dataset = 5", "dataset = []", "[lr]\nx = 1", "params = [1]"):
        with pytest.raises(BvaeError):
            settle(file)
