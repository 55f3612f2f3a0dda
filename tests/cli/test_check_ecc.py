"""Which codes fit and what they correct, against sums done here by hand."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest

from bvae_cli.config import PARAMETER_SETS

from ..outcome import Bvae


def binary_entropy(p: float) -> float:
    return 0.0 if p in (0, 1) else -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def majority(copies: int, epsilon: float) -> float:
    """Chance that more than half of the copies are wrong, plus half of the chance of a tie."""
    chance = [math.comb(copies, wrong) * epsilon**wrong * (1 - epsilon) ** (copies - wrong) for wrong in range(copies + 1)]
    wrong = math.fsum(chance[copies // 2 + 1 :])
    return wrong + (0.5 * chance[copies // 2] if copies % 2 == 0 else 0)


def verdict(bvae: Bvae, *arguments: Any) -> Any:
    return bvae("check-ecc", *arguments, "--json").succeeded().json()


def test_without_a_code_every_set_is_a_row(bvae: Bvae) -> None:
    rows = verdict(bvae)
    assert [row["set"] for row in rows] == [str(number) for number in range(8)]
    for row, sizes in zip(rows, PARAMETER_SETS.values(), strict=True):
        assert (row["hidden"], row["latent N"], row["depth"]) == sizes
        for copies in (2, 3):
            expected = "no" if sizes.latent % copies else f"yes, K={sizes.latent // copies}"
            assert row[f"R={copies}"] == expected
    shown = bvae("check-ecc").succeeded().out
    assert "R=3 compatible" in shown
    assert "corrects nothing" in shown


def test_one_set_or_one_size_is_one_row(bvae: Bvae) -> None:
    (row,) = verdict(bvae, "-n", 5)
    assert (row["set"], row["latent N"], row["R=3"]) == ("5", 300, "yes, K=100")
    (row,) = verdict(bvae, "--latent", 63)
    assert (row["latent N"], row["R=2"], row["R=3"]) == (63, "no", "yes, K=21")
    assert "hidden" not in row


@pytest.mark.parametrize(("copies", "fitting"), [(2, "0, 1, 2, 3, 4, 5, 6, 7"), (3, "5, 7"), (8, "2, 3, 4, 6"), (7, None)])
def test_a_code_without_a_size_is_held_against_every_set(bvae: Bvae, copies: int, fitting: str | None) -> None:
    shown = bvae("check-ecc", "--R", copies).succeeded().out
    assert (f"Parameter sets that fit: {fitting}." if fitting else "No parameter set fits") in shown
    sets = verdict(bvae, "--R", copies)["sets"]
    assert [row["set"] for row in sets if row["fits"] != "no"] == [
        number for number, sizes in PARAMETER_SETS.items() if sizes.latent % copies == 0
    ]


@pytest.mark.parametrize("copies", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("epsilon", [0.0, 0.01, 0.05, 0.3, 0.5])
def test_the_rates_are_those_of_the_closed_forms(bvae: Bvae, copies: int, epsilon: float) -> None:
    latent = 60
    facts = verdict(bvae, "--latent", latent, "--R", copies, "--epsilon", epsilon)
    assert (facts["information_bits"], facts["rate"]) == (latent // copies, pytest.approx(1 / copies))
    assert (facts["min_distance"], facts["correctable"], facts["block"]) == (copies, (copies - 1) // 2, [copies, 1])
    (rates,) = facts["rates"]
    hard = majority(copies, epsilon)
    assert rates["hard_bit_error_rate"] == pytest.approx(hard, rel=1e-9, abs=1e-15)
    assert rates["hard_word_error_rate"] == pytest.approx(1 - (1 - hard) ** (latent // copies), rel=1e-9, abs=1e-12)
    normal = NormalDist()
    soft = 0.0 if epsilon == 0 else normal.cdf(math.sqrt(copies) * normal.inv_cdf(epsilon))
    assert rates["soft_bit_error_rate"] == pytest.approx(soft, rel=1e-6, abs=1e-12)
    assert rates["information_limit_bits"] == pytest.approx(latent * (1 - binary_entropy(epsilon)))


def test_two_copies_correct_nothing_and_are_said_not_to(bvae: Bvae) -> None:
    (rates,) = verdict(bvae, "--latent", 10, "--R", 2, "--epsilon", 0.05)["rates"]
    assert rates["hard_bit_error_rate"] == pytest.approx(0.05)
    assert "corrects nothing" in bvae("check-ecc", "--latent", 10, "--R", 2).succeeded().out


def test_the_words_say_what_the_numbers_say(bvae: Bvae) -> None:
    outcome = bvae("check-ecc", "-n", 5, "--ecc", "repetition", "--R", 3).succeeded()
    assert outcome.err == ""
    for words in ("repetition(R=3)", "N = 300", "K = 100", "d = 3, so t = 1", "0.725 %", "5 %"):
        assert words in outcome.out


def test_several_rates_can_be_asked_for(bvae: Bvae) -> None:
    rates = verdict(bvae, "-n", 5, "--R", 3, "--epsilon", 0.1, "--epsilon", 0.2)["rates"]
    assert [row["epsilon"] for row in rates] == [0.1, 0.2]


def test_measured_rates_lie_near_the_closed_forms(bvae: Bvae) -> None:
    (rates,) = verdict(bvae, "--latent", 30, "--R", 3, "--epsilon", 0.1, "--measure", 3000)["rates"]
    for kind in ("hard", "soft"):
        measured = rates["measured"][kind]["bit_error_rate"]
        assert measured["mean"] == pytest.approx(rates[f"{kind}_bit_error_rate"], abs=5 * measured["standard_error"])
        assert 0 < measured["standard_error"] < 0.01
    shown = bvae("check-ecc", "--latent", 30, "--R", 3, "--measure", 100, "--epsilon", 0).succeeded().out
    assert "measured ± s.e." in shown


def test_a_size_that_does_not_fit_is_refused_with_those_that_do(bvae: Bvae) -> None:
    bvae("check-ecc", "-n", 0, "--R", 3).refused(2, "Latent size 100", "block length 3", "99", "102", "5, 7")
    bvae("check-ecc", "--latent", 0, "--R", 3).refused(2, "--latent", "at least 1")


def test_a_file_and_variables_bear_on_it_as_on_training(
    bvae: Bvae, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BVAE_LATENT", "24")
    assert verdict(bvae, "--R", 2, "-n", 0)["latent"] == 100
    assert verdict(bvae, "--R", 2, "--latent", 12)["latent"] == 12


def test_no_closed_form_is_said_only_where_none_is_known(bvae: Bvae) -> None:
    said = "No closed form is known"
    assert said not in bvae("check-ecc", "--ecc", "golay", "--latent", 240).succeeded().out
    assert f"{said} for this code; --measure" in bvae("check-ecc", "--ecc", "ldpc", "--latent", 96).succeeded().out
    undecoded = bvae("check-ecc", "--ecc", "bch:n=127,t=10", "--latent", 127).succeeded().out
    assert f"{said} for this code.\n" in undecoded


def test_bits_that_a_padded_latent_leaves_uncoded_are_said(bvae: Bvae) -> None:
    padded = bvae("check-ecc", "--ecc", "hamming", "--r", 3, "--pad", "--latent", 101).succeeded().out
    assert "K = 59 information bits, the last 3 of them uncoded" in padded
    assert "uncoded" not in bvae("check-ecc", "--ecc", "hamming", "--r", 3, "--latent", 98).succeeded().out
