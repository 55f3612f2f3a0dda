"""Adam in one fused call a step, for one model and for several of equal shape side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_BETAS = (0.9, 0.999)
_EPS = 1e-8


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
        self.count = torch.zeros((), device=self.parameters[0].device)
        self.means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in self.parameters]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Take one step along the gradients."""
        self.count += 1
        gradients = [_gradient(parameter) for parameter in self.parameters]
        _fused(self.parameters, gradients, self.means, self.squares, self.count, self.param_groups[0]["lr"])

    def separate(self) -> None:
        """Take moments and count into memory of their own, where they were slices of those of several models."""
        self.count = self.count.clone()
        self.means = [mean.clone() for mean in self.means]
        self.squares = [square.clone() for square in self.squares]

    def state_dict(self) -> dict[str, Any]:
        """Return moments, count and rate, in the form of ``torch.optim.Adam``."""
        moments = enumerate(zip(self.means, self.squares, strict=True))
        return {
            "state": {i: {"step": self.count, "exp_avg": mean, "exp_avg_sq": square} for i, (mean, square) in moments},
            "param_groups": [{"lr": float(self.param_groups[0]["lr"]), "params": list(range(len(self.parameters)))}],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state_dict`` was taken, or that of a ``torch.optim.Adam`` of the same parameters."""
        self.param_groups[0]["lr"] = state["param_groups"][0]["lr"]
        for index, moments in state["state"].items():
            self.means[index].copy_(moments["exp_avg"])
            self.squares[index].copy_(moments["exp_avg_sq"])
            self.count.copy_(moments["step"])


class StackedAdam:
    """Adam over M models, each with its own learning rate and its own count of steps.

    ``parameters`` are stacked, ``[M, ...]`` each; ``optimizers`` are those of the M models, whose moments and counts go on
    as slices of the stacked ones, so that each can take the next step alone.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], optimizers: Sequence[Adam]) -> None:
        self.parameters, self.optimizers = list(parameters), list(optimizers)
        self.counts = torch.stack([optimizer.count for optimizer in optimizers])
        self.means = [torch.stack(means) for means in zip(*[o.means for o in optimizers], strict=True)]
        self.squares = [torch.stack(squares) for squares in zip(*[o.squares for o in optimizers], strict=True)]
        for model, optimizer in enumerate(optimizers):
            optimizer.count = self.counts[model]
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
            _fused(own, slopes, optimizer.means, optimizer.squares, optimizer.count, rates[model])


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _fused(
    parameters: Sequence[Tensor],
    gradients: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    count: Tensor,
    lr: float | Tensor,
) -> None:
    """Change parameters and moments in place by the step of this count."""
    # torch's stubs know a float and a Tensor, each on its own, but not their union.
    fused: Any = torch._fused_adam_
    counts, none = [count] * len(gradients), list[Tensor]()
    fused(
        list(parameters),
        gradients,
        means,
        squares,
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
