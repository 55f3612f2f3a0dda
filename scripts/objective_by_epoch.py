"""Print what a run maximises beside what it is taken for, epoch by epoch: a table of ``docs/reproduction.md``.

    python scripts/objective_by_epoch.py FOLDER … [--epochs 10 30 60]

The runs have at most 16 information bits and were trained with `--save-every-epoch`; rows are those of the test split. The
objective is the bitwise surrogate, the share is that of the images on which it lies above the exact log p(x); it and the
ELBO are means of 20 draws for each image.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from bvae_cli.evaluation.storage import store_and_read
from bvae_cli.model.objective import bitwise_surrogate, elbo, log_likelihood
from bvae_cli.runs import EPOCHS_FOLDER, Run
from bvae_cli.trained import SampleConfig
from bvae_cli.workflows.measuring import prepare

_ROWS = 500
_DRAWS = 20


@torch.no_grad()
def row(folder: Path, epoch: int) -> str:
    """Return a row of the table."""
    weights = folder / EPOCHS_FOLDER / f"epoch_{epoch:04d}.pt"
    rebuilt, x, _ = prepare(SampleConfig(weights=weights, split="test"), frozenset({"weights", "split"}))
    model, generator = rebuilt.model, torch.Generator(x.device).manual_seed(0)
    parts = [rows.to(model.dtype) for rows in x.split(_ROWS)]

    def measured(of_rows: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.cat([of_rows(part) for part in parts]).double()

    exact = measured(lambda part: log_likelihood(model, part))
    # The mean of some draws: of one the ELBO, in which few words cost very much, has a standard error of a nat.
    draws = range(_DRAWS)
    objective = torch.stack([measured(lambda part: bitwise_surrogate(model, part, generator)) for _ in draws]).mean(0)
    bound = torch.stack([measured(lambda part: elbo(model, part, generator)) for _ in draws]).mean(0)
    stored = store_and_read(model, x, 0.0, generator).negative_log_likelihood
    above = float((objective > exact).double().mean())
    seed = (Run(folder).config() or {})["decides"]["seed"]
    figures = [f"{float(values.mean()):.2f}" for values in (objective, bound, exact)]
    return f"| {seed} | {epoch} | {' | '.join(figures)} | {100 * above:.1f} % | {float(stored.mean()):.2f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--epochs", type=int, nargs="+", default=[10, 30, 60])
    arguments = parser.parse_args()
    head = ("seed", "epoch", "objective", "ELBO", "log p(x), exact", "objective above log p(x)", "stored NLL, ε = 0")
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for folder in arguments.folders:
        for epoch in arguments.epochs:
            print(row(folder, epoch), flush=True)


if __name__ == "__main__":
    main()
