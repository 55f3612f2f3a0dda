"""Binary variational autoencoders with and without an error-correcting code on the latent bits.

The Python side of the command line, imported when it is first used:

>>> import bvae_cli
>>> result = bvae_cli.train(params=0, subset=200, epochs=1, output_dir=folder)    # doctest: +SKIP
>>> model = bvae_cli.load(result.folder)                                          # doctest: +SKIP
>>> model.sample(16).rows.shape                                                 # doctest: +SKIP
torch.Size([16, 784])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bvae_cli.errors import BvaeError
    from bvae_cli.workflows.api import (
        CompareObserver,
        Comparison,
        Observer,
        TrainedModel,
        TrainResult,
        compare,
        decode,
        encode,
        evaluate,
        export,
        load,
        resume,
        sample,
        search,
        train,
    )

__version__ = "0.1.0"
__all__ = [
    "BvaeError",
    "CompareObserver",
    "Comparison",
    "Observer",
    "TrainResult",
    "TrainedModel",
    "__version__",
    "compare",
    "decode",
    "encode",
    "evaluate",
    "export",
    "load",
    "resume",
    "sample",
    "search",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        # Importing torch costs seconds: nobody pays for it before they ask for something that needs it.
        room = "bvae_cli.errors" if name == "BvaeError" else "bvae_cli.workflows.api"
        return getattr(importlib.import_module(room), name)
    raise AttributeError(f"module 'bvae_cli' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
