"""The library for products of matrices is the one that was measured to be faster, once, and only in single precision."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bvae_cli import processor


@pytest.fixture
def choice() -> None:
    """Torch lets its library for products be chosen, which releases before 2.9 do not."""
    if processor._settings() is None:
        pytest.skip("this torch has no choice of a library for products")


@pytest.fixture
def cache(choice: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder, and torch as it was afterwards."""
    monkeypatch.setenv("BVAE_CACHE_DIR", str(tmp_path / "cache"))
    threads, permission = torch.get_num_threads(), torch.backends.mkldnn.matmul.fp32_precision
    yield tmp_path / "cache" / "processor.json"
    torch.set_num_threads(threads)
    torch.backends.mkldnn.matmul.fp32_precision = permission


def measured(monkeypatch: pytest.MonkeyPatch, speed: float, error: float) -> list[None]:
    """Pretend a measurement; return a list that grows with every one."""
    calls: list[None] = []

    def pretended() -> tuple[float, float]:
        calls.append(None)
        return speed, error

    monkeypatch.setattr(processor, "_measured", pretended)
    return calls


@pytest.mark.parametrize(
    ("speed", "error", "library"),
    [(2.1, 1.9, "oneDNN"), (1.1, 1.0, "torch's default"), (0.7, 1.0, "torch's default"), (5.0, 1e4, "torch's default")],
)
def test_onednn_is_taken_where_it_is_faster_and_as_exact(
    cache: Path, monkeypatch: pytest.MonkeyPatch, speed: float, error: float, library: str
) -> None:
    measured(monkeypatch, speed, error)
    chosen = processor.prepare(0)
    assert (chosen.library, chosen.speed_ratio, chosen.error_ratio) == (library, speed, error)
    assert (torch.backends.mkldnn.matmul.fp32_precision == "bf16") == (library == "oneDNN")


def test_it_is_measured_once_for_a_processor_and_a_torch(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = measured(monkeypatch, 2.0, 1.0)
    assert processor.fastest_products() == processor.fastest_products()
    assert len(calls) == 1
    monkeypatch.setattr(processor, "_name", lambda: "another processor")
    processor.fastest_products()
    assert len(calls) == 2
    assert len(json.loads(cache.read_text())) == 2


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 1}', "null", "\x00"])
def test_a_cache_that_says_nothing_is_written_anew(cache: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    cache.parent.mkdir()
    cache.write_text(content)
    calls = measured(monkeypatch, 2.0, 1.0)
    processor.fastest_products()
    processor.fastest_products()
    assert len(calls) == 1


def test_a_measurement_of_other_types_is_made_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = measured(monkeypatch, 2.0, 1.0)
    processor.fastest_products()
    (key,) = json.loads(cache.read_text())
    for value in (None, 3, {"speed_ratio": "fast", "error_ratio": 1}, {"speed_ratio": 2}):
        cache.write_text(json.dumps({key: value}))
        assert processor.fastest_products().speed_ratio == 2.0
    assert len(calls) == 5


def test_a_cache_folder_that_cannot_be_made_costs_only_the_measurement(
    choice: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BVAE_CACHE_DIR", str(tmp_path / "file" / "cache"))
    calls = measured(monkeypatch, 2.0, 1.0)
    assert processor.fastest_products() == processor.fastest_products()
    assert len(calls) == 2


def test_a_torch_that_has_no_choice_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BVAE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(processor, "_settings", lambda: None)
    calls = measured(monkeypatch, 9.0, 1.0)
    products = processor.prepare(0)
    assert (products.library, products.reason) == ("torch's default", "this torch has no choice")
    assert calls == []


def test_a_variable_leaves_the_choice_to_torch(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch, 9.0, 1.0)
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    monkeypatch.setenv("DISABLE_ONEDNN", "1")
    assert processor.prepare(0).library == "torch's default"
    assert torch.backends.mkldnn.matmul.fp32_precision == "none"
    assert not cache.exists()


def test_whatever_is_chosen_here_computes_in_single_precision(cache: Path) -> None:
    processor.prepare(0)
    draw = torch.Generator().manual_seed(1)
    for rows, inputs, outputs in ((1, 784, 200), (128, 200, 100), (1000, 784, 200)):
        x, weights = torch.randn(rows, inputs, generator=draw), torch.randn(outputs, inputs, generator=draw)
        error = (x @ weights.T - x.double() @ weights.double().T).abs().max()
        # Any order of summing n terms of size 1 errs by at most n² units in the last place, and by √n · √n typically.
        assert error < 16 * inputs**0.5 * torch.finfo(torch.float32).eps * inputs**0.5


def test_measuring_leaves_threads_and_permission_as_they_were(cache: Path) -> None:
    before = torch.get_num_threads(), torch.backends.mkldnn.matmul.fp32_precision
    speed, error = processor._measured()
    assert speed > 0
    assert error > 0
    assert (torch.get_num_threads(), torch.backends.mkldnn.matmul.fp32_precision) == before


def test_threads_are_set_where_they_are_named_and_left_where_not(cache: Path) -> None:
    before = torch.get_num_threads()
    processor.prepare(before + 1)
    assert torch.get_num_threads() == before + 1
    processor.prepare(0)
    assert torch.get_num_threads() == before + 1
