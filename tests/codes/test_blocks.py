"""Codes of blocks: padding, decoders that are too large, and training's refusal of what cannot be decoded."""

from __future__ import annotations

import itertools
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bvae_cli.codes.base import Block
from bvae_cli.codes.bch import Bch
from bvae_cli.codes.blocks import BlockSpec
from bvae_cli.codes.convolutional import Convolutional
from bvae_cli.codes.golay import Golay
from bvae_cli.codes.hamming import Hamming
from bvae_cli.codes.ldpc import Ldpc
from bvae_cli.codes.matrix import Linear
from bvae_cli.codes.parity import Parity
from bvae_cli.codes.reed_muller import ReedMuller
from bvae_cli.config import TrainConfig
from bvae_cli.errors import UsageError
from bvae_cli.evaluation.channel import measure_channel
from tests.helpers import joint_threshold, property_settings

FAMILIES: list[BlockSpec] = [
    Parity(k=4),
    Hamming(r=3),
    Hamming(r=3, extended=True),
    Hamming(r=4, shorten=3),
    Golay(n=23),
    Golay(n=24),
    ReedMuller(r=1, m=4),
    Bch(n=15, t=2),
    Bch(n=31, t=3),
    Convolutional(k=8),
]
EPSILONS = (0.01, 0.05, 0.1, 0.2)


@pytest.mark.parametrize("spec", FAMILIES, ids=str)
@pytest.mark.parametrize("epsilon", EPSILONS)
def test_measured_errors_are_those_of_the_closed_form(spec: BlockSpec, epsilon: float) -> None:
    """Block errors of every family, bit errors where they are counted: all of them jointly at 1 %."""
    words, checks = 40_000, 2 * len(FAMILIES) * len(EPSILONS)
    block = spec.block()
    measured = measure_channel(spec.build(block.n), epsilon, words, "hard", seed=5)
    rate = spec.hard_block_error_rate(epsilon)
    assert rate is not None
    error = (rate * (1 - rate) / words) ** 0.5
    assert abs(measured.word_error_rate.mean - rate) < joint_threshold(checks) * error
    bits = spec.hard_bit_error_rate(epsilon)
    if bits is not None:
        # Within a block the wrong bits hang together: their spread over words is the measured one, or that of one block.
        spread = max(measured.bit_error_rate.standard_error or 0.0, error / block.k)
        assert abs(measured.bit_error_rate.mean - bits) < joint_threshold(checks) * spread


@pytest.mark.parametrize("spec", [Hamming(r=3), Golay(n=24), Bch(n=15, t=2), Parity(k=4)], ids=str)
def test_soft_decoding_makes_fewer_errors_than_hard_decoding_on_the_same_channel(spec: BlockSpec) -> None:
    code = spec.build(spec.block().n)
    for epsilon in (0.02, 0.1):
        soft, hard = (measure_channel(code, epsilon, 20_000, way, seed=6).bit_error_rate for way in ("soft", "hard"))
        assert soft.standard_error is not None
        assert hard.standard_error is not None
        assert soft.mean < hard.mean - 3 * (soft.standard_error + hard.standard_error)


@given(n=st.integers(8, 60))
@property_settings
def test_padding_leaves_the_rest_uncoded_and_touches_nothing_else(n: int) -> None:
    spec = Hamming(r=3, pad=True)
    code = spec.build(n)
    blocks, rest = divmod(n, 7)
    assert code.k == spec.information_bits(n) == 4 * blocks + rest
    generator = torch.Generator().manual_seed(n)
    bits = torch.randint(0, 2, (5, code.k), generator=generator)
    encoded = code.encode(bits)
    whole = Hamming(r=3).build(7 * blocks)
    assert torch.equal(encoded[:, : 7 * blocks], whole.encode(bits[:, : 4 * blocks]))
    assert torch.equal(encoded[:, 7 * blocks :], bits[:, 4 * blocks :])
    assert torch.equal(code.decode(encoded), bits)
    logits = torch.randn(5, n, generator=generator)
    assert torch.equal(code.soft_decode(logits)[:, 4 * blocks :], logits[:, 7 * blocks :])


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_the_closed_form_of_a_padded_latent_is_what_is_measured_on_it(epsilon: float) -> None:
    spec, words, checks = Hamming(r=3, pad=True), 40_000, 2 * len(EPSILONS)
    known = spec.error_rates(20, epsilon)
    assert known.hard_bit is not None
    assert known.hard_word is not None
    measured = measure_channel(spec.build(20), epsilon, words, "hard", seed=7)
    assert measured.bit_error_rate.standard_error is not None
    assert (
        abs(measured.bit_error_rate.mean - known.hard_bit) < joint_threshold(checks) * measured.bit_error_rate.standard_error
    )
    error = (known.hard_word * (1 - known.hard_word) / words) ** 0.5
    assert abs(measured.word_error_rate.mean - known.hard_word) < joint_threshold(checks) * error


def test_without_padding_a_size_that_does_not_fit_is_refused_and_with_it_one_block_is_the_least() -> None:
    with pytest.raises(UsageError, match=r"nearest valid: 98 \(56 information bits\), 105"):
        Hamming(r=3).build(100)
    assert Hamming(r=3, pad=True).build(100).k == 58
    with pytest.raises(UsageError):
        Hamming(r=3, pad=True).build(6)


def test_training_with_a_code_that_has_no_soft_decoder_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no exact soft decoder that can be afforded.*k = 16, n − k = 15"):
        TrainConfig(latent=310, ecc="bch:n=31,t=3")
    TrainConfig(latent=310, ecc="bch:n=31,t=2")


def test_options_tell_a_code_from_others_and_what_is_off_is_not_said() -> None:
    assert Hamming(r=3).label() == "hamming(r=3)"
    assert Hamming(r=4, extended=True, shorten=2, pad=True).label() == "hamming(r=4, extended=True, shorten=2, pad=True)"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Hamming(r=3, shorten=4), "Shorten by at most 3"),
        (lambda: ReedMuller(r=4, m=3), "r=4 is more than m=3"),
        (lambda: Bch(n=16), "nearest valid: 15, 7"),
        (lambda: Bch(n=15, t=8), "no information bits left"),
    ],
)
def test_options_that_make_no_code_are_refused_in_a_sentence(make, words: str) -> None:
    with pytest.raises((UsageError, ValidationError), match=words):
        make()


@pytest.mark.parametrize(
    ("rows", "words", "hint"),
    [
        (((1, 1, 0), (1, 1, 0)), "linearly dependent: row 1 is a sum of rows before it", "Leave it out."),
        (((1, 1, 0), (0, 1, 1), (1, 0, 1)), "linearly dependent: row 2", "Leave it out."),
        (((1, 0, 0), (0, 0, 0)), "^Row 1 of the .* is all zeros", "Leave it out: its information bit would not be sent."),
        (((1, 0, 0), (0, 1)), "^Row 1 of .* has 2 entries, row 0 has 3", "All rows are of one length."),
        (((1, 0, 0), (0, 2, 1)), "^Row 1 of .* has 2 at place 1", "Entries are 0 or 1."),
        (((1, 0, 0), (0, 1, 2)), "^Row 1 of .* has 2 at place 2", "Entries are 0 or 1."),
        ((), r"^The generator matrix of wrong is empty\.", "It has a row for each information bit."),
        (((), ()), r"^The generator matrix of wrong is empty\.", "It has a row for each information bit."),
    ],
)
def test_a_matrix_that_makes_no_code_is_refused_with_what_is_wrong(rows, words: str, hint: str) -> None:
    class Wrong(BlockSpec):
        family = "wrong"

        def generator_matrix(self):
            return rows

    with pytest.raises(UsageError, match=words) as caught:
        Wrong().block()
    assert caught.value.hint == hint


def test_parity_checks_that_leave_no_information_bit_are_refused() -> None:
    class Full(BlockSpec):
        family = "full"

        def parity_check_matrix(self):
            return ((1, 0), (0, 1))

    with pytest.raises(UsageError, match="The parity checks of full leave no information bit") as caught:
        Full().block()
    assert caught.value.hint == "Leave some of them out."


class Gate(BlockSpec):
    """Two bits and their conjunction: not linear."""

    family = "gate"

    def block(self) -> Block:
        return Block(n=3, k=2)

    def encode_block(self, bits: tuple[int, ...]) -> tuple[int, ...]:
        return (*bits, bits[0] & bits[1])


def test_a_family_may_say_how_a_block_is_encoded_and_a_matrix_says_it_too() -> None:
    assert Gate().build(6).encode(torch.tensor([[0, 0, 1, 1], [0, 1, 1, 0]])).tolist() == [
        [0, 0, 0, 1, 1, 1],
        [0, 1, 0, 1, 0, 0],
    ]
    spec, words = Hamming(r=3), list(itertools.product((0, 1), repeat=4))
    assert spec.build(7).encode(torch.tensor(words)).tolist() == [list(spec.encode_block(word)) for word in words]
    assert Gate().generator_matrix() is None
    assert Gate().parity_check_matrix() is None


CHECKS = "/".join("".join("1" if place // 4 == row else "0" for place in range(56)) for row in range(14))
# A block for each way to decode it: (decoders, numbers of exponentials for an information bit, the two sentences).
WAYS: list[tuple[BlockSpec, tuple[str | None, str | None], float | None, str, str]] = [
    (
        Hamming(r=3),
        ("words", "leaders"),
        2 * 2**4 / 4,
        "sums over all 16 words of a block, exact",
        "the leaders of 8 cosets, a fair coin where several are as light",
    ),
    (
        ReedMuller(r=1, m=5),
        ("words", "words"),
        2 * 2**6 / 6,
        "sums over all 64 words of a block, exact",
        "the nearest of 64 codewords, a fair coin where several are as near",
    ),
    (
        Gate(),
        ("words", "leaders"),
        2 * 2**2 / 2,
        "sums over all 4 words of a block, exact",
        "the nearest of 4 codewords, a fair coin where several are as near",
    ),
    (
        Hamming(r=5),
        ("trellis", "leaders"),
        2**5 * (4 * 31 + 2 * 26) / 26,
        "forward and backward over the trellis of 32 syndromes, exact",
        "the leaders of 32 cosets, a fair coin where several are as light",
    ),
    (
        Linear(matrix=CHECKS, kind="parity-check"),
        ("beliefs", "leaders"),
        2 * 10 * 56 / 42,
        "belief propagation over the parity checks, not exact",
        "the leaders of 16,384 cosets, a fair coin where several are as light",
    ),
    (
        Ldpc(n=96),
        ("beliefs", "beliefs"),
        2 * 10 * 3 * 96 / 48,
        "belief propagation over the parity checks, not exact",
        "belief propagation over the parity checks, which need not find a nearest codeword",
    ),
]


@pytest.mark.parametrize(("spec", "decoders", "cost", "soft", "hard"), WAYS, ids=lambda value: getattr(value, "family", ""))
def test_the_size_of_a_block_chooses_its_decoders_and_a_sentence_says_which(
    spec: BlockSpec, decoders: tuple[str, str], cost: float, soft: str, hard: str
) -> None:
    assert spec.decoders() == decoders
    assert spec.soft_cost() == pytest.approx(cost)
    assert spec.soft_decoding() == soft
    assert spec.hard_decoding() == hard
    assert spec.no_soft_decoder() is None
    assert spec.no_hard_decoder() is None


def test_what_no_decoder_can_afford_has_no_cost_and_says_why() -> None:
    assert Bch(n=31, t=3).decoders() == (None, "leaders")
    assert Bch(n=31, t=3).soft_cost() is None
    assert Bch(n=63, t=5).decoders() == (None, None)
    assert "k ≤ 16 or n − k ≤ 20, and a block has k = 36, n − k = 27" in (Bch(n=63, t=5).no_hard_decoder() or "")


def test_a_decoder_of_ones_own_needs_no_leave_of_the_host_and_borrows_none_of_its_words() -> None:
    class Own(BlockSpec):
        family = "own"
        exempt: ClassVar[dict[str, str]] = {"nearest": "it guesses"}

        def generator_matrix(self):
            return Bch(n=31, t=3).generator_matrix()

        def soft_decoder(self):
            return object()

    assert Bch(n=31, t=3).no_soft_decoder() is not None
    assert Own().no_soft_decoder() is None
    assert Own().soft_cost() is None
    assert Own().hard_block_error_rate(0.05) is None  # that of nearest codewords, which it need not find
    assert Bch(n=31, t=3).hard_block_error_rate(0.05) is not None
