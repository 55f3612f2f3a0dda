"""Adam in one fused call a step, for one model and for several of equal shape side by side, and as plain arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_BETAS = (0.9, 0.999)
_EPS = 1e-8
# On a GPU the fused kernel gives each block of threads 65,536 values, so that a small network keeps few of them busy.
_VALUES_OF_A_PIECE = 1 << 14
_MOST_VALUES_IN_PIECES = 1 << 21


class Adam:
    """Kingma & Ba 2015, arXiv:1412.6980, algorithm 1: β₁ = 0.9, β₂ = 0.999, ε = 1e-8, no weight decay.

    With the gradient g of step t, m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², and each weight falls by
    α (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε). The states that it gives and takes are those of ``torch.optim.Adam``, whose
    kernel it calls. It is not that class because building one imports torch's compiler, which takes longer than a short
    training, and because several models side by side need a rate and a count each (see ``StackedAdam``).

    ``param_groups`` has the form that ``torch.amp.GradScaler`` expects of an optimizer; its ``lr`` may be a tensor without
    dimensions, which a captured step can be given anew.

    >>> weight = nn.Parameter(torch.zeros(2))
    >>> adam = Adam([weight], lr=0.1)
    >>> (weight * torch.tensor([1.0, -3.0])).sum().backward()
    >>> adam.step()
    >>> weight.detach()
    tensor([-0.1000,  0.1000])
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float | Tensor) -> None:
        self.parameters = list(parameters)
        self.param_groups: list[dict[str, Any]] = [{"params": self.parameters, "lr": lr}]
        self.counts = torch.zeros((), device=self.parameters[0].device)
        self.means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in self.parameters]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Take one step along the gradients."""
        self.counts += 1
        gradients = [_gradient(parameter) for parameter in self.parameters]
        _fused(self.parameters, gradients, self.means, self.squares, self.counts, self.param_groups[0]["lr"])

    def separate(self) -> None:
        """Take moments and count into memory of their own, where they were slices of those of several models."""
        self.counts = self.counts.clone()
        self.means = [mean.clone() for mean in self.means]
        self.squares = [square.clone() for square in self.squares]

    def restart(self) -> None:
        """Forget moments and count, in place."""
        for values in (self.counts, *self.means, *self.squares):
            values.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Return moments, count and rate, in the form of ``torch.optim.Adam``."""
        moments = enumerate(zip(self.means, self.squares, strict=True))
        return {
            "state": {i: {"step": self.counts, "exp_avg": mean, "exp_avg_sq": square} for i, (mean, square) in moments},
            "param_groups": [{"lr": float(self.param_groups[0]["lr"]), "params": list(range(len(self.parameters)))}],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state_dict`` was taken, or that of a ``torch.optim.Adam`` of the same parameters."""
        self.param_groups[0]["lr"] = state["param_groups"][0]["lr"]
        for index, moments in state["state"].items():
            self.means[index].copy_(moments["exp_avg"])
            self.squares[index].copy_(moments["exp_avg_sq"])
            self.counts.copy_(moments["step"])


class StackedAdam:
    """Adam over M models, each with its own learning rate and its own count of steps.

    ``parameters`` are stacked, ``[M, ...]`` each; ``optimizers`` are those of the M models, whose moments and counts go on
    as slices of the stacked ones, so that each can take the next step alone.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], optimizers: Sequence[Adam]) -> None:
        self.parameters, self.optimizers = list(parameters), list(optimizers)
        self.counts = torch.stack([optimizer.counts for optimizer in optimizers])
        self.means = [torch.stack(means) for means in zip(*[o.means for o in optimizers], strict=True)]
        self.squares = [torch.stack(squares) for squares in zip(*[o.squares for o in optimizers], strict=True)]
        for model, optimizer in enumerate(optimizers):
            optimizer.counts = self.counts[model]
            optimizer.means = [mean[model] for mean in self.means]
            optimizer.squares = [square[model] for square in self.squares]
        self._in_step = bool((self.counts == self.counts[0]).all())

    @torch.no_grad()
    def step(self, rates: Tensor, equal: bool = False) -> None:
        """Take one step along the gradients; ``rates`` are the learning rates α, ``[M]``, ``equal`` says that all are one.

        Models of one rate and one count take it in one call, others in a call each.
        """
        self.counts += 1
        gradients = [_gradient(parameter) for parameter in self.parameters]
        if equal and self._in_step:
            _fused(self.parameters, gradients, self.means, self.squares, self.counts[0], rates[0])
            return
        for model, optimizer in enumerate(self.optimizers):
            own = [parameter[model] for parameter in self.parameters]
            slopes = [gradient[model] for gradient in gradients]
            _fused(own, slopes, optimizer.means, optimizer.squares, optimizer.counts, rates[model])


def adam_(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    means: Sequence[Tensor],
    squares: Sequence[Tensor],
    counts: Tensor,
    rates: Tensor,
) -> None:
    """Take a step of ``Adam`` in place, in arithmetic that a compiler can fuse with what computes the gradients.

    ``counts`` (the steps taken before, counted on here) and ``rates`` are ``[]``, or ``[M]`` where all else has a leading M.
    """
    counts += 1
    # 1 − βᵗ, without losing digits where t is small
    taken = counts.to(means[0].dtype)
    first, second = (-torch.expm1(taken * math.log(beta)) for beta in _BETAS)
    for parameter, gradient, mean, square in zip(parameters, gradients, means, squares, strict=True):
        mean.lerp_(gradient, 1 - _BETAS[0])
        square.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
        size = across(rates.to(first.dtype) / first, parameter)
        parameter.sub_(size * mean / ((square / across(second, parameter)).sqrt() + _EPS))


def across(values: Tensor, like: Tensor) -> Tensor:
    """Return one value for each model in a shape that broadcasts over its weights, ``[M] -> [M, 1, ...]``, ``[] -> []``."""
    return values.reshape(values.shape + (1,) * (like.ndim - values.ndim if values.ndim else 0)).to(like.dtype)


def _in_pieces(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return views of the same values, as many as keep a GPU busy."""
    return [piece for tensor in tensors for piece in tensor.reshape(-1).split(_VALUES_OF_A_PIECE)]


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _fused(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    means: Sequence[Tensor],
    squares: Sequence[Tensor],
    count: Tensor,
    lr: float | Tensor,
) -> None:
    """Change parameters and moments in place by the step of this count."""
    # torch's stubs know a float and a Tensor, each on its own, but not their union.
    fused: Any = torch._fused_adam_
    if count.is_cuda and sum(parameter.numel() for parameter in parameters) <= _MOST_VALUES_IN_PIECES:
        parameters, gradients, means, squares = map(_in_pieces, (parameters, gradients, means, squares))
    counts, none = [count] * len(gradients), list[Tensor]()
    fused(
        list(parameters),
        list(gradients),
        list(means),
        list(squares),
        none,
        counts,
        lr=lr,
        beta1=_BETAS[0],
        beta2=_BETAS[1],
        weight_decay=0.0,
        eps=_EPS,
        amsgrad=False,
        maximize=False,
    )
