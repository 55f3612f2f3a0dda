"""What is exported computes what the model does, on real data and in a process that knows nothing of this program."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import bvae_cli
from bvae_cli import checkpoints
from bvae_cli.codes.uncoded import UncodedCode
from bvae_cli.config import TrainConfig
from bvae_cli.errors import BvaeError, InputOutputError, UsageError
from bvae_cli.exporting import parts
from bvae_cli.exporting.parts import Part, differences
from bvae_cli.workflows.export import ExportResult
from bvae_cli.workflows.observing import TrainResult
from bvae_cli.workflows.train import train

from ..helpers import uncounted
from .conftest import config_for

for extra in ("onnx", "onnxruntime", "safetensors"):
    pytest.importorskip(extra)
from bvae_cli.exporting import onnx_models  # noqa: E402

QUICK: dict[str, Any] = {"iwae_samples": 2}
FORMATS = ("onnx", "safetensors", "torch")
# Reads rows, runs the two files, writes what comes out; nothing of ours or of torch can be imported.
_STRANGER = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("bvae_cli", "torch"):
            raise ImportError(f"{name} is not here")
sys.meta_path.insert(0, Nothing())
sys.path.append(sys.argv[1])
import numpy, onnxruntime
def ran(name, rows):
    session = onnxruntime.InferenceSession(name, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    return dict(zip((output.name for output in session.get_outputs()), session.run(None, {entry.name: rows})))
x = numpy.load("x.npy").astype(numpy.float32)
encoded = ran("encoder.onnx", x)
codewords = ran("code.onnx", encoded["information_bits"])["codewords"]
decoded = ran("decoder.onnx", codewords)
numpy.savez("found.npz", codewords=codewords, probabilities=decoded["probabilities"], **encoded)
assert not {"bvae_cli", "torch"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A run on 200 real digits, with a code that is decoded by all of its words."""
    values: dict[str, Any] = {"ecc": "hamming:r=3", "output_dir": tmp_path_factory.mktemp("digits")}
    return train(TrainConfig(**values, hidden=8, latent=14, depth=1, subset=200, epochs=1, batch_size=50, lr=0.01))


def digits_of(model: bvae_cli.TrainedModel, rows: int = 100) -> Tensor:
    from bvae_cli.datasets.binarized_mnist import BinarizedMnist

    assert model.network.features == 784
    return BinarizedMnist().load().validation[:rows].float()


def exported(run: TrainResult, output: Path, to: str, **options: Any) -> ExportResult:
    return bvae_cli.export(run.folder, output, to, **{**QUICK, **options})


def test_a_stranger_computes_the_same_with_numpy_and_onnxruntime_alone(digits: TrainResult, tmp_path: Path) -> None:
    out = tmp_path / "model"
    exported(digits, out, "onnx", subset=100)
    model = bvae_cli.load(digits.folder)
    x = digits_of(model)
    np.save(out / "x.npy", x.numpy().astype(np.uint8))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _STRANGER, sysconfig.get_path("purelib")],
        cwd=out,
        env=uncounted(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = np.load(out / "found.npz")
    with torch.no_grad():
        posterior = model.network.encode(x)
        codewords = model.code.encode(posterior.information_bits)
        wanted = {
            "code_logits": posterior.code_logits,
            "logits": posterior.logits,
            "information_bits": posterior.information_bits,
            "codewords": codewords,
            "probabilities": model.network.decode(codewords),
        }
    assert set(found) == set(wanted)
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values.numpy(), rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("to", FORMATS)
def test_every_format_is_within_the_tolerance_on_real_data(digits: TrainResult, tmp_path: Path, to: str) -> None:
    result = exported(digits, tmp_path / "model", to, subset=100)
    outputs = {(check.part, check.output) for check in result.checks}
    assert outputs >= {("encoder", "logits"), ("encoder", "information_bits"), ("decoder", "probabilities")}
    assert all(check.rows == 100 and check.difference <= 1e-5 for check in result.checks)
    assert result.files == sorted(path.name for path in (tmp_path / "model").iterdir())
    if to != "onnx":
        assert {check.difference for check in result.checks} == {0}


@pytest.mark.parametrize("to", ["safetensors", "torch"])
def test_exported_weights_are_taken_wherever_weights_are_named(digits: TrainResult, tmp_path: Path, to: str) -> None:
    result = exported(digits, tmp_path / "first", to, subset=100)
    weights = tmp_path / "first" / next(name for name in result.files if name != "README.md")
    x = digits_of(bvae_cli.load(weights))
    for place in (weights, weights.parent):
        assert torch.equal(bvae_cli.load(place).elbo(x), bvae_cli.load(digits.folder).elbo(x))
    assert (
        bvae_cli.evaluate(weights, subset=50, **QUICK).bounds == bvae_cli.evaluate(digits.folder, subset=50, **QUICK).bounds
    )
    again = bvae_cli.export(weights, tmp_path / "second", to, subset=100, **QUICK)
    assert (tmp_path / "second" / weights.name).read_bytes() == weights.read_bytes()
    assert again.quality is not None
    assert result.quality is not None
    assert again.quality.bounds == result.quality.bounds


def test_weights_of_torch_need_nothing_but_torch(digits: TrainResult, tmp_path: Path) -> None:
    exported(digits, tmp_path / "model", "torch", subset=20)
    content = torch.load(tmp_path / "model" / "model.pt", weights_only=True)
    x = digits_of(bvae_cli.load(digits.folder), 20)
    w = content["weights"]
    hidden = torch.nn.functional.leaky_relu(
        (x - w["encoder.mean"]) @ w["encoder.layers.0.weight"].T + w["encoder.layers.0.bias"], 0.2
    )
    by_hand = hidden @ w["encoder.layers.2.weight"].T + w["encoder.layers.2.bias"]
    assert torch.allclose(by_hand, bvae_cli.load(digits.folder).network.encode(x).code_logits, atol=1e-5)
    assert json.loads(content["config"])["code"]["type"] == "hamming"


def test_what_is_measured_is_what_evaluate_measures(trained: TrainResult, tmp_path: Path) -> None:
    result = exported(trained, tmp_path / "model", "torch", split="test", seed=3)
    assert result.quality == bvae_cli.evaluate(trained.folder, split="test", seed=3, **QUICK)


def test_a_soft_decoder_that_cannot_be_written_leaves_the_logits_of_the_code_bits(
    uncoded: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UncodedCode, "soft_decode", lambda code, logits: logits.cumsum(-1))
    monkeypatch.setattr(UncodedCode, "encode", lambda code, bits: bits + 0 * bits.cumprod(-1))
    result = exported(uncoded, tmp_path / "model", "onnx")
    first, second = result.notes
    assert "up to the logits of the code bits" in first
    assert "cumsum is not among those" in first
    assert "no code.onnx" in second
    assert "cumprod" in second
    assert result.files == ["README.md", "decoder.onnx", "encoder.onnx"]
    assert [check.output for check in result.checks] == ["code_logits", "logits", "probabilities"]
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "the soft decoder of none is not in it" in card


def test_a_decoder_that_differs_from_torch_is_not_written_at_all(
    trained: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = onnx_models.run

    def wrong(content: bytes, rows: Tensor, threads: int = 0) -> dict[str, Tensor]:
        found = real(content, rows, threads)
        return {**found, "probabilities": found["probabilities"] + 1e-3} if "probabilities" in found else found

    monkeypatch.setattr(onnx_models, "run", wrong)
    with pytest.raises(BvaeError, match=r"The decoder cannot be exported: its probabilities .* more than --tolerance 1e-05"):
        exported(trained, tmp_path / "model", "onnx")
    assert list(tmp_path.iterdir()) == []
    assert exported(trained, tmp_path / "model", "onnx", tolerance=0.01).tolerance == 0.01


def test_weights_that_come_back_as_others_are_not_written_at_all(
    trained: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(config: Any, weights: Any) -> bytes:
        return checkpoints.weights_bytes(config, {name: value * 1.001 for name, value in weights.items()})

    monkeypatch.setattr("bvae_cli.workflows.export.weights_bytes", other)
    with pytest.raises(BvaeError, match="The encoder cannot be exported"):
        exported(trained, tmp_path / "model", "torch")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to", FORMATS)
def test_without_the_data_nothing_is_measured_and_rows_are_drawn(tmp_path: Path, to: str) -> None:
    run = train(config_for(tmp_path, ecc="repetition:R=3", epochs=1))
    (tmp_path / "bits.npy").unlink()
    notes: list[str] = []
    result = exported(run, tmp_path / "model", to)
    assert result.quality is None
    assert result.checks[0].rows == 256
    (note,) = result.notes
    assert "Nothing is measured" in note
    assert "bits.npy" in note
    assert notes == []
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "Not measured: the data were not there." in card
    assert "ELBO" not in card
    assert "metrics:" not in card
    with pytest.raises(InputOutputError):
        exported(run, tmp_path / "other", to, dataset=tmp_path / "bits.npy")


def test_other_data_are_measured_on_where_they_are_named(trained: TrainResult, tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", np.ones((40, 12), dtype=np.uint8))
    result = exported(trained, tmp_path / "model", "torch", dataset=tmp_path / "other.npy")
    assert result.quality is not None
    assert result.quality.rows == 4
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "| measured on | arrays\\:path=" in card


def test_a_single_row_is_enough_to_check_with(trained: TrainResult, tmp_path: Path) -> None:
    result = exported(trained, tmp_path / "model", "onnx", subset=1)
    assert {check.rows for check in result.checks} == {1}
    rows = torch.zeros(7, 12)
    found = onnx_models.run((tmp_path / "model" / "encoder.onnx").read_bytes(), rows, 1)
    assert found["logits"].shape == (7, 4)


def test_a_folder_that_is_there_is_replaced_only_when_asked(trained: TrainResult, tmp_path: Path) -> None:
    exported(trained, tmp_path / "model", "onnx")
    with pytest.raises(UsageError, match="--overwrite"):
        exported(trained, tmp_path / "model", "torch")
    assert "model.pt" in exported(trained, tmp_path / "model", "torch", overwrite=True).files
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["README.md", "model.pt"]
    with pytest.raises(UsageError, match="is read here"):
        exported(trained, trained.folder, "torch", overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep")
    with pytest.raises(UsageError, match="not of an export"):
        exported(trained, tmp_path / "mine", "torch", overwrite=True)


def test_a_bit_whose_logit_is_nought_may_be_either() -> None:
    part = Part("it", "x", lambda x: {"logits": x, parts.BITS: (x > 0).float()})
    rows = torch.tensor([[1e-7, 3.0]])
    assert differences(part, rows, {"logits": rows, parts.BITS: torch.tensor([[0.0, 1.0]])}, 1e-5)[parts.BITS] == 0
    assert differences(part, rows, {"logits": rows, parts.BITS: torch.tensor([[1.0, 0.0]])}, 1e-5)[parts.BITS] == 0.5
    assert np.isnan(differences(part, rows, {"logits": rows * np.nan, parts.BITS: rows}, 1e-5)["logits"])


def test_the_same_model_is_the_same_files(trained: TrainResult, tmp_path: Path) -> None:
    for to in FORMATS:
        folders = [tmp_path / f"{to}-{number}" / "model" for number in range(2)]
        for folder in folders:
            exported(trained, folder, to)
        first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
        assert first == second


OTHER_MODELS: dict[str, dict[str, Any]] = {
    "gaussian": {"likelihood": "gaussian"},
    "gaussian, fixed": {"likelihood": "gaussian", "sigma": 0.5},
    "poisson": {"likelihood": "poisson"},
    "negative-binomial": {"likelihood": "negative-binomial"},
    "categorical": {"likelihood": "categorical"},
    "conv": {"likelihood": "gaussian", "network": "conv", "channels": 2},
    "dcgan": {"likelihood": "poisson", "network": "dcgan", "channels": 2},
}


@pytest.mark.parametrize("name", OTHER_MODELS)
def test_every_likelihood_and_network_computes_the_same_in_onnxruntime(tmp_path: Path, name: str) -> None:
    shape = (60, 4, 6) if "network" in OTHER_MODELS[name] else (60, 6)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).poisson(2, shape))
    options: dict[str, Any] = {"hidden": 8, "latent": 12, "depth": 1, "epochs": 1, "batch_size": 16, **OTHER_MODELS[name]}
    config = TrainConfig(dataset=tmp_path / "x.npy", output_dir=tmp_path / "w", **options)  # type: ignore[arg-type]
    result = exported(train(config), tmp_path / "out", "onnx")
    assert not result.notes
    assert {check.output for check in result.checks if check.file == "decoder.onnx"} == {
        "categorical": {"logits", "probabilities"}
    }.get(name, {"outputs", "means"})
    card = (tmp_path / "out" / "README.md").read_text()
    assert OTHER_MODELS[name]["likelihood"] in card.lower().replace("negativebinomial", "negative-binomial")
    # Symbols of columns of unequal numbers are the hard case, and these are such.
    weights = exported(train(config), tmp_path / "again", "safetensors")
    assert max(check.difference for check in weights.checks) == 0
