"""``bvae train``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bvae_cli import ranks
from bvae_cli.cli.company import joined
from bvae_cli.cli.options import Given, Json, Quiet, Verbose, command_for, named_path
from bvae_cli.cli.profile import require_new_trace, require_profile_alone, show_profile
from bvae_cli.config import TrainConfig
from bvae_cli.errors import DivergedError, UsageError

if TYPE_CHECKING:
    from bvae_cli.workflows.observing import TrainResult
    from bvae_cli.workflows.planning import Plan
    from bvae_cli.workflows.ways import Way

_OF_GREY_VALUES = "of grey values: a cross-entropy, no likelihood"


def build(arguments: Sequence[str], lenient: bool) -> Any:
    """Build the command with the options of the code that ``arguments`` name."""
    return command_for(TrainConfig, _train, "train", arguments, lenient)


def _train(
    given: Given,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained and what it costs; train nothing.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Train anew, also where this very run is finished.")
    ] = False,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds",
            min=1,
            metavar="INTEGER",
            help="Train so many seeds, from --seed upwards, as one model: each the run that it would be alone.",
        ),
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Measure where the time of a step goes; train nothing that is kept.")
    ] = False,
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace",
            metavar="FILE",
            parser=named_path,
            help="With --profile, write the record of a few steps for the trace viewer of a browser (.json, .json.gz).",
        ),
    ] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a binary variational autoencoder.

    Writes the best weights, the loss record and the log into a folder of its own below --output-dir. The same command
    again goes on with an unfinished run and leaves a finished one alone. With --seeds every seed is such a run.
    """
    processes = ranks.here().size
    if profile or trace is not None:
        given_beside = {"--dry-run": dry_run, "--overwrite": overwrite, "--seeds": seeds is not None}
        require_profile_alone(profile, {**given_beside, "torchrun": processes > 1})
    if trace is not None:
        require_new_trace(trace)
    resolved = given.resolve(TrainConfig)
    config: TrainConfig = resolved.config
    config.require_use(given.named)
    config.dataset.spec("data set").check()
    if seeds is not None and processes > 1:
        raise UsageError("--seeds trains every seed in one process.", "Leave out torchrun, or train one seed at a time.")

    from bvae_cli.cli.render import say, shell_word, show_json

    for note in resolved.notes:
        say(f"Note: {note}", quiet)
    spec = config.ecc.spec("code")
    say(
        f"bvae train: hidden {config.sizes.hidden}, latent N {config.sizes.latent}, depth {config.sizes.depth}, "
        f"code {spec.label()}, data {config.dataset.label()}; loading torch …",
        quiet,
    )

    if profile:
        show_profile(config, trace, quiet, json)
        return
    if seeds is not None:
        _train_seeds(config, seeds, dry_run, overwrite, verbose, quiet, json)
        return

    from bvae_cli.cli.progress import observer_for
    from bvae_cli.workflows.train import plan, train

    if dry_run:
        what = plan(config, processes)
        if json:
            show_json(what)
        else:
            _show_plan(what)
        return
    with joined(config.device) as group, observer_for(config.epochs, config.patience, quiet, verbose) as observer:
        result = train(config, observer, overwrite, group=group)
    if json:
        show_json(result)
    else:
        show_result(result)
    if result.state == "already finished":
        say("This run was finished before; nothing was trained. Use --overwrite to train it anew.", quiet)
    say(f"Next: bvae sample --weights {shell_word(result.folder)}", quiet)


def _train_seeds(
    config: TrainConfig, seeds: int, dry_run: bool, overwrite: bool, verbose: bool, quiet: bool, json: bool
) -> None:
    from bvae_cli.cli.progress import observer_of_seeds
    from bvae_cli.cli.render import say, shell_word, show_json
    from bvae_cli.workflows.train_many import plan_many, train_many

    numbers = range(config.seed, config.seed + seeds)
    if dry_run:
        plans, way = plan_many(config, seeds)
        if json:
            show_json([{"seed": seed, **asdict(what), "way": way} for seed, what in zip(numbers, plans, strict=True)])
        else:
            _show_plans(dict(zip(numbers, plans, strict=True)), way)
        return
    observer = observer_of_seeds(config.seed, config.epochs, quiet, verbose)
    results = dict(zip(numbers, train_many(config, seeds, observer, overwrite), strict=True))
    if json:
        show_json([{"seed": seed, **asdict(result), "way": observer.way} for seed, result in results.items()])
    else:
        _show_results(results)
    diverged = [str(seed) for seed, result in results.items() if result.state == "diverged"]
    if diverged:
        raise DivergedError(
            f"Training diverged with {len(diverged)} of {seeds} seeds: {', '.join(diverged)}.",
            "Try a smaller --lr, or --grad-clip 1. The other runs are finished.",
        )
    say(f"Next: bvae runs {shell_word(config.output_dir)}", quiet)


def _show_plans(plans: dict[int, Plan], way: Way | None) -> None:
    from bvae_cli.cli.render import show_table

    _show_plan(next(iter(plans.values())))
    print(f"way         {way or 'nothing is left to train'}")
    show_table(("seed", "digest", "folder"), [(seed, what.digest[:8], what.folder) for seed, what in plans.items()])


def _show_results(results: dict[int, TrainResult]) -> None:
    from bvae_cli.cli.render import show_line, show_table

    show_table(
        ("seed", "state", "val_loss (nats)", "best epoch", "epochs", "stopped", "folder"),
        [
            (seed, one.state, _bound(one), one.best_epoch or None, one.epochs, one.reason, one.folder)
            for seed, one in results.items()
        ],
    )
    if any(one.is_likelihood is False for one in results.values()):
        show_line(f"val_loss is {_OF_GREY_VALUES}.")


def _meaning(result: TrainResult) -> str:
    if result.is_likelihood is False:
        return f"hard bits, true codewords; {_OF_GREY_VALUES}"
    return "negative ELBO, hard bits, true codewords"


def _bound(result: TrainResult) -> str:
    return f"{result.best_validation_loss:.2f}" if result.best_epoch else "–"


def _show_plan(what: Plan) -> None:
    from bvae_cli.cli.render import amount, show_facts

    show_facts(
        [
            ("device", f"{what.device} ({what.device_reason})"),
            ("precision", f"{what.precision} ({what.precision_reason})"),
            ("data", f"{what.training_rows:,} training and {what.validation_rows:,} validation rows of {what.source}"),
            ("likelihood", what.likelihood),
            *([] if what.likelihood_note is None else [("note", what.likelihood_note)]),
            ("network", f"{what.features} values, {what.network}"),
            (
                "latent",
                f"N = {what.latent} code bits, K = {what.information_bits} information bits, rate {what.rate:.3g}",
            ),
            ("code", what.code),
            ("parameters", f"{what.parameters:,}"),
            ("arithmetic", f"{amount(what.flop_per_image)}FLOP for each image trained on"),
            ("memory", f"about {amount(what.memory_bytes)}B, beside torch itself"),
            ("steps", f"{what.steps_per_epoch} an epoch, {what.epochs} epochs at most"),
            ("folder", what.folder),
        ]
    )


def show_result(result: TrainResult) -> None:
    """Print how a run ended."""
    from bvae_cli.cli.render import show_facts

    show_facts(
        [
            ("stopped", result.reason),
            ("best epoch", f"{result.best_epoch} of {result.epochs}"),
            ("val_loss", f"{result.best_validation_loss:.2f} {result.unit} ({_meaning(result)})"),
            ("time", f"{result.seconds:.1f} s, {result.images_per_second:,.0f} images/s"),
            ("folder", result.folder),
        ]
    )
