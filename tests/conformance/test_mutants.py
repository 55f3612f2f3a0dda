"""Mutants of a correct Hamming code: each is caught by the check that is named for what is wrong with it."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from pydantic import Field
from torch import Generator, Tensor

from bvae_cli.codes.base import Block, Code, CodeSpec
from bvae_cli.codes.convolutional import Convolutional
from bvae_cli.codes.hamming import Hamming
from bvae_cli.codes.ldpc import Ldpc
from bvae_cli.codes.linear import LinearCode
from bvae_cli.codes.repetition import Repetition, RepetitionCode
from bvae_cli.conformance import conformance_of
from bvae_cli.conformance.checks import Outcome, Subject

# The small one has all of its words tried; of the long one, k = 26, only syndromes can be.
ROWS = Hamming(r=3).generator_matrix()
Mutation = Callable[["Mutant"], dict[str, Any]]


class MutantSpec(CodeSpec):
    """A Hamming code of which the test replaces methods."""

    family: ClassVar[str] = "mutant"
    summary: ClassVar[str] = "a Hamming code with something wrong"
    distance: ClassVar[int] = 3
    claims_to_be_exact: ClassVar[bool] = True

    r: int = Field(3, description="Checks.")

    def block(self) -> Block:
        return Block(2**self.r - 1, 2**self.r - 1 - self.r, self.distance)

    def build(self, n: int) -> Code:
        code = Mutant(self, n, Hamming(r=self.r).generator_matrix())
        code.exact = self.claims_to_be_exact
        return code


class Mutant(LinearCode):
    """Correct, until a test replaces a method of it."""


class Original(Mutant):
    """The same, never changed."""


def right(code: Code) -> Original:
    return Original(code.spec, code.n, Hamming(r=code.spec.r).generator_matrix())  # type: ignore[attr-defined]


def max_log(code: Mutant, logits: Tensor) -> Tensor:
    words = torch.tensor([[index >> place & 1 for place in range(4)] for index in range(16)])
    scores = logits.unflatten(-1, (-1, 7)) @ right(code).encode(words[:, :].repeat(1, code.k // 4))[:, :7].to(logits.dtype).T
    sides = [(scores[..., one].amax(-1) - scores[..., ~one].amax(-1)) for one in words.T.bool()]
    return torch.stack(sides, -1).flatten(-2)


def drawn_globally(code: Mutant, bits: Tensor, generator: Generator | None = None) -> Tensor:
    torch.rand(1)
    return right(code).decode(bits, generator)


def first_of_the_nearest(code: Mutant, bits: Tensor, generator: Generator | None = None) -> Tensor:
    # A block that is no codeword is taken for the word 0: a tie between all words, always broken one way.
    blocks = bits.unflatten(-1, (-1, 7))
    known = right(code).encode(blocks[..., :4].flatten(-2)).unflatten(-1, (-1, 7)) == blocks
    return (blocks[..., :4] * known.all(-1, keepdim=True)).flatten(-2).to(bits.dtype)


def changed_in_place(code: Mutant, logits: Tensor) -> Tensor:
    result = right(code).soft_decode(logits)
    with torch.no_grad():
        logits.mul_(0.5)
    return result


def in_single_precision(code: Mutant, logits: Tensor) -> Tensor:
    return right(code).soft_decode(logits.float())


def with_overflow(code: Mutant, logits: Tensor) -> Tensor:
    blocks = logits.unflatten(-1, (-1, 7))
    words = torch.tensor([[index >> place & 1 for place in range(4)] for index in range(16)])
    codewords = torch.cat([words, words @ torch.tensor(ROWS)[:, 4:] % 2], 1).to(logits.dtype)
    weights = (blocks @ codewords.T).exp()
    sides = [weights[..., one].sum(-1).log() - weights[..., ~one].sum(-1).log() for one in words.T.bool()]
    return torch.stack(sides, -1).flatten(-2)


# What is wrong, the method, the mutant of it, and the check that must fail.
MUTANTS: dict[str, tuple[str, Callable[..., Any], str]] = {
    "sign turned": ("soft_decode", lambda c, x: -right(c).soft_decode(x), "soft_sign"),
    "another bit order": ("soft_decode", lambda c, x: right(c).soft_decode(x).flip(-1), "soft_order"),
    "another bit order in decode": ("decode", lambda c, b, g=None: right(c).decode(b, g).flip(-1), "round_trip"),
    "detached gradient": ("soft_decode", lambda c, x: right(c).soft_decode(x.detach()), "soft_gradient"),
    "gradient of the half": (
        "soft_decode",
        lambda c, x: right(c).soft_decode(x.detach()) + 0.5 * (s := right(c).soft_decode(x)) - 0.5 * s.detach(),
        "soft_gradient",
    ),
    "max-log posing as exact": ("soft_decode", max_log, "soft_exact"),
    "logits clamped far too early": ("soft_decode", lambda c, x: right(c).soft_decode(x.clamp(-25, 25)), "soft_extremes"),
    "rows beyond a chunk left out": (
        "soft_decode",
        lambda c, x: torch.cat([right(c).soft_decode(x[:5000]), x[5000:, ..., : c.k]]),
        "soft_rows_apart",
    ),
    "words beyond a chunk left out": (
        "decode",
        lambda c, b, g=None: torch.cat([right(c).decode(b[:5000], g), b[5000:, ..., : c.k]]),
        "corrects",
    ),
    "words beyond a chunk not brought to the nearest": (
        "decode",
        lambda c, b, g=None: torch.cat([right(c).decode(b[:5000], g), b[5000:, ..., : c.k]]),
        "nearest",
    ),
    "half the logits": ("soft_decode", lambda c, x: right(c).soft_decode(x / 2), "soft_exact"),
    "twice the logits": ("soft_decode", lambda c, x: right(c).soft_decode(2 * x), "soft_calibrated"),
    "a constant added": ("soft_decode", lambda c, x: right(c).soft_decode(x) + 0.1, "soft_uniform"),
    "normalised logits": (
        "soft_decode",
        lambda c, x: right(c).soft_decode(x / x.abs().amax(-1, keepdim=True).clamp_min(1e-9)),
        "soft_scale",
    ),
    "normalised over the batch": (
        "soft_decode",
        lambda c, x: right(c).soft_decode(x - x.reshape(-1, c.n).mean(0) if x.numel() else x),
        "soft_rows_apart",
    ),
    "overflow": ("soft_decode", with_overflow, "soft_extremes"),
    "single precision only": ("soft_decode", in_single_precision, "soft_dtypes"),
    "two dimensions only": (
        "soft_decode",
        lambda c, x: right(c).soft_decode(x.reshape(-1, c.n)),
        "soft_shapes",
    ),
    "input changed": ("soft_decode", changed_in_place, "inputs_kept"),
    "a look at the values": (
        "soft_decode",
        lambda c, x: right(c).soft_decode(x) if bool((x.abs() < 1e9).all()) else x[..., : c.k],
        "soft_without_waiting",
    ),
    "a hard decoder that corrects nothing": (
        "decode",
        lambda c, b, g=None: b.unflatten(-1, (-1, 7))[..., :4].flatten(-2),
        "corrects",
    ),
    "a decoder that gives up": ("decode", first_of_the_nearest, "fair_ties"),
    "a decoder of the first bits": (
        "decode",
        lambda c, b, g=None: right(c).decode(torch.cat([b[..., :-1], torch.zeros_like(b[..., :1])], -1), g),
        "nearest",
    ),
    "global randomness": ("decode", drawn_globally, "global_randomness"),
    "chance in every call": (
        "decode",
        lambda c, b, g=None: (right(c).decode(b, g) + (torch.rand(b[..., :1].shape) < 0.3)).remainder(2).to(b.dtype),
        "deterministic",
    ),
    "decode in two dimensions only": (
        "decode",
        lambda c, b, g=None: right(c).decode(b.reshape(-1, c.n), g),
        "decode_shapes",
    ),
    "bits of another type": ("encode", lambda c, m: right(c).encode(m).float(), "dtypes"),
    "an affine map": ("encode", lambda c, m: 1 - right(c).encode(m), "linear"),
    "sums that are not taken modulo 2": (
        "encode",
        lambda c, m: (m.unflatten(-1, (-1, 4)).float() @ torch.tensor(ROWS, dtype=torch.float32)).flatten(-2).to(m.dtype),
        "binary",
    ),
    "soft encoding by rounding": ("encode_probs", lambda c, p: right(c).encode(p.round()), "probabilities"),
    "soft encoding by sums": (
        "encode_probs",
        lambda c, p: (p.unflatten(-1, (-1, 4)) @ torch.tensor(ROWS, dtype=p.dtype)).clamp(0, 1).flatten(-2),
        "probabilities",
    ),
    "soft encoding without a gradient": (
        "encode_probs",
        lambda c, p: right(c).encode_probs(p.detach()),
        "probabilities_gradient",
    ),
    "the other order in soft encoding": (
        "encode_probs",
        lambda c, p: right(c).encode_probs(p.flip(-1)),
        "probabilities_of_bits",
    ),
    "logits encoded with the sign turned": ("encode_logits", lambda c, x: -right(c).encode_logits(x), "logits_encoded"),
}


# The same of a code with too many words to be tried. Cold logits are max-log: the largest term is all that is left.
LONG_MUTANTS: dict[str, tuple[str, Callable[..., Any], str]] = {
    "max-log posing as exact": ("soft_decode", lambda c, x: right(c).soft_decode(50 * x) / 50, "soft_exact"),
    "logits clamped far too early": ("soft_decode", lambda c, x: right(c).soft_decode(x.clamp(-25, 25)), "soft_extremes"),
    "a decoder of the first bits": (
        "decode",
        lambda c, b, g=None: right(c).decode(torch.cat([b[..., :-1], torch.zeros_like(b[..., :1])], -1), g),
        "nearest",
    ),
    "soft encoding by rounding": ("encode_probs", lambda c, p: right(c).encode(p.round()), "probabilities"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught_by_the_check_that_is_named_for_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, mutated, caught_by = MUTANTS[name]
    mutate(monkeypatch, method, mutated)
    outcome = outcome_of(caught_by)
    assert outcome.state == "failed", name
    assert outcome.message


@pytest.mark.parametrize("name", LONG_MUTANTS)
def test_a_long_mutant_is_caught_as_well(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, mutated, caught_by = LONG_MUTANTS[name]
    mutate(monkeypatch, method, mutated)
    assert outcome_of(caught_by, MutantSpec(r=5)).state == "failed"


@pytest.mark.parametrize(("factor", "slope"), [(2.0, "0.5"), (0.5, "2.0")])
def test_a_decoder_that_is_not_exact_is_caught_too_sure_and_too_unsure(
    factor: float, slope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MutantSpec, "claims_to_be_exact", False)
    assert outcome_of("soft_calibrated").state == "passed"
    mutate(monkeypatch, "soft_decode", lambda c, x: factor * right(c).soft_decode(x))
    outcome = outcome_of("soft_calibrated")
    assert outcome.state == "failed"
    assert f"multiplied by {slope}" in outcome.message


def test_many_logits_added_in_bfloat16_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def added(code: RepetitionCode, logits: Tensor) -> Tensor:
        return functools.reduce(operator.add, logits.clamp(-1e4, 1e4).split(code.k, -1))

    monkeypatch.setattr(RepetitionCode, "soft_decode", added)
    outcome = outcome_of("soft_dtypes", Repetition(R=30))
    assert outcome.state == "failed"
    assert "bfloat16" in outcome.message


@pytest.mark.parametrize("r", [3, 5])
@pytest.mark.parametrize("claimed", [2, 4])
def test_a_wrong_distance_is_caught(claimed: int, r: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MutantSpec, "distance", claimed)
    assert outcome_of("distance", MutantSpec(r=r)).state == "failed"


def test_a_repeated_row_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Mutant, "encode", lambda c, m: right(c).encode(m * torch.tensor([1, 1, 1, 0] * (c.k // 4), dtype=m.dtype))
    )
    assert outcome_of("round_trip").state == "failed"
    assert outcome_of("distance").state == "failed"


def test_sizes_that_are_refused_without_a_nearest_one_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MutantSpec, "check_size", lambda self, n: None)
    assert outcome_of("sizes").state == "failed"


def test_a_class_without_a_summary_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MutantSpec, "summary", "")
    assert outcome_of("described").state == "failed"


@pytest.mark.parametrize("r", [3, 5])
def test_the_original_passes_every_check(r: int) -> None:
    assert {o.check.name: o.message for o in conformance_of(MutantSpec(r=r)).outcomes() if o.state != "passed"} == {}


@pytest.mark.parametrize(
    ("name", "spec", "reason"),
    [
        ("soft_exact", Convolutional(k=20), "its words are too many to be summed over"),
        ("nearest", Convolutional(k=20), "its words are too many to be compared"),
        ("distance", Ldpc(n=96), "the code claims no minimum distance"),
        ("corrects", Repetition(R=2), "at a minimum distance of 2 there is no error that is always corrected"),
    ],
)
def test_what_is_not_checked_is_not_called_passed(name: str, spec: CodeSpec, reason: str) -> None:
    outcome = outcome_of(name, spec)
    assert (outcome.state, outcome.message) == ("exempt", reason)


def mutate(monkeypatch: pytest.MonkeyPatch, method: str, mutated: Callable[..., Any]) -> None:
    monkeypatch.setattr(Mutant, method, mutated)
    for restored in ("encode", "decode", "soft_decode", "encode_probs", "encode_logits"):
        monkeypatch.setattr(Original, restored, getattr(LinearCode, restored), raising=False)


def outcome_of(name: str, spec: CodeSpec | None = None) -> Outcome:
    spec = spec or MutantSpec()
    conformance = conformance_of(spec)
    check = next(check for check in conformance.checks if check.name == name)
    return conformance.outcome(check, Subject(spec))
