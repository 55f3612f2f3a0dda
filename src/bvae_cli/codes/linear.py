"""Any binary linear block code from its generator matrix, repeated over the latent."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from bvae_cli.codes.base import LARGEST_LOGIT, Code, CodeSpec
from bvae_cli.errors import UsageError

# All 2^k words of a block are enumerated for exact soft decoding and for hard decoding.
MAX_ENUMERATED_BITS = 12
# Scores of a chunk are kept to about 1 MB: two to three times faster than one large product.
_CHUNK_BYTES = 1 << 20


class LinearCode(Code):
    """Blocks of a binary linear code with generator ``G [k, n]``, codeword c = m G mod 2, repeated n_total / n times.

    Soft decoding enumerates the 2^k words of a block, exact for k ≤ 12:
    λ_i = logsumexp_{m: m_i = 1} Σ_j c_j l_j − logsumexp_{m: m_i = 0} Σ_j c_j l_j. Hard decoding takes the nearest codeword,
    ties broken by a fair coin. MacWilliams and Sloane 1977, ch. 1.

    Raises UsageError where ``n`` is not a whole number of blocks, the shape of G is not that of the spec's block, its rows
    are dependent, or k > 12.
    """

    def __init__(self, spec: CodeSpec, n: int, generator_matrix: Sequence[Sequence[int]]) -> None:
        super().__init__(spec, n)
        generator = torch.tensor(generator_matrix, dtype=torch.float64)
        self.block_k, self.block_n = int(generator.shape[0]), int(generator.shape[1])
        block = spec.block()
        if (self.block_n, self.block_k) != (block.n, block.k):
            raise UsageError(
                f"The generator matrix of {spec.label()} is {self.block_k} × {self.block_n}; its block says "
                f"{block.k} × {block.n}."
            )
        if self.block_k > MAX_ENUMERATED_BITS:
            raise UsageError(
                f"{spec.label()} has {self.block_k} information bits in a block; exact decoding here enumerates at most "
                f"{MAX_ENUMERATED_BITS}."
            )
        counts = torch.arange(2**self.block_k)
        words = ((counts[:, None] >> torch.arange(self.block_k)) & 1).to(torch.float64)
        codewords = (words @ generator) % 2
        if len(torch.unique(codewords, dim=0)) < len(codewords):
            raise UsageError(f"The rows of the generator matrix of {spec.label()} are linearly dependent.")
        self._generator, self._words, self._codewords = generator, words, codewords
        self._placed: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor, Tensor]] = {}

    def encode(self, bits: Tensor) -> Tensor:
        """Encode block by block, c = m G mod 2, ``[..., K] -> [..., N]``."""
        # float32 sums of at most k bits are exact; integer matrix products are not on every device.
        generator, _, _ = self._on(bits.device, torch.float32)
        return ((self._blocks(bits, self.block_k).float() @ generator) % 2).flatten(-2).to(bits.dtype)

    def encode_probs(self, probabilities: Tensor) -> Tensor:
        """Probabilities of the code bits of independent bits: ĉ_j = ½ (1 − ∏_{i in supp G_j} (1 − 2 p_i))."""
        generator, _, _ = self._on(probabilities.device, probabilities.dtype)
        signs = (1 - 2 * self._blocks(probabilities, self.block_k)).unsqueeze(-1)
        return (0.5 * (1 - torch.where(generator > 0, signs, 1.0).prod(-2))).flatten(-2)

    def decode(self, bits: Tensor, generator: Generator | None = None) -> Tensor:
        """Decode to a nearest codeword, ``[..., N] -> [..., K]``; equally near ones are drawn at random."""
        _, words, codewords = self._on(bits.device, torch.float32)
        blocks = self._blocks(bits, self.block_n)
        if generator is None:
            generator = torch.Generator(bits.device).manual_seed(0)
        signs = 2 * codewords.T - 1
        nearest = []
        for chunk in blocks.flatten(0, -2).split(self._rows_at_once(torch.float32)):
            agreement = (2 * chunk.float() - 1) @ signs
            # Agreements are whole numbers of one parity, so a draw in [0, 1) decides among equals and nothing else.
            draw = torch.rand(agreement.shape, device=bits.device, generator=generator)
            nearest.append((agreement + draw).argmax(-1))
        decoded = words[torch.cat(nearest)].reshape(*blocks.shape[:-1], self.block_k)
        return decoded.flatten(-2).to(bits.dtype)

    def soft_decode(self, logits: Tensor) -> Tensor:
        """Exact posterior logits of the information bits, ``[..., N] -> [..., K]``; inputs are clamped to ±1e4.

        Half precision is summed in float32: rounded scores of whole words would turn the signs of single bits.
        """
        working = torch.promote_types(logits.dtype, torch.float32)
        _, words, codewords = self._on(logits.device, working)
        blocks = self._blocks(logits.to(working).clamp(-LARGEST_LOGIT, LARGEST_LOGIT), self.block_n)
        chunks = blocks.flatten(0, -2).split(self._rows_at_once(working))
        decoded = torch.cat([self._posterior(chunk @ codewords.T, words) for chunk in chunks])
        return decoded.reshape(*blocks.shape[:-1], self.block_k).flatten(-2).to(logits.dtype)

    def _rows_at_once(self, dtype: torch.dtype) -> int:
        bytes_of_row: int = 2**self.block_k * dtype.itemsize
        return max(1, _CHUNK_BYTES // bytes_of_row)

    @staticmethod
    def _posterior(scores: Tensor, words: Tensor) -> Tensor:
        """Marginal logits from the scores of all words, ``[B, 2^k] -> [B, k]``."""
        ones = [scores[:, words[:, bit] > 0].logsumexp(-1) for bit in range(words.shape[1])]
        zeros = [scores[:, words[:, bit] == 0].logsumexp(-1) for bit in range(words.shape[1])]
        return torch.stack(ones, -1) - torch.stack(zeros, -1)

    def _blocks(self, values: Tensor, size: int) -> Tensor:
        blocks: Tensor = values.unflatten(-1, (-1, size))
        return blocks

    def _on(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        key = (device, dtype)
        if key not in self._placed:
            tables = (self._generator, self._words, self._codewords)
            # Tables made under inference_mode could not be saved for a later backward pass.
            with torch.inference_mode(False):
                self._placed[key] = tuple(table.to(device, dtype) for table in tables)  # type: ignore[assignment]
        return self._placed[key]
