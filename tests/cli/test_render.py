from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from bvae_cli.cli import render

from ..outcome import Bvae


@dataclass
class Inner:
    where: Path
    values: tuple[float, ...]


@dataclass
class Outer:
    name: str
    inner: Inner


def test_json_has_plain_values_only(capsys: pytest.CaptureFixture[str]) -> None:
    render.show_json({"a": Outer("x", Inner(Path("b/c"), (1.5, math.nan, math.inf))), 5: [None, True]})
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == {
        "a": {"name": "x", "inner": {"where": "b/c", "values": [1.5, None, None]}},
        "5": [None, True],
    }


def test_a_table_takes_its_cells_literally_and_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    long = "/a/very/long/path" * 8
    render.show_table(("[bold]name[/]", "value"), [("[red]x[/red]", long), ("y", None)], "A title [b]")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "A title [b]"
    assert any("[bold]name[/]" in line for line in lines)
    assert any("[red]x[/red]" in line and long in line for line in lines)
    assert not any("None" in line for line in lines)


def test_facts_stand_in_two_columns(capsys: pytest.CaptureFixture[str]) -> None:
    render.show_facts([("a", 1), ("long name", "x")])
    assert capsys.readouterr().out == "a          1\nlong name  x\n"


def test_talk_goes_to_stderr_unless_nobody_wants_it(capsys: pytest.CaptureFixture[str]) -> None:
    render.say("hello")
    render.say("secret", quiet=True)
    assert capsys.readouterr() == ("", "hello\n")


@pytest.mark.parametrize(
    ("rate", "text"), [(None, "–"), (0.0, "0 %"), (0.00725, "0.725 %"), (1.0, "100 %"), (1e-9, "1e-07 %")]
)
def test_rates_are_shown_in_percent(rate: float | None, text: str) -> None:
    assert render.percent(rate) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 "), (999, "999 "), (1000, "1 k"), (1234567, "1.23 M"), (5e9, "5 G"), (2.5e13, "25 T")]
)
def test_large_numbers_have_a_prefix(number: float, text: str) -> None:
    assert render.amount(number) == text


EVIL = "x\x1b]0;title\x07\x1b[2J\x9b31m\r\nError: no\u202egnp.exe[red]y[/red]"


def test_what_is_in_names_is_shown_and_not_obeyed(capfd: pytest.CaptureFixture[str]) -> None:
    render.show_table((EVIL, "b"), [(EVIL, 1)], EVIL)
    render.show_facts([("name", EVIL)])
    render.show_line(EVIL)
    render.say(EVIL)
    out, err = capfd.readouterr()
    for text in (out, err):
        assert not set(text) & {"\x1b", "\x07", "\x9b", "\r", "\u202e"}
        assert "\nError" not in text
        assert "\\x1b[2J" in text
        assert "[red]y" in text


def test_an_error_shows_what_is_in_a_name(bvae: Bvae) -> None:
    answer = bvae("train", "--dataset", f"./{EVIL}.npy").refused(3)
    assert not set(answer.err) & {"\x1b", "\x07", "\x9b", "\r", "\u202e"}


def test_names_in_a_run_of_somebody_else_are_shown_and_not_obeyed(bvae: Bvae, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    config = {"digest": "d", "code": {"type": EVIL, "options": {EVIL: EVIL}}, "data": {"type": EVIL}, "decides": {"seed": 1}}
    (tmp_path / "run" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "run" / "loss_record_with.txt").write_text("", encoding="utf-8")
    told = bvae("runs", tmp_path).succeeded()
    assert not set(told.out) & {"\x1b", "\x07", "\x9b", "\r", "\u202e"}
    assert "\nError" not in told.out
