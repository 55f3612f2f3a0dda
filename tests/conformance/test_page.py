"""What the page on writing a code shows is a code that passes, and so does the package that it explains."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest

from bvae_cli.codes.base import Block, Code, CodeSpec
from bvae_cli.codes.blocks import BlockSpec
from bvae_cli.conformance import conformance_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "write-a-code.md"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    folder = tmp_path_factory.mktemp("page")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (folder / "shown_on_the_page.py").write_text("\n\n".join(blocks))
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module("shown_on_the_page")
    finally:
        sys.path.remove(str(folder))


def problems(spec: CodeSpec, folder: str) -> dict[str, str]:
    sys.path.insert(0, folder)  # the check of the digest asks another process
    try:
        return {o.check.name: o.message for o in conformance_of(spec).outcomes() if o.state == "failed"}
    finally:
        sys.path.remove(folder)


@pytest.mark.parametrize("name", ["EvenWeight", "LeastReliable", "OneOfFour", "Adjacent"])
def test_every_code_on_the_page_passes_the_checks(shown: ModuleType, name: str) -> None:
    assert problems(getattr(shown, name)(), str(Path(str(shown.__file__)).parent)) == {}


def test_the_package_of_the_page_passes_the_checks() -> None:
    folder = str(ROOT / "examples" / "bvae-code-simplex")
    sys.path.insert(0, folder)
    try:
        module = importlib.import_module("bvae_code_simplex")
    finally:
        sys.path.remove(folder)
    assert module.Simplex(r=4).block() == Block(15, 4, 8)
    code: Code = module.Simplex(r=3).build(14)
    assert (code.n, code.k, code.exact) == (14, 6, True)
    assert problems(module.Simplex(r=3), folder) == {}


def test_a_code_that_is_not_linear_is_decoded_exactly_and_named_as_such(shown: ModuleType) -> None:
    spec = shown.OneOfFour()
    outcomes = {o.check.name: o.state for o in conformance_of(spec).outcomes()}
    assert outcomes["linear"] == "exempt"
    assert outcomes["soft_exact"] == outcomes["probabilities"] == "passed"
    assert spec.hard_block_error_rate(0.1) is None


def test_ties_of_a_code_that_is_not_linear_are_held_against_all_of_its_nearest_words() -> None:
    class And(BlockSpec):
        family = "and"
        summary = "three bits twice and their product"
        exempt: ClassVar[dict[str, str]] = {"linear": "a product of bits"}

        def block(self) -> Block:
            return Block(n=7, k=3, min_distance=2)

        def encode_block(self, bits: tuple[int, ...]) -> tuple[int, ...]:
            a, b, c = bits
            return (a, a, b, b, c, c, a & b & c)

    outcomes = {o.check.name: o for o in conformance_of(And()).outcomes()}
    assert outcomes["fair_ties"].state == "passed"


def test_the_number_of_checks_that_the_page_names_is_theirs(shown: ModuleType) -> None:
    count = len(conformance_of(shown.EvenWeight()).checks)
    assert f"runs {count} named checks" in PAGE.read_text(encoding="utf-8")
