"""``bvae train --profile``: where the time of a step goes, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bvae_cli.config import TrainConfig
from bvae_cli.errors import UsageError
from bvae_cli.files import require_place

if TYPE_CHECKING:
    from bvae_cli.workflows.profile import Memory, Peak, Phase, Profile


def require_profile_alone(profile: bool, others: Mapping[str, bool]) -> None:
    """Raise UsageError for a trace without a profile, and for options of training beside it."""
    if not profile:
        raise UsageError("--trace FILE is for --profile, which measures a step.", "Add --profile, or leave --trace out.")
    reasons = {
        "--dry-run": "it measures nothing",
        "--overwrite": "a profile keeps nothing that could be overwritten",
        "--seeds": "a profile is of the step of one model",
        "torchrun": "a profile is of the step of one process",
    }
    for flag, given in others.items():
        if given:
            raise UsageError(f"--profile does not go with {flag}: {reasons[flag]}.", f"Leave out --profile or {flag}.")


def require_new_trace(trace: Path) -> None:
    """Refuse, before anything is measured, a path where a trace cannot be written, or where something is.

    Raises UsageError, or InputOutputError where a folder or a file is in the way.
    """
    require_place(trace)
    if trace.exists():
        raise UsageError(f"{trace} is there already.", "Name another file for --trace, or remove that one.")


def show_profile(config: TrainConfig, trace: Path | None, quiet: bool, json: bool) -> None:
    """Measure, and print the result."""
    from bvae_cli.cli.render import say, show_json
    from bvae_cli.workflows.profile import profile

    say("measuring for some seconds; nothing that is trained is kept …", quiet)
    measured = profile(config, trace)
    if json:
        show_json(measured)
    else:
        _show(measured)
    if trace is not None:
        say(f"Next: open {trace} in chrome://tracing or https://ui.perfetto.dev", quiet)


def _show(measured: Profile) -> None:
    from bvae_cli.cli.render import amount, percent, show_facts, show_table

    reason = measured.eager_because
    show_facts(
        [
            ("device", f"{measured.device} ({measured.device_reason}), {measured.computing}"),
            ("products by", measured.products),
            ("precision", f"{measured.precision} ({measured.precision_reason})"),
            (
                "model",
                f"{measured.parameters:,} parameters, code {measured.code}, {measured.estimator}, {measured.sampling}",
            ),
            ("step", f"{measured.step_milliseconds:.3g} ms for {measured.batch_size} images ({_spread(measured)})"),
            ("steps", "one by one: " + reason if reason else "several at once, replayed from a recording"),
            ("speed", f"{measured.images_per_second:,.0f} images/s"),
            (
                "arithmetic",
                f"{amount(measured.flop_per_image)}FLOP for each image, {amount(measured.flop_per_second)}FLOP/s",
            ),
            *((one.precision, _share(one)) for one in measured.peaks),
            (
                "products",
                f"{measured.products_milliseconds:.3g} ms at the speed that they have alone, "
                f"{percent(measured.products_milliseconds / measured.step_milliseconds)} of the step",
            ),
            *_memory_facts(measured.memory),
        ]
    )
    show_table(
        ("phase", "ms", "share", "operations", "FLOP/s"),
        _phase_rows(measured),
        f"A step under torch's profiler: {measured.watched_milliseconds:.3g} ms "
        f"({measured.step_milliseconds:.3g} ms without it)",
    )
    show_table(
        ("layer", "float32", "bfloat16"),
        [
            (f"{one.rows} × {one.inputs} → {one.outputs}", f"{amount(one.float32)}FLOP/s", f"{amount(one.bfloat16)}FLOP/s")
            for one in measured.layers
        ],
        "The products of each layer alone, forward and backward",
    )


def _spread(measured: Profile) -> str:
    rounds = measured.step_milliseconds_of_rounds
    return f"median of {measured.rounds} rounds of {measured.steps_of_a_round} steps, {min(rounds):.3g} to {max(rounds):.3g}"


def _share(peak: Peak) -> str:
    from bvae_cli.cli.render import amount, percent

    return f"{percent(peak.share)} of the {amount(peak.flop_per_second)}FLOP/s of products of {peak.side} × {peak.side}"


def _phase_rows(measured: Profile) -> Iterator[tuple[object, ...]]:
    for phase in measured.phases:
        yield _row(phase, phase.name)
        if phase.name == "backward":
            for part in measured.backward:
                yield _row(part, f"  of {part.name}")


def _row(phase: Phase, name: str) -> tuple[object, ...]:
    from bvae_cli.cli.render import amount

    operations = None if phase.operations is None else f"{phase.operations:.0f}"
    rate = None if phase.flop_per_second is None else f"{amount(phase.flop_per_second)}FLOP/s"
    return (name, f"{phase.milliseconds:.3f}", f"{100 * phase.share:.1f} %", operations, rate)


def _memory_facts(memory: Memory) -> Iterator[tuple[str, str]]:
    from bvae_cli.cli.render import amount

    held = {"parameters": memory.parameters, "optimiser": memory.optimiser, "data": memory.data}
    yield "held", ", ".join(f"{name} {amount(size)}B" for name, size in held.items())
    estimate = f"{amount(memory.activations_estimated)}B were estimated for activations"
    yield "in a step", f"{amount(memory.step_peak)}B more at its peak, gradients and activations; {estimate}"
    if memory.process_peak is not None:
        yield "process", f"{amount(memory.process_peak)}B at its peak, torch itself and loading the data included"
