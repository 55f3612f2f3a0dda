from __future__ import annotations

import shutil
from pathlib import Path

from ..outcome import Bvae


def test_every_run_is_a_row(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    for name in ("a", "b/c"):
        shutil.copytree(run_folder, Path("weights") / name)
    shown = bvae("runs").succeeded().out
    rows = [line for line in shown.splitlines() if "repetition:R=3" in line]
    assert [row.split()[0] for row in rows] == ["weights/a", "weights/b/c"]
    assert all("finished" in row and "arrays" in row for row in rows)
    found = bvae("runs", "weights/b", "--json").succeeded().json()
    assert [run["folder"] for run in found] == ["weights/b/c"]
    assert found[0]["epochs"] == 3


def test_no_run_is_no_row(bvae: Bvae, workplace: Path) -> None:
    outcome = bvae("runs", ".").succeeded()
    assert outcome.out == ""
    assert "There is no run in ." in outcome.err
    assert bvae("runs", ".", "--json").succeeded().json() == []


def test_no_folder_is_an_input_error(bvae: Bvae, workplace: Path) -> None:
    bvae("runs").refused(3, "There is no folder weights")
    bvae("runs", "bits.npy").refused(3, "bits.npy is a file, not a folder")


def test_a_damaged_run_is_a_row_that_says_so(bvae: Bvae, run_folder: Path, workplace: Path) -> None:
    shutil.copytree(run_folder, "weights/a")
    Path("weights/a/loss_record_with.txt").write_text("# x\n1 2\n")
    shutil.copytree(run_folder, "weights/b")
    Path("weights/b/config.json").write_text("{")
    states = {run["folder"]: run["state"] for run in bvae("runs", "--json").succeeded().json()}
    assert states["weights/a"] == "damaged record"
    assert set(states) == {"weights/a", "weights/b"}
