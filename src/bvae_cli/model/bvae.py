"""The binary variational autoencoder over a code: encoder, soft decoding, re-encoding, decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from bvae_cli.codes.base import Code
from bvae_cli.model.networks import CenteredDecoder, CenteredEncoder


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

    Information bits ``[S, K]``, codewords ``[S, N]``, the probabilities of the features ``[S, D]`` and features drawn
    from them ``[S, D]``, all float.
    """

    information_bits: Tensor
    codewords: Tensor
    probabilities: Tensor
    images: Tensor


class CodedAutoencoder(nn.Module):
    """Encoder and decoder networks around a code, of one model or of several side by side.

    With ``autocast_dtype`` the two networks compute in that precision; codes, losses and what is returned never do.
    """

    def __init__(self, code: Code, encoder: CenteredEncoder, decoder: CenteredDecoder) -> None:
        super().__init__()
        self.code = code
        self.autocast_dtype: torch.dtype | None = None
        self.encoder = encoder
        self.decoder = decoder

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of weights, logits and losses."""
        return self.encoder.mean.dtype

    def encode(self, x: Tensor) -> Posterior:
        """Return the posterior of a batch, ``[..., D] -> ([..., N], [..., K])`` logits."""
        code_logits = self._network(self.encoder, x)
        return Posterior(code_logits, self.code.soft_decode(code_logits))

    def decode_logits(self, codewords: Tensor) -> Tensor:
        """Return the logits of the features, ``[..., N] -> [..., D]``."""
        return self._network(self.decoder, codewords)

    def decode(self, codewords: Tensor) -> Tensor:
        """Return the probabilities of the features, ``[..., N] -> [..., D]``."""
        return self.decode_logits(codewords).sigmoid()

    def _network(self, network: nn.Module, inputs: Tensor) -> Tensor:
        if self.autocast_dtype is None:
            outputs: Tensor = network(inputs)
            return outputs
        with torch.autocast(inputs.device.type, dtype=self.autocast_dtype):
            outputs = network(inputs)
        return outputs.to(inputs.dtype)


class BinaryVAE(CodedAutoencoder):
    """m ~ uniform {0,1}^K, c = C(m), x ~ Bernoulli(σ(decoder(c))); q(m given x) from the soft-decoded encoder logits.

    ``code`` is any code, the uncoded model's is ``none``; ``mean`` is the mean of the training data, ``[D]``.

    >>> from bvae_cli.codes.repetition import Repetition
    >>> model = BinaryVAE(Repetition(R=3).build(12), torch.full((5,), 0.5), hidden=8, depth=1)
    >>> model.encode(torch.zeros(2, 5)).logits.shape
    torch.Size([2, 4])
    """

    def __init__(self, code: Code, mean: Tensor, hidden: int, depth: int, activation: str = "leaky-relu") -> None:
        encoder = CenteredEncoder(mean, hidden, depth, code.n, activation)
        super().__init__(code, encoder, CenteredDecoder(mean, hidden, depth, code.n, activation))
        self.features = mean.numel()

    @torch.no_grad()
    def sample(
        self,
        count: int,
        generator: Generator | None = None,
        temperature: float = 1.0,
        fixed: Mapping[int, int] | None = None,
    ) -> Samples:
        """Draw ``count`` images from the prior; the decoder's logits are divided by ``temperature``.

        ``fixed`` holds values of information bits by their place, counted from 0: the others are drawn as they are without.
        """
        device = self.encoder.mean.device
        information_bits = self.draw_bits(count, generator)
        for place, value in (fixed or {}).items():
            information_bits[:, place] = value
        codewords = self.code.encode(information_bits)
        probabilities = (self.decode_logits(codewords) / temperature).sigmoid()
        pixels = torch.rand(probabilities.shape, device=device, generator=generator)
        return Samples(information_bits, codewords, probabilities, (pixels < probabilities).to(self.dtype))

    def draw_bits(self, count: int, generator: Generator | None = None) -> Tensor:
        """Draw information bits from the prior, uniform on {0,1}^K, float ``[count, K]``."""
        draws = torch.rand(count, self.code.k, device=self.encoder.mean.device, generator=generator)
        return (draws < 0.5).to(self.dtype)
