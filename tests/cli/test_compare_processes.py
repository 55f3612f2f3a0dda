"""A comparison as a process of its own, killed without warning."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ..comparing import require_alike
from ..conftest import write_bits
from .test_compare import QUICK

LINE = [
    sys.executable,
    "-m",
    "bvae_cli",
    "compare",
    *map(str, QUICK),
    "--epochs",
    "3",
    "--seeds",
    "2",
    "--tune",
    "lr=0.01,0.03",
]

# Ten moments of its twelve runs: within an epoch's training, and between the last epoch and the end of measuring.
MOMENTS = (
    "[1/12] uncoded N=12, seed 1000000, lr=0.01: epoch 1,",
    "[2/12] uncoded N=12, seed 1000000, lr=0.03: epoch 3,",
    "[2/12] uncoded N=12, seed 1000000, lr=0.03: trained",
    "[5/12] repetition(R=3) N=12, seed 1000000, lr=0.01: epoch 2,",
    "[6/12] repetition(R=3) N=12, seed 1000000, lr=0.03: trained",
    "[7/12] uncoded N=12, seed 0, verdict: epoch 1,",
    "[7/12] uncoded N=12, seed 0, verdict: trained",
    "[9/12] uncoded K=4, seed 0, verdict: epoch 3,",
    "[12/12] repetition(R=3) N=12, seed 1, verdict: epoch 2,",
    "[12/12] repetition(R=3) N=12, seed 1, verdict: trained",
)


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*LINE, "--verbose"], cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=dict(os.environ)
    )


def result(folder: Path) -> Any:
    return json.loads(next((folder / "results").glob("*/comparison.json")).read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_comparison_killed_ten_times_ends_as_one_that_never_was(tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        write_bits(tmp_path / name / "bits.npy", rows=400)
    with start(tmp_path / "whole") as process:
        said = process.communicate(timeout=120)[1]
    assert process.returncode == 0, said

    for moment in MOMENTS:
        with start(tmp_path / "killed") as process:
            assert process.stderr is not None
            seen = next((line for line in process.stderr if line.startswith(moment)), None)
            process.send_signal(signal.SIGKILL)
        assert seen is not None, f"{moment} was never said"
        assert process.returncode == -signal.SIGKILL
    with start(tmp_path / "killed") as process:
        said = process.communicate(timeout=120)[1]
    assert process.returncode == 0, said
    # A run whose partners were finished is trained with others, or alone: sums of float32 are rounded otherwise.
    require_alike(result(tmp_path / "killed"), result(tmp_path / "whole"), 1e-4, 1e-4)


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(tmp_path: Path) -> None:
    write_bits(tmp_path / "bits.npy", rows=400)
    with subprocess.Popen(
        [*LINE, "--verbose"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        assert any(line.startswith(MOMENTS[3]) for line in process.stderr)
        process.send_signal(signal.SIGINT)
        out, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "Error: Interrupted with 4 of 12 runs finished; they are kept, as are the 2 under way." in rest
    assert "Hint: To go on: bvae compare --hidden 8 " in rest
    assert "Traceback" not in rest
    assert not list(tmp_path.rglob(".lock"))
