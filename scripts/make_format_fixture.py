"""Make what the present version writes: a finished run, an unfinished one with its states, and a comparison.

python scripts/make_format_fixture.py FOLDER

``tests/fixtures/format_1`` was made so. A fixture stays as it is when the format grows: later versions must read it. A new
format gets a folder of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

import bvae_cli
from bvae_cli.errors import InterruptedRunError
from bvae_cli.runs import OPTIONS
from bvae_cli.workflows.observing import Observer

MODEL: dict[str, Any] = {"dataset": "bits.npy", "hidden": 8, "latent": 15, "ecc": "repetition:R=3", "batch_size": 64}
UNFINISHED: dict[str, Any] = {**MODEL, "seed": 1, "epochs": 4, "patience": 4, "checkpoint_every": "2steps"}
PLACE = "where it was started"
# The state is one in the middle of an epoch.
STOP_AT_EPOCH, STOP_AT_STEP = 3, 2


class Interrupting(Observer):
    """Stop a run as Ctrl-C does, in the middle of an epoch."""

    def __init__(self) -> None:
        self._epochs = 0

    def on_epoch(self, stats: object) -> None:
        """Count the epochs that are done."""
        self._epochs += 1

    def on_step(self, step: int, steps: int) -> None:
        """Stop at the step."""
        if (self._epochs + 1, step) == (STOP_AT_EPOCH, STOP_AT_STEP):
            raise KeyboardInterrupt


def main() -> None:
    """Make the folder named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder to make; it must not be there")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True)
    # What is written names the data as they are named here.
    os.chdir(folder)
    write_bits(Path("bits.npy"))
    finished = bvae_cli.train(**MODEL, epochs=2, output_dir="finished")
    bound = bvae_cli.evaluate(finished.folder, split="test").bounds.log_likelihood
    assert bound is not None  # a code of 5 bits is enumerated
    # By enumeration, so that no later generator of random numbers bears on it.
    Path("measured.json").write_text(json.dumps({"log_likelihood": bound.mean}) + "\n", encoding="utf-8")
    try:
        bvae_cli.train(observer=Interrupting(), **UNFINISHED, output_dir="unfinished")
    except InterruptedRunError as stopped:
        print(stopped.message)
    for path in Path("unfinished").rglob(OPTIONS):
        # The fixture names no place; the tests put theirs there.
        content = {**json.loads(path.read_text(encoding="utf-8")), "started_in": PLACE}
        path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    compare()
    size = sum(path.stat().st_size for path in Path().rglob("*") if path.is_file())
    print(f"{folder}: {size:,} bytes")


def compare() -> None:
    """Write a comparison, without what is drawn of it, and without its runs."""
    bvae_cli.compare(
        **MODEL,
        epochs=1,
        seeds=2,
        iwae_samples=2,
        noise_epsilon=[0, 0.1],
        bootstrap_samples=100,
        calibration_bins=2,
        out="comparison",
        output_dir="compared",
    )
    shutil.rmtree("compared")


def write_bits(path: Path) -> None:
    """Write 240 rows of 12 bits with something in them to learn: two patterns, one in ten bits wrong."""
    random = np.random.default_rng(1)
    patterns = random.integers(0, 2, (2, 12))
    noise = random.random((240, 12)) < 0.1
    np.save(path, (patterns[random.integers(0, 2, 240)] ^ noise).astype(np.uint8))


if __name__ == "__main__":
    main()
