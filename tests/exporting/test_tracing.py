"""What is recorded of a function computes the same for any number of rows, or is refused with the reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bvae_cli.exporting.tracing import Constant, NotExportableError, Rows, traced

EXAMPLE = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


def recorded(function: Callable[[Tensor], Tensor]) -> list[str]:
    return [step.operator for step in traced(lambda x: {"y": function(x)}, EXAMPLE).steps]


def test_steps_are_those_that_depend_on_the_rows() -> None:
    assert recorded(lambda x: x + torch.ones(4).exp()) == ["add.Tensor"]


def test_a_size_that_is_a_multiple_of_the_rows_is_one_in_the_program() -> None:
    program = traced(lambda x: {"y": x.reshape(-1, 2)}, EXAMPLE)
    assert program.rows.shape == (Rows(1), 4)
    assert program.outputs["y"].shape == (Rows(2), 2)


def test_a_table_that_is_made_for_the_rows_keeps_one_of_them() -> None:
    program = traced(lambda x: {"y": torch.cat([x, x.new_full((len(x), 1), 3.0)], 1)}, EXAMPLE)
    (table,) = [item for item in program.steps[-1].arguments[0] if isinstance(item, Constant)]
    assert table.shape == (Rows(1), 1)
    assert table.tensor.tolist() == [[3.0]]


def test_what_is_changed_in_place_is_another_value() -> None:
    program = traced(lambda x: {"y": (x + 1).mul_(2).add_(x)}, EXAMPLE)
    assert [step.operator for step in program.steps] == ["add.Tensor", "mul.Tensor", "add.Tensor"]
    assert [step.results[0].number for step in program.steps] == [1, 2, 3]


def test_weights_keep_their_names_and_are_not_copied() -> None:
    weight = torch.nn.Parameter(torch.ones(4))
    first, second = traced(lambda x: {"y": x * (weight + 1)}, EXAMPLE, {"layer.weight": weight}).steps
    assert first.arguments[0].name == "layer.weight"
    assert first.arguments[0].tensor is weight
    assert second.arguments[1] == first.results[0]


def _part_in_place(x: Tensor) -> Tensor:
    y = x + 1
    y[:, 0].mul_(2)
    return y


def _filled(x: Tensor) -> Tensor:
    y = torch.zeros(4)
    y += x[0]
    return x + y


COUNTS: list[int] = []


def _as_often_as_called(x: Tensor) -> Tensor:
    COUNTS.append(1)
    for _ in COUNTS:
        x = x + 1
    return x


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "a branch on a value": (lambda x: x if x[0, 0].item() > 0 else -x, "depend on the values"),
    "a number that is read": (lambda x: x * float(x.numpy()[0, 0]), "number of rows"),
    "a table of values": (lambda x: x * torch.from_numpy(x.numpy().copy()), "depends on the number of rows"),
    "a random table": (lambda x: x + torch.rand(4), "at random"),
    "a step for each row": (lambda x: torch.stack(x.unbind(0)), "number of rows"),
    "more steps than before": (_as_often_as_called, "number of rows"),
    "a square of the rows": (lambda x: x.repeat(len(x), 1), "number of rows"),
    "a part changed in place": (_part_in_place, "changes a part of a tensor in place"),
    "a table changed in place": (_filled, "changes a part of a tensor in place"),
    "nothing of the rows": (lambda x: torch.ones(3), "does not depend on the rows"),
    "a mistake": (lambda x: x @ torch.ones(7), "cannot be watched"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_recorded_is_refused_with_the_reason(kind: str) -> None:
    function, words = REFUSED[kind]
    with pytest.raises(NotExportableError, match=words):
        traced(lambda x: {"y": function(x)}, EXAMPLE)


def test_a_full_memory_is_no_fault_of_the_function() -> None:
    def full(x: Tensor) -> dict[str, Tensor]:
        raise MemoryError

    with pytest.raises(MemoryError):
        traced(full, EXAMPLE)


def test_outputs_that_come_and_go_are_refused() -> None:
    def named(x: Tensor) -> dict[str, Tensor]:
        return {f"y{len(x)}": x + 1}

    with pytest.raises(NotExportableError, match="outputs depend"):
        traced(named, EXAMPLE)
