"""Mutants of a correct Hamming code: each is caught by the check that is named for what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Generator, Tensor

from bvae_cli.codes.base import Block, Code, CodeSpec
from bvae_cli.codes.hamming import Hamming
from bvae_cli.codes.linear import LinearCode
from bvae_cli.conformance import conformance_of
from bvae_cli.conformance.checks import Subject

ROWS = Hamming(r=3).generator_matrix()
Mutation = Callable[["Mutant"], dict[str, Any]]


class MutantSpec(CodeSpec):
    """A Hamming code of which the test replaces methods."""

    family: ClassVar[str] = "mutant"
    summary: ClassVar[str] = "a Hamming code with something wrong"
    distance: ClassVar[int] = 3

    def block(self) -> Block:
        return Block(7, 4, self.distance)

    def build(self, n: int) -> Code:
        return Mutant(self, n, ROWS)


class Mutant(LinearCode):
    """Correct, until a test replaces a method of it."""


class Original(Mutant):
    """The same, never changed."""


def right(code: Code) -> Original:
    return Original(code.spec, code.n, ROWS)


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


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught_by_the_check_that_is_named_for_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, mutated, caught_by = MUTANTS[name]
    monkeypatch.setattr(Mutant, method, mutated)
    for restored in ("encode", "decode", "soft_decode", "encode_probs", "encode_logits"):
        monkeypatch.setattr(Original, restored, getattr(LinearCode, restored), raising=False)
    outcome = outcome_of(caught_by)
    assert outcome.state == "failed", name
    assert outcome.message


@pytest.mark.parametrize("claimed", [2, 4])
def test_a_wrong_distance_is_caught(claimed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MutantSpec, "distance", claimed)
    assert outcome_of("distance").state == "failed"


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


def test_the_original_passes_every_check() -> None:
    assert {o.check.name: o.message for o in conformance_of(MutantSpec()).outcomes() if o.state != "passed"} == {}


def outcome_of(name: str) -> Any:
    conformance = conformance_of(MutantSpec())
    check = next(check for check in conformance.checks if check.name == name)
    return conformance.outcome(check, Subject(MutantSpec()))
