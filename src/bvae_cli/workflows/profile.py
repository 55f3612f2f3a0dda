"""Where the time of a training step goes, and how near it comes to what the machine can do."""

from __future__ import annotations

import gzip
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bvae_cli import files
from bvae_cli.config import TrainConfig
from bvae_cli.datasets.rows import Rows, bytes_in_memory
from bvae_cli.errors import UsageError
from bvae_cli.model.arithmetic import LayerArithmetic, layers_of_step
from bvae_cli.workflows.building import placed
from bvae_cli.workflows.ceilings import LayerCeiling, Square, layer_ceiling, wait_for
from bvae_cli.workflows.fit import Fit, on_device
from bvae_cli.workflows.phases import PhaseTime, StepTimes, Trace, peak_bytes, recorded, step_times, watched
from bvae_cli.workflows.planning import activation_bytes, prepare
from bvae_cli.workflows.steps import STEPS_OF_A_RECORDING, StepHook
from bvae_cli.workflows.train import computing_for, fit_of

_ROUNDS = 5
# Of each round, about: as steps are taken in training, and watched.
_SECONDS_OF_PLAIN_STEPS = 0.4
_SECONDS_OF_WATCHED_STEPS = 0.1
_MOST_PLAIN_STEPS = 1000
_MOST_WATCHED_STEPS = 16
# Enough for a recording to be made and replayed, where there is one.
_STEPS_TO_WARM_UP = 3


@dataclass(frozen=True)
class Phase:
    """A phase of a step: milliseconds, number of operations, share of the watched step, and its products' FLOP/s.

    ``flop_per_second`` counts the networks' products with weights, and is None where a phase is not made of these.
    """

    name: str
    milliseconds: float
    share: float
    operations: float | None
    flop_per_second: float | None


@dataclass(frozen=True)
class Peak:
    """The machine's products of square matrices in one precision, and a step's FLOP/s as a share of it."""

    precision: str
    side: int
    flop_per_second: float
    share: float


@dataclass(frozen=True)
class Memory:
    """Bytes. ``step_peak`` is the most that a step allocates on its device above what is held between steps.

    ``activations_estimated`` is the plan's; ``step_peak`` was measured and holds activations, gradients and what operations
    need meanwhile. ``process_peak`` is the most of the machine's memory that the process held until the end of its first
    step, None where the system does not say.
    """

    parameters: int
    gradients: int
    optimiser: int
    data: int
    activations_estimated: int
    step_peak: int
    process_peak: int | None


@dataclass(frozen=True)
class Profile:
    """A training step, measured.

    ``step_milliseconds`` is a step as ``train`` takes it, the median of ``rounds`` rounds; ``watched_milliseconds`` one
    under torch's profiler, to which ``phases`` (the last is ``host``) add up. ``backward`` splits the backward phase.
    ``computing`` says how many threads were taken, whether the step was compiled, and why; ``products`` which library
    multiplies matrices. ``eager_because`` says why the steps are taken one by one, None where ``train`` replays a recording
    of several. ``products_milliseconds`` is what the products alone would take at the speed of ``layers``, in the step's
    precision.
    """

    device: str
    device_reason: str
    precision: str
    precision_reason: str
    threads: int
    computing: str
    products: str
    torch_version: str
    code: str
    estimator: str
    sampling: str
    batch_size: int
    parameters: int
    rounds: int
    steps_of_a_round: int
    step_milliseconds: float
    step_milliseconds_of_rounds: tuple[float, ...]
    images_per_second: float
    eager_because: str | None
    watched_milliseconds: float
    phases: tuple[Phase, ...]
    backward: tuple[Phase, ...]
    flop_per_image: int
    flop_per_second: float
    peaks: tuple[Peak, ...]
    layers: tuple[LayerCeiling, ...]
    products_milliseconds: float
    memory: Memory
    trace: Path | None


def profile(config: TrainConfig, trace: Path | None = None) -> Profile:
    """Measure the step that ``train`` would take with this configuration; nothing that is trained is kept.

    ``trace`` is where the record of a few steps goes, for the trace viewer of a browser (``.gz``: compressed).
    Raises UsageError, InputOutputError or PluginError as ``train`` does.
    """
    prepared = prepare(config)
    plan, splits, device = prepared.plan, prepared.splits, torch.device(prepared.plan.device)
    if device.type not in ("cpu", "cuda"):
        raise UsageError(
            f"--profile cannot see what {plan.device} does: torch's profiler has no record of its kernels.",
            "Profile on a CPU or a CUDA device: --device cpu.",
        )
    train, validation = placed(splits.train, plan.device), placed(splits.validation, plan.device)
    computing = computing_for(config, prepared, train)
    fit = fit_of(config, prepared, train, validation, None, computing.compiled)
    # Of a recording that is replayed, or a compiled step, the profiler sees no phases: those are of plain steps.
    as_it_is = fit.steps.eager_because is not None and not computing.compiled
    stepwise = fit if as_it_is else fit_of(config, prepared, train, validation, None, record=False)
    layers = layers_of_step(fit.model, config.estimator)
    # Before anything is measured that needs memory of its own.
    memory = _memory(stepwise, train, validation)
    squares = {name: Square(getattr(torch, name), device) for name in _precisions(plan.precision)}
    bench = _Bench(fit, stepwise)
    rounds = [bench.round(squares) for _ in range(_ROUNDS)]

    batch = bench.batch
    step = statistics.median(one.plain_milliseconds for one in rounds)
    middle = sorted(rounds, key=lambda one: one.watched.milliseconds)[len(rounds) // 2]
    flop = sum(layer.forward + layer.backward for layer in layers)
    flop_per_second = flop * batch / step * 1e3
    ceilings = _ceilings(layers, batch, device)
    if trace is not None:
        _write(middle.trace, trace)
    return Profile(
        device=plan.device,
        device_reason=plan.device_reason,
        precision=plan.precision,
        precision_reason=plan.precision_reason,
        threads=computing.threads,
        computing=str(computing),
        products=f"{plan.products} ({plan.products_reason})",
        torch_version=torch.__version__,
        code=plan.code,
        estimator=config.estimator,
        sampling=config.sampling,
        batch_size=batch,
        parameters=plan.parameters,
        rounds=_ROUNDS,
        steps_of_a_round=bench.plain_steps,
        step_milliseconds=step,
        step_milliseconds_of_rounds=tuple(one.plain_milliseconds for one in rounds),
        images_per_second=batch / step * 1e3,
        eager_because=fit.steps.eager_because,
        watched_milliseconds=middle.watched.milliseconds,
        phases=_phases(middle.watched, layers, batch),
        backward=_backward(middle.watched, layers, batch),
        flop_per_image=flop,
        flop_per_second=flop_per_second,
        peaks=tuple(
            _peak(name, square.side, [one.squares[name] for one in rounds], flop_per_second)
            for name, square in squares.items()
        ),
        layers=tuple(dict.fromkeys(ceilings.values())),
        products_milliseconds=_products_milliseconds(layers, ceilings, batch, plan.precision),
        memory=memory,
        trace=trace,
    )


@dataclass(frozen=True)
class _Round:
    plain_milliseconds: float
    watched: StepTimes
    trace: Trace
    squares: dict[str, float]


class _Bench:
    """Takes steps as training does and watched ones, in turn with products of squares."""

    def __init__(self, fit: Fit, stepwise: Fit) -> None:
        self.fit, self.stepwise = fit, stepwise
        self.batch = min(fit.batch_size, len(fit.train))
        seconds = min(_seconds(stepwise, 1) for _ in range(_STEPS_TO_WARM_UP))
        self.watched_steps = _between(1, _SECONDS_OF_WATCHED_STEPS / seconds, _MOST_WATCHED_STEPS)
        together = 1 if fit.steps.eager_because else STEPS_OF_A_RECORDING
        if fit is not stepwise:
            _seconds(fit, _STEPS_TO_WARM_UP + 2 * together)
            seconds = _seconds(fit, together) / together
        self.plain_steps = together * _between(1, _SECONDS_OF_PLAIN_STEPS / seconds / together, _MOST_PLAIN_STEPS)

    def round(self, squares: dict[str, Square]) -> _Round:
        """Measure everything once."""
        plain = _seconds(self.fit, self.plain_steps) / self.plain_steps
        trace = self._watched()
        return _Round(1e3 * plain, step_times(trace), trace, {name: one.flop_per_second() for name, one in squares.items()})

    def _watched(self) -> Trace:
        with watched(self.stepwise) as regions:

            def steps() -> None:
                regions.begin()
                _seconds(self.stepwise, self.watched_steps, regions.on_step)

            return recorded(steps, self.stepwise.device.type == "cuda")


def _seconds(fit: Fit, steps: int, on_step: StepHook | None = None) -> float:
    """Take so many steps as an epoch takes them, all on whole batches; return how long that took."""
    batch = min(fit.batch_size, len(fit.train))
    whole = len(fit.train) // batch * batch
    orders = [
        torch.randperm(len(fit.train), device=fit.device, generator=fit.generator)[:whole]
        for _ in range(-(-steps * batch // whole))
    ]
    order = torch.cat(orders)[: steps * batch]
    beta, temperature = on_device([fit.beta_max, fit.temperature(0)], fit.device, fit.model.dtype)
    rates = on_device([fit.lr] * steps, fit.device, torch.float64)
    fit.model.train()
    wait_for(fit.device)
    started = time.perf_counter()
    fit.steps.train(order, batch, rates, beta, temperature, fit.sums, on_step=on_step)
    wait_for(fit.device)
    return time.perf_counter() - started


def _ceilings(layers: list[LayerArithmetic], batch: int, device: torch.device) -> dict[LayerArithmetic, LayerCeiling]:
    """Measure each layer; layers of one shape once. A convolution is a product with as many rows as it has positions."""
    shapes = {layer: (layer.inputs, layer.outputs, layer.positions, layer.passes_to_inputs) for layer in layers}
    of_shape = {shape: layer for layer, shape in shapes.items()}
    measured = {shape: layer_ceiling(layer, batch * layer.positions, device) for shape, layer in of_shape.items()}
    return {layer: measured[shape] for layer, shape in shapes.items()}


def _between(least: int, wanted: float, most: int) -> int:
    return max(least, min(int(wanted), most))


def _precisions(chosen: str) -> list[str]:
    return list(dict.fromkeys(["float32", "bfloat16", chosen]))


def _phases(times: StepTimes, layers: list[LayerArithmetic], batch: int) -> tuple[Phase, ...]:
    flop = {
        "encoder": sum(layer.forward for layer in layers if layer.network == "encoder"),
        "decoder": sum(layer.forward for layer in layers if layer.network == "decoder"),
    }
    host = Phase("host", times.host_milliseconds, times.host_milliseconds / times.milliseconds, None, None)
    return (*(_phase(one, times.milliseconds, flop, batch) for one in times.phases), host)


def _backward(times: StepTimes, layers: list[LayerArithmetic], batch: int) -> tuple[Phase, ...]:
    flop = {
        network: sum(layer.backward for layer in layers if layer.network == network) for network in ("encoder", "decoder")
    }
    return tuple(_phase(one, times.milliseconds, flop, batch) for one in times.backward)


def _phase(time: PhaseTime, whole: float, flop: dict[str, int], batch: int) -> Phase:
    rate = flop[time.name] * batch / time.milliseconds * 1e3 if time.name in flop and time.milliseconds else None
    return Phase(time.name, time.milliseconds, time.milliseconds / whole, time.operations, rate)


def _peak(precision: str, side: int, measured: list[float], achieved: float) -> Peak:
    rate = statistics.median(measured)
    return Peak(precision, side, rate, achieved / rate)


def _products_milliseconds(
    layers: list[LayerArithmetic], ceilings: dict[LayerArithmetic, LayerCeiling], batch: int, precision: str
) -> float:
    rates = {layer: one.float32 if precision == "float32" else one.bfloat16 for layer, one in ceilings.items()}
    return sum((layer.forward + layer.backward) * batch / rates[layer] for layer in layers) * 1e3


def _memory(fit: Fit, train: Tensor | Rows, validation: Tensor | Rows) -> Memory:
    _seconds(fit, 1)
    process = _process_peak()
    parameters = sum(map(_bytes, fit.model.parameters()))
    batch = min(fit.batch_size, len(train))
    return Memory(
        parameters=parameters,
        gradients=parameters,
        optimiser=sum(map(_bytes, (*fit.optimizer.means, *fit.optimizer.squares, fit.optimizer.counts))),
        data=sum(map(bytes_in_memory, (train, validation))),
        activations_estimated=activation_bytes(fit.model, batch),
        step_peak=_step_peak(fit),
        process_peak=process,
    )


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _step_peak(fit: Fit) -> int:
    # What the last step left is no part of the next one's memory.
    fit.optimizer.zero_grad()
    fit.optimizer.param_groups[0]["lr"] = fit.lr
    if fit.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(fit.device)
        held = torch.cuda.memory_allocated(fit.device)
        _seconds(fit, 1)
        return torch.cuda.max_memory_allocated(fit.device) - held
    return peak_bytes(recorded(lambda: _seconds(fit, 1), cuda=False, memory=True))


def _process_peak() -> int | None:
    try:
        import resource
    except ImportError:  # there is none on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _write(trace: Trace, path: Path) -> None:
    content = json.dumps(trace).encode()
    files.write_file(path, gzip.compress(content) if path.suffix == ".gz" else content)
