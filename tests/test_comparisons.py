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
    with pytest.raises(InputOutputError, match="is missing or damaged"):
        folder.arrays(0, 0)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 and no more", "half", "turned"])
def test_damaged_arrays_are_measured_again(folder: ComparisonFolder, damage: bytes | str) -> None:
    folder.save_evaluation(0, arm_record("x", "none", elbo=[1.0]).runs[0], {"elbo": np.arange(3000.0)})
    path = folder.folder / "evaluations" / "arm_0_seed_0.npz"
    whole = path.read_bytes()
    middle = len(whole) // 2
    turned = whole[:middle] + bytes(255 - byte for byte in whole[middle : middle + 50]) + whole[middle + 50 :]
    path.write_bytes({"half": whole[:middle], "turned": turned}[damage] if isinstance(damage, str) else damage)
    assert folder.evaluation(0, 0, "x-0") is None
    with pytest.raises(InputOutputError, match="is missing or damaged"):
        folder.arrays(0, 0)


def test_arrays_of_different_numbers_of_images_do_not_count(folder: ComparisonFolder) -> None:
    folder.save_evaluation(0, arm_record("x", "none", elbo=[1.0]).runs[0], {"elbo": np.ones(3), "iwae": np.ones(2)})
    assert folder.evaluation(0, 0, "x-0") is None


def test_what_a_killed_write_left_behind_is_no_other_comparison(tmp_path: Path) -> None:
    (tmp_path / ".plan.json.123.tmp").write_text("{")
    ComparisonFolder(tmp_path).claim("one", {})
    with pytest.raises(UsageError, match="another comparison"):
        ComparisonFolder(tmp_path).claim("two", {})
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(InputOutputError, match=r"plan\.json is damaged"):
        ComparisonFolder(tmp_path).claim("one", {})


def broken_comparisons() -> dict[str, dict[str, Any]]:
    def with_(path: str, value: Any) -> dict[str, Any]:
        whole: dict[str, Any] = json.loads(comparison_of().model_dump_json())
        *steps, last = path.split("/")
        place: Any = whole
        for step in steps:
            place = place[int(step) if step.isdigit() else step]
        if value is KeyError:
            del place[last]
        else:
            place[last] = value
        return whole

    edits: dict[str, tuple[str, Any]] = {
        "no arms": ("arms", []),
        "no seeds": ("protocol/seeds", []),
        "no flip probability": ("protocol/noise_epsilon", []),
        "another shape": ("data/feature_shape", [5]),
        "no machine": ("machine", {}),
        "no runs": ("arms/0/runs", []),
        "no code": ("arms/0/settings", {}),
        "no tuning": ("arms/0/tuning", []),
        "a curve without its ε": ("arms/1/closed_form_curves/epsilon", KeyError),
        "no metrics": ("arms/0/runs/0/metrics", {}),
        "an unknown metric": ("arms/0/runs/0/metrics/zzz", {"mean": 1.0}),
        "a metric at no number": ("arms/0/runs/0/metrics/stored_nll@x", {"mean": 1.0}),
        "no curve": ("arms/0/runs/0/curve", {"training": [], "validation": []}),
        "an epoch that never was": ("arms/0/runs/0/best_epoch", 999),
        "no versions": ("arms/0/runs/0/versions", {}),
        "an unknown claim": ("protocol/claims", ["zzz"]),
        "an unknown effect": ("effects/0/metric", "zzz"),
        "an effect of nobody": ("effects/0/arm", "nobody"),
    }
    return {name: with_(*edit) for name, edit in edits.items()}


@pytest.mark.parametrize("name", broken_comparisons())
def test_a_comparison_whose_parts_do_not_fit_is_damaged(folder: ComparisonFolder, name: str) -> None:
    folder.write("comparison.json", json.dumps(broken_comparisons()[name]).encode())
    with pytest.raises(InputOutputError, match="is damaged"):
        folder.load()


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
