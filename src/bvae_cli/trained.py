"""What a person can say to the commands that work with a trained model or its codes.

As in ``config``, nothing here imports torch or numpy.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from bvae_cli.config import DATA, LARGEST_COUNT, MACHINE, MODEL, OUTPUT, ModelChoice, PluginRef, digest_of, parse_dataset
from bvae_cli.errors import InputOutputError, UsageError, nearest
from bvae_cli.extras import require_extra
from bvae_cli.fields import option
from bvae_cli.parquet_files import PARQUET
from bvae_cli.sources import require_file

Split = Literal["validation", "test"]
EncodedSplit = Literal["all", "train", "validation", "test"]
Encoded = Literal["information-bits", "codewords", "probabilities", "logits", "code-logits"]
ExportFormat = Literal["onnx", "safetensors", "torch"]
Decoded = Literal["information-bits", "codewords", "probabilities", "means", "samples"]
BITS: tuple[Encoded, ...] = ("information-bits", "codewords")

_FIXED, _BIT = re.compile(r"m([1-9]\d{0,8})=([01])"), re.compile(r"m([1-9]\d{0,8})")
_ROW, _ROWS = re.compile(r"\d{1,9}"), re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")
# Rows that can be named one by one; all of them need no names.
_MOST_ROWS = 10_000_000
STRONGEST = "strongest"
# Characters that the bits or rows asked for may take in a file's name, and how many of more are told.
_LONGEST_IN_A_NAME, _TOLD_IN_A_NAME = 60, 3
SHEETS = ("sweep", "posterior", "between")
# Words of a sweep and draws of a posterior, where nobody says how many.
_WORDS_OF_A_SHEET = 8
# What `evaluate`, which draws nothing, does without.
OF_DRAWING = ("num_samples", "temperature", "out", "fix", *SHEETS)


class TrainedChoice(ModelChoice):
    """What every command needs that works with a trained model: which one, on what data, and where."""

    lr: Annotated[float, option(MODEL, decides=False)] = Field(
        0.001, gt=0, le=10, description="Learning rate of the run to find, where no weights are named."
    )
    beta_max: Annotated[float, option(MODEL, decides=False)] = Field(
        1.0, ge=0, le=1000, description="--beta-max of the run to find, where no weights are named."
    )
    output_dir: Annotated[Path, option(MODEL, decides=False)] = Field(
        Path("weights"), description="Folder that holds the folders of runs."
    )
    weights: Annotated[
        Path | None, option(MODEL, "-w", "--weights", "--w_save_path", decides=False, metavar="FILE|FOLDER")
    ] = Field(None, description="A run's folder or its weights; else the run that -n and the code's options name.")
    dataset: Annotated[PluginRef | None, BeforeValidator(parse_dataset), option(DATA, metavar="NAME|PATH")] = Field(
        None, description="Data to take [default: what the model was trained on]."
    )
    subset: Annotated[int, option(DATA)] = Field(
        0, ge=0, le=LARGEST_COUNT, description="Take the first so many rows only; 0 takes all."
    )
    device: Annotated[str, option(MACHINE, decides=False)] = Field(
        "auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, cuda, cuda:0 … or mps."
    )
    threads: Annotated[int, option(MACHINE, decides=False)] = Field(
        0, ge=0, le=4096, description="CPU threads; 0 leaves the choice to torch."
    )

    def _builds_its_size(self) -> bool:
        return self.weights is None

    @property
    def inputs(self) -> list[Path]:
        """The files and folders that are named to be read."""
        weights = [] if self.weights is None else [self.weights]
        return weights if self.dataset is None else [*weights, *self.dataset.paths("data set")]


class SampleConfig(TrainedChoice):
    """What ``sample`` and ``evaluate`` need: which model, how many samples, on how much data."""

    split: Annotated[Split, option(DATA)] = Field("validation", description="Rows to measure on: validation or test.")
    iwae_samples: Annotated[int, option(DATA)] = Field(
        64, ge=1, le=1_000_000, description="Draws S of the tighter bound IWAE-S."
    )
    num_samples: Annotated[int, option(OUTPUT)] = Field(64, ge=1, le=10_000_000, description="How many samples to draw.")
    temperature: Annotated[float, option(OUTPUT)] = Field(
        1.0, gt=0, le=100, description="Divides the decoder's logits when samples are drawn; below 1 they are sharper."
    )
    out: Annotated[Path | None, option(OUTPUT, "-o", "--out", decides=False)] = Field(
        None, description="Folder for the samples [default: samples/ beside the weights]."
    )
    seed: Annotated[int, option(OUTPUT)] = Field(0, ge=0, lt=2**63, description="Seed of every draw.")
    fix: Annotated[str, option(OUTPUT, metavar="BITS")] = Field(
        "", description="Information bits that every drawn word has, as m1=1,m7=0; the others are drawn."
    )
    sweep: Annotated[str, option(OUTPUT, metavar="BITS")] = Field(
        "",
        description="A sheet instead: words from the prior, each with these bits at 0 and at 1, as m3 or m1,m2; "
        "'strongest' finds the bits that change a picture most.",
    )
    posterior: Annotated[str, option(OUTPUT, metavar="ROWS")] = Field(
        "", description="A sheet instead: rows of the split, counted from 0, as 0,5; with their words and draws from q."
    )
    between: Annotated[str, option(OUTPUT, metavar="ROW,ROW")] = Field(
        "", description="A sheet instead: the words between those of two rows, one bit after the other, as 3,8."
    )

    @model_validator(mode="after")
    def _one_sheet(self) -> Self:
        _ = self.fixed, self.swept, self.rows
        asked = [name for name in SHEETS if getattr(self, name)]
        if len(asked) > 1:
            raise UsageError(f"--{asked[0]} and --{asked[1]} ask for two sheets.", "Ask for one at a time.")
        if self.fix and asked and asked != ["sweep"]:
            raise UsageError(f"--fix says nothing to --{asked[0]}: its words come from rows.", "Leave one of them out.")
        if twice := sorted(self.fixed.keys() & set(self.swept)):
            raise UsageError(f"--sweep and --fix both name m{twice[0]}.", "A bit is swept or fixed.")
        if self.between and len(self.rows) != 2:
            raise UsageError(f"--between '{self.between}' does not name two rows.", "As in --between 3,8.")
        return self

    def require_use(self, named: Collection[str]) -> None:
        """Raise UsageError where a person ``named`` an option that changes nothing of the sheet that is asked for."""
        if self._kind != "samples" and "temperature" in named:
            raise UsageError(
                f"--temperature says how samples are drawn; --{self._kind} draws none, and shows the decoder's means.",
                "Leave one of them out.",
            )
        if self.between and "num_samples" in named:
            raise UsageError(
                "--num-samples says nothing to --between: the words on the way are those that there are.", "Leave it out."
            )

    def count(self, named: frozenset[str]) -> int:
        """Return how many samples, words of a sweep or draws of a posterior are drawn; ``named`` are the fields given."""
        return _WORDS_OF_A_SHEET if self._kind != "samples" and "num_samples" not in named else self.num_samples

    def file_stem(self, named: frozenset[str]) -> str:
        """Return the name of what is drawn, without its suffix: it tells everything that was asked for and decides it.

        The data do where rows of them are drawn. ``named`` are the fields that a person gave.
        """
        fixed = [f"m{bit}={value}" for bit, value in sorted(self.fixed.items())]
        kind = self._kind
        asked: list[str] = []
        if kind == "sweep":
            asked = [f"m{bit}" for bit in self.swept] or [STRONGEST]
        elif kind != "samples":
            asked = [*([] if self.split == "validation" else [self.split]), *map(str, self.rows)]
        more = [f"t={self.temperature:g}"] if kind == "samples" and self.temperature != 1 else []
        usual = SampleConfig.model_fields["num_samples"].default if kind == "samples" else _WORDS_OF_A_SHEET
        if kind != "between" and self.count(named) != usual:
            more.append(f"count={self.count(named)}")
        if kind in ("posterior", "between") and self.dataset is not None:
            more += _name_of(self.dataset)
        return "_".join([kind, *_short(asked), f"seed_{self.seed}", *_short(fixed), *more])

    @property
    def _kind(self) -> str:
        return next((name for name in SHEETS if getattr(self, name)), "samples")

    @property
    def fixed(self) -> dict[int, int]:
        """The values of the bits that are fixed, by number from 1. Raises UsageError for what contradicts itself."""
        values: dict[int, int] = {}
        for part in _parts(self.fix):
            found = _FIXED.fullmatch(part)
            if found is None:
                raise UsageError(f"--fix '{self.fix}': '{part}' fixes no bit.", "As in m1=1,m7=0, the first bit being m1.")
            bit, value = int(found[1]), int(found[2])
            if values.setdefault(bit, value) != value:
                raise UsageError(f"--fix says that m{bit} is 0 and that it is 1.", "Say one of them.")
        return values

    @property
    def swept(self) -> list[int]:
        """The bits that are swept, by number from 1, each once; none where they are to be found."""
        if self.sweep == STRONGEST:
            return []
        found = {part: _BIT.fullmatch(part) for part in _parts(self.sweep)}
        for part, match in found.items():
            if match is None:
                raise UsageError(f"--sweep '{self.sweep}': '{part}' is no bit.", "As in m1,m7, the first bit being m1.")
        return list(dict.fromkeys(int(part[1:]) for part in found))

    @property
    def rows(self) -> list[int]:
        """The rows of the split that a sheet is drawn of, counted from 0. Raises UsageError for one that is named twice."""
        name = "between" if self.between else "posterior"
        text = getattr(self, name)
        for part in _parts(text):
            if _ROW.fullmatch(part) is None:
                raise UsageError(f"--{name} '{text}': '{part}' is no row.", "As in 3,8, the first row being 0.")
        rows = [int(part) for part in _parts(text)]
        if twice := [row for row in rows if rows.count(row) > 1]:
            raise UsageError(
                f"--{name} '{text}' names row {twice[0]} twice.",
                "Between a row and itself there is nothing: name another one."
                if self.between
                else "Name it once; --num-samples says how many words are drawn of each row.",
            )
        return rows


class EncodeConfig(TrainedChoice):
    """What ``encode`` needs: which model, which rows, and what is written of each."""

    split: Annotated[EncodedSplit, option(DATA)] = Field(
        "all", description="Rows to encode: one split, or all of them in the order of their file."
    )
    output: Annotated[Path, option(OUTPUT, "-o", "--output", "--out", decides=False, metavar="FILE")] = Field(
        description="File to write, one row for each row of the data: .npy, or .parquet."
    )
    write: Annotated[Encoded, option(OUTPUT)] = Field(
        "information-bits",
        description="What to write: the most probable information bits, their codeword, the posterior probabilities or "
        "logits of the information bits, or the encoder's logits of the code bits.",
    )
    packed: Annotated[bool, option(OUTPUT)] = Field(
        False, description="Write bits eight to a byte, as numpy.packbits does along a row; else one to a byte."
    )
    precision: Annotated[Literal["float32", "float16"], option(OUTPUT)] = Field(
        "float32", description="Type of what is not bits."
    )

    @model_validator(mode="after")
    def _can_be_written(self) -> Self:
        if self.output.suffix not in (".npy", PARQUET):
            raise UsageError(
                f"--output names no .npy or .parquet file; got '{self.output}'.", f"As in -o {self.output.stem}.npy."
            )
        _require_readers([self.output])
        if self.packed and self.write not in BITS:
            raise UsageError(f"--packed is for bits; {self.write} are numbers.", "--precision float16 halves them.")
        return self


class ExportConfig(TrainedChoice):
    """What ``export`` needs: which model, as what, where to, and on which rows it is checked and measured."""

    to: Annotated[ExportFormat, option(OUTPUT, decides=False)] = Field(
        description="onnx: graphs that onnxruntime runs; safetensors: weights; torch: weights for torch.load."
    )
    output: Annotated[Path, option(OUTPUT, "-o", "--output", "--out", decides=False, metavar="FOLDER")] = Field(
        description="Folder to write: the model, and what it is (README.md)."
    )
    split: Annotated[Split, option(DATA)] = Field(
        "validation", description="Rows to check and measure on: validation or test."
    )
    iwae_samples: Annotated[int, option(DATA)] = Field(
        64, ge=1, le=1_000_000, description="Draws S of the tighter bound IWAE-S that the model card tells."
    )
    seed: Annotated[int, option(DATA)] = Field(0, ge=0, lt=2**63, description="Seed of the draws of what is measured.")
    tolerance: Annotated[float, option(OUTPUT, decides=False)] = Field(
        1e-5,
        gt=0,
        le=0.01,
        description="Largest |a - b| / (1 + |b|) of what is exported, a, and torch, b; beyond it nothing is written.",
    )

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        if self.to == "onnx":
            require_extra("onnx", "onnx", "onnxruntime")
        elif self.to == "safetensors":
            require_extra("safetensors", "safetensors")
        return self


class CodesChoice(TrainedChoice):
    """What the commands share that read files of codes: how long a code is."""

    bits: Annotated[int | None, option(DATA)] = Field(
        None,
        ge=1,
        le=LARGEST_COUNT,
        description="Bits of a code, packed or not [default: those of the model's or the code's words].",
    )

    def names_a_code(self, named: frozenset[str]) -> bool:
        """Say whether a model or a code is named, by flags (``named``), a file or a variable."""
        return self.weights is not None or self.ecc.type != "none" or bool(named & {"ecc", "latent", "params"})

    def require_code(self, named: frozenset[str]) -> None:
        """Raise UsageError where neither a model nor a code is named."""
        if not self.names_a_code(named):
            raise UsageError(
                "Nothing says which code these are of.",
                "Name the run's folder, or the code with its size, as --ecc repetition --R 3 --latent 300.",
            )


class DecodeConfig(CodesChoice):
    """What ``decode`` needs: which codes, of which code or model, and what is written of each."""

    codes: Annotated[Path, option(DATA, decides=False)] = Field(
        description="Codes, possibly damaged: .npy or .parquet of codewords, packed or not, or of logits of the code bits."
    )
    flip: Annotated[float | None, option(DATA)] = Field(
        None,
        ge=0,
        le=0.5,
        description="Flip each bit with this probability first, and measure what is repaired beside the closed form.",
    )
    doubt: Annotated[float, option(DATA)] = Field(
        0.01,
        ge=0,
        le=0.5,
        description="Logits only: a row is not sure where some information bit is more likely than this to be wrong.",
    )
    seed: Annotated[int, option(DATA)] = Field(
        0, ge=0, lt=2**63, description="Seed of flips, of the coins that break ties, and of samples."
    )
    output: Annotated[Path | None, option(OUTPUT, "-o", "--output", "--out", decides=False, metavar="FILE.npy")] = Field(
        None, description="File to write: .npy, one row for each code [default: only the report]."
    )
    write: Annotated[Decoded, option(OUTPUT)] = Field(
        "information-bits",
        description="What to write: the information bits, their codewords, or what the model's decoder makes of them: "
        "probabilities (of real values and counts means), or samples.",
    )
    packed: Annotated[bool, option(OUTPUT)] = Field(
        False, description="Write bits eight to a byte, as numpy.packbits does along a row; else one to a byte."
    )
    precision: Annotated[Literal["float32", "float16"], option(OUTPUT)] = Field(
        "float32", description="Type of what is not bits."
    )
    unsure: Annotated[Path | None, option(OUTPUT, decides=False, metavar="FILE.npy")] = Field(
        None, description="Also write the numbers of the rows of which the code cannot be sure."
    )

    def require_output(self, named: frozenset[str]) -> None:
        """Raise UsageError where it is ``named`` what is written, and no file to write it into."""
        said = [name for name in ("write", "packed", "precision") if name in named]
        if said and self.output is None:
            raise UsageError(
                f"--{said[0]} says what is written, and no file is named to write it into.", "Name one with -o FILE.npy."
            )

    @property
    def inputs(self) -> list[Path]:
        """The files and folders that are named to be read."""
        return [*super().inputs, self.codes]

    @model_validator(mode="after")
    def _can_be_written(self) -> Self:
        _require_readers([self.codes])
        for name in ("output", "unsure"):
            path = getattr(self, name)
            if path is not None and path.suffix != ".npy":
                raise UsageError(f"--{name} names no .npy file; got '{path}'.", f"As in --{name} {path.stem}.npy.")
        if self.output is not None and self.unsure is not None and self.output.resolve() == self.unsure.resolve():
            raise UsageError(f"--output and --unsure both name {self.output}.", "Name two files.")
        if self.packed and self.write in ("probabilities", "means"):
            raise UsageError(f"--packed is for bits; {self.write} are numbers.", "--precision float16 halves them.")
        return self


class SearchConfig(CodesChoice):
    """What ``search`` needs: queries, the codes to search, how many neighbours, and what is known of them."""

    query: Annotated[Path | None, option(DATA, decides=False)] = Field(
        None,
        description="Queries: .npy or .parquet of codes, packed or not, or of logits; without it rows of a data set are "
        "encoded.",
    )
    codes: Annotated[Path, option(DATA, "--in", decides=False, metavar="FILE")] = Field(
        description="Codes to search: .npy or .parquet, packed or not, as `bvae encode` writes them."
    )
    split: Annotated[EncodedSplit, option(DATA)] = Field(
        "test", description="Without QUERY: rows to encode as queries, one split or all of them in the order of their file."
    )
    rows: Annotated[str, option(DATA, metavar="ROWS")] = Field(
        "", description="Take these rows of QUERY, or of the split, alone, counted from 0: 0,5 or 0-99."
    )
    soft: Annotated[bool, option(DATA)] = Field(
        False, description="Without QUERY: search by the encoder's logits instead of its bits."
    )
    labels: Annotated[Path | None, option(DATA, decides=False, metavar="FILE.npy|SPLIT")] = Field(
        None,
        description="A whole number for each code, or the split of the data set whose rows the codes are, in their order: "
        "measures precision@k, recall@k and mAP.",
    )
    query_labels: Annotated[Path | None, option(DATA, decides=False, metavar="FILE.npy|SPLIT")] = Field(
        None, description="The same for each row of QUERY [default: those of --split, where rows are encoded]."
    )
    exclude_self: Annotated[bool, option(DATA)] = Field(
        False, description="Query row i is row i of the codes: leave it out of its own neighbours."
    )
    neighbours: Annotated[int, option(OUTPUT, "-k", "--neighbours")] = Field(
        10, ge=1, le=LARGEST_COUNT, description="Neighbours of each query."
    )
    output: Annotated[Path | None, option(OUTPUT, "-o", "--output", "--out", decides=False, metavar="FILE.npz")] = Field(
        None, description="File to write: .npz with ids, distances and queries, and show no neighbours."
    )
    threads: Annotated[int, option(MACHINE, decides=False)] = Field(
        0, ge=0, le=4096, description="Threads that search; 0 takes one for each processor."
    )
    engine: Annotated[Literal["auto", "numpy", "faiss"], option(MACHINE, decides=False)] = Field(
        "auto",
        description="What searches by Hamming distance; all find the same. auto takes faiss only where numpy is older "
        "than 2 and faiss is installed.",
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        _ = self.chosen
        _require_readers([self.codes, self.query])
        if self.output is not None and self.output.suffix != ".npz":
            raise UsageError(f"--output names no .npz file; got '{self.output}'.", f"As in -o {self.output.stem}.npz.")
        if self.query is not None and self.soft:
            raise UsageError("--soft is for rows that are encoded.", "A QUERY of logits is a soft query by itself.")
        if self.query_labels is not None and self.labels is None:
            raise UsageError("--query-labels are there and --labels are not.", "Name the labels of the codes with --labels.")
        if self.labels is not None and self.query is not None and self.query_labels is None:
            raise UsageError(
                "--labels are there and --query-labels are not.",
                "Name a label for each row of QUERY, or the split that it holds: --query-labels test.",
            )
        if self.query is not None and self.dataset is None and (name := self._split_for_labels()):
            raise UsageError(
                f"'{name}' names the labels of a data set, and none is named.",
                "Name it with --dataset, or a .npy of labels.",
            )
        self._require_one_split()
        if self.engine == "faiss" and importlib.util.find_spec("faiss") is None:
            raise UsageError("faiss is not installed.", "pip install 'bvae-cli[search]', or take --engine numpy.")
        return self

    def _require_one_split(self) -> None:
        """Raise UsageError where the labels say that codes and queries are of different rows, and own ones are left out."""
        of_queries = self.query_labels if self.query_labels is not None or self.query is not None else self.split
        of_both = {str(split) for split in (self.labels, of_queries) if str(split) in get_args(EncodedSplit)}
        if self.exclude_self and len(of_both) > 1:
            raise UsageError(
                "--exclude-self leaves out code i for query row i, but the labels are of "
                f"{self.labels} rows for the codes and of {of_queries} rows for the queries.",
                "Row i of one is not row i of the other: leave it out.",
            )

    def _split_for_labels(self) -> str | None:
        """Return the first split that is named for its labels."""
        return next((str(path) for path in (self.labels, self.query_labels) if str(path) in get_args(EncodedSplit)), None)

    def require_files(self) -> None:
        """Raise InputOutputError where a file that is going to be read is missing, no file, or empty."""
        for path in (self.codes, self.query):
            if path is not None:
                require_file(path)
        for path in (self.labels, self.query_labels):
            if path is not None and str(path) not in get_args(EncodedSplit):
                require_labels(path)

    @property
    def inputs(self) -> list[Path]:
        """The files and folders that are named to be read."""
        of_labels = [path for path in (self.labels, self.query_labels) if str(path) not in get_args(EncodedSplit)]
        return [*super().inputs, *(path for path in (self.codes, self.query, *of_labels) if path is not None)]

    @property
    def chosen(self) -> list[int]:
        """The rows that are queries, counted from 0, as they were named; none where all are."""
        found: list[int] = []
        for part in _parts(self.rows):
            match = _ROWS.fullmatch(part)
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if last < first:
                raise UsageError(
                    f"--rows '{self.rows}': '{part}' names no rows.", "As in 0,5 or 0-99, the first row being 0."
                )
            if len(found) + last - first >= _MOST_ROWS:
                raise UsageError(f"--rows names more than {_MOST_ROWS:,} rows.", "Leave it out to take all rows.")
            found.extend(range(first, last + 1))
        return found


def _require_readers(paths: Iterable[Path | None]) -> None:
    """Raise UsageError where one of the files is a table of Parquet, and what reads and writes these is not installed."""
    if any(path is not None and path.suffix == PARQUET for path in paths):
        require_extra("parquet", "pyarrow")


def require_labels(path: Path) -> None:
    """Raise InputOutputError where a file of labels is missing, no file, or empty; the hint names the splits beside it."""
    if path.suffix or path.exists():
        require_file(path)
        return
    splits = get_args(EncodedSplit)
    near = nearest(str(path), splits)
    raise InputOutputError(
        f"There is no file {path}, and no split of that name.",
        (f"Did you mean {near}? " if near else "") + f"Labels are a .npy file, or those of a split: {', '.join(splits)}.",
    )


def _short(words: list[str]) -> list[str]:
    """Return words that are parts of a file's name; of many the first, and a digest of all."""
    if len("_".join(words)) <= _LONGEST_IN_A_NAME:
        return words
    return [*words[:_TOLD_IN_A_NAME], digest_of({"words": words})[:8]]


def _name_of(data: PluginRef) -> list[str]:
    """Return what tells a data set from others in a file's name: its type, and a digest of its options."""
    return [data.type, *([digest_of({"options": data.label()})[:8]] if data.options else [])]


def _parts(text: str) -> list[str]:
    """Return the parts of a list with commas; an empty text has none."""
    return [part.strip() for part in text.split(",")] if text else []
