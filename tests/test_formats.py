"""Folders that earlier versions wrote, one fixture for each format: what could be done with them still can.

``scripts/make_format_fixture.py`` made them. They stay as they are.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bvae_cli import __version__, checkpoints, comparisons, runs
from bvae_cli.errors import InputOutputError
from bvae_cli.workflows.recording import found_in

from .outcome import Bvae

FIXTURES = Path(__file__).parent / "fixtures"
FORMATS = sorted(path.name for path in FIXTURES.glob("format_*"))
OPTIONS = ("--dataset", "bits.npy", "--hidden", 8, "--latent", 15, "--ecc", "repetition", "--R", 3, "--batch-size", 64)
UNFINISHED = ("train", *OPTIONS, "--seed", 1, "--epochs", 4, "--patience", 4, "--output-dir", "unfinished")
# Of the unfinished run: it was stopped in its third epoch.
EPOCHS_DONE, EPOCHS = 2, 4


@pytest.fixture(params=FORMATS)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what one format wrote, as the folder to work in."""
    shutil.copytree(FIXTURES / request.param, tmp_path / "place")
    for path in (tmp_path / "place").rglob(runs.OPTIONS):
        told = path.read_text(encoding="utf-8").replace('"where it was started"', json.dumps(str(tmp_path / "place")))
        path.write_text(told, encoding="utf-8")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


def run_in(folder: str) -> Path:
    (only,) = Path(folder).iterdir()
    return only


def written_by(config: dict[str, Any]) -> bool:
    """Say whether the torch that wrote a run is the one that is here: another one's run is another run."""
    return bool(config["decides"]["torch"] == torch.__version__.partition("+")[0])


def test_the_present_format_has_a_fixture() -> None:
    assert f"format_{checkpoints.FORMAT}" in FORMATS
    assert f"format_{comparisons.FORMAT}" in FORMATS


def test_fixtures_are_small_and_name_no_place() -> None:
    for folder in FORMATS:
        files = [path for path in (FIXTURES / folder).rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) < 300_000
        for path in files:
            for word in (b"/home/", b"/root/", b"/tmp/", b"/Users/"):
                assert word not in path.read_bytes(), path


def test_a_finished_run_is_sampled_and_measured(bvae: Bvae, place: Path) -> None:
    run = run_in("finished")
    bvae("sample", "--weights", run, "--num-samples", 4, "--subset", 20, "--out", "samples").succeeded()
    measured = bvae("evaluate", run, "--split", "test", "--json").succeeded().json()
    then = json.loads(Path("measured.json").read_text(encoding="utf-8"))
    assert measured["bounds"]["log_likelihood"]["mean"] == pytest.approx(then["log_likelihood"], abs=1e-4)


def test_a_finished_run_encodes(bvae: Bvae, place: Path) -> None:
    bvae("encode", run_in("finished"), "--dataset", "bits.npy", "-o", "codes.npy").succeeded()
    assert np.load("codes.npy").shape == (240, 5)


def test_runs_are_listed_and_drawn(bvae: Bvae, place: Path) -> None:
    listed = {Path(run["folder"]).parent.name: run for run in bvae("runs", ".", "--json").succeeded().json()}
    assert (listed["finished"]["state"], listed["finished"]["epochs"]) == ("finished", 2)
    assert (listed["unfinished"]["state"], listed["unfinished"]["epochs"]) == ("unfinished", EPOCHS_DONE)
    assert {run["code"] for run in listed.values()} == {"repetition:R=3"}
    bvae("plot", run_in("finished"), run_in("unfinished"), "-o", "curves.png").succeeded()
    assert Path("curves.png").stat().st_size > 1000


@pytest.mark.parametrize("line", [UNFINISHED, ("resume",)])
def test_an_unfinished_run_goes_on(line: tuple[object, ...], bvae: Bvae, place: Path) -> None:
    run = runs.Run(run_in("unfinished"))
    config, before = run.config(), runs.read_record(run.folder)
    assert config is not None
    if not written_by(config):
        pytest.skip(f"the fixture was written with torch {config['decides']['torch']}: with another its run is another")
    said = bvae(*line, *([run.folder] if line == ("resume",) else [])).succeeded()
    assert "epoch 3/4" in said.err
    assert "epoch 2/4" not in said.err
    assert run.state() == "finished"
    after = runs.read_record(run.folder)
    assert {name: column[:EPOCHS_DONE] for name, column in after.items()} == before
    assert len(after["kl"]) == EPOCHS


def test_another_torch_trains_a_run_of_its_own_beside_an_unfinished_one(
    bvae: Bvae, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.Run(run_in("unfinished"))
    before = {path.name: path.read_bytes() for path in run.folder.iterdir()}
    monkeypatch.setattr(torch, "__version__", "99.0")
    bvae(*UNFINISHED).succeeded()
    (other,) = (path for path in Path("unfinished").iterdir() if path != run.folder)
    assert other.name.rpartition("_")[0] == run.folder.name
    assert {path.name: path.read_bytes() for path in run.folder.iterdir()} == before


def test_both_states_of_an_unfinished_run_are_read(place: Path) -> None:
    states = list(runs.Run(run_in("unfinished")).saved_states())
    assert [path.name for path, _ in states] == [runs.STATE, runs.PREVIOUS_STATE]
    assert [(state["fit"]["epoch"], state["fit"]["step"]) for _, state in states if state is not None] == [(2, 2), (1, 3)]


def test_a_comparison_is_drawn_again(bvae: Bvae, place: Path) -> None:
    drawn = bvae("report", "comparison").succeeded()
    assert "repetition" in drawn.out + drawn.err
    page = Path("comparison", comparisons.REPORT).read_text(encoding="utf-8")
    assert "uncoded N=15" in page
    assert f'<meta name="generator" content="bvae {__version__}, format {comparisons.FORMAT}">' in page


def test_every_measurement_of_a_comparison_still_counts(place: Path) -> None:
    folder = comparisons.ComparisonFolder(Path("comparison"))
    for number, arm in enumerate(folder.load().arms):
        for run in arm.runs:
            assert folder.evaluation(number, run.seed, run.digest) == run
            assert folder.arrays(number, run.seed)


# A folder of a later version.


def of_a_later_format(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, "format": 99}), encoding="utf-8")


def later_weights(run: Path) -> None:
    content = torch.load(run / runs.WEIGHTS, weights_only=True)
    (run / runs.WEIGHTS).write_bytes(checkpoints.torch_bytes({**content, "format": 99}))


def later_state(run: Path) -> None:
    for name in (runs.STATE, runs.PREVIOUS_STATE):
        line, _, rest = (run / name).read_bytes().partition(b"\n")
        word, kind, _, *facts = line.split()
        (run / name).write_bytes(b" ".join([word, kind, b"99", *facts]) + b"\n" + rest)


def later_config(run: Path) -> None:
    of_a_later_format(run / runs.CONFIG)


@pytest.mark.parametrize(
    "line", [("sample", "--weights"), ("evaluate",), ("encode", "-o", "codes.npy"), ("export", "--to", "torch", "-o", "x")]
)
def test_weights_of_a_later_format_are_refused(line: tuple[str, ...], bvae: Bvae, place: Path) -> None:
    later_weights(run_in("finished"))
    bvae(*line, run_in("finished")).refused(3, "has format 99; this bvae reads format 1", "Update bvae-cli")


@pytest.mark.parametrize("make", [later_state, later_config])
def test_a_run_of_a_later_format_is_not_gone_on_with(make: Callable[[Path], None], bvae: Bvae, place: Path) -> None:
    run = runs.Run(run_in("unfinished"))
    config = run.config()
    assert config is not None
    make(run.folder)
    before = {path.name: path.read_bytes() for path in run.folder.iterdir()}
    with pytest.raises(InputOutputError, match="has format 99; this bvae reads format 1"):
        found_in(run)
    if written_by(config):
        bvae(*UNFINISHED).refused(3, "has format 99; this bvae reads format 1", "Update bvae-cli, or train with --overwrite")
    assert {path.name: path.read_bytes() for path in run.folder.iterdir()} == before


def test_a_run_of_a_later_format_is_listed_as_such(bvae: Bvae, place: Path) -> None:
    later_config(run_in("finished"))
    listed = {Path(run["folder"]).parent.name: run for run in bvae("runs", ".", "--json").succeeded().json()}
    assert listed["finished"]["state"] == "of a later version"
    assert listed["unfinished"]["state"] == "unfinished"


def test_a_comparison_of_a_later_format_is_refused(bvae: Bvae, place: Path) -> None:
    of_a_later_format(Path("comparison", comparisons.COMPARISON))
    bvae("report", "comparison").refused(3, "has format 99; this bvae reads format 1", "Update bvae-cli")


def test_a_comparison_that_a_later_version_began_is_not_gone_on_with(place: Path) -> None:
    folder, plan = comparisons.ComparisonFolder(Path("comparison")), Path("comparison", "plan.json")
    of_a_later_format(plan)
    with pytest.raises(InputOutputError, match="has format 99; this bvae reads format 1"):
        folder.claim(json.loads(plan.read_text(encoding="utf-8"))["digest"], {})
