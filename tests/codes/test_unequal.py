"""Different codes for different groups: each group is its own code, and the rates are those of the parts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bvae_cli.codes.hamming import Hamming
from bvae_cli.codes.repetition import Repetition
from bvae_cli.codes.unequal import Unequal
from bvae_cli.config import PluginRef, parse_code
from bvae_cli.errors import UsageError
from bvae_cli.evaluation.channel import measure_channel
from tests.helpers import joint_threshold

SPEC = Unequal(groups="15 repetition:R=5 + 14 hamming:r=3 + 6 none")
EPSILONS = (0.01, 0.05, 0.1, 0.2)


def test_each_group_is_encoded_and_decoded_by_its_own_code() -> None:
    code = SPEC.build(70)
    assert (code.n, code.k) == (70, 34)
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(0, 2, (9, 34), generator=generator)
    encoded = code.encode(bits)
    assert torch.equal(encoded[:, :30], Repetition(R=5).build(30).encode(bits[:, :6]))
    assert torch.equal(encoded[:, 30:58], Hamming(r=3).build(28).encode(bits[:, 6:22]))
    assert torch.equal(encoded[:, 58:], bits[:, 22:])
    logits = torch.randn(9, 70, generator=generator)
    decoded = code.soft_decode(logits)
    assert torch.equal(decoded[:, :6], Repetition(R=5).build(30).soft_decode(logits[:, :30]))
    assert torch.equal(decoded[:, 22:], logits[:, 58:])


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("n", [35, 70])
def test_measured_errors_are_those_of_the_closed_form(n: int, epsilon: float) -> None:
    words, checks = 40_000, 2 * 2 * len(EPSILONS)
    known = SPEC.error_rates(n, epsilon)
    measured = measure_channel(SPEC.build(n), epsilon, words, "hard", seed=3)
    assert known.hard_bit is not None
    assert known.hard_word is not None
    assert measured.bit_error_rate.standard_error is not None
    limit = joint_threshold(checks)
    assert abs(measured.bit_error_rate.mean - known.hard_bit) < limit * measured.bit_error_rate.standard_error
    error = (known.hard_word * (1 - known.hard_word) / words) ** 0.5
    assert abs(measured.word_error_rate.mean - known.hard_word) < limit * error


def test_better_protected_bits_come_back_more_often() -> None:
    code = SPEC.build(35)
    generator = torch.Generator().manual_seed(1)
    bits = torch.randint(0, 2, (20_000, code.k), generator=generator)
    flips = torch.rand(20_000, 35, generator=generator) < 0.1
    wrong = (code.decode(code.encode(bits) ^ flips.long(), generator) != bits).double().mean(0)
    repetition, hamming, none = wrong[:3].mean(), wrong[3:11].mean(), wrong[11:].mean()
    assert repetition < 0.5 * hamming
    assert hamming < 0.8 * none


def test_rates_that_one_group_does_not_know_are_not_known_of_the_whole() -> None:
    rates = Unequal(groups="31 bch:n=31,t=3 + 5 none").error_rates(36, 0.05)
    assert rates.hard_bit is None
    assert rates.hard_word is not None


def test_a_group_that_cannot_be_decoded_softly_is_named() -> None:
    assert "bch(n=31, t=3)" in (Unequal(groups="31 bch:n=31,t=3 + 5 none").no_soft_decoder() or "")


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ("", "'' is not a group"),
        ("hamming", "'hamming' is not a group"),
        ("0 none", "is not a group"),
        ("² none", "is not a group"),
        ("99999999999999 none", "is not a group"),
        ("-3 none", "is not a group"),
        ("8 hamming:r=3", "does not fit: Latent size 8 .* nearest valid: 7"),
        ("7 haming:r=3", "haming"),
        ("7 hamming:q=3", "'q' is not an option"),
        ("7 unequal:groups=7 none", "cannot itself be of groups"),
    ],
)
def test_groups_that_are_none_are_refused_in_a_sentence(groups: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Unequal(groups=groups)


def test_spaces_do_not_make_another_code_and_commas_in_options_stand_in_brackets() -> None:
    plain = Unequal(groups="16 hamming:r=3,extended=true+4 none")
    spaced = Unequal(groups="  16  hamming:r=3,extended=true  +  4 none ")
    assert plain == spaced
    reference = parse_code("unequal:groups=(16 hamming:r=3,extended=true + 4 none)")
    assert reference.spec("code") == plain
    again = parse_code(PluginRef(type="unequal", options=plain.model_dump()).label())
    assert again.spec("code") == plain


def test_a_latent_that_is_no_multiple_of_the_groups_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"nearest valid: 35 \(17 information bits\), 70"):
        SPEC.build(40)


def test_what_a_group_has_read_from_a_file_is_kept_with_it(tmp_path: Path) -> None:
    file = tmp_path / "matrix.txt"
    file.write_text("1101000\n0110100\n1110010\n1010001\n")
    spec = Unequal(groups=f"14 linear:matrix={file} + 4 none")
    file.unlink()
    again = Unequal(**spec.model_dump())
    assert again == spec
    assert again.build(18).digest() == spec.build(18).digest()
    assert str(file) not in spec.groups


def test_a_default_that_is_written_out_does_not_make_another_code() -> None:
    assert Unequal(groups="7 hamming + 3 none") == Unequal(groups="7 hamming:r=3,extended=false + 3 none")
    assert Unequal(groups="7 hamming + 3 none").label() == "unequal(groups=7 hamming:r=3 + 3 none)"


def test_costs_sentences_and_remarks_are_those_of_the_groups() -> None:
    spec = Unequal(groups="14 hamming:r=3 + 8 repetition:R=4 + 6 none")
    # Eight information bits at 8 exponentials each, eight that cost nothing.
    assert spec.soft_cost() == 8 * (2 * 2**4 / 4) / 16
    assert Unequal(groups="31 bch:n=31,t=3 + 6 none").soft_cost() is None
    assert spec.soft_decoding() == (
        "hamming(r=3): sums over all 16 words of a block, exact; repetition(R=4): the logits of the copies are added, "
        "exact; none: the logits themselves, exact"
    )
    assert spec.hard_decoding() == (
        "hamming(r=3): the leaders of 8 cosets, a fair coin where several are as light; "
        "repetition(R=4): the majority of the copies, a fair coin where they tie; none: the bits themselves"
    )
    assert spec.remark() == "R=4 by majority makes exactly the errors of R=3: the last copy only makes ties."
    twice = Unequal(groups="4 repetition:R=1 + 8 repetition:R=4 + 8 repetition:R=4")
    assert twice.remark() == (
        "R=1 stores each bit once: this is the uncoded model under another name. "
        "R=4 by majority makes exactly the errors of R=3: the last copy only makes ties."
    )
    assert Unequal(groups="14 hamming:r=3 + 6 none").remark() is None


@pytest.mark.parametrize("groups", ["1048577 none", "0 none", "none", "7", "٣ none", ""])
def test_what_is_no_group_is_answered_with_an_example(groups: str) -> None:
    with pytest.raises(UsageError, match="is not a group of latent bits") as caught:
        Unequal(groups=groups)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("Write groups as in '60 repetition:R=5 + 140 hamming:r=3 + 100 none'")
    assert Unequal(groups="1048576 none").block().n == 1 << 20
