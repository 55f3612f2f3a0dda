"""What a run needs of memory is said before it begins, and what cannot fit is refused with what would."""

from __future__ import annotations

from pathlib import Path

import pytest

from bvae_cli import devices
from bvae_cli.errors import ExitCode, UsageError
from bvae_cli.workflows.planning import Memory, prepare, require_memory
from bvae_cli.workflows.train import plan, train
from bvae_cli.workflows.train_many import plan_many, train_many

from .conftest import config_for


def left(monkeypatch: pytest.MonkeyPatch, count: int | None) -> None:
    monkeypatch.setattr(devices, "available_bytes", lambda device: count)


def test_the_rows_that_fit_are_what_is_left_when_weights_and_states_have_their_place() -> None:
    memory = Memory(data=1000, weights=300, row=7, rows=100)
    assert memory.whole == 1000 + 300 + 700
    assert [memory.rows_that_fit(count) for count in (0, 300, 306, 307, 314, 1000)] == [0, 0, 0, 1, 2, 100]


def test_a_run_that_just_fits_is_trained_and_with_a_byte_less_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = prepare(config_for(tmp_path)).memory
    assert memory.rows == 16
    left(monkeypatch, memory.weights + 16 * memory.row)
    assert train(config_for(tmp_path, epochs=1)).state == "finished"
    left(monkeypatch, memory.weights + 16 * memory.row - 1)
    with pytest.raises(UsageError, match=r"This run needs about .* GB beside its data, and cpu has .* GB left") as caught:
        train(config_for(tmp_path, output_dir=tmp_path / "other"))
    assert caught.value.hint == "--batch-size 15 would fit."
    assert caught.value.exit_code == ExitCode.USAGE
    assert not (tmp_path / "other").exists()
    assert train(config_for(tmp_path, output_dir=tmp_path / "other", batch_size=15, epochs=1)).state == "finished"


def test_where_not_a_row_fits_the_model_is_to_be_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left(monkeypatch, 10)
    with pytest.raises(UsageError) as caught:
        require_memory(prepare(config_for(tmp_path)))
    assert caught.value.hint == "Not a single row would fit: take a smaller --hidden or --latent."


def test_seeds_are_refused_before_anything_is_measured_and_a_plan_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(tmp_path)
    left(monkeypatch, 10)
    with pytest.raises(UsageError, match="This run needs about"):
        train_many(config, 2)
    assert list((tmp_path / "weights").iterdir()) == []
    with pytest.raises(UsageError, match="This run needs about"):
        plan_many(config, 2)
    assert plan(config).memory_bytes > 0


def test_where_the_memory_of_a_device_is_not_known_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left(monkeypatch, None)
    assert train(config_for(tmp_path, epochs=1)).state == "finished"
