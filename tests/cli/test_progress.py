from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest

from bvae_cli.cli.progress import observer_for
from bvae_cli.config import TrainConfig
from bvae_cli.workflows.train import train


class Screen(io.StringIO):
    """A terminal that somebody watches."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def tiny(workplace: Path) -> TrainConfig:
    values: dict[str, Any] = {"dataset": "bits.npy", "output_dir": "weights"}
    return TrainConfig(**values, hidden=8, latent=12, depth=1, epochs=3, batch_size=16)


def shown(tiny: TrainConfig, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, **how: bool) -> str:
    monkeypatch.setattr("sys.stderr", stream)
    with observer_for(tiny.epochs, tiny.patience, how.get("quiet", False), how.get("verbose", False)) as observer:
        train(tiny, observer)
    return stream.getvalue()


def test_a_watched_terminal_gets_a_bar(tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    text = shown(tiny, Screen(), monkeypatch)
    assert "\x1b[" in text
    assert "3/3" in text
    assert "val_loss" in text
    assert "device cpu" in text


def test_a_terminal_that_cannot_write_over_a_line_gets_lines(tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    text = shown(tiny, Screen(), monkeypatch)
    assert "\x1b" not in text
    assert "\r" not in text
    assert text.count("\nepoch ") == 3


@pytest.mark.parametrize(("columns", "figures"), [(20, ""), (36, "val_loss"), (60, "loss val_loss patience"), (200, "all")])
def test_a_narrow_bar_leaves_figures_out_and_cuts_none(
    columns: int, figures: str, tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown(tiny, Screen(), monkeypatch))
    (last,) = [line for line in re.split(r"[\r\n]+", text) if line.startswith("epoch 3/3")][-1:]
    wanted = "loss kl beta val_loss patience img/s" if figures == "all" else figures
    assert " ".join(re.findall(r"[a-z_]+(?:/s)?", last)[1:]) == wanted
    assert "…" not in last
    assert all(re.fullmatch(r"[\d.,/:]*\d", word) for word in last.split() if any(map(str.isdigit, word)))
    assert figures != "val_loss" or re.search(r"val_loss \d+\.\d\d ", last)


def test_a_log_gets_one_plain_line_an_epoch(tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(tiny, io.StringIO(), monkeypatch)
    assert "\x1b" not in text
    assert [line.split()[1] for line in text.splitlines() if line.startswith("epoch")] == ["1/3", "2/3", "3/3"]


def test_a_watched_terminal_with_verbose_gets_lines(tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(tiny, Screen(), monkeypatch, verbose=True)
    assert "\x1b" not in text
    assert text.count("tau ") == 3


def test_quiet_gets_nothing(tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    assert shown(tiny, screen, monkeypatch, quiet=True) == ""
    with observer_for(1, 1, True, True) as observer:
        observer.on_note("Something happened.")
    assert screen.getvalue() == ""


@pytest.mark.parametrize("stream", [Screen(), io.StringIO()], ids=["screen", "log"])
def test_a_note_is_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> None:
    monkeypatch.setattr("sys.stderr", stream)
    with observer_for(1, 1, False, False) as observer:
        observer.on_note("Something happened.")
    assert "Note: Something happened.\n" in stream.getvalue()


def test_the_screen_is_given_back_when_training_breaks_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Screen()
    monkeypatch.setattr("sys.stderr", stream)
    with pytest.raises(KeyboardInterrupt), observer_for(1, 1, False, False):
        raise KeyboardInterrupt
    hidden, shown_again = stream.getvalue().find("\x1b[?25l"), stream.getvalue().rfind("\x1b[?25h")
    assert 0 <= hidden < shown_again
