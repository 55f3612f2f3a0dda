"""The implementations that are measured: each is built from a setting, and then does work in units.

A contender is an iterator: each ``next`` does one unit of work (a step, or an epoch) and gives how much it was: images, or
FLOP for the matrix products. One that cannot be had here raises ``MissingError`` with the reason.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bvae_cli import processor
from bvae_cli.config import parse_code
from bvae_cli.datasets.binarized_mnist import BinarizedMnist
from bvae_cli.model.likelihoods import bernoulli_beginning
from bvae_cli.model.networks import Architecture
from bvae_cli.workflows.building import build_code, new_model
from bvae_cli.workflows.choosing import compiler_problem
from bvae_cli.workflows.fit import Fit
from bvae_cli.workflows.fit_many import FitMany

sys.path.insert(0, str(Path(__file__).parents[1]))
from plain_torch_vae import PlainVAE

from timing.setting import Setting
from timing.summary import FEATURES

Work = Iterator[float]
_ENOUGH_EPOCHS = 1_000_000
_PYTHAE_BATCHES = 20
# An epoch that just misses the end of a turn makes it longer by this share only.
_SHARE_OF_A_TURN = 0.3


class MissingError(Exception):
    """A contender that cannot be measured here, and why."""


def training_rows(setting: Setting) -> Tensor:
    """Return rows of the bundled binarised MNIST, uint8 ``[rows, 784]`` on the device."""
    rows = BinarizedMnist().load().train
    return rows[: setting.rows or len(rows)].to(setting.device)


def work_of(setting: Setting) -> Work:
    """Return the work of a setting. Raises MissingError where it cannot be had."""
    if setting.device.startswith("cuda") and not torch.cuda.is_available():
        raise MissingError("no CUDA device is there")
    return CONTENDERS[setting.implementation](setting)


def fits_of(
    setting: Setting,
    train: Tensor,
    validation: Tensor,
    precision: torch.dtype | None,
    seeds: Sequence[int],
    compiled: bool = False,
) -> list[Fit]:
    """Return the training runs that ``bvae train`` would take with this setting, its defaults and these seeds."""
    code = build_code(parse_code(setting.code), setting.latent)
    begins = bernoulli_beginning(train.float().mean(0).cpu())
    architecture = Architecture(setting.hidden, setting.depth)
    fits = []
    for seed in seeds:
        model = new_model(code, begins, architecture, seed).to(setting.device)
        model.autocast_dtype = precision
        fits.append(
            Fit(
                model,
                train,
                validation,
                epochs=_ENOUGH_EPOCHS,
                patience=_ENOUGH_EPOCHS,
                batch_size=setting.batch,
                lr=0.001,
                seed=seed,
                compiled=compiled,
            )
        )
    return fits


def ours(precision: torch.dtype | None, compiled: bool = False) -> Callable[[Setting], Work]:
    """Return our training in a precision (None is float32), in epochs without validation; or as ``--compile on`` has it."""

    def work(setting: Setting) -> Work:
        problem = compiler_problem(setting.device) if compiled else None
        if problem is not None:
            raise MissingError(problem)
        processor.prepare(setting.threads)
        train = training_rows(setting)
        few = train[: 2 * setting.batch]
        (trial,) = fits_of(setting, few, few[:1], precision, [setting.seed], compiled)
        rows = _rows_of_an_epoch(trial, setting, len(train))
        (fit,) = fits_of(setting, train[:rows], train[:1], precision, [setting.seed], compiled)
        while True:
            fit.train_epoch()
            yield rows

    return work


def ours_many(precision: torch.dtype | None, compiled: bool = False) -> Callable[[Setting], Work]:
    """Return our training of several seeds as one model; the images of all seeds are counted.

    An epoch is validated on one row of each: what that takes is within what is measured.
    """

    def work(setting: Setting) -> Work:
        processor.prepare(setting.threads)
        train = training_rows(setting)
        fits = fits_of(setting, train, train[:1], precision, range(setting.models), compiled)
        for _ in FitMany(fits):
            yield len(train) * setting.models

    return work


def short_run(setting: Setting) -> Work:
    """Return runs of one epoch with its validation, each of a fresh model: the arithmetic of ``bvae train --epochs 1``."""
    processor.prepare(setting.threads)
    splits = BinarizedMnist().load()
    while True:
        (fit,) = fits_of(setting, splits.train[: setting.rows], splits.validation, None, [setting.seed])
        next(iter(fit))
        yield 1


def _rows_of_an_epoch(trial: Fit, setting: Setting, most: int) -> int:
    """Return how many rows take about a third of a turn, in whole batches, from a trial on few rows."""
    trial.train_epoch()
    started = time.perf_counter()
    trial.train_epoch()
    rate = len(trial.train) / (time.perf_counter() - started)
    batches = max(2, round(_SHARE_OF_A_TURN * rate * setting.seconds / setting.batch))
    return min(most, batches * setting.batch)


def yardstick(setting: Setting) -> Work:
    """``plain_torch_vae.py``, step by step: DataLoader, eager step, Adam, one ``.item()`` a step."""
    from torch.utils.data import DataLoader, TensorDataset

    code = parse_code(setting.code)
    copies = int(code.options.get("R", 1)) if code.type == "repetition" else 1
    torch.manual_seed(setting.seed)
    train = BinarizedMnist().load().train[: setting.rows or None].float()
    loader = DataLoader(TensorDataset(train), batch_size=setting.batch, shuffle=True)
    model = PlainVAE(train.shape[1], setting.hidden, setting.latent, setting.depth, copies).to(setting.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    while True:
        for (batch,) in loader:
            optimizer.zero_grad()
            loss = model(batch.to(setting.device), 1.0, 0.5, hard=False)
            loss.backward()
            optimizer.step()
            loss.item()
            yield len(batch)


def compiled_loop(setting: Setting) -> Work:
    """The yardstick's model in a loop by hand: data as one tensor, everything compiled, nothing read in between.

    Loss and its gradient are one compiled graph, Adam's step another. A last batch that is not whole is left out, because
    another shape would be compiled anew.
    """
    torch.manual_seed(setting.seed)
    train = training_rows(setting)
    model = PlainVAE(train.shape[1], setting.hidden, setting.latent, setting.depth, 1).to(setting.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    mode = "reduce-overhead" if setting.device.startswith("cuda") else "default"

    def loss_of(x: Tensor) -> Tensor:
        loss: Tensor = model(x.float(), 1.0, 0.5, hard=False)
        return loss

    compiled_loss = torch.compile(loss_of, fullgraph=True, mode=mode)
    compiled_update = torch.compile(optimizer.step)
    for epoch in range(_ENOUGH_EPOCHS):
        order = torch.randperm(len(train), device=setting.device)
        for start in range(0, len(train) - setting.batch + 1, setting.batch):
            loss = compiled_loss(train.index_select(0, order[start : start + setting.batch]))
            loss.backward()
            compiled_update()
            optimizer.zero_grad()
            yield setting.batch
        if epoch == 0 and len(train) < setting.batch:
            raise MissingError("the data are smaller than a batch")


def pythae(setting: Setting) -> Work:
    """pythae's ``VAE`` with networks of the same widths, trained by its own trainer, an epoch at a time.

    An epoch is of a few batches, so that it fits in a turn. The latent is Gaussian (it has no binary one): the last layer of
    the encoder gives means and log variances, so there are hidden × N weights more.
    """
    if importlib.util.find_spec("pythae") is None:
        raise MissingError("pythae is not installed (pip install pythae)")
    logging.disable(logging.INFO)
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    class Encoder(BaseEncoder):
        def __init__(self, features: int) -> None:
            super().__init__()
            self.layers = _hidden_layers(features, setting)
            self.means = nn.Linear(setting.hidden, setting.latent)
            self.log_variances = nn.Linear(setting.hidden, setting.latent)

        def forward(self, x: Tensor) -> Any:
            hidden = self.layers(x)
            return ModelOutput(embedding=self.means(hidden), log_covariance=self.log_variances(hidden))

    class Decoder(BaseDecoder):
        def __init__(self, features: int) -> None:
            super().__init__()
            self.layers = nn.Sequential(_hidden_layers(setting.latent, setting), nn.Linear(setting.hidden, features))

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.layers(z).sigmoid())

    train = BinarizedMnist().load().train[: setting.rows or _PYTHAE_BATCHES * setting.batch].float()
    features = train.shape[1]
    config = VAEConfig(input_dim=(features,), latent_dim=setting.latent, reconstruction_loss="bce")
    with tempfile.TemporaryDirectory() as folder:
        trainer = BaseTrainer(
            VAE(config, Encoder(features), Decoder(features)),
            BaseDataset(train, torch.zeros(len(train))),
            training_config=BaseTrainerConfig(
                output_dir=folder,
                learning_rate=1e-3,
                per_device_train_batch_size=setting.batch,
                no_cuda=not setting.device.startswith("cuda"),
                seed=setting.seed,
            ),
        )
        trainer.prepare_training()
        for epoch in range(1, _ENOUGH_EPOCHS):
            trainer.callback_handler.on_epoch_begin(
                training_config=trainer.training_config, epoch=epoch, train_loader=trainer.train_loader, eval_loader=None
            )
            trainer.train_step(epoch)
            yield len(train)


def _hidden_layers(inputs: int, setting: Setting) -> nn.Sequential:
    widths = [inputs, *[setting.hidden] * setting.depth]
    return nn.Sequential(*[layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.ReLU())])


def matrix_product(dtype: torch.dtype) -> Callable[[Setting], Work]:
    """Return square products of the side and by the library that are fastest here: the ceiling, in FLOP."""

    def work(setting: Setting) -> Work:
        processor.prepare(setting.threads)
        sides = (256,) if setting.rows else (1024, 2048, 4096) if setting.device == "cpu" else (4096, 8192)
        best = (0.0, sides[0])
        for side in sides:
            one = torch.randn(side, side, device=setting.device).to(dtype)
            float((one @ one).sum())
            started = time.perf_counter()
            float((one @ one)[0, 0])
            best = max(best, (side**3 / (time.perf_counter() - started), side))
        side = best[1]
        one = torch.randn(side, side, device=setting.device).to(dtype)
        other, product = one.T.contiguous(), torch.empty_like(one)
        while True:
            torch.mm(one, other, out=product)
            yield 2.0 * side**3

    return work


def products_alone(dtype: torch.dtype) -> Callable[[Setting], Work]:
    """Return the matrix products of a training step, of its very shapes, and nothing else of it; by our library for them."""

    def work(setting: Setting) -> Work:
        processor.prepare(setting.threads)

        def values(rows: int, columns: int) -> Tensor:
            return torch.randn(rows, columns, device=setting.device).to(dtype)

        widths = [FEATURES, *[setting.hidden] * setting.depth, setting.latent]
        pairs = [*pairwise(widths), *pairwise(reversed(widths))]
        layers = [(values(setting.batch, one), values(one, other), values(setting.batch, other)) for one, other in pairs]
        while True:
            for inputs, weights, gradients in layers:
                inputs @ weights
                inputs.T @ gradients
            for _, weights, gradients in layers[1:]:
                gradients @ weights.T
            yield setting.batch

    return work


CONTENDERS: dict[str, Callable[[Setting], Work]] = {
    "yardstick": yardstick,
    "compiled": compiled_loop,
    "pythae": pythae,
    "ours-fp32": ours(None),
    "ours-bf16": ours(torch.bfloat16),
    "ours-compiled-fp32": ours(None, compiled=True),
    "ours-compiled-bf16": ours(torch.bfloat16, compiled=True),
    "many-fp32": ours_many(None),
    "many-bf16": ours_many(torch.bfloat16),
    "many-compiled-bf16": ours_many(torch.bfloat16, compiled=True),
    "short-run": short_run,
    "matmul-fp32": matrix_product(torch.float32),
    "matmul-bf16": matrix_product(torch.bfloat16),
    "products-fp32": products_alone(torch.float32),
    "products-bf16": products_alone(torch.bfloat16),
}
# Those whose unit of work is an epoch, or many steps.
EPOCH_BY_EPOCH = (*[name for name in CONTENDERS if name.startswith(("ours", "many"))], "pythae", "short-run")
