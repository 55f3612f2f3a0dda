"""Where a value comes from: the defaults, a TOML file, ``BVAE_*`` variables, flags; later ones win.

Two rules beyond that. A parameter set named at a higher level discards the sizes of lower levels, so that ``-n 5`` means
set 5 whatever the file says of ``latent``. A code named at a higher level discards the options of another code.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from bvae_cli import paths, registry
from bvae_cli.arms import CompareConfig
from bvae_cli.config import IMPLIED_CODE, ModelChoice, PluginRef, Sizes, parse_code
from bvae_cli.errors import BvaeError, InputOutputError, UsageError, nearest, reason_of
from bvae_cli.fields import validated
from bvae_cli.presets import beneath
from bvae_cli.sources import read_text, require_shallow
from bvae_cli.trained import DecodeConfig, EncodeConfig, ExportConfig, SampleConfig, SearchConfig

_PREFIX = "BVAE_"
_FILE_VARIABLE = "BVAE_CONFIG"
_FOLDER_VARIABLE = "BVAE_CONFIG_DIR"
_OPTION_PREFIX = "ecc_"
_LARGEST_FILE, _MOST_POINTS = 2**16, 500
DEFAULT = "default"
_MODELS = (CompareConfig, SampleConfig, EncodeConfig, DecodeConfig, SearchConfig, ExportConfig)
KNOWN_KEYS = frozenset().union(*(model.model_fields for model in _MODELS))

Config = TypeVar("Config", bound=ModelChoice)


class Layer(NamedTuple):
    """What one source says: plain values by field, the code's name if it names one, and the code's options."""

    origin: str
    values: dict[str, Any]
    code: str | None = None
    code_options: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Resolved(Generic[Config]):
    """The configuration in force, where each value came from, and what a person should be told about it."""

    config: Config
    origins: dict[str, str]
    notes: list[str] = field(default_factory=list)


def resolve(model: type[Config], flags: Layer, config_file: Path | None = None) -> Resolved[Config]:
    """Merge file, variables and flags into one configuration.

    Raises UsageError for an unknown key, variable, name or value, InputOutputError for a file that cannot be read.
    """
    layers = [*lower_layers(config_file), flags]
    code, options, code_origin, notes = _code_in_force(layers)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        if layer.values.get("params") is not None:
            for size in Sizes._fields:
                values.pop(size, None)
                origins[size] = f"{layer.origin}, by the set"
        for key, value in layer.values.items():
            if key in model.model_fields:
                values[key], origins[key] = value, layer.origin
    if code is not None:
        values["ecc"], origins["ecc"] = PluginRef(type=code, options=options), code_origin
    below = {name: origins[name] for name in values if origins[name] != flags.origin}
    config = validated(model, values, "this command", below)
    of_preset = beneath(values).keys() - values.keys()
    origins |= dict.fromkeys(of_preset, f"preset {values.get('preset')}")
    return Resolved(config, {name: origins.get(name, DEFAULT) for name in model.model_fields}, notes)


def lower_layers(config_file: Path | None) -> list[Layer]:
    """Read what stands below the flags: the configuration file, if there is one, and the variables."""
    chosen = config_file or _file_from_environment() or _users_file()
    variables = _variables(os.environ)
    return [_file_layer(chosen), variables] if chosen else [variables]


def require_known_variables() -> None:
    """Raise UsageError where a ``BVAE_*`` variable is nobody's: a command that reads none would pass over a misspelt one."""
    _variables(os.environ)


def named_code(layers: Iterable[Layer]) -> str | None:
    """Return the code that the highest layer names, or None."""
    return next((layer.code for layer in reversed(list(layers)) if layer.code is not None), None)


def _code_in_force(layers: list[Layer]) -> tuple[str | None, dict[str, Any], str, list[str]]:
    code = named_code(layers)
    origin = next((layer.origin for layer in reversed(layers) if layer.code is not None), DEFAULT)
    notes = []
    given = [layer for layer in layers if layer.code_options]
    if code is None:
        if not given:
            return None, {}, DEFAULT, []
        origin = given[-1].origin
    fields = registry.load("code", code or IMPLIED_CODE).model_fields
    if code is None:
        code = IMPLIED_CODE
        said = ", ".join(f"{_spelled(key, fields)}={value}" for key, value in given[-1].code_options.items())
        notes.append(f"{said} is given without a code: taking --ecc {IMPLIED_CODE}.")
    options: dict[str, Any] = {}
    origins = [origin]
    current: str | None = None
    for layer in layers:
        current = layer.code or current
        spelled = {_spelled(key, fields): value for key, value in layer.code_options.items()}
        if current is None and layer is not layers[-1]:
            # An option that stood alone below a code named above was meant for that code only if the code has it.
            spelled = {key: value for key, value in spelled.items() if key in fields}
        if current in (None, code):
            options.update(spelled)
            origins += [f"{key} {layer.origin}" for key in spelled if layer.origin != origin]
    return code, options, ", ".join(origins), notes


def _as_code_option(key: str) -> str | None:
    """Return ``ecc_R`` for an ``R`` on its own, as it stands on a command line."""
    try:
        fields = registry.load("code", IMPLIED_CODE).model_fields
    except BvaeError:
        return None
    return next((_OPTION_PREFIX + name for name in fields if name.casefold() == key.casefold()), None)


def _spelled(key: str, fields: Iterable[str]) -> str:
    """Return a field's own spelling: variables are written in capitals."""
    return key if key in fields else next((name for name in fields if name.casefold() == key.casefold()), key)


def _file_from_environment() -> Path | None:
    value = os.environ.get(_FILE_VARIABLE)
    return paths.expanded(value) if value else None


def _users_file() -> Path | None:
    folder = paths.config_dir()
    path = None if folder is None else folder / "config.toml"
    try:
        return path if path is not None and path.is_file() else None
    except PermissionError:
        if os.environ.get(_FOLDER_VARIABLE):
            return path  # which was asked for, and is refused where it is read
        return None  # the home folder is somebody else's, as after `su`: so would be the file


def _file_layer(path: Path) -> Layer:
    try:
        content = _parsed_toml(read_text(path, _LARGEST_FILE, pipes=True))
    except OSError as error:
        reason = reason_of(error)
        raise InputOutputError(
            f"The configuration file {path} cannot be read: {reason}.",
            f"--config, {_FILE_VARIABLE} or {_FOLDER_VARIABLE} names it.",
        ) from None
    except ValueError as error:  # also where it is no text, or too much of it
        raise UsageError(f"The configuration file {path} is not TOML: {error}.", "Write key = value, one a line.") from None
    return _layer(str(path), content, lambda key: key)


def _parsed_toml(text: str) -> dict[str, Any]:
    """Return what TOML says. Raises ValueError where it is none, or is made to cost time and memory."""
    # A key of n parts costs n²: 64 KB of `a.a.a…` would take four GB.
    if any(line.count(".") > _MOST_POINTS for line in text.splitlines()):
        raise ValueError(f"a line holds more than {_MOST_POINTS} points")
    try:
        content = tomllib.loads(text)
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    require_shallow(content)
    return content


def _variables(environment: Mapping[str, str]) -> Layer:
    own = {*paths.FOLDER_VARIABLES, _FILE_VARIABLE}
    said = {name: value for name, value in environment.items() if name.startswith(_PREFIX) and name not in own}
    keys = {name.removeprefix(_PREFIX).lower(): value for name, value in said.items()}
    return _layer("environment", keys, lambda key: _PREFIX + key.upper())


def _layer(origin: str, content: Mapping[str, Any], shown: Any) -> Layer:
    values: dict[str, Any] = {}
    code: str | None = None
    options: dict[str, Any] = {}
    for key, value in content.items():
        if key in ("ecc", "ecc_type"):
            table = dict(value) if isinstance(value, Mapping) else None
            named = table.pop("type", None) if table is not None else value
            if isinstance(named, str):
                reference = parse_code(named)
                code = reference.type
                options.update(reference.options)
            elif named is not None:
                raise UsageError(f"{shown(key)} in {origin} must name a code; got {named!r}.", "`bvae codes` lists them.")
            options.update(table or {})
        elif key.startswith(_OPTION_PREFIX):
            options[key.removeprefix(_OPTION_PREFIX)] = value
        elif key in KNOWN_KEYS:
            values[key] = value
        else:
            near = _as_code_option(key) or nearest(key, KNOWN_KEYS)
            hint = f"Did you mean '{shown(near)}'?" if near else "`bvae config show` lists the valid ones."
            name = shown(key)
            what = f"variable '{name}'" if origin == "environment" else f"key '{name}' in {origin}"
            raise UsageError(f"There is no {what}.", hint)
    return Layer(origin, values, code, options)
