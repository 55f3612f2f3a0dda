"""Encode the rows of a data set: some rows at once from the data to a file, in memory that does not grow with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from bvae_cli import files
from bvae_cli.datasets.base import Splits
from bvae_cli.datasets.rows import Rows, first_rows
from bvae_cli.model.bvae import BinaryVAE
from bvae_cli.parquet_files import PARQUET
from bvae_cli.trained import BITS, EncodeConfig
from bvae_cli.workflows.encoded_files import ArrayFile, EncodedFile, ParquetFile
from bvae_cli.workflows.measuring import OnNote, data_of, load_both

_ROWS = 2000

OnRows = Callable[[int, int], None]


@dataclass(frozen=True)
class EncodeResult:
    """What was written: an array or table, ``[rows, columns]`` of ``dtype``; ``bits_in_a_row`` of it where it is of bits."""

    file: Path
    written: str
    rows: int
    columns: int
    dtype: str
    packed: bool
    bits_in_a_row: int | None
    split: str
    dataset: str
    weights: Path
    code: str
    seconds: float
    images_per_second: float


def encode(
    config: EncodeConfig,
    named: frozenset[str] = frozenset(),
    on_note: OnNote | None = None,
    on_rows: OnRows | None = None,
) -> EncodeResult:
    """Write what the model's encoder says of every row as a .npy or .parquet file.

    ``on_rows`` is told how many rows are done, of how many. Rows are read, encoded and written some at once, and the file
    has its name only when it is whole.
    Raises UsageError where the file is one that is read, InputOutputError where weights or data cannot be read or the file
    not be written.
    """
    rebuilt, splits, device = load_both(config, named, on_note, one_pass=True)
    files.require_apart(config.output, [rebuilt.weights, *data_of(config, rebuilt).paths("data set")])
    x = first_rows(rows_of(splits, config.split), config.subset).to(device)
    started = time.perf_counter()
    width = _written(rebuilt.model, x[:1], config).shape[1]
    columns = -(-width // 8) if config.packed else width
    dtype = "uint8" if config.write in BITS else config.precision
    with files.new_file(config.output) as file:
        writer: EncodedFile
        if config.output.suffix == PARQUET:
            writer = ParquetFile(file, columns, dtype, config.packed)
        else:
            writer = ArrayFile(file, len(x), columns, dtype)
        done = 0
        for chunk in x.split(_ROWS):
            values = _written(rebuilt.model, chunk, config)
            writer.write(numpy.packbits(values, axis=1) if config.packed else values)
            done += len(values)
            if on_rows is not None:
                on_rows(done, len(x))
        writer.close()
    seconds = time.perf_counter() - started
    return EncodeResult(
        file=config.output,
        written=config.write,
        rows=len(x),
        columns=columns,
        dtype=dtype,
        packed=config.packed,
        bits_in_a_row=width if config.write in BITS else None,
        split=config.split,
        dataset=splits.source,
        weights=rebuilt.weights,
        code=rebuilt.label,
        seconds=seconds,
        images_per_second=len(x) / seconds,
    )


def rows_of(splits: Splits, split: str) -> Tensor | Rows:
    """Return the rows of a split, or all of them in the order of their file."""
    if split == "all":
        return splits.all_rows()
    return {"train": splits.train, "validation": splits.validation, "test": splits.test}[split]


@torch.no_grad()
def _written(model: BinaryVAE, x: Tensor, config: EncodeConfig) -> NDArray[Any]:
    """Return what is written of rows ``x [B, D]``, unpacked: ``[B, K]``, or ``[B, N]`` of codewords and code logits."""
    posterior = model.encode(x.to(model.dtype))
    if config.write == "information-bits":
        return (posterior.logits > 0).cpu().numpy().view(numpy.uint8)
    if config.write == "codewords":
        return model.code.encode(posterior.information_bits).to(torch.uint8).cpu().numpy()
    values = {
        "logits": posterior.logits,
        "probabilities": posterior.logits.sigmoid(),
        "code-logits": posterior.code_logits,
    }[config.write]
    return values.cpu().numpy().astype(config.precision)
