"""Marking the phases of a step, and reading their times: from records written by hand, and from real ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bvae_cli.codes.repetition import Repetition
from bvae_cli.model.bvae import BinaryVAE
from bvae_cli.model.networks import Architecture
from bvae_cli.workflows.fit import Fit
from bvae_cli.workflows.phases import PHASES, Regions, Trace, peak_bytes, recorded, step_times, watched

Event = dict[str, Any]


def event(name: str, start: float, length: float, kind: str = "cpu_op", thread: int = 1, **facts: Any) -> Event:
    return {"ph": "X", "cat": kind, "name": name, "ts": start, "dur": length, "tid": thread, "args": facts}


def region(name: str, start: float, length: float) -> Event:
    return event(name, start, length, "user_annotation")


def trace_of(*events: Event) -> Trace:
    return {"traceEvents": list(events)}


def make(estimator: str = "reinmax", **options: Any) -> Fit:
    rows = (torch.arange(40 * 10).reshape(40, 10) % 3 == 0).to(torch.uint8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BinaryVAE(Repetition(R=3).build(12), rows.float().mean(0), Architecture(hidden=16, depth=1))
    return Fit(model, rows, rows[:10], epochs=2, batch_size=10, lr=0.01, estimator=estimator, **options)


def watched_epoch(fit: Fit) -> Trace:
    with watched(fit) as regions:
        fit.on_step = regions.on_step

        def epoch() -> None:
            regions.begin()
            next(iter(fit))

        return recorded(epoch, cuda=False)


# --- records by hand, in microseconds


def test_a_phase_is_the_time_of_its_operations_and_the_rest_is_the_hosts() -> None:
    times = step_times(
        trace_of(
            region("step", 0, 1000),
            region("data", 0, 300),
            region("encoder", 300, 700),
            event("aten::index_select", 10, 100),
            event("aten::linear", 310, 400),
            event("aten::addmm", 320, 300),  # within the last one: it is not counted twice
            event("aten::relu", 800, 50),
            event("aten::elsewhere", 2000, 50),  # after the step
        )
    )
    assert times.milliseconds == pytest.approx(1.0)
    by_name = {phase.name: phase for phase in times.phases}
    assert list(by_name) == list(PHASES)
    assert (by_name["data"].milliseconds, by_name["data"].operations) == (pytest.approx(0.1), 1)
    assert (by_name["encoder"].milliseconds, by_name["encoder"].operations) == (pytest.approx(0.45), 2)
    assert by_name["code"].milliseconds == 0
    assert times.host_milliseconds == pytest.approx(0.45)


def test_of_several_steps_it_is_the_mean() -> None:
    steps = [
        one
        for start, length in ((0, 100), (1000, 300))
        for one in (region("step", start, 1000), region("loss", start, 1000), event("aten::mean", start, length))
    ]
    times = step_times(trace_of(*steps))
    loss = next(phase for phase in times.phases if phase.name == "loss")
    assert (loss.milliseconds, loss.operations, times.milliseconds) == (pytest.approx(0.2), 1, pytest.approx(1.0))


def test_frames_around_operations_are_no_operations() -> None:
    times = step_times(
        trace_of(
            region("step", 0, 1000),
            region("backward", 0, 1000),
            event("autograd::engine::evaluate_function: MulBackward0", 0, 900),
            event("MulBackward0", 10, 800),
            event("aten::mul", 20, 100),
            event("torch::autograd::AccumulateGrad", 920, 50),
        )
    )
    assert sum(phase.milliseconds for phase in times.phases) == pytest.approx(0.1)


def test_the_backward_pass_is_split_by_what_it_differentiates() -> None:
    node = "autograd::engine::evaluate_function: "
    numbered: dict[str, Any] = {"Fwd thread id": 0}
    backward: dict[str, Any] = {"Fwd thread id": 1}
    times = step_times(
        trace_of(
            region("step", 0, 1000),
            region("encoder", 0, 100),
            region("code", 100, 100),
            region("decoder", 200, 100),
            region("loss", 300, 100),
            region("backward", 400, 600),
            event("aten::addmm", 10, 10, **numbered, **{"Sequence number": 1}),
            # An operation that needs no gradient bears the number of the next that does.
            event("aten::detach", 110, 10, **numbered, **{"Sequence number": 2}),
            event("aten::addmm", 210, 10, **numbered, **{"Sequence number": 2}),
            event(f"{node}B", 400, 100, thread=2, **backward, **{"Sequence number": 2}),
            event("aten::mm", 410, 50, thread=2),
            event(f"{node}A", 500, 100, thread=2, **backward, **{"Sequence number": 1}),
            event("aten::mm", 510, 20, thread=2),
            event("aten::add_", 700, 5, thread=2),
        )
    )
    parts = {part.name: part.milliseconds for part in times.backward}
    assert parts == {
        "encoder": pytest.approx(0.02),
        "code": 0,
        "decoder": pytest.approx(0.05),
        "loss": 0,
    }
    (whole,) = (phase for phase in times.phases if phase.name == "backward")
    assert whole.milliseconds == pytest.approx(0.075)


def test_on_a_gpu_the_kernels_are_the_work_of_the_phase_that_asked_for_them() -> None:
    times = step_times(
        trace_of(
            region("step", 0, 100),
            region("encoder", 0, 50),
            region("decoder", 50, 50),
            event("aten::addmm", 5, 10),
            event("cudaLaunchKernel", 6, 2, "cuda_runtime", correlation=1),
            event("cudaLaunchKernel", 60, 2, "cuda_runtime", correlation=2),
            event("gemm", 40, 200, "kernel", thread=7, correlation=1),
            event("gemm", 240, 100, "kernel", thread=7, correlation=2),
        )
    )
    by_name = {phase.name: phase.milliseconds for phase in times.phases if phase.operations}
    assert by_name == {"encoder": pytest.approx(0.2), "decoder": pytest.approx(0.1)}
    # The step ends when the GPU is done.
    assert times.milliseconds == pytest.approx(0.34)
    assert times.host_milliseconds == pytest.approx(0.04)


# --- real records


@pytest.mark.parametrize("estimator", ["reinmax", "disarm"])
def test_a_real_step_has_every_phase_and_they_add_up(estimator: str) -> None:
    fit = make(estimator)
    times = step_times(watched_epoch(fit))
    assert all(phase.operations for phase in times.phases)
    assert times.host_milliseconds > 0
    whole = sum(phase.milliseconds for phase in times.phases) + times.host_milliseconds
    assert whole == pytest.approx(times.milliseconds)
    parts = {part.name: part.operations for part in times.backward}
    assert all(parts.values())
    (backward,) = (phase for phase in times.phases if phase.name == "backward")
    assert sum(part.milliseconds for part in times.backward) <= backward.milliseconds * 1.001


def test_networks_multiply_in_their_own_phases() -> None:
    trace = watched_epoch(make("reinmax"))
    marks = [one for one in trace["traceEvents"] if one.get("cat") == "user_annotation"]

    def products_in(phase: str) -> int:
        within = [(one["ts"], one["ts"] + one["dur"]) for one in marks if one["name"] == phase]
        products = [one["ts"] for one in trace["traceEvents"] if one.get("name") in ("aten::addmm", "aten::mm")]
        return sum(start <= moment <= end for moment in products for start, end in within)

    # Four steps with two layers in each network; backward two products a layer, but one for the first.
    assert [products_in(phase) for phase in PHASES] == [0, 8, 0, 8, 0, 28, 0]


def test_clipping_the_gradient_belongs_to_the_optimiser() -> None:
    times = {clip: step_times(watched_epoch(make(grad_clip=clip))) for clip in (0.0, 1.0)}
    without, clipped = ({phase.name: phase.operations for phase in times[clip].phases} for clip in (0.0, 1.0))
    assert clipped["optimiser"] > without["optimiser"]
    assert {**clipped, "optimiser": 0} == {**without, "optimiser": 0}


@pytest.mark.parametrize("grad_clip", [0.0, 1.0])
def test_a_watched_step_does_what_an_unwatched_one_does_and_leaves_nothing_behind(grad_clip: float) -> None:
    alone, seen = make(grad_clip=grad_clip), make(grad_clip=grad_clip)
    backward = torch.autograd.backward
    before = [set(vars(one)) for one in (seen.model, seen.model.code, seen.optimizer)]
    next(iter(alone))
    watched_epoch(seen)
    pairs = zip(alone.model.state_dict().values(), seen.model.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert [set(vars(one)) for one in (seen.model, seen.model.code, seen.optimizer)] == before
    assert torch.autograd.backward is backward


def test_what_was_wrapped_is_as_it_was_after_a_failure_too() -> None:
    fit, backward = make(), torch.autograd.backward
    with pytest.raises(ZeroDivisionError), watched(fit):
        raise ZeroDivisionError
    assert "encode" not in vars(fit.model)
    assert torch.autograd.backward is backward


def test_nothing_is_marked_outside_a_step() -> None:
    def outside() -> None:
        regions = Regions()
        regions.enter("encoder")
        regions.end()

    marks = [one for one in recorded(outside, cuda=False)["traceEvents"] if one.get("cat") == "user_annotation"]
    assert marks == []


def test_the_most_that_was_allocated_at_once_is_read_from_the_record() -> None:
    before = torch.empty(100_000)

    def allocate() -> None:
        nonlocal before
        first, second = torch.empty(1000), torch.empty(500)
        del first
        third = torch.empty(300)
        del second, third

    assert peak_bytes(recorded(allocate, cuda=False, memory=True)) == 4 * 1500
    assert len(before) == 100_000
