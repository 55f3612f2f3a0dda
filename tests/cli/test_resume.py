"""``bvae resume FOLDER`` goes on with what ``bvae train`` has begun."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bvae_cli import runs

from ..outcome import Bvae
from .conftest import TINY

SAME_BYTES = (runs.WEIGHTS, runs.LOSS_RECORD, runs.CONFIG)
LINE = ("train", *TINY, "--R", 3, "--epochs", 3)


@pytest.fixture
def unfinished(bvae: Bvae, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that was interrupted after its first epoch."""

    def stop(self: object, stats: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bvae_cli.cli.progress._LineObserver.on_epoch", stop)
        bvae(*LINE).refused(130, "Interrupted after epoch 1")
    (folder,) = Path("weights").iterdir()
    return folder


def test_a_run_goes_on_to_the_bytes_of_one_in_one_go(bvae: Bvae, unfinished: Path) -> None:
    whole = Path(bvae(*LINE, "--output-dir", "whole", "--json").succeeded().json()["folder"])
    outcome = bvae("resume", unfinished, "--json").succeeded()
    assert "going on after epoch 1" in outcome.err
    assert outcome.json()["epochs"] == 3
    for name in SAME_BYTES:
        assert (unfinished / name).read_bytes() == (whole / name).read_bytes()
    assert outcome.err.splitlines()[-1] == f"Next: bvae sample --weights {unfinished.absolute()}"


def test_the_line_that_an_interruption_prints_is_the_line_that_goes_on(bvae: Bvae, unfinished: Path) -> None:
    bvae("resume", str(unfinished)).succeeded()
    again = bvae("resume", str(unfinished)).succeeded()
    assert "This run was finished before; nothing was trained." in again.err
    assert again.out.startswith("stopped ")
    assert bvae(*LINE).succeeded().err.count("nothing was trained") == 1


def test_device_threads_and_times_may_be_others(bvae: Bvae, unfinished: Path) -> None:
    outcome = bvae("resume", unfinished, "--threads", 1, "--device", "cpu", "--checkpoint-every", "1step", "-q").succeeded()
    assert outcome.err == ""
    assert "device cpu (asked for)" in (unfinished / runs.LOG).read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nothing",), 3, ("There is no folder", "nothing")),
        (("weights",), 3, ("holds no run to go on with", "Below it is")),
        (("bits.npy",), 3, ("There is no folder",)),
        ((), 2, ("Missing argument 'FOLDER'",)),
        (("weights", "--lr", "1"), 2, ("There is no option --lr",)),
    ],
)
def test_what_cannot_be_gone_on_with_is_refused(
    bvae: Bvae, unfinished: Path, arguments: tuple[str, ...], code: int, words: tuple[str, ...]
) -> None:
    bvae("resume", *arguments).refused(code, *words)


@pytest.mark.parametrize("options", [("--checkpoint-every", "often"), ("--threads", "-1"), ("--device", "abacus")])
def test_a_wrong_option_is_refused_and_the_run_is_untouched(bvae: Bvae, unfinished: Path, options: tuple[str, str]) -> None:
    before = {path.name: path.read_bytes() for path in unfinished.iterdir()}
    bvae("resume", unfinished, *options).refused(2, options[1])
    assert {path.name: path.read_bytes() for path in unfinished.iterdir()} == before


def test_options_of_a_later_version_and_damaged_ones_are_refused(bvae: Bvae, unfinished: Path) -> None:
    path = unfinished / runs.OPTIONS
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, "format": 99}))
    bvae("resume", unfinished).refused(3, "options.json has format 99; this bvae reads format 1", "Update bvae-cli")
    path.write_text("{")
    bvae("resume", unfinished).refused(3, "options.json is missing or damaged", "`bvae train`")


def test_a_folder_that_was_moved_goes_on_where_it_is(bvae: Bvae, unfinished: Path) -> None:
    shutil.move(unfinished, "it's here")
    outcome = bvae("resume", "it's here").succeeded()
    assert Path("it's here", runs.RESULT).exists()
    assert outcome.err.splitlines()[-1].startswith("Next: bvae sample --weights '")
