"""Soft queries: codes in the order of their posterior probability, given the logits of a query's bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bvae_cli.code_rows import packed_bytes
from bvae_cli.codes.base import LARGEST_LOGIT
from bvae_cli.retrieval.nearest import FEW, Codes, Neighbours, OnRows, scan

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
# More than what summing in another order can move a sum of float64.
_ROUNDING = 1e-9


def soft_nearest(
    codes: Codes,
    logits: NDArray[np.float32],
    k: int,
    *,
    threads: int = 0,
    without: NDArray[np.int64] | None = None,
    on_rows: OnRows | None = None,
) -> Neighbours:
    """Return the ``k`` most probable codes given each query's logits λ ``[queries, bits]``, independent bit by bit.

    The distance of a code b is Σ_i |λ_i| [b_i ≠ 1[λ_i > 0]], in nats: −log q(b) = that + Σ_i log(1 + e^{−|λ_i|}), of which
    the last sum is the same for all codes. It is summed in float64, byte after byte, of logits clamped to ±1e4.
    """
    tables = penalties(logits)
    return scan(codes, len(logits), k, lambda packed: SoftBlock(tables, packed), threads, without, on_rows)


def penalties(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what each value of each byte of a code adds to its distance, ``[queries, bits] -> [queries, bytes, 256]``."""
    queries, bits = logits.shape
    size = 8 * packed_bytes(bits)
    weight, wanted = np.zeros((queries, size)), np.zeros((queries, size), np.uint8)
    weight[:, :bits], wanted[:, :bits] = np.minimum(np.abs(logits), LARGEST_LOGIT), logits > 0
    tables = np.zeros((queries, size // 8, 256))
    for bit in range(8):
        differs = _BITS[:, bit] != wanted[:, bit::8, None]
        tables += differs * weight[:, bit::8, None]
    return tables


class SoftBlock:
    """Some codes, byte by byte; the distance of a query is the sum of what its tables say of each byte."""

    def __init__(self, tables: NDArray[np.float64], packed: NDArray[np.uint8]) -> None:
        self._tables = tables
        self._bytes = np.ascontiguousarray(packed.T).astype(np.intp)

    def near(self, query: int, below: float) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Sum byte after byte, those that tell most first, and of the codes that are too far by then no more."""
        tables = self._tables[query]
        order = np.argsort(-tables.max(axis=1), kind="stable") if below < np.inf else np.arange(len(tables))
        distances = np.zeros(self._bytes.shape[1])
        for number in order:
            distances += tables[number].take(self._bytes[number])
            places = np.flatnonzero(distances < below * (1 + _ROUNDING))
            if len(places) < FEW * len(distances):
                break
        # Summed again in the order of the bytes: the sum of a code must not depend on what else was asked.
        exact = np.zeros(len(places))
        for number, table in enumerate(tables):
            exact += table.take(self._bytes[number].take(places))
        near = exact < below
        return places[near], exact[near]
