"""The parts of a model that stand alone: what goes into each, what comes out, and how far another's results are from these.

What depends on the likelihood, and so on what the decoder's numbers mean, stands in ``decoder`` and nowhere else here; what
the networks are made of is seen by ``tracing`` and not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bvae_cli.model.bvae import BinaryVAE

BITS = "information_bits"
# Of onnx 1.13 and onnxruntime 1.14: what is newer is not needed.
ONNX_OPERATOR_SET = 18


@dataclass(frozen=True)
class Part:
    """A function of rows, ``[rows, width]`` float32: its name, that of what goes in, and what comes out by its names."""

    name: str
    entry: str
    function: Callable[[Tensor], Mapping[str, Tensor]]


def encoder(model: BinaryVAE) -> Part:
    """Return x ``[rows, D]`` to logits of code bits ``[rows, N]`` and of information bits ``[rows, K]``, and these bits."""

    def encoded(x: Tensor) -> dict[str, Tensor]:
        posterior = model.encode(x)
        return {"code_logits": posterior.code_logits, "logits": posterior.logits, BITS: posterior.information_bits}

    return Part("encoder", "x", encoded)


def encoder_alone(model: BinaryVAE) -> Part:
    """Return x ``[rows, D]`` to the logits of the code bits ``[rows, N]``, which are not decoded."""
    return Part("encoder", "x", lambda x: {"code_logits": model.code_logits(x)})


def decoder(model: BinaryVAE) -> Part:
    """Return codewords ``[rows, N]`` of 0 and 1 to what the likelihood takes, ``[rows, E]``, and to its means ``[rows, D]``.

    Of bits these are ``logits`` and ``probabilities``, of others ``outputs`` and what the likelihood calls its means.
    """
    likelihood = model.likelihood
    taken = "logits" if likelihood.name in ("bernoulli", "categorical") else "outputs"

    def decoded(codewords: Tensor) -> dict[str, Tensor]:
        outputs = model.outputs(codewords)
        return {taken: outputs, likelihood.told: likelihood.means(outputs)}

    return Part("decoder", "codewords", decoded)


def code(model: BinaryVAE) -> Part:
    """Return information bits ``[rows, K]`` of 0 and 1 to codewords ``[rows, N]``."""
    return Part("code", BITS, lambda bits: {"codewords": model.code.encode(bits)})


@torch.no_grad()
def differences(part: Part, rows: Tensor, found: Mapping[str, Tensor], tolerance: float) -> dict[str, float]:
    """Return for each output the largest |a − b| / (1 + |b|) of what was found, a, and what torch says, b.

    At most t is what numpy.allclose calls equal with both of its tolerances at t. A bit is not counted where its logit is 0
    within the tolerance: there both values are right.
    """
    expected = part.function(rows)
    largest = {}
    for name, wanted in expected.items():
        apart = (found[name] - wanted).abs() / (1 + wanted.abs())
        if name == BITS:
            apart = apart.where(expected["logits"].abs() > tolerance, 0.0)
        largest[name] = float(apart.max())
    return largest
