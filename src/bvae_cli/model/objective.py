"""The training objective and the bounds that are reported, per row and in nats."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional

from bvae_cli.codes.base import Code
from bvae_cli.errors import UsageError
from bvae_cli.model.bvae import BinaryVAE, CodedAutoencoder, Posterior
from bvae_cli.model.relaxation import ESTIMATORS
from bvae_cli.model.terms import LN2, kl_to_uniform

# 2^16 words of a wide decoder fit in memory a slice at a time, and take seconds.
MAX_ENUMERATED_BITS = 16
# Decoded values that are held at once by the functions that draw many words for each image.
_VALUES_AT_ONCE = 1 << 24


class Losses(NamedTuple):
    """The terms of the training loss, each ``[..., B]`` in nats (the consistency term is a mean square in 0…1)."""

    reconstruction: Tensor
    kl: Tensor
    consistency: Tensor

    def total(self, beta: float | Tensor, consistency_weight: float | Tensor) -> Tensor:
        """Return the mean over the batch of reconstruction + β KL + w consistency, ``[..., B] -> [...]``.

        Of M models, β and w may be ``[M, 1]``: each model has its own.
        """
        return (self.reconstruction + beta * self.kl + consistency_weight * self.consistency).mean(-1)


def consistency(model: CodedAutoencoder, posterior: Posterior) -> Tensor:
    """Mean square between the encoder's code bits and the re-encoded marginals, mean_j (σ(l_j) − ĉ_j)²."""
    reencoded = model.code.encode_probs(posterior.logits.sigmoid())
    return (posterior.code_logits.sigmoid() - reencoded).square().mean(-1)


def training_losses(
    model: CodedAutoencoder,
    x: Tensor,
    uniform: Tensor,
    estimator: str,
    sampling: str,
    temperature: float | Tensor,
    channel_epsilon: float = 0.0,
) -> Losses:
    """Return the terms of the training loss of a batch, with the estimator's gradient.

    ``uniform`` is the noise, ``[B, noise_bits]``: one number for each bit that is drawn, K of them for ``codeword`` and N
    for ``bitwise`` sampling. ``bitwise`` draws each code bit on its own: a training surrogate (Martínez-García et al.
    2025), never a bound. Of M models side by side, ``x`` and ``uniform`` have a leading M, and the temperature may be
    ``[M, 1, 1]``.

    With ``channel_epsilon`` ε the decoder sees the drawn word over a binary symmetric channel, each of its N bits flipped
    with probability ε (NECST, Choi et al. 2019), from N numbers more of ``uniform``. That is no bound either.
    """
    posterior = model.encode(x)
    expected_loss = ESTIMATORS[estimator].expected_loss
    flips: Tensor | None = None
    if channel_epsilon:
        uniform, noise = uniform[..., : -model.code.n], uniform[..., -model.code.n :]
        flips = (noise < channel_epsilon).to(x.dtype)
    of_words = sampling == "codeword"

    def loss_of_bits(bits: Tensor) -> Tensor:
        code_bits = model.code.encode_probs(bits) if of_words else bits
        if flips is not None:
            code_bits = code_bits + flips - 2 * flips * code_bits
        return model.negative_log_likelihood(code_bits, x)

    logits = posterior.logits if of_words else model.code.encode_logits(posterior.logits)
    reconstruction = expected_loss(loss_of_bits, logits, uniform, temperature)
    return Losses(reconstruction, kl_to_uniform(posterior.logits), consistency(model, posterior))


def noise_bits(code: Code, sampling: str, channel_epsilon: float = 0.0) -> int:
    """Return how many uniform numbers ``training_losses`` takes for each row."""
    drawn = code.k if sampling == "codeword" else code.n
    return drawn + (code.n if channel_epsilon else 0)


def elbo(model: BinaryVAE, x: Tensor, generator: Generator | None = None, beta: float = 1.0) -> Tensor:
    """Evidence lower bound of each row, ``[B, D] -> [B]``: one true codeword from q, the KL in closed form."""
    posterior = model.encode(x)
    return _bound(model, x, posterior, _draw(posterior.logits, 1, generator)[0], beta)


def elbo_with(model: CodedAutoencoder, x: Tensor, uniform: Tensor, beta: float | Tensor = 1.0) -> Tensor:
    """Evidence lower bound of each row with this noise, ``([B, D], [B, K]) -> [B]``.

    Of M models side by side ``[M, B]``, each of the same rows with the same noise; β may be ``[M, 1]``.
    """
    posterior = model.encode(x)
    return _bound(model, x, posterior, (uniform < torch.sigmoid(posterior.logits)).to(posterior.logits.dtype), beta)


def bitwise_surrogate(model: BinaryVAE, x: Tensor, generator: Generator | None = None) -> Tensor:
    """Return what ``bitwise`` training maximises, of each row, ``[B, D] -> [B]``: **no bound** of log p(x).

    Each code bit is drawn on its own from its re-encoded marginal, as in the training of the coded DVAE
    (Martínez-García et al. 2025), so the decoder sees several noises of a bit while the KL charges for one: the value can
    exceed log p(x). Reported under its own name only, beside bounds.
    """
    posterior = model.encode(x)
    code_bits = _draw(model.code.encode_logits(posterior.logits), 1, generator)[0]
    return -model.negative_log_likelihood(code_bits, x) - kl_to_uniform(posterior.logits)


def iwae(model: BinaryVAE, x: Tensor, samples: int, generator: Generator | None = None) -> Tensor:
    """IWAE-S of each row, ``[B, D] -> [B]``: logsumexp_s log w_s − ln S, w = p(x, m) / q(m given x), hard m ~ q.

    Burda et al. 2016, eq. 8. In expectation between the ELBO and log p(x).
    """
    rows = max(1, _VALUES_AT_ONCE // (samples * max(model.likelihood.width, model.code.n)))
    return torch.cat([_iwae_rows(model, chunk, samples, generator) for chunk in x.split(rows)])


def log_likelihood(model: BinaryVAE, x: Tensor) -> Tensor:
    """Exact log p(x) of each row by summing over all 2^K words, ``[B, D] -> [B]``. Raises UsageError for K > 16."""
    if model.code.k > MAX_ENUMERATED_BITS:
        raise UsageError(
            f"log p(x) is enumerated for at most {MAX_ENUMERATED_BITS} information bits; this model has {model.code.k}."
        )
    likelihood, statistics = model.likelihood, model.likelihood.statistics(x)
    total = torch.full((len(x),), -math.inf, device=x.device, dtype=statistics.dtype)
    for some in all_words(model.code.k, x.device, x.dtype).split(max(1, _VALUES_AT_ONCE // (4 * likelihood.width))):
        natural = likelihood.natural(model.outputs(model.code.encode(some)))
        joint = statistics @ natural.parameters.T - natural.log_normaliser
        total = torch.logaddexp(total, joint.logsumexp(-1))
    return (total + likelihood.base(x) - model.code.k * LN2).to(x.dtype)


def all_words(bits: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Tensor:
    """Return all words of so many bits, ``[2^bits, bits]``, in counting order, the first bit the lowest."""
    counts = torch.arange(2**bits, device=device)
    return ((counts[:, None] >> torch.arange(bits, device=device)) & 1).to(dtype)


def _bound(model: CodedAutoencoder, x: Tensor, posterior: Posterior, words: Tensor, beta: float | Tensor) -> Tensor:
    return -model.negative_log_likelihood(model.code.encode(words), x) - beta * kl_to_uniform(posterior.logits)


def _iwae_rows(model: BinaryVAE, x: Tensor, samples: int, generator: Generator | None) -> Tensor:
    posterior = model.encode(x)
    words = _draw(posterior.logits, samples, generator)
    log_q = (words * posterior.logits - functional.softplus(posterior.logits)).sum(-1)
    log_p = -model.negative_log_likelihood(model.code.encode(words), x.expand(samples, *x.shape)) - model.code.k * LN2
    return (log_p - log_q).logsumexp(0) - math.log(samples)


def _draw(logits: Tensor, samples: int, generator: Generator | None) -> Tensor:
    """Draw hard words from independent bits, ``[B, K] -> [samples, B, K]``."""
    uniform = torch.rand((samples, *logits.shape), device=logits.device, dtype=logits.dtype, generator=generator)
    return (uniform < torch.sigmoid(logits)).to(logits.dtype)
