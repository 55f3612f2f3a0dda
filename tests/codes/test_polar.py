"""Polar codes: which positions carry information, and what cancellation decides and believes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from decimal import Decimal, localcontext

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from bvae_cli.codes import gf2
from bvae_cli.codes.cancellation import SoftCancellation, SuccessiveCancellation, box_plus
from bvae_cli.codes.linear import LinearCode
from bvae_cli.codes.polar import Polar, bhattacharyya_logits
from bvae_cli.conformance.checks import Subject
from bvae_cli.conformance.posteriors import posterior_by_enumeration
from bvae_cli.errors import UsageError
from bvae_cli.evaluation.channel import measure_channel
from tests.helpers import log_sum_exp

# Codes whose tree has no node of two halves that are each partly frozen.
WITHOUT_CYCLES = [(8, 1), (32, 1), (16, 2), (8, 6), (8, 7), (16, 15), (8, 3), (8, 5), (4, 2)]
WITH_CYCLES = [(8, 4), (16, 8), (32, 12), (64, 32)]


def sent_over_noise(spec: Polar, rows: int, deviation: float, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Return random words and the logits in which they are received."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(0, 2, (rows, spec.k), generator=generator, dtype=torch.float64)
    signal = 2 * spec.build(spec.n).encode(words) - 1
    noise = torch.randn(signal.shape, generator=generator, dtype=torch.float64)
    return words, 2 * (signal + deviation * noise) / deviation**2


def frozen_of(spec: Polar) -> list[bool]:
    return [place not in spec.information_positions() for place in range(spec.n)]


def soft(spec: Polar, iterations: int = 1) -> SoftCancellation:
    return SoftCancellation([not frozen for frozen in frozen_of(spec)], spec.information_positions(), iterations)


def hard(spec: Polar) -> SuccessiveCancellation:
    return SuccessiveCancellation([not frozen for frozen in frozen_of(spec)], spec.information_positions())


def smaller(a: float, b: float) -> float:
    return math.copysign(1, a) * math.copysign(1, b) * min(abs(a), abs(b))


def of_sum(a: float, b: float) -> float:
    """The logit log p(0)/p(1) of a sum of two bits: log(1 + e^{a + b}) − log(e^a + e^b)."""
    return log_sum_exp([0.0, a + b]) - log_sum_exp([a, b])


def textbook(logits: Sequence[float], frozen: Sequence[bool], f: Callable[[float, float], float]) -> tuple[list[int], bool]:
    """Successive cancellation of one row of logits log p(0)/p(1), input by input, nothing pruned.

    The logit of input i is computed anew from the received ones and the inputs before it (Arıkan 2009, section VIII.A).
    Returns the codeword and whether some decision was between equals.
    """
    inputs: list[int] = []
    tied = False
    for index, stays in enumerate(frozen):
        logit = input_logit(list(logits), index, inputs, f)
        tied = tied or (logit == 0 and not stays)
        inputs.append(0 if stays or logit >= 0 else 1)
    return transformed(inputs), tied


def input_logit(logits: list[float], index: int, before: list[int], f: Callable[[float, float], float]) -> float:
    if len(logits) == 1:
        return logits[0]
    half = len(logits) // 2
    if index < half:
        return input_logit([f(a, b) for a, b in zip(logits[:half], logits[half:], strict=True)], index, before, f)
    sums = transformed(before[:half])
    second = [b + (1 - 2 * bit) * a for a, b, bit in zip(logits[:half], logits[half:], sums, strict=True)]
    return input_logit(second, index - half, before[half:], f)


def transformed(inputs: Sequence[int]) -> list[int]:
    """Multiply by [[1, 0], [1, 1]]^{⊗m}, straight from its definition: entry (i, j) is 1 where j has no one that i lacks."""
    return [sum(bit for i, bit in enumerate(inputs) if j & ~i == 0) % 2 for j in range(len(inputs))]


def textbook_soft(logits: Sequence[float], frozen: Sequence[bool], iterations: int) -> list[float]:
    """Soft cancellation of one row of logits log p(0)/p(1) by tables of messages over stages.

    ``down[s][i]`` and ``up[s][i]`` are the messages at stage s, of blocks of 2^s bits; nothing is pruned, a frozen input
    knows 1e4.
    """
    n = len(logits)
    stages = n.bit_length() - 1
    down = [[0.0] * n for _ in range(stages)] + [list(logits)]
    up = [[0.0] * n for _ in range(stages + 1)]
    up[0] = [1e4 if stays else 0.0 for stays in frozen]

    def visit(stage: int, start: int) -> None:
        if stage == 0:
            return
        half = 2 ** (stage - 1)
        pairs = [(i, i + half) for i in range(start, start + half)]
        for i, j in pairs:
            down[stage - 1][i] = of_sum(down[stage][i], down[stage][j] + up[stage - 1][j])
        visit(stage - 1, start)
        for i, j in pairs:
            down[stage - 1][j] = down[stage][j] + of_sum(down[stage][i], up[stage - 1][i])
        visit(stage - 1, start + half)
        for i, j in pairs:
            up[stage][i] = of_sum(up[stage - 1][i], up[stage - 1][j] + down[stage][j])
            up[stage][j] = up[stage - 1][j] + of_sum(up[stage - 1][i], down[stage][i])

    for _ in range(iterations):
        visit(stages, 0)
    return [a + b for a, b in zip(logits, up[stages], strict=True)]


def test_the_channels_of_eight_erasures_are_those_of_arikan() -> None:
    """Of a BEC(1/2) the capacities 1 − Z are 1/256, 31/256, 49/256, 175/256, 81/256, 207/256, 225/256 and 255/256."""
    capacities = [1 / (1 + math.exp(logit)) for logit in bhattacharyya_logits(8, 0.5)]
    assert capacities == pytest.approx([c / 256 for c in (1, 31, 49, 175, 81, 207, 225, 255)], rel=1e-12)


def test_the_most_reliable_positions_carry_information_and_one_more_never_takes_one_away() -> None:
    # The order of the capacities above, the best first: at this flip probability Z is ½, as that of the erasures.
    epsilon = (1 - math.sqrt(1 - 0.25)) / 2
    best_first = [7, 6, 5, 3, 4, 2, 1]
    for k in range(1, 8):
        assert Polar(n=8, k=k, design_epsilon=epsilon).information_positions() == tuple(sorted(best_first[:k]))


@pytest.mark.parametrize("n", [2, 64, 1024])
@pytest.mark.parametrize("epsilon", [1e-9, 0.05, 0.49])
def test_no_two_positions_are_confounded_by_rounding(n: int, epsilon: float) -> None:
    parameters = bhattacharyya_logits(n, 2 * math.sqrt(epsilon * (1 - epsilon)))
    assert all(map(math.isfinite, parameters))
    for first, second in itertools.combinations(range(n), 2):
        if first & ~second == 0:
            assert parameters[second] < parameters[first]


@pytest.mark.parametrize(("n", "k"), [(2, 1), (8, 4), (16, 11), (64, 32), (256, 100)])
def test_codewords_are_sums_of_the_rows_at_the_information_positions_and_show_the_word_there(n: int, k: int) -> None:
    spec = Polar(n=n, k=k)
    positions = spec.information_positions()
    words = torch.randint(0, 2, (20, k), generator=torch.Generator().manual_seed(n))
    for word, codeword in zip(words.tolist(), spec.build(n).encode(words).tolist(), strict=True):
        assert [codeword[place] for place in positions] == word
        # The transform is its own inverse: the inputs of a codeword, of which the frozen ones are 0.
        inputs = transformed(codeword)
        assert all(bit == 0 for place, bit in enumerate(inputs) if place not in positions)


@pytest.mark.parametrize("epsilon", [0.01, 0.05, 0.2])
def test_the_minimum_distance_that_is_said_is_the_one_that_is_counted(epsilon: float) -> None:
    for n, k in [*((16, k) for k in range(1, 16)), (32, 10), (32, 24), (64, 14), (64, 52)]:
        spec = Polar(n=n, k=k, design_epsilon=epsilon)
        assert spec.block().min_distance == gf2.min_distance(spec.generator_matrix())


def test_a_polar_code_that_is_a_reed_muller_code_has_its_words() -> None:
    """The half of eight inputs is RM(1, 3), of the words of even weight at distance 4."""
    spec = Polar(n=8, k=4)
    assert gf2.weight_distribution(spec.generator_matrix()) == (1, 0, 0, 0, 14, 0, 0, 0, 1)


@pytest.mark.parametrize(("n", "k"), WITHOUT_CYCLES)
@pytest.mark.parametrize("iterations", [1, 3])
def test_soft_cancellation_is_the_exact_posterior_where_the_graph_has_no_cycles(n: int, k: int, iterations: int) -> None:
    spec = Polar(n=n, k=k)
    for deviation in (0.4, 1.0, 3.0):
        _, logits = sent_over_noise(spec, 50, deviation)
        exact = LinearCode(spec, n, spec.generator_matrix()).soft_decode(logits)
        assert torch.allclose(soft(spec, iterations).soft_decode(logits), exact, rtol=1e-9, atol=1e-9)


def test_soft_cancellation_is_near_the_exact_posterior_elsewhere_and_not_it() -> None:
    """Mean errors of a probability were measured as 0.0009 for (16, 8) and 0.0035 for (32, 12), at bits wrong in 1 of 10."""
    for n, k, most in ((16, 8, 0.0015), (32, 12, 0.005)):
        spec = Polar(n=n, k=k)
        _, logits = sent_over_noise(spec, 4000, 0.78)
        exact = posterior_by_enumeration(Subject(spec), logits).sigmoid()
        error = (soft(spec).soft_decode(logits).sigmoid() - exact).abs().mean()
        assert 1e-4 < error < most


@pytest.mark.parametrize(("n", "k"), [*WITHOUT_CYCLES, *WITH_CYCLES])
@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_soft_cancellation_does_what_plain_tables_of_messages_do(n: int, k: int, iterations: int) -> None:
    spec = Polar(n=n, k=k)
    _, logits = sent_over_noise(spec, 4, 1.0)
    found = soft(spec, iterations).soft_decode(logits)
    for row, decoded in zip((-logits).tolist(), found, strict=True):
        posterior = textbook_soft(row, frozen_of(spec), iterations)
        expected = -torch.tensor([posterior[place] for place in spec.information_positions()], dtype=torch.float64)
        assert torch.allclose(decoded, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-7), (torch.float64, 1e-13)])
def test_the_logit_of_a_sum_is_right_at_every_size(dtype: torch.dtype, tolerance: float) -> None:
    """Against sixty decimal digits."""
    values = [sign * size for size in (0.0, 1e-6, 0.3, 1.0, 5.0, 30.0, 90.0, 1e4) for sign in (1, -1)]
    first, second = (torch.tensor(side, dtype=dtype) for side in zip(*itertools.product(values, values), strict=True))
    with localcontext(prec=60):
        expected = [
            float((1 + (a + b).exp()).ln() - (a.exp() + b.exp()).ln())
            for a, b in zip(map(Decimal, first.tolist()), map(Decimal, second.tolist()), strict=True)
        ]
    assert torch.allclose(box_plus(first, second), torch.tensor(expected, dtype=dtype), rtol=tolerance, atol=tolerance)


def test_the_logit_of_a_sum_has_its_first_and_second_derivative_also_at_zero() -> None:
    values = [-3.0, -0.7, 0.0, 0.4, 2.0]
    pairs = torch.tensor(list(itertools.product(values, values)), dtype=torch.float64)
    first, second = (side.clone().requires_grad_() for side in pairs.unbind(1))
    assert torch.autograd.gradcheck(box_plus, (first, second))
    assert torch.autograd.gradgradcheck(box_plus, (first, second))


@pytest.mark.parametrize("size", [0.0, 1.0, 1e4, float("inf")])
def test_gradients_are_finite_at_certainty_and_at_ignorance(size: float) -> None:
    spec = Polar(n=64, k=32)
    logits = torch.full((2, 64), -size, requires_grad=True)
    decoded = spec.build(64).soft_decode(logits)
    (gradient,) = torch.autograd.grad(decoded.sum(), logits)
    assert decoded.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize(("n", "k"), [(2, 1), (8, 5), (16, 8), (32, 12), (64, 32)])
@pytest.mark.parametrize("deviation", [0.5, 1.0])
def test_successive_cancellation_decides_what_a_plain_one_decides(n: int, k: int, deviation: float) -> None:
    spec = Polar(n=n, k=k)
    _, logits = sent_over_noise(spec, 30, deviation)
    found = hard(spec).codewords(logits, torch.Generator().manual_seed(0))
    for row, codeword in zip((-logits).tolist(), found.int().tolist(), strict=True):
        assert (codeword, False) == textbook(row, frozen_of(spec), smaller)


def test_bits_are_decoded_as_by_plain_successive_cancellation_where_nothing_is_tied() -> None:
    spec = Polar(n=32, k=16, decoder="successive-cancellation")
    generator = torch.Generator().manual_seed(3)
    code = spec.build(32)
    sent = code.encode(torch.randint(0, 2, (300, 16), generator=generator))
    received = sent ^ (torch.rand(sent.shape, generator=generator) < 0.08).int()
    compared = 0
    for row, decoded in zip(received.tolist(), code.decode(received).tolist(), strict=True):
        codeword, tied = textbook([1 - 2 * bit for bit in row], frozen_of(spec), smaller)
        compared += not tied
        assert tied or decoded == [codeword[place] for place in spec.information_positions()]
    assert compared > 100


@pytest.mark.parametrize(("n", "k", "t"), [(16, 8, 1), (32, 16, 1), (64, 32, 3), (32, 5, 7)])
def test_successive_cancellation_corrects_every_pattern_of_up_to_t_errors(n: int, k: int, t: int) -> None:
    spec = Polar(n=n, k=k, decoder="successive-cancellation")
    assert spec.block().correctable == t
    patterns = list(itertools.islice(itertools.combinations(range(n), t), 50_000))
    received = torch.zeros(len(patterns), n).scatter_(1, torch.tensor(patterns), 1)
    assert not spec.build(n).decode(received).any()


def test_the_decoder_is_exact_where_the_block_is_small_and_nothing_is_claimed_where_it_is_not() -> None:
    small, forced, large = Polar(n=16, k=8), Polar(n=16, k=8, decoder="successive-cancellation"), Polar(n=64, k=32)
    between = Polar(n=32, k=16)
    assert [spec.build(spec.n).exact for spec in (small, forced, large, between)] == [True, False, False, False]
    assert [set(spec.exemptions()) for spec in (small, forced, large, between)] == [set(), {"nearest"}, {"nearest"}, set()]
    assert [spec.hard_block_error_rate(0.05) is None for spec in (small, forced, large, between)] == [
        False,
        True,
        True,
        False,
    ]
    assert [spec.hard_bit_error_rate(0.05) is None for spec in (small, forced, large)] == [False, True, True]
    assert [spec.no_soft_decoder() or spec.no_hard_decoder() for spec in (small, forced, large, between)] == [None] * 4
    assert small.remark() is None
    assert "not exact" in large.soft_decoding()
    assert "soft cancellation" in str(between.remark())
    assert "successive cancellation" not in str(between.remark())
    assert "successive cancellation" in str(large.remark())


def test_a_forced_decoder_errs_as_often_as_measured_and_never_less_than_the_nearest_codeword() -> None:
    for n, k in ((16, 5), (32, 11)):
        nearest, cancelled = (Polar(n=n, k=k, decoder=way) for way in ("best", "successive-cancellation"))
        rates = [
            measure_channel(spec.build(n), 0.1, 20_000, "hard", seed=4).word_error_rate for spec in (nearest, cancelled)
        ]
        assert rates[1].standard_error is not None
        assert rates[0].mean < rates[1].mean + 3 * rates[1].standard_error


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 48}, "n=48 is not a power of 2 from 2 to 1024; nearest valid: 32, 64"),
        ({"n": 2048}, "nearest valid: 1024, 512"),
        ({"n": 0}, "nearest valid: 2, 4"),
        ({"n": 32, "k": 32}, "leave no check"),
        ({"n": 32, "k": 0}, "greater than or equal to 1"),
        ({"design_epsilon": 0.5}, "less than or equal to 0.49"),
        ({"decoder": "list"}, "successive-cancellation"),
    ],
)
def test_options_that_make_no_code_are_refused_with_the_nearest_that_do(options: dict[str, object], words: str) -> None:
    with pytest.raises((UsageError, ValidationError), match=words):
        Polar.model_validate(options)


def test_a_label_tells_n_and_k_and_what_is_not_as_usual() -> None:
    assert Polar().label() == "polar(n=64, k=32)"
    assert Polar(n=32, k=8, iterations=2, pad=True).label() == "polar(n=32, k=8, iterations=2, pad=True)"


def test_what_cancellation_costs_is_counted_over_the_nodes_that_are_partly_frozen() -> None:
    def forced(n: int, k: int, iterations: int = 1) -> Polar:
        return Polar(n=n, k=k, decoder="successive-cancellation", iterations=iterations)

    # Free inputs 01, 0001 and 00010111: the lengths of nodes of both kinds add up to 2, 4 + 2 and 8 + 4 + 2 + 4 + 2.
    assert forced(2, 1).soft_cost() == 6 * 2
    assert forced(4, 1).soft_cost() == 6 * 6
    assert forced(8, 4).soft_cost() == 6 * 20 / 4
    assert forced(8, 4, iterations=3).soft_cost() == 3 * 6 * 20 / 4
    assert Polar(n=8, k=4).soft_cost() == 2 * 2**4 / 4


def test_it_is_said_how_a_block_is_decoded() -> None:
    small, large = Polar(n=16, k=8), Polar(n=64, k=32)
    assert small.soft_decoding() == "sums over all 256 words of a block, exact"
    assert small.hard_decoding() == "the leaders of 256 cosets, a fair coin where several are as light"
    assert small.remark() is None
    assert large.soft_decoding() == "soft cancellation, one pass over the tree of the code, not exact"
    thrice = Polar(n=64, k=32, iterations=3)
    assert thrice.soft_decoding() == "soft cancellation, 3 passes over the tree of the code, not exact"
    assert large.hard_decoding() == "successive cancellation, a fair coin between equals; not always a nearest codeword"
    assert large.remark() == (
        "Such a block is decoded without trying all words: logits by soft cancellation, which comes near the exact "
        "posterior but is not it; bits by successive cancellation, which corrects any t wrong bits but beyond may miss "
        "the nearest codeword."
    )
    assert Polar(n=32, k=16).remark() == (
        "Such a block is decoded without trying all words: logits by soft cancellation, which comes near the exact "
        "posterior but is not it."
    )
    assert large.no_soft_decoder() is None
    assert large.no_hard_decoder() is None


@pytest.mark.parametrize(
    "options",
    [
        {"k": 0},
        {"n": 1024, "k": 1024},
        {"design_epsilon": 0.0},
        {"design_epsilon": 0.5},
        {"iterations": 0},
        {"iterations": 51},
    ],
)
def test_options_out_of_bounds_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Polar(**options)
    assert (Polar().n, Polar().k, Polar().design_epsilon, Polar().decoder, Polar().iterations) == (64, 32, 0.05, "best", 1)
