"""Decoders work through their rows in chunks, and a gradient that would keep too much is made in chunks as well."""

from __future__ import annotations

import pytest
import torch

from bvae_cli.codes import decoding
from bvae_cli.codes.base import CodeSpec
from bvae_cli.codes.bch import Bch
from bvae_cli.codes.convolutional import Convolutional
from bvae_cli.codes.hamming import Hamming
from bvae_cli.codes.ldpc import Ldpc
from bvae_cli.codes.polar import Polar

SPECS: list[CodeSpec] = [Hamming(r=4), Bch(n=31, t=1), Ldpc(n=48), Polar(), Convolutional(k=20)]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.family)
def test_what_is_not_kept_is_decoded_again_and_gives_the_same_gradient(
    spec: CodeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = spec.build(spec.block().n)
    logits = torch.randn(7, code.n, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    results = []
    for most in (1 << 60, 0):
        monkeypatch.setattr(decoding, "_MOST_KEPT", most)
        decoded = code.soft_decode(logits)
        results.append((decoded, torch.autograd.grad(decoded.square().sum(), logits)[0]))
    (kept, first), (again, second) = results
    assert torch.equal(kept, again)
    assert torch.allclose(first, second, rtol=1e-12)


def test_many_rows_leave_no_more_behind_than_one_chunk_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    code = Bch(n=31, t=1).build(31)
    monkeypatch.setattr(decoding, "CHUNK_BYTES", 1 << 10)

    def kept(most: int) -> int:
        monkeypatch.setattr(decoding, "_MOST_KEPT", most)
        logits = torch.zeros(64, 31, requires_grad=True)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda saved: sizes.append(saved.numel()) or saved, lambda s: s):
            code.soft_decode(logits)
        return sum(sizes)

    assert kept(0) < kept(1 << 60) / 20


def test_chunks_are_put_together_in_the_order_of_the_rows() -> None:
    logits = torch.arange(12.0).reshape(6, 2)
    assert torch.equal(decoding.in_chunks(lambda chunk: chunk[:1], logits, rows=4, kept=1), logits[:, :1])
