"""``bvae config show``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from bvae_cli.arms import CompareConfig
from bvae_cli.cli.options import Given, Json, command_for
from bvae_cli.config import ModelChoice, PluginRef, TrainConfig
from bvae_cli.errors import unknown_name
from bvae_cli.fields import main_flag
from bvae_cli.trained import SampleConfig

_MODELS: dict[str, type[ModelChoice]] = {"train": TrainConfig, "sample": SampleConfig, "compare": CompareConfig}


def build(arguments: Sequence[str], lenient: bool) -> Any:
    """Build the command with the options of ``train``, so that flags can be tried out."""
    model = next((model for name, model in _MODELS.items() if name in arguments), TrainConfig)
    return command_for(model, _show, "config", arguments, lenient)


def _actions(incomplete: str) -> list[str]:
    return [name for name in ("show",) if name.startswith(incomplete)]


def _commands(incomplete: str) -> list[str]:
    return [name for name in _MODELS if name.startswith(incomplete)]


def _show(
    given: Given,
    action: Annotated[str, typer.Argument(metavar="show", help="All there is to do.", autocompletion=_actions)] = "show",
    command: Annotated[
        str, typer.Argument(metavar="train|sample|compare", help="Whose options.", autocompletion=_commands)
    ] = "train",
    json: Json = False,
) -> None:
    """Show every option of `train`, `sample` or `compare`, the value in force, and where it comes from.

    Values come from a file (--config, BVAE_CONFIG, or config.toml in the user's configuration folder), then from BVAE_*
    variables, then from flags; later ones win.
    """
    from bvae_cli.cli.render import say, show_json, show_table

    if action != "show":
        raise unknown_name("action", action, ["show"])
    if command not in _MODELS:
        raise unknown_name("set of options", command, _MODELS)
    model = _MODELS[command]
    resolved = given.resolve(model)
    for note in resolved.notes:
        say(f"Note: {note}")
    values = {name: getattr(resolved.config, name) for name in model.model_fields}
    if json:
        facts = resolved.config.model_dump(mode="json")
        show_json({name: {"value": facts[name], "from": resolved.origins[name]} for name in values})
        return
    rows = [(main_flag(model, name), name, _shown(value), resolved.origins[name]) for name, value in values.items()]
    show_table(("flag", "key in a file", "value", "from"), rows)


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "–"
    return value.label() if isinstance(value, PluginRef) else "–" if value is None else str(value)
