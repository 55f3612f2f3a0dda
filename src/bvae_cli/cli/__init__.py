"""The command line: read the arguments, make one call, show what came back.

Commands import torch inside, after what can be refused without it has been refused. stdout is data, stderr is talk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from bvae_cli import ranks
from bvae_cli.cli.process import exit_when_asked, exit_without_cleaning, leave_quietly, open_streams

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line in a process of its own; see ``bvae_cli.cli.app.main``."""
    open_streams()
    exit_when_asked()
    # The application costs a tenth of a second and more: whoever presses Ctrl-C within it gets a sentence already.
    from bvae_cli.cli.app import main as run

    try:
        run(arguments)
    except SystemExit as end:
        if not ranks.is_alone():
            exit_without_cleaning(end.code if isinstance(end.code, int) else 1)
        raise
    finally:
        leave_quietly()
