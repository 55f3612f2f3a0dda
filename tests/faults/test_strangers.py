"""Files and folders that somebody made to do harm: refused in a sentence, in little memory and time, and nothing is written.

Each is read in a process of its own that is given 512 MiB and ten seconds.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bvae_cli import runs, settings
from bvae_cli.codes.ldpc import Ldpc
from bvae_cli.codes.matrix import Linear
from bvae_cli.comparisons import ComparisonFolder
from bvae_cli.config import TrainConfig
from bvae_cli.datasets.arrays import Arrays
from bvae_cli.datasets.cifar10 import Cifar10
from bvae_cli.datasets.emnist import Emnist
from bvae_cli.datasets.idx import Mnist
from bvae_cli.datasets.images import Images
from bvae_cli.datasets.packed import Packed
from bvae_cli.errors import InputOutputError, UsageError
from bvae_cli.fields import validated
from bvae_cli.locks import LOCK
from bvae_cli.settings import Layer
from bvae_cli.sources import read_json

from . import fuzz, mutate
from .parsers import Parser

READERS: dict[str, Callable[[Path], object]] = {
    ".npy": lambda path: Arrays(path=path).load(),
    ".npz": lambda path: Arrays(path=path).load(),
    ".csv": lambda path: Arrays(path=path).load(),
    "packed.npy": lambda path: Packed(path=path, features=8).load(),
    "packed.npz": lambda path: Packed(path=path).load(),
    "idx": lambda path: Mnist(folder=path.parent).load(),
    "matrix.npy": lambda path: validated(Linear, {"matrix": str(path)}, "the code"),
    "matrix.csv": lambda path: validated(Linear, {"matrix": str(path)}, "the code"),
    "alist": lambda path: validated(Ldpc, {"alist": str(path)}, "the code"),
    ".pt": runs.load_checkpoint,
    ".safetensors": runs.load_checkpoint,
    "record": lambda path: runs.read_record(path.parent),
    "toml": lambda path: settings.resolve(TrainConfig, Layer("flags", {}), path),
    "comparison": lambda path: ComparisonFolder(path.parent).load(),
}
NAMES = {
    **{".npy": "x.npy", ".npz": "x.npz", ".csv": "x.csv", "idx": "train-images-idx3-ubyte", ".pt": runs.WEIGHTS},
    ".safetensors": runs.EXPORTED_WEIGHTS["safetensors"],
    **{"alist": "x.alist", "record": runs.LOSS_RECORD, "toml": "config.toml", "comparison": "comparison.json"},
}


def refusal(reading: Callable[[], object]) -> str:
    """Return how a process with little memory and time ends a reading: the words of the refusal, or what went wrong."""
    told, telling = os.pipe()
    child = os.fork()
    if child == 0:
        fuzz._limit_memory()

        def read(_: Path) -> None:
            try:
                reading()
            except InputOutputError as error:
                os.write(telling, error.message.encode("utf-8", "replace")[:4000])
                raise
            except fuzz.BvaeError as error:
                os.write(telling, str(error).encode("utf-8", "replace")[:4000])
                raise

        end = fuzz.read_input(Parser("attack", lambda *_: None, read), Path())
        if end.how != "refused":
            os.write(telling, f"NOT REFUSED: {end}".encode())
        os._exit(0)
    os.close(telling)
    with os.fdopen(told, "rb") as words:
        said = words.read().decode()
    os.waitpid(child, 0)
    return said or "NOT REFUSED: the process died"


def read_as(kind: str, folder: Path, content: bytes) -> str:
    path = folder / NAMES.get(kind, kind)
    path.write_bytes(content)
    return refusal(lambda: READERS[kind](path))


def npy_header(descr: str, shape: str) -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def npy_bytes(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


# --- bombs


def test_a_gzip_bomb_is_refused(tmp_path: Path) -> None:
    member = gzip.compress(bytes(2**26), 1)
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", 32 * 2**20, 8, 8)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(header) + 32 * member)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(bytes([0, 0, 8, 3]) + struct.pack(">3I", 2, 8, 8) + bytes(128))
    assert "would unpack to 2.0 GiB" in refusal(lambda: Mnist(folder=tmp_path).load())


@pytest.mark.parametrize("kind", [".npz", "packed.npz"])
def test_an_archive_that_unpacks_to_many_times_its_size_is_refused(kind: str, tmp_path: Path) -> None:
    members = [("x.npy", npy_bytes(np.zeros((1000, 1000), np.uint8)))]
    members += [("feature_shape.npy", npy_bytes(np.array([8000])))] if kind == "packed.npz" else []
    content = bytearray(mutate.zipped(members, zipfile.ZIP_DEFLATED))
    # The directory claims four GB of the first member.
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 2**32 - 2**20)
    assert "would unpack to 4.0 GiB" in read_as(kind, tmp_path, bytes(content))


def test_an_archive_that_unpacks_to_more_than_it_says_is_not_unpacked(tmp_path: Path) -> None:
    members = [("x.npy", npy_header("|u1", "(250000, 8)") + bytes(fuzz.MEMORY_BEYOND))]
    content = bytearray(mutate.zipped(members, zipfile.ZIP_DEFLATED))
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 2_000_128)  # what the header alone would need
    assert "cannot be unpacked" in read_as(".npz", tmp_path, bytes(content))


@pytest.mark.parametrize("rows", ["1" * 100_000, "10" * 5000 + "/" + "01" * 5000])
def test_a_matrix_of_long_rows_is_refused(rows: str) -> None:
    with pytest.raises(UsageError, match=f"A row of the matrix has {len(rows.partition('/')[0]):,} entries"):
        validated(Linear, {"matrix": rows}, "the code")


def test_an_archive_of_many_arrays_is_told_in_a_short_sentence(tmp_path: Path) -> None:
    members = [(f"array{number}.npy", npy_bytes(np.zeros(1))) for number in range(5000)]
    said = read_as(".npz", tmp_path, mutate.zipped(members))
    assert "and 4992 more" in said
    assert len(said) < 500


def test_weights_in_a_packed_archive_are_refused(tmp_path: Path) -> None:
    members = [*mutate.members_of(weights_of({"w": torch.zeros(3)})).items()]
    content = mutate.zipped([(name, held + bytes(2**24)) for name, held in members], zipfile.ZIP_DEFLATED)
    assert "damaged or cut short" in read_as(".pt", tmp_path, content)


# --- claims


@pytest.mark.parametrize("rows", [10**12, 2**62, 2**64, 10**30])
def test_a_header_that_claims_too_many_rows_is_refused(rows: int, tmp_path: Path) -> None:
    content = npy_header("|u1", f"({rows}, 8)") + bytes(64)
    packed = npy_header("|u1", f"({rows}, 1)") + bytes(64)
    for kind, held in ((".npy", content), ("matrix.npy", content), ("packed.npy", packed)):
        assert "cut off" in (said := read_as(kind, tmp_path, held)) or "is not a .npy file" in said
    for kind in (".npz", "packed.npz"):
        shape = ("feature_shape.npy", npy_bytes(np.array([8])))
        archive = mutate.zipped([("x.npy", content if kind == ".npz" else packed), *([shape] if "packed" in kind else [])])
        assert "cut off" in (said := read_as(kind, tmp_path, archive)) or "is not a .npy file" in said


def test_images_that_claim_10_to_the_12_values_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(bytes([0, 0, 8, 3]) + struct.pack(">3I", 2, 8, 8) + bytes(128))
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", 10**6, 10**3, 10**3)
    assert "cut off: its header says" in read_as("idx", tmp_path, header + bytes(100))


def test_a_size_of_nothing_hides_no_claim(tmp_path: Path) -> None:
    assert "is not a .npy file" in read_as(".npy", tmp_path, npy_header("|u1", f"(0, {2**63})"))


def test_a_matrix_of_many_rows_of_nothing_is_refused(tmp_path: Path) -> None:
    assert "is empty" in read_as("matrix.npy", tmp_path, npy_header("|u1", f"({2**62}, 0)"))


@pytest.mark.parametrize("kind", [".npz", ".pt"])
def test_a_member_that_claims_to_be_larger_than_its_archive_is_refused(kind: str, tmp_path: Path) -> None:
    content = mutate.zipped([("x.npy", npy_bytes(np.eye(8)))]) if kind == ".npz" else weights_of({"w": torch.zeros(3)})
    changed = bytearray(content)
    entry = changed.index(b"PK\x01\x02")
    changed[entry + 20 : entry + 24] = struct.pack("<I", 2**31)
    said = read_as(kind, tmp_path, bytes(changed))
    assert "claims to be larger than the file" in said or "damaged or cut short" in said


def test_a_number_that_claims_to_be_many_is_refused(tmp_path: Path) -> None:
    content = weights_of({"w": torch.zeros(1).expand(10**6, 10**6)})
    assert "damaged or cut short" in read_as(".pt", tmp_path, content)


@pytest.mark.parametrize("length", [2**20, 2**31, 2**40, 2**63, 2**64 - 1])
def test_a_header_of_safetensors_that_claims_to_be_huge_fills_no_memory(length: int, tmp_path: Path) -> None:
    assert "damaged or cut short" in read_as(".safetensors", tmp_path, struct.pack("<Q", length) + b"{" + bytes(100))


def test_a_tensor_of_safetensors_that_claims_more_than_its_bytes_is_refused(tmp_path: Path) -> None:
    for shape in ([2**40], [2**20, 2**20, 2**20], [2**63], [0, 2**62]):
        header = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}).encode()
        content = struct.pack("<Q", len(header)) + header + bytes(4)
        assert "damaged or cut short" in read_as(".safetensors", tmp_path, content)


def test_a_tensor_that_claims_more_than_its_record_is_refused(tmp_path: Path) -> None:
    members = mutate.members_of(weights_of({"w": torch.zeros(200)}))
    pickled = next(name for name in members if name.endswith("data.pkl"))
    claimed = members[pickled].replace(b"K\xc8", b"J\x00\x00\x00\x40")
    assert claimed != members[pickled]
    assert "damaged or cut short" in read_as(".pt", tmp_path, mutate.zipped([*(members | {pickled: claimed}).items()]))


# --- programs in data


class _Runs:
    def __reduce__(self) -> Any:
        return (os.mkdir, ("it-was-run",))


def test_no_pickle_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    objects = npy_bytes(np.array([[_Runs()]], dtype=object), allow_pickle=True)
    archive = mutate.zipped([("x.npy", objects)])
    for kind, content in ((".npy", objects), ("matrix.npy", objects), ("packed.npy", objects), (".npz", archive)):
        assert "never unpickled" in read_as(kind, tmp_path, content)
    evil = pickle.dumps(_Runs(), protocol=2)
    for content in (evil, mutate.zipped([("a/data.pkl", evil), ("a/version", b"3")])):
        assert "nothing in it was run" in read_as(".pt", tmp_path, content)
    assert not (tmp_path / "it-was-run").exists()


@pytest.mark.parametrize("name", ["builtins bytearray", "torch FloatTensor", "torch._utils _rebuild_meta_tensor_no_storage"])
def test_a_function_that_no_weights_need_is_not_called(name: str, tmp_path: Path) -> None:
    called = b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\n" + b"\x8a\x06" + struct.pack("<Q", 2**40)[:6] + b"\x85R."
    content = mutate.zipped([("a/data.pkl", called), ("a/version", b"3")])
    assert "nothing in it was run" in read_as(".pt", tmp_path, content)


# --- paths


def test_a_name_in_an_archive_is_never_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    bits = npy_bytes(np.eye(8, dtype=np.uint8))
    for name in ("../x.npy", str(tmp_path / "absolute.npy"), "a/../../x.npy", "..\\x.npy", "C:\\x.npy"):
        (inner / "x.npz").write_bytes(mutate.zipped([(name, bits)]))
        Arrays(path=inner / "x.npz").load()
        weights = mutate.members_of(weights_of({"w": torch.zeros(3)}))
        moved = mutate.zipped([(f"{name}/{member.partition('/')[2]}", held) for member, held in weights.items()])
        read_as(".pt", inner, moved)
    assert {path.name for path in tmp_path.rglob("*")} == {"inner", "x.npz", runs.WEIGHTS}


@pytest.mark.parametrize("name", ["figures", "evaluations", "tuning"])
def test_a_link_in_a_comparison_leads_no_write_out_of_it(name: str, tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "comparison"
    outside.mkdir()
    folder.mkdir()
    (folder / name).symlink_to(outside)
    with pytest.raises(InputOutputError, match="is a link that leads out of"):
        ComparisonFolder(folder).write(f"{name}/x.svg", b"<svg/>")
    assert not list(outside.iterdir())


def test_the_weights_of_epochs_are_not_written_through_a_link(tmp_path: Path) -> None:
    outside, run = tmp_path / "outside", runs.Run(tmp_path / "run")
    outside.mkdir()
    run.start({"digest": "d"})
    (run.folder / runs.EPOCHS_FOLDER).symlink_to(outside)
    with pytest.raises(InputOutputError, match="is a link that leads out of"):
        run.save_weights({}, {"w": torch.zeros(2)}, epoch=1)
    assert not list(outside.iterdir())


def test_a_file_that_is_a_link_is_replaced_and_its_target_left(tmp_path: Path) -> None:
    target, folder = tmp_path / "target", tmp_path / "comparison"
    target.write_text("mine")
    folder.mkdir()
    (folder / "report.html").symlink_to(target)
    ComparisonFolder(folder).write("report.html", b"page")
    assert target.read_text() == "mine"
    assert not (folder / "report.html").is_symlink()


# --- documents


def test_a_gigantic_document_is_not_read(tmp_path: Path) -> None:
    for kind in ("comparison", "record", "matrix.csv", "alist", "toml"):
        path = tmp_path / NAMES.get(kind, kind)
        with path.open("wb") as file:
            file.write(b"{}")
            file.truncate(2**36)
        assert not refusal(lambda kind=kind, path=path: READERS[kind](path)).startswith("NOT REFUSED")  # type: ignore[misc]
    assert read_json(tmp_path / "comparison.json") is None


@pytest.mark.parametrize("nested", ["[" * 10**6 + "]" * 10**6, '{"a":' * 10**5 + "1" + "}" * 10**5, "[" * 80 + "]" * 80])
def test_deep_json_is_refused(nested: str, tmp_path: Path) -> None:
    said = read_as("comparison", tmp_path, f'{{"format": 1, "arms": {nested}}}'.encode())
    assert "holds no comparison.json that can be read" in said


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 20_000 + "]" * 20_000,
        "a." * 30_000 + "b = 1",
        "[" + "a." * 30_000 + "b]",
        "a = " + "{b = " * 10_000 + "1" + "}" * 10_000,
        "seed = " + "9" * 50_000,
        "a = 1\n" * 20_000,
    ],
)
def test_toml_that_is_made_to_cost_is_refused(text: str, tmp_path: Path) -> None:
    assert "is not TOML" in read_as("toml", tmp_path, text.encode())


def test_one_gigantic_line_is_refused(tmp_path: Path) -> None:
    assert "has more than" in read_as(".csv", tmp_path, b"0.5," * 2**23)


# --- what is no file


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
@pytest.mark.parametrize("kind", sorted({*READERS} - {"toml"}))
def test_a_pipe_is_not_waited_for(kind: str, tmp_path: Path) -> None:
    path = tmp_path / NAMES.get(kind, kind)
    os.mkfifo(path)
    assert not refusal(lambda: READERS[kind](path)).startswith("NOT REFUSED")


@pytest.mark.parametrize("kind", sorted(READERS))
def test_a_folder_in_the_place_of_a_file_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / NAMES.get(kind, kind)
    path.mkdir()
    assert not refusal(lambda: READERS[kind](path)).startswith("NOT REFUSED")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there are no devices here")
@pytest.mark.parametrize("kind", sorted(READERS))
def test_a_device_is_not_read_for_ever(kind: str, tmp_path: Path) -> None:
    path = tmp_path / NAMES.get(kind, kind)
    path.symlink_to("/dev/zero")
    assert not refusal(lambda: READERS[kind](path)).startswith("NOT REFUSED")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
@pytest.mark.parametrize("name", [LOCK, runs.LOG, runs.LOSS_RECORD, runs.CONFIG])
def test_a_pipe_in_a_run_is_not_waited_for(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)

    def work() -> None:
        run = runs.Run(tmp_path)
        run.config()
        with run.locked():
            run.log("a line")
            run.record(dict.fromkeys(runs.RECORD_COLUMNS, 1.0))
        raise InputOutputError("nothing is in the way.")

    assert not refusal(work).startswith("NOT REFUSED")


def weights_of(weights: dict[str, torch.Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save({"format": 1, "config": "{}", "weights": weights}, buffer)
    return buffer.getvalue()


# --- data sets of pictures and tables


def png_claiming(side: int, packed: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = chunk(b"IDAT", packed or zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [12_000, 2**20, 2**31 - 1])
def test_a_picture_that_claims_too_many_pixels_is_refused(side: int, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(png_claiming(side))
    said = refusal(lambda: Images(path=tmp_path, size=28).load())
    assert "0.png has too many pixels" in said or "0.png is damaged" in said


def test_small_pictures_that_unpack_to_more_than_memory_are_refused(tmp_path: Path) -> None:
    zeros = zlib.compress(bytes(8_001 * 8_000), 9)
    for number in range(40):
        (tmp_path / f"{number}.png").write_bytes(png_claiming(8_000, zeros))
    assert "would unpack to" in refusal(lambda: Images(path=tmp_path).load())


def test_a_chunk_of_a_picture_that_claims_to_be_huge_fills_no_memory(tmp_path: Path) -> None:
    whole = png_claiming(8, zlib.compress(bytes(9 * 8)))
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(whole[:-12] + struct.pack(">I", 2**31 - 1) + b"tEXt" + bytes(100))
    assert "0.png is damaged or cut off" in refusal(lambda: Images(path=tmp_path).load())


def test_text_in_a_picture_fills_no_memory(tmp_path: Path) -> None:
    bomb = b"Comment\0\0" + zlib.compress(bytes(2**28), 9)
    chunk = struct.pack(">I", len(bomb)) + b"zTXt" + bomb + struct.pack(">I", zlib.crc32(b"zTXt" + bomb))
    content = png_claiming(8, zlib.compress(bytes(9 * 8)))
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(content[:33] + chunk + content[33:])
    assert "0.png is damaged or cut off" in refusal(lambda: Images(path=tmp_path).load())


def test_a_tar_bomb_is_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("cifar-10-batches-bin/zeros")
    header.size = 2**31
    member = gzip.compress(bytes(2**26), 1)
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(gzip.compress(header.tobuf()) + 32 * member)
    assert "would unpack to" in refusal(lambda: Cifar10(folder=tmp_path).load())


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE])
def test_a_tar_header_that_claims_to_be_huge_is_refused(kind: bytes, tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 2**33 - 1
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(gzip.compress(header.tobuf() + bytes(2**12)))
    assert "cifar-10-binary.tar.gz" in refusal(lambda: Cifar10(folder=tmp_path).load())


def test_an_archive_of_letters_that_unpacks_to_many_times_its_size_is_refused(tmp_path: Path) -> None:
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", 32 * 2**20, 8, 8)
    name = "gzip/emnist-balanced-train-images-idx3-ubyte.gz"
    content = gzip.compress(header) + 32 * gzip.compress(bytes(2**26), 1)
    for method, words in ((zipfile.ZIP_STORED, "would unpack to 2.0 GiB"), (zipfile.ZIP_DEFLATED, "is cut off")):
        (tmp_path / "gzip.zip").write_bytes(mutate.zipped([(name, content)], method))
        assert words in refusal(lambda: Emnist(folder=tmp_path).load())


def test_a_sparse_matrix_that_claims_to_be_huge_is_refused(tmp_path: Path) -> None:
    for shape in ([3, 10**10], [10**5, 10**5], [2**62, 2]):
        np.savez(tmp_path / "x.npz", format=b"coo", shape=shape, data=[1], row=[0], col=[0])
        assert "would be" in refusal(lambda: Arrays(path=tmp_path / "x.npz").load())


def test_a_table_of_one_value_that_is_a_thousand_times_its_file_is_refused(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    zeros = pyarrow.table({"a": np.zeros(2**27, np.uint8)})
    parquet.write_table(zeros, tmp_path / "x.parquet", compression="zstd", row_group_size=2**27)
    assert "would unpack to 0.5 GiB" in refusal(lambda: Arrays(path=tmp_path / "x.parquet").load())
