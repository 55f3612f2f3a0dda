"""The recursion over the states of a register: how much it keeps, and how many rows it takes at once."""

from __future__ import annotations

import pytest
import torch

from bvae_cli.codes import forward_backward
from bvae_cli.codes.forward_backward import NearestPath, Register, RegisterPosterior
from tests.helpers import bytes_that_are_kept


@pytest.mark.parametrize(("tail_biting", "starts", "steps"), [(True, 4, 6), (False, 1, 8)])
def test_what_a_gradient_would_keep_is_eight_numbers_for_every_start_state_and_step(
    tail_biting: bool, starts: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    register = Register((0b101, 0b111), 2, 6, tail_biting=tail_biting)
    assert (register.states, register.starts, register.steps) == (4, starts, steps)
    logits = torch.randn(3, 2 * steps, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kept = bytes_that_are_kept(RegisterPosterior(register).soft_decode, logits, monkeypatch)
    assert kept == 3 * 8 * 8 * 4 * starts * steps


@pytest.mark.parametrize("tail_biting", [True, False])
def test_rows_that_are_decoded_one_by_one_are_decoded_as_all_at_once(
    tail_biting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    register = Register((0b101, 0b111), 2, 6, tail_biting=tail_biting)
    logits = torch.randn(9, 2 * register.steps, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    whole, bits = RegisterPosterior(register).soft_decode(logits), torch.zeros(9, 2 * register.steps)
    assert register.rows_at_once(8, 8) > 9
    monkeypatch.setattr(forward_backward, "_KEPT_BYTES", 0)
    assert register.rows_at_once(8, 8) == 1
    assert torch.allclose(RegisterPosterior(register).soft_decode(logits), whole, rtol=0, atol=1e-13)
    assert not NearestPath(register).decode(bits, torch.Generator()).any()
