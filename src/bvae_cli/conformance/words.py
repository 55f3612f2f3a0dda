"""Checks of the spec, of encoding and of hard decoding."""

from __future__ import annotations

import functools
import itertools
import math
import operator
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from math import comb

import torch
from torch import Tensor

from bvae_cli.codes import gf2
from bvae_cli.codes.base import Code
from bvae_cli.codes.decoding import gf2_words
from bvae_cli.conformance.checks import (
    MANY_ROWS,
    MAX_CHECK_BITS,
    TOO_MANY_WORDS,
    Check,
    NotCheckedError,
    Subject,
    check_into,
    fail,
    shown,
)
from bvae_cli.errors import UsageError

_DTYPES = (torch.uint8, torch.int64, torch.float32, torch.bfloat16, torch.float64)
_LEADING: tuple[tuple[int, ...], ...] = ((), (1,), (5,), (2, 3), (2, 1, 3), (0,))
_MOST_PATTERNS = 4000
_MOST_TRIED_BITS = 20
# A fair coin strays further than this from ½ once in 400,000 times.
_SIGMAS = 4.7

CHECKS: list[Check] = []

check = check_into(CHECKS)


@check()
def described(subject: Subject) -> None:
    """Family, summary and a description of every option are there."""
    spec = subject.spec
    for what in ("family", "summary"):
        if not getattr(spec, what):
            fail(f"The spec has no {what}.", f"`{what} = …` is missing in the class.")
    told = spec.soft_decoding()
    if subject.soft is None and not subject.code.exact and "exact" in told and "not exact" not in told:
        fail(
            f"Soft decoding is said to be '{told}', and the code has exact = False.",
            "soft_decoding() is the host's; say in it how your own decoder works.",
        )
    for name, info in type(spec).model_fields.items():
        if not info.description:
            fail(f"The option {name} has no description.", "write Field(…, description=…): it is the option's help.")


@check()
def sizes(subject: Subject) -> None:
    """Sizes that do not fit are refused with the nearest that do."""
    spec, n = subject.spec, subject.n
    for size in range(-1, 4 * n):
        if not spec.fits(size):
            try:
                spec.check_size(size)
            except UsageError as refused:
                named = [int(word.strip("().,;")) for word in refused.message.split() if word.strip("().,;").isdigit()]
                if not any(spec.fits(number) for number in named):
                    fail(f"The refusal of {size} names no size that fits: {refused.message}", "check_size() is overridden.")
                continue
            fail(f"fits({size}) is False, and check_size({size}) does not refuse it.", "the two are not one rule.")
        elif not 0 < spec.information_bits(size) <= size:
            fail(f"{size} code bits carry {spec.information_bits(size)} information bits.", "n and k are exchanged.")


@check()
def parameters(subject: Subject) -> None:
    """The code has the sizes that its spec says."""
    for code in (subject.code, subject.twice):
        expected = subject.spec.information_bits(code.n)
        if code.k != expected:
            fail(f"The code of {code.n} bits has k = {code.k}, its spec says {expected}.", "block() and the code differ.")
        if code.encode(torch.zeros(code.k)).shape != (code.n,):
            shape = tuple(code.encode(torch.zeros(code.k)).shape)
            fail(f"encode of {code.k} bits has the shape {shape}, not ({code.n},).", "block() and encode differ.")


@check()
def pickling(subject: Subject) -> None:
    """Spec and code survive pickling."""
    if pickle.loads(pickle.dumps(subject.spec)) != subject.spec:
        fail("The spec is another after pickling.", "state outside of its fields.")
    copy: Code = pickle.loads(pickle.dumps(subject.code))
    if not torch.equal(copy.encode(subject.words), subject.codewords):
        fail("The code encodes otherwise after pickling.", "state that is made at import or at random.")


@check()
def digest(subject: Subject) -> None:
    """The digest is the same in another process."""
    program = (
        "import pickle, sys; spec, n = pickle.loads(sys.stdin.buffer.read()); "
        "sys.stdout.write('digest ' + spec.build(n).digest())"
    )
    handed = pickle.dumps((subject.spec, subject.n))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "1"}
    done = subprocess.run([sys.executable, "-c", program], input=handed, capture_output=True, check=False, env=environment)
    theirs = done.stdout.decode().rpartition("digest ")[2]
    if theirs != subject.code.digest():
        detail = theirs or done.stderr.decode().strip().splitlines()[-1:]
        fail(
            f"The digest is {subject.code.digest()[:12]}… here and {detail} in another process.",
            "an order of sets, or chance.",
        )


@check()
def encode_shapes(subject: Subject) -> None:
    """Encode takes any leading dimensions."""
    any_shape(subject.twice.encode, subject.twice.k, subject.twice.n, "encode")


@check()
def decode_shapes(subject: Subject) -> None:
    """Decode takes any leading dimensions."""
    any_shape(subject.twice.decode, subject.twice.n, subject.twice.k, "decode")


@check()
def dtypes(subject: Subject) -> None:
    """Encode and decode keep dtype and device."""
    for dtype, (name, method, size) in itertools.product(_DTYPES, _hard_methods(subject.code)):
        result = method(torch.zeros(2, size, dtype=dtype))
        if result.dtype != dtype:
            fail(f"{name} of {dtype} gives {result.dtype}.", "a table of another dtype; end with .to(bits.dtype).")
        if result.device.type != "cpu":
            fail(f"{name} of a tensor on the CPU gives one on {result.device}.", "a fixed device.")


@check()
def binary(subject: Subject) -> None:
    """Codewords are bits."""
    for word, codeword in zip(subject.words, subject.codewords.double(), strict=True):
        if not ((codeword == 0) | (codeword == 1)).all():
            fail(f"encode({shown(word)}) = {shown(codeword)}.", "a sum that is not taken modulo 2.")


@check()
def deterministic(subject: Subject) -> None:
    """The same input gives the same output."""
    received = _received(subject, 64)
    for name, method, values in (
        ("encode", subject.code.encode, subject.words),
        ("decode", subject.code.decode, received),
    ):
        if not torch.equal(method(values), method(values)):
            fail(
                f"{name} gives two answers to one input.", "chance without a generator; ties need a coin that is passed in."
            )


@check()
def inputs_kept(subject: Subject) -> None:
    """Inputs are left as they are."""
    code = subject.code
    methods: list[tuple[str, Callable[[Tensor], Tensor], Tensor]]
    methods = [("encode", code.encode, subject.words.clone()), ("decode", code.decode, _received(subject, 16))]
    methods.append(("encode_probs", code.encode_probs, torch.full((2, code.k), 0.3)))
    if subject.soft is None:
        methods.append(("soft_decode", code.soft_decode, subject.logits(4, dtype=torch.float32)))
    for name, method, values in methods:
        before = values.clone()
        method(values)
        if not torch.equal(values, before):
            fail(f"{name} changes its input.", "an operation in place (x += …, clamp_, …).")


@check()
def global_randomness(subject: Subject) -> None:
    """The global random state is neither used nor changed."""
    received = _received(subject, 64)
    answers = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            answers.append(
                torch.cat([subject.code.encode(subject.words).flatten(), subject.code.decode(received).flatten()])
            )
            if not torch.equal(torch.get_rng_state(), before):
                fail("encode or decode draws from the global random state.", "torch.rand without generator=….")
    if not torch.equal(*answers):
        fail("encode or decode depends on the global random state.", "torch.rand without generator=….")


@check()
def round_trip(subject: Subject) -> None:
    """What was encoded is decoded."""
    decoded = subject.code.decode(subject.codewords)
    for word, codeword, back in zip(subject.words, subject.codewords, decoded, strict=True):
        if not torch.equal(word, back):
            fail(
                f"decode(encode({shown(word)})) = {shown(back)}, by way of {shown(codeword)}.",
                "another order of the information bits in decode, or two words with one codeword.",
            )


@check()
def blocks_apart(subject: Subject) -> None:
    """Blocks of a latent do not touch each other."""
    code = subject.twice
    words = torch.randint(0, 2, (16, code.k), generator=subject.generator())
    if not torch.equal(code.decode(code.encode(words)), words):
        fail("A latent of two blocks is not decoded to what was encoded.", "blocks are cut at other places in decode.")


@check()
def linear(subject: Subject) -> None:
    """The sum of two codewords is the codeword of the sum."""
    zero = subject.code.encode(torch.zeros(subject.code.k, dtype=torch.uint8))
    if zero.any():
        fail(
            f"The word 0 is encoded as {shown(zero)}.",
            "an added constant: the map is affine; or declare that it is not linear.",
        )
    for index in range(1, min(len(subject.words), 200)):
        first, second = subject.words[index], subject.words[index - 1]
        both = subject.code.encode(first ^ second)
        if not torch.equal(both, subject.codewords[index] ^ subject.codewords[index - 1]):
            fail(
                f"encode is not linear on {shown(first)} and {shown(second)}.",
                "a product of bits; or declare it as not linear.",
            )


@check()
def distance(subject: Subject) -> None:
    """The minimum distance is the one that is claimed."""
    claimed = subject.code.min_distance
    if claimed is None:
        raise NotCheckedError("the code claims no minimum distance")
    _distance_of_words(subject, claimed)
    if subject.enumerated:
        return
    if (least := _least_weight(subject)) is None:
        raise NotCheckedError("its words are too many to be counted; none of those that were tried is too light")
    if least != claimed:
        fail(
            f"The lightest codeword has {least} ones; a minimum distance of {claimed} is claimed.", "min_distance is wrong."
        )


def _least_weight(subject: Subject) -> int | None:
    """Return the least weight of a codeword of a linear code, None where it cannot be counted."""
    if not is_linear(subject):
        return None
    # A word other than 0 that is encoded as 0 leaves nothing to be counted.
    return gf2.min_distance(subject.matrix) if gf2.rank(subject.matrix) == subject.code.k else 0


def _distance_of_words(subject: Subject, claimed: int) -> None:
    """Fail where two words are nearer than claimed, or all of them farther apart."""
    for number, first in enumerate(subject.codewords[: 1 if subject.enumerated and is_linear(subject) else 64]):
        distances = (subject.codewords ^ first).sum(-1)
        distances[(subject.words == subject.words[number]).all(-1)] = subject.n + 1
        least, other = distances.min(0)
        if least < claimed:
            fail(
                f"{shown(subject.words[number])} and {shown(subject.words[other])} have codewords {int(least)} apart; "
                f"{claimed} is claimed.",
                "min_distance is wrong, or a row of the matrix.",
            )
        if subject.enumerated and is_linear(subject) and least > claimed:
            fail(f"No two codewords are less than {int(least)} apart; {claimed} is claimed.", "min_distance is too small.")


@check()
def corrects(subject: Subject) -> None:
    """Every pattern of up to t errors is corrected."""
    if (distance := subject.code.min_distance) is None:
        raise NotCheckedError("the code claims no minimum distance")
    if not subject.code.correctable:
        raise NotCheckedError(f"at a minimum distance of {distance} there is no error that is always corrected")
    _one_error_in_many_rows(subject)
    for errors in range(1, subject.code.correctable + 1):
        words = subject.words[-1:] if comb(subject.n, errors) > 64 else subject.words[[0, -1]]
        patterns = list(itertools.islice(itertools.combinations(range(subject.n), errors), _MOST_PATTERNS))
        flips = torch.zeros(len(patterns), subject.n, dtype=torch.uint8).scatter_(1, torch.tensor(patterns), 1)
        for word in words:
            found = subject.code.decode(subject.code.encode(word) ^ flips)
            wrong = (found != word).any(-1).nonzero().flatten()
            if len(wrong):
                first = int(wrong[0])
                fail(
                    f"Errors at {list(patterns[first])} of the codeword of {shown(word)} give {shown(found[first])}.",
                    "decode corrects nothing, or takes another codeword than the nearest.",
                )


def _one_error_in_many_rows(subject: Subject) -> None:
    words = torch.randint(0, 2, (MANY_ROWS, subject.code.k), generator=subject.generator(), dtype=torch.uint8)
    received = subject.code.encode(words).clone()
    received[torch.arange(MANY_ROWS), torch.arange(MANY_ROWS) % subject.n] ^= 1
    wrong = (subject.code.decode(received) != words).any(-1).nonzero().flatten()
    if len(wrong):
        first = int(wrong[0])
        fail(
            f"Of {MANY_ROWS:,} words with one error each row {first} is decoded wrongly: {shown(received[first])} is the "
            f"codeword of {shown(words[first])}, bit {first % subject.n} flipped.",
            "decode corrects nothing, or, where the first rows are right, it leaves out the rest of many rows.",
        )


@check()
def nearest(subject: Subject) -> None:
    """Decode finds a nearest codeword."""
    distances = _distances_to_the_code(subject)
    # The first and the last of many: a decoder may take them in pieces.
    many = _received(subject, MANY_ROWS)
    some = torch.cat([torch.arange(100), torch.arange(MANY_ROWS - 100, MANY_ROWS)])
    received, decoded = many[some], subject.code.decode(many)[some]
    for word, codeword, best in zip(received, subject.code.encode(decoded), distances(received), strict=True):
        if (away := int((word != codeword).sum())) > best:
            fail(
                f"{shown(word)} is decoded to a codeword {away} flips away; the nearest is {int(best)} away.",
                "decode looks at some of the bits only.",
            )


def _distances_to_the_code(subject: Subject) -> Callable[[Tensor], list[int]]:
    """Return what gives for received words the flips to the nearest codeword."""
    if subject.enumerated:
        return lambda received: (received[:, None] != subject.codewords[None]).sum(-1).min(-1)[0].tolist()
    if not is_linear(subject) or subject.n - subject.code.k > MAX_CHECK_BITS:
        raise NotCheckedError(TOO_MANY_WORDS.replace("summed over", "compared"))
    columns = [gf2.as_word(column) for column in gf2.transposed(gf2.dual(subject.matrix))] or [0] * subject.n
    lightest = _coset_weights(columns)
    return lambda received: [
        lightest[functools.reduce(operator.xor, itertools.compress(columns, word), 0)] for word in received.tolist()
    ]


def _coset_weights(columns: list[int]) -> dict[int, int]:
    """Return for each syndrome the least number of columns that add up to it, nearest first."""
    weights, edge = {0: 0}, [0]
    while edge:
        following = []
        for syndrome, column in itertools.product(edge, set(columns)):
            if (reached := syndrome ^ column) not in weights:
                weights[reached] = weights[syndrome] + 1
                following.append(reached)
        edge = following
    return weights


@check()
def fair_ties(subject: Subject) -> None:
    """Ties are broken by a fair coin."""
    rows = 20_000
    if (expected := _fair_share(subject)) is None:
        raise NotCheckedError("its received words are too many to be tried")
    received = torch.randint(0, 2, (rows, subject.n), generator=subject.generator(), dtype=torch.uint8)
    share = subject.code.decode(received, torch.Generator().manual_seed(1)).double().mean(0)
    limit = _SIGMAS * 0.5 / math.sqrt(rows)
    worst = int((share - expected).abs().argmax())
    if abs(float(share[worst] - expected[worst])) > limit:
        fail(
            f"Bit {worst} of decoded coin flips is 1 in {100 * float(share[worst]):.1f} % of the cases; with fair ties it "
            f"would be in {100 * float(expected[worst]):.1f} %.",
            "ties that always go one way (argmax takes the first).",
        )


@check()
def encode_without_waiting(subject: Subject) -> None:
    """Encode waits for no device."""
    code = subject.code  # built before, not within: building may look at values
    never_waits(lambda: code.encode(torch.zeros(3, code.k)), "encode")


def never_waits(call: Callable[[], object], name: str) -> None:
    """Fail where a call looks at values, which on a GPU would wait for the device and break capture."""
    from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            call()
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        fail(f"{name} looks at the values of a tensor ({error}).", ".item(), if on a tensor, or a mask as an index.")


def _fair_share(subject: Subject) -> Tensor | None:
    """Return how often each bit is 1 when coin flips are decoded with fair ties; None where there are too many to try.

    A linear code makes coins of coins. Of another one all received words are tried, each with all of its nearest words.
    """
    if is_linear(subject):
        return torch.full((subject.code.k,), 0.5, dtype=torch.float64)
    if subject.n + subject.code.k > _MOST_TRIED_BITS:
        return None
    received = gf2_words(subject.n)
    away = (received[:, None] != subject.codewords[None]).sum(-1)
    nearest = (away == away.min(-1, keepdim=True)[0]).double()
    return (nearest / nearest.sum(-1, keepdim=True) @ subject.words.double()).mean(0)


def _hard_methods(code: Code) -> list[tuple[str, Callable[[Tensor], Tensor], int]]:
    return [("encode", code.encode, code.k), ("decode", code.decode, code.n)]


def any_shape(method: Callable[[Tensor], Tensor], size: int, result_size: int, name: str) -> None:
    """Fail where a method, ``[..., size] -> [..., result_size]``, does not take some leading dimensions."""
    for leading in _LEADING:
        result = method(torch.zeros(*leading, size))
        if result.shape != (*leading, result_size):
            fail(
                f"{name} of the shape {(*leading, size)} gives {tuple(result.shape)}, not {(*leading, result_size)}.",
                "a fixed number of dimensions; index with … and -1.",
            )


def _received(subject: Subject, rows: int) -> Tensor:
    return torch.randint(0, 2, (rows, subject.n), generator=subject.generator(), dtype=torch.uint8)


def is_linear(subject: Subject) -> bool:
    """Say whether the code passes the check of linearity."""
    try:
        linear(subject)
    except AssertionError:
        return False
    return True
