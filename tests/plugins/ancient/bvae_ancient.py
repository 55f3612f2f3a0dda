"""A package that was written for a contract before ours."""

from __future__ import annotations

from typing import ClassVar

from bvae_cli.codes.repetition import Repetition


class Fossil(Repetition):
    """Three copies, as they were made before the contract had a first version."""

    family: ClassVar[str] = "fossil"
    summary: ClassVar[str] = "copies of old"
    api_version: ClassVar[int] = 0
