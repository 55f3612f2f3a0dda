"""Run what the pages show: refusals of ``troubleshooting.md``, the steps of tutorials, examples in Python.

    python docs/check_examples.py [PAGE …] [--pictures]

A block ``console`` of ``troubleshooting.md`` holds one command and the ``Error:`` and ``Hint:`` lines that it must print.
A tutorial's blocks ``console`` and ``python`` run one after the other in a folder of its own; a command goes on behind a
backslash at the end of its line. Below each command, and in the
block ``text`` behind a program, stand lines that it must print, in which numbers may be others; a command that shows an
``Error:`` must fail. A picture that the page shows as ``images/PAGE/FILE.png`` must be as large as the FILE.png that the
steps made; ``--pictures`` puts these in the place of those shown. With names of tutorials only those are run.
"""

from __future__ import annotations

import argparse
import contextlib
import doctest
import importlib.util
import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

_DOCS = Path(__file__).resolve().parent
# Each runs in a folder of its own, without what another has made.
_TUTORIALS = (
    "use-the-bits.md",
    "images.md",
    "interpretable-bits.md",
    "your-own-table.md",
    "export.md",
    "coded-dvae.md",
    "noisy-storage.md",
)
_STEP = re.compile(r"^```(console|python)\n(.+?)^```$(?:\s+^```text\n(.+?)^```$)?", re.MULTILINE | re.DOTALL)
_TALK = ("Error:", "Hint:")
_NUMBER = re.compile(r"\d[\d,.]*|…")
_BLOCK = re.compile(r"^```console\n\$ (?P<command>.+)\n(?P<said>(?:.+\n)+?)```$", re.MULTILINE)


def make_files() -> None:
    """Make, in the current folder, the files that the commands name."""
    bits = (np.random.default_rng(0).random((300, 64)) < 0.3).astype("float32")
    np.save("bits.npy", bits.astype("uint8"))
    np.save("grey.npy", np.tile(np.array([0, 217, 90], "uint8"), (30, 1)))
    np.save("objects.npy", np.array([1, [2]], dtype=object), allow_pickle=True)
    np.savez("two.npz", a=bits, b=bits)
    np.save("packed.npy", np.packbits(bits.astype("uint8"), axis=1))
    np.save("columns.npy", np.asfortranarray(bits))
    np.save("real.npy", bits / 2)
    bits[3, 4] = np.nan
    np.save("missing.npy", bits)
    Path("ragged.csv").write_text("a,b,c\n0,1,1\n0,1\n")
    Path("words.csv").write_text("a,b\n0,1\n0,x\n1,1\n")
    Path("papers").mkdir()
    Path("papers/notes.txt").write_text("keep\n")
    Path("study.toml").write_text("epoch = 3\n")
    Path("pickle.pt").write_bytes(pickle.dumps({"a": print}))
    torch.save({"a": torch.zeros(1)}, "foreign.pt")
    Path("cut.safetensors").write_bytes(b"\xff" * 20)
    Path("cut.pt").write_bytes(Path("foreign.pt").read_bytes()[:200])
    _bvae("train --dataset bits.npy --hidden 16 --latent 8 --epochs 1 --output-dir made")
    (found,) = Path("made").iterdir()
    shutil.move(found, "weights/model")
    content = torch.load("weights/model/bvae_best_model_with.pt", weights_only=True)
    content["weights"]["encoder.layers.0.bias"][0] = float("nan")
    torch.save(content, "nan.pt")


def wrong_refusals() -> list[str]:
    """Run every command of the page and say what differs."""
    blocks = list(_BLOCK.finditer((_DOCS / "troubleshooting.md").read_text(encoding="utf-8")))
    with ThreadPoolExecutor(2) as pool:
        return [wrong for wrong in pool.map(lambda block: _wrong(block["command"], block["said"]), blocks) if wrong]


def _wrong(command: str, said: str) -> str | None:
    if _out_of_place(command):
        return None
    before, _, arguments = command.partition("bvae ")
    done = _bvae(arguments, dict(item.split("=", 1) for item in before.split()))
    printed = "".join(line for line in done.stderr.splitlines(True) if line.startswith(_TALK))
    if printed == said and done.returncode:
        return None
    return f"$ {command}\n  the page says:\n{said}  bvae says (exit {done.returncode}):\n{printed}"


@dataclass(frozen=True)
class Step:
    """What a page says to run, as a person reads it and as arguments of Python, and the lines that it must print."""

    said: str
    arguments: list[str]
    shown: list[str]


def steps_of(page: Path) -> Iterator[Step]:
    """Yield what a page runs: every command of its consoles, and every program that is no dialogue."""
    for kind, block, printed in _STEP.findall(page.read_text(encoding="utf-8")):
        if kind == "python" and ">>>" not in block:
            yield Step(f"the program\n{block}", ["-c", block], printed.splitlines())
        for step in re.sub(r"\\\n\s*", "", block).split("$ bvae ")[1:] if kind == "console" else ():
            command, *shown = step.splitlines()
            yield Step(f"$ bvae {command}", ["-m", "bvae_cli", *_expanded(command)], shown)


def wrong_lines(page: Path, keep_pictures: bool) -> list[str]:
    """Run the steps of a page in turn in a folder of their own; say which fail or print other lines than are shown."""
    wrong = []
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
        for step in steps_of(page):
            done = _python(step.arguments)
            talk = [line for line in done.stderr.splitlines() if line.startswith(_TALK)]
            printed = {_masked(line) for line in [*done.stdout.splitlines(), *talk]}
            missing = [line for line in step.shown if line and _masked(line) not in printed]
            refused = any(line.startswith(_TALK) for line in step.shown)
            if bool(done.returncode) != refused or missing:
                wrong.append(f"{page.name}: {step.said}\n  is not shown: {missing}\n{done.stdout}{done.stderr}")
        return wrong + wrong_pictures(page, keep_pictures)


def wrong_pictures(page: Path, keep: bool) -> list[str]:
    """Say which pictures of a page were not made in this folder, or in another size; ``keep`` takes them as they are here."""
    folder = f"images/{page.stem}"
    wrong = []
    for name in re.findall(rf"\b{folder}/(\S+\.png)", page.read_text(encoding="utf-8")):
        made, kept = Path(name), _DOCS / folder / name
        if not made.exists():
            wrong.append(f"{page.name} shows {name}, which no command made")
        elif keep:
            kept.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(made) as picture:
                picture.convert("RGB").save(kept, optimize=True)
        elif _size(made) != _size(kept):
            wrong.append(f"{page.name} shows {name} of {_size(kept)} pixels; the commands made one of {_size(made)}")
    return wrong


def _size(picture: Path) -> tuple[int, int]:
    with Image.open(picture) as opened:
        return opened.size


def _expanded(command: str) -> list[str]:
    """Return the words of a command, the paths that one with * stands for in its place, as a shell does."""
    words = [sorted(map(str, Path().glob(word))) if "*" in word else [word] for word in shlex.split(command)]
    return [path for paths in words for path in paths]


def _masked(line: str) -> str:
    """Return a line without its numbers and the width of its columns; a list of numbers is as good as one."""
    return re.sub(r"#(, #)+", "#", " ".join(_NUMBER.sub("#", line).split()))


def _bvae(arguments: str, variables: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return _python(["-m", "bvae_cli", *arguments.split()], variables)


def _python(arguments: list[str], variables: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("BVAE_", "DISABLE_"))}
    environment |= {"BVAE_CONFIG_DIR": "none", "BVAE_THREADS": "1", **(variables or {})}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, encoding="utf-8", check=False)


def wrong_examples(page: Path) -> int:
    """Run the ``>>>`` lines of a page and return how many differ."""
    text = re.sub(r"^```.*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    return doctest.DocTestRunner().run(test).failed


def _out_of_place(command: str) -> bool:
    """Say whether this machine has what the command's refusal says is not there."""
    tensorboard = "--tensorboard" in command and importlib.util.find_spec("tensorboard") is not None
    return tensorboard or ("cuda" in command and torch.version.cuda is not None)


def main() -> int:
    """Check the pages that are named, or all, and say what is wrong and what each tutorial took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tutorials", nargs="*", metavar="PAGE", help=f"of {', '.join(_TUTORIALS)}")
    parser.add_argument("--pictures", action="store_true", help="keep the pictures that the tutorials make")
    asked = parser.parse_args()
    failed, wrong = (0, []) if asked.tutorials else everything_else()
    for name in asked.tutorials or _TUTORIALS:
        started, before = time.perf_counter(), _seconds_of_children()
        wrong += wrong_lines(_DOCS / name, asked.pictures)
        spent, passed = _seconds_of_children() - before, time.perf_counter() - started
        print(f"{name}: {spent:.0f} s of processor time, {passed:.0f} s", flush=True)
    print("\n".join(wrong))
    print(f"{failed} examples and {len(wrong)} commands differ from the pages.")
    return 1 if failed or wrong else 0


def everything_else() -> tuple[int, list[str]]:
    """Check the dialogues with Python and the refusals, in an empty folder: how many differ, and what is wrong."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
        failed = sum(wrong_examples(_DOCS / name) for name in ("guide.md", "theory.md", "export.md"))
        Path("weights").mkdir(exist_ok=True)
        make_files()
        return failed, wrong_refusals()


def _seconds_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    sys.exit(main())
