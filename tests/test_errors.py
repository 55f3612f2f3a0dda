from __future__ import annotations

import pytest

from bvae_cli.errors import (
    BvaeError,
    DivergedError,
    ExitCode,
    InputOutputError,
    InterruptedRunError,
    PluginError,
    TerminatedError,
    UsageError,
    nearest,
    unknown_name,
)


def test_the_exit_codes_are_the_documented_numbers() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "DONE": 0,
        "FAILED": 1,
        "USAGE": 2,
        "INPUT_OUTPUT": 3,
        "PLUGIN": 4,
        "DIVERGED": 5,
        "INTERRUPTED": 130,
        "TERMINATED": 143,
    }


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (BvaeError, 1),
        (UsageError, 2),
        (InputOutputError, 3),
        (PluginError, 4),
        (DivergedError, 5),
        (InterruptedRunError, 130),
    ],
)
def test_every_kind_of_error_has_its_exit_code(kind: type[BvaeError], code: int) -> None:
    assert kind("It broke.").exit_code == code


def test_an_exit_code_of_its_own_belongs_to_one_error_only() -> None:
    assert InterruptedRunError("Terminated.", None, ExitCode.TERMINATED).exit_code == 143
    assert InterruptedRunError("Interrupted.").exit_code == 130


def test_an_error_in_python_shows_sentence_and_hint() -> None:
    assert str(UsageError("It broke.", "Mend it.")) == "It broke.\nMend it."
    assert str(UsageError("It broke.")) == "It broke."


def test_being_terminated_passes_where_an_interruption_passes() -> None:
    with pytest.raises(KeyboardInterrupt):
        raise TerminatedError


@pytest.mark.parametrize(
    ("word", "choices", "expected"),
    [
        ("repitition", ["none", "repetition"], "repetition"),
        ("REPETITION", ["none", "repetition"], "repetition"),
        ("batch-sise", ["batch_size", "lr"], "batch_size"),
        ("binarised_mnist", ["binarized-mnist", "mnist"], "binarized-mnist"),
        ("golay", ["none", "repetition"], None),
        ("", ["none"], None),
        ("none", [], None),
    ],
)
def test_the_nearest_name_is_found_whatever_its_case_and_dashes(word: str, choices: list[str], expected: str | None) -> None:
    assert nearest(word, choices) == expected


def test_an_unknown_name_far_from_all_lists_them_all() -> None:
    assert unknown_name("code", "xyz", ["b", "a"]).hint == "Valid: a, b."
    assert unknown_name("code", "repitition", ["repetition"]).hint == "Did you mean 'repetition'?"
    assert unknown_name("code", "xyz", []).message == "There is no code 'xyz'."
