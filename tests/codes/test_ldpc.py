"""Graphs of sparse checks: regular, reproducible, without short cycles, and files in MacKay's format."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bvae_cli.codes.ldpc import Ldpc
from bvae_cli.errors import InputOutputError, UsageError
from bvae_cli.evaluation.channel import measure_channel
from tests.helpers import property_settings

# The [7, 4] Hamming code as MacKay's format has it, short lists filled up with 0.
HAMMING = """7 3
3 4
1 1 2 1 2 2 3
4 4 4
1 0 0
2 0 0
1 2 0
3 0 0
1 3 0
2 3 0
1 2 3
1 3 5 7
2 3 6 7
4 5 6 7
"""


@given(blocks=st.integers(3, 20), shape=st.sampled_from([(2, 4), (3, 6), (3, 4), (4, 8)]), seed=st.integers(0, 50))
@property_settings
def test_every_bit_is_in_dv_checks_and_every_check_has_dc_bits(blocks: int, shape: tuple[int, int], seed: int) -> None:
    dv, dc = shape
    checks = Ldpc(n=blocks * dc, dv=dv, dc=dc, seed=seed).parity_check_matrix()
    assert all(sum(row) == dc for row in checks)
    assert all(sum(column) == dv for column in zip(*checks, strict=True))


def test_the_default_has_no_cycle_of_four() -> None:
    supports = [{bit for bit, one in enumerate(row) if one} for row in Ldpc().parity_check_matrix()]
    assert all(len(first & second) <= 1 for first, second in itertools.combinations(supports, 2))


def test_a_seed_makes_one_graph_and_another_seed_another() -> None:
    assert Ldpc(n=24, seed=1).build(24).digest() == Ldpc(n=24, seed=1).build(24).digest()
    assert Ldpc(n=24, seed=1).build(24).digest() != Ldpc(n=24, seed=2).build(24).digest()


def test_checks_that_depend_on_each_other_leave_more_information_bits() -> None:
    # With an even dv all checks add up to nothing.
    assert Ldpc(n=40, dv=2, dc=4).block().k == 21


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 100, "dv": 3, "dc": 6}, None),
        ({"n": 97}, "Take n = 96 or 98"),
        ({"n": 97, "dv": 3, "dc": 7}, "Take n = 91 or 98"),
        ({"dv": 6, "dc": 6}, "no information bits"),
        ({"n": 4, "dv": 2, "dc": 6}, "no room in n=4"),
    ],
)
def test_numbers_that_make_no_graph_are_refused_with_the_nearest_that_do(options: dict[str, int], words: str | None) -> None:
    if words is None:
        Ldpc(**options)
        return
    with pytest.raises(UsageError, match=words):
        Ldpc(**options)


def test_a_file_of_checks_is_kept_so_that_the_code_outlives_it(tmp_path: Path) -> None:
    file = tmp_path / "hamming.alist"
    file.write_text(HAMMING)
    spec = Ldpc(alist=str(file))
    file.unlink()
    again = Ldpc(**spec.model_dump())
    assert again == spec
    assert again.block().n == 7
    assert again.block().k == 4
    assert again.block().min_distance == 3
    assert again.build(7).digest() == spec.build(7).digest()
    assert spec.label().startswith("ldpc(n=7, alist=")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("7 3\n3 4\n", "too short"),
        ("seven\n", "not in alist format"),
        (HAMMING.replace("4 5 6 7", "3 5 6 7"), "do not agree"),
        (HAMMING.replace("4 4 4", "4 4 3"), "do not agree"),
        (HAMMING.replace("4 5 6 7", "4 5 6 9"), "do not agree"),
    ],
)
def test_a_file_that_is_not_of_the_format_is_refused(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "wrong.alist"
    file.write_text(content)
    with pytest.raises(InputOutputError, match=words):
        Ldpc(alist=str(file))


def test_a_file_that_is_not_there_and_a_length_that_is_not_its_own_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputOutputError, match="cannot be read: no such file or directory\\."):
        Ldpc(alist=str(tmp_path / "none.alist"))
    file = tmp_path / "hamming.alist"
    file.write_text(HAMMING)
    with pytest.raises(UsageError, match="on 7 bits"):
        Ldpc(alist=str(file), n=8)


@pytest.mark.parametrize(("option", "value"), [("dv", 2), ("dc", 4), ("seed", 9)])
def test_what_makes_a_graph_is_refused_beside_a_file(tmp_path: Path, option: str, value: int) -> None:
    file = tmp_path / "hamming.alist"
    file.write_text(HAMMING)
    with pytest.raises(UsageError, match=f"{option}={value} makes a graph"):
        Ldpc(alist=str(file), **{option: value})
    assert Ldpc(**Ldpc(alist=str(file)).model_dump()).block().n == 7


def test_a_small_block_is_decoded_exactly_and_a_large_one_says_that_it_is_not() -> None:
    small, large = Ldpc(n=20, dv=3, dc=5), Ldpc(n=96)
    assert small.build(20).exact
    assert small.soft_decoding().endswith("exact")
    assert small.hard_block_error_rate(0.05) is not None
    assert not large.build(96).exact
    assert "not exact" in large.soft_decoding()
    assert large.hard_block_error_rate(0.05) is None
    assert "nearest" in large.exemptions()


def test_far_below_its_threshold_a_long_code_makes_almost_no_errors() -> None:
    code = Ldpc(n=204).build(204)
    assert measure_channel(code, 0.02, 2000, "hard").bit_error_rate.mean < 0.02 / 20
    assert measure_channel(code, 0.05, 2000, "soft").bit_error_rate.mean < 0.05 / 20


@pytest.mark.parametrize(
    "options",
    [{"n": 3}, {"n": 1025}, {"dv": 1}, {"dv": 17, "dc": 20}, {"dc": 2}, {"dc": 65}, {"seed": -1}, {"iterations": 0}],
)
def test_numbers_out_of_bounds_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Ldpc(**options)
    with pytest.raises(ValidationError):
        Ldpc(iterations=1001)


def test_each_round_costs_two_functions_for_every_one_in_the_checks() -> None:
    assert Ldpc(n=96).soft_cost() == 2 * 10 * 3 * 96 / 48
    assert Ldpc(n=96, iterations=4).soft_cost() == 2 * 4 * 3 * 96 / 48
    assert Ldpc(n=12).soft_cost() == 2 * 2**6 / 6
    assert (Ldpc().n, Ldpc().dv, Ldpc().dc, Ldpc().seed, Ldpc().iterations, Ldpc().alist) == (96, 3, 6, 0, 10, "")


def test_a_length_that_fills_no_checks_is_answered_with_the_nearest_that_do() -> None:
    with pytest.raises(UsageError, match=r"^7 bits with 3 checks each do not fill checks of 6 bits[.]") as caught:
        Ldpc(n=7)
    assert caught.value.hint == "Take n = 6 or 8."
    with pytest.raises(UsageError, match=r"^9 bits with 2 checks each") as caught:
        Ldpc(n=9, dv=2, dc=7)
    assert caught.value.hint == "Take n = 7 or 14."
