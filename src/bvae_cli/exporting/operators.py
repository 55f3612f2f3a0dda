"""Operations of torch as nodes of ONNX: one table, for networks and for whatever decodes a code.

https://onnx.ai/onnx/operators, as of the operator set ``ONNX_OPERATOR_SET``. Of an operation that is not in the table
no graph is written; one that is there and wrong would be seen where the graph is run beside torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor

from bvae_cli.exporting.tracing import Constant, NotExportableError, Program, Rows, Size, Step, Value

TYPES: dict[torch.dtype, int] = {
    torch.float32: TensorProto.FLOAT,
    torch.float64: TensorProto.DOUBLE,
    torch.float16: TensorProto.FLOAT16,
    torch.int64: TensorProto.INT64,
    torch.int32: TensorProto.INT32,
    torch.uint8: TensorProto.UINT8,
    torch.bool: TensorProto.BOOL,
}
# All tensors of a graph must fit into one message of protobuf.
_LARGEST = 2**31 - 2**20


class Graph:
    """Nodes and constants in the order in which they are needed; every method returns the name of what it has made."""

    def __init__(self, program: Program, entry: str) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self._entry, self._program = entry, program
        self._names = {program.rows.number: entry}
        self._known: dict[Any, str] = {}
        self._transposed: dict[int, Any] = {}
        for step in program.steps:
            self._take(step)

    def of(self, told: Any, dtype: torch.dtype | None = None) -> str:
        """Name a value, a constant or a number, in ``dtype`` where one is asked for."""
        if isinstance(told, Value):
            name = self._names[told.number]
            return name if dtype in (None, told.dtype) else self.cast(name, dtype or told.dtype)
        if isinstance(told, Constant):
            tensor = told.tensor if dtype is None or told.name else told.tensor.to(dtype)
            name = self.constant(tensor, told.name)
            name = name if dtype in (None, tensor.dtype) else self.cast(name, dtype or tensor.dtype)
            of_rows = any(isinstance(size, Rows) for size in told.shape)
            return self.node("Expand", name, self.shape(told.shape)) if of_rows else name
        if isinstance(told, Rows):
            return self.cast(self.shape([told]), dtype or torch.int64)
        return self.constant(torch.tensor(told, dtype=dtype))

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output."""
        return self.several(operator, inputs, 1, **attributes)[0]

    def several(self, operator: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """Add a node of several outputs, with a name: some versions of onnxruntime take two without for one."""
        names = [f"{operator.lower()}_{len(self.nodes)}{f'_{place}' if outputs > 1 else ''}" for place in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, names[0], **attributes))
        return names

    def cast(self, name: str, dtype: torch.dtype) -> str:
        """Turn a tensor into another type."""
        return self.node("Cast", name, to=_type_of(dtype))

    def constant(self, tensor: Tensor, name: str | None = None) -> str:
        """Hold a tensor, once whatever often it is needed."""
        array = numpy.ascontiguousarray(tensor.detach().cpu().numpy())
        key = name or (str(array.dtype), tuple(tensor.shape), array.tobytes())
        if key not in self._known:
            _type_of(tensor.dtype)
            self._known[key] = name or f"constant_{len(self.constants)}"
            self.constants[self._known[key]] = numpy_helper.from_array(array.reshape(tensor.shape), self._known[key])
        return self._known[key]

    def shape(self, sizes: Sequence[Size]) -> str:
        """Hold whole numbers, ``[sizes]`` int64, of which some are multiples of the rows."""
        key = ("shape", tuple(("rows", size.times) if isinstance(size, Rows) else size for size in sizes))
        if not any(isinstance(size, Rows) for size in sizes):
            return self.constant(torch.tensor([*sizes], dtype=torch.int64))
        if key not in self._known:
            parts = [self._rows(size.times) if isinstance(size, Rows) else self.shape([size]) for size in sizes]
            self._known[key] = parts[0] if len(parts) == 1 else self.node("Concat", *parts, axis=0)
        return self._known[key]

    def reshaped(self, told: Any, sizes: Sequence[Size]) -> str:
        """Give a value another shape of as many numbers."""
        return self.node("Reshape", self.of(told), self.shape(sizes))

    def transposed(self, step: Step, order: Sequence[int]) -> str:
        """Give the dimensions of a step's first argument another order; a matrix is remembered for ``matrix_before``."""
        self._transposed[step.results[0].number] = step.arguments[0]
        return self.node("Transpose", self.of(step.arguments[0]), perm=list(order))

    def matrix_before(self, told: Any) -> Any:
        """Return the matrix of which this one is the transposed, None where it is of none."""
        return self._transposed.get(told.number) if isinstance(told, Value) else None

    def finished(self) -> tuple[list[NodeProto], list[TensorProto]]:
        """Return the nodes and constants on which an output depends, outputs under their own names.

        Raises NotExportableError where the constants are larger than a file of ONNX may be.
        """
        outputs = [
            helper.make_node("Identity", [self._names[value.number]], [name])
            for name, value in self._program.outputs.items()
        ]
        needed, kept = {name for node in outputs for name in node.input}, []
        for node in reversed(self.nodes):
            if needed & set(node.output):
                needed |= set(node.input)
                kept.append(node)
        constants = [tensor for name, tensor in self.constants.items() if name in needed]
        size = sum(len(tensor.raw_data) for tensor in constants)
        if size > _LARGEST:
            raise NotExportableError(f"its numbers take {size / 2**30:.1f} GiB, and a file of ONNX holds 2")
        return [*reversed(kept), *outputs], constants

    def _rows(self, times: int) -> str:
        if "rows" not in self._known:
            self._known["rows"] = self.node("Shape", self._entry, start=0, end=1)
        if times == 1:
            return self._known["rows"]
        return self.node("Mul", self._known["rows"], self.shape([times]))

    def _take(self, step: Step) -> None:
        name, _, _ = step.operator.partition(".")
        write = OPERATORS.get(step.operator) or OPERATORS.get(name)
        if write is None:
            raise NotExportableError(f"torch's operation {name} is not among those that are written as ONNX")
        made = write(self, step, *step.arguments, **step.options)
        for value, result in zip(step.results, [made] if isinstance(made, str) else made, strict=True):
            self._names[value.number] = result


def _type_of(dtype: torch.dtype) -> int:
    if dtype not in TYPES:
        raise NotExportableError(f"numbers of the type {str(dtype).removeprefix('torch.')} are not written as ONNX")
    return TYPES[dtype]


Writer = Callable[..., str | list[str]]


def _elementwise(operator: str) -> Writer:
    """Write an operation on numbers of the type of its result."""

    def write(graph: Graph, step: Step, *arguments: Any, alpha: float = 1, rounding_mode: None = None) -> str:
        if alpha != 1 or rounding_mode is not None:
            raise NotExportableError(f"{step.operator} has a factor or rounds")
        return graph.node(operator, *(graph.of(argument, step.results[0].dtype) for argument in arguments))

    return write


def _compared(operator: str) -> Writer:
    def write(graph: Graph, step: Step, first: Any, second: Any) -> str:
        common = first.dtype if isinstance(first, Value) else second.dtype
        others = [told.tensor.dtype for told in (first, second) if isinstance(told, Constant)]
        for other in others:
            common = torch.promote_types(common, other)
        return graph.node(operator, graph.of(first, common), graph.of(second, common))

    return write


def _logical(operator: str) -> Writer:
    def write(graph: Graph, step: Step, *arguments: Any) -> str:
        if step.results[0].dtype != torch.bool:
            raise NotExportableError(f"{step.operator} is of the bits of numbers")
        return graph.node(operator, *(graph.of(argument) for argument in arguments))

    return write


def _taken_from(graph: Graph, step: Step, told: Any, other: Any, alpha: float = 1) -> str:
    if alpha != 1:
        raise NotExportableError(f"{step.operator} has a factor")
    return graph.node("Sub", *(graph.of(argument, step.results[0].dtype) for argument in (other, told)))


def _reduced(operator: str) -> Writer:
    """Write an operation that takes dimensions together: all where none is named."""

    def write(
        graph: Graph, step: Step, told: Any, dims: Any = (), keep: bool = False, *, dtype: torch.dtype | None = None
    ) -> str:
        axes = [dims] if isinstance(dims, int) else list(dims or range(len(told.shape)))
        return graph.node(operator, graph.of(told, step.results[0].dtype), graph.shape(axes), keepdims=int(keep))

    return write


def _same(graph: Graph, step: Step, told: Any, **options: Any) -> str:
    return graph.of(told, step.results[0].dtype)


def _reshaped(graph: Graph, step: Step, told: Any, *arguments: Any) -> str:
    return graph.reshaped(told, step.results[0].shape)


def _expanded(graph: Graph, step: Step, told: Any, *arguments: Any, **options: Any) -> str:
    return graph.node("Expand", graph.of(told), graph.shape(step.results[0].shape))


def _repeated(graph: Graph, step: Step, told: Any, times: Sequence[Size]) -> str:
    wide = graph.reshaped(told, [*[1] * (len(times) - len(told.shape)), *told.shape])
    return graph.node("Tile", wide, graph.shape(times))


def _clipped(graph: Graph, step: Step, told: Any, least: Any = None, most: Any = None) -> str:
    dtype = step.results[0].dtype
    bounds = ["" if bound is None else graph.of(bound, dtype) for bound in (least, most)]
    return graph.node("Clip", graph.of(told, dtype), *bounds)


def _chosen(graph: Graph, step: Step, condition: Any, first: Any, second: Any) -> str:
    dtype = step.results[0].dtype
    return graph.node("Where", graph.of(condition), graph.of(first, dtype), graph.of(second, dtype))


def _transposed(graph: Graph, step: Step, told: Any) -> str:
    return graph.transposed(step, range(len(told.shape))[::-1])


def _swapped(graph: Graph, step: Step, told: Any, first: int, second: int) -> str:
    order = list(range(len(told.shape)))
    order[first], order[second] = order[second], order[first]
    return graph.node("Transpose", graph.of(told), perm=order)


def _permuted(graph: Graph, step: Step, told: Any, order: Sequence[int]) -> str:
    return graph.node("Transpose", graph.of(told), perm=[dim % len(order) for dim in order])


def _layer(graph: Graph, step: Step, bias: Any, rows: Any, matrix: Any, *, beta: float = 1, alpha: float = 1) -> str:
    weight = graph.matrix_before(matrix)
    inputs = [graph.of(rows), graph.of(matrix if weight is None else weight), graph.of(bias)]
    return graph.node("Gemm", *inputs, transB=int(weight is not None), alpha=float(alpha), beta=float(beta))


def _joined(graph: Graph, step: Step, parts: Sequence[Any], dim: int = 0) -> str:
    return graph.node("Concat", *(graph.of(part, step.results[0].dtype) for part in parts), axis=dim)


def _stacked(graph: Graph, step: Step, parts: Sequence[Any], dim: int = 0) -> str:
    shape = list(step.results[0].shape)
    dim %= len(shape)
    wide = [graph.reshaped(part, [*shape[:dim], 1, *shape[dim + 1 :]]) for part in parts]
    return graph.node("Concat", *wide, axis=dim)


def _split(graph: Graph, step: Step, told: Any, sizes: Any, dim: int = 0) -> list[str]:
    if len(step.results) == 1:
        return [graph.of(told)]
    lengths = [result.shape[dim] for result in step.results]
    return graph.several("Split", [graph.of(told), graph.shape(lengths)], len(lengths), axis=dim)


def _unbound(graph: Graph, step: Step, told: Any, dim: int = 0) -> list[str]:
    name = graph.of(told)
    return [graph.node("Gather", name, graph.of(place), axis=dim) for place in range(len(step.results))]


def _selected(graph: Graph, step: Step, told: Any, dim: int, index: Any) -> str:
    return graph.node("Gather", graph.of(told), graph.of(index), axis=dim)


def _indexed(graph: Graph, step: Step, told: Any, indices: Sequence[Any]) -> str:
    named = [dim for dim, index in enumerate(indices) if index is not None]
    if len(named) != 1:
        raise NotExportableError("it takes numbers out of a table by several indices at once")
    return graph.node("Gather", graph.of(told), graph.of(indices[named[0]]), axis=named[0])


def _gathered(graph: Graph, step: Step, told: Any, dim: int, index: Any, **options: Any) -> str:
    return graph.node("GatherElements", graph.of(told), graph.of(index), axis=dim)


def _sliced(graph: Graph, step: Step, told: Any, dim: int = 0, start: Any = None, end: Any = None, stride: int = 1) -> str:
    last = 2**63 - 1 if end is None else end
    return graph.node("Slice", graph.of(told), *(graph.shape([number]) for number in (start or 0, last, dim, stride)))


def _log_of_sum(graph: Graph, step: Step, first: Any, second: Any) -> str:
    """Write log(e^a + e^b) as max(a, b) + softplus(−|a − b|)."""
    one, other = graph.of(first), graph.of(second)
    apart = graph.node("Neg", graph.node("Abs", graph.node("Sub", one, other)))
    return graph.node("Add", graph.node("Max", one, other), graph.node("Softplus", apart))


def _remainder(graph: Graph, step: Step, told: Any, divisor: Any) -> str:
    """Write a − b ⌊a / b⌋, whose sign is that of b."""
    dtype = step.results[0].dtype
    dividend, by = graph.of(told, dtype), graph.of(divisor, dtype)
    if not dtype.is_floating_point:
        return graph.node("Mod", dividend, by)
    whole = graph.node("Floor", graph.node("Div", dividend, by))
    return graph.node("Sub", dividend, graph.node("Mul", whole, by))


def _silu(graph: Graph, step: Step, told: Any) -> str:
    name = graph.of(told)
    return graph.node("Mul", name, graph.node("Sigmoid", name))


def _gelu(graph: Graph, step: Step, told: Any, *, approximate: str = "none") -> str:
    """Write x/2 (1 + erf(x/√2))."""
    if approximate != "none":
        raise NotExportableError("its activation is an approximation of another")
    dtype, name = step.results[0].dtype, graph.of(told)
    error = graph.node("Erf", graph.node("Mul", name, graph.of(math.sqrt(0.5), dtype)))
    return graph.node("Mul", graph.node("Mul", name, graph.of(0.5, dtype)), graph.node("Add", error, graph.of(1.0, dtype)))


def _leaky(graph: Graph, step: Step, told: Any, slope: float = 0.01) -> str:
    return graph.node("LeakyRelu", graph.of(told), alpha=float(slope))


def _log1p(graph: Graph, step: Step, told: Any) -> str:
    dtype = step.results[0].dtype
    return graph.node("Log", graph.node("Add", graph.of(told, dtype), graph.of(1.0, dtype)))


def _log_softmax(graph: Graph, step: Step, told: Any, dim: int, half: bool) -> str:
    return graph.node("LogSoftmax", graph.of(told), axis=dim)


def _padded(graph: Graph, step: Step, told: Any, sizes: Sequence[int], value: float = 0) -> str:
    """Write padding, which torch names from the last dimension to the first: before, behind."""
    dims = len(told.shape)
    before, behind = [0] * dims, [0] * dims
    for place in range(len(sizes) // 2):
        before[dims - 1 - place], behind[dims - 1 - place] = sizes[2 * place], sizes[2 * place + 1]
    return graph.node("Pad", graph.of(told), graph.shape([*before, *behind]), graph.of(value, step.results[0].dtype))


def _softplus(graph: Graph, step: Step, told: Any, beta: float = 1, threshold: float = 20) -> str:
    if beta != 1:
        raise NotExportableError("softplus has a factor")
    return graph.node("Softplus", graph.of(told))


def _convolved(
    graph: Graph,
    step: Step,
    told: Any,
    weight: Any,
    bias: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    more: Sequence[int],
    groups: int,
) -> str:
    inputs = [graph.of(item) for item in (told, weight, bias) if item is not None]
    shape = {"strides": list(stride), "pads": [*padding, *padding], "dilations": list(dilation), "group": groups}
    if transposed:
        return graph.node("ConvTranspose", *inputs, output_padding=list(more), **shape)
    return graph.node("Conv", *inputs, **shape)


OPERATORS: dict[str, Writer] = {
    **{
        name: _elementwise(operator)
        for name, operator in {
            "add": "Add",
            "sub": "Sub",
            "mul": "Mul",
            "div": "Div",
            "maximum": "Max",
            "minimum": "Min",
            "pow": "Pow",
            "neg": "Neg",
            "abs": "Abs",
            "exp": "Exp",
            "log": "Log",
            "sqrt": "Sqrt",
            "tanh": "Tanh",
            "atanh": "Atanh",
            "sigmoid": "Sigmoid",
            "relu": "Relu",
            "sign": "Sign",
            "floor": "Floor",
        }.items()
    },
    **{
        name: _logical(operator)
        for name, operator in {"bitwise_not": "Not", "bitwise_and": "And", "bitwise_or": "Or"}.items()
    },
    **{
        name: _compared(operator)
        for name, operator in {
            "gt": "Greater",
            "ge": "GreaterOrEqual",
            "lt": "Less",
            "le": "LessOrEqual",
            "eq": "Equal",
        }.items()
    },
    **{
        name: _reduced(operator)
        for name, operator in {
            "sum": "ReduceSum",
            "amax": "ReduceMax",
            "amin": "ReduceMin",
            "mean": "ReduceMean",
            "logsumexp": "ReduceLogSumExp",
        }.items()
    },
    **dict.fromkeys(("_to_copy", "clone", "detach", "alias"), _same),
    **dict.fromkeys(("view", "_unsafe_view", "unsqueeze", "squeeze"), _reshaped),
    **dict.fromkeys(("split", "split_with_sizes"), _split),
    **dict.fromkeys(("mm", "bmm"), _elementwise("MatMul")),
    "rsub": _taken_from,
    "expand": _expanded,
    "repeat": _repeated,
    "clamp": _clipped,
    "where": _chosen,
    "t": _transposed,
    "transpose": _swapped,
    "permute": _permuted,
    "addmm": _layer,
    "cat": _joined,
    "stack": _stacked,
    "unbind": _unbound,
    "select": _selected,
    "index_select": _selected,
    "index": _indexed,
    "gather": _gathered,
    "slice": _sliced,
    "logaddexp": _log_of_sum,
    "remainder": _remainder,
    "silu": _silu,
    "gelu": _gelu,
    "leaky_relu": _leaky,
    "softplus": _softplus,
    "log1p": _log1p,
    "_log_softmax": _log_softmax,
    "constant_pad_nd": _padded,
    "convolution": _convolved,
}
