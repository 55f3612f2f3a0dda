"""A code and a data set from somebody else."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from bvae_cli.codes.base import Block, Code, CodeSpec
from bvae_cli.datasets.base import DatasetSpec, Splits

if TYPE_CHECKING:
    from torch import Generator, Tensor


class Tripled(CodeSpec):
    """Every bit three times, the code bits in an order drawn from a seed."""

    family: ClassVar[str] = "tripled"
    summary: ClassVar[str] = "each bit three times, shuffled"

    # `--seed` is an option of `bvae train`, so this one is said as `--ecc-seed`.
    seed: int = Field(0, ge=0, description="Seed of the order of the code bits.")
    gain: float = Field(1.0, gt=0, description="Factor of the decoded logits.")

    def block(self) -> Block:
        """Three code bits carry one bit."""
        return Block(n=3, k=1, min_distance=3)

    def build(self, n: int) -> Code:
        """Return the code of ``n`` code bits."""
        return _TripledCode(self, n)


class _TripledCode(Code):
    def __init__(self, spec: Tripled, n: int) -> None:
        import torch

        super().__init__(spec, n)
        self._gain = spec.gain
        self._order = torch.randperm(n, generator=torch.Generator().manual_seed(spec.seed))
        self._back = self._order.argsort()

    def encode(self, bits: Tensor) -> Tensor:
        return bits.repeat_interleave(3, -1)[..., self._order.to(bits.device)]

    def encode_probs(self, probabilities: Tensor) -> Tensor:
        return self.encode(probabilities)

    def decode(self, bits: Tensor, generator: Generator | None = None) -> Tensor:
        return (self._copies(bits).sum(-1) > 1).to(bits.dtype)

    def soft_decode(self, logits: Tensor) -> Tensor:
        return self._gain * self._copies(logits).sum(-1)

    def _copies(self, values: Tensor) -> Tensor:
        return values[..., self._back.to(values.device)].unflatten(-1, (self.k, 3))


class Stripes(DatasetSpec):
    """Pictures of 4 × 4 bits with one stripe, in a row or in a column."""

    summary: ClassVar[str] = "4 x 4 pictures of one stripe"
    licence: ClassVar[str] = "CC0"

    repeats: int = Field(5, ge=1, le=1000, description="How often each picture is there.")

    def load(self) -> Splits:
        """Make the pictures."""
        import torch

        lines = torch.eye(4, dtype=torch.uint8)
        rows = lines.repeat_interleave(4, 1)
        columns = lines.repeat(1, 4)
        pictures = torch.cat([rows, columns])
        return Splits(
            train=pictures.repeat(self.repeats, 1),
            validation=pictures,
            test=pictures,
            feature_shape=(4, 4),
            source="stripes, made here",
            licence=self.licence,
        )
