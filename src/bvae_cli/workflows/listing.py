"""Find runs and say in a line what each is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bvae_cli import registry, runs
from bvae_cli.checkpoints import is_later
from bvae_cli.config import PluginRef, TrainConfig
from bvae_cli.errors import BvaeError, InputOutputError

# What a line says of a run elsewhere, and what follows from that.
_TOLD_ELSEWHERE = {"ecc", "code_digest", "data", "seed"}


@dataclass(frozen=True)
class RunSummary:
    """One run: what it trains, how far it is, and its best validation loss in nats per row (None before the first).

    ``settings`` are the other options that decide its numbers, by name.
    """

    folder: Path
    code: str
    data: str
    seed: int | None
    epochs: int
    best_epoch: int | None
    best_validation_loss: float | None
    state: str
    settings: dict[str, Any]


def differing(found: Sequence[RunSummary]) -> list[str]:
    """Return for each run the settings that are not the same in all of them, as ``lr=0.01 channel_epsilon=0.05``."""
    names = sorted({name for run in found for name in run.settings})
    # A run of an older version does not name an option that came later: it had what is the default since.
    values = {
        name: [
            run.settings.get(name, field.default if (field := TrainConfig.model_fields.get(name)) else None) for run in found
        ]
        for name in names
    }
    differ = [name for name in names if any(value != values[name][0] for value in values[name])]
    return [" ".join(f"{name}={values[name][place]}" for name in differ) for place in range(len(found))]


def summarize_runs(folder: Path) -> list[RunSummary]:
    """Return a summary of every run below ``folder``; one that is damaged or of a later version says so in its state."""
    return [_summarize(run) for run in runs.find_runs(folder)]


def _summarize(run: runs.Run) -> RunSummary:
    config = run.config() or {}
    code, data, decides = (_table(config.get(name)) for name in ("code", "data", "decides"))
    seed = decides.get("seed")
    state = str(run.state())
    try:
        losses = runs.read_record(run.folder)["validation_loss"]
    except InputOutputError:
        losses, state = [], "damaged record"
    if is_later(config):
        state = "of a later version"
    best = min(range(len(losses)), key=losses.__getitem__, default=None)
    return RunSummary(
        folder=run.folder,
        code=PluginRef(type=str(code.get("type", "?")), options=_table(code.get("options"))).shown(),
        data=_chosen(str(data.get("type", "?")), _table(data.get("options"))).label(),
        seed=seed if isinstance(seed, int) else None,
        epochs=len(losses),
        best_epoch=None if best is None else best + 1,
        best_validation_loss=None if best is None else losses[best],
        state=state,
        settings={name: value for name, value in decides.items() if name not in _TOLD_ELSEWHERE},
    )


def _table(value: object) -> dict[str, Any]:
    """Return what stands under a name of a configuration; nothing where it is no table: somebody else wrote it."""
    return value if isinstance(value, dict) else {}


def _chosen(name: str, options: dict[str, Any]) -> PluginRef:
    """Return the data set with the options that are not its defaults; all of them where it cannot be asked."""
    try:
        fields = registry.load("data set", name).model_fields
    except BvaeError:
        fields = {}
    chosen = {key: value for key, value in options.items() if key not in fields or fields[key].default != value}
    return PluginRef(type=name, options=chosen)
