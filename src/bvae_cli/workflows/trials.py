"""How fast runs are trained as one model: measured on a few steps of models that nobody keeps."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bvae_cli.errors import DivergedError
from bvae_cli.workflows.fit_many import FitMany
from bvae_cli.workflows.parts import ManyRun, fits_of

# So many rows or more, in whole steps, are a trial's epoch; fewer would make too much of what an epoch costs by itself.
_ROWS, _FEWEST_STEPS = 1024, 2
_FOREVER = 2**31 - 1


def trial_rows(run: ManyRun) -> int:
    """Return how many rows an epoch of a trial has."""
    steps = max(_FEWEST_STEPS, -(-_ROWS // run.config.batch_size))
    return min(len(run.prepared.splits.train), steps * run.config.batch_size)


class Trial:
    """So many models like that of a run, trained as one on a few of its rows, with the threads that torch has.

    The first epoch, in which memory is found and threads wake, is done and forgotten.
    """

    def __init__(self, run: ManyRun, models: int) -> None:
        # Neither patience nor the last epoch ends it; divergence does, and at once.
        endless = run.config.model_copy(update={"epochs": _FOREVER, "patience": _FOREVER, "on_divergence": "stop"})
        splits, device = run.prepared.splits, run.prepared.plan.device
        rows = trial_rows(run)
        # In proportion, so that validation counts as it does in training.
        validation_rows = max(1, round(len(splits.validation) * rows / len(splits.train)))
        train = splits.train[:rows].to(device)
        validation = splits.validation[:validation_rows].to(device)
        copies = [ManyRun(run.index, endless, run.prepared)] * models
        fits = fits_of(copies, train, validation, compiled=run.config.compile == "on")
        self._images = models * rows
        self._epochs: Iterator[object] = iter(fits[0] if models == 1 else FitMany(fits))
        self._train()

    def images_per_second(self, seconds: float) -> float:
        """Train for about so long, an epoch at least; return the images of all models together that a second takes."""
        started, images = time.perf_counter(), 0
        while self._train():
            images += self._images
            taken = time.perf_counter() - started
            if taken >= seconds:
                return images / taken
        return 0.0  # it has diverged

    def _train(self) -> bool:
        try:
            return next(self._epochs, None) is not None
        except DivergedError:
            return False
