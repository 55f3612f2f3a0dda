"""What every data set must do, as named checks: each failure says what was seen and what is likely wrong."""

from __future__ import annotations

import contextlib
import json
import math
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn
from unittest import mock

import numpy as np
import torch

from bvae_cli.config import VALUES
from bvae_cli.conformance.checks import NotCheckedError, Outcome, fail, tried
from bvae_cli.datasets.base import DatasetSpec, SplitName, Splits
from bvae_cli.datasets.rows import Rows, extremes, pieces
from bvae_cli.errors import BvaeError

_HEAVY = ("torch", "numpy", "scipy", "pandas", "PIL", "pooch", "pyarrow")
_SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
_MOST_ENUMERATED_BITS = 16
# Deviations of a mean from what is expected of it; chance alone exceeds them once in 10⁹ times.
_DEVIATIONS = 6.0
_ROUNDING = 1e-9


@dataclass(frozen=True)
class DataSubject:
    """The data set under test: its spec, and ``missing``, the same data set with files that are not there, if it has any."""

    spec: DatasetSpec
    missing: DatasetSpec | None = None

    @cached_property
    def splits(self) -> Splits:
        """The splits of a first loading."""
        return _loaded(self.spec, 0)

    @cached_property
    def again(self) -> Splits:
        """Those of a second loading, in another state of the global random generators."""
        return _loaded(self.spec, 1)


def _loaded(spec: DatasetSpec, seed: int) -> Splits:
    """Load in a state of the global random generators that a data set must not read; it is given back after that."""
    before = np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            np.random.seed(seed)
            return spec.load()
    finally:
        np.random.set_state(before)


@dataclass(frozen=True)
class DataCheck:
    """One thing that every data set must do."""

    name: str
    meaning: str
    run: Callable[[DataSubject], None]


CHECKS: list[DataCheck] = []


def _check(function: Callable[[DataSubject], None]) -> Callable[[DataSubject], None]:
    CHECKS.append(DataCheck(function.__name__, function.__doc__ or "", function))
    return function


def outcomes_of(subject: DataSubject) -> Iterator[Outcome]:
    """Run every check, and go on after a failure."""
    for one in CHECKS:
        yield outcome_of(one, subject)


def outcome_of(one: DataCheck, subject: DataSubject) -> Outcome:
    """Run one check."""
    return tried(one, lambda: one.run(subject))


@_check
def described(subject: DataSubject) -> None:
    """The spec says what it is, under which licence, and every option what it does."""
    kind = type(subject.spec)
    if not kind.summary or not kind.licence:
        fail(
            f"{kind.__name__} has no summary or no licence.",
            "set both as ClassVar[str]; an unknown licence is 'not stated'.",
        )
    for name, info in kind.model_fields.items():
        if not info.description:
            fail(f"The option '{name}' has no description.", "give its Field a description: it is the help.")


@_check
def options_survive(subject: DataSubject) -> None:
    """Options go into JSON and come back as the same spec; unknown ones are refused, none changes, for_likelihood agrees."""
    spec = subject.spec
    again = type(spec).model_validate(json.loads(json.dumps(spec.model_dump(mode="json"))))
    if again != spec:
        fail(f"{spec!r} comes back as {again!r}.", "an option whose type JSON does not have, or that is changed.")
    if not spec.model_config.get("frozen") or spec.model_config.get("extra") != "forbid":
        fail("The options can be changed, or unknown ones are let pass.", "derive model_config from DatasetSpec.")
    if spec.for_likelihood("auto") != spec:
        fail("for_likelihood('auto') is another spec.", "nothing was named: return self.")
    for name in VALUES:
        read = spec.for_likelihood(name)
        if type(read) is not type(spec) or read.for_likelihood(name) != read:
            fail(f"for_likelihood('{name}') is {read!r}.", "return a copy with another option, or self.")


@_check
def built_without_torch(subject: DataSubject) -> None:
    """Importing and building the spec imports nothing that takes long: bvae's help waits for it."""
    kind = type(subject.spec)
    if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
        raise NotCheckedError("the class cannot be imported by its name")
    program = (
        f"import sys, json; sys.path[:] = json.loads(sys.argv[1]); import {kind.__module__} as module\n"
        f"module.{kind.__qualname__}.model_validate_json(sys.argv[2])\n"
        f"print(*sorted(set({_HEAVY!r}) & set(sys.modules)))"
    )
    arguments = [sys.executable, "-c", program, json.dumps(sys.path), subject.spec.model_dump_json()]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        fail(
            f"In a process of its own it cannot be built: {done.stderr.strip().splitlines()[-1]}.",
            "an import that is missing.",
        )
    if done.stdout.strip():
        fail(f"Building it imports {', '.join(done.stdout.split())}.", "move the import into load().")


@_check
def files_are_there(subject: DataSubject) -> None:
    """check() raises nothing where the data can be loaded."""
    subject.spec.check()


@_check
def missing_files_are_named(subject: DataSubject) -> None:
    """check() raises an InputOutputError, with what to do, where a file is missing, without reading anything."""
    if subject.missing is None:
        raise NotCheckedError("no spec with missing files is given (missing)")
    try:
        subject.missing.check()
    except BvaeError as error:
        if error.exit_code != 3 or not error.hint:
            fail(
                f"It raises {type(error).__name__} with the hint {error.hint!r}.", "raise InputOutputError(sentence, hint)."
            )
        return
    fail("check() says nothing of files that are not there.", "call bvae_cli.sources.require_file in check().")


@_check
def contract(subject: DataSubject) -> None:
    """The splits are what Splits says: types, sizes, values that the likelihood takes."""
    problem = subject.splits.problem()
    if problem is not None:
        fail(f"The data set gave {problem}.", "see Splits in bvae_cli.datasets.base.")


@_check
def facts(subject: DataSubject) -> None:
    """Source, licence, likelihood, the shape of a row, and of symbols how many there are, are said."""
    splits = subject.splits
    if not (isinstance(splits.source, str) and splits.source and isinstance(splits.licence, str) and splits.licence):
        fail("The splits do not say their source or licence.", "both are texts; an unknown licence is 'not stated'.")
    if splits.likelihood not in VALUES:
        fail(f"The likelihood is '{splits.likelihood}'.", f"it is one of {', '.join(VALUES)}.")
    if not isinstance(splits.feature_shape, tuple) or not all(type(size) is int for size in splits.feature_shape):
        fail(f"The feature shape is {splits.feature_shape!r}.", "it is a tuple of int.")
    if not isinstance(splits.categories, tuple) or not all(type(number) is int for number in splits.categories):
        fail("The categories are no tuple of int.", "how many symbols each column has; empty where there are none.")
    if not isinstance(splits.vocabulary, tuple) or not all(isinstance(symbol, str) for symbol in splits.vocabulary):
        fail(
            "The vocabulary is no tuple of str.",
            "the symbols, in the order of their numbers; empty where they have no names.",
        )


@_check
def one_kind_of_values(subject: DataSubject) -> None:
    """All splits are of one type; with fresh bits training rows are probabilities and all others bits."""
    splits = subject.splits
    kinds = [splits.split(name).dtype for name in _SPLITS]
    if splits.fresh_bits:
        if kinds != [torch.float32, torch.uint8, torch.uint8]:
            fail(f"With fresh_bits the splits are {kinds}.", "validation and test are bits that are drawn once.")
    elif len(set(kinds)) > 1:
        fail(f"The splits are {kinds}.", "a split that happens to be all 0 and 1 is still of the kind of the others.")
    may_be_grey = splits.likelihood == "bernoulli" and not splits.fresh_bits and kinds[0] is torch.float32
    if may_be_grey and all(_are_bits(splits.split(name)) for name in _SPLITS):
        fail(
            "All values are 0 and 1, as float32.",
            "bits are uint8; float32 is taken for grey values, which have no likelihood.",
        )
    for name, kind in zip(_SPLITS, kinds, strict=True):
        if kind is torch.uint8 and extremes(splits.split(name))[1] > 1:
            fail(f"The {name} split is uint8 and not of bits.", "grey values are float32 in 0…1.")


def _are_bits(rows: torch.Tensor | Rows) -> bool:
    return all(bool(((piece == 0) | (piece == 1)).all()) for piece in pieces(rows))


@_check
def labels_match(subject: DataSubject) -> None:
    """Labels are one whole number (int64) for each row of their split."""
    splits = subject.splits
    for name in _SPLITS:
        labels, rows = getattr(splits, f"{name}_labels"), len(splits.split(name))
        if labels is not None and (labels.dtype is not torch.int64 or tuple(labels.shape) != (rows,)):
            fail(
                f"The labels of {name} are {labels.dtype} {tuple(labels.shape)} for {rows} rows.", "int64, one for each row."
            )


@_check
def order_is_of_the_rows(subject: DataSubject) -> None:
    """The order holds a number for each row of all splits, and none twice."""
    order, total = subject.splits.order, sum(len(subject.splits.split(name)) for name in _SPLITS)
    if order is None:
        raise NotCheckedError("the splits have no order")
    if order.dtype is not torch.int64 or tuple(order.shape) != (total,) or len(order.unique()) != total:
        fail(
            f"order is {order.dtype} {tuple(order.shape)} for {total} rows, or has a number twice.",
            "numbers of the file's rows.",
        )


@_check
def rows_are_taken_alike(subject: DataSubject) -> None:
    """Rows that stay in a file are the same by number, by slice and in batches."""
    split = subject.splits.train
    if not isinstance(split, Rows):
        raise NotCheckedError("the rows are in memory")
    count = min(len(split), 50)
    numbers = torch.arange(count).flip(0)
    by_slice, by_number = split[:count], split[numbers].flip(0)
    in_batches = torch.cat(list(split.batches(numbers, 7))).flip(0)
    in_pieces = torch.cat(list(split.first(count).split(7)))
    for name, rows in (("by number", by_number), ("in batches", in_batches), ("in pieces", in_pieces)):
        if not rows.equal(by_slice):
            fail(f"Rows taken {name} are not those of a slice.", "see Rows in bvae_cli.datasets.rows.")


@_check
def loads_twice_alike(subject: DataSubject) -> None:
    """A second loading gives the same splits, labels and order, whatever the global random state is."""
    first, second = subject.splits, subject.again
    if first.digest() != second.digest():
        fail(
            "Loading twice gives other values.",
            "draw with a generator of your own and a seed; sort files.",
        )
    for name in (*(f"{split}_labels" for split in _SPLITS), "order"):
        one, other = getattr(first, name), getattr(second, name)
        if (one is None) != (other is None) or (one is not None and not one.equal(other)):
            fail(f"Loading twice gives other {name}.", "a set or a folder without an order.")


@_check
def leaves_the_random_state(subject: DataSubject) -> None:
    """Loading does not touch the global random state."""
    before, numpy_before = torch.get_rng_state(), pickle.dumps(np.random.get_state())
    subject.spec.load()
    if not torch.get_rng_state().equal(before) or pickle.dumps(np.random.get_state()) != numpy_before:
        fail("Loading changes the global random state.", "use torch.Generator() or numpy.random.Generator.")


@_check
def needs_no_pickles(subject: DataSubject) -> None:
    """Loading unpickles nothing: a pickle is a program."""
    with _refusing("unpickled", (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        subject.spec.load()


@_check
def loads_offline_again(subject: DataSubject) -> None:
    """What was loaded once needs no network."""
    _ = subject.splits
    with _refusing("connected to", (socket.socket, "connect"), (socket, "getaddrinfo")):
        subject.spec.load()


@_check
def entropy_is_that_of_the_rows(subject: DataSubject) -> None:
    """Where log p(x) is known, it sums to 1, and its mean over the rows is minus the entropy, where that is known."""
    splits, entropy = subject.splits, subject.spec.entropy()
    logs = subject.spec.log_prob(torch.as_tensor(splits.train[:]))
    if logs is None and entropy is None:
        raise NotCheckedError("the distribution of the rows is not known")
    if logs is None or logs.dtype is not torch.float64 or not bool(logs.isfinite().all()):
        fail("log_prob of the rows is not a finite float64.", "nats, and every row that is drawn is possible.")
    # A density may be above 1.
    if splits.likelihood != "gaussian" and not bool((logs <= _ROUNDING).all()):
        fail("log_prob of the rows is above 0.", "it is the logarithm of a probability.")
    error = float(logs.std()) / math.sqrt(len(logs)) if len(logs) > 1 else math.inf
    if entropy is not None and abs(float(logs.mean()) + entropy) > _DEVIATIONS * error + _ROUNDING:
        fail(
            f"The mean log p(x) is {float(logs.mean()):.6g}, the entropy {entropy:.6g}.", "bits in place of nats, or a sign."
        )
    everything = _every_row(splits)
    if everything is not None:
        probabilities = subject.spec.log_prob(everything)
        assert probabilities is not None  # that of the rows above was there
        if abs(float(probabilities.exp().sum()) - 1) > _ROUNDING:
            fail(f"p(x) sums to {float(probabilities.exp().sum()):.12g}.", "a normaliser that is not right.")


def _every_row(splits: Splits) -> torch.Tensor | None:
    """Return every row that there can be, where these are few, of bits or of symbols; else None."""
    dtype = splits.train.dtype
    sizes = {torch.uint8: (2,) * splits.features, torch.int16: splits.categories}.get(dtype)
    if sizes is None or math.prod(sizes) > 2**_MOST_ENUMERATED_BITS:
        return None
    return torch.cartesian_prod(*(torch.arange(size) for size in sizes)).reshape(-1, splits.features).to(dtype)


@contextlib.contextmanager
def _refusing(what: str, *places: tuple[Any, str]) -> Iterator[None]:
    def refuse(*_: object, **__: object) -> NoReturn:
        fail(f"Something was {what} while the data were loaded.", "see the name of this check.")

    with contextlib.ExitStack() as stack:
        for owner, name in places:
            stack.enter_context(mock.patch.object(owner, name, refuse))
        yield
