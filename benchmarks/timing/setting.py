"""What a contender is measured with, and how much is measured."""

from __future__ import annotations

from typing import NamedTuple


class Setting(NamedTuple):
    """What a contender is measured with; ``rows`` 0 is all the training data, ``threads`` 0 is torch's own choice."""

    implementation: str
    hidden: int = 200
    latent: int = 100
    depth: int = 2
    batch: int = 1000
    code: str = "none"
    threads: int = 0
    device: str = "cpu"
    rows: int = 0
    models: int = 1
    seed: int = 0
    seconds: float = 1.0


class Scale(NamedTuple):
    """How much is measured: rounds, the least seconds of a turn; ``quick`` shrinks data and networks to see that it runs."""

    rounds: int = 5
    seconds: float = 1.2
    quick: bool = False
    device: str = "cpu"

    def fitted(self, setting: Setting) -> Setting:
        """Return a setting on this scale's device, shrunk where it is quick."""
        setting = setting._replace(seconds=self.seconds, device=self.device)
        if not self.quick:
            return setting
        few = min(setting.models, 3)
        return setting._replace(rows=300, models=few, batch=max(8, setting.batch // 20), hidden=max(8, setting.hidden // 20))
