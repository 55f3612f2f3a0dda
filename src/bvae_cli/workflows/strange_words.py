"""Words that a code seems not to have made: packed in the other bit order, or no nearer to codewords than random ones."""

from __future__ import annotations

import numpy
import torch
from torch import Generator, Tensor

from bvae_cli.code_rows import CodeRows
from bvae_cli.codes.base import Code
from bvae_cli.errors import InputOutputError
from bvae_cli.workflows.coded import Coded

# Checks, of all rows that are looked at together, that are fulfilled by chance once in a million.
_ENOUGH_CHECKS = 20
# Of what is repaired of random words. A channel after which so much is repaired leaves 56 % of Golay blocks wrong, 47 % of
# Hamming blocks of 7 bits, and 27 % of bits in three copies.
_NEAR = 0.9
_RANDOM_BITS = 2**17


def require_bit_order(code: Code, rows: CodeRows, repaired: Tensor, device: str) -> None:
    """Refuse packed bits of which no row is a codeword, and most are if read from the other end of each byte.

    ``repaired [rows, N]`` are the bits that are no codeword's, of the first rows of the file. Raises InputOutputError.
    """
    looked_at = len(repaired)
    if rows.kind != "packed" or not _are_enough(code, looked_at) or not repaired.any(-1).all():
        return
    other = numpy.unpackbits(rows.packed(0, looked_at), axis=1, count=code.n, bitorder="little")
    turned = torch.from_numpy(other).to(device).float()
    are_words = (code.encode(code.decode(turned)) == turned).all(-1)
    if 2 * int(are_words.sum()) > looked_at:
        raise InputOutputError(
            f"{rows.path} is packed in another bit order: its rows are codewords if a byte begins with its lowest bit.",
            "Pack it as numpy.packbits does without bitorder: the first bit is the highest.",
        )


def as_random_words(owner: Coded, rows: CodeRows, untouched: int, repaired_rate: float) -> str | None:
    """Say in a sentence that of a file as many bits were repaired as of random words, else return None.

    ``untouched`` of its rows are codewords; where those are most, or there are too few rows, nothing is said.
    """
    if not _are_enough(owner.code, len(rows)) or 2 * untouched > len(rows):
        return None
    random_rate = repaired_rate_of_random_words(owner.code, owner.device)
    if repaired_rate < _NEAR * random_rate:
        return None
    return (
        f"{untouched:,} of {len(rows):,} rows of {rows.path} are codewords of {owner.owner}, and "
        f"{100 * repaired_rate:.3g} % of the bits were repaired, of random words it would be {100 * random_rate:.3g} %: "
        "the file may be of another code, model or order of bits, and else holds more damage than this code repairs."
    )


def repaired_rate_of_random_words(code: Code, device: str = "cpu") -> float:
    """Return the share of the bits of random words that differ from the codewords that are decided for, measured on some."""
    generator = Generator().manual_seed(0)
    words = torch.randint(2, (max(1, _RANDOM_BITS // code.n), code.n), generator=generator).to(device).float()
    return float((code.encode(code.decode(words)) != words).double().mean())


def _are_enough(code: Code, rows: int) -> bool:
    return (code.n - code.k) * rows >= _ENOUGH_CHECKS
