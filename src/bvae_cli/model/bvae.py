"""The binary variational autoencoder over a code: encoder, soft decoding, re-encoding, decoder, likelihood."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from bvae_cli.codes.base import Code
from bvae_cli.model.likelihoods import Beginning, Likelihood, bernoulli_beginning
from bvae_cli.model.networks import Architecture, CenteredDecoder, CenteredEncoder


class Posterior(NamedTuple):
    """What the encoder says of a batch: logits of the code bits ``[B, N]`` and of the information bits ``[B, K]``."""

    code_logits: Tensor
    logits: Tensor

    @property
    def information_bits(self) -> Tensor:
        """The most probable information bits 1[λ > 0], float ``[B, K]``."""
        return (self.logits > 0).to(self.logits.dtype)


class Samples(NamedTuple):
    """Draws from the model.

    Information bits ``[S, K]``, codewords ``[S, N]``, the means of the features given the word ``[S, D]`` (of bits their
    probabilities; of symbols those of each, ``[S, E]``), and rows drawn from them ``[S, D]``, all float.
    """

    information_bits: Tensor
    codewords: Tensor
    means: Tensor
    rows: Tensor


class CodedAutoencoder(nn.Module):
    """Encoder and decoder networks around a code, and a likelihood, of one model or of several side by side.

    With ``autocast_dtype`` the two networks compute in that precision; codes, losses and what is returned never do.
    """

    def __init__(self, code: Code, likelihood: Likelihood, encoder: CenteredEncoder, decoder: CenteredDecoder) -> None:
        super().__init__()
        self.code = code
        self.likelihood = likelihood
        self.autocast_dtype: torch.dtype | None = None
        self.encoder = encoder
        self.decoder = decoder

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of weights, logits and losses."""
        return self.encoder.mean.dtype

    @property
    def features(self) -> int:
        """Number of values D in one row."""
        return self.likelihood.features

    def encode(self, x: Tensor) -> Posterior:
        """Return the posterior of a batch, ``[..., D] -> ([..., N], [..., K])`` logits."""
        code_logits = self.code_logits(x)
        return Posterior(code_logits, self.code.soft_decode(code_logits))

    def code_logits(self, x: Tensor) -> Tensor:
        """Return what the encoder says of the code bits, ``[..., D] -> [..., N]`` logits."""
        return self._network(self.encoder, self.likelihood.encoder_inputs(x))

    def outputs(self, codewords: Tensor) -> Tensor:
        """Return what the decoder says of codewords, ``[..., N] -> [..., E]``: of bits the logits, see the likelihood."""
        return self._network(self.decoder, codewords)

    def decode(self, codewords: Tensor) -> Tensor:
        """Return the means of the features, ``[..., N] -> [..., D]``: of bits their probabilities."""
        return self.likelihood.means(self.outputs(codewords))

    def negative_log_likelihood(self, codewords: Tensor, x: Tensor) -> Tensor:
        """Return −log p(x given c) in nats, ``([..., N], [..., D]) -> [...]``."""
        return self.likelihood.negative_log_likelihood(self.outputs(codewords), x)

    def _network(self, network: nn.Module, inputs: Tensor) -> Tensor:
        if self.autocast_dtype is None:
            outputs: Tensor = network(inputs)
            return outputs
        with torch.autocast(inputs.device.type, dtype=self.autocast_dtype):
            outputs = network(inputs)
        return outputs.to(inputs.dtype)


class BinaryVAE(CodedAutoencoder):
    """m ~ uniform {0,1}^K, c = C(m), x ~ p(x given decoder(c)); q(m given x) from the soft-decoded encoder logits.

    ``code`` is any code, the uncoded model's is ``none``; ``beginning`` says what the likelihood is and where it begins: of
    bits, it may be the mean of the training data, ``[D]``.

    >>> from bvae_cli.codes.repetition import Repetition
    >>> from bvae_cli.model.networks import Architecture
    >>> model = BinaryVAE(Repetition(R=3).build(12), torch.full((5,), 0.5), Architecture(hidden=8, depth=1))
    >>> model.encode(torch.zeros(2, 5)).logits.shape
    torch.Size([2, 4])
    """

    def __init__(self, code: Code, beginning: Beginning | Tensor, architecture: Architecture) -> None:
        start = bernoulli_beginning(beginning) if isinstance(beginning, Tensor) else beginning
        encoder = CenteredEncoder(start.mean, architecture, code.n)
        decoder = CenteredDecoder(start.bias, architecture, code.n)
        # A copy: what it learns is this model's.
        super().__init__(code, copy.deepcopy(start.likelihood), encoder, decoder)

    @torch.no_grad()
    def sample(
        self,
        count: int,
        generator: Generator | None = None,
        temperature: float = 1.0,
        fixed: Mapping[int, int] | None = None,
    ) -> Samples:
        """Draw ``count`` rows from the prior, each from p(x given c)^(1/temperature): of bits, logits are divided by it.

        ``fixed`` holds values of information bits by their place, counted from 0: the others are drawn as they are without.
        Raises UsageError for counts at another temperature than 1.
        """
        information_bits = self.draw_bits(count, generator)
        for place, value in (fixed or {}).items():
            information_bits[:, place] = value
        codewords = self.code.encode(information_bits)
        outputs = self.outputs(codewords)
        rows = self.likelihood.draw(outputs, generator, temperature)
        return Samples(information_bits, codewords, self.likelihood.tempered_means(outputs, temperature), rows)

    def draw_bits(self, count: int, generator: Generator | None = None) -> Tensor:
        """Draw information bits from the prior, uniform on {0,1}^K, float ``[count, K]``."""
        draws = torch.rand(count, self.code.k, device=self.encoder.mean.device, generator=generator)
        return (draws < 0.5).to(self.dtype)
