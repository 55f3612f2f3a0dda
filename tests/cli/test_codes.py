from __future__ import annotations

import sys
from pathlib import Path

import pytest

import bvae_cli

from ..outcome import Bvae


def test_every_code_is_a_row_with_origin_version_and_options(bvae: Bvae) -> None:
    rows = {row["name"]: row for row in bvae("codes", "--json").succeeded().json()}
    assert {"none", "repetition"} <= set(rows)
    for row in rows.values():
        assert row["origins"] == [f"bvae-cli {bvae_cli.__version__}"]
        assert row["problem"] is None
        assert row["summary"]
    assert rows["none"]["options"] == {}
    copies = rows["repetition"]["options"]["R"]
    assert (copies["required"], copies["default"]) == (False, "3")
    assert "opies" in copies["description"]


def test_the_table_says_the_same(bvae: Bvae) -> None:
    outcome = bvae("codes").succeeded()
    assert outcome.err == ""
    (row,) = [line for line in outcome.out.splitlines() if line.startswith(" repetition ")]
    assert f"bvae-cli {bvae_cli.__version__}" in row
    assert "R=3" in row
    assert row.rstrip().endswith("ok")


def test_an_option_that_is_not_there_is_refused(bvae: Bvae) -> None:
    bvae("codes", "--jsn").refused(2, "--jsn", "--json")
    bvae("codes", "repetition").refused(2, "repetition")


def test_a_code_is_shown_with_its_matrix_and_its_decoders(bvae: Bvae) -> None:
    shown = bvae("codes", "show", "hamming", "--r", 3, "--json").succeeded().json()
    assert (shown["n"], shown["k"], shown["min_distance"], shown["correctable"]) == (7, 4, 3, 1)
    assert len(shown["generator_matrix"]) == 4
    assert "exact" in shown["soft_decoding"]
    assert shown["error_rates"][0]["hard_bit"] == pytest.approx(9e-4 - 26e-6 + 30e-8 - 12e-10)
    said = bvae("codes", "show", "hamming:r=4").succeeded().out
    assert "n = 15 code bits, k = 11 information bits" in said
    assert "up to 1 wrong bit always corrected" in said


def test_a_code_is_shown_at_the_flips_that_are_named(bvae: Bvae) -> None:
    shown = bvae("codes", "show", "repetition", "--epsilon", 0.2, "--json").succeeded().json()
    assert [rates["epsilon"] for rates in shown["error_rates"]] == [0.2]
    assert shown["error_rates"][0]["hard_bit"] == pytest.approx(3 * 0.04 - 2 * 0.008)


def test_a_code_that_cannot_be_afforded_says_what_it_would_take(bvae: Bvae) -> None:
    assert "n − k ≤ 12" in bvae("codes", "show", "bch", "--ecc-n", 31, "--t", 3).succeeded().out
    bvae("train", "--ecc", "bch:n=31,t=3", "--latent", 310).refused(2, "no model can be trained with it")


def test_of_a_code_that_nothing_decodes_no_measurement_is_promised(bvae: Bvae) -> None:
    said = bvae("codes", "show", "bch", "--ecc-n", 127, "--t", 10).succeeded().out
    assert "nothing decodes it" in said
    assert "bvae codes ber" not in said
    assert "bvae codes ber" in bvae("codes", "show", "ldpc").succeeded().out


def test_the_checks_of_a_code_are_a_table(bvae: Bvae) -> None:
    outcomes = bvae("codes", "check", "hamming", "--r", 3, "--json").succeeded().json()
    assert len(outcomes) == 36
    assert {outcome["state"] for outcome in outcomes} == {"passed"}


def test_a_code_that_fails_a_check_fails_the_command(bvae: Bvae, monkeypatch: pytest.MonkeyPatch) -> None:
    from bvae_cli.codes.repetition import RepetitionCode

    monkeypatch.setattr(RepetitionCode, "soft_decode", lambda self, logits: -logits.unflatten(-1, (3, -1)).sum(-2))
    refused = bvae("codes", "check", "repetition")
    assert refused.code == 4
    assert "soft_sign" in refused.err
    assert "the sign of all logits is turned" in refused.out


OF_A_FILE = """
from bvae_cli.codes.blocks import BlockSpec
from bvae_cli.codes.hamming import Hamming
from pydantic import Field


class Base(BlockSpec):
    pass


class Copies(Base):
    family = "copies"
    summary = "copies of a bit"
    r: int = Field(2, ge=1, description="Copies.")

    def generator_matrix(self):
        return ((1,) * self.r,)


class Needy(Base):
    family = "needy"
    summary = "a word of ones"
    size: int = Field(ge=1, description="Length.")

    def generator_matrix(self):
        return ((1,) * self.size,)
"""


def states_of(outcomes: list[dict[str, str]]) -> dict[str, set[str]]:
    """Return what became of the checks of each code; those that were told by another process are among the passed."""
    assert {o["state"] for o in outcomes if o["check"] in ("digest", "pickling")} == {"passed"}
    codes = {outcome["code"] for outcome in outcomes}
    return {code: {outcome["state"] for outcome in outcomes if outcome["code"] == code} for code in codes}


def test_the_codes_that_a_file_defines_are_checked(bvae: Bvae, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OF_A_FILE)
    file = tmp_path / "mine.py"
    before = (list(sys.path), set(sys.modules))
    done = bvae("codes", "check", file, "--json").succeeded()
    assert states_of(done.json()) == {"copies(r=2)": {"passed", "exempt"}}  # two copies correct nothing for certain
    assert "Needy needs the option 'size'" in done.err
    assert sys.path == before[0]
    assert "mine" not in sys.modules
    both = bvae("codes", "check", f"{file}:r=3,size=4", "--json").succeeded().json()
    assert states_of(both) == {"copies(r=3)": {"passed"}, "needy(size=4)": {"passed"}}


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("broken.py", "import nowhere_to_be_found", 4, ("broken.py cannot be imported", "nowhere_to_be_found")),
        ("broken.py", "class A(:", 4, ("broken.py cannot be imported", "SyntaxError")),
        ("empty.py", "from bvae_cli.codes.hamming import Hamming", 4, ("empty.py defines no code",)),
        ("json.py", OF_A_FILE, 4, ("json.py cannot be imported", "another name")),
        ("mine.py:q=3", OF_A_FILE, 2, ("'q'",)),
        ("mine.py:r=0", OF_A_FILE, 2, ("r must be at least 1",)),
        ("m.csv", "1,0", 2, ("is a file and no code", "bvae codes check linear --matrix")),
        ("none.py", None, 3, ("There is no file",)),
    ],
)
def test_a_file_that_defines_no_code_is_refused_in_a_sentence(
    bvae: Bvae, tmp_path: Path, name: str, content: str | None, code: int, words: tuple[str, ...]
) -> None:
    if content is not None:
        (tmp_path / name.partition(":")[0]).write_text(content)
    bvae("codes", "check", tmp_path / name).refused(code, *words)


def test_options_of_a_code_in_a_file_stand_behind_its_name(bvae: Bvae, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OF_A_FILE)
    bvae("codes", "check", tmp_path / "mine.py", "--R", 3).refused(2, "behind the name")
    bvae("codes", "show", tmp_path / "mine.py").refused(2, "bvae codes check")


def test_error_rates_are_measured_beside_closed_forms_and_drawn(bvae: Bvae, tmp_path: Path) -> None:
    line = ("codes", "ber", "none", "repetition:R=3", "--epsilon", 0.1, "--words", 20_000, "--plot", tmp_path / "r.svg")
    rates = bvae(*line, "--json").succeeded().json()
    assert [rate["code"] for rate in rates] == ["none", "repetition(R=3)"]
    for rate in rates:
        for channel in ("hard", "soft"):
            known, found = rate["closed_form"][channel], rate["measured"][channel]
            assert abs(found["mean"] - known) < 4.5 * found["standard_error"]
    assert (tmp_path / "r.svg").read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("shwo",), ("There is no action 'shwo'", "Did you mean 'show'?")),
        (("show",), ("needs the name of a code",)),
        (("show", "hammin"), ("Did you mean 'hamming'?",)),
        (("show", "hammin:shorten=" + 300 * "1"), ("Did you mean 'hamming'?",)),
        (("show", "hamming", "golay"), ("takes one code",)),
        (("list", "hamming"), ("takes no name",)),
        (("show", "hamming", "--r", 1), ("r must be at least 2",)),
        (("ber", "none", "--epsilon", 0.7), ("--epsilon", "0.5")),
        (("ber", "none", "--plot", "r.doc"), ("not a format of a figure",)),
        (("show", "hamming", "--plot", "r.svg"), ("no use for --plot", "bvae codes ber")),
        (("show", "ldpc", "--seed", 9), ("no use for --seed", "--ecc-seed")),
        (("check", "hamming", "--words", 10), ("no use for --words",)),
        (("check", "hamming", "--epsilon", 0.1), ("no use for --epsilon", "show")),
        (("list", "--epsilon", 0.1), ("no use for --epsilon",)),
        (("list", "--R", 3), ("'R' is of one code, and none are named",)),
        (("ber", "repetition", "none", "--R", 5), ("2 are named", "repetition:R=5")),
        (("show", "hamming:r=3,r=4"), ("says the option 'r' twice",)),
    ],
)
def test_mistakes_about_codes_are_answered_in_a_sentence(
    bvae: Bvae, arguments: tuple[object, ...], words: tuple[str, ...]
) -> None:
    bvae("codes", *arguments).refused(2, *words)
