"""Plain lines about a run, the same in its log and on a terminal that shows no bar."""

from __future__ import annotations

from bvae_cli.workflows.fit import EpochStats


def epoch_line(stats: EpochStats, epochs: int, patience: int) -> str:
    """Return one line for an epoch."""
    best = " best" if stats.improved else ""
    return (
        f"epoch {stats.epoch}/{epochs}  loss {stats.training_loss:.2f}  kl {stats.kl:.2f}  beta {stats.beta:.2f}  "
        f"val_loss {stats.validation_loss:.2f}{best}  patience {stats.epochs_without_improvement}/{patience}  "
        f"{stats.images_per_second:,.0f} images/s"
    )
