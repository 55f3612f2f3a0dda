"""``bvae export``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bvae_cli.cli.options import Given, Json, Quiet, Verbose, command_for, named_path
from bvae_cli.errors import UsageError
from bvae_cli.trained import ExportConfig

if TYPE_CHECKING:
    from bvae_cli.workflows.export import ExportResult


def build(arguments: Sequence[str], lenient: bool) -> Any:
    """Build the command with the options of the code that ``arguments`` name."""
    return command_for(ExportConfig, _export, "export", arguments, lenient)


def _export(
    given: Given,
    folder: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER|FILE]", parser=named_path, help="A run's folder or its weights.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the folder where it holds an export already.")
    ] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write a trained model for other programs: ONNX, safetensors or torch, with a model card.

    What is written is run beside torch on rows of the data before the folder gets its name: more than --tolerance apart,
    it is not exported. The card (README.md) tells data, code, training, bounds and that difference, as measured then.
    """
    from bvae_cli.cli.render import say, show_json

    if folder is not None:
        if "weights" in given.layer.values:
            raise UsageError("The weights are named twice.", "Give the folder, or --weights.")
        given.layer.values["weights"] = str(folder)
    resolved = given.resolve(ExportConfig)
    config: ExportConfig = resolved.config
    for note in resolved.notes:
        say(f"Note: {note}", quiet)
    say("bvae export: loading torch and the model …", quiet)

    from bvae_cli.workflows.export import export

    result = export(config, given.named, lambda note: say(f"Note: {note}", quiet), overwrite)
    if json:
        show_json(result)
    else:
        _show(result)


def _show(result: ExportResult) -> None:
    from bvae_cli.cli.render import show_facts

    furthest = max(result.checks, key=lambda check: check.difference)
    apart = f"at most {furthest.difference:.2g} apart ({furthest.output} of the {furthest.part})"
    facts: list[tuple[str, object]] = [
        ("folder", result.folder),
        ("files", ", ".join(result.files)),
        ("checked", f"{furthest.rows:,} rows beside torch: {apart}"),
        ("model", f"code {result.code}, {result.weights}"),
    ]
    if (quality := result.quality) is not None:
        bound = quality.bounds.elbo
        error = "" if bound.standard_error is None else f" ± {bound.standard_error:.2f}"
        meant = "" if quality.is_likelihood else f", {quality.meaning('elbo')}"
        facts.append(("ELBO", f"{bound.mean:.2f}{error} nats on {quality.rows:,} {quality.split} rows{meant}"))
    show_facts([*facts, ("time", f"{result.seconds:.1f} s")])
