"""Run what the pages show: refusals of ``troubleshooting.md``, the lines of ``use-the-bits.md``, examples in Python.

    python docs/check_examples.py

A block ``console`` of ``troubleshooting.md`` holds one command and the ``Error:`` and ``Hint:`` lines that it must print.
The commands of ``use-the-bits.md`` run one after the other in a folder; below each stand lines that it must print, in which numbers
may be others.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

_DOCS = Path(__file__).resolve().parent
_CONSOLE = re.compile(r"^```console\n(.+?)^```$", re.MULTILINE | re.DOTALL)
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
    printed = "".join(line for line in done.stderr.splitlines(True) if line.startswith(("Error:", "Hint:")))
    if printed == said and done.returncode:
        return None
    return f"$ {command}\n  the page says:\n{said}  bvae says (exit {done.returncode}):\n{printed}"


def wrong_lines(page: Path) -> list[str]:
    """Run the commands of a page in turn in a folder of their own, and say which fail or print other lines than are shown."""
    wrong = []
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
        for block in _CONSOLE.findall(page.read_text(encoding="utf-8")):
            for step in block.split("$ bvae ")[1:]:
                command, *shown = step.splitlines()
                done = _bvae(_expanded(command))
                printed = {_masked(line) for line in done.stdout.splitlines()}
                missing = [line for line in shown if _masked(line) not in printed]
                if done.returncode or missing:
                    wrong.append(f"$ bvae {command}\n  is not shown: {missing}\n{done.stdout}{done.stderr}")
    return wrong


def _expanded(command: str) -> str:
    """Put the paths that a word with * stands for in its place, as a shell does."""
    words = [sorted(map(str, Path().glob(word))) if "*" in word else [word] for word in command.split()]
    return " ".join(path for paths in words for path in paths)


def _masked(line: str) -> str:
    """Return a line without its numbers and the width of its columns; a list of numbers is as good as one."""
    return re.sub(r"#(, #)+", "#", " ".join(_NUMBER.sub("#", line).split()))


def _bvae(arguments: str, variables: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("BVAE_", "DISABLE_"))}
    environment |= {"BVAE_CONFIG_DIR": "none", "BVAE_THREADS": "1", **(variables or {})}
    command = [sys.executable, "-m", "bvae_cli", *arguments.split()]
    return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False)


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
    """Check both, in an empty folder, and say what is wrong."""
    torch.set_num_threads(1)
    failed = 0
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
        for name in ("guide.md", "theory.md", "export.md"):
            failed += wrong_examples(_DOCS / name)
        Path("weights").mkdir(exist_ok=True)
        make_files()
        wrong = wrong_refusals()
    wrong += wrong_lines(_DOCS / "use-the-bits.md")
    print("\n".join(wrong))
    print(f"{failed} examples and {len(wrong)} commands differ from the pages.")
    return 1 if failed or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
