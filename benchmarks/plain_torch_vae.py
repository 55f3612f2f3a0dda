"""The yardstick: a binary VAE as most people write one in plain PyTorch, to stand beside this project's.

A DataLoader over a TensorDataset, an eager ReLU perceptron with nothing centred, a concrete relaxation, Adam, one
``.item()`` a step. Prints one JSON line: images per second in steady state (the first ten steps left out) and the
validation negative ELBO in nats with hard bits.

    python benchmarks/plain_torch_vae.py --hidden 200 --latent 300 --copies 3 --epochs 30 --seed 0
"""

from __future__ import annotations

import argparse
import json
import math
import time

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from bvae_cli.datasets.binarized_mnist import BinarizedMnist

_WARM_UP_STEPS = 10


class PlainVAE(nn.Module):
    """Encoder and decoder of the usual kind; the logits of the copies of a bit are added."""

    def __init__(self, features: int, hidden: int, latent: int, depth: int, copies: int) -> None:
        super().__init__()
        self.copies = copies
        self.encoder = _perceptron([features, *[hidden] * depth, latent])
        self.decoder = _perceptron([latent, *[hidden] * depth, features])

    def forward(self, x: Tensor, beta: float, temperature: float, hard: bool) -> Tensor:
        """Mean over the batch of −log p(x given c) + β KL."""
        logits = self.encoder(x).unflatten(-1, (-1, self.copies)).sum(-1)
        if hard:
            bits = torch.bernoulli(logits.sigmoid())
        else:
            uniform = torch.rand_like(logits).clamp(1e-6, 1 - 1e-6)
            bits = ((logits + uniform.logit()) / temperature).sigmoid()
        decoded = self.decoder(bits.repeat_interleave(self.copies, -1))
        reconstruction = functional.binary_cross_entropy_with_logits(decoded, x, reduction="none").sum(-1)
        entropy = torch.distributions.Bernoulli(logits=logits, validate_args=False).entropy()
        return (reconstruction + beta * (math.log(2) - entropy).sum(-1)).mean()


def _perceptron(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(len(widths) - 1):
        layers += [nn.Linear(widths[index], widths[index + 1]), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {
        "hidden": 200,
        "latent": 100,
        "depth": 2,
        "copies": 1,
        "batch": 1000,
        "epochs": 3,
        "seed": 0,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    data = BinarizedMnist().load()
    loader = DataLoader(TensorDataset(data.train.float()), batch_size=arguments.batch, shuffle=True)
    model = PlainVAE(data.features, arguments.hidden, arguments.latent, arguments.depth, arguments.copies)
    model.to(arguments.device)
    rate = _train(model, loader, arguments.epochs, arguments.device)
    with torch.no_grad():
        losses = [model(x.float().to(arguments.device), 1.0, 1.0, hard=True).item() for x in data.validation.split(1000)]
    loss = sum(losses) / len(losses)
    print(json.dumps({"images_per_second": round(rate, 1), "validation_negative_elbo": round(loss, 2), **vars(arguments)}))


def _train(model: PlainVAE, loader: DataLoader[tuple[Tensor, ...]], epochs: int, device: str) -> float:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    steps = seen = 0
    started = time.perf_counter()
    for epoch in range(epochs):
        beta, temperature = min(1.0, (epoch + 1) / 10), max(0.4, 0.95**epoch)
        for (batch,) in loader:
            if steps == _WARM_UP_STEPS:
                seen, started = 0, time.perf_counter()
            optimizer.zero_grad()
            loss = model(batch.to(device), beta, temperature, hard=False)
            loss.backward()
            optimizer.step()
            loss.item()
            steps, seen = steps + 1, seen + len(batch)
    return seen / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
