"""A part of a model as a file of ONNX: written, checked, and run by onnxruntime beside torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor

from bvae_cli.exporting.operators import TYPES, Graph
from bvae_cli.exporting.parts import ONNX_OPERATOR_SET, Part
from bvae_cli.exporting.tracing import NotExportableError, Size, Value, traced

# That of onnx 1.13, so that an onnxruntime as old as the operators need reads it.
_FORMAT = 8
_ROWS = "batch"
_QUIET = 3


def onnx_bytes(part: Part, example: Tensor, weights: Mapping[str, Tensor], facts: Mapping[str, str]) -> bytes:
    """Return a part as a file of ONNX, for any number of rows; ``example`` holds at least three of them.

    ``weights`` keep their names; ``facts`` stand beside the graph. Raises NotExportableError, saying why.
    """
    program = traced(part.function, example, weights)
    nodes, constants = Graph(program, part.entry).finished()
    graph = helper.make_graph(
        nodes,
        part.name,
        [_described(part.entry, program.rows)],
        [_described(name, value) for name, value in program.outputs.items()],
        constants,
    )
    model = helper.make_model(
        graph, producer_name="bvae", ir_version=_FORMAT, opset_imports=[helper.make_opsetid("", ONNX_OPERATOR_SET)]
    )
    helper.set_model_props(model, dict(facts))
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise NotExportableError(f"onnx refuses the graph: {str(error).splitlines()[0]}") from error
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def run(content: bytes, rows: Tensor, threads: int = 0) -> dict[str, Tensor]:
    """Run a file of ONNX on rows by onnxruntime, on the CPU, and return its outputs by their names.

    Raises NotExportableError where onnxruntime does not take it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, _QUIET
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        found: list[NDArray[Any]] = session.run(None, {session.get_inputs()[0].name: rows.numpy()})
    except Exception as error:  # those of onnxruntime have no class in common
        raise NotExportableError(f"onnxruntime refuses the graph: {str(error).splitlines()[0]}") from error
    names = [output.name for output in session.get_outputs()]
    return {name: torch.from_numpy(numpy.array(array)) for name, array in zip(names, found, strict=True)}


def _described(name: str, value: Value) -> onnx.ValueInfoProto:
    sizes = [_size(size) for size in value.shape]
    return helper.make_tensor_value_info(name, TYPES[value.dtype], sizes)


def _size(size: Size) -> int | str:
    if isinstance(size, int):
        return size
    return _ROWS if size.times == 1 else f"{size.times} * {_ROWS}"
