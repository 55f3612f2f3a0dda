"""A batch in pieces has the gradient of the batch, and a memory that is too small is found out by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bvae_cli.workflows.pieces import Pieces

from .test_fit import bits, epochs_of, make, model_of


class Small:
    """A linear model in a memory that holds so many rows; its loss is the mean of Σ w x + noise."""

    def __init__(self, rows: int) -> None:
        self.rows, self.weights, self.batches = rows, torch.arange(1.0, 4.0).requires_grad_(), list[int]()

    def forget(self) -> None:
        self.weights.grad = None

    def backward(self, x: Tensor, uniform: Tensor, share: float) -> Tensor:
        self.batches.append(len(x))
        if len(x) > self.rows:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        loss = ((x @ self.weights) + uniform.sum(-1)).mean() * share
        loss.backward()  # type: ignore[no-untyped-call]
        return torch.stack([loss.detach(), uniform.mean() * share])


@pytest.mark.parametrize(("rows", "count", "batches"), [(7, 1, [7]), (4, 2, [7, 4, 3]), (2, 4, [7, 4, 2, 2, 2, 1])])
def test_a_batch_is_halved_until_it_fits_and_its_gradient_is_that_of_the_whole(
    rows: int, count: int, batches: list[int]
) -> None:
    draw = torch.Generator().manual_seed(0)
    x, uniform = torch.rand(7, 3, generator=draw), torch.rand(7, 2, generator=draw)
    model, told = Small(rows), list[int]()
    pieces = Pieces(told.append)
    loss, kl = pieces.gradient(x, uniform, model.forget, model.backward)
    assert model.batches == batches
    assert (pieces.count, told) == (count, [2**power for power in range(1, count.bit_length())])
    torch.testing.assert_close(model.weights.grad, x.mean(0))
    torch.testing.assert_close(loss, (x @ model.weights.detach() + uniform.sum(-1)).mean())
    torch.testing.assert_close(kl, uniform.mean())
    model.batches.clear()
    pieces.gradient(x, uniform, model.forget, model.backward)
    assert len(model.batches) == count  # the next batch begins with what the last one has found


def test_where_a_single_row_is_too_much_the_error_is_raised() -> None:
    model = Small(0)
    with pytest.raises(RuntimeError, match="out of memory"):
        Pieces().gradient(torch.ones(5, 3), torch.ones(5, 2), model.forget, model.backward)
    assert model.batches == [5, 3, 2, 1]


def test_another_failure_is_not_taken_for_a_full_memory() -> None:
    def fail(x: Tensor, uniform: Tensor, share: float) -> Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    pieces = Pieces()
    with pytest.raises(RuntimeError, match="multiplied"):
        pieces.gradient(torch.ones(5, 3), torch.ones(5, 2), lambda: None, fail)
    assert pieces.count == 1


@pytest.mark.parametrize("options", [{}, {"estimator": "gumbel", "sampling": "bitwise", "grad_clip": 0.1}])
def test_a_training_in_pieces_is_the_training_but_for_the_rounding_of_sums(options: dict[str, object]) -> None:
    whole, divided = (make(model=model_of(bits()).double(), epochs=2, **options) for _ in range(2))
    divided.pieces.count = 3
    for one, other in zip(epochs_of(whole), epochs_of(divided), strict=True):
        assert one.validation_loss == pytest.approx(other.validation_loss, rel=1e-12)
    for name, value in whole.weights().items():
        torch.testing.assert_close(divided.weights()[name], value, rtol=1e-9, atol=1e-12)


# The process takes as much of addresses as it has and some more, less than a step on the whole batch takes.
_IN_A_SMALL_MEMORY = """
import resource, torch
torch.set_num_threads(1)
from bvae_cli.codes.uncoded import Uncoded
from bvae_cli.model.bvae import BinaryVAE
from bvae_cli.model.networks import Architecture
from bvae_cli.workflows.fit import Fit

def fit():
    torch.manual_seed(0)
    model = BinaryVAE(Uncoded().build(20), torch.full((1000,), 0.5), Architecture(hidden=1000, depth=2)).double()
    rows = torch.rand(4000, 1000, generator=torch.Generator().manual_seed(0)).lt(0.5).to(torch.uint8)
    return Fit(model, rows, rows[:10], epochs=1, batch_size=4000, lr=0.001)

whole, small = fit(), fit()
next(iter(small.__class__.__iter__(fit())))  # what the first step of a process takes is there
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
left, limit = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (taken + 150_000_000, limit))
told = []
small.pieces.on_halved = told.append
next(iter(small))
resource.setrlimit(resource.RLIMIT_AS, (left, limit))
next(iter(whole))
assert told and told[0] == 2, told
for name, value in whole.weights().items():
    torch.testing.assert_close(small.weights()[name], value, rtol=1e-9, atol=1e-12)
print(told[-1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_real_memory_that_is_too_small_for_a_batch_takes_it_in_pieces(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _IN_A_SMALL_MEMORY], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 2
