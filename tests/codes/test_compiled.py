"""Every kind of decoder under torch.compile as one graph, forward and backward: what CUDA graphs need as well."""

from __future__ import annotations

import pytest
import torch

from bvae_cli.codes.base import CodeSpec
from bvae_cli.codes.bch import Bch
from bvae_cli.codes.convolutional import Convolutional
from bvae_cli.codes.golay import Golay
from bvae_cli.codes.hamming import Hamming
from bvae_cli.codes.ldpc import Ldpc
from bvae_cli.codes.polar import Polar
from bvae_cli.codes.repetition import Repetition
from bvae_cli.codes.uncoded import Uncoded
from bvae_cli.codes.unequal import Unequal

SPECS: list[CodeSpec] = [
    Uncoded(),
    Repetition(R=3),
    Hamming(r=3),
    Golay(n=24),
    Bch(n=31, t=2),
    Ldpc(n=48),
    Polar(),
    Convolutional(k=20),
    Unequal(groups="14 hamming:r=3 + 10 repetition:R=5 + 6 none"),
]


@pytest.mark.slow
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.family)
def test_a_compiled_code_is_one_graph_and_gives_what_it_gave(spec: CodeSpec) -> None:
    code = spec.build(2 * spec.block().n)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, code.n, generator=generator, requires_grad=True)
    probabilities = torch.rand(4, code.k, generator=generator, requires_grad=True)
    for method, given in (
        (code.soft_decode, logits),
        (code.encode_probs, probabilities),
        (code.encode, probabilities > 0.5),
    ):
        torch._dynamo.reset()
        compiled = torch.compile(method, fullgraph=True, backend="aot_eager")
        result, expected = compiled(given), method(given)
        assert torch.allclose(result.float(), expected.float(), atol=1e-5)
        if given.requires_grad:
            gradients = [torch.autograd.grad(value.sum(), given)[0] for value in (result, expected)]
            assert torch.allclose(*gradients, atol=1e-5)
