"""What a terminal would obey is shown instead."""

from __future__ import annotations

import unicodedata

import pytest

from bvae_cli.plain_text import printable


def test_no_control_character_and_no_mark_of_direction_is_left() -> None:
    for number in range(0x110000):
        character = chr(number)
        shown = printable(character)
        kind = unicodedata.category(character)
        turning = unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
        if kind in ("Cc", "Cs", "Zl", "Zp") or turning:
            assert shown.startswith("\\")
            assert shown.isascii()
        elif kind != "Cf":
            assert shown == character


@pytest.mark.parametrize("text", ["é ε 東京 👩‍👩‍👧", "hidden_size_8", "", "[bold]x[/bold] <b>"])
def test_other_text_is_left_alone(text: str) -> None:
    assert printable(text) == text
