"""What onnxruntime computes of a written graph is what torch computes: every operation, every code, any number of rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bvae_cli.config import parse_code
from bvae_cli.exporting.parts import ONNX_OPERATOR_SET, Part
from bvae_cli.exporting.tracing import NotExportableError
from bvae_cli.model.networks import ACTIVATIONS, perceptron

onnx = pytest.importorskip("onnx")  # an extra, as the next one
pytest.importorskip("onnxruntime")
from bvae_cli.exporting import operators  # noqa: E402
from bvae_cli.exporting.onnx_models import onnx_bytes, run  # noqa: E402

ROWS = 2 * torch.randn(11, 6, generator=torch.Generator().manual_seed(0))
MATRIX = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
PLACES = torch.tensor([4, 0, 0, 2])


def written(function: Callable[[Tensor], Tensor], example: Tensor = ROWS[:3]) -> bytes:
    return onnx_bytes(Part("it", "x", lambda x: {"y": function(x)}), example, {}, {"who": "me"})


def found(function: Callable[[Tensor], Tensor], rows: Tensor = ROWS) -> Tensor:
    """Return what onnxruntime says of rows, more than those that were watched."""
    return run(written(function, rows[:3]), rows, 1)["y"]


OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sums and products": lambda x: (x + 1 - 2 * x) * x / 3,
    "a number minus rows": lambda x: 1 - x,
    "the same in place": lambda x: (x + 1).mul_(2).sub_(x).abs_().neg_(),
    "largest": lambda x: torch.maximum(x, -x),
    "least": lambda x: torch.minimum(x, 2 * x),
    "powers": lambda x: (x**2).sqrt() + (x.abs() + 1).log() + (x / 4).exp(),
    "hyperbolic": lambda x: (x.tanh() / 2).atanh(),
    "signs": lambda x: x.sign() * x.floor(),
    "comparisons": lambda x: ((x > 0) & (x <= 1) | ~(x >= -1) | (x < -2) | (x == 3)).float(),
    "comparison with a table": lambda x: (x > torch.arange(6)).float(),
    "reductions": lambda x: x.sum(1, keepdim=True) + x.mean(-1, keepdim=True) + x.amax(1, True) + x.amin(1, True),
    "all together": lambda x: x + x.sum() * 0 + x.T.logsumexp(0)[:, None],
    "several dimensions at once": lambda x: x.reshape(-1, 2, 3).amax((1, 2)),
    "matrices": lambda x: x @ MATRIX,
    "a layer": lambda x: torch.addmm(torch.ones(5), x, MATRIX),
    "a layer of a transposed": lambda x: functional.linear(x, MATRIX.T.contiguous(), torch.ones(5)),
    "batched matrices": lambda x: x.reshape(-1, 2, 3) @ MATRIX[:3].expand(len(x), 3, 5),
    "transposed": lambda x: x.T.contiguous().T + x.reshape(-1, 2, 3).transpose(1, 2).flatten(1),
    "permuted": lambda x: x.reshape(-1, 2, 3).permute(1, 0, -1).permute(1, 0, 2).flatten(1),
    "repeated": lambda x: x.repeat(1, 2)[:, 3:9:2] + x[:, :1].expand(-1, 3),
    "repeated in a new dimension": lambda x: x.repeat(2, 1, 1).sum(0),
    "clipped": lambda x: x.clamp(-1, 1) + x.clamp(min=0.5) + x.clamp(max=0.25),
    "chosen": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "joined": lambda x: torch.cat([x, x[:, :2], torch.ones(len(x), 1)], 1),
    "stacked": lambda x: torch.stack([x, 2 * x], -1).flatten(1),
    "split": lambda x: x.split(4, 1)[1] + x.split([2, 4], -1)[0],
    "unbound": lambda x: torch.stack(x.unbind(1)[::-1], 1),
    "selected": lambda x: x[:, 2:3] + x.select(1, -1)[:, None],
    "indexed": lambda x: x[:, PLACES] + x.index_select(1, PLACES),
    "looked up": lambda x: MATRIX[(x[:, 0] > 0).long()],
    "gathered": lambda x: x.gather(1, PLACES.expand(len(x), 4)),
    "logarithms of sums": lambda x: torch.logaddexp(x, -50 * x) + functional.softplus(x),
    "of things that never are": lambda x: torch.logaddexp(x - 1e9, x - 1e9),
    "remainders": lambda x: x % 2 + x % -0.75,
    "remainders of whole numbers": lambda x: (x.long() % 3).float(),
    "other types": lambda x: (x.double() * 2).float() + x.to(torch.int32),
    "the number of rows": lambda x: x.sum(0, keepdim=True) / len(x) + x,
    "sizes of the rows": lambda x: x.new_full((len(x), 2, 3), 2.0).flatten(1) * x,
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_of_torch_is_the_same_one_of_onnx(name: str) -> None:
    wanted = OPERATIONS[name](ROWS)
    result = found(OPERATIONS[name])
    assert result.dtype == wanted.dtype
    assert torch.allclose(result, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_network_is_the_same_with_every_activation(activation: str) -> None:
    torch.manual_seed(0)
    network = perceptron([6, 8, 8, 3], activation)
    wanted = network(ROWS).detach()
    content = onnx_bytes(Part("it", "x", lambda x: {"y": network(x)}), ROWS, dict(network.named_parameters()), {})
    assert torch.allclose(run(content, ROWS, 1)["y"], wanted, rtol=1e-5, atol=1e-6)
    graph = onnx.load_from_string(content).graph
    assert {tensor.name for tensor in graph.initializer} >= {"0.weight", "2.bias", "4.weight"}
    assert [node.op_type for node in graph.node].count("Gemm") == 3
    assert "Transpose" not in {node.op_type for node in graph.node}


@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions_there_and_back_are_written_too(transposed: bool) -> None:
    torch.manual_seed(0)
    layer = (
        torch.nn.ConvTranspose2d(1, 3, 3, stride=2, padding=1, output_padding=1)
        if transposed
        else torch.nn.Conv2d(1, 3, 3, stride=2, padding=1)
    )

    def function(x: Tensor) -> Tensor:
        return layer(x.reshape(-1, 1, 2, 3)).flatten(1)

    assert torch.allclose(found(function), function(ROWS).detach(), rtol=1e-5, atol=1e-5)


CODES = (
    *("none", "repetition:R=3", "parity:k=3", "hamming:r=3", "hamming:r=3,pad=true", "golay:n=24", "reed-muller:r=1,m=3"),
    *("bch:n=15,t=2", "parity:k=14", "linear:matrix=1101000/0110100", "unequal:groups=12 repetition:R=3+12 none"),
    *("convolutional:k=24", "convolutional:k=24,termination=terminated", "polar:n=32,k=16"),
)


@pytest.mark.parametrize("name", CODES)
def test_a_code_is_decoded_and_encoded_as_in_torch(name: str) -> None:
    spec = parse_code(name).spec("code")
    code = spec.build(2 * spec.block().n + 3 * ("pad" in name))
    generator = torch.Generator().manual_seed(0)
    bits = (torch.rand(20, code.k, generator=generator) < 0.5).float()
    codewords = code.encode(bits)
    assert torch.equal(found(code.encode, bits), codewords)
    logits = 2 * (2 * codewords - 1) + 2 * torch.randn(codewords.shape, generator=generator)
    assert torch.allclose(found(code.soft_decode, logits), code.soft_decode(logits), rtol=1e-5, atol=1e-5)


def test_messages_are_passed_as_in_torch_where_none_is_sure() -> None:
    # Sure messages are near 1, where the last digit of a float32 is many of a logit.
    code = parse_code("ldpc:n=96,dv=3,dc=6").spec("code").build(96)
    logits = torch.randn(20, 96, generator=torch.Generator().manual_seed(0)) / 2
    assert torch.allclose(found(code.soft_decode, logits), code.soft_decode(logits), rtol=1e-5, atol=1e-5)


def test_a_file_says_what_is_in_it() -> None:
    model = onnx.load_from_string(written(lambda x: x @ MATRIX))
    assert [(one.domain, one.version) for one in model.opset_import] == [("", ONNX_OPERATOR_SET)]
    assert (model.producer_name, model.metadata_props[0].key, model.metadata_props[0].value) == ("bvae", "who", "me")
    (entry,) = model.graph.input
    assert (entry.name, entry.type.tensor_type.shape.dim[0].dim_param) == ("x", "batch")
    assert entry.type.tensor_type.shape.dim[1].dim_value == 6


def test_equal_functions_are_equal_bytes_and_a_step_that_is_not_used_is_no_node() -> None:
    assert written(OPERATIONS["reductions"]) == written(OPERATIONS["reductions"])
    graph = onnx.load_from_string(written(lambda x: (x @ MATRIX, x + 1)[1])).graph
    assert ([node.op_type for node in graph.node], len(graph.initializer)) == (["Add", "Identity"], 1)


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "an operation without a line": (lambda x: x.cumsum(1), "cumsum is not among those"),
    "a type without a line": (lambda x: x.to(torch.complex64).real, "complex64|real|view_as_real|_to_copy"),
    "a factor of a sum": (lambda x: torch.add(x, x, alpha=2), "factor"),
    "a factor of a difference": (lambda x: torch.rsub(x, x, alpha=2), "factor"),
    "a quotient that is rounded": (lambda x: torch.div(x, 2, rounding_mode="floor"), "rounds"),
    "another softplus": (lambda x: functional.softplus(x, beta=2), "factor"),
    "an approximate gelu": (lambda x: functional.gelu(x, approximate="tanh"), "approximation"),
    "bits of numbers": (lambda x: x.long() & 1, "bits of numbers"),
    "two indices": (lambda x: x[torch.tensor([0, 1]), torch.tensor([0, 1])], "several indices"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_written_is_refused_with_the_reason(kind: str) -> None:
    function, words = REFUSED[kind]
    with pytest.raises(NotExportableError, match=words):
        written(function)


def test_more_numbers_than_a_file_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "_LARGEST", 100)
    with pytest.raises(NotExportableError, match="a file of ONNX holds 2"):
        written(lambda x: x @ MATRIX)


def test_what_onnxruntime_does_not_take_is_refused() -> None:
    with pytest.raises(NotExportableError, match="onnxruntime refuses"):
        run(b"no graph", ROWS)
    with pytest.raises(NotExportableError, match="onnxruntime refuses"):
        run(written(lambda x: x + 1), ROWS[:, :5])
