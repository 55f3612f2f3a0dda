"""Plain lines about a run, the same in its log and on a terminal that shows no bar."""

from __future__ import annotations

from bvae_cli.workflows.fit import EpochStats
from bvae_cli.workflows.planning import Plan


def epoch_line(stats: EpochStats, epochs: int, patience: int) -> str:
    """Return one line for an epoch."""
    best = " best" if stats.improved else ""
    return (
        f"epoch {stats.epoch}/{epochs}  loss {stats.training_loss:.2f}  kl {stats.kl:.2f}  beta {stats.beta:.2f}  "
        f"val_loss {stats.validation_loss:.2f}{best}  patience {stats.epochs_without_improvement}/{patience}  "
        f"{stats.images_per_second:,.0f} images/s"
    )


def plan_lines(plan: Plan, resumed_epoch: int) -> list[str]:
    """Return what is said before the first step: device, data, sizes, folder, and where an unfinished run goes on."""
    lines = [*common_lines(plan), f"folder {plan.folder}{_why_suffixed(plan)}"]
    where = position_in_words(resumed_epoch, plan.resumed_step, plan.steps_per_epoch)
    return [*lines, f"going on {where}"] if resumed_epoch or plan.resumed_step else lines


def common_lines(plan: Plan) -> list[str]:
    """Return those of the plan's lines that are the same for every seed: device, data, sizes."""
    return [
        f"device {plan.device} ({plan.device_reason}), {plan.precision} ({plan.precision_reason}){_products(plan)}",
        *([f"{plan.processes} processes, each with its part of every batch"] if plan.processes > 1 else []),
        f"data {plan.source}: {plan.training_rows:,} training, {plan.validation_rows:,} validation rows",
        *([] if plan.likelihood_note is None else [f"Note: {plan.likelihood_note}"]),
        f"latent N = {plan.latent}, K = {plan.information_bits}, code {plan.code}, rate {plan.rate:.3g}; "
        f"{plan.parameters:,} parameters",
        *([plan.computing] if plan.computing else []),
    ]


def position_in_words(epochs: int, step: int, steps: int) -> str:
    """Say where a training stands: so many epochs are done, and so many of the next one's steps.

    >>> position_in_words(3, 20, 48), position_in_words(3, 0, 48)
    ('after epoch 3, step 20 of 48', 'after epoch 3')
    """
    return f"after epoch {epochs}" + (f", step {step} of {steps}" if step else "")


def _products(plan: Plan) -> str:
    return f", products by {plan.products} ({plan.products_reason})" if plan.device == "cpu" else ""


def _why_suffixed(plan: Plan) -> str:
    suffixed = plan.folder.name.endswith(f"_{plan.digest[:8]}")
    return " (the name without digits holds a run with other settings)" if suffixed else ""
