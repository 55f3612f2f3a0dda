"""A model card tells what is known and measured, and shows a stranger's names without obeying them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import bvae_cli
from bvae_cli.checkpoints import read_weights, weights_bytes
from bvae_cli.config import PluginRef, TrainConfig, parse_code, parse_dataset
from bvae_cli.workflows.model_card import escaped, training_command
from bvae_cli.workflows.observing import TrainResult
from bvae_cli.workflows.train import train

from .conftest import config_for


def card_of(weights: Path, folder: Path, **options: Any) -> str:
    bvae_cli.export(weights, folder, options.pop("to", "torch"), **{"iwae_samples": 2, **options})
    return (folder / "README.md").read_text(encoding="utf-8")


def table(card: str) -> dict[str, str]:
    """Return the first two cells of all rows of all tables."""
    rows = [re.split(r"(?<!\\)\|", line)[1:3] for line in card.splitlines() if line.startswith("| ")]
    return {name.strip(): value.strip() for name, value in rows}


def test_a_card_says_code_data_training_and_what_was_measured(trained: TrainResult, tmp_path: Path) -> None:
    card = card_of(trained.folder, tmp_path / "model")
    quality = bvae_cli.evaluate(trained.folder, iwae_samples=2)
    facts = table(card)
    assert {name: facts[name] for name in ("latent size N, code bits", "information bits K", "values in a row D")} == {
        "latent size N, code bits": "12",
        "information bits K": "4",
        "values in a row D": "12",
    }
    assert facts["minimum distance of the code"] == "3"
    assert facts["code"].startswith("repetition\\:R=3 of bvae-cli ")
    assert facts["rows"] == "48 training, 6 validation, 6 test"
    assert facts["sha256 of the values"] == read_weights(trained.folder / "bvae_best_model_with.pt").config["data"]["digest"]
    assert facts["estimator"] == "reinmax"
    assert facts["seed"] == "0"
    assert facts["ended"].startswith("all 4 epochs done; best epoch ")
    assert facts["ELBO, nats"] == f"{quality.bounds.elbo.mean:.2f}"
    assert facts["IWAE-2, nats"] == f"{quality.bounds.iwae.mean:.2f}"
    assert quality.bounds.log_likelihood is not None
    assert facts["log p(x), nats"] == f"{quality.bounds.log_likelihood.mean:.2f}"
    assert facts["active bits"] == f"{quality.latent.active_bits} of 4"
    assert "Means over 6 validation rows" in card
    assert "leaky-relu (slope 0.2 below 0) between them" in card
    parameters = sum(values.numel() for name, values in bvae_cli.load(trained.folder).network.named_parameters())
    assert facts["parameters"] == f"{parameters:,}"


def test_the_head_names_the_library_and_what_was_measured(trained: TrainResult, tmp_path: Path) -> None:
    head = card_of(trained.folder, tmp_path / "model").split("---\n")[1]
    assert head == (
        "library_name: bvae\ntags:\n- binary-latent\n- variational-autoencoder\n- error-correcting-code\n- torch\n"
        "metrics:\n- elbo\n- iwae\n- kl\n- log-likelihood\n"
    )


def test_the_command_of_a_card_asks_for_the_same_run(tmp_path: Path) -> None:
    config = config_for(tmp_path, ecc="hamming:r=2,pad=true", latent=13, subset=20, lr_schedule="cosine", epochs=1)
    run = train(config)
    told = PluginRef(type="hamming", options=bvae_cli.load(run.folder).code.spec.told_options())
    command = training_command(read_weights(run.folder / "bvae_best_model_with.pt").config, told)
    assert command is not None
    assert "--ecc hamming:r=2,pad=True" in command
    assert f"```sh\n{command}\n```" in card_of(run.folder, tmp_path / "model")
    program, verb, *words = shlex.split(command)
    assert (program, verb) == ("bvae", "train")
    given = dict(zip(words[::2], words[1::2], strict=True))
    said = {name.removeprefix("--").replace("-", "_"): value for name, value in given.items()}
    again = TrainConfig(**{**said, "ecc": parse_code(said["ecc"]), "dataset": parse_dataset(said["dataset"])})
    assert again.deciding() == config.deciding()
    assert again.dataset == config.dataset


def test_a_set_of_parameters_is_named_by_its_number() -> None:
    config: dict[str, Any] = {
        "decides": {"hidden": 200, "latent": 300, "depth": 2, "seed": 0},
        "data": {"type": "binarized-mnist", "options": {}},
    }
    code = PluginRef(type="repetition", options={"R": 3})
    assert training_command(config, code) == "bvae train -n 5 --ecc repetition:R=3"
    assert training_command(config, PluginRef(type="none")) == "bvae train -n 5"
    config["decides"]["init_from"] = "abc"
    assert training_command(config, code) is None


def test_a_run_that_started_from_other_weights_names_no_command(trained: TrainResult, tmp_path: Path) -> None:
    run = train(config_for(tmp_path, ecc="repetition:R=3", init_from=trained.folder, epochs=1))
    assert "the command is not known" in card_of(run.folder, tmp_path / "model")


@pytest.mark.parametrize("to", ["onnx", "torch"])
def test_names_that_would_be_marks_are_shown_and_not_obeyed(trained: TrainResult, tmp_path: Path, to: str) -> None:
    if to == "onnx":
        pytest.importorskip("onnxruntime")
    evil = "a\n# big\n<script>alert(1)</script> | [x](http://y) `b` ![i](j) *c* $d$ @e"
    checkpoint = read_weights(trained.folder / "bvae_best_model_with.pt")
    config = {**checkpoint.config, "data": {**checkpoint.config["data"], "source": evil, "licence": evil}}
    config["made_with"] = {"bvae": evil, "torch": "```\n---\n"}
    config["decides"] = {**config["decides"], "estimator": evil, "lr": evil}
    config["code"] = {**config["code"], "distribution": evil}
    (tmp_path / "x.pt").write_bytes(weights_bytes(config, checkpoint.weights))
    card = card_of(tmp_path / "x.pt", tmp_path / "model", to=to)
    outside = re.sub(r"^```.*?^```$", "", card, flags=re.DOTALL | re.MULTILINE)
    assert card.count("\n---\n") == 1  # the end of the head
    for mark in ("<script", "# big", "[x]", "`b`", "$d$", "http:", "*c*"):
        assert mark not in outside.replace(f"\\{mark}", ""), mark
    assert sum(line.startswith("#") for line in outside.splitlines()) == 7
    facts = table(card)
    assert facts["licence of the data"].startswith("a\\\\n\\# big\\\\n\\<script\\>")
    (command,) = re.findall(r"```sh\n(.*?)\n```", card, flags=re.DOTALL)
    assert "\n" not in command


def test_plain_words_stay_as_they_are() -> None:
    assert escaped("binarised MNIST (bundled), 28 x 28; 50 %") == "binarised MNIST (bundled), 28 x 28; 50 %"
