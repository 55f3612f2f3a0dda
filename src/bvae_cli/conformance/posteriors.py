"""Checks of soft decoding and of the encoding of probabilities."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bvae_cli.codes import gf2
from bvae_cli.codes.decoding import SyndromeTrellis
from bvae_cli.conformance.checks import (
    MANY_ROWS,
    MAX_CHECK_BITS,
    MAX_ENUMERATED_BITS,
    TOO_MANY_WORDS,
    Check,
    NotCheckedError,
    Subject,
    check_into,
    fail,
    shown,
)
from bvae_cli.conformance.words import any_shape, is_linear, never_waits

_LARGE = 30.0
# In float32 sums of many exponentials are right to about this, relative to the larger of 1 and the value.
_TOLERANCE = 2e-4
# What is calculated in float32 and rounded to bfloat16 at the end is right to 0.4 %.
_TOLERANCE_OF_BFLOAT16 = 1e-2
_STEP = 1e-4
# Words that are sent over a channel, and its deviation for decoders that are not exact: a fifth of uncoded bits is wrong.
_SENT_ROWS = 4000
_NOISE = 1.3
# Slopes of soft cancellation and of belief propagation are 0.92 to 1.03 there; twice the logits halve it.
_LEAST_SLOPE, _MOST_SLOPE = 0.75, 1.33

CHECKS: list[Check] = []

check = check_into(CHECKS)


@check(needs_soft=True)
def soft_shapes(subject: Subject) -> None:
    """Soft_decode takes any leading dimensions."""
    any_shape(subject.twice.soft_decode, subject.twice.n, subject.twice.k, "soft_decode")


@check(needs_soft=True)
def soft_dtypes(subject: Subject) -> None:
    """Soft_decode keeps dtype and device, and adds up no less exactly than in float32."""
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        result = subject.code.soft_decode(torch.zeros(2, subject.n, dtype=dtype))
        if result.dtype != dtype:
            fail(f"soft_decode of {dtype} gives {result.dtype}.", "a table of another dtype; end with .to(logits.dtype).")
    for scale in (1.5, 6.0, 30.0):
        logits = subject.logits(200, scale, torch.bfloat16)
        # Beliefs that do not settle magnify the last digit of float32: only what is exact is the same in float64.
        wide = logits.double() if subject.code.exact else logits.float()
        found, expected = subject.code.soft_decode(logits).double(), subject.code.soft_decode(wide).double()
        error = (found - expected).abs() / expected.abs().clamp_min(1.0)
        if error.max() > _TOLERANCE_OF_BFLOAT16:
            row = int(error.amax(-1).argmax())
            fail(
                f"In bfloat16 {shown(logits[row])} is decoded to {shown(found[row])}, in {wide.dtype} to "
                f"{shown(expected[row])}.",
                "sums in bfloat16; go through logits.float() and back.",
            )


@check(needs_soft=True)
def soft_rows_apart(subject: Subject) -> None:
    """Each row is decoded as if it were alone."""
    logits = subject.logits(5)
    together = subject.code.soft_decode(logits)
    for row, decoded in zip(logits, together, strict=True):
        if not torch.allclose(subject.code.soft_decode(row), decoded, atol=1e-9):
            fail(f"{shown(row)} is decoded otherwise among other rows.", "a sum or a maximum over the whole batch.")
    many = subject.logits(MANY_ROWS)
    together = subject.code.soft_decode(many)
    for row in (0, 1, MANY_ROWS // 2 - 1, MANY_ROWS // 2, 5 * MANY_ROWS // 8, MANY_ROWS - 2, MANY_ROWS - 1):
        if not torch.allclose(alone := subject.code.soft_decode(many[row]), together[row], atol=1e-9):
            fail(
                f"Row {row} of {MANY_ROWS:,}, {shown(many[row])}, is decoded to {shown(together[row])}, alone to "
                f"{shown(alone)}.",
                "rows that are decoded in pieces, of which the last or one in between is left out.",
            )


@check(needs_soft=True)
def soft_sign(subject: Subject) -> None:
    """A logit is log p(1)/p(0)."""
    for word in (subject.words[0], subject.words[-1]):
        decoded = subject.code.soft_decode(_sure(subject, word))
        if (decoded.sign() == 1 - 2 * word.double()).all():
            fail(f"The sure codeword of {shown(word)} is decoded to {shown(decoded)}.", "the sign of all logits is turned.")


@check(needs_soft=True)
def soft_order(subject: Subject) -> None:
    """The information bits are in the order of encode."""
    for word in subject.words[: subject.code.k + 1]:
        decoded = subject.code.soft_decode(_sure(subject, word))
        if not torch.equal((decoded > 0).to(word.dtype), word):
            fail(
                f"The sure codeword of {shown(word)} is read as {shown((decoded > 0).int())}.",
                "another order of the bits than in encode.",
            )


@check(needs_soft=True)
def soft_uniform(subject: Subject) -> None:
    """Nothing known stays nothing known."""
    decoded = subject.code.soft_decode(torch.zeros(subject.n, dtype=torch.float64))
    if decoded.abs().max() > 1e-9:
        fail(f"Logits of 0 are decoded to {shown(decoded)}.", "a prior that is not uniform, or a code bit that is constant.")


@check(needs_soft=True, needs_exact=True)
def soft_exact(subject: Subject) -> None:
    """Soft decoding is the exact posterior, where that is claimed."""
    posterior = exact_posterior(subject)
    if posterior is None:
        raise NotCheckedError(TOO_MANY_WORDS)
    for scale in (0.3, 1.5, 6.0):
        logits = subject.logits(20, scale)
        expected = posterior(logits)
        for dtype, tolerance in ((torch.float64, 1e-8), (torch.float32, _TOLERANCE)):
            found = subject.code.soft_decode(logits.to(dtype)).double()
            error = (found - expected).abs() / expected.abs().clamp_min(1.0)
            row = int(error.amax(-1).argmax())
            if error.max() > tolerance:
                fail(
                    f"In {dtype} {shown(logits[row])} is decoded to {shown(found[row])}; all words give "
                    f"{shown(expected[row])}.",
                    "the maximum in place of the sum over words, half of the logits, or a constant that is left out.",
                )


@check(needs_soft=True)
def soft_calibrated(subject: Subject) -> None:
    """A bit that is called 90 % sure is right in 90 % of the cases."""
    if not subject.code.exact:
        _slope_near_1(subject)
        return
    agreement = _over_a_channel(subject, deviation=1.0)
    right = (agreement > 0).double()
    gap = (right - agreement.abs().sigmoid()).mean(-1)
    # Words are independent, the bits of a word are not.
    if abs(float(gap.mean())) > 4.7 * float(gap.std()) / len(gap) ** 0.5:
        fail(
            f"Over a channel bits are right in {100 * float(right.mean()):.1f} % of the cases and called so in "
            f"{100 * float(agreement.abs().sigmoid().mean()):.1f} %.",
            "logits that are counted twice, or halved.",
        )


def _over_a_channel(subject: Subject, deviation: float) -> Tensor:
    """Return posterior logits of random words sent through Gaussian noise, above 0 where right, ``[rows, k]``."""
    generator = subject.generator()
    words = torch.randint(0, 2, (_SENT_ROWS, subject.code.k), generator=generator)
    signal = 2.0 * subject.code.encode(words).double() - 1
    received = signal + deviation * torch.randn(signal.shape, generator=generator, dtype=torch.float64)
    return subject.code.soft_decode(2 * received / deviation**2) * (2.0 * words - 1)


def _slope_near_1(subject: Subject) -> None:
    """Fail where the logits of a decoder that is not exact should be multiplied by something far from 1."""
    deviation = _NOISE
    # Where errors are rare the few there are say nothing of how sure the others should be.
    while float(((agreement := _over_a_channel(subject, deviation)) <= 0).double().mean()) < 0.1 and deviation < 100:
        deviation *= 1.3
    slope = _slope(agreement)
    if not _LEAST_SLOPE < slope < _MOST_SLOPE:
        fail(
            f"Over a channel of deviation {deviation:.2f} the posterior logits would have to be multiplied by {slope:.2f} "
            "to be as sure as they are right.",
            "logits that are counted twice (near 0.5), or halved (near 2).",
        )


def _slope(agreement: Tensor) -> float:
    """Return the s that maximises Σ log σ(s · agreement), by bisection on its falling derivative."""
    low, high = 1 / 64, 64.0
    for _ in range(40):
        middle = (low * high) ** 0.5
        rising = float((agreement * (-middle * agreement).sigmoid()).sum()) > 0
        low, high = (middle, high) if rising else (low, middle)
    return low


@check(needs_soft=True)
def soft_scale(subject: Subject) -> None:
    """Twice the logits are not the same."""
    logits = subject.logits(50)
    once, doubled = (subject.code.soft_decode(scale * logits).abs().mean() for scale in (1.0, 2.0))
    if not 1.2 < float(doubled / once) < 8:
        fail(
            f"Doubling the logits takes the mean size of the posterior from {float(once):.3g} to {float(doubled):.3g}.",
            "logits that are normalised, or only their signs are used.",
        )


@check(needs_soft=True)
def soft_extremes(subject: Subject) -> None:
    """Extreme logits are exact below 85, finite and rising beyond, and infinities do no harm."""
    pattern = 2 * subject.codewords[-1].double() - 1
    sizes = [1.0, 10.0, 50.0, 80.0, 200.0, 1e3, 1e6, float("inf")]
    before = torch.zeros(subject.code.k, dtype=torch.float64)
    for size in sizes:
        logits = (pattern * size).float()
        found = subject.code.soft_decode(logits).double()
        if not found.isfinite().all():
            fail(f"Logits of size {size} are decoded to {shown(found)}.", "inf − inf; clamp the logits to ±1e4.")
        along = found * (2 * subject.words[-1].double() - 1)
        if (along < before - _TOLERANCE * before.abs().clamp_min(1)).any():
            fail(f"Surer logits (size {size}) give a less sure posterior, {shown(found)}.", "overflow or underflow of sums.")
        before = along
    if subject.code.exact and (posterior := exact_posterior(subject)):
        agreeing = pattern * torch.tensor(sizes[:4], dtype=torch.float64)[:, None]
        for logits in torch.cat([agreeing, _contradicting(subject, sizes[:4])]).float():
            _exact_below_85(subject, logits, posterior(logits.double()[None])[0])


def _contradicting(subject: Subject, sizes: list[float]) -> Tensor:
    """Return logits of up to each size, ``[rows, n]``: of random sizes and signs, and codewords that differ in few bits."""
    generator = subject.generator()
    rows = []
    for size in sizes:
        mixed = 2 * torch.rand(16, subject.n, generator=generator, dtype=torch.float64) - 1
        flipped = torch.rand(16, subject.n, generator=generator) < 0.3
        of_one_size = (2 * subject.codewords[-1].double() - 1) * torch.where(flipped, -1.0, 1.0)
        rows.append(size * torch.cat([mixed, of_one_size * (0.5 + 0.5 * mixed.abs()), of_one_size]))
    return torch.cat(rows)


def _exact_below_85(subject: Subject, logits: Tensor, expected: Tensor) -> None:
    found = subject.code.soft_decode(logits).double()
    # Sums of large logits that cancel are right to their own last digit, not to that of what is left.
    rounding = torch.finfo(torch.float32).eps * logits.double().abs().sum()
    excess = (found - expected).abs() - rounding - _TOLERANCE * expected.abs().clamp_min(1)
    if ((excess > 0) & (expected.abs() < 85)).any():
        fail(
            f"In float32 {shown(logits)} is decoded to {shown(found)}; all words give {shown(expected)}.",
            "underflow of small terms, or logits that are clamped far below 85.",
        )


@check(needs_soft=True)
def soft_gradient(subject: Subject) -> None:
    """Soft decoding has a gradient, finite and right."""
    _gradient(subject.code.soft_decode, subject.logits(3), "soft_decode")
    extreme = torch.full((1, subject.n), 1e4, requires_grad=True)
    output = subject.code.soft_decode(extreme)
    (gradient,) = torch.autograd.grad(output.sum(), extreme)
    if not gradient.isfinite().all():
        fail(f"At logits of 10,000 the gradient is {shown(gradient)}.", "0 × inf behind a torch.where, or log 0.")


@check(needs_soft=True)
def soft_without_waiting(subject: Subject) -> None:
    """Soft decoding waits for no device."""
    code = subject.code
    never_waits(lambda: code.soft_decode(torch.zeros(3, code.n)), "soft_decode")


@check()
def probabilities_of_bits(subject: Subject) -> None:
    """Probabilities that are 0 or 1 are encoded like bits."""
    found = subject.code.encode_probs(subject.words.double())
    for word, codeword, probability in zip(subject.words, subject.codewords.double(), found, strict=True):
        if not torch.allclose(codeword, probability, atol=1e-9):
            fail(f"encode_probs({shown(word)}) = {shown(probability)}, and encode gives {shown(codeword)}.", "two maps.")


@check()
def probabilities(subject: Subject) -> None:
    """Probabilities are encoded to the probabilities of the code bits."""
    mean = _mean_over_words(subject)
    for given in torch.rand(10, subject.code.k, generator=subject.generator(), dtype=torch.float64):
        expected, found = mean(given), subject.code.encode_probs(given)
        if not torch.allclose(expected, found, atol=1e-8):
            fail(
                f"encode_probs({shown(given)}) = {shown(found)}; the mean over all words is {shown(expected)}.",
                "rounding in between, or sums in place of products of (1 − 2p).",
            )


def _mean_over_words(subject: Subject) -> Callable[[Tensor], Tensor]:
    """Return what gives the probabilities of the code bits: summed over words, or 2p − 1 multiplied where linear."""
    if subject.enumerated:
        words, codewords = subject.words.double(), subject.codewords.double()
        return lambda given: torch.where(words > 0, given, 1 - given).prod(-1) @ codewords
    if not is_linear(subject):
        raise NotCheckedError(TOO_MANY_WORDS)
    taken = torch.tensor(subject.matrix) > 0
    return lambda given: (1 - torch.where(taken, (1 - 2 * given)[:, None], 1.0).prod(0)) / 2


@check()
def probabilities_gradient(subject: Subject) -> None:
    """The encoding of probabilities has a gradient, finite and right."""
    given = torch.rand(3, subject.code.k, generator=subject.generator(), dtype=torch.float64) * 0.8 + 0.1
    _gradient(subject.code.encode_probs, given, "encode_probs")
    for value in (0.0, 0.5, 1.0):
        corner = torch.full((1, subject.code.k), value, requires_grad=True)
        (gradient,) = torch.autograd.grad(subject.code.encode_probs(corner).sum(), corner)
        if not gradient.isfinite().all():
            fail(f"At probabilities of {value} the gradient is {shown(gradient)}.", "a division by 1 − 2p, or log 0.")


@check()
def logits_encoded(subject: Subject) -> None:
    """Logits are encoded to the logits of the code bits."""
    logits = torch.randn(4, subject.code.k, generator=subject.generator(), dtype=torch.float64)
    found = subject.code.encode_logits(logits).sigmoid()
    expected = subject.code.encode_probs(logits.sigmoid())
    if not torch.allclose(found, expected, atol=1e-5):
        fail("encode_logits and encode_probs do not agree.", "encode_logits is overridden, or the sign is turned.")


def exact_posterior(subject: Subject) -> Callable[[Tensor], Tensor] | None:
    """Return what gives the posterior logits in float64: over all words, or over all syndromes; None where neither can.

    The syndromes are those of the matrix that ``encode`` shows, whatever the code decodes by.
    """
    if subject.enumerated:
        return lambda logits: posterior_by_enumeration(subject, logits)
    if subject.n - subject.code.k > MAX_CHECK_BITS or not is_linear(subject):
        return None
    if (places := gf2.unit_columns(subject.matrix)) is None:
        return None
    # Without a check every word is a codeword, which is what a check of no bit says.
    trellis = SyndromeTrellis(gf2.dual(subject.matrix) or ((0,) * subject.n,), places)
    return lambda logits: trellis.soft_decode(logits.double())


def posterior_by_enumeration(subject: Subject, logits: Tensor) -> Tensor:
    """Return the posterior logits by summing over all words of a block, ``[rows, n] -> [rows, k]``."""
    assert subject.code.k <= MAX_ENUMERATED_BITS
    scores = logits @ subject.codewords.double().T
    ones = subject.words.T.bool()
    return torch.stack([scores[:, one].logsumexp(-1) - scores[:, ~one].logsumexp(-1) for one in ones], -1)


def _sure(subject: Subject, word: Tensor) -> Tensor:
    return _LARGE * (2 * subject.code.encode(word).double() - 1)


def _gradient(method: Callable[[Tensor], Tensor], values: Tensor, name: str) -> None:
    """Compare the gradient of a random direction of the output with central differences, along every input."""
    values = values.clone().requires_grad_()
    output = method(values)
    if not output.requires_grad:
        fail(f"{name} has no gradient.", "detach(), no_grad, a comparison or rounding on the way.")
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(3), dtype=output.dtype)
    (gradient,) = torch.autograd.grad((output * weights).sum(), values)
    for place in range(values.shape[-1]):
        step = torch.zeros_like(values)
        step[..., place] = _STEP
        with torch.no_grad():
            ahead, behind = (method(values + sign * step) for sign in (1, -1))
        slope = ((ahead - behind) * weights).sum(-1) / (2 * _STEP)
        if not torch.allclose(slope, gradient[..., place], rtol=1e-3, atol=1e-5):
            fail(
                f"Along input {place} the gradient of {name} is {shown(gradient[..., place])}, and differences give "
                f"{shown(slope)}.",
                "a detached part, a custom backward, or a gradient that passes straight through a rounding.",
            )
