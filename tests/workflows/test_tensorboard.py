"""TensorBoard's events, where it is installed: the lanes of CI ask for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ..cli.conftest import TINY
from ..outcome import Bvae

if not os.environ.get("TESTS_NEED_TENSORBOARD"):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")


def test_every_epoch_is_an_event(bvae: Bvae, workplace: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = Path(bvae("train", *TINY, "--tensorboard", "--json").succeeded().json()["folder"])
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    record = (run / "loss_record_with.txt").read_text(encoding="utf-8").splitlines()[1:]
    losses = [event.value for event in events.Scalars("validation_loss")]
    assert losses == pytest.approx([float(line.split()[1]) for line in record], rel=1e-6)
