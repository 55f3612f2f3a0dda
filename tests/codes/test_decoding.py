"""Decoders work through their rows in chunks, and a gradient that would keep too much is made in chunks as well."""

from __future__ import annotations

import pytest
import torch

from bvae_cli.codes import decoding, gf2
from bvae_cli.codes.base import CodeSpec
from bvae_cli.codes.bch import Bch
from bvae_cli.codes.blocks import BlockSpec
from bvae_cli.codes.convolutional import Convolutional
from bvae_cli.codes.golay import Golay
from bvae_cli.codes.hamming import Hamming
from bvae_cli.codes.ldpc import Ldpc
from bvae_cli.codes.matrix import Linear
from bvae_cli.codes.polar import Polar
from bvae_cli.codes.reed_muller import ReedMuller
from tests.helpers import bytes_that_are_kept

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


@pytest.mark.parametrize("spec", [Hamming(r=3, extended=True), Golay(n=24), Bch(n=15, t=2)], ids=lambda spec: spec.family)
def test_lightest_errors_that_are_walked_to_are_as_near_as_those_in_the_list(
    spec: BlockSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks, unencoder = spec.parity_check_matrix(), gf2.unencoder(spec.generator_matrix())
    listed = decoding.LeaderTable(checks, unencoder)
    monkeypatch.setattr(decoding, "_MOST_LISTED", 0)
    walked = decoding.LeaderTable(checks, unencoder)
    code = spec.build(spec.block().n)
    received = torch.randint(0, 2, (500, code.n), generator=torch.Generator().manual_seed(0))
    away = []
    for table in (listed, walked):
        found = table.decode(received, torch.Generator().manual_seed(1))
        away.append((code.encode(found) != received).sum(-1))
    assert torch.equal(*away)


def test_equally_light_errors_are_walked_to_equally_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two flips in a word of the (8, 4) code are as near to three other words: a quarter of the draws each."""
    spec, draws = Hamming(r=3, extended=True), 8000
    monkeypatch.setattr(decoding, "_MOST_LISTED", 0)
    table = decoding.LeaderTable(spec.parity_check_matrix(), gf2.unencoder(spec.generator_matrix()))
    received = torch.zeros(draws, 8, dtype=torch.long)
    received[:, :2] = 1
    found = table.decode(received, torch.Generator().manual_seed(2))
    counts = found.long().unique(dim=0, return_counts=True)[1].double()
    assert len(counts) == 4
    spread = (draws * 0.25 * 0.75) ** 0.5
    assert ((counts - draws / 4).abs() < 4.2 * spread).all()


def test_billions_of_lightest_errors_take_neither_memory_nor_time() -> None:
    rows = ["".join("1" if place // 4 == row else "0" for place in range(56)) for row in range(14)]
    code = Linear(matrix="/".join(rows), kind="parity-check").build(56)
    received = (torch.rand(200, 56, generator=torch.Generator().manual_seed(0)) < 0.1).long()
    found = code.encode(code.decode(received))
    # One flip mends an odd group of four, whatever its place.
    assert torch.equal((found != received).sum(-1), (received.unflatten(-1, (14, 4)).sum(-1) % 2).sum(-1))


@pytest.mark.parametrize("spec", [Hamming(r=3, extended=True), ReedMuller(r=1, m=3), Bch(n=7, t=2)], ids=str)
def test_a_table_of_words_finds_a_nearest_codeword_of_everything_that_arrives(spec: BlockSpec) -> None:
    code, block = spec.build(spec.block().n), spec.block()
    words = decoding.gf2_words(block.k)
    table = decoding.WordTable(code.encode(words))
    received = decoding.gf2_words(block.n)
    distances = (code.encode(words).long()[None] ^ received.long()[:, None]).sum(-1)
    found = table.decode(received, torch.Generator().manual_seed(0))
    assert torch.equal((code.encode(found.long()) != received).sum(-1), distances.amin(-1))


def test_a_table_of_words_draws_each_of_equally_near_ones_equally_often() -> None:
    """Two flips in a word of the (8, 4) code are as near to three other words: a quarter of the draws each."""
    code, draws = Hamming(r=3, extended=True).build(8), 8000
    received = torch.zeros(draws, 8)
    received[:, :2] = 1
    found = decoding.WordTable(code.encode(decoding.gf2_words(4))).decode(received, torch.Generator().manual_seed(2))
    counts = found.unique(dim=0, return_counts=True)[1].double()
    assert len(counts) == 4
    assert ((counts - draws / 4).abs() < 4.2 * (draws * 0.25 * 0.75) ** 0.5).all()


@pytest.mark.parametrize(
    ("decoder", "numbers"),
    [
        (decoding.WordTable(Hamming(r=3).build(7).encode(decoding.gf2_words(4))), 2 * 16),
        (decoding.SyndromeTrellis(Hamming(r=3).parity_check_matrix(), range(4)), 8 * 8 * 7),
    ],
    ids=["words", "trellis"],
)
def test_what_a_gradient_would_keep_is_told_in_numbers(
    decoder: decoding.SoftDecoder, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert bytes_that_are_kept(decoder.soft_decode, logits, monkeypatch) == 5 * 8 * numbers


def test_where_no_gradient_is_asked_for_nothing_is_decoded_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "checkpoint", None)
    monkeypatch.setattr(decoding, "_MOST_KEPT", 0)
    logits = torch.zeros(2, 7, requires_grad=True)
    code = Hamming(r=3).build(7)
    with torch.no_grad():
        assert code.soft_decode(logits).shape == (2, 4)
    assert code.soft_decode(logits.detach()).shape == (2, 4)


def test_a_block_is_drawn_in_proportion_to_its_weight() -> None:
    logs = torch.tensor([1.0, 2.0, 5.0]).log().expand(40_000, 3)
    counts = torch.bincount(decoding.drawn(logs, 1, torch.Generator().manual_seed(3)), minlength=3).double() / 40_000
    for share, expected in zip(counts.tolist(), (1 / 8, 2 / 8, 5 / 8), strict=True):
        assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 40_000) ** 0.5)
