"""Models of equal shape side by side: one batched network whose m-th slice is the m-th model."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bvae_cli.model.adam import across
from bvae_cli.model.bvae import BinaryVAE, CodedAutoencoder
from bvae_cli.model.convolutions import Convolutions
from bvae_cli.model.likelihoods import Likelihood
from bvae_cli.model.networks import CenteredDecoder, CenteredEncoder


class StackedLinear(nn.Module):
    """M linear layers side by side, y_m = x_m W_mᵀ + b_m: ``[M, B, inputs] -> [M, B, outputs]``.

    The layers that it is made of go on as its slices: whatever changes one changes the other.

    >>> alone = [nn.Linear(3, 2) for _ in range(4)]
    >>> x = torch.rand(4, 5, 3)
    >>> torch.allclose(StackedLinear(alone)(x)[1], alone[1](x[1]))
    True
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = stacked([layer.weight for layer in layers])
        self.bias = stacked([layer.bias for layer in layers])

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of every layer for its own inputs."""
        if torch.compiler.is_compiling():  # it adds the bias where it computes what comes after
            return torch.bmm(x, self.weight.mT) + self.bias.unsqueeze(1)
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.mT)


class StackedModule(nn.Module):
    """M modules of equal shape side by side, by ``torch.vmap``: ``[M, B, inputs] -> [M, B, outputs]``; see StackedLinear."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        # In a tuple, so that its own parameters are not taken for this one's.
        self._one = (modules[0],)
        of_each = [dict(module.named_parameters()) for module in modules]
        self._names = tuple(of_each[0])
        for place, name in enumerate(self._names):
            self.register_parameter(f"parameter_{place}", stacked([parameters[name] for parameters in of_each]))

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of every module for its own inputs."""
        parameters = dict(zip(self._names, self.parameters(), strict=True))
        return self._made(parameters, x)

    def _made(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        made: Tensor = torch.vmap(lambda own, rows: functional_call(self._one[0], own, (rows,)))(dict(parameters), x)
        return made


class StackedConvolutions(StackedModule):
    """M stacks of convolutions side by side, in mixed precision too; see StackedModule."""

    def _made(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        device = x.device.type
        if not torch.is_autocast_enabled(device):
            return super()._made(parameters, x)
        # Under vmap autocast casts the inputs of a transposed convolution and leaves its weights as they are.
        dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            return super()._made({name: parameter.to(dtype) for name, parameter in parameters.items()}, x.to(dtype))


class StackedEncoder(CenteredEncoder):
    """M encoders side by side: ``[M, B, E] -> [M, B, N]`` logits of the code bits."""

    def __init__(self, encoders: Sequence[CenteredEncoder]) -> None:
        nn.Module.__init__(self)
        self.register_buffer("mean", torch.stack([encoder.mean for encoder in encoders]).unsqueeze(1))
        self.layers = _stacked_layers([encoder.layers for encoder in encoders])


class StackedDecoder(CenteredDecoder):
    """M decoders side by side: ``[M, B, N] -> [M, B, E]``, what the likelihood takes of a row."""

    def __init__(self, decoders: Sequence[CenteredDecoder]) -> None:
        nn.Module.__init__(self)
        self.layers = _stacked_layers([decoder.layers for decoder in decoders])


class StackedVAE(CodedAutoencoder):
    """M models of one code and equal shape as one: the losses of ``objective`` take it, with M before every batch.

    The models go on as its slices, sharing their memory with it; its parameters have the order and the names of theirs.

    >>> from bvae_cli.codes.repetition import Repetition
    >>> from bvae_cli.model.networks import Architecture
    >>> models = [BinaryVAE(Repetition(R=3).build(12), torch.full((5,), 0.5), Architecture(8, 1)) for _ in range(2)]
    >>> StackedVAE(models).encode(torch.zeros(2, 7, 5)).logits.shape
    torch.Size([2, 7, 4])
    """

    def __init__(self, models: Sequence[BinaryVAE]) -> None:
        encoder = StackedEncoder([model.encoder for model in models])
        likelihoods = [model.likelihood for model in models]
        decoder = StackedDecoder([model.decoder for model in models])
        super().__init__(models[0].code, _stacked_likelihood(likelihoods), encoder, decoder)
        self.autocast_dtype = models[0].autocast_dtype


def stacked(parameters: Sequence[Tensor]) -> nn.Parameter:
    """Return parameters of equal shape as one, ``[...] -> [M, ...]``; they go on as its slices."""
    whole = nn.Parameter(torch.stack([parameter.detach() for parameter in parameters]))
    for parameter, part in zip(parameters, whole.detach(), strict=True):
        parameter.data = part
    return whole


@torch.no_grad()
def clip_gradients(parameters: Sequence[nn.Parameter], largest: Tensor) -> None:
    """Scale the gradients of each of M models down to a norm of at most ``largest`` ``[M]``; 0 leaves a model's alone."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    scales = clipping_scales(gradients, largest)
    for gradient in gradients:
        gradient.mul_(across(scales, gradient))


def clipping_scales(gradients: Sequence[Tensor], largest: Tensor) -> Tensor:
    """Return what scales gradients down to a norm of at most ``largest``, 1 where that is 0; ``[]``, or ``[M]`` of M models.

    The norm is over all the weights of a model, and the formula that of ``torch.nn.utils.clip_grad_norm_``.
    """
    norms = [torch.linalg.vector_norm(gradient.flatten(largest.ndim), dim=-1) for gradient in gradients]
    whole = torch.linalg.vector_norm(torch.stack(norms), dim=0)
    return torch.where(largest > 0, (largest / (whole + 1e-6)).clamp(max=1), 1.0)


def _stacked_layers(networks: Sequence[nn.Sequential]) -> nn.Sequential:
    return nn.Sequential(*[_stacked_layer(list(layers)) for layers in zip(*networks, strict=True)])


def _stacked_likelihood(likelihoods: Sequence[Likelihood]) -> Likelihood:
    """Return likelihoods of one kind as one, whose shared parameters are ``[M, D]``; what they know of data is the same."""
    whole = copy.deepcopy(likelihoods[0])
    for name, _ in likelihoods[0].named_parameters():
        setattr(whole, name, stacked([getattr(likelihood, name) for likelihood in likelihoods]))
    return whole


def _stacked_layer(layers: Sequence[nn.Module]) -> nn.Module:
    if isinstance(layers[0], nn.Linear):
        return StackedLinear([layer for layer in layers if isinstance(layer, nn.Linear)])
    if isinstance(layers[0], Convolutions):
        return StackedConvolutions(layers)
    return StackedModule(layers) if next(layers[0].parameters(), None) is not None else layers[0]
