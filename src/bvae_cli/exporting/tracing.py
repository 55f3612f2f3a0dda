"""Which operations of torch a function of rows takes, recorded while it takes them, for any number of rows.

A code's soft decoder may be a sum, a trellis or ten rounds of messages, and a stranger's package may bring another. Each is
a sequence of operations on tensors that does not depend on the values, so it is watched, and not written down a second time.
It is watched twice, with two numbers of rows: what differs between both is a multiple of the rows, or cannot be recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bvae_cli.errors import is_out_of_memory

# Two numbers of rows that are watched. Few: decoders take some rows at once, and all of these must be.
_FEWER, _MORE = 2, 3
# What only takes shape and type of a tensor depends on none of its values.
_OF_THE_SHAPE = {name for kind in ("full", "zeros", "ones", "empty") for name in (f"new_{kind}", f"{kind}_like")}


class NotExportableError(Exception):
    """A function cannot be recorded or written: its words say why, as the end of a sentence."""


class Rows(NamedTuple):
    """So many times the number of rows: a size that is known only when the graph is run."""

    times: int


Size = int | Rows


@dataclass(frozen=True)
class Value:
    """A tensor that depends on the rows, by its number; 0 is that of the rows themselves."""

    number: int
    shape: tuple[Size, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Constant:
    """A tensor that does not depend on the rows' values. Of a size that does, ``tensor`` holds 1 along that dimension."""

    tensor: Tensor
    shape: tuple[Size, ...]
    name: str | None = None


@dataclass(frozen=True)
class Step:
    """An operation of torch, as ``add.Tensor``, with its arguments (values, constants, numbers, lists) and results."""

    operator: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    results: tuple[Value, ...]


@dataclass(frozen=True)
class Program:
    """The steps from ``rows [rows, width]`` to the outputs by their names."""

    rows: Value
    steps: tuple[Step, ...]
    outputs: dict[str, Value]


Function = Callable[[Tensor], Mapping[str, Tensor]]


def traced(function: Function, example: Tensor, named: Mapping[str, Tensor] | None = None) -> Program:
    """Record a function of rows, ``[rows, width]``; ``example`` holds at least three of them.

    ``named`` are tensors that keep their names in the program, as weights. Raises NotExportableError for what depends on
    the values or on the number of rows otherwise than by a factor, and for an output that does not depend on the rows.
    """
    try:
        with torch.no_grad():
            function(example[:_FEWER])  # tables are copied and kept at the first call: that is no part of it
            # Of other rows, so that a number that was read off them differs.
            fewer, more = (_recorded(function, rows, named or {}) for rows in (example[:_FEWER], example.flip(0)[:_MORE]))
    except NotExportableError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise NotExportableError(f"it cannot be watched ({type(error).__name__}: {str(error).splitlines()[0]})") from error
    if len(fewer.steps) != len(more.steps):
        raise NotExportableError("its steps depend on the number of rows")
    try:
        return Program(
            _merged(fewer.rows, more.rows),
            tuple(_merged(one, other) for one, other in zip(fewer.steps, more.steps, strict=True)),
            {name: _merged(value, more.outputs[name]) for name, value in fewer.outputs.items()},
        )
    except KeyError:
        raise NotExportableError("its outputs depend on the number of rows") from None


class _Recorder(TorchDispatchMode):
    """Sees every operation below those that torch puts together of others, and keeps those on rows or on named tensors."""

    def __init__(self, rows: Tensor, named: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[Step] = []
        self._names = {id(tensor): name for name, tensor in named.items()}
        # Held, because the number of an object is another's as soon as it is gone.
        self._held: list[Tensor] = [rows, *named.values()]
        self._values = {id(rows): Value(0, tuple(rows.shape), rows.dtype)}
        self._count = 1

    def value_of(self, tensor: Tensor) -> Value:
        """Return the value that a tensor is. Raises NotExportableError where it depends on no row."""
        if id(tensor) not in self._values:
            raise NotExportableError("what it returns does not depend on the rows")
        return self._values[id(tensor)]

    def __torch_dispatch__(
        self, operator: Any, types: Any, arguments: tuple[Any, ...] = (), options: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(options or {})
        name = str(operator).removeprefix("aten.")
        if not self._depends([arguments, options]) or name.partition(".")[0] in _OF_THE_SHAPE:
            return operator(*arguments, **options)
        # A value that is changed in place is another from then on.
        told = self._told(arguments), self._told(options)
        if operator._schema.is_mutable:
            self._require_alone(arguments[0], name)
            name = name.replace("_.", ".", 1)
        results = operator(*arguments, **options)
        tensors = [results] if isinstance(results, Tensor) else results
        if not isinstance(tensors, list | tuple) or not all(isinstance(tensor, Tensor) for tensor in tensors):
            raise NotExportableError(f"its steps depend on the values ({name})")
        self.steps.append(Step(name, *told, tuple(self._new(tensor) for tensor in tensors)))
        return results

    def _new(self, tensor: Tensor) -> Value:
        self._held.append(tensor)
        value = self._values[id(tensor)] = Value(self._count, tuple(tensor.shape), tensor.dtype)
        self._count += 1
        return value

    def _depends(self, told: Any) -> bool:
        if isinstance(told, Tensor):
            return id(told) in self._values or id(told) in self._names
        items = told.values() if isinstance(told, dict) else told if isinstance(told, list | tuple) else ()
        return any(self._depends(item) for item in items)

    def _told(self, told: Any) -> Any:
        if isinstance(told, Tensor):
            if id(told) in self._values:
                return self._values[id(told)]
            name = self._names.get(id(told))
            # A table without a name may be changed afterwards.
            return Constant(told if name else told.clone(), tuple(told.shape), name)
        if isinstance(told, dict):
            return {key: self._told(item) for key, item in told.items()}
        return tuple(self._told(item) for item in told) if isinstance(told, list | tuple) else told

    def _require_alone(self, changed: Tensor, name: str) -> None:
        """Raise NotExportableError where a change in place would change another tensor too."""
        place = changed.untyped_storage().data_ptr()
        sharing = {id(held) for held in self._held if held.untyped_storage().data_ptr() == place}
        if sharing != {id(changed)}:
            raise NotExportableError(f"it changes a part of a tensor in place ({name})")


def _recorded(function: Function, rows: Tensor, named: Mapping[str, Tensor]) -> Program:
    rows = rows.clone()  # nobody else holds them
    recorder = _Recorder(rows, named)
    start = recorder.value_of(rows)
    with recorder:
        outputs = function(rows)
    return Program(start, tuple(recorder.steps), {name: recorder.value_of(tensor) for name, tensor in outputs.items()})


def _merged(one: Any, other: Any) -> Any:
    """Return what is the same with both numbers of rows, and a ``Rows`` where it is a multiple of them.

    Raises NotExportableError where it is neither.
    """
    if type(one) is not type(other):
        raise NotExportableError("its steps depend on the number of rows")
    if isinstance(one, Constant):
        return _merged_constant(one, other)
    if isinstance(one, Value):
        if (one.number, one.dtype) != (other.number, other.dtype):
            raise NotExportableError("its steps depend on the number of rows")
        return Value(one.number, _merged(one.shape, other.shape), one.dtype)
    if isinstance(one, Step):
        parts = (one.operator, one.arguments, one.options, one.results)
        return Step(*_merged(parts, (other.operator, other.arguments, other.options, other.results)))
    if isinstance(one, dict):
        return {key: _merged(item, other.get(key)) for key, item in one.items()}
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            raise NotExportableError("its steps depend on the number of rows")
        return tuple(_merged(*pair) for pair in zip(one, other, strict=True))
    if one == other:
        return one
    if isinstance(one, int) and one % _FEWER == 0 and one * _MORE == other * _FEWER:
        return Rows(one // _FEWER)
    raise NotExportableError("its steps depend on the number of rows")


def _merged_constant(one: Constant, other: Constant) -> Constant:
    if one.tensor is other.tensor:
        return one
    shape: Sequence[Size] = _merged(one.shape, other.shape)
    first, second = one.tensor, other.tensor
    for dim, size in enumerate(shape):
        if isinstance(size, Rows):
            first, second = (tensor.narrow(dim, 0, 1).expand_as(tensor) for tensor in (first, second))
            if not (torch.equal(first, one.tensor) and torch.equal(second, other.tensor)):
                raise NotExportableError("a table of it depends on the number of rows")
            first, second = first.narrow(dim, 0, 1), second.narrow(dim, 0, 1)
    if not torch.equal(first, second):
        raise NotExportableError("it draws at random, or changes what it holds")
    return Constant(first.contiguous(), tuple(shape), one.name)
