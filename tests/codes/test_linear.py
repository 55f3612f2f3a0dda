import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bvae_cli.codes.base import Block
from bvae_cli.codes.blocks import BlockSpec
from bvae_cli.codes.closed_forms import any_of, nearest_codeword_block_error_rate
from bvae_cli.codes.limits import MAX_ENUMERATED_BITS
from bvae_cli.codes.linear import CodebookCode, LinearCode
from bvae_cli.codes.repetition import Repetition
from bvae_cli.errors import UsageError
from bvae_cli.evaluation.channel import measure_channel
from tests.helpers import (
    COSET_LEADERS,
    ExtendedHamming,
    Golay,
    Hamming,
    MatrixSpec,
    all_words,
    encoded_by_hand,
    joint_threshold,
    posterior_by_enumeration,
    property_settings,
)


def from_rows(*rows: tuple[int, ...]) -> MatrixSpec:
    class Rows(MatrixSpec):
        pass

    Rows.family, Rows.rows = "rows", rows
    return Rows()


def flipped(codeword: tuple[int, ...], places: tuple[int, ...]) -> list[int]:
    return [bit ^ (place in places) for place, bit in enumerate(codeword)]


@st.composite
def generator_matrices(draw):
    """Full rank by construction: an identity with its columns and those of any redundancy shuffled."""
    k, redundant = draw(st.integers(1, 5)), draw(st.integers(0, 4))
    columns = [tuple(int(row == column) for row in range(k)) for column in range(k)]
    columns += [tuple(draw(st.lists(st.integers(0, 1), min_size=k, max_size=k))) for _ in range(redundant)]
    return tuple(zip(*draw(st.permutations(columns)), strict=True))


@given(rows=generator_matrices(), blocks=st.integers(1, 2), seed=st.integers(0, 1000))
@property_settings
def test_any_full_rank_matrix_makes_a_code_that_agrees_with_plain_python(rows, blocks, seed):
    spec = from_rows(*rows)
    code = spec.build(blocks * len(rows[0]))
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(0, 2, (8, code.k), generator=generator)
    encoded = code.encode(words)
    assert [tuple(row) for row in encoded.tolist()] == [encoded_by_hand(spec, word) for word in words.tolist()]
    assert torch.equal(code.decode(encoded), words)
    logits = 4 * torch.randn(code.n, generator=generator, dtype=torch.float64)
    assert code.soft_decode(logits).tolist() == pytest.approx(
        posterior_by_enumeration(spec, code.k, logits.tolist()), abs=1e-9
    )


@given(rows=generator_matrices(), seed=st.integers(0, 1000))
@property_settings
def test_encoding_is_linear_over_two_elements(rows, seed):
    code = from_rows(*rows).build(len(rows[0]))
    one, other = torch.randint(0, 2, (2, 20, code.k), generator=torch.Generator().manual_seed(seed))
    assert torch.equal(code.encode(one ^ other), code.encode(one) ^ code.encode(other))


@pytest.mark.parametrize("rows", [((1, 0, 1), (1, 0, 1)), ((1, 1, 0), (0, 1, 1), (1, 0, 1)), ((1, 1), (0, 0))])
def test_dependent_rows_are_refused(rows):
    with pytest.raises(UsageError, match="linearly dependent"):
        from_rows(*rows).build(len(rows[0]))


def test_a_matrix_of_another_shape_than_the_block_is_refused():
    class Misstated(Hamming):
        def block(self) -> Block:
            return Block(n=7, k=3, min_distance=3)

    with pytest.raises(UsageError, match="4 × 7; its block says 3 × 7"):
        Misstated().build(7)

    class OneRow(Misstated):
        rows = ((1, 1, 1, 0, 0, 0, 0),)

    with pytest.raises(UsageError, match="1 × 7; its block says 3 × 7"):
        OneRow().build(7)


def test_a_block_that_is_too_large_for_a_decoder_is_refused_when_it_is_decoded_and_says_what_it_takes():
    rows = [tuple(int(row == column % 13) for column in range(26)) for row in range(13)]
    code = from_rows(*rows).build(26)
    with pytest.raises(UsageError, match="k ≤ 12 or n − k ≤ 12, and a block has k = 13, n − k = 13"):
        code.soft_decode(torch.zeros(26))
    assert code.decode(torch.zeros(26)).shape == (13,)
    wide = [tuple(int(row == column % 22) for column in range(44)) for row in range(22)]
    with pytest.raises(UsageError, match="k ≤ 16 or n − k ≤ 20, and a block has k = 22, n − k = 22"):
        from_rows(*wide).build(44).decode(torch.zeros(44))
    assert Golay().build(24).k == MAX_ENUMERATED_BITS


@pytest.mark.parametrize("n", [300, 5, 29])
def test_a_latent_that_is_not_a_whole_number_of_blocks_is_refused(n):
    with pytest.raises(UsageError, match=f"Latent size {n} is not a multiple of the block length 24"):
        LinearCode(Golay(), n, Golay.rows)


@pytest.mark.parametrize("spec", [Hamming(), ExtendedHamming()])
def test_every_pattern_of_correctable_flips_of_every_codeword_is_corrected(spec):
    length = spec.block().n
    code = spec.build(length)
    for word in all_words(4):
        codeword = encoded_by_hand(spec, word)
        received = [
            flipped(codeword, places)
            for t in range(code.correctable + 1)
            for places in itertools.combinations(range(length), t)
        ]
        assert len(received) == 1 + length
        assert code.decode(torch.tensor(received)).tolist() == [list(word)] * len(received)


def test_golay_corrects_all_patterns_of_up_to_three_flips():
    code = Golay().build(24)
    assert code.correctable == 3
    word = (1, 0, 0, 1, 1, 1, 0, 1, 0, 0, 1, 0)
    codeword = encoded_by_hand(Golay(), word)
    received = [flipped(codeword, places) for t in range(4) for places in itertools.combinations(range(24), t)]
    assert len(received) == 1 + 24 + 276 + 2024
    assert (code.decode(torch.tensor(received)) == torch.tensor(word)).all()


def test_golay_is_the_golay_code():
    # 759 words of weight 8, 2576 of weight 12 and 759 of weight 16: MacWilliams and Sloane 1977, ch. 2 §6.
    weights = Counter(sum(encoded_by_hand(Golay(), word)) for word in all_words(12))
    assert weights == {0: 1, 8: 759, 12: 2576, 16: 759, 24: 1}


@pytest.mark.parametrize("epsilon", [0.01, 0.05, 0.2, 0.5])
def test_hamming_makes_exactly_the_block_and_bit_errors_of_its_closed_forms(epsilon):
    """Summed over all 2⁷ patterns of flips, so that nothing is left to chance."""
    code = Hamming().build(7)
    wrong = code.decode(torch.tensor(all_words(7)))
    weights = [epsilon ** sum(flips) * (1 - epsilon) ** (7 - sum(flips)) for flips in all_words(7)]
    block = math.fsum(w for w, bits in zip(weights, wrong.tolist(), strict=True) if any(bits))
    bit = math.fsum(w * sum(bits) / 4 for w, bits in zip(weights, wrong.tolist(), strict=True))
    assert nearest_codeword_block_error_rate((1, 7), 7, epsilon) == pytest.approx(block, rel=1e-12)
    assert bit == pytest.approx(9 * epsilon**2 - 26 * epsilon**3 + 30 * epsilon**4 - 12 * epsilon**5, rel=1e-12)


# Blocks in a latent, words sent and flip probability of each measurement.
MEASUREMENTS = [
    (Hamming(), 1, 200_000, 0.05),
    (Hamming(), 3, 100_000, 0.1),
    (ExtendedHamming(), 1, 200_000, 0.05),
    (ExtendedHamming(), 2, 100_000, 0.1),
    (Golay(), 1, 8_000, 0.15),
]


@pytest.mark.parametrize(("spec", "blocks", "words", "epsilon"), MEASUREMENTS)
def test_measured_word_errors_are_those_of_the_coset_leaders(spec, blocks, words, epsilon):
    """The five checks fail together with probability 1 % (Bonferroni); ties of the even distances are among them."""
    length = spec.block().n
    measured = measure_channel(spec.build(blocks * length), epsilon, words, "hard", seed=9)
    block_rate = 1 - math.fsum(
        count * epsilon**weight * (1 - epsilon) ** (length - weight)
        for weight, count in enumerate(COSET_LEADERS[type(spec)])
    )
    word_rate = 1 - (1 - block_rate) ** blocks
    assert any_of(blocks, nearest_codeword_block_error_rate(COSET_LEADERS[type(spec)], length, epsilon)) == pytest.approx(
        word_rate, rel=1e-9
    )
    deviation = math.sqrt(word_rate * (1 - word_rate) / words)
    assert abs(measured.word_error_rate.mean - word_rate) < joint_threshold(len(MEASUREMENTS)) * deviation


def test_soft_decoding_of_a_block_errs_less_than_hard_decoding():
    words, epsilon = 50_000, 0.05
    for spec in (Hamming(), ExtendedHamming()):
        code = spec.build(spec.block().n)
        hard, soft = (measure_channel(code, epsilon, words, channel, seed=2) for channel in ("hard", "soft"))
        gap = hard.bit_error_rate.mean - soft.bit_error_rate.mean
        assert gap > 5 * (hard.bit_error_rate.standard_error + soft.bit_error_rate.standard_error)


def test_each_of_four_equally_near_codewords_is_chosen_equally_often():
    spec = ExtendedHamming()
    code = spec.build(8)
    received = flipped(encoded_by_hand(spec, (1, 0, 1, 1)), (0, 5))
    distance = {
        word: sum(a != b for a, b in zip(received, encoded_by_hand(spec, word), strict=True)) for word in all_words(4)
    }
    nearest = {word for word, d in distance.items() if d == min(distance.values())}
    assert len(nearest) == 4
    rows = 40_000
    decoded = code.decode(torch.tensor(received).expand(rows, -1), torch.Generator().manual_seed(1))
    counts = Counter(map(tuple, decoded.tolist()))
    assert set(counts) == nearest
    z = max(abs(count - rows / 4) / math.sqrt(rows * 3 / 16) for count in counts.values())
    assert z < joint_threshold(4)


def test_a_large_batch_is_decoded_in_slices_with_the_same_answers():
    # More rows than are scored at once (64 of them for Golay), over several blocks and leading dimensions.
    code = Golay().build(48)
    words = torch.randint(0, 2, (3, 50, 24), generator=torch.Generator().manual_seed(0))
    codewords = code.encode(words)
    received = codewords.clone()
    received[..., [1, 7, 20, 25, 30, 47]] ^= 1  # three flips in each block
    assert torch.equal(code.decode(received), words)
    logits = (2.0 * received - 1) * 3
    assert torch.equal((code.soft_decode(logits) > 0).long(), words)


def test_one_row_of_ones_is_the_repetition_code():
    rows, repetition = from_rows((1, 1, 1)).build(3), Repetition(R=3).build(3)
    logits = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(rows.soft_decode(logits), repetition.soft_decode(logits), atol=1e-12)
    received = torch.tensor(all_words(3))
    assert torch.equal(rows.decode(received), repetition.decode(received))
    assert rows.digest() == repetition.digest()


def test_logits_of_eighty_that_defeat_a_plain_exponential_keep_their_digits_in_single_precision():
    # The dominant term differs in d = 3 places: 3 · 80 less ln of the number of such words; other ways saturate at 87.
    code = Hamming().build(7)
    codeword = torch.tensor(encoded_by_hand(Hamming(), (1, 0, 1, 1)))
    logits = 80.0 * (2 * codeword - 1)
    expected = posterior_by_enumeration(Hamming(), 4, logits.tolist())
    assert min(map(abs, expected)) > 200
    assert code.soft_decode(logits).tolist() == pytest.approx(expected, rel=1e-6)


def test_the_matrix_itself_is_the_derivative_of_the_codeword_at_the_zero_word():
    for spec in (Hamming(), Golay()):
        code = spec.build(spec.block().n)
        jacobian = torch.autograd.functional.jacobian(code.encode_probs, torch.zeros(code.k, dtype=torch.float64))
        assert jacobian.T.tolist() == [list(map(float, row)) for row in spec.rows]


# Codes of a table of words, which need not be linear


class Gates(BlockSpec):
    """Four bits, some of their conjunctions and one parity: not linear."""

    family = "gates"

    def block(self) -> Block:
        return Block(n=7, k=4)

    def encode_block(self, bits: tuple[int, ...]) -> tuple[int, ...]:
        a, b, c, d = bits
        return (a & b, a, b, c, d, c | d, a ^ b ^ c ^ d)


def gates(word: tuple[int, ...]) -> tuple[int, ...]:
    return Gates().encode_block(word[:4]) + (gates(word[4:]) if len(word) > 4 else ())


def test_a_code_that_is_not_linear_encodes_block_by_block_in_any_shape():
    code = Gates().build(14)
    assert isinstance(code, CodebookCode)
    words = torch.tensor(all_words(8)).reshape(4, 64, 8)
    for dtype in (torch.uint8, torch.float32, torch.int64):
        encoded = code.encode(words.to(dtype))
        assert encoded.dtype == dtype
        assert encoded.reshape(-1, 14).tolist() == [list(gates(word)) for word in all_words(8)]


def test_the_expected_codeword_of_a_code_that_is_not_linear_is_the_mean_over_all_words():
    code = Gates().build(14)
    probabilities = torch.rand(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    measured = code.encode_probs(probabilities)
    for row, expected in zip(probabilities.tolist(), measured.tolist(), strict=True):
        weights = {word: math.prod(p if bit else 1 - p for p, bit in zip(row, word, strict=True)) for word in all_words(8)}
        by_hand = [math.fsum(weight * gates(word)[place] for word, weight in weights.items()) for place in range(14)]
        assert expected == pytest.approx(by_hand, abs=1e-13)


def test_a_code_that_is_not_linear_is_decoded_to_a_nearest_word_and_to_the_posterior_over_all_words():
    code = Gates().build(7)
    received = torch.tensor(all_words(7))
    decoded = code.decode(received)
    for bits, word in zip(all_words(7), decoded.tolist(), strict=True):
        distance = {other: sum(a != b for a, b in zip(gates(other), bits, strict=True)) for other in all_words(4)}
        assert distance[tuple(word)] == min(distance.values())
    logits = 3 * torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    likelihoods = {
        word: math.exp(math.fsum(bit * logit for bit, logit in zip(gates(word), logits.tolist(), strict=True)))
        for word in all_words(4)
    }
    expected = [
        math.log(math.fsum(value for word, value in likelihoods.items() if word[bit]))
        - math.log(math.fsum(value for word, value in likelihoods.items() if not word[bit]))
        for bit in range(4)
    ]
    assert code.soft_decode(logits).tolist() == pytest.approx(expected, abs=1e-12)


def test_a_digest_tells_codes_apart_that_differ_in_one_word_alone():
    words = [gates(tuple(index >> place & 1 for place in range(4))) for index in range(16)]
    assert CodebookCode(Gates(), 7, words).digest() == Gates().build(7).digest()
    words[0b0101] = (0, 1, 0, 1, 0, 1, 1)  # neither one bit, nor two neighbours, nor all of them
    assert CodebookCode(Gates(), 7, words).digest() != Gates().build(7).digest()


def test_a_table_with_a_codeword_twice_or_of_another_size_is_refused():
    words = [gates(word) for word in all_words(4)]
    with pytest.raises(UsageError, match="Two words of gates have one codeword"):
        CodebookCode(Gates(), 7, [*words[:15], words[0]])
    with pytest.raises(UsageError, match="gates has 15 words; it needs 16, and can have at most 4096"):
        CodebookCode(Gates(), 7, words[:15])

    class Large(Gates):
        def block(self) -> Block:
            return Block(n=13, k=13)

    with pytest.raises(UsageError, match="gates has 8192 words; it needs 8192, and can have at most 4096"):
        CodebookCode(Large(), 13, all_words(13))
