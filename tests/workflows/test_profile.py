"""The profile of a step: what it says beside closed forms and the plan. Nothing here looks at how long a thing took."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bvae_cli.config import TrainConfig
from bvae_cli.errors import InputOutputError, UsageError
from bvae_cli.model.arithmetic import LayerArithmetic
from bvae_cli.workflows import ceilings as ceilings_module
from bvae_cli.workflows import planning
from bvae_cli.workflows import profile as profile_module
from bvae_cli.workflows.ceilings import Square, layer_ceiling, seconds_of
from bvae_cli.workflows.phases import DIFFERENTIATED, PHASES
from bvae_cli.workflows.profile import Profile, profile
from bvae_cli.workflows.train import plan

from .conftest import config_for

CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    """Measure badly, but at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profile_module, "_ROUNDS", 2)
        patch.setattr(profile_module, "_SECONDS_OF_PLAIN_STEPS", 0.001)
        patch.setattr(profile_module, "_SECONDS_OF_WATCHED_STEPS", 0.001)
        patch.setattr(ceilings_module, "_SIDE", 64)
        patch.setattr(ceilings_module, "_SECONDS_OF_A_BLOCK", 1e-4)
        yield


def coded(folder: Path) -> TrainConfig:
    return config_for(folder, ecc="repetition:R=3")


@pytest.fixture(scope="module")
def measured(quick: None, tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """The profile of a small coded model, with its trace."""
    folder = tmp_path_factory.mktemp("profile")
    return profile(coded(folder), folder / "traces" / "step.json")


def test_the_phases_are_all_there_and_add_up_to_the_watched_step(measured: Profile) -> None:
    assert [phase.name for phase in measured.phases] == [*PHASES, "host"]
    assert [part.name for part in measured.backward] == list(DIFFERENTIATED)
    assert sum(phase.milliseconds for phase in measured.phases) == pytest.approx(measured.watched_milliseconds)
    assert sum(phase.share for phase in measured.phases) == pytest.approx(1)
    assert all(phase.milliseconds > 0 for phase in measured.phases)


def test_figures_that_follow_from_others_do(measured: Profile, tmp_path: Path) -> None:
    planned = plan(coded(tmp_path))
    assert measured.flop_per_image == planned.flop_per_image
    assert measured.parameters == planned.parameters
    assert measured.images_per_second == pytest.approx(16e3 / measured.step_milliseconds)
    assert measured.flop_per_second == pytest.approx(measured.flop_per_image * measured.images_per_second)
    assert [peak.precision for peak in measured.peaks] == ["float32", "bfloat16"]
    for peak in measured.peaks:
        assert peak.share == pytest.approx(measured.flop_per_second / peak.flop_per_second)
    assert min(measured.step_milliseconds_of_rounds) <= measured.step_milliseconds
    assert measured.step_milliseconds <= max(measured.step_milliseconds_of_rounds)
    # Encoder 12→8→12, decoder 12→8→12: two FLOP a weight forward, for each of 16 images.
    rates = {phase.name: phase for phase in measured.phases}
    assert rates["encoder"].flop_per_second == pytest.approx(16 * 2 * 192 / rates["encoder"].milliseconds * 1e3)
    parts = {part.name: part for part in measured.backward}
    assert parts["encoder"].flop_per_second == pytest.approx(16 * (6 * 96) / parts["encoder"].milliseconds * 1e3)
    assert parts["decoder"].flop_per_second == pytest.approx(16 * (8 * 96) / parts["decoder"].milliseconds * 1e3)
    assert rates["loss"].flop_per_second is None


def test_the_time_of_the_products_alone_follows_from_the_layers(tmp_path: Path) -> None:
    measured = profile(config_for(tmp_path, hidden=8, latent=9, ecc="repetition:R=3"))
    # 12→8 (without a gradient for its inputs), 8→9, 9→8, 8→12.
    weights = {(12, 8): 96, (8, 9): 72, (9, 8): 72, (8, 12): 96}
    assert [(layer.rows, layer.inputs, layer.outputs) for layer in measured.layers] == [(16, *shape) for shape in weights]
    flop = [16 * (4 if index == 0 else 6) * count for index, count in enumerate(weights.values())]
    seconds = sum(count / layer.float32 for count, layer in zip(flop, measured.layers, strict=True))
    assert measured.products_milliseconds == pytest.approx(1e3 * seconds)


def test_layers_of_one_shape_are_measured_once(tmp_path: Path) -> None:
    measured = profile(config_for(tmp_path, hidden=12, latent=12, depth=2))
    # All are 12 × 12, but the first has no product for a gradient of its inputs.
    assert len(measured.layers) == 2


def test_nothing_is_kept_and_a_trace_is_written_only_where_asked(measured: Profile, tmp_path: Path) -> None:
    profile(coded(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["bits.npy"]
    assert measured.trace is not None
    assert [path.name for path in measured.trace.parent.iterdir()] == ["step.json"]
    assert sorted(path.name for path in measured.trace.parents[1].iterdir()) == ["bits.npy", "traces"]


def test_the_trace_is_json_that_a_viewer_reads_with_the_phases_by_name(measured: Profile) -> None:
    assert measured.trace is not None
    trace = json.loads(measured.trace.read_text())
    spans = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert {event["name"] for event in spans if event["cat"] == "user_annotation"} == {"step", *PHASES}
    assert all({"name", "ts", "dur", "pid", "tid"} <= set(event) for event in spans)
    # A trace is shown to others: it does not say on which machine it was made.
    assert "host_name" not in trace


def test_a_trace_whose_name_says_so_is_compressed(tmp_path: Path) -> None:
    profile(coded(tmp_path), tmp_path / "step.json.gz")
    assert "traceEvents" in json.loads(gzip.decompress((tmp_path / "step.json.gz").read_bytes()))


def test_a_trace_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputOutputError, match="file"):
        profile(coded(tmp_path), tmp_path / "file" / "step.json")


def test_memory_is_counted_by_hand(measured: Profile) -> None:
    memory = measured.memory
    parameters = 4 * (4 * 96 + 2 * 20)
    assert (memory.parameters, memory.gradients) == (parameters, parameters)
    # Two moments for each parameter, and the count of steps.
    assert memory.optimiser == 2 * parameters + 4
    # 48 rows to train on and 6 to validate, of 12 bits, a byte each.
    assert memory.data == 54 * 12
    # Twelve values in, eight, twelve; twelve, eight, twelve; each of 16 images, with its gradient.
    assert memory.activations_estimated == 2 * 4 * 16 * (64 + 2 * 12)
    assert memory.step_peak > parameters
    assert memory.process_peak is None or memory.process_peak > memory.data


def test_a_batch_larger_than_the_data_is_all_of_them(tmp_path: Path) -> None:
    measured = profile(config_for(tmp_path, batch_size=1000))
    assert (measured.batch_size, measured.layers[0].rows) == (48, 48)
    assert measured.memory.activations_estimated == 2 * 4 * 48 * (64 + 2 * 12)


@pytest.mark.parametrize("estimator", ["disarm", "dvae"])
def test_mixed_precision_and_other_estimators_are_measured(tmp_path: Path, estimator: str) -> None:
    measured = profile(config_for(tmp_path, amp="bf16", estimator=estimator, sampling="bitwise", grad_clip=1.0))
    assert (measured.precision, measured.estimator, measured.sampling) == ("bfloat16", estimator, "bitwise")
    rates = {layer: layer.bfloat16 for layer in measured.layers}
    assert measured.products_milliseconds >= 1e3 * measured.flop_per_image * 16 / max(rates.values()) * (1 - 1e-9)


def test_a_device_whose_kernels_the_profiler_does_not_see_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = planning.devices.Choice("mps", "float32", "asked for", "asked for")
    monkeypatch.setattr(planning.devices, "choose", lambda *_: choice)
    with pytest.raises(UsageError, match="mps"):
        profile(coded(tmp_path))


# --- ceilings


def test_a_square_is_as_large_as_the_time_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Square(torch.float32, CPU).side == 64
    monkeypatch.setattr(ceilings_module, "_LONGEST_SECONDS", 0.0)
    assert Square(torch.float32, CPU).side == 8


def test_a_squares_rate_is_its_arithmetic_over_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings_module, "seconds_of", lambda *_: 0.01)
    assert Square(torch.float32, CPU).flop_per_second() == pytest.approx(2 * 64**3 / 0.01)


@pytest.mark.parametrize("passes_to_inputs", [True, False])
def test_a_layers_rate_is_that_of_the_products_that_a_step_has(
    passes_to_inputs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []

    def noted(action: Callable[[], Tensor], device: torch.device) -> float:
        shapes.append(tuple(action().shape))
        return 0.01

    monkeypatch.setattr(ceilings_module, "seconds_of", noted)
    layer = LayerArithmetic("encoder", inputs=3, outputs=5, passes=1, passes_to_inputs=passes_to_inputs)
    measured = layer_ceiling(layer, 7, CPU)
    assert measured.float32 == measured.bfloat16 == pytest.approx(2 * 7 * 3 * 5 / 0.01)
    # Outputs of 7 rows, the gradient of 5 × 3 weights, that of the inputs of 7 rows.
    assert set(shapes) == ({(7, 5), (5, 3), (7, 3)} if passes_to_inputs else {(7, 5), (5, 3)})


def test_an_action_is_called_as_often_as_makes_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    now, calls = [0.0], [0]

    def action() -> None:
        calls[0] += 1
        now[0] += 3e-5

    monkeypatch.setattr(ceilings_module.time, "perf_counter", lambda: now[0])
    assert seconds_of(action, CPU) == pytest.approx(3e-5)
    assert calls[0] > 4
