"""Weights and states as bytes: what is read is what was written, and a stranger's file runs nothing."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bvae_cli.checkpoints import DamagedStateError, read_state, read_weights, state_bytes, torch_bytes, weights_bytes
from bvae_cli.errors import ExitCode, InputOutputError

CODE = {"type": "none", "options": {}, "n": 4, "k": 4, "digest": "d", "distribution": "bvae-cli", "version": "0"}
CONFIG: dict[str, Any] = {"digest": "0123456789abcdef", "decides": {}, "code": CODE, "data": {}}
WEIGHTS = {"w": torch.arange(6.0).reshape(2, 3), "bits": torch.tensor([1, 0], dtype=torch.uint8)}


def test_weights_are_plain_for_everybody(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(weights_bytes(CONFIG, WEIGHTS))
    content = torch.load(path, weights_only=True)
    assert torch.equal(content["weights"]["w"], WEIGHTS["w"])
    assert json.loads(content["config"]) == CONFIG


def test_the_same_values_are_the_same_bytes() -> None:
    copied = {name: value.clone() for name, value in WEIGHTS.items()}
    assert weights_bytes(CONFIG, copied) == weights_bytes(CONFIG, WEIGHTS)
    assert state_bytes({"model": copied}) == state_bytes({"model": WEIGHTS})


def test_weights_of_which_one_bit_is_another_are_refused_or_the_same(tmp_path: Path) -> None:
    whole, path = weights_bytes(CONFIG, WEIGHTS), tmp_path / "weights.pt"
    for place in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            back = read_weights(path)
        except InputOutputError:
            continue
        # Bytes that fill up the archive, and times in it, say nothing.
        assert back.config == CONFIG
        assert all(torch.equal(back.weights[name], value) for name, value in WEIGHTS.items())


def test_a_state_comes_back_as_it_was_whatever_plain_values_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    state = {"epoch": 3, "fit": {"model": WEIGHTS, "losses": [0.5, float("inf")], "why": None, "names": ["a", "ε"]}}
    path.write_bytes(state_bytes(state))
    back = read_state(path)
    assert torch.equal(back["fit"]["model"].pop("w"), WEIGHTS["w"])
    assert back["fit"]["model"].pop("bits").tolist() == [1, 0]
    assert back == {"epoch": 3, "fit": {"model": {}, "losses": [0.5, float("inf")], "why": None, "names": ["a", "ε"]}}


@pytest.mark.parametrize("place", [0, 12, 20, 60, 90, 200, -1])
def test_a_state_with_a_byte_more_less_or_other_is_damaged(tmp_path: Path, place: int) -> None:
    whole, path = state_bytes({"epoch": 1, "model": WEIGHTS}), tmp_path / "last.pt"
    other = bytearray(whole)
    other[place] ^= 16
    place %= len(whole)
    for content in (bytes(other), whole[:place] + whole[place + 1 :], whole[:place] + b"x" + whole[place:], whole + b"x"):
        path.write_bytes(content)
        with pytest.raises(DamagedStateError):
            read_state(path)


class Evil:
    """A pickle that writes a file when it is read by somebody careless."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (os.mkdir, (str(self.mark),))


def _saved(value: object) -> bytes:
    return torch_bytes({"value": value})


FOREIGN: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "nothing": (lambda mark: b"", "cut short"),
    "text": (lambda mark: b"hello, these are no weights\n", "cut short"),
    "zip": (lambda mark: b"PK\x05\x06" + 18 * b"\0", "damaged"),
    "pickle": (lambda mark: pickle.dumps(Evil(mark)), "nothing in it was run"),
    "torch": (lambda mark: _saved(Evil(mark)), "nothing in it was run"),
    "dictionary": (lambda mark: _saved(1), "not written by bvae"),
    "weights alone": (lambda mark: torch_bytes(WEIGHTS), "not written by bvae"),
    "newer": (lambda mark: torch_bytes({"format": 99, "config": "{}", "weights": {}}), "format 99"),
    "no config": (lambda mark: torch_bytes({"format": 1, "config": "{", "weights": {}}), "not written by bvae"),
    "empty config": (
        lambda mark: torch_bytes({"format": 1, "config": "{}", "weights": {}}),
        "not written by bvae",
    ),
    "list": (lambda mark: torch_bytes({"format": 1, "config": "[]", "weights": {}}), "not written by bvae"),
    "no code": (
        lambda mark: torch_bytes(
            {"format": 1, "config": json.dumps({"decides": {}, "data": {}, "code": {}}), "weights": {}}
        ),
        "not written by bvae",
    ),
    "no weights": (
        lambda mark: torch_bytes({"format": 1, "config": json.dumps(CONFIG), "weights": 5}),
        "not written by bvae",
    ),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.filterwarnings("error")
def test_a_file_that_is_not_ours_is_refused_and_never_run(kind: str, tmp_path: Path) -> None:
    make, words = FOREIGN[kind]
    path, mark = tmp_path / "weights.pt", tmp_path / "mark"
    path.write_bytes(make(mark))
    with pytest.raises(InputOutputError) as caught:
        read_weights(path)
    assert caught.value.exit_code == ExitCode.INPUT_OUTPUT
    assert words in caught.value.message
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert not mark.exists()


def test_the_pickle_of_these_tests_does_run_where_it_is_trusted(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Evil(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


def test_weights_that_are_cut_short_are_refused_wherever_they_are_cut(tmp_path: Path) -> None:
    whole, path = weights_bytes(CONFIG, WEIGHTS), tmp_path / "weights.pt"
    for share in range(10):
        path.write_bytes(whole[: len(whole) * share // 10])
        with pytest.raises(InputOutputError):
            read_weights(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(weights_bytes(CONFIG, {**WEIGHTS, "bias": torch.tensor([0.0, value])}))
    with pytest.raises(InputOutputError, match=r"not numbers .* in bias"):
        read_weights(path)
