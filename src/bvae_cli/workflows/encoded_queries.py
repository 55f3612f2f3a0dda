"""Queries that are rows of a data set, as a model's encoder sees them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from bvae_cli.code_rows import CodeRows
from bvae_cli.datasets.rows import first_rows
from bvae_cli.files import require_apart
from bvae_cli.trained import SearchConfig
from bvae_cli.workflows.coded import Coded
from bvae_cli.workflows.encode import rows_of
from bvae_cli.workflows.measuring import data_of, load_both
from bvae_cli.workflows.queries import Queries, chosen_rows, read_labels, require_bits
from bvae_cli.workflows.split_labels import labels_of, named_rows

_ROWS = 2000


@torch.no_grad()
def encoded_queries(config: SearchConfig, named: frozenset[str], on_note: Callable[[str], None]) -> tuple[CodeRows, Queries]:
    """Open the codes, and encode rows of the data set as queries of their kind: information bits or codewords, or logits."""
    rebuilt, splits, device = load_both(config, named, on_note, one_pass=True)
    if config.output is not None:
        require_apart(config.output, data_of(config, rebuilt).paths("data set"))
    model = rebuilt.model
    owner = Coded(model.code, model, rebuilt.weights, device)
    codes = owner.open(config.codes, config.bits)
    require_bits(codes)
    x = first_rows(rows_of(splits, config.split), config.subset).to(device)
    rows = chosen_rows(config, len(x), named_rows(config.split))
    if config.query_labels is None:
        labels = labels_of(splits, config.split)
    else:
        labels = read_labels(config.query_labels, len(x), f"{config.split} rows", config.dataset, splits)
    of_words = codes.width != model.code.n or model.code.k == model.code.n
    parts: list[NDArray[np.float32]] = []
    packed: list[NDArray[np.uint8]] = []
    for numbers in torch.from_numpy(rows).split(_ROWS):
        posterior = model.encode(x[numbers.to(device)].to(model.dtype))
        if config.soft:
            parts.append((posterior.logits if of_words else posterior.code_logits).float().cpu().numpy())
            continue
        bits = posterior.information_bits
        bits = bits if of_words else model.code.encode(bits)
        packed.append(np.packbits(bits.to(torch.uint8).cpu().numpy(), axis=1))
    return codes, Queries(
        rows=rows,
        total=len(x),
        packed=None if config.soft else np.concatenate(packed),
        logits=np.concatenate(parts) if config.soft else None,
        width=codes.width,
        said=f"{named_rows(config.split)} of {splits.source}",
        unsure=np.empty(0, np.int64),
        labels=None if labels is None else labels[rows],
        data=splits,
    )
