"""The folder of a comparison: what is written, what is refused, and that the schema holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from bvae_cli.comparisons import COMPARISON, FORMAT, Comparison, ComparisonFolder, TuningRun, rows_of
from bvae_cli.errors import InputOutputError, UsageError

from .comparing import arm_record, comparison_of


@pytest.fixture
def folder(tmp_path: Path) -> ComparisonFolder:
    return ComparisonFolder(tmp_path / "compare")


def test_what_is_saved_is_loaded_as_it_was(folder: ComparisonFolder) -> None:
    comparison = comparison_of()
    folder.save(comparison)
    assert folder.load() == comparison


def test_the_schema_describes_what_is_written(folder: ComparisonFolder) -> None:
    folder.save(comparison_of())
    written = json.loads((folder.folder / COMPARISON).read_text(encoding="utf-8"))
    schema = Comparison.model_json_schema()
    assert set(written) == set(schema["properties"])
    assert written["format"] == FORMAT == 1


def test_the_table_has_every_value_exactly(folder: ComparisonFolder) -> None:
    comparison = comparison_of()
    folder.save(comparison)
    lines = (folder.folder / "comparison.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert len(lines) == len(list(rows_of(comparison)))
    for line, row in zip(lines, rows_of(comparison), strict=True):
        arm, seed, metric, value, *_ = line.split(",")
        assert (arm, int(seed), metric, float(value)) == row[:4]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "holds no comparison.json"),
        ("{", "holds no comparison.json"),
        ("[]", "holds no comparison.json"),
        ('{"format": 2}', "has format 2; this bvae reads format 1"),
        ('{"format": 1}', "is damaged"),
        ('{"format": 1, "arms": "<script>"}', "is damaged"),
    ],
)
def test_what_is_no_comparison_is_refused(folder: ComparisonFolder, content: str | None, words: str) -> None:
    folder.folder.mkdir()
    if content is not None:
        (folder.folder / COMPARISON).write_text(content)
    with pytest.raises(InputOutputError, match=words) as caught:
        folder.load()
    assert caught.value.hint


def test_an_unfinished_comparison_says_that_the_command_goes_on(folder: ComparisonFolder) -> None:
    folder.claim("d", {})
    with pytest.raises(InputOutputError, match="the command that began it goes on"):
        folder.load()


def test_a_value_that_is_not_finite_is_never_written() -> None:
    with pytest.raises(ValidationError):
        TuningRun(seed=0, digest="", epochs=1, validation_loss=float("nan"))


def test_a_folder_belongs_to_one_comparison(folder: ComparisonFolder) -> None:
    folder.claim("one", {"a": 1})
    folder.claim("one", {"a": 1})
    with pytest.raises(UsageError, match="another comparison"):
        folder.claim("two", {})


def test_a_measured_run_counts_only_with_its_digest_and_its_arrays(folder: ComparisonFolder) -> None:
    record = arm_record("x", "none", elbo=[1.0]).runs[0]
    assert folder.evaluation(0, 0, "x-0") is None
    folder.save_evaluation(0, record, {"elbo": np.ones(3)})
    assert folder.evaluation(0, 0, "x-0") == record
    assert folder.evaluation(0, 0, "another") is None
    assert folder.arrays(0, 0)["elbo"].tolist() == [1.0, 1.0, 1.0]
    (folder.folder / "evaluations" / "arm_0_seed_0.npz").unlink()
    assert folder.evaluation(0, 0, "x-0") is None
    with pytest.raises(InputOutputError, match="cannot be read"):
        folder.arrays(0, 0)


@pytest.mark.parametrize("damage", [b"", b"{", b'{"seed": 0}', b"\xff\xfe"])
def test_half_a_record_does_not_count(folder: ComparisonFolder, damage: bytes) -> None:
    folder.save_evaluation(0, arm_record("x", "none", elbo=[1.0]).runs[0], {"elbo": np.ones(3)})
    folder.save_tuning(0, 0, TuningRun(seed=0, digest="d", epochs=1, validation_loss=1.0))
    for path in (
        folder.folder / "evaluations" / "arm_0_seed_0.json",
        folder.folder / "tuning" / "arm_0_seed_0_setting_0.json",
    ):
        path.write_bytes(damage)
    assert folder.evaluation(0, 0, "x-0") is None
    assert folder.tuning(0, 0, 0, "d") is None


def test_arrays_are_never_unpickled(folder: ComparisonFolder) -> None:
    folder.save_evaluation(0, arm_record("x", "none", elbo=[1.0]).runs[0], {"elbo": np.ones(3)})
    objects: Any = np.array([{}], dtype=object)
    np.savez(folder.folder / "evaluations" / "arm_0_seed_0.npz", elbo=objects)
    with pytest.raises(InputOutputError):
        folder.arrays(0, 0)
