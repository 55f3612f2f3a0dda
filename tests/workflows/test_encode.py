"""What ``encode`` writes is what the model says, row by row, of data of any kind; nothing half-written has a name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bvae_cli
from bvae_cli import extras
from bvae_cli.config import PluginRef
from bvae_cli.errors import InputOutputError, UsageError
from bvae_cli.trained import EncodeConfig
from bvae_cli.workflows import encode as encode_module
from bvae_cli.workflows import encoded_files
from bvae_cli.workflows.encode import encode
from bvae_cli.workflows.observing import TrainResult


def data_of(run: TrainResult) -> np.ndarray:
    """Return the rows of the run's data, in the order of their file."""
    rows: np.ndarray = np.load(run.folder.parents[1] / "bits.npy")
    return rows


def encoded(run: TrainResult, folder: Path, **options: Any) -> np.ndarray:
    config = EncodeConfig(**({"weights": run.folder, "output": folder / "codes.npy"} | options))
    values: np.ndarray = np.load(encode(config).file, allow_pickle=False)
    return values


@pytest.fixture
def network(trained: TrainResult) -> Any:
    return bvae_cli.load(trained.folder).network


def expected(network: Any, rows: np.ndarray, write: str) -> np.ndarray:
    with torch.no_grad():
        code_logits = network.encoder(torch.from_numpy(rows).float())
        logits = network.code.soft_decode(code_logits)
        bits = (logits > 0).float()
        values = {
            "information-bits": bits,
            "codewords": network.code.encode(bits),
            "probabilities": 1 / (1 + torch.exp(-logits)),
            "logits": logits,
            "code-logits": code_logits,
        }[write]
    array: np.ndarray = values.numpy()
    return array


@pytest.mark.parametrize("write", ["information-bits", "codewords"])
@pytest.mark.parametrize("packed", [False, True])
def test_bits_are_those_of_every_row_in_the_order_of_the_file(
    trained: TrainResult, network: Any, write: str, packed: bool, tmp_path: Path
) -> None:
    codes = encoded(trained, tmp_path, write=write, packed=packed)
    bits = expected(network, data_of(trained), write)
    assert codes.dtype == np.uint8
    assert 0 < bits.mean() < 1
    if packed:
        assert codes.shape == (60, -(-bits.shape[1] // 8))
        codes = np.unpackbits(codes, axis=1, count=bits.shape[1])
    assert codes.shape == bits.shape
    assert (codes == bits).all()


@pytest.mark.parametrize("write", ["probabilities", "logits", "code-logits"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_numbers_are_those_of_every_row(
    trained: TrainResult, network: Any, write: str, precision: str, tmp_path: Path
) -> None:
    values = encoded(trained, tmp_path, write=write, precision=precision)
    assert values.dtype == np.dtype(precision)
    # Half of a unit in the last of 11 bits, and the rounding of float32 sums.
    assert values == pytest.approx(expected(network, data_of(trained), write), rel=2**-10, abs=1e-5)


def test_a_split_and_the_first_rows_are_encoded_alone(trained: TrainResult, network: Any, tmp_path: Path) -> None:
    splits = PluginRef(type="arrays", options={"path": str(trained.folder.parents[1] / "bits.npy")}).spec("data set").load()
    for name in ("train", "validation", "test"):
        rows = splits.split(name).numpy()
        assert (encoded(trained, tmp_path, split=name) == expected(network, rows, "information-bits")).all()
    first = encoded(trained, tmp_path, subset=7, write="logits")
    assert first == pytest.approx(expected(network, data_of(trained)[:7], "logits"), abs=1e-5)


@pytest.mark.parametrize("way", ["mapped", "packed"])
def test_a_mapped_file_has_the_codes_of_its_rows(
    trained: TrainResult, network: Any, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode_module, "_ROWS", 32)
    rows = np.random.default_rng(5).integers(0, 2, (100, 12), dtype=np.uint8)
    if way == "mapped":
        np.save(tmp_path / "rows.npy", rows)
        reference = PluginRef(type="arrays", options={"path": str(tmp_path / "rows.npy"), "mapped": "always"})
    else:
        np.savez(tmp_path / "rows.npz", x=np.packbits(rows, axis=1), feature_shape=[12])
        reference = PluginRef(type="packed", options={"path": str(tmp_path / "rows.npz"), "mapped": "always"})
    codes = encoded(trained, tmp_path, dataset=reference)
    assert (codes == expected(network, rows, "information-bits")).all()


def test_packed_codes_are_a_data_set_themselves(trained: TrainResult, network: Any, tmp_path: Path) -> None:
    encoded(trained, tmp_path, packed=True)
    reference = PluginRef(type="packed", options={"path": str(tmp_path / "codes.npy"), "features": 4})
    rows = reference.spec("data set").load().all_rows()[:]
    assert (rows.numpy() == expected(network, data_of(trained), "information-bits")).all()


def test_rows_go_by_in_pieces_and_their_number_is_told(
    trained: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode_module, "_ROWS", 25)
    told: list[tuple[int, int]] = []
    config = EncodeConfig(weights=trained.folder, output=tmp_path / "c.npy")
    result = encode(config, on_rows=lambda rows, total: told.append((rows, total)))
    assert told == [(25, 60), (50, 60), (60, 60)]
    facts = dataclasses.asdict(result)
    assert {name: facts[name] for name in ("rows", "columns", "dtype", "packed", "bits_in_a_row", "split", "code")} == {
        "rows": 60,
        "columns": 4,
        "dtype": "uint8",
        "packed": False,
        "bits_in_a_row": 4,
        "split": "all",
        "code": "repetition:R=3",
    }


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("the disk is gone")])
def test_what_is_cut_short_leaves_the_old_file_and_no_half_one(
    error: Any, trained: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode_module, "_ROWS", 25)
    (tmp_path / "c.npy").write_bytes(b"old")

    def stop(rows: int, total: int) -> None:
        raise error

    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else InputOutputError):
        encode(EncodeConfig(weights=trained.folder, output=tmp_path / "c.npy"), on_rows=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["c.npy"]
    assert (tmp_path / "c.npy").read_bytes() == b"old"


def test_from_python_a_file_that_is_there_is_written_anew_only_when_asked(trained: TrainResult, tmp_path: Path) -> None:
    first = bvae_cli.encode(trained.folder, tmp_path / "deep" / "codes.npy")
    assert np.load(first.file).shape == (60, 4)
    with pytest.raises(UsageError, match="is there already"):
        bvae_cli.encode(trained.folder, first.file, write="codewords")
    bvae_cli.encode(trained.folder, first.file, overwrite=True, write="codewords")
    assert np.load(first.file).shape == (60, 12)


def test_rows_of_another_width_are_refused(trained: TrainResult, tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", np.zeros((9, 13), dtype=np.uint8))
    with pytest.raises(UsageError, match="13 values in a row"):
        bvae_cli.encode(trained.folder, tmp_path / "c.npy", dataset=tmp_path / "wide.npy")
    assert not (tmp_path / "c.npy").exists()


def test_a_file_cannot_be_written_into_a_file_or_over_a_folder(trained: TrainResult, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(InputOutputError, match="it is a file, not a folder"):
        bvae_cli.encode(trained.folder, tmp_path / "a" / "c.npy")
    (tmp_path / "d.npy").mkdir()
    with pytest.raises(InputOutputError, match="it is a folder, not a file"):
        bvae_cli.encode(trained.folder, tmp_path / "d.npy", overwrite=True)


# --- tables


@pytest.mark.parametrize("write", ["information-bits", "codewords", "probabilities", "code-logits"])
def test_a_table_holds_what_an_array_holds(
    trained: TrainResult, write: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    # Groups of rows that the last one does not fill.
    monkeypatch.setattr(encode_module, "_ROWS", 7)
    monkeypatch.setattr(encoded_files, "_ROWS_OF_A_GROUP", 20)
    values = encoded(trained, tmp_path, write=write)
    config = EncodeConfig(weights=trained.folder, output=tmp_path / "codes.parquet", write=write)  # type: ignore[arg-type]
    result = encode(config)
    table = parquet.read_table(result.file)
    assert table.column_names == [f"b{number}" for number in range(1, values.shape[1] + 1)]
    assert np.array_equal(np.stack([column.to_numpy() for column in table.columns], 1), values)
    assert parquet.ParquetFile(result.file).num_row_groups > 1


def test_a_table_of_packed_bits_holds_their_bytes(trained: TrainResult, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    packed = encoded(trained, tmp_path, packed=True)
    config = EncodeConfig(weights=trained.folder, output=tmp_path / "codes.parquet", packed=True)
    column = parquet.read_table(encode(config).file)["code"]
    assert column.to_pylist() == [row.tobytes() for row in packed]


def test_without_pyarrow_a_table_is_refused_with_what_to_install(
    trained: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "_is_installed", lambda package: False)
    with pytest.raises(UsageError, match="pyarrow is not installed"):
        EncodeConfig(weights=trained.folder, output=tmp_path / "codes.parquet")
