"""Bars and stripes: pictures whose columns, or whose rows, are each all 0 or all 1."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from bvae_cli.datasets.drawn import Drawn, uniform, words_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class BarsAndStripes(Drawn):
    """Each of the 2^height + 2^width − 2 pictures with the same probability (MacKay 2003, section 43.1).

    A picture of bars has equal rows, one of stripes equal columns; all 0 and all 1 are both, and count once.

    >>> BarsAndStripes(height=4, width=4).patterns()
    30
    """

    summary: ClassVar[str] = "bars and stripes of any size, drawn; log p(x) is known"
    licence: ClassVar[str] = "none needed"

    height: int = Field(4, ge=2, le=61, description="Rows of a picture.")
    width: int = Field(4, ge=2, le=61, description="Columns of a picture.")

    def patterns(self) -> int:
        """Return the number of pictures."""
        return int(2**self.height + 2**self.width - 2)

    def draw(self, rows: int, generator: torch.Generator) -> Tensor:
        """Draw pictures, ``[rows, height · width]`` uint8."""
        import torch

        numbers, bars = torch.randint(self.patterns(), (rows,), generator=generator), 2**self.width
        are_bars = numbers < bars
        columns = words_of(torch.where(are_bars, numbers, 0), self.width).unsqueeze(1)
        # The stripes are those that are not bars as well: 1 to 2^height − 2.
        stripes = words_of(torch.where(are_bars, 0, numbers - bars + 1), self.height).unsqueeze(2)
        whole = (rows, self.height, self.width)
        return torch.where(are_bars.view(-1, 1, 1), columns.expand(whole), stripes.expand(whole)).reshape(rows, -1)

    def log_prob(self, rows: Tensor) -> Tensor:
        """Return −ln (number of pictures) for bars and stripes, minus infinity for all else, ``[rows, D] -> [rows]``."""
        pictures = rows.view(-1, self.height, self.width)
        are_bars = (pictures == pictures[:, :1]).all(-1).all(-1)
        are_stripes = (pictures == pictures[:, :, :1]).all(-1).all(-1)
        return uniform(are_bars | are_stripes, -self.entropy())

    def entropy(self) -> float:
        """Return ln (number of pictures), in nats."""
        return math.log(self.patterns())

    def shape(self) -> tuple[int, ...]:
        """Return (height, width)."""
        return (self.height, self.width)
