"""Where a process stands, as the variables of its launcher say."""

from __future__ import annotations

import pytest

from bvae_cli.errors import UsageError
from bvae_cli.ranks import Place, here, is_alone, is_first, local_rank

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "node0", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    "variables", [{}, {"WORLD_SIZE": "1"}, {"WORLD_SIZE": ""}, {**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0"}]
)
def test_a_process_is_alone_without_others(variables: dict[str, str]) -> None:
    assert here(variables) == Place(0, 1, 0)


def test_torchrun_tells_each_process_its_place() -> None:
    assert here(TORCHRUN) == Place(rank=5, size=8, local_rank=1)
    assert here({name: value for name, value in TORCHRUN.items() if name != "LOCAL_RANK"}) == Place(5, 8, 5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"RANK": None}, "RANK is not set"),
        ({"MASTER_ADDR": None}, "MASTER_ADDR is not set"),
        ({"MASTER_PORT": ""}, "MASTER_PORT is not set"),
        ({"RANK": "8"}, "RANK is 8, but WORLD_SIZE is 8"),
        ({"RANK": "-1"}, "RANK is '-1'"),
        ({"RANK": "first"}, "RANK is 'first'"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK is 'x'"),
        ({"WORLD_SIZE": "many"}, "WORLD_SIZE is 'many'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0'"),
    ],
)
def test_variables_that_do_not_go_together_are_refused(changes: dict[str, str | None], words: str) -> None:
    variables = {name: value for name, value in {**TORCHRUN, **changes}.items() if value is not None}
    with pytest.raises(UsageError) as refused:
        here(variables)
    assert words in refused.value.message
    assert refused.value.hint is not None
    assert "torchrun" in refused.value.hint


@pytest.mark.parametrize(
    ("variables", "alone", "first", "local"),
    [
        ({}, True, True, 0),
        ({"WORLD_SIZE": "1", "RANK": "0"}, True, True, 0),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, False, True, 0),
        ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}, False, False, 1),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "?"}, False, True, 0),
    ],
)
def test_who_talks_is_known_without_a_refusal(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], alone: bool, first: bool, local: int
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (is_alone(), is_first(), local_rank()) == (alone, first, local)
