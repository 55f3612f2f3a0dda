"""Convolutional codes: against enumeration where blocks are short, against other sums over paths where they are long."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from bvae_cli.codes import gf2
from bvae_cli.codes.convolutional import Convolutional
from bvae_cli.codes.forward_backward import NearestPath, Register, RegisterPosterior
from bvae_cli.config import TrainConfig
from bvae_cli.errors import UsageError
from tests.helpers import joint_threshold, property_settings, words_tensor

# The free distances of the best codes: Larsen 1973; Lin and Costello 2004, ch. 12.
FREE_DISTANCES = {
    "5-7": 5,
    "15-17": 6,
    "23-35": 7,
    "53-75": 8,
    "133-171": 10,
    "247-371": 10,
    "561-753": 12,
    "5-7-7": 8,
    "13-15-17": 10,
    "25-33-37": 12,
    "133-145-175": 15,
}
TERMINATIONS = ("tail-biting", "terminated")


@st.composite
def small_codes(draw: st.DrawFn) -> Convolutional:
    """Codes of memory 1 to 4 and of few bits, of any generators that make a code."""
    memory = draw(st.integers(1, 4))
    polynomials = draw(st.lists(st.integers(1, 2 ** (memory + 1) - 1), min_size=2, max_size=3))
    termination = draw(st.sampled_from(TERMINATIONS))
    k = draw(st.integers(memory if termination == "tail-biting" else 1, 7))
    try:
        return Convolutional(generators="-".join(f"{p:o}" for p in polynomials), k=k, termination=termination)
    except UsageError:
        assume(False)
        raise


def register_of(spec: Convolutional) -> Register:
    return Register(spec.polynomials(), spec.memory(), spec.k, tail_biting=spec.termination == "tail-biting")


def encoded(spec: Convolutional, words: Tensor) -> Tensor:
    """Encode by the definition, bit by bit: c_{t,j} = Σ_i g_{j,i} u_{t−i}."""
    memory = spec.memory()
    taps = [[int(digit) for digit in f"{polynomial:0{memory + 1}b}"] for polynomial in spec.polynomials()]
    ends = spec.termination == "terminated"
    padded = torch.cat([words, words.new_zeros(len(words), memory)], -1) if ends else words
    # The register before the first step holds the last bits: zeros where there is a tail of them.
    columns = [
        sum(tap * padded.roll(delay, -1)[:, step] for delay, tap in enumerate(row)) % 2
        for step in range(padded.shape[-1])
        for row in taps
    ]
    return torch.stack(columns, -1)


def received_logits(spec: Convolutional, rows: int, scale: float, seed: int) -> Tensor:
    noise = torch.randn(rows, spec.block().n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return scale * noise


@given(spec=small_codes())
@property_settings
def test_codewords_are_those_of_the_definition(spec: Convolutional) -> None:
    words = words_tensor(spec.k)
    assert torch.equal(spec.build(spec.block().n).encode(words), encoded(spec, words))


def test_the_leftmost_octal_bit_multiplies_the_present_bit() -> None:
    code = Convolutional(generators="15-17", k=6, termination="terminated").build(18)
    first = code.encode(torch.eye(6, dtype=torch.int)[0])
    assert first.tolist() == [1, 1, 1, 1, 0, 1, 1, 1, *[0] * 10]


@given(spec=small_codes(), scale=st.sampled_from((0.3, 2.0, 8.0)), seed=st.integers(0, 99))
@property_settings
def test_the_posterior_is_that_of_all_words(spec: Convolutional, scale: float, seed: int) -> None:
    """In every case over the register, though so few words would be summed one by one."""
    words = words_tensor(spec.k)
    logits = received_logits(spec, 8, scale, seed)
    scores = logits @ encoded(spec, words).T
    expected = torch.stack([scores[:, one].logsumexp(-1) - scores[:, ~one].logsumexp(-1) for one in words.T.bool()], -1)
    found = RegisterPosterior(register_of(spec)).soft_decode(logits)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9)


@given(spec=small_codes(), seed=st.integers(0, 99))
@property_settings
def test_the_decoded_codeword_is_a_nearest_one(spec: Convolutional, seed: int) -> None:
    codewords = encoded(spec, words_tensor(spec.k))
    received = (received_logits(spec, 50, 1.0, seed) > 0).double()
    found = NearestPath(register_of(spec)).decode(received, torch.Generator().manual_seed(seed)).double()
    away = (encoded(spec, found) != received).sum(-1)
    assert torch.equal(away, (received[:, None] != codewords).sum(-1).amin(-1))


@pytest.mark.parametrize(
    "spec",
    [
        Convolutional(generators="1-3", k=5, termination="terminated"),
        Convolutional(generators="5-7", k=6),
        Convolutional(generators="15-17", k=5),
        Convolutional(generators="23-35", k=6, termination="terminated"),
    ],
    ids=str,
)
def test_every_nearest_codeword_is_drawn_equally_often(spec: Convolutional) -> None:
    """Of the received words with most ties; the counts of all words of all of them jointly at 1 %."""
    rows, patterns = 6000, 5
    words = words_tensor(spec.k)
    codewords = encoded(spec, words)
    tried = (received_logits(spec, 400, 1.0, 7) > 0).double()
    away = (tried[:, None] != codewords).sum(-1)
    ties = away == away.amin(-1, keepdim=True)
    places = ties.sum(-1).argsort(descending=True)[:patterns]
    checks = 4 * int(ties[places].sum())
    assert int(ties[places].sum(-1).min()) > 1
    for place in places:
        decoded = NearestPath(register_of(spec)).decode(tried[place].expand(rows, -1), torch.Generator().manual_seed(1))
        counts = (decoded.double()[:, None] == words).all(-1).sum(0)
        share = 1 / int(ties[place].sum())
        assert not counts[~ties[place]].any()
        limit = joint_threshold(checks) * (rows * share * (1 - share)) ** 0.5
        assert ((counts[ties[place]] - rows * share).abs() < limit).all()


def transfer_matrices(spec: Convolutional, logits: Tensor) -> Tensor:
    """Return e^{γ} of every step and bit, ``[rows, steps, 2, states, states]``; the newest bit of a state is the lowest."""
    memory, outputs = spec.memory(), len(spec.polynomials())
    matrices = logits.new_zeros(len(logits), logits.shape[-1] // outputs, 2, 2**memory, 2**memory)
    by_step = logits.unflatten(-1, (-1, outputs))
    for state, bit in itertools.product(range(2**memory), (0, 1)):
        window = state << 1 | bit
        reversed_window = int(f"{window:0{memory + 1}b}"[::-1], 2)
        ones = torch.tensor([(reversed_window & g).bit_count() % 2 for g in spec.polynomials()], dtype=logits.dtype)
        matrices[:, :, bit, state, window % 2**memory] = (by_step * ones).sum(-1).exp()
    return matrices


@pytest.mark.parametrize("generators", ["5-7", "15-17", "23-35", "5-7-7"])
def test_the_posterior_of_a_long_tail_biting_block_is_a_ratio_of_traces(generators: str) -> None:
    """Σ over all words is tr(M_1 ⋯ M_k), of those with bit t = 1 tr(M_1 ⋯ M_t(1) ⋯ M_k)."""
    spec = Convolutional(generators=generators, k=60)
    logits = received_logits(spec, 6, 1.5, 3)
    matrices = transfer_matrices(spec, logits)
    identity = torch.eye(matrices.shape[-1], dtype=torch.float64).expand(len(logits), -1, -1)
    sums = matrices.sum(2).unbind(1)
    before = list(itertools.accumulate(sums, torch.matmul, initial=identity))
    behind = list(itertools.accumulate(reversed(sums), lambda right, left: left @ right, initial=identity))[::-1]
    traces = [
        [(before[t] @ matrices[:, t, bit] @ behind[t + 1]).diagonal(0, -2, -1).sum(-1).log() for bit in (0, 1)]
        for t in range(spec.k)
    ]
    expected = torch.stack([one - zero for zero, one in traces], -1)
    found = spec.build(spec.block().n).soft_decode(logits)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("generators", ["5-7", "23-35"])
@pytest.mark.parametrize("epsilon", [0.02, 0.05, 0.1, 0.2])
def test_a_long_tail_biting_block_is_decoded_to_as_few_flips_as_the_best_path_has(generators: str, epsilon: float) -> None:
    """The flips of the shortest path are the limit of −log of the trace as flips become dear."""
    spec, dear = Convolutional(generators=generators, k=60), 40.0
    code = spec.build(spec.block().n)
    draw = torch.Generator().manual_seed(8)
    sent = code.encode(torch.randint(0, 2, (100, spec.k), generator=draw).double())
    received = (sent != (torch.rand(sent.shape, generator=draw) < epsilon)).double()
    matrices = transfer_matrices(spec, dear * (2 * received - 1)).sum(2)
    product, log_scale = torch.eye(matrices.shape[-1], dtype=torch.float64).expand(len(received), -1, -1), 0.0
    for step in matrices.unbind(1):
        product = product @ step
        top = product.amax((-2, -1), keepdim=True)
        product, log_scale = product / top, log_scale + top.log().flatten()
    score = log_scale + product.diagonal(0, -2, -1).sum(-1).log()
    fewest = (received.sum(-1) - score / dear).round()
    assert torch.equal((code.encode(code.decode(received)) != received).sum(-1).double(), fewest)


@pytest.mark.parametrize(
    ("generators", "termination"),
    [("5-7", "tail-biting"), ("5-7", "terminated"), ("53-75", "tail-biting"), ("133-171", "terminated")],
)
def test_single_precision_is_as_exact_in_long_blocks_of_large_and_contradicting_logits(
    generators: str, termination: str
) -> None:
    spec = Convolutional(generators=generators, k=150, termination=termination)
    code = spec.build(spec.block().n)
    for scale in (1.0, 10.0, 100.0):
        logits = received_logits(spec, 10, scale, 5).float()
        expected = code.soft_decode(logits.double())
        error = (code.soft_decode(logits).double() - expected).abs() / expected.abs().clamp_min(1.0)
        assert error.max() < 2e-4


def test_probabilities_of_a_long_block_are_products_of_the_few_bits_in_each_code_bit() -> None:
    spec = Convolutional(generators="23-35", k=40)
    given_probabilities = torch.rand(5, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    matrix = torch.tensor(spec.generator_matrix(), dtype=torch.float64)
    expected = 0.5 * (1 - torch.where(matrix > 0, 1 - 2 * given_probabilities[..., None], 1.0).prod(-2))
    assert torch.allclose(spec.build(80).encode_probs(given_probabilities), expected, atol=1e-12)


@pytest.mark.parametrize("termination", TERMINATIONS)
@pytest.mark.parametrize(("generators", "distance"), FREE_DISTANCES.items())
def test_long_blocks_have_the_published_free_distance(generators: str, distance: int, termination: str) -> None:
    assert Convolutional(generators=generators, k=100, termination=termination).block().min_distance == distance


@given(spec=small_codes())
@property_settings
def test_the_distance_that_is_searched_is_the_one_that_is_counted(spec: Convolutional) -> None:
    assert spec.block().min_distance == gf2.min_distance(spec.generator_matrix())


@pytest.mark.parametrize("written", ["133,171", "133;171", "133/171", "133 171", " 0133 - 171 ", "266-362"])
def test_generators_are_written_in_many_ways_and_told_in_one(written: str) -> None:
    assert Convolutional(generators=written).generators == "133-171"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"generators": "5-8"}, "'8' in generators=5-8 is not an octal number"),
        ({"generators": "5-x"}, "'x' in generators=5-x is not an octal number"),
        ({"generators": "5"}, "has 1 generator; a code takes 2 to 8"),
        ({"generators": ""}, "has 0 generators"),
        ({"generators": "5-7-5-7-5-7-5-7-5"}, "has 9 generators"),
        ({"generators": "5-0"}, "a generator that is zero"),
        ({"generators": "1-1"}, "no memory.*\n.*repetition with R=2"),
        ({"generators": "2-2"}, "no memory"),
        ({"generators": "5-3"}, r"catastrophic: all have the factor 11 \(as bits\)"),
        ({"generators": "7-7"}, "catastrophic"),
        ({"generators": "20001-20003"}, "memory 13; at most 12"),
        ({"generators": "133-171", "k": 5}, "k=5 is less than the memory 6.*\nTake k=6 or more, or termination=terminated"),
        ({"k": 0}, "greater than or equal to 1"),
        ({"termination": "truncated"}, "'tail-biting' or 'terminated'"),
    ],
)
def test_options_that_make_no_code_are_refused_in_a_sentence(options: dict[str, object], words: str) -> None:
    with pytest.raises((UsageError, ValidationError), match=words):
        Convolutional(**options)


def test_a_tail_biting_block_of_large_memory_is_refused_with_what_can_be_afforded() -> None:
    spec = Convolutional(generators="247-371", k=30)
    for told in (spec.no_soft_decoder(), spec.no_hard_decoder()):
        assert told is not None
        assert "16,384 pairs of states, and 4,096 can be; with termination=terminated it takes 128 states." in told
    with pytest.raises(UsageError, match="termination=terminated"):
        TrainConfig(latent=60, ecc="convolutional:generators=247-371,k=30")
    with pytest.raises(UsageError, match="16,384 pairs"):
        spec.build(60).soft_decode(torch.zeros(60))
    with pytest.raises(UsageError, match="16,384 pairs"):
        spec.build(60).decode(torch.zeros(60))
    terminated = Convolutional(generators="247-371", k=30, termination="terminated")
    assert terminated.no_soft_decoder() is terminated.no_hard_decoder() is None


def test_few_words_are_summed_one_by_one_where_that_is_cheaper() -> None:
    assert Convolutional(generators="247-371", k=10).soft_decoding() == "sums over all 1,024 words of a block, exact"
    assert "64 states" in Convolutional(generators="133-171", k=12, termination="terminated").soft_decoding()


def test_a_spec_answers_without_torch_and_numpy() -> None:
    program = (
        "import sys; from bvae_cli.codes.convolutional import Convolutional as C; s = C(k=100);"
        "s.block(), s.soft_decoding(), s.hard_decoding(), s.no_soft_decoder(), s.error_rates(200, 0.05), s.remark();"
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"generators": "5"}, "Separate them with a hyphen, as 5-7."),
        ({"generators": "5-8"}, "Digits are 0 to 7, as in 5-7."),
        ({"generators": "5-0"}, "Take generators that are known to be good, as 5-7, 15-17, 23-35 or 133-171."),
        ({"generators": "3-5"}, "Take generators that are known to be good, as 5-7, 15-17, 23-35 or 133-171."),
        ({"generators": "1-20001"}, "Take generators that are known to be good, as 5-7, 15-17, 23-35 or 133-171."),
        ({"generators": "1-1-1"}, "Take the code repetition with R=3."),
        ({"generators": "23-35", "k": 3}, "Take k=4 or more, or termination=terminated."),
    ],
)
def test_what_is_refused_is_told_what_to_take_instead(options: dict[str, object], hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        Convolutional(**options)
    assert caught.value.hint == hint


def test_it_is_said_over_which_states_a_block_is_decoded_and_what_that_costs() -> None:
    """Four exponentials for each step and each state, or each pair of a start and a state."""
    round_about, terminated = Convolutional(k=50), Convolutional(k=50, termination="terminated")
    assert round_about.soft_decoding() == "forward and backward over 4 states from each of as many starts, exact"
    assert terminated.soft_decoding() == "forward and backward over 4 states, exact"
    assert round_about.soft_cost() == 4 * 4**2
    assert terminated.soft_cost() == pytest.approx(4 * 4 * 52 / 50)
    assert Convolutional(k=4).soft_cost() == 2 * 2**4 / 4
    paths = "the shortest path over 4 states from each of as many starts, a fair coin among all that are as short"
    # Of more than twelve bits, and where neither leaders nor states are few; else the leaders of cosets.
    assert Convolutional(k=16).hard_decoding() == paths
    assert Convolutional(generators="5-7-7", k=9).hard_decoding() == paths
    assert Convolutional(k=10).hard_decoding().startswith("the leaders of 1,024 cosets")
