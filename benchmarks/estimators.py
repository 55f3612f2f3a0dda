"""Which estimator, activation and schedule: validation negative ELBO (nats, hard bits, true codewords) on MNIST.

Every row is one run of ``bvae train -n 1`` (batch 1000, lr 0.001) with one thing changed. Prints a Markdown table.

    python benchmarks/estimators.py --epochs 30 --seeds 0
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import bvae_cli
from bvae_cli.config import PARAMETER_SETS

_ESTIMATORS = ("reinmax", "gumbel", "gumbel-st", "st", "disarm", "dvae")
_ACTIVATIONS = ("relu", "leaky-relu", "silu", "gelu")


def settings(activation: str) -> list[dict[str, str]]:
    """Return the settings to compare, the base first: ``reinmax`` with an activation and a constant learning rate."""
    base = {"estimator": "reinmax", "activation": activation, "lr_schedule": "constant"}
    rows = [{**base, "estimator": estimator} for estimator in _ESTIMATORS]
    rows += [{**base, "activation": other} for other in _ACTIVATIONS if other != activation]
    return [*rows, *({**base, "lr_schedule": "cosine", "estimator": estimator} for estimator in ("reinmax", "gumbel"))]


def main() -> None:
    """Run every setting with every seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--activation", default="leaky-relu", choices=_ACTIVATIONS, help="activation of the base")
    arguments = parser.parse_args()
    print(f"{PARAMETER_SETS[1]}, {arguments.epochs} epochs, seeds {arguments.seeds}\n")
    print("| estimator | activation | schedule | validation −ELBO (nats) |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for row in settings(arguments.activation):
            losses = [
                bvae_cli.train(
                    params=1,
                    epochs=arguments.epochs,
                    seed=seed,
                    threads=arguments.threads,
                    patience=arguments.epochs,
                    output_dir=Path(folder),
                    **row,
                ).best_validation_loss
                for seed in arguments.seeds
            ]
            shown = ", ".join(f"{loss:.2f}" for loss in losses)
            print(f"| {row['estimator']} | {row['activation']} | {row['lr_schedule']} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
