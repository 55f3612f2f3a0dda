"""Runs that are trained as one go on as one, wherever their process was killed."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from bvae_cli import runs
from bvae_cli.errors import InterruptedRunError
from bvae_cli.workflows.observing import TrainResult
from bvae_cli.workflows.recording import Found, side_by_side
from bvae_cli.workflows.train_many import train_many

from ..helpers import KilledError, saved_fit
from .conftest import config_for
from .test_train import content


def state(*together: tuple[str, int]) -> dict[str, Any]:
    return {"together": [[digest, epoch, 0, 0] for digest, epoch in together]}


def found(*states: dict[str, Any] | None) -> Found:
    names = ("last.pt", "previous.pt")
    return Found(True, [(Path(name), one) for name, one in zip(names, states, strict=False)])


def chosen(*founds: Found) -> list[list[str]]:
    return [[path.name for path, _ in one.states] for one in side_by_side(founds, ["a", "b"])]


ONE, TWO = state(("a", 1), ("b", 1)), state(("a", 2), ("b", 2))


def test_runs_go_on_from_the_last_position_that_all_have_saved() -> None:
    assert chosen(found(TWO, ONE), found(TWO, ONE)) == [["last.pt"], ["last.pt"]]
    assert chosen(found(TWO, ONE), found(ONE)) == [["previous.pt"], ["last.pt"]]
    assert chosen(found(ONE), found(TWO, ONE)) == [["last.pt"], ["previous.pt"]]
    # The damaged one is kept, to be told of.
    assert chosen(found(None, ONE), found(TWO, ONE)) == [["last.pt", "previous.pt"], ["previous.pt"]]


def test_runs_that_were_begun_together_begin_anew_where_one_has_saved_nothing_yet() -> None:
    begun = side_by_side([found(ONE), found()], ["a", "b"])
    assert [(one.unfinished, one.states) for one in begun] == [(False, []), (False, [])]


def test_a_run_that_was_trained_otherwise_before_loses_nothing_for_the_others() -> None:
    alone, with_c = state(), state(("a", 5), ("c", 5))
    for one, other in [
        (found(alone), found()),  # it was trained by itself, and a new one is to be trained with it
        (found(with_c), found()),
        (found(TWO, ONE), found()),
        (found(alone), found(with_c)),
        (found(TWO), found(ONE)),
        (found({"together": 5}), found()),
        (found({"together": [5, []]}), found()),
        (found({"together": [[{}], "b"]}), found()),
    ]:
        assert side_by_side([one, other], ["a", "b"]) == [one, other]


@pytest.mark.parametrize("saves", [1, 2, 3, 4, 7, 12, 15, 16, 17, 18])
def test_seeds_whose_process_was_killed_between_two_states_end_with_the_bytes_of_one_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saves: int
) -> None:
    options: dict[str, Any] = {"checkpoint_every": "1step", "workers": 1, "patience": 2, "beta_warmup_epochs": 0, "lr": 0.05}
    whole = train_many(config_for(tmp_path, output_dir=tmp_path / "whole", **options), 2)
    counted, save = itertools.count(), runs.Run.save_state

    def killed(self: runs.Run, state: Any) -> None:
        if next(counted) == saves:
            raise KilledError
        save(self, state)

    config = config_for(tmp_path, **options)
    with monkeypatch.context() as patch:
        patch.setattr(runs.Run, "save_state", killed)
        with pytest.raises(KilledError):
            train_many(config, 2)
    again = train_many(config, 2)
    assert [content(result.folder) for result in again] == [content(result.folder) for result in whole]


def test_seeds_that_are_interrupted_save_the_step_and_go_on_from_it(tmp_path: Path) -> None:
    config = config_for(tmp_path, workers=1)
    whole = train_many(config_for(tmp_path, output_dir=tmp_path / "whole", workers=1), 2)
    counted = itertools.count(1)
    with pytest.MonkeyPatch.context() as patch:
        from bvae_cli.stopping import Requests

        def obey(self: Requests) -> None:
            if next(counted) == 6:  # three steps and the end of the first epoch come before
                raise KeyboardInterrupt

        patch.setattr(Requests, "obey", obey)
        with pytest.raises(InterruptedRunError, match="2 runs under way"):
            train_many(config, 2)
    folders = sorted((tmp_path / "weights").iterdir())
    assert [(saved_fit(folder)["epoch"], saved_fit(folder)["step"]) for folder in folders] == [(1, 2), (1, 2)]
    again: list[TrainResult] = train_many(config, 2)
    assert [content(result.folder) for result in again] == [content(result.folder) for result in whole]
