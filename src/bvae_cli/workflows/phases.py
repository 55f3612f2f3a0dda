"""What a training step is doing when: its phases marked from outside, and the time of each read from torch's own record.

Nothing here is in the way of a step that nobody watches: the callables that a step goes through are wrapped while it is
watched, and are what they were afterwards.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, record_function
from torch.profiler import profile as torch_profile

from bvae_cli.workflows.fit import Fit

PHASES = ("data", "encoder", "code", "decoder", "loss", "backward", "optimiser")
# The phases whose operations have a gradient to compute.
DIFFERENTIATED = ("encoder", "code", "decoder", "loss")
# A step begins with its data. What is between encoder and backward, and is no other phase, belongs to the loss (the
# estimator's bits, the terms of the bound); what follows the backward pass (clipping, scaling) to the optimiser.
_FIRST = "data"
_FOLLOWING = {"encoder": "loss", "backward": "optimiser", "optimiser": "loss"}
_STEP = "step"

Trace = dict[str, Any]
Event = dict[str, Any]


class Regions:
    """The phases of a step as regions in the profiler's record: one is always open, so they leave no gap."""

    def __init__(self) -> None:
        self.phase = _FIRST
        self._open: list[Any] = []

    def begin(self) -> None:
        """A step begins."""
        self._push(_STEP)
        self._push(_FIRST)
        self.phase = _FIRST

    def enter(self, phase: str) -> None:
        """The step turns to another phase; outside a step nothing is marked."""
        if self._open:
            self._pop()
            self._push(phase)
            self.phase = phase

    def end(self) -> None:
        """The step is done."""
        while self._open:
            self._pop()

    def on_step(self, step: int, steps: int) -> None:
        """One of several steps is done, and the next begins: a ``StepHook``."""
        self.end()
        if step < steps:
            self.begin()

    def _push(self, name: str) -> None:
        region = record_function(name)
        region.__enter__()
        self._open.append(region)

    def _pop(self) -> None:
        self._open.pop().__exit__(None, None, None)


@contextlib.contextmanager
def watched(fit: Fit) -> Iterator[Regions]:
    """Mark the phases of this training's steps until the block ends."""
    regions, model = Regions(), fit.model
    with contextlib.ExitStack() as stack:
        for owner, name, phase in (
            (model, "encode", "encoder"),
            (model, "outputs", "decoder"),
            *((model.code, method, "code") for method in ("soft_decode", "encode_probs", "encode_logits")),
            (fit.optimizer, "zero_grad", "optimiser"),
            (fit.optimizer, "step", "optimiser"),
            (torch.autograd, "backward", "backward"),
        ):
            stack.enter_context(_marked(owner, name, phase, regions))
        stack.callback(regions.end)
        yield regions


@contextlib.contextmanager
def _marked(owner: Any, name: str, phase: str, regions: Regions) -> Iterator[None]:
    """Let calls of ``owner.name`` mark a phase; afterwards the step is in what follows it, or in what it was in."""
    original: Callable[..., Any] = getattr(owner, name)
    its_own = name in vars(owner)

    @functools.wraps(original)
    def marking(*arguments: Any, **named: Any) -> Any:
        before = regions.phase
        regions.enter(phase)
        try:
            return original(*arguments, **named)
        finally:
            regions.enter(_FOLLOWING.get(phase, before))

    setattr(owner, name, marking)
    try:
        yield
    finally:
        if its_own:
            setattr(owner, name, original)
        else:
            delattr(owner, name)


def recorded(action: Callable[[], object], cuda: bool, memory: bool = False) -> Trace:
    """Return what torch's profiler records of an action, in the format of Chrome's trace viewer."""
    # Before its first use: its C++ library greets on stderr otherwise.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with torch_profile(activities=activities, profile_memory=memory, acc_events=True) as profiler:
        action()
    with tempfile.TemporaryDirectory(prefix="bvae-") as folder:
        path = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(path))
        trace: Trace = json.loads(path.read_text(encoding="utf-8"))
    return {key: value for key, value in trace.items() if key not in ("host_name", "traceName")}


@dataclass(frozen=True)
class PhaseTime:
    """A phase of one step: milliseconds in torch's operations (on a GPU: in its kernels), and their number."""

    name: str
    milliseconds: float
    operations: float


@dataclass(frozen=True)
class StepTimes:
    """The mean of the watched steps: milliseconds of a step, its phases, and what of them no operation was at work in.

    ``backward`` splits the backward phase by the phases whose operations it differentiates; what belongs to none, such as
    handing the gradients to the parameters, is in no part.
    """

    milliseconds: float
    phases: tuple[PhaseTime, ...]
    backward: tuple[PhaseTime, ...]
    host_milliseconds: float


def step_times(trace: Trace) -> StepTimes:
    """Return how long the steps of a record took, phase by phase; phases and host add up to a step."""
    events = [event for event in trace["traceEvents"] if event.get("ph") == "X"]
    marks = sorted((event for event in events if event.get("cat") == "user_annotation"), key=_start)
    regions = _Timeline([event for event in marks if event["name"] in PHASES])
    steps = sum(event["name"] == _STEP for event in marks)
    operations = _outermost([event for event in events if _is_operation(event)])
    launches = _launches(events)
    # Where there are kernels, they are the work; else the operations of the CPU are.
    work = launches or [(event, _start(event)) for event in operations]
    times: dict[str, list[float]] = defaultdict(list)
    parts: dict[str, list[float]] = defaultdict(list)
    origin = _Origins(events, regions)
    for event, started in work:
        phase = regions.name_at(started)
        if phase is None:
            continue
        times[phase].append(event["dur"])
        if phase == "backward" and (part := origin.phase_of(started)) is not None:
            parts[part].append(event["dur"])
    end = max([regions.end, *(_start(event) + event["dur"] for event, _ in launches)])
    whole = (end - regions.start) / 1e3 / steps
    phases = tuple(_mean(name, times[name], steps) for name in PHASES)
    return StepTimes(
        milliseconds=whole,
        phases=phases,
        backward=tuple(_mean(name, parts[name], steps) for name in DIFFERENTIATED),
        host_milliseconds=whole - sum(phase.milliseconds for phase in phases),
    )


def peak_bytes(trace: Trace) -> int:
    """Return the most that was allocated at once on the CPU above what was held at first, of a record with memory."""
    changes = [event for event in trace["traceEvents"] if event.get("name") == "[memory]"]
    held = most = 0
    for event in sorted((one for one in changes if one["args"]["Device Type"] == 0), key=_start):
        held += event["args"]["Bytes"]
        most = max(most, held)
    return most


class _Timeline:
    """Regions that do not overlap, in order."""

    def __init__(self, regions: Sequence[Event]) -> None:
        self._regions = regions
        self._starts = [_start(region) for region in regions]

    @property
    def start(self) -> float:
        return self._starts[0]

    @property
    def end(self) -> float:
        return self._starts[-1] + float(self._regions[-1]["dur"])

    def name_at(self, moment: float) -> str | None:
        """Return the name of the region at a moment, None where there is none."""
        index = bisect.bisect_right(self._starts, moment) - 1
        if index < 0 or moment > self._starts[index] + self._regions[index]["dur"]:
            return None
        return str(self._regions[index]["name"])


class _Origins:
    """Which phase made what the backward pass differentiates: autograd gives both the same sequence number."""

    def __init__(self, events: Sequence[Event], phases: _Timeline) -> None:
        ordered = sorted((event for event in events if "Sequence number" in event.get("args", {})), key=_start)
        nodes = [event for event in ordered if event["name"].startswith("autograd::engine::evaluate_function")]
        self._phases = {}
        for event in ordered:
            # Operations that need no gradient bear the number of the next that does, so the last to begin is the one.
            if not event["args"].get("Fwd thread id"):
                self._phases[event["args"]["Sequence number"]] = phases.name_at(_start(event))
        self._nodes = _Timeline([{**event, "name": event["args"]["Sequence number"]} for event in nodes])

    def phase_of(self, moment: float) -> str | None:
        """Return the phase whose operation is differentiated at a moment of a backward pass."""
        number = self._nodes.name_at(moment)
        return None if number is None else self._phases.get(int(number))


def _is_operation(event: Event) -> bool:
    """Say whether this is work of torch's and no mere frame around others, such as a node of autograd."""
    name = event["name"]
    frame = name.startswith(("autograd::", "torch::autograd::"))
    return event.get("cat") == "cpu_op" and "::" in name and not frame


def _outermost(operations: Sequence[Event]) -> list[Event]:
    """Return the operations that no other of the same thread encloses."""
    found, ends = [], defaultdict[Any, float](float)
    for event in sorted(operations, key=lambda event: (_start(event), -event["dur"])):
        if _start(event) >= ends[event["tid"]]:
            found.append(event)
            ends[event["tid"]] = _start(event) + event["dur"]
    return found


def _launches(events: Sequence[Event]) -> list[tuple[Event, float]]:
    """Return what a GPU did, each with the moment at which the CPU asked for it."""
    asked = {
        event["args"]["correlation"]: _start(event)
        for event in events
        if event.get("cat") in ("cuda_runtime", "cuda_driver") and "correlation" in event.get("args", {})
    }
    done = [event for event in events if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    return [(event, asked[number]) for event in done if (number := event["args"].get("correlation")) in asked]


def _mean(name: str, microseconds: Sequence[float], steps: int) -> PhaseTime:
    return PhaseTime(name, sum(microseconds) / 1e3 / steps, len(microseconds) / steps)


def _start(event: Event) -> float:
    return float(event["ts"])
