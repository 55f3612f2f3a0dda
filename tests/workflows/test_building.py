from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bvae_cli import runs
from bvae_cli.codes.repetition import Repetition
from bvae_cli.codes.uncoded import Uncoded, UncodedCode
from bvae_cli.config import PluginRef
from bvae_cli.errors import InputOutputError, PluginError, UsageError
from bvae_cli.model.likelihoods import bernoulli_beginning
from bvae_cli.model.networks import Architecture
from bvae_cli.workflows import building
from bvae_cli.workflows.observing import TrainResult

MEAN = torch.tensor([0.1, 0.5, 0.9])


def built(seed: int = 0) -> Any:
    return building.new_model(Repetition(R=2).build(6), bernoulli_beginning(MEAN), Architecture(4, 1, "relu"), seed)


def changed(run: TrainResult, folder: Path, **config: Any) -> Path:
    """Write the run's weights under a changed configuration."""
    checkpoint = runs.load_checkpoint(run.folder)
    merged = json.loads(json.dumps(checkpoint.config))
    for section, values in config.items():
        merged[section].update(values)
    copy = runs.Run(folder)
    copy.start(merged)
    copy.save_weights(merged, checkpoint.weights)
    return copy.weights


def test_a_seed_decides_the_weights_and_the_global_random_state_is_left_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    first, second, third = built(), built(), built(seed=1)
    assert torch.equal(torch.rand(2), expected)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    assert any(not torch.equal(value, third.state_dict()[name]) for name, value in first.state_dict().items())


def test_a_checkpoint_keeps_who_made_its_code() -> None:
    reference = PluginRef(type="repetition", options={"R": 2})
    code = building.build_code(reference, 6)
    identity = building.code_identity(reference, code)
    assert identity == {
        "type": "repetition",
        "options": {"R": 2},
        "n": 6,
        "k": 3,
        "digest": code.digest(),
        "distribution": "bvae-cli",
        "version": identity["version"],
    }


def test_a_model_comes_back_as_it_was_saved(trained: TrainResult) -> None:
    rebuilt = building.load_model(trained.folder)
    assert rebuilt.label == "repetition:R=3"
    assert rebuilt.weights == trained.folder / runs.WEIGHTS
    assert not rebuilt.model.training
    saved = runs.load_checkpoint(trained.folder).weights
    assert all(torch.equal(value, saved[name]) for name, value in rebuilt.model.state_dict().items())
    assert isinstance(rebuilt.model.code.spec, Repetition)


def test_a_size_that_does_not_fit_is_a_mistake_of_use() -> None:
    with pytest.raises(UsageError, match="not a multiple"):
        building.build_code(PluginRef(type="repetition", options={"R": 3}), 100)


def test_a_code_that_is_gone_says_what_to_install(trained: TrainResult, tmp_path: Path) -> None:
    weights = changed(trained, tmp_path, code={"type": "turbo", "distribution": "bvae-turbo", "version": "2.1"})
    with pytest.raises(PluginError, match="'turbo', which is not installed") as caught:
        building.load_model(weights)
    assert caught.value.hint == "Install bvae-turbo 2.1: pip install 'bvae-turbo'."


@pytest.mark.parametrize("options", [{"R": 5}, {"R": 0}, {"Q": 1}])
def test_options_that_its_code_no_longer_takes_are_the_plugins(
    trained: TrainResult, tmp_path: Path, options: dict[str, int]
) -> None:
    weights = changed(trained, tmp_path, code={"options": options})
    with pytest.raises(PluginError, match="cannot be built") as caught:
        building.load_model(weights)
    assert "bvae-cli" in (caught.value.hint or "")


def test_a_code_whose_codewords_have_changed_is_refused(
    trained: TrainResult, uncoded: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PluginError, match="its codewords differ"):
        building.load_model(changed(trained, tmp_path, code={"digest": "0" * 64}))
    monkeypatch.setattr(UncodedCode, "encode", lambda self, bits: bits.roll(1, -1))
    with pytest.raises(PluginError, match="its codewords differ"):
        building.load_model(uncoded.folder)


@pytest.mark.parametrize(
    "decides",
    [
        {"hidden": 9},
        {"depth": 3},
        {"hidden": -1},
        {"activation": "sine"},
        {"hidden": 10**30},
        {"likelihood": [1]},
    ],
)
def test_weights_that_do_not_fit_their_own_description_are_an_input_error(
    trained: TrainResult, tmp_path: Path, decides: dict[str, Any]
) -> None:
    with pytest.raises(InputOutputError, match="do not fit the model"):
        building.load_model(changed(trained, tmp_path, decides=decides))


def test_weights_with_a_part_missing_are_an_input_error(trained: TrainResult, tmp_path: Path) -> None:
    checkpoint = runs.load_checkpoint(trained.folder)
    for name in checkpoint.weights:
        run = runs.Run(tmp_path / name)
        run.start(checkpoint.config)
        run.save_weights(checkpoint.config, {key: value for key, value in checkpoint.weights.items() if key != name})
        with pytest.raises(InputOutputError, match="do not fit the model"):
            building.load_model(run.weights)


def test_a_failure_inside_of_a_code_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Uncoded, "build", lambda self, n: 1 / 0)
    with pytest.raises(PluginError, match=r"The code 'none' of bvae-cli .* failed: ZeroDivisionError") as caught:
        building.build_code(PluginRef(type="none"), 4)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "`bvae codes check none` says more" in (caught.value.hint or "")


class InAFile:
    """Rows of bits in a file, as far as it matters where they go."""

    dtype, shape, device = torch.uint8, (1000, 16), torch.device("cpu")

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, rows: object) -> None: ...
    def split(self, size: int) -> None: ...
    def batches(self, order: object, size: int) -> None: ...
    def first(self, count: int) -> None: ...
    def to(self, device: str) -> str:
        return f"from the file onto {device}"


@pytest.mark.parametrize(
    ("device", "memory", "where"),
    [
        # 1,000 rows of 16 bits are 2,000 bytes.
        ("cuda", 8000, "packed on cuda"),
        ("cuda:1", 7999, "from the file onto cuda:1"),
        ("cuda", None, "from the file onto cuda"),
        ("cpu", 8000, "from the file onto cpu"),
    ],
)
def test_bits_in_a_file_go_packed_to_a_gpu_that_has_room_for_them(
    monkeypatch: pytest.MonkeyPatch, device: str, memory: int | None, where: str
) -> None:
    monkeypatch.setattr(building.devices, "memory_bytes", lambda name: memory)
    monkeypatch.setattr(building.ResidentBits, "of", lambda rows, name: f"packed on {name}")
    assert building.placed(InAFile(), device) == where  # type: ignore[arg-type]


def test_rows_in_memory_are_brought_to_the_device_as_they_are() -> None:
    rows = torch.tensor([[0, 1]], dtype=torch.uint8)
    assert building.placed(rows, "cpu") is rows
