"""Every mistake that a person can make: its exit code, a sentence and a hint that name it, and no traceback."""

from __future__ import annotations

import errno
import io
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bvae_cli import runs
from bvae_cli.checkpoints import torch_bytes

from ..outcome import Bvae
from .conftest import TINY

# Mistakes that are known before torch is needed: the arguments, and the words of the answer.
USAGE: dict[str, tuple[tuple[Any, ...], tuple[str, ...]]] = {
    "unknown command": (("trian",), ("trian", "Did you mean 'train'?")),
    "command like nothing": (("zzz",), ("zzz", "train, resume, sample")),
    "unknown option": (("train", "--epoch", 5), ("--epoch", "Did you mean --epochs?")),
    "option like nothing": (("train", "--zzz", 5), ("--zzz", "bvae train --help")),
    "option of the wrong command": (("train", "--num-samples", 5), ("--num-samples",)),
    "glued options": (("train", "-Rn5"), ("-R",)),
    "option without a value": (("train", "--epochs"), ("--epochs", "requires an argument")),
    "trace without a profile": (("train", "--trace", "t.json"), ("--trace", "--profile")),
    "profile of a dry run": (("train", "--profile", "--dry-run"), ("--profile", "--dry-run")),
    "profile over a run": (("train", "--profile", "--overwrite"), ("--profile", "--overwrite")),
    "profile of several seeds": (("train", "--profile", "--seeds", 2), ("--profile", "--seeds", "one model")),
    "empty path of a trace": (("train", "--profile", "--trace", ""), ("path is empty",)),
    "stray word": (("train", "now"), ("now", "unexpected")),
    "unknown code": (("train", "--ecc", "repitition"), ("repitition", "Did you mean 'repetition'?")),
    "code like nothing": (("train", "--ecc", "zzz"), ("zzz", "Valid: bch, convolutional, golay, ")),
    "empty code": (("train", "--ecc", ""), ("Valid: bch, convolutional, golay, ",)),
    "unknown option of a code": (("train", "--ecc", "repetition:Q=2"), ("'Q'", "repetition", "R")),
    "code to check": (("check-ecc", "--ecc", "repitition"), ("Did you mean 'repetition'?",)),
    "unknown data set": (("train", "--dataset", "binarised-mnist"), ("Did you mean 'binarized-mnist'?", "give its path")),
    "data set like nothing": (("train", "--dataset", "zzz"), ("arrays, bars-and-stripes, binarized-mnist",)),
    "option of a data set": (("train", "--dataset", "arrays:pth=a.npy"), ("'pth'", "Did you mean 'path'?")),
    "data set without its option": (("train", "--dataset", "arrays"), ("needs the option 'path'",)),
    "set 8": (("train", "-n", 8), ("--params", "at most 7", "'8'", "0…7")),
    "set -1": (("train", "-n", -1), ("--params", "at least 0")),
    "set x": (("train", "-n", "x"), ("--params", "whole number", "'x'")),
    "latent that does not fit": (
        ("train", "-n", 0, "--ecc-R", 3),
        ("Latent size 100", "3", "99 (33 information bits)", "102 (34 information bits)", "Parameter sets that fit: 5, 7"),
    ),
    "latent that fits no set": (("train", "-n", 0, "--R", 7), ("98 (14", "105 (15", "No parameter set fits")),
    "R 0": (("train", "--R", 0), ("R must be at least 1", "'0'")),
    "R -1": (("train", "--R", -1), ("R must be at least 1", "'-1'")),
    "R 2.5": (("train", "--R", 2.5), ("R must be a whole number", "'2.5'")),
    "R x": (("train", "--R", "x"), ("R must be a whole number", "'x'")),
    "R to check": (("check-ecc", "--R", 0), ("R must be at least 1",)),
    "negative subset": (("train", "--subset", -1), ("--subset", "at least 0", "'-1'")),
    "lr 0": (("train", "--lr", 0), ("--lr", "greater than 0", "'0'")),
    "lr nan": (("train", "--lr", "nan"), ("--lr", "a number", "'nan'")),
    "epochs 0": (("train", "--epochs", 0), ("--epochs", "at least 1", "'0'")),
    "batch 0": (("train", "--batch-size", 0), ("--batch-size", "at least 1")),
    "seed -1": (("train", "--seed", -1), ("--seed", "at least 0")),
    "unknown estimator": (("train", "--estimator", "reinmx"), ("--estimator", "Did you mean 'reinmax'?")),
    "unknown device": (("train", "--device", "gpu"), ("--device", "'gpu'", "auto, cpu, cuda")),
    "temperatures that rise": (("train", "--tau-start", 0.1), ("--tau-end 0.4 is above --tau-start 0.1",)),
    "encoding into nothing": (("encode",), ("--output", "File to write")),
    "encoding into a text file": (
        ("encode", "-o", "codes.csv"),
        ("no .npy or .parquet file", "'codes.csv'", "-o codes.npy"),
    ),
    "packed numbers": (("encode", "-o", "c.npy", "--packed", "--write", "logits"), ("--packed", "logits are numbers")),
    "unknown split to encode": (("encode", "-o", "c.npy", "--split", "tests"), ("--split", "Did you mean 'test'?")),
    "exporting into nothing": (("export", "--to", "torch"), ("--output", "Folder to write")),
    "exporting as nothing": (("export", "-o", "out"), ("--to", "onnx: graphs")),
    "exporting as another kind": (("export", "-o", "out", "--to", "safetensor"), ("--to", "Did you mean 'safetensors'?")),
    "exporting within no tolerance": (("export", "-o", "o", "--to", "torch", "--tolerance", 0), ("--tolerance", "greater")),
    "empty place of an export": (("export", "-o", "", "--to", "torch"), ("--output names no path",)),
    "decoding nothing": (("decode",), ("CODES",)),
    "decoding by no code": (("decode", "x.npy"), ("Nothing says which code", "--ecc repetition --R 3 --latent 300")),
    "decoding into a text file": (("decode", "x.npy", "--R", 3, "-n", 5, "-o", "o.txt"), ("no .npy file", "--output o.npy")),
    "writing what a decoder does not": (("decode", "x.npy", "--write", "logit"), ("--write", "'information-bits'")),
    "more flips than by chance": (("decode", "x.npy", "--R", 3, "-n", 5, "--flip", 0.6), ("--flip", "at most 0.5")),
    "searching nothing": (("search", "x.npy"), ("--in", "Codes to search")),
    "no neighbours": (("search", "x.npy", "--in", "y.npy", "-k", 0), ("--neighbours", "at least 1")),
    "rows to search that are none": (("search", "x.npy", "--in", "y.npy", "--rows", "a-b"), ("'a-b' names no rows", "0-99")),
    "neighbours into a text file": (("search", "x.npy", "--in", "y.npy", "-o", "o.txt"), ("no .npz file", "-o o.npz")),
    "unknown engine": (("search", "x.npy", "--in", "y.npy", "--engine", "fais"), ("--engine", "Did you mean 'faiss'?")),
    "data sets and a name": (("datasets", "list", "mnist"), ("takes no name",)),
    "unknown action on data sets": (("datasets", "pak"), ("'pak'", "Did you mean 'pack'?")),
    "packing nothing": (("datasets", "pack"), ("needs the data and the file", "pack bits.npy packed.npz")),
    "packing into another kind": (("datasets", "pack", "bits.npy", "p.npy"), ("'p.npy'", "p.npz")),
    "packing over a file": (("datasets", "pack", "bits.npy", "."), ("'.'", ".npz")),
    "sample of nothing": (("sample", "--num-samples", 0), ("--num-samples", "at least 1")),
    "unknown split": (("evaluate", "x.pt", "--split", "tset"), ("--split", "Did you mean 'test'?")),
    "figure of no format": (("plot", "x", "-o", "x.bmp"), (".bmp", ".png, .svg, .pdf")),
    "figure of nothing": (("plot",), ("FOLDER",)),
    "rate above a half": (("check-ecc", "--epsilon", 0.7), ("--epsilon", "0.5")),
    "rate that is no number": (("check-ecc", "--epsilon", "x"), ("--epsilon", "number")),
    "measured words": (("check-ecc", "--measure", "x"), ("--measure", "integer")),
    "empty output folder": (("train", "--output-dir", ""), ("--output-dir names no path",)),
    "empty start": (("train", "--init-from="), ("--init-from names no path",)),
    "empty weights": (("sample", "-w", ""), ("--weights names no path",)),
    "empty weights to measure": (("evaluate", ""), ("A path is empty", "'.'")),
    "empty place for samples": (("sample", "-w", "x.pt", "--out", ""), ("--out names no path",)),
    "empty file": (("train", "--dataset", "arrays:path="), ("path names no path",)),
    "empty configuration file": (("train", "--config", ""), ("A path is empty",)),
    "empty folder of runs": (("runs", ""), ("A path is empty",)),
    "empty folder to draw": (("plot", ""), ("A path is empty",)),
    "empty figure": (("plot", "x", "-o", ""), ("A path is empty",)),
    **{
        f"{option} beyond all bounds": (("train", option, "9" * 21), (option, "at most 2147483647"))
        for option in ("--batch-size", "--epochs", "--subset", "--patience", "--beta-warmup-epochs")
    },
    "rows beyond all bounds": (("sample", "--subset", "9" * 21), ("--subset", "at most 2147483647")),
    "unknown action": (("config", "shwo"), ("'shwo'", "Did you mean 'show'?")),
}


@pytest.mark.parametrize("mistake", USAGE)
def test_a_mistake_of_use_is_answered_at_once(bvae: Bvae, workplace: Path, mistake: str) -> None:
    arguments, words = USAGE[mistake]
    bvae(*arguments).refused(2, *words)
    assert [path.name for path in workplace.iterdir()] == ["bits.npy"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("epoch = 3", ("'epoch'", "my.toml", "Did you mean 'epochs'?")),
        ("zzz = 3", ("'zzz'", "config show")),
        ("R = 3", ("'R'", "Did you mean 'ecc_R'?")),
        ("epochs = 0", ("--epochs", "at least 1", "my.toml")),
        ('lr = "fast"', ("--lr", "a number", "my.toml")),
        ("= 3", ("not TOML",)),
        ("ecc = 3", ("ecc", "3", "bvae codes")),
        ("epochs = true", ("--epochs must be a whole number", "got true")),
        ("subset = false", ("--subset must be a whole number", "got false")),
        ("lr = true", ("--lr must be a number", "got true")),
        ("[ecc]\ntype = 'repetition'\nR = true", ("R must be a whole number", "got true")),
        ('[ecc]\ntype = "repitition"', ("Did you mean 'repetition'?",)),
    ],
)
def test_a_mistake_in_a_configuration_file(bvae: Bvae, workplace: Path, content: str, words: tuple[str, ...]) -> None:
    Path("my.toml").write_text(content)
    bvae("train", "--config", "my.toml").refused(2, *words)


def test_a_configuration_file_that_cannot_be_read(bvae: Bvae, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bvae("train", "--config", "none.toml").refused(3, "none.toml", "no such file")
    monkeypatch.setenv("BVAE_CONFIG", "none.toml")
    bvae("train").refused(3, "none.toml", "BVAE_CONFIG")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("BVAE_EPOCH", "3", ("'BVAE_EPOCH'", "Did you mean 'BVAE_EPOCHS'?")),
        ("BVAE_ZZZ", "3", ("'BVAE_ZZZ'",)),
        ("BVAE_R", "3", ("Did you mean 'BVAE_ECC_R'?",)),
        ("BVAE_EPOCHS", "x", ("--epochs", "'x'", "environment")),
        ("BVAE_ECC", "repitition", ("Did you mean 'repetition'?",)),
    ],
)
def test_a_mistake_in_a_variable(
    bvae: Bvae, workplace: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv(name, value)
    bvae("train").refused(2, *words)


@pytest.mark.parametrize(
    "command", ["codes", "runs", "plot", "datasets", "devices", "check-ecc", "config", "sample", "report"]
)
def test_a_variable_that_is_nobodys_is_refused_by_every_command(
    bvae: Bvae, workplace: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("BVAE_JSON", "1")
    bvae(command).refused(2, "no variable 'BVAE_JSON'")
    bvae(command, "--help").succeeded()


# --- data


def _text(content: str, name: str = "bad.csv") -> str:
    Path(name).write_text(content)
    return name


def _array(values: Any, name: str = "bad.npy") -> str:
    np.save(name, values, allow_pickle=True)
    return name


def _with(value: float) -> np.ndarray:
    values = np.full((9, 4), 0.5)
    values[3, 2] = value
    return values


class Evil:
    """A pickle that makes a folder when it is read by somebody careless."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return (os.mkdir, ("pwned",))


def _objects_npz() -> str:
    np.savez("bad.npz", x=np.array([[Evil(), 1], [2, 3]], dtype=object))
    return "bad.npz"


DATA: dict[str, tuple[Callable[[], str], tuple[str, ...]]] = {
    "missing, like nothing": (lambda: "missing.npy", ("no file missing.npy", "Check the path.")),
    "missing": (lambda: "bitz.npy", ("bitz.npy", "Did you mean bits.npy?")),
    "missing folder": (lambda: "no/where.npy", ("no/where.npy",)),
    "empty": (lambda: _text("", "bad.npy"), ("bad.npy", "empty")),
    "empty text": (lambda: _text("", "bad.csv"), ("bad.csv", "empty")),
    "ragged": (lambda: _text("0,1\n1,0\n1\n0,1\n"), ("bad.csv", "Row 3", "1 value", "2 expected")),
    "not numeric": (lambda: _text("a,b\n0,1\n0,x\n1,1\n"), ("bad.csv", "Row 3, column 2", "'x'")),
    "NaN": (lambda: _array(_with(np.nan)), ("bad.npy", "Row 4, column 3", "NaN")),
    "NaN in text": (lambda: _text("0,1\n0,nan\n1,1\n"), ("bad.csv", "Row 2, column 2", "NaN")),
    "infinite": (lambda: _array(_with(np.inf)), ("bad.npy", "Row 4, column 3", "infinite")),
    "too large": (lambda: _array(_with(1.5)), ("bad.npy", "Row 4, column 3", "1.5", "outside 0…1")),
    "negative": (lambda: _array(_with(-0.1)), ("bad.npy", "Row 4, column 3", "-0.1")),
    "grey": (lambda: _array(np.full((9, 4), 200)), ("bad.npy", "Row 1, column 1", "255")),
    "objects": (lambda: _array(np.array([[Evil(), 1], [2, 3]], dtype=object)), ("bad.npy", "never unpickled")),
    "objects in an archive": (_objects_npz, ("bad.npz", "never unpickled")),
    "labels": (lambda: _array(np.arange(20)), ("bad.npy", "labels", "rows × features")),
    "too few rows": (lambda: _array(np.zeros((2, 4))), ("bad.npy", "2")),
    "no array": (lambda: _text("hello", "bad.npy"), ("bad.npy",)),
    "no archive": (lambda: _text("hello", "bad.npz"), ("bad.npz",)),
    "unknown suffix": (lambda: _text("0 1", "bad.dat"), ("bad.dat", ".npy, .npz, .csv")),
    "folder without images": (lambda: ".", ("train-images-idx3-ubyte",)),
}


@pytest.mark.parametrize("kind", DATA)
def test_a_data_file_that_cannot_be_used(bvae: Bvae, workplace: Path, run_folder: Path, kind: str) -> None:
    make, words = DATA[kind]
    name = make()
    bvae("train", *TINY, "--dataset", name).refused(3, *words)
    bvae("evaluate", run_folder, "--dataset", name).refused(3, *words)
    assert not Path("weights").exists()
    assert not Path("pwned").exists()


def test_data_of_another_width_than_the_models(bvae: Bvae, workplace: Path, run_folder: Path) -> None:
    _array(np.zeros((9, 4)))
    bvae("sample", "-w", run_folder, "--dataset", "bad.npy").refused(2, "4 values in a row", "trained on 12")


# --- weights


def _bytes(content: bytes) -> str:
    Path("bad.pt").write_bytes(content)
    return "bad.pt"


def _without_numbers(good: bytes) -> str:
    content = torch.load(io.BytesIO(good), weights_only=True)
    content["weights"]["encoder.layers.0.weight"][0, 0] = float("nan")
    return _bytes(torch_bytes(content))


WEIGHTS: dict[str, tuple[Callable[[bytes], str], tuple[str, ...]]] = {
    "missing": (lambda good: "none.pt", ("There is no file none.pt", "bvae runs")),
    "folder without": (lambda good: ".", ("holds no bvae_best_model_with.pt",)),
    "empty": (lambda good: _bytes(b""), ("bad.pt", "cut short")),
    "cut short": (lambda good: _bytes(good[: len(good) // 2]), ("bad.pt", "cut short")),
    "cut shorter": (lambda good: _bytes(good[:5000]), ("bad.pt", "cut short")),
    "text": (lambda good: _bytes(b"hello\n"), ("bad.pt", "cannot be read")),
    "no numbers": (_without_numbers, ("bad.pt", "not numbers", "damaged")),
    "stranger's pickle": (lambda good: _bytes(pickle.dumps(Evil())), ("bad.pt", "nothing in it was run")),
    "stranger's torch file": (
        lambda good: _bytes(torch_bytes({"x": Evil()})),
        ("bad.pt", "nothing in it was run"),
    ),
    "other weights": (
        lambda good: _bytes(torch_bytes(torch.nn.Linear(2, 2).state_dict())),
        ("bad.pt", "not written by bvae"),
    ),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_a_weights_file_that_cannot_be_used(bvae: Bvae, workplace: Path, run_folder: Path, kind: str) -> None:
    make, words = WEIGHTS[kind]
    name = make((run_folder / runs.WEIGHTS).read_bytes())
    for line in (("sample", "--weights", name), ("evaluate", name), ("train", *TINY, "--init-from", name)):
        bvae(*line).refused(3, *words)
    assert not Path("weights").exists()
    assert not Path("pwned").exists()


def test_a_model_that_was_never_trained(bvae: Bvae, workplace: Path) -> None:
    bvae("sample", "-n", 1).refused(3, "no trained model in weights/hidden_size_200", "bvae train")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-n", 0), ("hidden 8, not 100", "Leave -n")),
        (("--latent", 24), ("latent 12, not 24",)),
        (("--R", 2), ("repetition:R=3, not repetition:R=2",)),
        (("--ecc", "none"), ("repetition:R=3, not none",)),
    ],
)
def test_sizes_or_a_code_that_are_not_those_of_the_weights(
    bvae: Bvae, workplace: Path, run_folder: Path, options: tuple[Any, ...], words: tuple[str, ...]
) -> None:
    bvae("sample", "-w", run_folder, *options).refused(2, *words)


# --- the output folder


def test_an_output_folder_that_cannot_be_written(
    bvae: Bvae, workplace: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bvae("train", *TINY, "--output-dir", "bits.npy").refused(3, "bits.npy is not a folder", "--output-dir")
    bvae("train", *TINY, "--output-dir", "bits.npy/deeper").refused(3, "Cannot write to bits.npy/deeper")
    bvae("sample", "-w", run_folder, "--out", "bits.npy").refused(3, "Cannot write to bits.npy: it is a file, not a folder")
    bvae("plot", run_folder, "-o", "bits.npy/x.png").refused(3, "Cannot write to bits.npy")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", refuse)
    bvae("train", *TINY, "--output-dir", "there").refused(3, "Cannot write to there", "read-only")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_an_output_folder_that_belongs_to_somebody_else(bvae: Bvae, workplace: Path) -> None:
    Path("theirs").mkdir(mode=0o500)
    bvae("train", *TINY, "--output-dir", "theirs").refused(3, "Cannot write to theirs", "permission denied")


def test_a_file_where_runs_are_looked_for(bvae: Bvae, workplace: Path) -> None:
    bvae("runs", "bits.npy").refused(3, "bits.npy is a file, not a folder")


def test_a_record_that_is_cut_short_is_not_drawn(bvae: Bvae, workplace: Path, run_folder: Path) -> None:
    shutil.copytree(run_folder, "run")
    for content in (b"", b"# training", b"\xff\xfe"):
        Path("run", runs.LOSS_RECORD).write_bytes(content)
        bvae("plot", "run").refused(3, "is not a loss record")


def test_an_output_folder_that_is_a_run(bvae: Bvae, workplace: Path, run_folder: Path) -> None:
    shutil.copytree(run_folder, "run")
    before = {path: path.read_bytes() for path in Path("run").iterdir()}
    bvae("train", *TINY, "--output-dir", "run").refused(2, "run holds a run", "--output-dir")
    assert {path: path.read_bytes() for path in Path("run").iterdir()} == before


def test_an_output_folder_with_another_run_in_the_place(bvae: Bvae, workplace: Path) -> None:
    first = Path(bvae("train", *TINY, "--json").succeeded().json()["folder"])
    before = {path: path.read_bytes() for path in first.iterdir()}
    second = Path(bvae("train", *TINY, "--seed", 1, "--overwrite", "--json").succeeded().json()["folder"])
    assert second != first
    assert {path: path.read_bytes() for path in first.iterdir()} == before


def test_a_state_that_is_damaged_is_told(bvae: Bvae, workplace: Path) -> None:
    folder = Path(bvae("train", *TINY, "--json").succeeded().json()["folder"])
    (folder / runs.RESULT).rename(folder / runs.STATE)
    told = bvae("train", *TINY).succeeded().err
    assert f"Note: {folder}/last.pt is damaged: training starts anew" in told
    assert f"kept in {folder}/damaged_1." in told
    assert [row["state"] for row in bvae("runs", "--json").succeeded().json()] == ["finished", "set aside"]
    (folder / runs.RESULT).write_text("{")
    bvae("train", *TINY).refused(3, "result.json is damaged", "delete it")


def test_a_lock_that_is_damaged_is_told(bvae: Bvae, workplace: Path) -> None:
    folder = Path(bvae("train", *TINY, "--dry-run", "--json").succeeded().json()["folder"])
    folder.mkdir(parents=True)
    (folder / ".lock").write_text("junk")
    bvae("train", *TINY).refused(2, ".lock is damaged", "If no process works there, delete it.")


def test_a_run_that_another_process_has(bvae: Bvae, workplace: Path) -> None:
    folder = Path(bvae("train", *TINY, "--dry-run", "--json").succeeded().json()["folder"])
    with runs.Run(folder).locked():
        bvae("train", *TINY).refused(2, "in use by process", str(os.getpid()))


# --- the machine


def test_a_device_that_is_not_there(bvae: Bvae, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for command in (("train", *TINY), ("sample", "-w", "x.pt")):
        bvae(*command, "--device", "cuda").refused(2, "no CUDA device", "--device cpu")
        bvae(*command, "--device", "mps").refused(2, "no MPS device", "--device cpu")
    bvae("train", *TINY, "--amp", "fp16").refused(2, "--amp fp16", "--amp bf16")
    assert not Path("weights").exists()


def test_a_batch_larger_than_the_data_is_no_mistake(bvae: Bvae, workplace: Path) -> None:
    facts = bvae("train", *TINY, "--batch-size", 1_000_000, "--dry-run", "--json").succeeded().json()
    assert facts["steps_per_epoch"] == 1
    assert bvae("train", *TINY, "--batch-size", 1_000_000, "--json").succeeded().json()["epochs"] == 2
