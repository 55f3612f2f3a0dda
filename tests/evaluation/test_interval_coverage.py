"""Intervals and claims on synthetic comparisons, whose differences are resampled from those of measured seeds."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bvae_cli.evaluation.statistics import ALPHA

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("coverage_benchmark", BENCHMARKS / "interval_coverage.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pools(script: ModuleType) -> list[np.ndarray]:
    return list(script.paired_differences(BENCHMARKS / "data" / "seed_values.csv").values())


@pytest.mark.parametrize("seeds", [5, 8, 10])
def test_students_interval_covers_what_it_says(script: ModuleType, pools: list[np.ndarray], seeds: int) -> None:
    pooled = np.concatenate([pool / pool.std() for pool in pools])
    assert len(pooled) == 48
    assert 0.93 <= script.coverage(pooled, seeds, script.student, 2000) <= 0.97


def test_where_nothing_differs_a_claim_is_made_no_more_often_than_said(script: ModuleType, pools: list[np.ndarray]) -> None:
    comparisons = 400
    claimed = script.rejections(pools, 8, 0.0, comparisons).any(1).mean()
    assert claimed <= ALPHA + 2 * math.sqrt(ALPHA * (1 - ALPHA) / comparisons)


def test_ten_seeds_find_a_difference_of_two_deviations_of_an_arm(script: ModuleType, pools: list[np.ndarray]) -> None:
    found = script.rejections(pools, 10, 2 / math.sqrt(2), 200)[:, 0].mean()
    assert found >= 0.8
