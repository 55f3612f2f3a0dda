"""What every code must do, checked on each of them against plain Python."""

import copy
import dataclasses
import importlib.util
import math
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bvae_cli.codes import hamming
from bvae_cli.codes.base import Block, Code, CodeSpec, ErrorRates, joined_error_rates
from bvae_cli.codes.bch import Bch
from bvae_cli.codes.convolutional import Convolutional
from bvae_cli.codes.ldpc import Ldpc
from bvae_cli.codes.linear import LinearCode
from bvae_cli.codes.polar import Polar
from bvae_cli.codes.reed_muller import ReedMuller
from bvae_cli.codes.repetition import Repetition
from bvae_cli.codes.uncoded import Uncoded
from bvae_cli.codes.unequal import Unequal
from bvae_cli.errors import ExitCode, UsageError
from tests.helpers import (
    SMALL_CODES,
    ExtendedHamming,
    Golay,
    Hamming,
    all_words,
    encoded_by_hand,
    every_small_code,
    expected_codeword,
    posterior_by_enumeration,
    property_settings,
    words_tensor,
)

BIT_TYPES = [torch.uint8, torch.int64, torch.bool, torch.bfloat16, torch.float32, torch.float64]
FLOAT_TYPES = [torch.bfloat16, torch.float32, torch.float64]
small_codes = st.sampled_from(list(SMALL_CODES.values()))


def random_logits(n: int, *leading: int, scale: float = 3.0, seed: int = 0) -> torch.Tensor:
    return scale * torch.randn(*leading, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_bits(n: int, *leading: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 2, (*leading, n), generator=torch.Generator().manual_seed(seed))


# Sizes


@pytest.mark.parametrize("distance", range(1, 12))
def test_a_block_corrects_half_of_its_distance_less_one(distance):
    correctable = Block(30, 10, distance).correctable
    # Spheres of that radius around two codewords are disjoint, and one larger are not.
    assert 2 * correctable + 1 <= distance < 2 * (correctable + 1) + 1


def test_a_block_of_unknown_distance_promises_nothing():
    assert Block(30, 10).correctable is None


@every_small_code
def test_a_code_has_the_size_of_its_latent(spec, n):
    code = spec.build(n)
    words = all_words(code.k)
    codebook = {encoded_by_hand(spec, word) for word in words}
    assert {len(codeword) for codeword in codebook} == {code.n} == {n}
    assert len(codebook) == 2**code.k
    assert spec.information_bits(n) == code.k
    assert code.rate == pytest.approx(math.log2(len(codebook)) / n)


@every_small_code
def test_the_distance_of_a_code_is_the_least_weight_of_its_words(spec, n):
    code = spec.build(n)
    weights = [sum(encoded_by_hand(spec, word)) for word in all_words(code.k) if any(word)]
    assert code.min_distance == min(weights)
    assert code.correctable == (min(weights) - 1) // 2


def test_a_size_that_does_not_fit_is_refused_with_the_nearest_sizes_in_one_sentence():
    with pytest.raises(UsageError) as refused:
        Golay().build(300)
    assert refused.value.message == (
        "Latent size 300 is not a multiple of the block length 24 of golay(24,12); "
        "nearest valid: 288 (144 information bits), 312 (156 information bits)."
    )
    assert refused.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize("n", [2, 1, 0, -1, -3, -7])
def test_a_size_below_one_block_is_answered_with_one_block(n):
    with pytest.raises(UsageError) as refused:
        Repetition(R=3).information_bits(n)
    assert refused.value.message == (
        f"Latent size {n} is not a multiple of the block length 3 of repetition(R=3); nearest valid: 3 (1 information bit)."
    )


@given(copies=st.integers(1, 40), n=st.integers(-50, 500))
@property_settings
def test_a_size_fits_exactly_when_copies_can_be_dealt_out_evenly(copies, n):
    spec = Repetition(R=copies)
    fits = n in range(copies, 501, copies)
    assert spec.fits(n) == fits
    if fits:
        assert spec.build(n).k * copies == n
        return
    with pytest.raises(UsageError) as refused:
        spec.build(n)
    offered = [int(part.split()[0]) for part in refused.value.message.split("nearest valid: ")[1].split(", ")]
    multiples = range(copies, 600, copies)
    below = [size for size in multiples if size < n][-1:]
    above = [size for size in multiples if size > n][:1]
    assert offered == below + above


# Specs


@pytest.mark.parametrize(
    ("spec", "label"),
    [(Uncoded(), "none"), (Repetition(R=3), "repetition(R=3)"), (Golay(), "golay(24,12)")],
)
def test_a_label_names_the_family_and_its_options(spec, label):
    assert spec.label() == label


def test_a_spec_is_frozen_and_knows_its_own_options_only():
    spec = Repetition(R=3)
    with pytest.raises(ValidationError):
        spec.R = 5
    with pytest.raises(ValidationError, match="Extra inputs"):
        Repetition(r=3)
    with pytest.raises(ValidationError):
        Uncoded(R=3)


@pytest.mark.parametrize("copies", [0, -1, 1025, 2.5, "many"])
def test_a_number_of_copies_out_of_bounds_is_refused(copies):
    with pytest.raises(ValidationError):
        Repetition(R=copies)


def test_a_spec_without_a_block_or_a_build_is_not_one():
    class Half(CodeSpec):
        def block(self):
            return Block(3, 1)

    with pytest.raises(TypeError, match="build"):
        Half()


def test_a_family_that_states_nothing_claims_nothing():
    spec = Hamming()
    assert spec.hard_bit_error_rate(0.1) is None
    assert spec.hard_block_error_rate(0.1) is None
    assert spec.soft_bit_error_rate(0.1) is None
    assert spec.remark() is None


@pytest.mark.parametrize("module", ["base", "closed_forms", "repetition", "uncoded"])
def test_a_spec_is_made_and_asked_without_torch_or_numpy(module):
    asked = {
        "repetition": "s = m.Repetition(R=2)",
        "uncoded": "s = m.Uncoded()",
    }.get(module)
    lines = ["import sys", f"import bvae_cli.codes.{module} as m"]
    if asked:
        lines += [
            asked,
            "s.label(), s.block(), s.fits(7), s.information_bits(8), s.remark()",
            "s.hard_bit_error_rate(.1), s.hard_block_error_rate(.1), s.soft_bit_error_rate(.1)",
        ]
    lines.append("assert not {'torch', 'numpy'} & set(sys.modules), 'heavy'")
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Encoding


@every_small_code
@pytest.mark.parametrize("dtype", BIT_TYPES)
def test_encoding_is_that_of_plain_python_in_every_type(spec, n, dtype):
    code = spec.build(n)
    words = words_tensor(code.k).to(dtype)
    encoded = code.encode(words)
    assert encoded.dtype == dtype
    assert encoded.device == words.device
    assert [tuple(row) for row in encoded.int().tolist()] == [encoded_by_hand(spec, word) for word in all_words(code.k)]


@every_small_code
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_encoding_probabilities_that_are_hard_bits_is_encoding(spec, n, dtype):
    code = spec.build(n)
    words = words_tensor(code.k, dtype)
    encoded = code.encode_probs(words)
    assert encoded.dtype == dtype
    assert torch.equal(encoded, code.encode(words))


@given(choice=small_codes, data=st.data())
@property_settings
def test_encoding_probabilities_is_the_expected_codeword(choice, data):
    spec, n = choice
    code = spec.build(n)
    probabilities = data.draw(st.lists(st.floats(0.0, 1.0), min_size=code.k, max_size=code.k))
    encoded = code.encode_probs(torch.tensor(probabilities, dtype=torch.float64))
    assert encoded.tolist() == pytest.approx(expected_codeword(spec, probabilities), abs=1e-12)


@given(choice=small_codes, data=st.data())
@property_settings
def test_encoding_logits_is_the_logit_of_the_expected_codeword(choice, data):
    spec, n = choice
    code = spec.build(n)
    logits = data.draw(st.lists(st.floats(-4.0, 4.0), min_size=code.k, max_size=code.k))
    probabilities = [1 / (1 + math.exp(-logit)) for logit in logits]
    expected = [math.log(p / (1 - p)) for p in expected_codeword(spec, probabilities)]
    assert code.encode_logits(torch.tensor(logits, dtype=torch.float64)).tolist() == pytest.approx(expected, abs=1e-7)


# Decoding


@every_small_code
@pytest.mark.parametrize("dtype", BIT_TYPES)
def test_decoding_a_codeword_gives_its_word_back_in_every_type(spec, n, dtype):
    code = spec.build(n)
    words = words_tensor(code.k).to(dtype)
    decoded = code.decode(code.encode(words))
    assert decoded.dtype == dtype
    assert torch.equal(decoded, words)


@every_small_code
def test_decoding_finds_a_nearest_codeword_of_whatever_arrives(spec, n):
    code = spec.build(n)
    codebook = [encoded_by_hand(spec, word) for word in all_words(code.k)]
    received = torch.tensor(all_words(n)) if n <= 8 else random_bits(n, 500)
    decoded = code.decode(received).tolist()
    for bits, word in zip(received.tolist(), decoded, strict=True):
        distance = [sum(a != b for a, b in zip(bits, codeword, strict=True)) for codeword in codebook]
        found = sum(a != b for a, b in zip(bits, encoded_by_hand(spec, word), strict=True))
        assert found == min(distance)


@given(choice=small_codes, data=st.data())
@property_settings
def test_soft_decoding_is_the_posterior_by_enumeration_of_all_words(choice, data):
    spec, n = choice
    code = spec.build(n)
    logits = data.draw(st.lists(st.floats(-40.0, 40.0), min_size=n, max_size=n))
    decoded = code.soft_decode(torch.tensor(logits, dtype=torch.float64))
    assert decoded.tolist() == pytest.approx(posterior_by_enumeration(spec, code.k, logits), abs=1e-9)


@every_small_code
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_soft_decoding_keeps_its_type_and_is_as_exact_as_the_type(spec, n, dtype):
    code = spec.build(n)
    logits = random_logits(n, 20).to(dtype)
    decoded = code.soft_decode(logits)
    assert decoded.dtype == dtype
    for row, given_logits in zip(decoded.double().tolist(), logits.double().tolist(), strict=True):
        # Summed in float32 or better, then rounded once to the type.
        expected = posterior_by_enumeration(spec, code.k, given_logits)
        summed = torch.finfo(torch.promote_types(dtype, torch.float32)).eps * sum(map(abs, given_logits))
        for value, exact in zip(row, expected, strict=True):
            assert abs(value - exact) <= torch.finfo(dtype).eps * abs(exact) + 4 * summed


@every_small_code
def test_soft_decoding_of_half_precision_never_turns_a_sign(spec, n):
    code = spec.build(n)
    logits = random_logits(n, 2000).bfloat16()
    decoded, exact = code.soft_decode(logits).double(), code.soft_decode(logits.double())
    # A sum of many bfloat16 numbers is only sure about its sign away from zero.
    sure = exact.abs() > 0.1
    assert sure.double().mean() > 0.9
    assert torch.equal(decoded[sure] > 0, exact[sure] > 0)


@every_small_code
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
@pytest.mark.parametrize("size", [30.0, 90.0, 1e3, 1e4])
def test_soft_decoding_of_saturated_logits_is_finite_with_the_right_signs(spec, n, dtype, size):
    code = spec.build(n)
    words = words_tensor(code.k, dtype)
    logits = (size * (2 * code.encode(words) - 1)).requires_grad_()
    decoded = code.soft_decode(logits)
    assert decoded.isfinite().all()
    assert torch.equal((decoded > 0).to(dtype), words)
    # The runner-up differs from a codeword in at least d places, and some word in exactly d.
    assert decoded.abs().min().item() == pytest.approx(code.min_distance * size, rel=0.02)
    (gradient,) = torch.autograd.grad(decoded.sum(), logits)
    assert gradient.isfinite().all()


@every_small_code
def test_soft_decoding_of_infinite_logits_has_the_right_signs(spec, n):
    code = spec.build(n)
    words = words_tensor(code.k, torch.float32)
    logits = (2 * code.encode(words) - 1) * math.inf
    decoded = code.soft_decode(logits)
    assert not decoded.isnan().any()
    assert torch.equal((decoded > 0).float(), words)
    if not isinstance(spec, Uncoded):
        assert decoded.isfinite().all()


@every_small_code
def test_nothing_known_stays_nothing_known(spec, n):
    code = spec.build(n)
    assert torch.equal(code.soft_decode(torch.zeros(n)), torch.zeros(code.k))


@given(choice=small_codes, seed=st.integers(0, 10**6))
@property_settings
def test_soft_decoding_is_equivariant_under_sending_another_codeword(choice, seed):
    spec, n = choice
    code = spec.build(n)
    logits, word = random_logits(n, seed=seed), random_bits(code.k, seed=seed + 1)
    codeword = torch.tensor(encoded_by_hand(spec, word.tolist()))
    turned = code.soft_decode(logits * (1 - 2 * codeword))
    assert torch.allclose(turned, code.soft_decode(logits) * (1 - 2 * word), atol=1e-9)


# Shapes, inputs, gradients


@every_small_code
@pytest.mark.parametrize("leading", [(), (1,), (3,), (2, 3), (2, 1, 3), (0,), (2, 0)])
def test_leading_dimensions_are_kept_whatever_their_number(spec, n, leading):
    code = spec.build(n)
    count = math.prod(leading)
    bits, received = random_bits(code.k, count), random_bits(n, count)
    probabilities, logits = random_logits(code.k, count).sigmoid(), random_logits(n, count)
    cases = [
        (code.encode, bits, n),
        (code.encode_probs, probabilities, n),
        (code.encode_logits, probabilities.logit(), n),
        (code.decode, received, code.k),
        (code.soft_decode, logits, code.k),
    ]
    for method, values, size in cases:
        result = method(values.reshape(*leading, values.shape[-1]))
        assert result.shape == (*leading, size)
        # The same rows as in one flat batch.
        assert torch.allclose(result.double(), method(values).reshape(*leading, size).double(), atol=1e-12)


@every_small_code
def test_rows_of_a_batch_do_not_see_each_other(spec, n):
    code = spec.build(n)
    logits, probabilities = random_logits(n, 6), random_logits(code.k, 6).sigmoid()
    assert torch.allclose(code.soft_decode(logits), torch.stack([code.soft_decode(row) for row in logits]))
    assert torch.allclose(code.encode_probs(probabilities), torch.stack([code.encode_probs(row) for row in probabilities]))


@every_small_code
def test_inputs_are_left_as_they_were(spec, n):
    code = spec.build(n)
    bits, received = random_bits(code.k, 5).double(), random_bits(n, 5).double()
    probabilities, logits = random_logits(code.k, 5).sigmoid(), random_logits(n, 5, scale=1e5)
    for method, values in [
        (code.encode, bits),
        (code.encode_probs, probabilities),
        (code.encode_logits, probabilities),
        (code.decode, received),
        (code.soft_decode, logits),
    ]:
        before = values.clone()
        method(values)
        assert torch.equal(values, before)


@every_small_code
def test_gradients_are_the_right_ones(spec, n):
    code = spec.build(n)
    logits = random_logits(n, 2).requires_grad_()
    word_logits = random_logits(code.k, 2, scale=1.0).requires_grad_()
    probabilities = random_logits(code.k, 2).sigmoid().requires_grad_()
    assert torch.autograd.gradcheck(code.soft_decode, logits)
    assert torch.autograd.gradcheck(code.encode_probs, probabilities)
    assert torch.autograd.gradcheck(code.encode_logits, word_logits)


@every_small_code
def test_the_derivative_of_a_code_bit_at_hard_and_at_even_bits_is_that_of_its_expectation(spec, n):
    """Where factors of a product vanish (p = ½) its derivative must not: the expectation is linear in each p."""
    code = spec.build(n)
    for start in (torch.full((code.k,), 0.5, dtype=torch.float64), random_bits(code.k).double()):
        jacobian = torch.autograd.functional.jacobian(code.encode_probs, start)
        for bit in range(code.k):
            high, low = start.tolist(), start.tolist()
            high[bit], low[bit] = 1.0, 0.0
            expected = [
                one - zero for one, zero in zip(expected_codeword(spec, high), expected_codeword(spec, low), strict=True)
            ]
            assert jacobian[:, bit].tolist() == pytest.approx(expected, abs=1e-12)


@every_small_code
def test_a_code_first_used_in_inference_mode_can_be_trained_through_afterwards(spec, n):
    code = spec.build(n)
    with torch.inference_mode():
        code.soft_decode(torch.zeros(n))
        code.encode_probs(torch.zeros(code.k))
    logits = torch.ones(n, requires_grad=True)
    code.encode_probs(code.soft_decode(logits).sigmoid()).sum().backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0


# Randomness


@every_small_code
def test_decoding_leaves_the_global_random_states_alone(spec, n):
    code = spec.build(n)
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    received = random_bits(n, 50)
    without = code.decode(received)
    code.decode(received, torch.Generator().manual_seed(3))
    code.soft_decode(received.double())
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == python_state
    torch.manual_seed(77)
    assert torch.equal(code.decode(received), without)
    torch.set_rng_state(torch_state)


@every_small_code
def test_the_same_generator_gives_the_same_decision_and_another_gives_another_where_there_are_ties(spec, n):
    code = spec.build(n)
    received = random_bits(n, 400)
    first, again, other = (code.decode(received, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    ties = code.min_distance % 2 == 0  # halfway between two codewords there is a word only at even distance
    assert torch.equal(first, other) == (not ties)


# Identity


@every_small_code
def test_a_code_survives_pickling_and_copying_after_use(spec, n):
    code = spec.build(n)
    logits, bits = random_logits(n, 3), random_bits(code.k, 3)
    code.soft_decode(logits)
    for twin in (pickle.loads(pickle.dumps(code)), copy.deepcopy(code)):
        assert twin.spec == spec
        assert (twin.n, twin.k, twin.min_distance) == (code.n, code.k, code.min_distance)
        assert torch.equal(twin.encode(bits), code.encode(bits))
        assert torch.equal(twin.soft_decode(logits), code.soft_decode(logits))
        assert twin.digest() == code.digest()
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_a_digest_is_the_same_in_another_process():
    program = (
        "from tests.helpers import SMALL_CODES\n"
        "print('\\n'.join(spec.build(n).digest() for spec, n in SMALL_CODES.values()))"
    )
    # Hashes of strings differ between the two, as they do between any two runs.
    elsewhere = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "12345", "PYTHONPATH": ":".join(sys.path)},
    )
    assert elsewhere.stdout.split() == [spec.build(n).digest() for spec, n in SMALL_CODES.values()]


def test_a_digest_tells_codes_apart_by_what_they_do():
    digests = {
        label: spec.build(n).digest()
        for label, spec, n in [
            ("none", Uncoded(), 24),
            ("R=2", Repetition(R=2), 24),
            ("R=3", Repetition(R=3), 24),
            ("R=4", Repetition(R=4), 24),
            ("R=3, longer", Repetition(R=3), 27),
            ("hamming", ExtendedHamming(), 24),
            ("golay", Golay(), 24),
        ]
    }
    assert len(set(digests.values())) == len(digests)
    # One copy of each bit is the identity under another name: the same map, so the same digest.
    assert Repetition(R=1).build(24).digest() == digests["none"]
    assert all(len(digest) == 64 for digest in digests.values())


def test_a_digest_sees_a_single_changed_entry_of_the_generator_matrix():
    changed = [list(row) for row in Hamming.rows]
    changed[2][6] ^= 1

    class Changed(Hamming):
        rows = tuple(map(tuple, changed))

    for n in (7, 21):
        assert Changed().build(n).digest() != Hamming().build(n).digest()


def test_what_a_family_does_not_say_is_unknown_and_its_code_is_exact() -> None:
    assert ErrorRates() == ErrorRates(hard_bit=None, hard_word=None, soft_bit=None)
    assert Block(3, 1) == Block(n=3, k=1, min_distance=None)
    assert Uncoded().build(3).exact is True
    assert Repetition(R=3).build(3).exact is True


def test_the_bits_behind_the_last_whole_block_are_counted() -> None:
    assert [hamming.Hamming(r=3, pad=True).uncoded_bits(n) for n in (7, 8, 13, 14, 20)] == [0, 1, 6, 0, 6]


# Where tensors are made: the device "meta" holds shapes alone, and refuses a tensor of another device.
ELSEWHERE: list[CodeSpec] = [
    Uncoded(),
    Repetition(R=3),
    hamming.Hamming(r=3),
    hamming.Hamming(r=5),
    ReedMuller(r=1, m=5),
    Bch(n=31, t=3),
    Ldpc(n=96),
    Convolutional(k=20),
    Convolutional(k=20, termination="terminated"),
    Polar(n=64, k=32),
    Unequal(groups="14 hamming:r=3 + 10 repetition:R=5 + 6 none"),
]


@pytest.mark.parametrize("spec", ELSEWHERE, ids=lambda spec: spec.label())
def test_results_are_made_where_the_arguments_are(spec: CodeSpec) -> None:
    code = spec.build(2 * spec.block().n)
    bits, logits = torch.zeros(3, code.k, device="meta"), torch.zeros(3, code.n, device="meta")
    results = [code.encode(bits), code.encode_probs(bits), code.encode_logits(bits)]
    if spec.no_soft_decoder() is None:
        results.append(code.soft_decode(logits))
    if isinstance(code, LinearCode):
        assert code._hard is not None
        # There is no generator of meta tensors, and the global one is not asked either.
        decoded = code._hard.decode(logits.reshape(-1, code.block_n), cast(torch.Generator, None))
        results.append(decoded.reshape(3, code.k))
    assert {result.device.type for result in results} == {"meta"}
    assert [result.shape for result in results[:3]] == [(3, code.n)] * 3
    assert all(result.shape == (3, code.k) for result in results[3:])


def test_the_page_of_codes_is_what_the_codes_say_of_themselves() -> None:
    path = Path(__file__).parents[2] / "docs" / "generate_codes.py"
    spec = importlib.util.spec_from_file_location("generate_codes", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.page() == path.with_name("codes.md").read_text(encoding="utf-8")


def test_rates_of_a_latent_are_those_of_its_blocks_and_unknown_where_these_are() -> None:
    spec = Repetition(R=3)
    bit = spec.hard_bit_error_rate(0.1)
    assert spec.error_rates(6, 0.1) == ErrorRates(bit, pytest.approx(1 - (1 - bit) ** 2), spec.soft_bit_error_rate(0.1))
    assert Hamming().error_rates(14, 0.1) == ErrorRates()


def test_rates_of_parts_are_joined_bit_by_bit_and_stay_as_they_are() -> None:
    known = joined_error_rates([(1, ErrorRates(0.5, 0.5, 0.1)), (3, ErrorRates(0.25, 0.5, 0.3))])
    assert known == ErrorRates(0.3125, 0.75, pytest.approx(0.25))
    assert joined_error_rates([(1, ErrorRates(0.5, 0.5, 0.1)), (3, ErrorRates(0.25, 0.5))]).soft_bit is None
    for measured in (known, Block(3, 1)):
        for field in dataclasses.fields(measured):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(measured, field.name, 1)
    assert (CodeSpec.family, CodeSpec.summary, CodeSpec.api_version) == ("", "", 1)


def test_a_code_that_does_not_say_where_its_blocks_lie_is_sure_within_one_block_alone() -> None:
    code = Hamming().build(14)  # two blocks, each of which corrects one bit
    apart = torch.zeros(3, 14)
    apart[1, 0] = apart[2, 0] = apart[2, 9] = 1
    assert code.is_guaranteed(apart).tolist() == [True, True, True]
    assert Code.is_guaranteed(code, apart).tolist() == [True, True, False]
