"""Sheets of pictures that show what the bits of a trained model mean."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import torch
from torch import Generator, Tensor

from bvae_cli import files
from bvae_cli.datasets.rows import Rows
from bvae_cli.errors import UsageError
from bvae_cli.model.bvae import BinaryVAE
from bvae_cli.model.terms import LN2, kl_to_uniform
from bvae_cli.trained import SHEETS, SampleConfig
from bvae_cli.workflows.building import Rebuilt
from bvae_cli.workflows.measuring import OnNote, prepare

# Bits of a sweep, where they are to be found.
_BITS = 4
# The words between two rows that a sheet shows: of more, so many at equal distances.
_LONGEST_PATH = 12


@dataclass(frozen=True)
class Sheet:
    """A sheet of pictures, row after row: where its numbers are, the pictures ``[cells, D]`` and what is in a row.

    A row is of ``groups`` of so many pictures that belong together; ``columns`` and ``lines`` say what each column and each
    row of the sheet is, empty where the one before says it. ``facts`` holds what was found, a mapping for each bit, row or
    path.
    """

    file: Path
    kind: str
    pictures: Any
    groups: tuple[int, ...]
    columns: list[str]
    lines: list[str]
    feature_shape: tuple[int, ...]
    said: str
    facts: list[dict[str, Any]]


@dataclass(frozen=True)
class _Cells:
    """What a sheet shows: the words of its cells ``[cells, K]``, the pictures, and arrays to be written beside them."""

    words: Tensor
    pictures: Tensor
    groups: tuple[int, ...]
    columns: list[str]
    lines: list[str]
    said: str
    facts: list[dict[str, Any]]
    arrays: dict[str, Tensor]


@torch.no_grad()
def draw_sheet(config: SampleConfig, named: frozenset[str] = frozenset(), on_note: OnNote | None = None) -> Sheet:
    """Write ``KIND_ASKED_seed_S.npz`` of the sheet that ``config`` asks for, as ``sweep_m3_seed_0.npz``, and return it.

    The file holds ``information_bits``, ``codewords`` and ``probabilities`` (or ``means``) of its words. A sweep's come
    word after word,
    each with bit after bit at 0 and at 1; a posterior's row after row, the most probable word first, then draws from q, and
    beside them ``rows`` and the ``logits`` of each row's information bits; those between two rows in the order of the path,
    which takes one bit after the other, by number, from the second row's word. Beside a sweep stands ``mean_change``, what
    flipping each of all the information bits does to a value.

    Raises UsageError for bits or rows that are not there, InputOutputError where weights or data cannot be read or the
    folder cannot be written.
    """
    (kind,) = (name for name in SHEETS if getattr(config, name))
    rebuilt, x, splits = prepare(config, named, on_note)
    generator = torch.Generator(x.device).manual_seed(config.seed)
    count = config.count(named)
    if kind == "sweep":
        require_bits(rebuilt, config.fixed, "fix")
        require_bits(rebuilt, config.swept, "sweep")
        cells = _swept(rebuilt.model, config, count, generator)
    else:
        chosen = _rows(x, config.rows, kind, config.split)
        drawn = _posterior if kind == "posterior" else _between
        cells = drawn(rebuilt.model, chosen, config.rows, count, generator)
    folder = config.out if config.out is not None else rebuilt.weights.parent / "samples"
    file = folder / f"{config.file_stem(named)}.npz"
    files.write_file(file, _packed(rebuilt.model, cells))
    pictures = cells.pictures.cpu().numpy()
    return Sheet(
        file=file,
        kind=kind,
        pictures=pictures,
        groups=cells.groups,
        columns=cells.columns,
        lines=cells.lines,
        feature_shape=splits.feature_shape,
        said=cells.said,
        facts=cells.facts,
    )


def require_bits(rebuilt: Rebuilt, bits: Iterable[int], option: str) -> None:
    """Raise UsageError for the first of these bits, counted from 1, that the model does not have."""
    k = rebuilt.model.code.k
    for bit in bits:
        if bit > k:
            raise UsageError(f"--{option} names m{bit}; the model has {k} information bits.", f"They are m1 to m{k}.")


def _rows(x: Tensor | Rows, rows: list[int], option: str, split: str) -> Tensor:
    for row in rows:
        if row >= len(x):
            raise UsageError(
                f"--{option} names row {row}; the {split} split has {len(x):,} rows here.", f"They are 0 to {len(x) - 1}."
            )
    return torch.cat([x[row : row + 1] for row in rows]).float()


def _swept(model: BinaryVAE, config: SampleConfig, count: int, generator: Generator) -> _Cells:
    words = model.draw_bits(count, generator)
    for bit, value in config.fixed.items():
        words[:, bit - 1] = value
    changes = _changes(model, words)
    bits = config.swept or [bit for bit in _strongest(changes) if bit not in config.fixed][:_BITS]
    if not bits:
        raise UsageError(f"--fix names all {model.code.k} bits: none is left to sweep.", "Fix fewer of them.")
    cells = words[:, None, None].repeat(1, len(bits), 2, 1)
    for place, bit in enumerate(bits):
        cells[:, place, 0, bit - 1], cells[:, place, 1, bit - 1] = 0, 1
    decoded = _shown(model, model.decode(model.code.encode(cells)))
    facts = [
        {
            "bit": f"m{bit}",
            "values that it changes by ½ or more": float(changes.over_half[bit - 1]),
            "mean change of a value": float(changes.mean[bit - 1]),
            "rank of that": int((changes.mean > changes.mean[bit - 1]).sum()) + 1,
        }
        for bit in bits
    ]
    said = "a row is a word from the prior: " + ", ".join(f"m{bit} = 0, 1" for bit in bits)
    return _Cells(
        words=cells.flatten(0, 2),
        pictures=decoded.flatten(0, 2),
        groups=(2,) * len(bits),
        columns=[f"m{bit} = {value}" for bit in bits for value in (0, 1)],
        lines=[f"word {number}" for number in range(1, count + 1)],
        said=said,
        facts=facts,
        arrays={"mean_change": changes.mean},
    )


class _Changes(NamedTuple):
    """What flipping each bit does to the decoded values, ``[K]``: the mean size, and how many change by ½ or more.

    Real values are taken in units of their spread, counts as they are, symbols as the probabilities of each.
    """

    mean: Tensor
    over_half: Tensor


def _changes(model: BinaryVAE, words: Tensor) -> _Changes:
    decoded = model.likelihood.scaled(model.decode(model.code.encode(words)))
    means, counts = [], []
    for bit in range(model.code.k):
        flipped = words.clone()
        flipped[:, bit] = 1 - flipped[:, bit]
        change = (model.likelihood.scaled(model.decode(model.code.encode(flipped))) - decoded).abs()
        means.append(change.mean())
        counts.append((change >= 0.5).float().sum(-1).mean())
    return _Changes(torch.stack(means), torch.stack(counts))


def _strongest(changes: _Changes) -> list[int]:
    """Return all bits, counted from 1, those first that change most."""
    return [place + 1 for place in changes.mean.argsort(descending=True, stable=True).tolist()]


def _posterior(model: BinaryVAE, x: Tensor, rows: list[int], count: int, generator: Generator) -> _Cells:
    posterior = model.encode(x)
    uniform = torch.rand((count, *posterior.logits.shape), device=x.device, generator=generator)
    draws = (uniform < posterior.logits.sigmoid()).to(x.dtype).transpose(0, 1)
    words = torch.cat([posterior.information_bits[:, None], draws], dim=1)
    decoded = _shown(model, model.decode(model.code.encode(words)))
    kl = kl_to_uniform(posterior.logits)
    facts = [
        {
            "row": row,
            "entropy of q (bits)": model.code.k - float(kl[place] / LN2),
            "KL (nats)": float(kl[place]),
            "bits that draws change": float((draws[place] != words[place, :1]).sum(-1).float().mean()),
        }
        for place, row in enumerate(rows)
    ]
    said = f"a row is the original, its most probable word decoded, and {count} draws from q"
    pictures = torch.cat([model.likelihood.shades(x)[:, None], decoded], dim=1)
    return _Cells(
        words=words.flatten(0, 1),
        pictures=pictures.flatten(0, 1),
        groups=(1, 1, count),
        columns=["original", "most\nprobable", "draws\nfrom q", *[""] * (count - 1)],
        lines=[f"row {row}" for row in rows],
        said=said,
        facts=facts,
        arrays={"rows": torch.tensor(rows), "logits": posterior.logits},
    )


def _between(model: BinaryVAE, x: Tensor, rows: list[int], count: int, generator: Generator) -> _Cells:
    posterior = model.encode(x)
    first, last = posterior.information_bits
    order = (first != last).nonzero().flatten()
    path = first.repeat(len(order) + 1, 1)
    for step, bit in enumerate(order.tolist(), start=1):
        path[step:, bit] = last[bit]
    shown = torch.linspace(0, len(order), min(_LONGEST_PATH, len(order) + 1)).round().long()
    words = path[shown.to(path.device)]
    ends = model.likelihood.shades(x)
    pictures = torch.cat([ends[:1], _shown(model, model.decode(model.code.encode(words))), ends[1:]])
    facts = [
        {
            "rows": " → ".join(map(str, rows)),
            "Hamming distance (information bits)": len(order),
            "Hamming distance (code bits)": int((model.code.encode(first) != model.code.encode(last)).sum()),
            "path": " ".join(f"m{bit + 1}" for bit in order.tolist()),
        }
    ]
    said = f"row {rows[0]}, {len(words)} of the {len(path)} words on the way, by bits that are changed, row {rows[1]}"
    return _Cells(
        words=words,
        pictures=pictures,
        groups=(1, len(words), 1),
        columns=[f"row {rows[0]}", *map(_bits_changed, shown.tolist()), f"row {rows[1]}"],
        lines=[],
        said=said,
        facts=facts,
        arrays={"rows": torch.tensor(rows), "logits": posterior.logits},
    )


def _bits_changed(number: int) -> str:
    return "1 bit" if number == 1 else f"{number} bits"


def _shown(model: BinaryVAE, means: Tensor) -> Tensor:
    """Return what a picture shows of decoded means, in 0…1."""
    return model.likelihood.shades(model.likelihood.rows_of(means))


def _packed(model: BinaryVAE, cells: _Cells) -> bytes:
    codewords = model.code.encode(cells.words)
    tensors = {
        "information_bits": cells.words.to(torch.uint8),
        "codewords": codewords.to(torch.uint8),
        model.likelihood.told: model.decode(codewords),
        **cells.arrays,
    }
    arrays: dict[str, Any] = {name: values.cpu().numpy() for name, values in tensors.items()}
    buffer = io.BytesIO()
    numpy.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
