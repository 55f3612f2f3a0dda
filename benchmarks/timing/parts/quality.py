"""What speed costs in quality: nothing, if the bound is that of the slow path within what seeds differ by."""

from __future__ import annotations

import statistics
import sys
from typing import Any

from timing import table
from timing.setting import Scale, Setting
from timing.summary import significant

TITLE = "Quality is unchanged"
_SEEDS = 5
_EPOCHS = 5
_WAYS = {"slow": "slow path, float32", "fp32": "bvae, float32", "bf16": "bvae, bfloat16"}


def measure(scale: Scale) -> dict[str, Any]:
    """Train every seed in all three ways."""
    import torch

    from bvae_cli import processor
    from bvae_cli.datasets.binarized_mnist import BinarizedMnist
    from timing.contenders import fits_of
    from timing.slow_path import plain_products, train_slowly

    splits = BinarizedMnist().load()
    setting = scale.fitted(Setting("ours-fp32"))._replace(device="cpu")
    train = splits.train[: setting.rows or None]
    validation = splits.validation[: setting.rows or None]
    epochs = 2 if scale.quick else _EPOCHS

    def fitted(seed: int, precision: torch.dtype | None) -> float:
        processor.prepare(setting.threads)
        (fit,) = fits_of(setting, train, validation, precision, [seed])
        stats = [one for one, _ in zip(fit, range(epochs), strict=False)]
        return stats[-1].validation_loss

    losses: dict[str, list[float]] = {way: [] for way in _WAYS}
    for seed in range(_SEEDS):
        (fresh,) = fits_of(setting, train, validation, None, [seed])
        plain_products()
        slow = train_slowly(fresh.model, train, validation, epochs=epochs, batch=setting.batch, lr=0.001, seed=seed)
        losses["slow"].append(slow)
        losses["fp32"].append(fitted(seed, None))
        losses["bf16"].append(fitted(seed, torch.bfloat16))
        print(f"  seed {seed + 1} of {_SEEDS}", file=sys.stderr, flush=True)
    kept = {way: [significant(loss, 7) for loss in values] for way, values in losses.items()}
    return {"losses": kept, "epochs": epochs, "setting": setting._asdict()}


def section(part: dict[str, Any]) -> list[str]:
    """Return the section of the page."""
    losses, setting = part["losses"], part["setting"]
    seeds = range(len(losses["slow"]))
    rows = [[str(seed), *(f"{losses[way][seed]:.3f}" for way in _WAYS)] for seed in seeds]
    scatter = statistics.stdev(losses["slow"])
    hidden = setting["hidden"]
    lines = [
        f"784-{hidden}-{hidden}-{setting['latent']}, batch {setting['batch']}, {part['epochs']} epochs;",
        "the validation bound in nats, with hard bits. The slow path is the same model with plain autograd terms and",
        "`torch.optim.Adam` (`benchmarks/timing/slow_path.py`), from the same weights, order and noise.",
        "",
        *table.table(["seed", *_WAYS.values()], rows),
        "",
        f"The slow path's seeds differ by {scatter:.3f} nats (standard deviation).",
        "",
    ]
    for way in ("fp32", "bf16"):
        differences = [mine - slow for mine, slow in zip(losses[way], losses["slow"], strict=True)]
        mean, deviation = statistics.mean(differences), statistics.stdev(differences)
        within = "within the noise of seeds" if abs(mean) <= scatter else "**more than the noise of seeds**"
        lines.append(f"* {_WAYS[way]}: {mean:+.3f} nats, standard deviation {deviation:.3f}; {within}.")
    return [*lines, ""]
