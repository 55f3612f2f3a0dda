"""Repair codes by the code: what was repaired, where it cannot be sure, and what the decoder makes of the words."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from bvae_cli import files
from bvae_cli.code_rows import CodeRows, doubtful_logits, packed_bytes
from bvae_cli.codes.base import ErrorRates
from bvae_cli.errors import InputOutputError, UsageError
from bvae_cli.evaluation.channel import ChannelErrors, errors_of
from bvae_cli.trained import DecodeConfig
from bvae_cli.workflows.coded import Coded, coded
from bvae_cli.workflows.encoded_files import ArrayFile
from bvae_cli.workflows.strange_words import as_random_words, require_bit_order

OnNote = Callable[[str], None]
OnRows = Callable[[int, int], None]
OF_MODEL = ("probabilities", "samples")
_VALUES_AT_ONCE = 2**21
_SHOWN = 10


@dataclass(frozen=True)
class Damage:
    """Damage made on purpose, each bit flipped with probability ``epsilon``, and what was wrong after it was repaired.

    The errors stand beside the closed form. ``wrong_and_sure`` counts rows that are wrong though nothing shows it: more was
    flipped in a block than the code corrects, and another codeword came nearer.
    """

    epsilon: float
    seed: int
    flipped_bits: int
    measured: ChannelErrors
    closed_form: ErrorRates
    wrong_and_sure: int


@dataclass(frozen=True)
class DecodeResult:
    """What was repaired of ``rows`` codes, and what was written.

    ``held`` says what the file held. ``untouched`` rows were codewords, ``repaired`` ones were not, and ``repaired_bits`` is
    the Hamming distance between what was there and the codewords that were decided for; all None for information bits, in
    which no damage shows. ``corrects`` is the number t of bits of a block that are always repaired, None where it is not
    known. ``unsure`` rows: bits with more than t repaired in a block, or logits that leave an information bit more likely to
    be wrong than ``doubt``; ``first_unsure`` are the numbers of the first of them.

    A code cannot see every mistake of its own: ``repaired_rate`` is the share of the bits of codewords that were repaired,
    which for a decoder of nearest codewords is no more than was flipped, and ``likely`` what the closed form says of flips
    at that rate. Where as many were repaired as of random words, ``like_random_words``, the file may be of another code.
    ``expected_wrong_bits`` is Σ σ(−|λ|), of logits.
    """

    codes: Path
    held: str
    rows: int
    width: int
    packed: bool
    code: str
    corrects: int | None
    untouched: int | None
    repaired: int | None
    repaired_bits: int | None
    unsure: int
    first_unsure: list[int]
    doubt: float | None
    repaired_rate: float | None
    likely: ErrorRates | None
    like_random_words: bool
    expected_wrong_bits: float | None
    damage: Damage | None
    file: Path | None
    written: str | None
    columns: int | None
    dtype: str | None
    unsure_file: Path | None
    weights: Path | None
    seconds: float


@dataclass
class _Counted:
    """Sums over the rows so far."""

    untouched: int = 0
    repaired_bits: int = 0
    expected_wrong_bits: float = 0.0
    flipped: int = 0
    wrong_and_sure: int = 0
    errors: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    unsure: list[NDArray[numpy.int64]] = field(default_factory=list)


@dataclass(frozen=True)
class _Decided:
    """Information bits ``[B, K]`` and whether they are sure ``[B]``; ``repaired [B, N]`` where damage can show."""

    information_bits: Tensor
    sure: Tensor
    repaired: Tensor | None = None
    logits: Tensor | None = None


def decode(
    config: DecodeConfig,
    named: frozenset[str] = frozenset(),
    on_note: OnNote | None = None,
    on_rows: OnRows | None = None,
) -> DecodeResult:
    """Decode every row of a file of codes; ``on_rows`` is told how many are done, ``on_note`` what is strange of them.

    Rows are read, decoded and written some at once, and a file has its name only when it is whole. Raises UsageError where
    there is nothing to repair, no decoder, or no file for what is to be written, InputOutputError where files cannot be
    read or written.
    """
    started = time.perf_counter()
    config.require_code(named)
    config.require_output(named)
    owner = coded(config, named, with_model=config.write in OF_MODEL)
    rows = owner.open(config.codes, config.bits)
    decoder = _Decoder(owner, rows, config)
    if rows.kind == "logits" and on_note is not None:
        doubt = doubtful_logits(rows.path, rows.logits(*next(rows.spans())))
        if doubt is not None:
            on_note(doubt)
    counted = _Counted()
    with _output(config, owner, rows) as file, torch.no_grad():
        done = 0
        while done < len(rows):
            stop = min(done + max(1, _VALUES_AT_ONCE // owner.code.n), len(rows))
            decided = decoder.decide(done, stop, counted)
            if file is not None:
                file.write(decoder.written(decided.information_bits))
            done = stop
            if on_rows is not None:
                on_rows(done, len(rows))
    unsure = numpy.concatenate(counted.unsure)
    if config.unsure is not None:
        _write_numbers(config.unsure, unsure)
    checked = not decoder.of_information
    rate = counted.repaired_bits / (len(rows) * owner.code.n) if decoder.held == "codewords" else None
    strange = None
    if rate is not None and config.flip is None:
        strange = as_random_words(owner, rows, counted.untouched, rate)
        if owner.code.n == owner.code.k and on_note is not None:
            on_note(
                f"Every word is a codeword of {owner.label}, which adds no bits: damage does not show and is not repaired."
            )
    if strange is not None and on_note is not None:
        on_note(strange)
    return DecodeResult(
        codes=config.codes,
        held=decoder.held,
        rows=len(rows),
        width=rows.width,
        packed=rows.kind == "packed",
        code=owner.label,
        corrects=owner.code.correctable,
        untouched=counted.untouched if checked else None,
        repaired=len(rows) - counted.untouched if checked else None,
        repaired_bits=counted.repaired_bits if checked else None,
        unsure=len(unsure),
        first_unsure=unsure[:_SHOWN].tolist(),
        doubt=config.doubt if rows.kind == "logits" else None,
        repaired_rate=rate,
        likely=owner.code.spec.error_rates(owner.code.n, rate) if rate else None,
        like_random_words=strange is not None,
        expected_wrong_bits=counted.expected_wrong_bits if rows.kind == "logits" else None,
        damage=None if config.flip is None else _damage(config.flip, config.seed, counted, owner, len(rows)),
        file=config.output,
        written=None if config.output is None else config.write,
        columns=None if config.output is None else _columns(config, owner),
        dtype=None if config.output is None else _dtype(config, owner),
        unsure_file=config.unsure,
        weights=owner.weights,
        seconds=time.perf_counter() - started,
    )


class _Decoder:
    """Decides chunk after chunk; every draw comes of ``config.seed``."""

    def __init__(self, owner: Coded, rows: CodeRows, config: DecodeConfig) -> None:
        self._owner, self._rows, self._config = owner, rows, config
        self._soft = rows.kind == "logits"
        self.of_information = rows.width != owner.code.n
        self.held = {
            (False, False): "codewords",
            (False, True): "code logits",
            (True, False): "information bits",
            (True, True): "logits of the information bits",
        }[self.of_information, self._soft]
        self._generator = Generator(owner.device).manual_seed(config.seed)
        self._require_sense()

    def decide(self, start: int, stop: int, counted: _Counted) -> _Decided:
        """Decode some rows, and count what became of them."""
        decided = self._decide_logits(start, stop) if self._soft else self._decide_bits(start, stop, counted)
        if decided.repaired is not None:
            repaired = decided.repaired.sum(-1)
            counted.untouched += int((repaired == 0).sum())
            counted.repaired_bits += int(repaired.sum())
        if decided.logits is not None:
            counted.expected_wrong_bits += float(torch.sigmoid(-decided.logits.cpu().double().abs()).sum())
        counted.unsure.append(start + (~decided.sure).nonzero(as_tuple=True)[0].cpu().numpy())
        return decided

    def written(self, information_bits: Tensor) -> NDArray[Any]:
        """Return what is written of words ``[B, K]``."""
        config, owner = self._config, self._owner
        if config.write == "information-bits":
            return self._as_bits(information_bits)
        codewords = owner.code.encode(information_bits)
        if config.write == "codewords":
            return self._as_bits(codewords)
        assert owner.model is not None
        likelihood, outputs = owner.model.likelihood, owner.model.outputs(codewords.to(owner.model.dtype))
        if config.write != "samples":
            return likelihood.means(outputs).cpu().numpy().astype(config.precision)
        drawn = likelihood.draw(outputs, self._generator, 1.0)
        if likelihood.row_dtype is torch.uint8:
            return self._as_bits(drawn)
        return drawn.to(likelihood.row_dtype).cpu().numpy()

    def _as_bits(self, bits: Tensor) -> NDArray[Any]:
        values = bits.to(torch.uint8).cpu().numpy()
        return numpy.packbits(values, axis=1) if self._config.packed else values

    def _decide_logits(self, start: int, stop: int) -> _Decided:
        code = self._owner.code
        received = torch.from_numpy(self._rows.logits(start, stop)).to(self._owner.device)
        logits = received if self.of_information else code.soft_decode(received)
        bits = (logits > 0).float()
        sure = (torch.sigmoid(-logits.abs()) <= self._config.doubt).all(-1)
        # A logit of 0 says nothing, and nothing is repaired where nothing was said.
        repaired = None if self.of_information else ((code.encode(bits) > 0) != (received > 0)) & (received != 0)
        return _Decided(bits, sure, repaired, logits)

    def _decide_bits(self, start: int, stop: int, counted: _Counted) -> _Decided:
        code = self._owner.code
        stored = self._bits(start, stop)
        if self.of_information:
            return _Decided(stored, torch.ones(len(stored), dtype=torch.bool))
        received = stored
        if self._config.flip is not None:
            flips = torch.rand(stored.shape, device=stored.device, generator=self._generator) < self._config.flip
            received = (stored.bool() ^ flips).to(stored.dtype)
            counted.flipped += int(flips.sum())
        bits = code.decode(received, self._generator)
        repaired = code.encode(bits) != received
        if start == 0 and self._config.flip is None:
            require_bit_order(code, self._rows, repaired, self._owner.device)
        sure = code.is_guaranteed(repaired)
        if self._config.flip is not None:
            truth = code.decode(stored)
            self._require_codewords(stored, code.encode(truth), start)
            wrong = (bits != truth).cpu().double()
            share, any_wrong = wrong.mean(-1), wrong.amax(-1)
            counted.errors += torch.stack([share.sum(), share.square().sum(), any_wrong.sum()])
            counted.wrong_and_sure += int(((any_wrong > 0) & sure.cpu()).sum())
        return _Decided(bits, sure, repaired)

    def _bits(self, start: int, stop: int) -> Tensor:
        return torch.from_numpy(self._rows.bits(start, stop)).to(self._owner.device).float()

    def _require_sense(self) -> None:
        config, spec, path = self._config, self._owner.code.spec, self._rows.path
        if self.of_information and (config.write == "information-bits" or config.flip is not None):
            raise UsageError(
                f"{path} holds {self.held} of {self._owner.owner}, which alone show no damage: nothing can be repaired.",
                "Keep codes with `bvae encode --write codewords` or code-logits; --write codewords, probabilities and "
                "samples need no repair.",
            )
        self._require_likelihood()
        if config.flip is not None and self._soft:
            raise UsageError(f"--flip flips bits; {path} holds logits.", "Take codewords, or leave it out.")
        reason = None if self.of_information else spec.no_soft_decoder() if self._soft else spec.no_hard_decoder()
        if reason is not None:
            raise UsageError(reason, "`bvae codes show NAME` says which decoders a code has.")

    def _require_likelihood(self) -> None:
        """Raise UsageError where what is to be written is not what the model's likelihood has."""
        config, model = self._config, self._owner.model
        if model is None:
            return
        told, are_bits = model.likelihood.told, model.likelihood.row_dtype is torch.uint8
        if config.write in ("means", "probabilities") and config.write != told:
            raise UsageError(
                f"The likelihood of {self._owner.owner} is {model.likelihood.name}: its decoder gives {told}.",
                f"Take --write {told}.",
            )
        if config.packed and config.write == "samples" and not are_bits:
            raise UsageError(
                f"--packed is for bits; rows of the likelihood {model.likelihood.name} are none.", "Leave it out."
            )

    def _require_codewords(self, stored: Tensor, codewords: Tensor, start: int) -> None:
        wrong = (stored != codewords).any(-1)
        if wrong.any():
            raise InputOutputError(
                f"Row {start + int(wrong.int().argmax())} of {self._rows.path} is no codeword of {self._owner.owner}: the "
                "damage that --flip makes cannot be told from the damage that is there.",
                "Give --flip codewords, or leave it out to repair what is there.",
            )


def _damage(epsilon: float, seed: int, counted: _Counted, owner: Coded, rows: int) -> Damage:
    code = owner.code
    return Damage(
        epsilon=epsilon,
        seed=seed,
        flipped_bits=counted.flipped,
        measured=errors_of(counted.errors, rows, code.k, epsilon),
        closed_form=code.spec.error_rates(code.n, epsilon),
        wrong_and_sure=counted.wrong_and_sure,
    )


def _columns(config: DecodeConfig, owner: Coded) -> int:
    widths = {"information-bits": owner.code.k, "codewords": owner.code.n}
    if owner.model is not None:
        likelihood = owner.model.likelihood
        # Of symbols there is a probability each.
        widths |= {
            "samples": likelihood.features,
            "means": likelihood.features,
            "probabilities": likelihood.width,
        }
    width = widths[config.write]
    return packed_bytes(width) if config.packed else width


def _dtype(config: DecodeConfig, owner: Coded) -> str:
    if config.write in ("probabilities", "means"):
        return config.precision
    if config.write == "samples" and owner.model is not None:
        return str(owner.model.likelihood.row_dtype).removeprefix("torch.")
    return "uint8"


@contextlib.contextmanager
def _output(config: DecodeConfig, owner: Coded, rows: CodeRows) -> Iterator[ArrayFile | None]:
    if config.output is None:
        yield None
        return
    with files.new_file(config.output) as file:
        yield ArrayFile(file, len(rows), _columns(config, owner), _dtype(config, owner))


def _write_numbers(path: Path, numbers: NDArray[numpy.int64]) -> None:
    with files.new_file(path) as file:
        numpy.save(file, numbers, allow_pickle=False)
