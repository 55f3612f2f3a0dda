"""Belief propagation: exact where the graph has no cycle, close on sparse graphs, and never the exact decoder's place."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bvae_cli.codes import gf2
from bvae_cli.codes.belief_propagation import BeliefPropagation
from bvae_cli.codes.blocks import BlockSpec
from bvae_cli.codes.ldpc import Ldpc
from bvae_cli.evaluation.channel import measure_channel
from tests.helpers import bytes_that_are_kept, property_settings

# Seven bits, three checks, no cycle: each pair of checks has at most one bit in common.
TREE = ((1, 1, 1, 0, 0, 0, 0), (0, 0, 1, 1, 1, 0, 0), (0, 0, 0, 0, 1, 1, 1))


def posterior(checks: gf2.Matrix, logits: torch.Tensor) -> tuple[tuple[int, ...], torch.Tensor]:
    """Return the places of the information bits and their posterior, by summing over all words."""
    generator = gf2.dual(checks)
    places = gf2.unit_columns(generator)
    assert places is not None
    rows = [gf2.as_word(row) for row in generator]
    words = [0]
    for row in rows:
        words += [word ^ row for word in words]
    codewords = torch.tensor([gf2.as_bits(word, len(checks[0])) for word in words], dtype=torch.float64)
    scores = logits @ codewords.T
    ones = codewords[:, list(places)].T.bool()
    return places, torch.stack([scores[:, one].logsumexp(-1) - scores[:, ~one].logsumexp(-1) for one in ones], -1)


@given(seed=st.integers(0, 2**31), scale=st.sampled_from([0.3, 1.5, 5.0]))
@property_settings
def test_on_a_graph_without_cycles_it_is_the_exact_posterior(seed: int, scale: float) -> None:
    logits = scale * torch.randn(5, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    places, expected = posterior(TREE, logits)
    assert torch.allclose(BeliefPropagation(TREE, places, 6).soft_decode(logits), expected, atol=1e-8)


def test_with_too_few_rounds_for_the_tree_it_is_not() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    places, expected = posterior(TREE, logits)
    assert not torch.allclose(BeliefPropagation(TREE, places, 1).soft_decode(logits), expected, atol=1e-3)


def test_a_bit_in_no_check_keeps_its_logit_and_checks_of_several_sizes_are_served() -> None:
    checks = ((1, 1, 0, 0, 0), (0, 1, 1, 1, 0))
    logits = torch.randn(8, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    places, expected = posterior(checks, logits)
    found = BeliefPropagation(checks, places, 5).soft_decode(logits)
    assert torch.allclose(found, expected, atol=1e-8)
    assert torch.equal(found[:, places.index(4)], logits[:, 4])


def test_more_rounds_make_fewer_errors_on_a_sparse_code() -> None:
    few, many = (Ldpc(n=96, iterations=rounds).build(96) for rounds in (1, 20))
    wrong = [measure_channel(code, 0.08, 2000, "soft").bit_error_rate.mean for code in (few, many)]
    assert wrong[1] < 0.5 * wrong[0]


def test_a_dense_parity_check_matrix_too_large_for_an_exact_decoder_is_refused() -> None:
    class Dense(BlockSpec):
        family = "dense"
        summary = "every second check at random"

        def parity_check_matrix(self) -> gf2.Matrix:
            chance = torch.Generator().manual_seed(0)
            rows = torch.randint(0, 2, (20, 60), generator=chance).tolist()
            return tuple(tuple(row) for row in rows)

    assert "sparse parity checks only" in (Dense().no_soft_decoder() or "")
    assert Dense().no_hard_decoder() is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_certain_and_contradicting_logits_leave_no_nan(dtype: torch.dtype) -> None:
    code = Ldpc(n=96).build(96)
    logits = torch.full((3, 96), float("inf"), dtype=dtype)
    logits[1] = -torch.inf
    logits[2, ::2] = -torch.inf
    assert code.soft_decode(logits).isfinite().all()


@pytest.mark.parametrize("iterations", [1, 3])
def test_what_a_gradient_would_keep_is_eight_numbers_for_every_edge_and_round(
    iterations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = BeliefPropagation(((1, 1, 0, 1), (0, 1, 1, 0)), (2, 3), iterations)
    logits = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert bytes_that_are_kept(decoder.soft_decode, logits, monkeypatch) == 3 * 8 * 8 * 5 * iterations
