"""Odd places: names, homes, terminals, locales, line endings, clocks and streams as people have them."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bvae_cli.cli.process import LENIENT

from ..conftest import write_bits
from ..helpers import uncounted
from ..outcome import Bvae
from .conftest import TINY

ODD = 'two  words, o\'d "quote" ü 日本 $HOME `id`\nline [bold]x[/bold]\x1b[31m'
STRAY = os.fsdecode(b"stray-\xff\xfe")
LONGEST = "ü" * 127 + "x"  # 255 bytes
# Runs each of several lines of arguments in one process, as that costs one import of torch.
SEVERAL = """
import json, os, sys
from bvae_cli.cli.app import main
for line in json.loads(sys.argv[1]):
    try:
        main([os.fsdecode(word.encode()) for word in line])
    except SystemExit as end:
        print("code", end.code, file=sys.stderr)
"""
BOM = b"\xef\xbb\xbf"


def as_windows_writes(text: str) -> bytes:
    return BOM + text.encode().replace(b"\n", b"\r\n")


def several(*lines: tuple[object, ...], through: tuple[str, ...] = (), **how: Any) -> subprocess.CompletedProcess[bytes]:
    words = json.dumps([list(map(str, line)) for line in lines])
    return subprocess.run([*through, sys.executable, "-c", SEVERAL, words], capture_output=True, timeout=120, **how)


def codes_of(done: subprocess.CompletedProcess[bytes]) -> list[int]:
    assert b"Traceback" not in done.stderr, done.stderr
    return [int(code) for code in re.findall(rb"^code (\d+)$", done.stderr, re.MULTILINE)]


# --- names


@pytest.mark.parametrize("name", [ODD, LONGEST, "~", "-dash", "a:b=c,d"], ids=ascii)
def test_every_command_works_in_a_folder_of_any_name(name: str, bvae: Bvae, workplace: Path) -> None:
    folder = Path("top") / name
    folder.mkdir(parents=True)
    write_bits(folder / "bits.npy")
    data = f"arrays:path=({folder / 'bits.npy'})" if "," in name else folder / "bits.npy"
    trained = bvae("train", *TINY, "--dataset", data, "--output-dir", folder / "runs", "--json").succeeded()
    run = Path(trained.json()["folder"])
    assert run.parent == folder / "runs"
    said = [
        bvae("evaluate", run).succeeded().out,
        bvae("sample", "-w", run, "--num-samples", 4, "--iwae-samples", 1).succeeded().out,
        bvae("encode", run, "-o", folder / "codes.npy").succeeded().out,
        bvae("runs", folder).succeeded().out,
        bvae("datasets", "pack", data, folder / "packed.npz").succeeded().err,
        bvae("train", "--dataset", folder / "missing.npy").err,
    ]
    assert bvae("plot", run).succeeded().out == f"{run / 'loss_curves.png'}\n"
    assert np.load(folder / "codes.npy").shape == (60, 12)
    # What is said is on one line and cannot speak to the terminal; what it says to type is what a shell reads as the name.
    assert not any("\x1b" in text for text in said)
    assert name != ODD or all(r"\n" in text and "\nline" not in text for text in said)
    (hint,) = [line for line in said[-2].splitlines() if line.startswith("Next:")]
    quoted = hint.removeprefix("Next: bvae train --dataset ")
    read = subprocess.run(["bash", "-c", f"printf %s {quoted}"], capture_output=True, check=True)
    assert Path(os.fsdecode(read.stdout)).samefile(folder / "packed.npz")


def test_a_run_moves_into_a_folder_whose_name_is_no_text(bvae: Bvae, workplace: Path, run_folder: Path) -> None:
    run = Path(STRAY) / "run"
    shutil.copytree(run_folder, run)
    write_bits(Path(STRAY) / "bits.npy")
    shown = bvae("evaluate", run, "--dataset", f"{STRAY}/bits.npy").succeeded()
    assert r"stray-\xff\xfe/run" in shown.out
    assert bvae("runs", STRAY, "--json").succeeded().json()[0]["folder"] == str(run)
    bvae("encode", run, "--dataset", f"{STRAY}/bits.npy", "-o", f"{STRAY}/codes.npy").succeeded()
    shutil.copytree(run, f"{STRAY}-2/run")
    drawn = bvae("plot", run, f"{STRAY}-2/run", "-o", f"{STRAY}/curves.svg").succeeded()
    assert drawn.out == f"{STRAY}/curves.svg\n"  # a script gets the very bytes
    bvae("evaluate", f"{STRAY}/none").refused(3, r"stray-\xff\xfe/none")


def test_a_model_is_trained_in_a_folder_whose_name_is_no_text(bvae: Bvae, workplace: Path) -> None:
    bvae("train", *TINY, "--output-dir", STRAY).succeeded()
    (run,) = Path(STRAY).iterdir()
    assert os.fsencode(STRAY) in (run / "training_log.txt").read_bytes()
    bvae("evaluate", run).succeeded()


def test_a_name_of_the_longest_length_is_written(bvae: Bvae, workplace: Path, run_folder: Path) -> None:
    bvae("encode", run_folder, "--dataset", "bits.npy", "-o", "x" * 251 + ".npy").succeeded()
    bvae("plot", run_folder, "-o", "x" * 251 + ".png").succeeded()


def test_a_name_that_is_too_long_is_told_so(bvae: Bvae, workplace: Path, run_folder: Path) -> None:
    beyond_the_path, beyond_the_name = Path(*["x" * 255] * 20), Path("x" * 256)
    for path in (beyond_the_path, beyond_the_name):
        for line in (("evaluate", path), ("runs", path), ("sample", "-w", path)):
            bvae(*line).refused(3, "file name too long", "Take a shorter name")
        bvae("train", "--dataset", f"{path}.npy").refused(3, "file name too long", "Take a shorter name")
        bvae("config", "show", "--config", path).refused(3, "file name too long")
        bvae("encode", run_folder, "-o", f"{path}.npy").refused(3, "file name too long")
        bvae("codes", "show", "ldpc", "--alist", path).refused(3, "ile name too long")


def test_a_folder_to_work_in_that_is_gone_or_too_deep_is_told_so(
    bvae: Bvae, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gone").mkdir()
    os.chdir("gone")
    (tmp_path / "gone").rmdir()
    for line in (("codes",), ("train",), ("runs", tmp_path)):
        bvae(*line).refused(3, "current folder is not there any more", "cd ..")
    bvae("train", "--help").succeeded()
    os.chdir(tmp_path)
    for _ in range(17):
        Path("x" * 255).mkdir()
        os.chdir("x" * 255)
    bvae("devices").refused(3, "path of the current folder is too long")


# --- homes


def test_a_tilde_is_the_home_folder_wherever_it_is_said(
    bvae: Bvae, workplace: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = workplace / "home"
    shutil.copytree(run_folder, home / "run")
    monkeypatch.setenv("HOME", str(home))
    (home / "file.toml").write_text('output_dir = "~/from the file"\nhidden = 8\nlatent = 12\nepochs = 1\n')
    bvae("train", "--config", "~/file.toml", "--dataset", "bits.npy").succeeded()
    bvae("train", *TINY, "--output-dir=~/from the flag").succeeded()
    monkeypatch.setenv("BVAE_OUTPUT_DIR", "~/from the variable")
    bvae("train", *TINY).succeeded()
    for place in ("file", "flag", "variable"):
        assert len(list((home / f"from the {place}").iterdir())) == 1
    bvae("encode", "--weights=~/run", "--dataset", "bits.npy", "--output=~/codes.npy").succeeded()
    bvae("plot", "~/run", "--out=~/curves.png").succeeded()
    assert {"codes.npy", "curves.png"} <= {path.name for path in home.iterdir()}
    assert not Path("~").exists()


def test_the_home_of_nobody_is_a_file_that_is_not_there(bvae: Bvae, workplace: Path) -> None:
    bvae("train", "--dataset", "~no-such-user/bits.npy").refused(3, "There is no file ~no-such-user/bits.npy")
    bvae("config", "show", "--config", "~no-such-user/x.toml").refused(3, "~no-such-user/x.toml cannot be read")


def test_without_a_home_nothing_is_remembered_and_a_download_says_what_to_do(
    bvae: Bvae, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home(application: str) -> Path:
        raise RuntimeError("could not determine the home directory")

    for folder in ("data", "cache", "config"):
        monkeypatch.delenv(f"BVAE_{folder.upper()}_DIR")
        monkeypatch.setattr(f"platformdirs.user_{folder}_path", no_home)
    bvae("train", *TINY).succeeded()
    bvae("config", "show").succeeded()
    bvae("devices").succeeded()
    bvae("train", *TINY[2:], "--dataset", "mnist").refused(3, "no home folder", "BVAE_DATA_DIR")
    assert sorted(path.name for path in workplace.iterdir()) == ["bits.npy", "weights"]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user can enter and nobody but its owner can write to; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can become somebody else")
def test_a_user_without_a_home_and_without_rights_gets_sentences(open_folder: Path, run_folder: Path) -> None:
    write_bits(open_folder / "bits.npy")
    for name in ("run", "locked"):
        shutil.copytree(run_folder, open_folder / name)
    (open_folder / "locked").chmod(0o700)
    (open_folder / "free").mkdir()
    (open_folder / "free").chmod(0o777)
    become = ("setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups")
    stranger: dict[str, Any] = {"through": become, "cwd": open_folder}
    environment = {name: value for name, value in uncounted().items() if name != "HOME" and "_DIR" not in name}
    check = [*become, sys.executable, "-c", "import bvae_cli"]
    if subprocess.run(check, cwd="/", env=environment, capture_output=True).returncode:
        pytest.skip("another user cannot start this Python")
    done = several(
        ("train", *TINY, "--output-dir", "free"),
        ("train", *TINY),
        ("evaluate", "run", "--dataset", "bits.npy"),
        ("sample", "-w", "run", "--dataset", "bits.npy"),
        ("encode", "run", "--dataset", "bits.npy", "-o", "codes.npy"),
        ("datasets", "pack", "bits.npy", "packed.npz"),
        ("evaluate", "locked"),
        ("config", "show", "--config", "locked/x.toml"),
        ("train", *TINY, "--output-dir", "locked"),
        env=environment,
        **stranger,
    )
    assert codes_of(done) == [0, 3, 0, 3, 3, 3, 3, 3, 3], done.stderr.decode()
    assert done.stderr.count(b"ermission denied") == 7
    assert sorted(path.name for path in open_folder.iterdir()) == ["bits.npy", "free", "locked", "run"]
    # The home folder of somebody else, as `su` leaves it.
    elsewhere = several(("config", "show"), env={**environment, "HOME": str(open_folder / "locked")}, **stranger)
    assert codes_of(elsewhere) == [0], elsewhere.stderr.decode()
    named = {**environment, "BVAE_CONFIG_DIR": str(open_folder / "locked")}
    assert codes_of(several(("config", "show"), env=named, **stranger)) == [3]


def test_whoever_has_no_home_is_not_told_where_a_library_keeps_its_fonts(bvae: Bvae) -> None:
    bvae("codes").succeeded()
    assert not logging.getLogger("matplotlib").isEnabledFor(logging.WARNING)


def test_a_cache_that_cannot_be_kept_is_no_error(bvae: Bvae, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").touch()
    monkeypatch.setenv("BVAE_CACHE_DIR", str(workplace / "file" / "below"))
    bvae("train", *TINY).succeeded()


# --- terminals


def on_a_terminal(columns: int, *words: object, **variables: str) -> tuple[int, str]:
    """Run a command on a terminal of so many columns; return its code and what was written to it."""
    own, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    line = [sys.executable, "-m", "bvae_cli", *map(str, words)]
    environment = {**os.environ, "TERM": "xterm", **variables}
    with subprocess.Popen(line, stdin=its, stdout=its, stderr=its, env=environment) as process:
        written, ended = b"", False
        while True:
            if select.select([own], [], [], 0.1)[0]:
                written += os.read(own, 65536)
            elif ended:
                break
            ended = process.poll() is not None
    os.close(own)
    os.close(its)  # only now: what is still unread goes with the last writer
    return process.returncode, written.decode()


def test_a_terminal_of_forty_columns_shows_whole_figures(workplace: Path) -> None:
    code, text = on_a_terminal(40, "train", *TINY[:-4], "--epochs", 12, "--batch-size", 16)
    assert code == 0
    painted = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    bars = [line for line in re.split(r"[\r\n]+", painted) if line.startswith("epoch")]
    shown = [bar for bar in bars if "val_loss" in bar]
    assert shown, bars
    assert all(len(bar) <= 40 and "…" not in bar for bar in bars)
    assert all(re.search(r"val_loss \d+\.\d\d ", bar) for bar in shown)
    code, text = on_a_terminal(40, "check-ecc", TERM="dumb")
    assert (code, "\x1b" in text) == (0, False)
    assert "latent N  300\r\n" in text
    code, text = on_a_terminal(40, "train", "--help")
    assert code == 0
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("variable", ["NO_COLOR", "FORCE_COLOR"])
def test_colours_are_as_asked_for_and_figures_the_same(
    variable: str, bvae: Bvae, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = bvae("runs", run_folder.parent).succeeded().out
    json_plain = bvae("runs", run_folder.parent, "--json").succeeded().out
    monkeypatch.setenv(variable, "1")
    coloured = bvae("runs", run_folder.parent).succeeded().out
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain
    assert variable == "FORCE_COLOR" or "\x1b" not in coloured
    assert bvae("runs", run_folder.parent, "--json").succeeded().out == json_plain


def test_a_locale_without_letters_works_on_any_name_and_gives_it_back(workplace: Path, run_folder: Path) -> None:
    shutil.copytree(run_folder, workplace / "ü" / "run")
    strict = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = several(
        ("plot", "ü/run"),
        ("evaluate", "ü/run", "--dataset", "bits.npy"),
        ("train", *TINY, "--output-dir", "ü", "--json"),
        ("train", "--help"),
        env={**os.environ, **strict},
    )
    assert codes_of(done) == [0, 0, 0, 0], done.stderr.decode()
    assert done.stdout.startswith("ü/run/loss_curves.png\n".encode())
    assert (workplace / "ü" / "run" / "loss_curves.png").exists()


def test_a_stream_writes_stray_bytes_as_they_are_and_what_it_lacks_as_a_question_mark() -> None:
    assert "a\udcffb".encode("utf-8", LENIENT) == b"a\xffb"
    assert "ε\udcff\udcfeε".encode("ascii", LENIENT) == b"?\xff\xfe?"
    assert "\ud800 ü".encode("latin-1", LENIENT) == b"? \xfc"


# --- line endings


WINDOWS_TABLES = {
    "plain.csv": "0,1,1\n1,0,1\n" * 20,
    "header.csv": "a;b;c\n0;1;1\n1;0;1\n0;1;0\n1;1;1\n",
    "quoted.csv": '"0","1"\n"1","0"\n"1","1"\n"0","0"\n',
    "blank lines.tsv": "x\ty\n\n0\t1\n1\t0\n\n1\t1\n0\t0\n",
    "blanks.txt": "0 1\n1 0\n1 1\n",
}


@pytest.mark.parametrize("name", WINDOWS_TABLES)
def test_a_table_that_windows_wrote_is_the_table_itself(name: str, bvae: Bvae, workplace: Path) -> None:
    runs = []
    for folder, write in (("unix", str.encode), ("windows", as_windows_writes)):
        Path(folder).mkdir()
        (Path(folder) / name).write_bytes(write(WINDOWS_TABLES[name]))
        bvae("datasets", "pack", f"{folder}/{name}", f"{folder}/packed.npz").succeeded()
        with np.load(f"{folder}/packed.npz") as packed:
            runs.append({key: packed[key].tolist() for key in packed if key not in ("licence", "source")})
    assert runs[0] == runs[1]


def test_files_that_windows_wrote_are_read_as_any(bvae: Bvae, workplace: Path, run_folder: Path) -> None:
    Path("x.toml").write_bytes(as_windows_writes('# ü\nparams = 5\n[ecc]\ntype = "repetition"\nR = 3\n'))
    shown = bvae("config", "show", "--config", "x.toml", "--json").succeeded().json()
    assert shown["latent"]["value"] == 300
    # The [3, 2] parity code in MacKay's format.
    Path("x.alist").write_bytes(as_windows_writes("3 1\n1 3\n1 1 1\n3\n1\n1\n1\n1 2 3\n"))
    assert bvae("codes", "show", "ldpc", "--alist", "x.alist", "--json").succeeded().json()["k"] == 2
    Path("x.txt").write_bytes(as_windows_writes("1 0 1\n0 1 1\n"))
    assert bvae("codes", "show", "linear", "--matrix", "x.txt", "--json").succeeded().json()["k"] == 2
    good = Path(__file__).parent.parent / "plugins" / "good" / "bvae_good.py"
    Path("x_windows.py").write_bytes(as_windows_writes(good.read_text()))
    bvae("codes", "check", "x_windows.py:wrong=1").refused(2, "option of a code in x_windows.py")  # so it was imported
    shutil.copytree(run_folder, "run")
    for name in ("loss_record_with.txt", "config.json", "result.json", "metrics.jsonl"):
        path = Path("run") / name
        path.write_bytes(as_windows_writes(path.read_text()))
    before = bvae("runs", run_folder, "--json").succeeded().json()[0]
    assert bvae("runs", "run", "--json").succeeded().json()[0] | {"folder": before["folder"]} == before
    bvae("plot", "run").succeeded()


# --- clocks, masks and streams


def test_a_clock_that_goes_backwards_makes_no_time_negative(
    bvae: Bvae, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, hours = time.time, iter(range(10**9))
    monkeypatch.setattr("time.time", lambda: real() - 3600 * next(hours))
    trained = bvae("train", *TINY, "--json").succeeded().json()
    assert 0 < trained["seconds"] < 3600
    rows = [json.loads(line) for line in (Path(trained["folder"]) / "metrics.jsonl").read_text().splitlines()]
    assert all(row["seconds"] > 0 and row["images_per_second"] > 0 for row in rows)
    encoded = bvae("encode", trained["folder"], "-o", "codes.npy", "--json").succeeded().json()
    assert 0 < encoded["seconds"] < 3600
    assert bvae("runs", "weights", "--json").succeeded().json()[0]["state"] == "finished"


@pytest.mark.parametrize(("mask", "files", "folders"), [(0o077, 0o600, 0o700), (0o002, 0o664, 0o775)])
def test_files_are_open_to_whom_the_mask_says(mask: int, files: int, folders: int, bvae: Bvae, workplace: Path) -> None:
    before = os.umask(mask)
    try:
        run = bvae("train", *TINY, "--json").succeeded().json()["folder"]
        bvae("plot", run).succeeded()
        bvae("encode", run, "-o", "weights/codes.npy").succeeded()
        bvae("export", run, "--to", "torch", "-o", "weights/out", "--iwae-samples", 1).succeeded()
        bvae("sample", "-w", run, "--iwae-samples", 1).succeeded()
    finally:
        os.umask(before)
    for path in Path("weights").rglob("*"):
        assert path.stat().st_mode & 0o777 == (folders if path.is_dir() else files), path


EVERY = {
    "train": ("train", *TINY, "--overwrite"),
    "train --seeds": ("train", *TINY, "--overwrite", "--seeds", 2),
    "train --dry-run": ("train", *TINY, "--dry-run"),
    "sample": ("sample", "-w", "run", "--iwae-samples", 1),
    "evaluate": ("evaluate", "run", "--iwae-samples", 1),
    "encode": ("encode", "run", "-o", "codes.npy", "--overwrite"),
    "export": ("export", "run", "--to", "torch", "-o", "out", "--overwrite", "--iwae-samples", 1),
    "decode": ("decode", "words.npy", "--ecc", "repetition", "--latent", 12, "-o", "decoded.npy", "--overwrite"),
    "search": ("search", "words.npy", "--in", "words.npy", "-o", "found.npz", "--overwrite"),
    "compare --dry-run": ("compare", *TINY, "--dataset", "many.npy", "--calibration-bins", 2, "--dry-run", "--R", 3),
    "runs": ("runs", "run"),
    "plot": ("plot", "run"),
    "check-ecc": ("check-ecc",),
    "codes": ("codes",),
    "codes show": ("codes", "show", "hamming"),
    "datasets": ("datasets",),
    "datasets pack": ("datasets", "pack", "bits.npy", "packed.npz", "--overwrite"),
    "devices": ("devices",),
    "config": ("config", "show"),
}


def test_whoever_reads_nothing_of_any_command_stops_nothing(
    bvae: Bvae, workplace: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run_folder, "run")
    write_bits(Path("many.npy"), rows=300)
    write_bits(Path("words.npy"))
    for name, line in EVERY.items():
        for more in ((), ("--json",), ("--help",)):
            if name == "plot" and more == ("--json",):
                continue
            read, write = os.pipe()
            os.close(read)
            with monkeypatch.context() as patch, open(write, "w", encoding="utf-8") as nobody:  # noqa: PTH123
                patch.setattr("sys.stdout", nobody)
                done = bvae(*line, *more)
            assert done.code == 0, (name, more, done.err)
            assert "Error" not in done.err, (name, more, done.err)
            assert "Traceback" not in done.err
    (trained,) = [path for path in Path("weights").glob("*_depth_1_beta_1.0_lr_0.001") if (path / "result.json").exists()]
    assert json.loads((trained / "result.json").read_text())["state"] == "finished"
    assert np.load("codes.npy").shape == (60, 4)
