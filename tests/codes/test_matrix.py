"""A person's own matrix: from every kind of file and from the command itself, and what is wrong with one that is no code."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
from pydantic import ValidationError

from bvae_cli.codes.hamming import Hamming
from bvae_cli.codes.matrix import Linear
from bvae_cli.errors import InputOutputError, UsageError

ROWS = Hamming(r=3).generator_matrix()
INLINE = "/".join("".join(map(str, row)) for row in ROWS)


def _npy(path: Path) -> None:
    numpy.save(path, numpy.array(ROWS, dtype=bool))


def _text(separator: str) -> object:
    def write(path: Path) -> None:
        lines = [separator.join(map(str, row)) for row in ROWS]
        path.write_text("# of Hamming\n\n" + "\n".join(lines) + "\n")

    return write


@pytest.mark.parametrize(
    ("name", "write"),
    [("g.npy", _npy), ("g.csv", _text(",")), ("g.csv", _text("; ")), ("g.txt", _text(" ")), ("g.txt", _text(""))],
)
def test_every_kind_of_file_gives_the_code_that_is_written_out(tmp_path: Path, name: str, write) -> None:
    write(tmp_path / name)
    spec = Linear(matrix=str(tmp_path / name))
    (tmp_path / name).unlink()
    assert spec == Linear(matrix=INLINE) == Linear(**spec.model_dump())
    assert spec.build(14).digest() == Hamming(r=3).build(14).digest()


def test_parity_checks_and_a_generator_of_one_code_have_one_set_of_words() -> None:
    checks = "/".join("".join(map(str, row)) for row in Hamming(r=3).parity_check_matrix())
    by_checks, by_rows = Linear(matrix=checks, kind="parity-check"), Linear(matrix=INLINE)
    assert by_checks.block() == by_rows.block()
    for row in by_checks.generator_matrix():
        assert all(sum(a * b for a, b in zip(row, check, strict=True)) % 2 == 0 for check in by_rows.parity_check_matrix())


def test_a_large_matrix_is_told_by_its_size_and_a_small_one_in_full() -> None:
    assert Linear(matrix="110/011").label() == "linear(matrix=110/011)"
    rows = "/".join("".join(str(int(place == row or place == row + 8)) for place in range(16)) for row in range(8))
    assert Linear(matrix=rows).label().startswith("linear(matrix=8x16-")


@pytest.mark.parametrize(
    ("matrix", "error", "words"),
    [
        ("110/110", UsageError, "linearly dependent"),
        ("110/01", UsageError, "2 to 3 entries"),
        ("matrix.pkl", UsageError, "neither a file of a matrix nor rows"),
        ("12/01", UsageError, "neither a file of a matrix nor rows"),
        ("none.npy", InputOutputError, "There is no file none.npy\\."),
        ("none.csv", InputOutputError, "cannot be read: no such file or directory\\."),
        ("", UsageError, "The matrix is empty"),
        ("000", UsageError, "Row 0 .* is all zeros"),
        ("110/000", UsageError, "Row 1 .* is all zeros"),
    ],
)
def test_what_is_no_matrix_is_refused_in_a_sentence(matrix: str, error: type[Exception], words: str) -> None:
    with pytest.raises((error, ValidationError), match=words):
        Linear(matrix=matrix).block()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.csv", "1,0\n0,2\n", "Row 1 .* holds 2"),
        ("m.csv", "a,b\n1,0\n", "Line 1 .* is not of 0 and 1"),
        ("m.txt", "", "is empty"),
        ("m.txt", "# nothing\n", "is empty"),
    ],
)
def test_a_file_of_something_else_is_refused_with_its_place(tmp_path: Path, name: str, content: str, words: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputOutputError, match=words):
        Linear(matrix=str(tmp_path / name))


@pytest.mark.parametrize("array", [numpy.zeros(3), numpy.array([["1", "0"]]), numpy.array([[0.5, 1.0]])])
def test_an_array_of_another_kind_is_refused(tmp_path: Path, array: numpy.ndarray) -> None:
    numpy.save(tmp_path / "m.npy", array)
    with pytest.raises(InputOutputError):
        Linear(matrix=str(tmp_path / "m.npy"))


def test_an_array_of_objects_is_never_unpickled(tmp_path: Path) -> None:
    numpy.save(tmp_path / "m.npy", numpy.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(InputOutputError, match="never unpickled") as refused:
        Linear(matrix=str(tmp_path / "m.npy"))
    assert "allow_pickle" not in str(refused.value)


def test_a_name_in_capitals_and_a_comma_behind_the_last_entry_are_read(tmp_path: Path) -> None:
    (tmp_path / "U.CSV").write_text("1,0,1,\n0,1,1,\n")
    assert Linear(matrix=str(tmp_path / "U.CSV")).matrix == "101/011"
    numpy.save(tmp_path / "u.npy", numpy.eye(2))
    (tmp_path / "u.npy").rename(tmp_path / "U.NPY")
    assert Linear(matrix=str(tmp_path / "U.NPY")).matrix == "10/01"


def test_checks_of_full_rank_are_said_to_leave_no_information_bit() -> None:
    with pytest.raises(UsageError, match="leave no information bit"):
        Linear(matrix="10/01", kind="parity-check").block()


def test_rows_that_hide_an_information_bit_have_no_trellis_and_the_sentence_says_what_helps() -> None:
    # Fourteen information bits: too many for all words, and the last row adds to every other column but its own.
    k = 14
    rows = [[int(place == row) for place in range(k)] + [1, int(row % 2)] for row in range(k)]
    rows[0] = [a ^ b for a, b in zip(rows[0], rows[1], strict=True)]
    spec = Linear(matrix="/".join("".join(map(str, row)) for row in rows))
    assert "Reduced rows" in (spec.no_soft_decoder() or "")


def test_what_is_no_matrix_is_answered_with_what_is_one(tmp_path: Path) -> None:
    three = tmp_path / "three.npy"
    numpy.save(three, numpy.zeros(3))
    for matrix in ("", "1101,0110", str(three), str(tmp_path / "nowhere.txt")):
        with pytest.raises((UsageError, InputOutputError)) as caught:
            Linear(matrix=matrix)
        assert caught.value.hint == (
            "Name a .npy, .csv or .txt file of 0 and 1, a row in each line, or write the rows: 1101000/0110100."
        )
    with pytest.raises(UsageError, match="have 2 to 3 entries") as caught:
        Linear(matrix="110/11")
    assert caught.value.hint == "All are of one length."


def test_a_matrix_is_the_generator_or_the_checks_as_it_is_given() -> None:
    rows = ((1, 1, 0, 1), (0, 1, 1, 1))
    generator, checks = Linear(matrix="1101/0111"), Linear(matrix="1101/0111", kind="parity-check")
    assert generator.generator_matrix() == checks.parity_check_matrix() == rows
    assert generator.parity_check_matrix() == checks.generator_matrix()
    assert len(generator.parity_check_matrix()) == 2
    assert generator.kind == "generator"


def test_a_large_matrix_of_one_row_is_told_by_its_size_too() -> None:
    assert Linear(matrix="1" * 41).label().startswith("linear(matrix=1x41-")
    assert Linear(matrix="1" * 40).label() == f"linear(matrix={'1' * 40})"


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("1 0 1\n0 2 1\n", "Entries are 0 or 1."),
        ("1 0 1\n0 x 1\n", "Name a .npy, .csv or .txt file of 0 and 1, a row in each line, or write the rows: "),
    ],
)
def test_a_wrong_entry_of_a_file_is_answered_with_what_entries_are(tmp_path: Path, content: str, hint: str) -> None:
    (tmp_path / "matrix.txt").write_text(content)
    with pytest.raises(InputOutputError) as caught:
        Linear(matrix=str(tmp_path / "matrix.txt"))
    assert (caught.value.hint or "").startswith(hint)
