"""The command line: read the arguments, make one call, show what came back.

Commands import torch inside, after what can be refused without it has been refused. stdout is data, stderr is talk.
"""

from bvae_cli.cli.app import app, main

__all__ = ["app", "main"]
