"""The real files that are changed: each is written by the program itself, or by the library whose format it is."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import sparse

from bvae_cli import checkpoints, runs
from bvae_cli.comparisons import ComparisonFolder
from bvae_cli.config import TrainConfig
from bvae_cli.datasets.base import Splits
from bvae_cli.datasets.packed import write_packed
from bvae_cli.errors import InterruptedRunError
from bvae_cli.workflows.train import Observer, train

from ..comparing import comparison_of, keep_pictures
from ..datasets.pictures import cifar_files, emnist_members, write_omniglot, write_tar, write_zip

FEATURES = 12
_ROWS = 60
_TINY: dict[str, Any] = {
    "hidden": 8,
    "latent": 12,
    "depth": 1,
    "epochs": 3,
    "batch_size": 16,
    "beta_warmup_epochs": 2,
    "device": "cpu",
    "threads": 1,
    "compile": "off",
    "ecc": "repetition:R=3",
}
# The checks of the [7, 4] code of Hamming, as MacKay's format has them.
_ALIST = """7 3
3 4
1 1 2 1 2 2 3
4 4 4
1 0 0
2 0 0
1 2 0
3 0 0
1 3 0
2 3 0
1 2 3
1 3 5 7
2 3 6 7
4 5 6 7
"""


@dataclass(frozen=True)
class Samples:
    """Contents of files by name, and the configuration of the run whose folder is among them."""

    files: dict[str, bytes]
    config: dict[str, Any]
    bits: Path

    def of(self, folder: str) -> dict[str, bytes]:
        """Return the files of a folder, by their path in it."""
        return {name.removeprefix(f"{folder}/"): content for name, content in self.files.items() if name.startswith(folder)}


class _Stopping(Observer):
    """Presses Ctrl-C after the second epoch."""

    def on_epoch(self, stats: Any) -> None:
        if stats.epoch == 2:
            raise KeyboardInterrupt


def write_samples(folder: Path) -> Samples:
    """Train a tiny model, stop another, and write a file of each kind into a folder."""
    random = np.random.default_rng(1)
    patterns = random.integers(0, 2, (2, FEATURES))
    rows = (patterns[random.integers(0, 2, _ROWS)] ^ (random.random((_ROWS, FEATURES)) < 0.1)).astype(np.uint8)
    bits = folder / "bits.npy"
    np.save(bits, rows)
    made = _of_data(rows)
    finished = train(TrainConfig(dataset=bits, output_dir=folder / "weights", **_TINY))
    made |= _contents("finished", finished.folder)
    held = torch.load(io.BytesIO(made[f"finished/{runs.WEIGHTS}"]), weights_only=True)
    made["plain.pt"] = checkpoints.torch_bytes({name: value for name, value in held.items() if name != "digest"})
    weights = checkpoints.read_weights(finished.folder / runs.WEIGHTS)
    made["plain.safetensors"] = checkpoints.exported_bytes(weights.config, weights.weights)
    unfinished = TrainConfig(dataset=bits, output_dir=folder / "stopped", seed=1, **_TINY)
    try:
        train(unfinished, _Stopping())
    except InterruptedRunError:
        made |= _contents("unfinished", next(iter(runs.find_runs(folder / "stopped"))).folder)
    compared = ComparisonFolder(folder / "compared")
    comparison = comparison_of(noise_epsilon=[0.1])
    compared.claim(comparison.digest, {"seeds": 3})
    keep_pictures(compared, comparison)
    compared.save_tuning(0, 0, comparison.arms[0].tuning[0].runs[0])
    compared.save_classifier_accuracy(0.97)
    compared.save(comparison)
    made |= _contents("comparison", compared.folder)
    return Samples(made, unfinished.model_dump(mode="json"), bits)


def _contents(name: str, folder: Path) -> dict[str, bytes]:
    return {f"{name}/{path.relative_to(folder)}": path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _of_data(rows: np.ndarray[Any, Any]) -> dict[str, bytes]:
    grey = (rows * np.float32(0.75)).astype(np.float32)
    labels = np.arange(len(rows)) % 3
    words = "\n".join(",".join(map(str, row)) for row in rows.tolist()) + "\n"
    greys = "\n".join(" ".join(f"{value:g}" for value in row) for row in grey.tolist()) + "\n"
    images, tags = rows.reshape(len(rows), 4, 3) * np.uint8(255), labels.astype(np.uint8)
    return {
        "npy/bits.npy": _npy(rows),
        "npy/grey.npy": _npy(grey),
        "npz/plain.npz": _npz(x=rows, y=labels),
        "npz/divided.npz": _npz(train=rows, validation=rows[:9], test=rows[:9], train_labels=labels),
        "csv/bits.csv": words.encode(),
        "csv/headed.csv": ("a,b,c,d,e,f,g,h,i,j,k,l\n" + words).encode(),
        "csv/grey.txt": greys.encode(),
        "codes/bits.npy": _npy(rows),
        "codes/packed.npy": _npy(np.packbits(rows, axis=1)),
        "codes/logits.npy": _npy(rows.astype(np.float32) * 6 - 3),
        "packed/packed.npz": _packed(rows),
        "packed/packed.npy": _npy(np.packbits(rows, axis=1)),
        "idx/train-images-idx3-ubyte": _idx(images),
        "idx/train-labels-idx1-ubyte": _idx(tags),
        "idx/t10k-images-idx3-ubyte": _idx(images[:12]),
        "idx/t10k-labels-idx1-ubyte": _idx(tags[:12]),
        "gz/train-images-idx3-ubyte.gz": gzip.compress(_idx(images), mtime=0),
        "gz/train-labels-idx1-ubyte.gz": gzip.compress(_idx(tags), mtime=0),
        "gz/t10k-images-idx3-ubyte.gz": gzip.compress(_idx(images[:12]), mtime=0),
        **_of_public_sets(rows),
        "code/matrix.csv": b"1,1,0,1,0,0,0\n0,1,1,0,1,0,0\n0,0,1,1,0,1,0\n0,0,0,1,1,0,1\n",
        "code/matrix.txt": b"1101000\n0110100 # a remark\n0011010\n0001101\n",
        "code/matrix.npy": _npy(np.array([[1, 0, 0, 1, 1], [0, 1, 1, 0, 1]], np.uint8)),
        "code/checks.alist": _ALIST.encode(),
    }


def _of_public_sets(rows: np.ndarray[Any, Any]) -> dict[str, bytes]:
    """Return small files of the formats of public data sets, under the names of these."""
    picture = Image.fromarray(rows.reshape(-1, 24)[:20] * np.uint8(255))
    kinds = ("png", "jpeg", "gif", "tiff")
    files = {f"images/{number}.{kind}": _picture(picture, kind) for number, kind in enumerate(kinds)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_zip(folder / "gzip.zip", emnist_members())
        write_tar(folder / "cifar-10-binary.tar.gz", cifar_files(1))
        write_omniglot(folder)
        files["emnist/gzip.zip"] = (folder / "gzip.zip").read_bytes()
        files["cifar10/cifar-10-binary.tar.gz"] = (folder / "cifar-10-binary.tar.gz").read_bytes()
        for part in ("background", "evaluation"):
            files[f"omniglot/images_{part}.zip"] = (folder / f"images_{part}.zip").read_bytes()
    matrix = io.BytesIO()
    sparse.save_npz(matrix, sparse.csr_matrix(rows), compressed=False)
    files["sparse/x.npz"] = matrix.getvalue()
    if importlib.util.find_spec("pyarrow"):  # an extra
        import pyarrow

        files["parquet/x.parquet"] = _parquet({f"c{number}": column for number, column in enumerate(rows.T)})
        for kind, values in (("bits", rows.astype(bool)), ("logits", rows.astype(np.float32) * 6 - 3)):
            columns = {f"b{number}": column for number, column in enumerate(values.T, 1)}
            files[f"codes/{kind}.parquet"] = _parquet(columns)
        packed = [row.tobytes() for row in np.packbits(rows, axis=1)]
        files["codes/packed.parquet"] = _parquet({"code": pyarrow.array(packed, pyarrow.binary(2))})
        files["codes/strings.parquet"] = _parquet({"code": packed})
    return files


def _parquet(columns: dict[str, Any]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), buffer)
    return buffer.getvalue()


def _picture(picture: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _npz(**arrays: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _packed(rows: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    tensor = torch.from_numpy(rows)
    splits = Splits(tensor[:40], tensor[40:50], tensor[50:], (4, 3), source="bits.npy", licence="not stated")
    write_packed(buffer, splits)
    return buffer.getvalue()


def _idx(array: np.ndarray[Any, Any]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def settings_of(samples: Samples) -> dict[str, Any]:
    """Return options as a configuration file has them, those of training and of a comparison."""
    said = {name: value for name, value in samples.config.items() if name not in ("ecc", "dataset", "init_from", "params")}
    comparing = {
        "seeds": 3,
        "arm": ["uncoded:latent=12", "repetition:R=2,latent=24,lr=1e-3", "golay:latent=24"],
        "tune": ["lr=3e-4,1e-3"],
        "noise_epsilon": [0.0, 0.05],
        "calibration_bins": 5,
        "num_samples": 4,
        "temperature": 0.5,
        "split": "test",
    }
    return {**said, **comparing, "dataset": str(samples.bits), "ecc": {"type": "repetition", "R": 3}}


def as_json(value: Any) -> bytes:
    """Return a value as the content of a JSON file."""
    return json.dumps(value).encode()
