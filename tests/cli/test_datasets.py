from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bvae_cli
from bvae_cli.datasets.random_code import RandomCode

from ..outcome import Bvae
from .conftest import TINY


def by_name(bvae: Bvae) -> dict[str, Any]:
    return {row["name"]: row for row in bvae("datasets", "--json").succeeded().json()}


def test_every_data_set_is_a_row_with_origin_licence_and_options(bvae: Bvae) -> None:
    rows = by_name(bvae)
    assert {"binarized-mnist", "mnist", "arrays", "packed"} <= set(rows)
    for row in rows.values():
        assert row["origins"] == [f"bvae-cli {bvae_cli.__version__}"]
        assert row["problem"] is None
        assert row["licence"]
    assert rows["arrays"]["options"]["path"]["required"]
    assert not rows["arrays"]["options"]["validation"]["required"]


def test_the_table_says_the_same(bvae: Bvae) -> None:
    shown = bvae("datasets").succeeded().out
    for name in ("binarized-mnist", "mnist", "arrays", "packed"):
        (row,) = [line for line in shown.splitlines() if line.startswith(f" {name} ")]
        assert row.rstrip().endswith("ok")
    licences = {name: row["licence"] for name, row in by_name(bvae).items()}
    assert "licence" in shown.splitlines()[1]
    for name, licence in licences.items():
        assert any(line.startswith(f" {name} ") and licence in line for line in shown.splitlines())


def test_a_data_set_is_shown_with_its_facts_and_pictures(bvae: Bvae, workplace: Path) -> None:
    outcome = bvae("datasets", "show", "bits.npy", "--out", "rows.png").succeeded()
    for words in (
        "48 training, 6 validation, 6 test",
        "12 values; 0 are the same",
        "bits, mean 0.",
        "not known",
    ):
        assert words in outcome.out
    facts = bvae("datasets", "show", "bits.npy", "--json", "-q").succeeded().json()
    assert (facts["training_rows"], facts["features"], facts["labels"], facts["entropy"]) == (48, 12, None, None)
    assert facts["picture"] is None


def test_constant_columns_and_labels_are_counted(bvae: Bvae, workplace: Path) -> None:
    rows = np.load("bits.npy")
    rows[:, [2, 5]] = 1
    np.savez("x.npz", x=rows, y=np.arange(60) % 4)
    outcome = bvae("datasets", "show", "x.npz").succeeded()
    for words in ("2 are the same in all training rows", "4 different ones"):
        assert words in outcome.out


def test_values_that_are_no_bits_are_shown_as_what_they_are(bvae: Bvae, workplace: Path) -> None:
    rows = np.arange(120.0).reshape(20, 6)
    np.save("x.npy", rows)
    outcome = bvae("datasets", "show", "x.npy", "--likelihood", "gaussian", "--out", "rows.png").succeeded()
    assert "real values 0…119, mean " in outcome.out
    assert "likelihood gaussian" in outcome.out
    assert Path("rows.png").read_bytes().startswith(b"\x89PNG")
    counts = bvae("datasets", "show", "arrays:path=x.npy,likelihood=poisson").succeeded()
    assert "counts 0…119, mean " in counts.out
    rows[:, 0] = 0
    np.save("x.npy", rows)
    symbols = bvae("datasets", "show", "x.npy", "--likelihood", "categorical").succeeded()
    assert "symbols: 1 to 120 in a column; 1 column has a single one" in symbols.out
    assert "mean" not in symbols.out
    facts = bvae("datasets", "show", "x.npy", "--likelihood", "categorical", "--json", "-q").succeeded().json()
    assert (facts["mean"], facts["categories"], facts["largest"]) == (None, [1, 120], 119)
    found = bvae("datasets", "check", "x.npy", "--likelihood", "poisson", "--json", "-q").succeeded().json()
    assert {row["state"] for row in found} == {"passed", "exempt"}


def test_symbols_are_shown_with_their_names_and_some_rows(bvae: Bvae, workplace: Path) -> None:
    Path("x.txt").write_text("\n".join(f"{word:04b}" for word in range(16)) + "\n\x1b[0m")
    outcome = bvae("datasets", "show", "symbols:path=x.txt,validation=0.4,test=0.4", "--out", "rows.png").succeeded()
    for words in ("symbols: 5 in each column", r"\x1b 0 1 [ m", "first rows  "):
        assert words in outcome.out
    Path("x.txt").write_text("C Cl\nCl Cl\nC C\n")
    facts = bvae("datasets", "show", "symbols:path=x.txt,separator=blank", "--json", "-q").succeeded().json()
    assert facts["vocabulary"] == ["C", "Cl"]
    assert facts["first_rows"][0] in ("C Cl", "Cl Cl", "C C")
    assert facts["constant"] == 2


def test_a_likelihood_that_the_values_do_not_have_is_refused(bvae: Bvae, workplace: Path) -> None:
    bvae("datasets", "show", "bits.npy", "--likelihood", "poison").refused(2, "poison", "Did you mean 'poisson'?")
    refused = bvae("datasets", "show", "random-code:n=8,k=3,rows=50", "--likelihood", "poisson")
    refused.refused(2, "are bits, or between 0 and 1: the likelihood poisson is of others", "bernoulli or gaussian")
    bvae("datasets", "pack", "bits.npy", "x.npz", "--likelihood", "poisson").refused(2, "has no use for --likelihood")
    np.save("x.npy", np.full((9, 2), 0.5))
    bvae("datasets", "show", "x.npy", "--likelihood", "poisson").refused(3, "is 0.5, no count", "--likelihood gaussian")


def test_what_is_no_bits_is_not_packed(bvae: Bvae, workplace: Path) -> None:
    np.save("x.npy", np.arange(120).reshape(20, 6))
    for likelihood in ("gaussian", "poisson", "categorical"):
        line = ("datasets", "pack", f"arrays:path=x.npy,likelihood={likelihood}", "packed.npz")
        bvae(*line).refused(2, "are not all bits, and only bits can be packed")
    assert not Path("packed.npz").exists()


def test_a_known_entropy_is_shown_in_nats(bvae: Bvae) -> None:
    outcome = bvae("datasets", "show", "random-code:n=8,k=3,rows=50").succeeded()
    for words in ("2.07944 nats a row, exactly", "-2.07944 nats, mean of the test rows"):
        assert words in outcome.out


def test_a_data_set_is_checked(bvae: Bvae, workplace: Path) -> None:
    outcome = bvae("datasets", "check", "random-code:n=8,k=3,rows=50").succeeded()
    assert "16 checks" in outcome.out
    assert outcome.out.count(" passed ") == 13
    found = bvae("datasets", "check", "bits.npy", "--json", "-q").succeeded().json()
    assert {row["state"] for row in found} == {"passed", "exempt"}


def test_a_data_set_that_fails_a_check_is_told_so(bvae: Bvae, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RandomCode, "entropy", lambda _: 1.0)
    outcome = bvae("datasets", "check", "random-code:n=8,k=3,rows=50")
    assert outcome.code == 4
    assert "entropy_is_that_of_the_rows: The mean log p(x) is -2.07944, the entropy 1." in outcome.out
    assert "fails 1 of 16 checks: entropy_is_that_of_the_rows" in outcome.err


def test_what_cannot_be_shown_or_checked_is_refused(bvae: Bvae, workplace: Path) -> None:
    bvae("datasets", "show").refused(2, "takes one data set")
    bvae("datasets", "check", "bits.npy", "x.npz").refused(2, "takes one data set")
    bvae("datasets", "show", "bits.npy", "--out", "rows.jpg").refused(2, ".png")
    bvae("datasets", "list", "mnist").refused(2, "bvae datasets show mnist")
    bvae("datasets", "check", "bits.npy", "--out", "rows.png").refused(2, "has no use for --out")
    bvae("datasets", "show", "bits.npy", "--overwrite").refused(2, "has no use for --overwrite")
    bvae("datasets", "show", "none.npy").refused(3, "There is no file none.npy")


def test_a_packed_file_is_trained_on_as_what_it_was_packed_from(bvae: Bvae, workplace: Path) -> None:
    outcome = bvae("datasets", "pack", "bits.npy", "packed.npz").succeeded()
    for words in ("48 training, 6 validation, 6 test", "12 bits\n", "packed.npz"):
        assert words in outcome.out
    np.save("pictures.npy", np.load("bits.npy").reshape(60, 3, 4))
    assert "12 bits, 3 × 4\n" in bvae("datasets", "pack", "pictures.npy", "pictures.npz").succeeded().out
    assert "bvae train --dataset packed.npz" in outcome.err
    assert bvae("train", *TINY, "--json").succeeded().json()["state"] == "finished"
    again = ("packed.npz" if word == "bits.npy" else word for word in TINY)
    assert bvae("train", *again, "--json").succeeded().json()["state"] == "already finished"


def test_what_was_packed_is_one_object(bvae: Bvae, workplace: Path) -> None:
    facts = bvae("datasets", "pack", "bits.npy", "packed.npz", "--json", "-q").succeeded().json()
    assert (facts["file"], facts["training_rows"], facts["features"]) == ("packed.npz", 48, 12)
    assert facts["bytes"] == Path("packed.npz").stat().st_size


def test_a_packed_file_is_written_anew_only_when_asked(bvae: Bvae, workplace: Path) -> None:
    Path("packed.npz").write_bytes(b"mine")
    bvae("datasets", "pack", "bits.npy", "packed.npz").refused(2, "packed.npz is there already", "--overwrite")
    assert Path("packed.npz").read_bytes() == b"mine"
    bvae("datasets", "pack", "bits.npy", "packed.npz", "--overwrite").succeeded()
    assert Path("packed.npz").read_bytes().startswith(b"PK")


def test_data_that_cannot_be_packed_are_refused(bvae: Bvae, workplace: Path) -> None:
    bvae("datasets", "pack", "none.npy", "p.npz").refused(3, "There is no file none.npy")
    bvae("datasets", "pack", "mnst", "p.npz").refused(2, "Did you mean 'mnist'?")
    Path("grey.csv").write_text("0.5,1\n" * 5)
    bvae("datasets", "pack", "grey.csv", "p.npz").refused(2, "not all bits")
    assert not Path("p.npz").exists()


def test_data_are_not_packed_over_themselves(bvae: Bvae, workplace: Path) -> None:
    np.savez("x.npz", x=np.load("bits.npy"))
    before = Path("x.npz").read_bytes()
    bvae("datasets", "pack", "x.npz", "x.npz", "--overwrite").refused(2, "x.npz is read here")
    assert Path("x.npz").read_bytes() == before


def test_a_picture_of_data_replaces_nothing_unasked_and_is_not_put_among_them(bvae: Bvae, workplace: Path) -> None:
    Path("rows.png").write_bytes(b"mine")
    bvae("datasets", "show", "bits.npy", "-o", "rows.png").refused(2, "rows.png is there already", "--overwrite")
    assert Path("rows.png").read_bytes() == b"mine"
    bvae("datasets", "show", "bits.npy", "-o", "rows.png", "--overwrite").succeeded()
    assert Path("rows.png").read_bytes().startswith(b"\x89PNG")
    Path("pictures").mkdir()
    Path("rows.png").rename("pictures/rows.png")
    bvae("datasets", "show", "images:path=pictures", "-o", "pictures/all.png").refused(2, "lies among the pictures of")
    assert not Path("pictures/all.png").exists()
