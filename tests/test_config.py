from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bvae_cli import config
from bvae_cli.config import PluginRef, Sizes, TrainConfig, digest_of, parse_code, parse_dataset
from bvae_cli.errors import BvaeError, UsageError
from bvae_cli.fields import validated


def train(**values: Any) -> TrainConfig:
    made: TrainConfig = validated(TrainConfig, values, "train")
    return made


def test_the_parameter_sets_are_those_that_users_know() -> None:
    assert {number: tuple(sizes) for number, sizes in config.PARAMETER_SETS.items()} == {
        0: (100, 100, 2),
        1: (200, 100, 2),
        2: (100, 200, 2),
        3: (200, 200, 2),
        4: (200, 200, 3),
        5: (200, 300, 2),
        6: (300, 200, 3),
        7: (500, 300, 5),
    }
    assert config.PARAMETER_SET_USES.keys() == config.PARAMETER_SETS.keys()


@pytest.mark.parametrize("number", range(8))
def test_a_set_gives_its_three_sizes(number: int) -> None:
    assert train(params=number).sizes == config.PARAMETER_SETS[number]


def test_a_size_of_its_own_stands_beside_the_rest_of_the_set() -> None:
    assert train(params=7, latent=64).sizes == Sizes(500, 64, 5)
    assert train().sizes == config.PARAMETER_SETS[1]


def test_no_option_can_be_changed_afterwards() -> None:
    made = train()
    with pytest.raises(Exception, match="frozen"):
        made.lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"params": 8}, ["--params", "at most 7", "got 8", "0…7"]),
        ({"params": -1}, ["--params", "at least 0"]),
        ({"params": "two"}, ["--params", "whole number", "'two'"]),
        ({"epochs": 0}, ["--epochs", "at least 1", "got 0"]),
        ({"epochs": 2.5}, ["--epochs", "whole number"]),
        ({"lr": 0}, ["--lr", "greater than 0"]),
        ({"lr": "fast"}, ["--lr", "a number"]),
        ({"lr": float("nan")}, ["--lr", "a number"]),
        ({"lr": float("inf")}, ["--lr", "a number"]),
        ({"subset": -1}, ["--subset", "at least 0"]),
        ({"seed": 2**63}, ["--seed", "less than"]),
        ({"batch_size": 0}, ["--batch-size", "at least 1"]),
        ({"estimator": "reinmx"}, ["--estimator", "'reinmax'", "Did you mean 'reinmax'?"]),
        ({"estimator": 5}, ["--estimator", "must be one of"]),
        ({"device": "gpu"}, ["--device", "'gpu'", "cuda"]),
        ({"save_every_epoch": "perhaps"}, ["--save-every-epoch", "true or false"]),
        ({"tau_start": 0.2, "tau_end": 0.5}, ["--tau-end 0.5", "--tau-start 0.2"]),
        ({"epoch": 3}, ["'epoch'", "Did you mean 'epochs'?"]),
        ({"zzz": 3}, ["'zzz'", "not an option of train"]),
        ({"ecc": "repitition"}, ["'repitition'", "'repetition'"]),
        ({"ecc": "repetition:R=0"}, ["R must be at least 1", "Copies"]),
        ({"ecc": "repetition:Q=2"}, ["'Q'", "code 'repetition'", "R"]),
        ({"ecc": "repetition:R"}, ["'R'", "name:key=value"]),
        ({"ecc": 5}, ["--ecc", "5"]),
        ({"params": 0, "ecc": "repetition:R=3"}, ["100", "block length 3", "99", "102", "Parameter sets that fit: 5, 7"]),
        (
            {"latent": 5, "ecc": "repetition:R=1000"},
            ["1000 (1 information", "No parameter set fits; name one of these sizes with --latent"],
        ),
        ({"dataset": "mnst"}, ["'mnst'", "'mnist'", "give its path"]),
        ({"dataset": "arrays"}, ["data set 'arrays'", "needs the option 'path'"]),
        ({"dataset": "arrays:pth=x.npy"}, ["'pth'", "'path'"]),
        ({"dataset": ""}, ["''", "binarized-mnist"]),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence_that_names_it(values: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        train(**values)
    assert caught.value.message.endswith(".")
    assert caught.value.hint
    for word in words:
        assert word in str(caught.value)


def test_a_size_that_does_not_fit_names_the_nearest_that_do() -> None:
    for latent in range(1, 60):
        if latent % 7 == 0:
            assert train(latent=latent, ecc="repetition:R=7").sizes.latent == latent
            continue
        below, above = latent // 7 * 7, latent // 7 * 7 + 7
        with pytest.raises(UsageError) as caught:
            train(latent=latent, ecc="repetition:R=7")
        assert f"{above} ({_bits(above // 7)})" in caught.value.message
        assert (f"{below} ({_bits(below // 7)})" in caught.value.message) == (below > 0)


def _bits(count: int) -> str:
    return "1 information bit" if count == 1 else f"{count} information bits"


def test_a_code_is_kept_with_all_of_its_options() -> None:
    assert train(latent=12, ecc="repetition").ecc == PluginRef(type="repetition", options={"R": 3})
    assert (
        train(latent=12, ecc="repetition:R=2").ecc
        == train(latent=12, ecc=PluginRef(type="repetition", options={"R": 2})).ecc
    )


def test_a_named_plugin_with_options_is_read_and_written_in_one_grammar() -> None:
    text = "arrays:path=a.npy,validation=0.2"
    assert parse_code(text) == PluginRef(type="arrays", options={"path": "a.npy", "validation": "0.2"})
    assert parse_code(text).label() == text
    assert parse_code("none").label() == "none"
    assert parse_code(7) == 7


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.csv", "a.tsv", "a.txt", "some/where", Path("b.npy")])
def test_what_looks_like_a_file_is_taken_for_an_array(name: str | Path) -> None:
    assert parse_dataset(name) == PluginRef(type="arrays", options={"path": str(name)})


def test_a_file_that_is_there_is_taken_whatever_its_name(workplace: Path) -> None:
    Path("plain").write_text("0 1\n")
    assert parse_dataset("plain").type == "arrays"


def test_a_folder_is_taken_for_idx_files(tmp_path: Path) -> None:
    assert parse_dataset(tmp_path) == PluginRef(type="mnist", options={"folder": str(tmp_path)})


def test_a_name_goes_before_a_file_of_the_same_name(workplace: Path) -> None:
    Path("mnist").mkdir()
    assert parse_dataset("mnist") == PluginRef(type="mnist")


def test_the_digest_does_not_depend_on_order_and_does_on_every_value() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    assert digest_of({"a": 1, "b": 2}) != digest_of({"a": 1, "b": 3})
    assert len(digest_of({})) == 64


CHANGED = {
    "hidden": 9,
    "latent": 24,
    "depth": 1,
    "ecc": "repetition:R=2",
    "subset": 5,
    "epochs": 7,
    "batch_size": 7,
    "lr": 0.5,
    "lr_schedule": "cosine",
    "beta_max": 0.5,
    "beta_warmup_epochs": 3,
    "patience": 3,
    "min_delta": 0.5,
    "grad_clip": 1.0,
    "seed": 5,
    "estimator": "gumbel",
    "sampling": "bitwise",
    "activation": "relu",
    "tau_start": 2.0,
    "tau_end": 0.3,
    "consistency_weight": 0.5,
    "likelihood": "gaussian",
    "sigma": 0.5,
    "network": "conv",
    "channels": 8,
    "channel_epsilon": 0.05,
}
# Options that came when there were runs already: at their defaults those are still the same runs.
ADDED = {"likelihood", "sigma", "network", "channels", "channel_epsilon"}
KEPT = {
    "params": 1,
    "device": "cpu",
    "amp": "off",
    "threads": 3,
    "compile": "off",
    "workers": 2,
    "models_at_once": 3,
    "output_dir": "elsewhere",
    "save_every_epoch": True,
    "on_divergence": "stop",
    "checkpoint_every": "5m",
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_decides_the_numbers_changes_the_digest(name: str) -> None:
    assert digest_of(train(**{name: CHANGED[name]}).deciding()) != digest_of(train().deciding())


@pytest.mark.parametrize("name", KEPT)
def test_device_paths_and_talk_do_not_change_the_digest(name: str) -> None:
    assert digest_of(train(**{name: KEPT[name]}).deciding()) == digest_of(train().deciding())


@pytest.mark.parametrize(
    ("text", "seconds", "steps"),
    [
        ("0", 0, 0),
        ("10", 10, 0),
        (30, 30, 0),
        ("30s", 30, 0),
        ("1.5m", 90, 0),
        ("2h", 7200, 0),
        (" 5 m ", 300, 0),
        ("500steps", 0, 500),
        ("1 step", 0, 1),
    ],
)
def test_a_state_is_saved_after_a_time_or_a_number_of_steps(text: object, seconds: float, steps: int) -> None:
    assert train(checkpoint_every=text).saving == (seconds, steps)


@pytest.mark.parametrize("text", ["", "often", "-1", "1d", "0steps", "1.5steps", "1e9", "10 000", "٣s", "9" * 30])
def test_what_is_neither_a_time_nor_a_number_of_steps_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="checkpoint-every"):
        train(checkpoint_every=text)


def test_every_option_is_known_to_decide_or_not_to() -> None:
    # The data and the weights to start from enter the digest by their content.
    assert set(TrainConfig.model_fields) == {*CHANGED, *KEPT, "dataset", "init_from", "tensorboard", "preset"}
    assert train().deciding().keys() == CHANGED.keys() - ADDED


def test_the_same_model_said_in_other_words_is_the_same_run() -> None:
    assert train(params=0).deciding() == train(hidden=100, latent=100, depth=2).deciding()
    assert train(latent=12, ecc="repetition").deciding() == train(latent=12, ecc="repetition:R=3").deciding()


def test_every_mistake_is_a_bvae_error() -> None:
    for values in ({"params": []}, {"ecc": {}}, {"ecc": {"type": "none", "x": 1}}, {"dataset": 5}, {"output_dir": 5}):
        with pytest.raises(BvaeError):
            train(**values)


def test_a_folder_of_pictures_is_taken_for_pictures(tmp_path: Path) -> None:
    (tmp_path / "train" / "cats").mkdir(parents=True)
    assert parse_dataset(tmp_path).type == "mnist"
    (tmp_path / "train" / "cats" / "1.PNG").write_bytes(b"")
    assert parse_dataset(tmp_path) == PluginRef(type="images", options={"path": str(tmp_path)})
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"")
    assert parse_dataset(tmp_path).type == "mnist"


def test_channels_that_nothing_has_are_refused_where_a_person_names_them() -> None:
    config = TrainConfig(channels=8)
    config.require_use({"hidden"})
    with pytest.raises(UsageError, match="--channels is for the networks conv and dcgan"):
        config.require_use({"channels"})
    TrainConfig(channels=8, network="conv").require_use({"channels"})
