"""Published models by name: what their authors set, as values of the options of ``train``.

A preset stands below everything that a person says: a file, a variable, a flag.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Preset(NamedTuple):
    """What a preset sets, and what it stands for."""

    summary: str
    values: Mapping[str, Any]


PRESETS: Mapping[str, Preset] = {
    "coded-dvae": Preset(
        # Encoder, code, smoothing, bit-wise sampling and optimizer are those of the authors' own training script. Theirs has
        # a decoder with squeeze-and-excitation blocks and a weight decay of 1e-4, which are not here.
        "the coded DVAE of Martínez-García et al. (UAI 2025): 8 information bits, each repeated ten times",
        {
            "dataset": "fashion-mnist",
            "ecc": {"type": "repetition", "options": {"R": 10}},
            "latent": 80,
            "hidden": 512,
            "depth": 2,
            "network": "dcgan",
            "channels": 64,
            "estimator": "dvae",
            "sampling": "bitwise",
            "lr": 1e-4,
            "batch_size": 128,
            "epochs": 100,
            "patience": 100,
            "beta_warmup_epochs": 0,
            "consistency_weight": 0.0,
        },
    ),
}


def beneath(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with those of the ``preset`` that they name, if it is one, where they say nothing themselves.

    A parameter set that they name brings its own sizes.
    """
    name = values.get("preset")
    preset = dict(PRESETS[name].values) if isinstance(name, str) and name in PRESETS else {}
    if values.get("params") is not None:
        for size in ("hidden", "latent", "depth"):
            preset.pop(size, None)
    return {**preset, **values}
