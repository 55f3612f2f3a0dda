"""A whole step as one function of tensors, the optimizer's part included, for a compiler to fuse."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bvae_cli.errors import UsageError
from bvae_cli.model.adam import Adam, StackedAdam, across, adam_
from bvae_cli.model.batched import clipping_scales
from bvae_cli.model.bvae import CodedAutoencoder
from bvae_cli.model.objective import training_losses

# Each shape of model or batch is a compilation of the same function; beyond torch's own limit it would stop compiling.
_SHAPES_OF_A_PROCESS = 256


class Objective(nn.Module):
    """The mean training loss of a batch as a module, so that weights can be exchanged for others of their shapes.

    ``(x [..., B, D], uniform [..., B, noise_bits], beta, temperature) -> ([...], [...])``: loss and KL, in nats per row.
    ``x`` may be uint8. Of M models side by side all have a leading M, and β, w and the temperature the shapes of
    ``Losses.total``.
    """

    def __init__(
        self,
        model: CodedAutoencoder,
        estimator: str,
        sampling: str,
        consistency_weight: float | Tensor = 0.0,
        channel_epsilon: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.estimator, self.sampling, self.consistency_weight = estimator, sampling, consistency_weight
        self.channel_epsilon = channel_epsilon

    def forward(self, x: Tensor, uniform: Tensor, beta: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean loss and the mean KL of each model's batch."""
        x = x.to(self.model.dtype)
        losses = training_losses(self.model, x, uniform, self.estimator, self.sampling, temperature, self.channel_epsilon)
        return losses.total(beta, self.consistency_weight), losses.kl.mean(-1)


def whole_step(
    objective: Objective,
    grad_clip: Tensor | None,
    parameters: Sequence[Tensor],
    means: Sequence[Tensor],
    squares: Sequence[Tensor],
    counts: Tensor,
    rates: Tensor,
    x: Tensor,
    uniform: Tensor,
    beta: Tensor,
    temperature: Tensor,
) -> Tensor:
    """Take a step of a model, or of M side by side, in place; return the sums of loss and KL over the batch, ``[..., 2]``.

    ``parameters`` and Adam's moments are those of the objective's model, without gradients; ``counts``, ``rates`` and
    ``grad_clip`` (the largest norm, 0 for none) are ``[]``, or ``[M]`` of M models.
    """
    names = [name for name, _ in objective.named_parameters()]

    def loss_of(weights: list[Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        exchanged = dict(zip(names, weights, strict=True))
        loss, kl = torch.func.functional_call(objective, exchanged, (x, uniform, beta, temperature))
        # No model's loss depends on another's weights, so the gradient of the sum is each one's own.
        return loss.sum(), (loss, kl)

    gradients, (loss, kl) = torch.func.grad(loss_of, has_aux=True)(list(parameters))
    if grad_clip is not None:
        scales = clipping_scales(gradients, grad_clip)
        gradients = [gradient * across(scales, gradient) for gradient in gradients]
    adam_(parameters, gradients, means, squares, counts, rates)
    return torch.stack([loss, kl], dim=-1) * x.shape[-2]


class CompiledStep:
    """The step of a model, or of M side by side, compiled as one for the shape of the first batch.

    Raises UsageError at the first batch where the compiler fails.
    """

    def __init__(self, objective: Objective, optimizer: Adam | StackedAdam, grad_clip: Tensor | None) -> None:
        self._objective, self._optimizer, self._grad_clip = objective, optimizer, grad_clip
        self._shape: torch.Size | None = None
        import torch._dynamo.config as limits  # importing torch's compiler takes longer than a short training

        name = "recompile_limit" if hasattr(limits, "recompile_limit") else "cache_size_limit"  # as torch 2.6 calls it
        setattr(limits, name, max(getattr(limits, name), _SHAPES_OF_A_PROCESS))
        self._step = torch.compile(whole_step, dynamic=False, fullgraph=True)

    def takes(self, x: Tensor) -> bool:
        """Say whether the batch has the shape of the first one, for which alone the step is compiled."""
        return self._shape is None or x.shape == self._shape

    @torch.no_grad()
    def __call__(self, x: Tensor, uniform: Tensor, rates: Tensor, beta: Tensor, temperature: Tensor) -> Tensor:
        """Take a step with Adam's rates; return the sums of loss and KL over the batch, ``[..., 2]``."""
        optimizer = self._optimizer
        arguments = (
            self._objective,
            self._grad_clip,
            [parameter.detach() for parameter in optimizer.parameters],
            optimizer.means,
            optimizer.squares,
            optimizer.counts,
            rates,
            x,
            uniform,
            beta,
            temperature,
        )
        if self._shape is not None:
            taken: Tensor = self._step(*arguments)
            return taken
        # A code brings its tables to the device when they are first asked for, and that cannot be compiled.
        self._objective(x, uniform, beta, temperature)
        try:
            with warnings.catch_warnings():
                # The precision of products is what was asked for, and nothing that a user could do better.
                warnings.filterwarnings("ignore", "TensorFloat32 tensor cores")
                taken = self._step(*arguments)
        except Exception as error:  # whatever a compiler of another's making may raise
            # torch's own first line only says which backend it was that raised.
            lines = [line for line in str(error).splitlines() if line.strip() and not line.endswith("raised:")]
            said = lines[0].strip().rstrip(":.") if lines else type(error).__name__
            raise UsageError(
                f"The step cannot be compiled: {said}.", "Leave --compile out, or say --compile off."
            ) from error
        self._shape = x.shape
        return taken
