from __future__ import annotations

from pathlib import Path

import pytest

from ..outcome import Bvae

for extra in ("onnx", "onnxruntime", "safetensors"):
    pytest.importorskip(extra)
QUICK = ("--iwae-samples", 2)


@pytest.mark.parametrize(
    ("to", "file"), [("onnx", "encoder.onnx"), ("safetensors", "model.safetensors"), ("torch", "model.pt")]
)
def test_a_folder_is_written_and_said(bvae: Bvae, run_folder: Path, workplace: Path, to: str, file: str) -> None:
    outcome = bvae("export", run_folder, "--to", to, "-o", "out", *QUICK).succeeded()
    for words in (
        "folder",
        "README.md",
        file,
        "6 rows beside torch: at most ",
        "repetition:R=3",
        "nats on 6 validation rows",
    ):
        assert words in outcome.out
    assert "loading torch" in outcome.err
    assert (workplace / "out" / file).is_file()


def test_json_is_one_object(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    facts = bvae("export", "-w", run_folder, "--to", "onnx", "-o", "out", *QUICK, "--json", "-q").succeeded().json()
    assert facts["files"] == ["README.md", "code.onnx", "decoder.onnx", "encoder.onnx"]
    assert (facts["folder"], facts["format"], facts["tolerance"], facts["notes"]) == ("out", "onnx", 1e-5, [])
    assert {check["file"] for check in facts["checks"]} == {"code.onnx", "decoder.onnx", "encoder.onnx"}
    assert facts["quality"]["rows"] == 6


def test_a_folder_that_is_there_is_written_anew_only_when_asked(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    Path("out").mkdir()
    Path("out/README.md").write_text("mine")
    line = ("export", run_folder, "--to", "torch", "-o", "out", *QUICK)
    bvae(*line).refused(2, "out is there already", "--overwrite")
    assert Path("out/README.md").read_text() == "mine"
    bvae(*line, "--overwrite").succeeded()
    Path("out/mine.txt").write_text("mine")
    bvae(*line, "--overwrite").refused(2, "mine.txt", "Name another folder")
    bvae("export", run_folder, "--to", "torch", "-o", "bits.npy").refused(3, "bits.npy: it is a file")


def test_the_weights_are_named_once_and_must_be_there(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    bvae("export", run_folder, "-w", run_folder, "--to", "torch", "-o", "out").refused(2, "named twice")
    bvae("export", "nowhere", "--to", "torch", "-o", "out").refused(3, "There is no file nowhere")
    bvae("export", run_folder, "--to", "torch", "-o", "out", "--dataset", "none.npy").refused(3, "no file none.npy")
    assert not Path("out").exists()


def test_exported_weights_are_evaluated_encoded_and_sampled_from(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    bvae("export", run_folder, "--to", "safetensors", "-o", "out", *QUICK).succeeded()
    for place in ("out", "out/model.safetensors"):
        bvae("evaluate", place, *QUICK).succeeded()
        bvae("encode", place, "-o", "codes.npy", "--overwrite").succeeded()
        bvae("sample", "-w", place, "--num-samples", 4, *QUICK).succeeded()
    content = bytearray(Path("out/model.safetensors").read_bytes())
    content[-1] ^= 1
    Path("out/model.safetensors").write_bytes(content)
    bvae("evaluate", "out").refused(3, "out/model.safetensors is damaged", "restore")


def test_a_model_whose_code_is_not_installed_is_refused(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    from bvae_cli.checkpoints import read_weights, weights_bytes

    checkpoint = read_weights(run_folder / "bvae_best_model_with.pt")
    config = {**checkpoint.config, "code": {**checkpoint.config["code"], "type": "theirs", "distribution": "their-codes"}}
    Path("x.pt").write_bytes(weights_bytes(config, checkpoint.weights))
    bvae("export", "x.pt", "--to", "onnx", "-o", "out").refused(4, "'theirs', which is not installed", "their-codes")


@pytest.mark.parametrize(
    ("to", "missing", "extra"),
    [("onnx", "onnx", "onnx"), ("onnx", "onnxruntime", "onnx"), ("safetensors", "safetensors", "safetensors")],
)
def test_a_missing_package_is_named_with_its_extra(
    bvae: Bvae, run_folder: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, to: str, missing: str, extra: str
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == missing else real(name, *rest))
    outcome = bvae("export", run_folder, "--to", to, "-o", "out")
    outcome.refused(2, f"{missing} is not installed", f"pip install 'bvae-cli[{extra}]'")
    assert "loading torch" not in outcome.err


def test_a_file_and_variables_say_options_of_an_export(
    bvae: Bvae, run_folder: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("export.toml").write_text('to = "torch"\ntolerance = 0.001\n')
    monkeypatch.setenv("BVAE_IWAE_SAMPLES", "3")
    facts = bvae("export", run_folder, "-o", "out", "--config", "export.toml", "--json").succeeded().json()
    assert (facts["format"], facts["tolerance"], facts["quality"]["bounds"]["iwae_samples"]) == ("torch", 0.001, 3)


def test_an_export_is_not_replaced_by_another_of_itself(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    bvae("export", run_folder, "--to", "safetensors", "-o", "out", *QUICK).succeeded()
    for place in ("out", "out/model.safetensors"):
        bvae("export", place, "--to", "torch", "-o", "./out", "--overwrite", *QUICK).refused(2, "out is read here")
    assert Path("out/model.safetensors").is_file()
