"""A file of codes is read in the one way in which it can be, or refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bvae_cli import code_rows
from bvae_cli.code_rows import open_codes
from bvae_cli.errors import BvaeError, InputOutputError, UsageError

from .helpers import property_settings

Save = Callable[[Any], Path]
WIDTHS = {"code bits": 12, "information bits": 4}


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def saved(values: Any) -> Path:
        np.save(tmp_path / "codes.npy", values)
        return tmp_path / "codes.npy"

    return saved


def bits_of(rows: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, (rows, width), dtype=np.uint8)


@settings(property_settings, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.integers(1, 20), width=st.integers(2, 40), form=st.sampled_from(["packed", "bits", "bool", "int64"]))
def test_bits_come_back_however_they_are_stored(save: Save, rows: int, width: int, form: str) -> None:
    bits = bits_of(rows, width)
    values = np.packbits(bits, axis=1) if form == "packed" else bits if form == "bits" else bits.astype(form)
    codes = open_codes(save(values), {"bits": width})
    assert (codes.kind, codes.width, len(codes)) == ("packed" if form == "packed" else "bits", width, rows)
    assert (codes.bits(0, rows) == bits).all()
    assert (codes.packed(0, rows) == np.packbits(bits, axis=1)).all()


def test_logits_are_read_as_they_are_and_their_signs_as_bits(save: Save) -> None:
    logits = np.array([[-1.5, 0.0, 2.0, np.inf]])
    for dtype in ("float16", ">f4", "float64"):
        codes = open_codes(save(logits.astype(dtype)), WIDTHS)
        assert (codes.kind, codes.width) == ("logits", 4)
        assert (codes.logits(0, 1) == logits).all()
        assert codes.bits(0, 1).tolist() == [[0, 0, 1, 1]]


def test_one_number_that_is_no_bit_makes_logits_of_all(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_rows, "_BYTES_AT_ONCE", 64)  # two rows at once
    logits = np.eye(4, dtype=np.float64)
    for widths in (WIDTHS, {}):
        with pytest.raises(InputOutputError, match="0 and 1 as floating-point numbers"):
            open_codes(save(logits), widths)
    logits[3, 0] = 0.5
    assert open_codes(save(logits), WIDTHS).kind == "logits"


def test_the_width_says_which_of_the_words_of_a_code_these_are(save: Save) -> None:
    assert open_codes(save(bits_of(3, 12)), WIDTHS).width == 12
    assert open_codes(save(bits_of(3, 4)), WIDTHS).width == 4
    assert open_codes(save(np.packbits(bits_of(3, 12), axis=1)), WIDTHS).width == 12
    assert open_codes(save(np.packbits(bits_of(3, 4), axis=1)), WIDTHS).width == 4


def test_without_widths_the_values_say_whether_bits_are_packed(save: Save) -> None:
    plain, packed = open_codes(save(bits_of(9, 16)), {}), open_codes(save(np.packbits(bits_of(9, 16), axis=1)), {})
    assert (plain.kind, plain.width) == ("bits", 16)
    assert (packed.kind, packed.width) == ("packed", 16)


def test_what_can_be_read_in_two_ways_is_refused_unless_the_values_decide(save: Save) -> None:
    both = {"code bits": 8, "information bits": 7}
    packed = save(np.array([[254], [2]], np.uint8))
    with pytest.raises(UsageError, match=r"two ways: 7 bits eight to a byte or 8 bits eight to a byte\.\n.*--bits"):
        open_codes(packed, both)
    assert open_codes(packed, {"information bits": 7}).width == 7
    assert open_codes(save(np.array([[255], [2]], np.uint8)), both).width == 8  # a 1 in what would be the padding of 7
    wide = {"code bits": 16, "information bits": 2}
    with pytest.raises(UsageError, match="two ways: 2 bits one to a number or 16 bits eight to a byte"):
        open_codes(save(np.array([[1, 0]], np.uint8)), wide)
    assert open_codes(save(np.array([[9, 0]], np.uint8)), wide).width == 16
    assert open_codes(save(np.array([[1, 0]], np.int8)), wide).width == 2  # bytes are uint8


REFUSED: dict[str, tuple[Any, str]] = {
    "padding": (np.array([[3, 240], [1, 8]], np.uint8), "Row 1 of .* packed code of 12 bits: the last 4 .*another order"),
    "another length": (bits_of(2, 11), "rows of 11 uint8; codes of the model have 12 code bits or 4 information bits"),
    "bits as real numbers": (np.eye(12, dtype=np.float32), "holds 0 and 1 as floating-point numbers; .*logits.*\\n.*uint8"),
    "other logits": (np.zeros((2, 11)), "rows of 11 logits; codes of the model have 12 code bits"),
    "packed in another type": (np.zeros((2, 2), np.int64), "rows of 2 int64"),
    "no bit": (np.full((3, 12), 2, np.uint8), "Row 0 of .* holds 2"),
    "less than a bit": (np.array([[0, 1, -1, 0]]), "Row 0 of .* holds -1"),
    "no number": (np.array([[0.0, 1, 2, 3], [1, np.nan, 0, 0]]), "Row 1 of .* holds nan"),
    "one code alone": (np.zeros(12, np.uint8), r"shape \(12,\).*\n.*\(1, bits\)"),
    "pictures": (np.zeros((2, 3, 4), np.uint8), r"shape \(2, 3, 4\)"),
    "no rows": (np.zeros((0, 12), np.uint8), r"shape \(0, 12\)"),
    "columns first": (np.asfortranarray(bits_of(3, 12)), "Fortran"),
    "text": (np.array([["a"]]), "not numeric"),
}


@pytest.mark.parametrize(("values", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_file_of_such_codes_is_refused_with_its_first_row(save: Save, values: Any, words: str) -> None:
    path = save(values)
    with pytest.raises(InputOutputError, match=f"(?s){words}"):
        _read(path)


def _read(path: Path) -> np.ndarray:
    codes = open_codes(path, WIDTHS, "the model")
    return codes.logits(0, len(codes)) if codes.kind == "logits" else codes.packed(0, len(codes))


def test_a_bad_row_is_named_by_its_number_in_the_file(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_rows, "_BYTES_AT_ONCE", 24)
    values = bits_of(9, 12)
    values[7, 3] = 5
    codes = open_codes(save(values), WIDTHS)
    assert list(codes.spans()) == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 9)]
    assert codes.bits(4, 6).shape == (2, 12)
    with pytest.raises(InputOutputError, match=r"Row 7 of .* holds 5\."):
        codes.bits(6, 8)


@pytest.mark.parametrize("length", [10, 140])
def test_a_file_that_is_cut_off_is_refused(save: Save, length: int) -> None:
    path = save(bits_of(100, 12))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(BvaeError, match=r"cut off|not a \.npy"):
        open_codes(path, WIDTHS)


def test_numbers_that_are_neither_bits_nor_bytes_are_refused_without_widths(save: Save) -> None:
    with pytest.raises(InputOutputError, match="holds int64, and not 0 and 1 alone"):
        open_codes(save(np.array([[300, 1]])), {})
