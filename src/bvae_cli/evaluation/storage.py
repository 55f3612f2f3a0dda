"""What an image is worth after its code bits were stored where bits flip."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from bvae_cli.datasets.rows import Rows
from bvae_cli.evaluation.classifier import Classifier
from bvae_cli.evaluation.inference import peak_signal_to_noise_ratio
from bvae_cli.model.bvae import BinaryVAE

_ROWS = 2000


@dataclass(frozen=True)
class StoredValues:
    """Row by row, ``[rows]``: −log p(x given the read word) in nats, PSNR in dB, share of wrong information bits.

    ``decoded`` holds the means that the decoder gives, ``[rows, D]`` (of symbols, the most probable ones); ``recognised``
    is 1 where the classifier sees the right label in the decoded image, and None without labels. PSNR is that of a data
    range of 1, and means something for the Bernoulli likelihood.
    """

    negative_log_likelihood: Tensor
    psnr: Tensor
    bit_error_rate: Tensor
    recognised: Tensor | None
    decoded: Tensor


@torch.no_grad()
def store_and_read(
    model: BinaryVAE,
    x: Tensor | Rows,
    epsilon: float,
    generator: Generator,
    classifier: Classifier | None = None,
    labels: Tensor | None = None,
) -> StoredValues:
    """x → m̂ = 1[λ > 0] → C(m̂), each code bit flipped with probability ε → decode → re-encode → decoder.

    What is stored is a codeword, so a code can repair it; ``x`` is ``[rows, D]``. With a classifier and the rows' labels
    the decoded means are also read by it.
    """
    parts = []
    for start in range(0, len(x), _ROWS):
        target = x[start : start + _ROWS].float()
        written = model.encode(target).information_bits
        codewords = model.code.encode(written)
        flips = torch.rand(codewords.shape, device=x.device, generator=generator) < epsilon
        read = model.code.decode((codewords.bool() ^ flips).to(codewords.dtype), generator)
        outputs = model.outputs(model.code.encode(read))
        decoded = model.likelihood.rows_of(model.likelihood.means(outputs))
        seen = torch.empty(0)
        if classifier is not None and labels is not None:
            seen = (classifier.labels(decoded) == labels[start : start + _ROWS].to(x.device)).float().cpu()
        parts.append(
            (
                model.likelihood.negative_log_likelihood(outputs, target).cpu(),
                peak_signal_to_noise_ratio(decoded, target).cpu(),
                (read != written).float().mean(-1).cpu(),
                seen,
                decoded.cpu(),
            )
        )
    nll, psnr, wrong, recognised, decoded = (torch.cat(part) for part in zip(*parts, strict=True))
    return StoredValues(nll, psnr, wrong, recognised if len(recognised) else None, decoded)
