from __future__ import annotations

import io
import json
import math
import os
import re
import subprocess
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


class Screen(io.StringIO):
    """A terminal that somebody watches."""

    def isatty(self) -> bool:
        return True


FIGURES = [("a fine name of some words", "-98.95", "0.30", "what it means in many words, as here"), ("b", "10,000", "", "z")]


@pytest.mark.parametrize("columns", range(20, 100, 5))
def test_no_figure_of_a_table_is_cut_however_narrow_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "dumb")
    render.show_table(("quantity", "value", "± s.e.", "meaning"), FIGURES, "A title")
    text = screen.getvalue()
    for word in ("-98.95", "0.30", "10,000", "quantity", "meaning", "fine"):
        assert re.search(rf"(?<!\S){re.escape(word)}(?!\S)", text), text
    is_table = "─" in text
    assert is_table or "value     -98.95\n" in text
    assert not is_table or max(map(len, text.splitlines())) <= columns


def test_a_narrow_terminal_gets_names_and_values_and_a_wide_one_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    for columns, is_table in ((32, False), (45, True)):
        screen = Screen()
        monkeypatch.setattr("sys.stdout", screen)
        monkeypatch.setenv("COLUMNS", str(columns))
        render.show_table(("quantity", "value", "± s.e.", "meaning"), FIGURES)
        assert ("─" in screen.getvalue()) is is_table


def test_what_a_name_hides_is_shown_as_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\nb\x1b[31m\udcff"
    render.say(name)
    render.show_facts([("x", name)])
    render.show_table(("x",), [(name,)], name)
    out, err = capsys.readouterr()
    shown = r"a\nb\x1b[31m\xff"
    assert err == f"{shown}\n"
    assert out.count(shown) == 3
    assert "\x1b" not in out


@pytest.mark.parametrize("name", ["plain", "two words", "it's", 'a "b"', "a\nb", "back\\slash\n'", "ü\udcff", "$HOME `id`"])
def test_a_shell_reads_a_path_as_it_is(name: str) -> None:
    read = subprocess.run(["bash", "-c", f"printf %s {render.shell_word(name)}"], capture_output=True)
    assert os.fsdecode(read.stdout) == name
    assert "\n" not in render.shell_word(name)


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
