"""``bvae compare``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from bvae_cli.arms import CompareConfig, arms_of, tuned_settings
from bvae_cli.cli.options import Given, Json, Quiet, Verbose, command_for

_LEAVE_OUT = ("init_from", "save_every_epoch", "tensorboard", "amp")


def build(arguments: Sequence[str], lenient: bool) -> Any:
    """Build the command with the options of the code that ``arguments`` name."""
    return command_for(CompareConfig, _compare, "compare", arguments, lenient, _LEAVE_OUT)


def _compare(
    given: Given,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say which arms and runs there would be; train nothing.")
    ] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Compare models with and without a code: train or reuse every arm and seed, measure them on the test split.

    With a code there are three arms: uncoded with N bits, uncoded with K bits (the same information), and coded. Writes
    comparison.json, comparison.csv and a report.html that stands on its own. The same command again goes on with what is
    unfinished and trains nothing that is finished.
    """
    resolved = given.resolve(CompareConfig)
    config: CompareConfig = resolved.config
    config.require_use(given.named)
    config.dataset.spec("data set").check()
    if not config.baseline_weights:
        arms_of(config)
        tuned_settings(config)

    from bvae_cli.cli.render import say, show_facts, show_json

    for note in resolved.notes:
        say(f"Note: {note}", quiet)
    say("bvae compare: loading torch and the data …", quiet)

    from bvae_cli.cli.comparison import compare_observer, show_comparison, show_plan
    from bvae_cli.comparisons import ComparisonFolder
    from bvae_cli.report.page import write_report
    from bvae_cli.workflows.compare import compare, plan_comparison, way_of

    if dry_run:
        plan, data = plan_comparison(config)
        show_plan(plan, way_of(plan, data), json)
        return
    with compare_observer(quiet, verbose) as observer:
        comparison = compare(config, observer)
    folder = ComparisonFolder(observer.folder)
    report = write_report(folder, comparison)
    if json:
        show_json(comparison.model_dump(mode="json"))
    else:
        show_comparison(comparison)
        show_facts([("folder", folder.folder), ("report", report)])
