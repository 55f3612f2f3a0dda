from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bvae_cli.config import PluginRef, parse_dataset
from bvae_cli.datasets import symbol_text
from bvae_cli.datasets.base import Splits
from bvae_cli.datasets.symbol_text import Filling, read_sequences
from bvae_cli.datasets.symbols import Symbols
from bvae_cli.errors import InputOutputError, UsageError

from .refusal import refused

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)

SEPARATORS = ["", ",", " ", "\t", ";", "::", "|"]


def written(folder: Path, content: str | bytes, name: str = "x.txt") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows_of(splits: Splits) -> list[list[str]]:
    """All rows as symbols, in the order of the file."""
    assert splits.order is not None
    rows = torch.cat([torch.as_tensor(part) for part in (splits.train, splits.validation, splits.test)])
    return [[splits.vocabulary[number] for number in row] for row in rows[splits.order.argsort()].tolist()]


def loaded(folder: Path, content: str | bytes, **options: Any) -> Splits:
    splits = Symbols(path=written(folder, content), **options).load()
    assert splits.problem() is None
    return splits


def outcome(spec: Symbols) -> Splits | InputOutputError:
    try:
        return spec.load()
    except InputOutputError as error:
        return error


# What is read


def test_each_character_is_a_symbol_and_the_vocabulary_is_sorted(tmp_path: Path) -> None:
    splits = loaded(tmp_path, "CAB\nABA\nöAB\nAAA\n")
    assert splits.vocabulary == ("A", "B", "C", "ö")
    assert splits.categories == (4, 4, 4)
    assert (splits.likelihood, splits.feature_shape) == ("categorical", (3,))
    assert splits.train.dtype is torch.int16
    assert rows_of(splits) == [list("CAB"), list("ABA"), list("öAB"), list("AAA")]


@pytest.mark.parametrize(
    ("separator", "text"),
    [
        ("comma", "Cl,C,N\nC, N ,O\n\nN,N,N\n"),
        (",", "Cl,C,N\nC,N,O\nN,N,N"),
        ("blank", " Cl C\tN\nC  N O \n \nN N N\n"),
        ("tab", "Cl\tC\tN\nC\tN\tO\nN\tN\tN\n"),
        (";", "Cl;C;N\nC;N;O\nN;N;N\n"),
        ("->", "Cl->C->N\nC -> N->O\nN->N->N\n"),
    ],
)
def test_symbols_stand_between_separators(tmp_path: Path, separator: str, text: str) -> None:
    splits = loaded(tmp_path, text, separator=separator)
    assert splits.vocabulary == ("C", "Cl", "N", "O")
    assert rows_of(splits) == [["Cl", "C", "N"], ["C", "N", "O"], ["N", "N", "N"]]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("last", [True, False])
def test_ends_of_lines_and_byte_order_marks_of_any_system_are_no_symbols(
    tmp_path: Path, end: str, mark: bytes, last: bool
) -> None:
    text = end.join(["ab", "", "ba", "bb"]) + (end if last else "")
    vocabulary = written(tmp_path, mark + f"b{end}a{end}".encode(), "v.txt")
    splits = loaded(tmp_path, mark + text.encode(), vocabulary=vocabulary)
    assert splits.vocabulary == ("b", "a")
    assert rows_of(splits) == [["a", "b"], ["b", "a"], ["b", "b"]]


def test_the_symbols_are_numbered_in_the_order_of_the_vocabulary(tmp_path: Path) -> None:
    vocabulary = written(tmp_path, "T\nG\nC\nA\n", "v.txt")
    splits = loaded(tmp_path, "ACG\nTTT\nAAA\n", vocabulary=vocabulary)
    assert splits.vocabulary == ("T", "G", "C", "A")
    assert sorted(torch.cat([splits.train, splits.validation, splits.test]).tolist()) == [[0, 0, 0], [3, 2, 1], [3, 3, 3]]


def test_a_blank_is_a_symbol_where_every_character_is(tmp_path: Path) -> None:
    assert loaded(tmp_path, "a b\n  a\nb  \n").vocabulary == (" ", "a", "b")


@pytest.mark.parametrize(
    ("named", "vocabulary"), [(None, ("C", "N", "_")), ("N\nC\n", ("N", "C", "_")), ("_\nC\nN", ("_", "C", "N"))]
)
def test_shorter_rows_are_filled_up_with_the_padding(tmp_path: Path, named: str | None, vocabulary: tuple[str, ...]) -> None:
    file = None if named is None else written(tmp_path, named, "v.txt")
    splits = loaded(tmp_path, "C\nNC\nCCNN\n", length=4, vocabulary=file)
    assert splits.vocabulary == vocabulary
    assert rows_of(splits) == [list("C___"), list("NC__"), list("CCNN")]


def test_the_padding_may_be_a_longer_symbol_between_separators(tmp_path: Path) -> None:
    splits = loaded(tmp_path, "a,b\nb\na\n", separator=",", length=3, padding="<pad>")
    assert splits.vocabulary == ("a", "b", "<pad>")
    assert rows_of(splits)[1] == ["b", "<pad>", "<pad>"]


def test_the_rows_are_divided_by_the_seed_or_by_a_file(tmp_path: Path) -> None:
    text = "".join(f"{number:03d}\n" for number in range(50))
    splits = loaded(tmp_path, text, validation=0.2)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [35, 10, 5]
    listed = written(tmp_path, "test\nvalidation\n" + "train\n" * 48, "splits.txt")
    divided = loaded(tmp_path, text, split_file=listed)
    assert (divided.test.tolist(), divided.validation.tolist()) == ([[0, 0, 0]], [[0, 0, 1]])


def test_a_file_that_is_read_in_parts_is_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # One symbol of two characters among those of one: some parts are read by the table of characters, some are not.
    text = "".join(
        f"{chr(97 + number % 23)},{'xy' if number == 50 else 'z'},{chr(100 + number % 7)}\n" for number in range(99)
    )
    whole = loaded(tmp_path, text, separator=",")
    monkeypatch.setattr(symbol_text, "_CHARACTERS_AT_ONCE", 37)
    in_parts = loaded(tmp_path, text, separator=",")
    assert in_parts.digest() == whole.digest()
    bad = written(tmp_path, "a,z\n" * 40 + "a,\n" + "a,z\n" * 40)
    with refused("Line 41, place 2 of", "is empty"):
        Symbols(path=bad, separator=",").load()


@in_one_folder
@given(data=st.data())
def test_any_rows_of_any_vocabulary_come_back(tmp_path: Path, data: st.DataObject) -> None:
    separator = data.draw(st.sampled_from(SEPARATORS))
    characters = st.characters(exclude_characters=f"{separator}\r\n\0\ufeff", exclude_categories=["Cs"])
    symbol = characters if not separator else st.text(characters, min_size=1, max_size=3).map(str.strip).filter(bool)
    if separator == " ":
        symbol = symbol.filter(lambda text: len(text.split()) == 1)
    vocabulary = data.draw(st.lists(symbol, min_size=1, max_size=8, unique=True))
    # Lines without a separator are not taken for symbols.
    length = data.draw(st.integers(2 if separator else 1, 6))
    row = st.lists(st.sampled_from(vocabulary), min_size=length, max_size=length)
    rows = data.draw(st.lists(row, min_size=3, max_size=9))
    # A row of nothing but blanks that stand for symbols is a line like others only without a separator.
    options: dict[str, Any] = {"separator": separator}
    if data.draw(st.booleans()):
        options["vocabulary"] = written(tmp_path, "\n".join(vocabulary), "v.txt")
    splits = loaded(tmp_path, "\n".join(separator.join(row) for row in rows), **options)
    assert rows_of(splits) == rows
    assert splits.vocabulary == tuple(
        vocabulary if "vocabulary" in options else sorted({one for row in rows for one in row})
    )


@in_one_folder
@given(
    content=st.binary(max_size=60) | st.text(alphabet="ab,\r\n \t\0\ufeffé", max_size=30).map(str.encode),
    vocabulary=st.none() | st.binary(max_size=12),
    separator=st.sampled_from(SEPARATORS),
    length=st.sampled_from([0, 3]),
)
def test_anything_else_is_refused_with_a_sentence(
    tmp_path: Path, content: bytes, vocabulary: bytes | None, separator: str, length: int
) -> None:
    file = None if vocabulary is None else written(tmp_path, vocabulary, "v.txt")
    spec = Symbols(path=written(tmp_path, content), separator=separator, vocabulary=file, length=length)
    found = outcome(spec)
    if isinstance(found, Splits):
        assert found.problem() is None
    else:
        assert found.hint
        assert "\n" not in found.message


# What is refused


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        ("AB\nAB\nABC\n", {}, ("Line 3 of", "has 3 symbols, 2 expected", "length=N")),
        ("AB\n\nA\nAB\n", {}, ("Line 3 of", "has 1 symbol, 2 expected")),
        ("AB\nABC\nA\n", {"length": 2}, ("Line 2 of", "has 3 symbols, more than the length 2")),
        ("a,b\na,,b\n", {"separator": ","}, ("Line 2, place 2 of", "is empty", "between two separators")),
        ("a,b,\n", {"separator": ","}, ("Line 1, place 3 of", "is empty")),
        ("\n\n", {}, ("has no rows",)),
        (" \n\t\n", {"separator": "blank"}, ("has no rows",)),
        ("AB\nBA\n", {}, ("too few rows to divide: 2",)),
        (b"AB\n\xff\xfe\n", {}, ("is not text in UTF-8",)),
        (b"AB\nA\0\n", {}, ("is not text",)),
        (b"", {}, ("is empty",)),
        ("A\n" * 40, {"length": 2**23}, ("filled up to the length 8,388,608", "Say a smaller length")),
    ],
)
def test_what_is_no_table_of_symbols_is_refused(tmp_path: Path, content: Any, options: Any, words: tuple[str, ...]) -> None:
    with refused(*words):
        Symbols(path=written(tmp_path, content), **options).load()


@pytest.mark.parametrize("separator", ["", ",", " "])
def test_a_symbol_that_the_vocabulary_lacks_is_named_with_its_place(tmp_path: Path, separator: str) -> None:
    vocabulary = written(tmp_path, "A\nB\n", "v.txt")
    text = "\n".join(["", separator.join("AB"), separator.join("BZ"), separator.join("ZZ")])
    with refused("Line 3, place 2 of", "x.txt is 'Z', which the vocabulary lacks (counted from 1)", "Add it"):
        Symbols(path=written(tmp_path, text), separator=separator, vocabulary=vocabulary).load()
    with refused("Line 1, place 2 of", r"is '\x1b'"):
        Symbols(path=written(tmp_path, separator.join("A\x1b")), separator=separator, vocabulary=vocabulary).load()


def test_the_nearest_symbol_of_the_vocabulary_is_offered(tmp_path: Path) -> None:
    vocabulary = written(tmp_path, "minor\nmajor\n", "v.txt")
    with refused("Line 1, place 2", "is 'mayor'", "Did you mean 'major'?"):
        Symbols(path=written(tmp_path, "minor mayor\n"), separator="blank", vocabulary=vocabulary).load()


@pytest.mark.parametrize(
    ("content", "separator", "words"),
    [
        ("A\nB\nA\n", "", ("Line 3 of", "repeats 'A' of line 1")),
        ("A\n\nB\n", "", ("Line 2 of", "is empty")),
        ("A\n \nB\n", ",", ("Line 2 of", "is empty")),
        ("A\nCl\n", "", ("Line 2 of", "is 'Cl'", "separator=comma")),
        (b"\xff\xff", "", ("is no vocabulary", "UTF-8")),
        ("\n".join(map(str, range(2**15 + 1))), ",", ("more than 32,768 different symbols",)),
    ],
)
def test_what_is_no_vocabulary_is_refused(tmp_path: Path, content: Any, separator: str, words: tuple[str, ...]) -> None:
    spec = Symbols(path=written(tmp_path, "A\n"), separator=separator, vocabulary=written(tmp_path, content, "v.txt"))
    with refused("v.txt", *words):
        spec.load()


@pytest.mark.parametrize("separator", ["", "comma"])
def test_more_symbols_than_there_are_numbers_are_refused(tmp_path: Path, separator: str) -> None:
    between = "," if separator else ""
    symbols = [chr(0x4E00 + number) if not separator else f"w{number}" for number in range(2**15 + 1)]
    symbols = symbols if separator else [chr(0x3400 + number) for number in range(2**15 + 1)]
    with refused("more than 32,768 different symbols", "separator"):
        Symbols(path=written(tmp_path, between.join(symbols)), separator=separator).load()
    lines = between.join(symbols[:-2]), between.join([symbols[0]] * (2**15 - 1)), between.join(symbols[1:-1])
    assert set(loaded(tmp_path, "\n".join(lines), separator=separator).categories) == {2**15}


def test_lines_in_which_the_separator_never_stands_are_refused_unless_a_vocabulary_names_them(tmp_path: Path) -> None:
    path = written(tmp_path, "ACGT\nCCGT\nACGA\n")
    for length in (0, 2):
        with refused(f"No line of {path} has the separator ','", "as 'ACGA'", "Leave separator out", "vocabulary"):
            Symbols(path=path, separator="comma", length=length).load()
    named = Symbols(path=path, separator="comma", vocabulary=written(tmp_path, "ACGT\nCCGT\nACGA\n", "v.txt"))
    assert named.load().categories == (3,)
    assert loaded(tmp_path, "A\nC\nA\n", separator="comma", length=2, padding="pad").vocabulary == ("A", "C", "pad")


def test_shares_beside_a_split_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"validation=0\.3 would do nothing: split_file says the split of each row"):
        Symbols(path="x.txt", split_file="s.txt", validation=0.3)


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbol_text, "_LONGEST_LINE", 1000)
    monkeypatch.setattr(symbol_text, "_CHARACTERS_AT_ONCE", 100)
    assert loaded(tmp_path, "\n".join(["a" * 1000] * 3)).features == 1000
    with refused("Line 2 of", "more than 1,000 characters"):
        Symbols(path=written(tmp_path, "a" * 9 + "\n" + "a" * 2000)).load()


def test_missing_files_are_named_before_anything_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, "A\n")
    for options in ({"path": tmp_path / "none.txt"}, {"path": path, "vocabulary": tmp_path / "none.txt"}):
        with refused("There is no file", "none.txt"):
            Symbols(**options).check()
    with refused("There is no file"):
        Symbols(path=path, split_file=tmp_path / "none.txt").check()


# The options


@pytest.mark.parametrize("separator", ["", " ", "\t", ",", ";", "|", "::"])
def test_a_separator_survives_the_line_that_names_it(separator: str) -> None:
    spec = Symbols(path="x.txt", separator=separator)
    reference = PluginRef(type="symbols", options=spec.model_dump(mode="json"))
    assert parse_dataset(reference.label()).spec("data set") == spec


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="padding '__' is not one character"):
        Symbols(path="x.txt", padding="__")
    with pytest.raises(UsageError, match="no ends of lines"):
        Symbols(path="x.txt", separator="\n")
    for options in ({"padding": ""}, {"length": -1}, {"separator": "a" * 10}):
        with pytest.raises(ValidationError):
            Symbols(path="x.txt", **options)


def test_symbols_are_symbols_whatever_likelihood_is_named() -> None:
    spec = Symbols(path="x.txt")
    assert spec.for_likelihood("poisson") is spec


def test_the_numbers_of_a_large_file_are_those_of_a_loop(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = ["".join(random.choice(list("ACGT"), random.integers(1, 13))) for _ in range(3000)]
    numbers, names = read_sequences(written(tmp_path, "\n".join(rows)), "", filling=Filling(12, "-"))
    assert names == ("A", "C", "G", "T", "-")
    assert ["".join(names[number] for number in row).rstrip("-") for row in numbers.tolist()] == rows
