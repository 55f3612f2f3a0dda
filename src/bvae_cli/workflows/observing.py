"""What a caller hears of a training run: while it goes on, and of how it ended. Nothing here imports torch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bvae_cli.errors import BvaeWarning, InputOutputError
from bvae_cli.runs import RESULT

if TYPE_CHECKING:
    from bvae_cli.workflows.fit import EpochStats
    from bvae_cli.workflows.planning import Plan


@dataclass(frozen=True)
class TrainResult:
    """How a run ended: ``state`` is ``finished``, ``already finished`` or ``diverged``, ``unit`` is that of the loss.

    ``rewinds`` counts how often it diverged and went on from its best epoch with a smaller learning rate.
    ``is_likelihood`` is False where the losses are of grey values and a cross-entropy, None where the run does not say.
    """

    folder: Path
    state: str
    reason: str
    epochs: int
    best_epoch: int
    best_validation_loss: float
    seconds: float
    images_per_second: float
    rewinds: int = 0
    is_likelihood: bool | None = None
    unit: str = "nats per image"


def finished_result(folder: Path, result: Mapping[str, Any]) -> TrainResult:
    """Return how a finished run ended, from what its folder says of it. Raises InputOutputError where that is damaged."""
    fields = {name: result[name] for name in TrainResult.__dataclass_fields__ if name in result}
    try:
        return TrainResult(**{**fields, "folder": folder, "state": "already finished"})
    except TypeError:
        raise InputOutputError(
            f"{folder / RESULT} is damaged: it does not say how the run ended.", "Restore it, or train with --overwrite."
        ) from None


class Observer:
    """What a caller may want to hear while a run goes on; but for notes, each method does nothing until overridden."""

    def on_note(self, sentence: str) -> None:
        """Something that a person should know of the run; a warning until overridden."""
        warnings.warn(sentence, BvaeWarning, stacklevel=2)

    def on_plan(self, plan: Plan, resumed_epoch: int) -> None:
        """Training is about to begin; ``resumed_epoch`` epochs were done before (0 for a new run)."""

    def on_step(self, step: int, steps: int) -> None:
        """A step of the current epoch is done; called often, so be quick."""

    def on_epoch(self, stats: EpochStats) -> None:
        """An epoch is done and recorded."""
