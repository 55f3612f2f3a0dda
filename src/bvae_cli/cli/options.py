"""Commands made of configurations: every field an option with its help, type and default, and so every code's option."""

from __future__ import annotations

import inspect
import logging
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bvae_cli import registry
from bvae_cli.cli.help import SectionedCommand
from bvae_cli.config import (
    IMPLIED_CODE,
    PARAMETER_SET_USES,
    PARAMETER_SETS,
    ModelChoice,
    PluginRef,
    parse_code,
)
from bvae_cli.errors import BvaeError, UsageError
from bvae_cli.fields import flags_of, option_of
from bvae_cli.paths import expanded
from bvae_cli.settings import Layer, Resolved, lower_layers, named_code, resolve

_CODE_FLAGS = ("--ecc", "--ecc-type")
_CODE_DESTINATION = "code_option_"


def named_path(text: str) -> Path:
    """Read an argument as a path, ``~`` as the home folder.

    Raises UsageError for an empty one, which would mean the current folder.
    """
    if not text:
        raise UsageError("A path is empty.", "Name a file or a folder; the current folder is '.'.")
    return expanded(text)


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE.toml",
        parser=named_path,
        help="File with values for the options.",
        rich_help_panel="Settings",
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more; show tracebacks.", rich_help_panel="Talk")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.", rich_help_panel="Talk")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel="Talk")]


class Given(NamedTuple):
    """What a command line says of a configuration: its layer, and the file that it names."""

    layer: Layer
    config_file: Path | None

    def resolve(self, model: type[Any]) -> Resolved[Any]:
        """Merge it with what stands below it."""
        return resolve(model, self.layer, self.config_file)

    @property
    def named(self) -> frozenset[str]:
        """The fields that the command line itself gives."""
        code = {"ecc"} if self.layer.code is not None or self.layer.code_options else set()
        return frozenset(self.layer.values) | code


Body = Callable[..., Any]

Epsilon = Annotated[
    list[float] | None,
    typer.Option("--epsilon", min=0.0, max=0.5, metavar="RATE", help="Flip probability; repeatable."),
]


def command_for(
    model: type[ModelChoice],
    body: Body,
    name: str,
    arguments: Sequence[str],
    lenient: bool = False,
    leave_out: Iterable[str] = (),
) -> typer.core.TyperCommand:
    """Build a command whose options are the model's fields, the options of the code in force, and ``body``'s own.

    ``body`` is called with a ``Given`` and its own keyword arguments. The code in force is looked up in ``arguments``,
    then in the variables and the file; its spec is loaded, and nobody else's. With ``lenient`` (help, completion) a
    mistake there is passed over.
    """
    fields = [field for field in model.model_fields if field not in set(leave_out)]
    own = list(inspect.signature(body, eval_str=True).parameters.values())[1:]
    host_flags = {flag for field in fields for flag in flags_of(model, field)} | _flags(own)
    parameters = [_field_parameter(model, field) for field in fields]
    parameters += _code_parameters(*_code_in(arguments, lenient), host_flags)
    parameters.append(inspect.Parameter("config_file", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=ConfigFile))

    def run(**values: Any) -> Any:
        config_file = values.pop("config_file")
        # Rooms below do not talk; what libraries of theirs have to say (a download) is said by this logger's leave.
        logging.getLogger("bvae_cli").setLevel(logging.WARNING if values.get("quiet") else logging.INFO)
        given = {key: values.pop(key) for key in list(values) if key in fields}
        options = {
            key.removeprefix(_CODE_DESTINATION): values.pop(key) for key in list(values) if key.startswith(_CODE_DESTINATION)
        }
        return body(Given(_layer(given, options), config_file), **values)

    keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*parameters, *own)]
    run.__signature__ = inspect.Signature(keyword_only)  # type: ignore[attr-defined]
    run.__doc__ = body.__doc__
    return single_command(run, name)


def single_command(function: Body, name: str) -> typer.core.TyperCommand:
    """Build one typer command of a function."""
    alone = typer.Typer(rich_markup_mode=None, add_completion=False)
    alone.command(name, cls=SectionedCommand)(function)
    return typing.cast(typer.core.TyperCommand, typer.main.get_command(alone))


def complete_codes(incomplete: str) -> list[tuple[str, str]]:
    """Names of codes for the shell, without importing any of them."""
    return _completed(registry.names("code"), incomplete)


def complete_datasets(incomplete: str) -> list[tuple[str, str]]:
    """Names of data sets for the shell."""
    return _completed(registry.names("data set"), incomplete)


def complete_sets(incomplete: str) -> list[tuple[str, str]]:
    """Parameter sets for the shell, each with its sizes and use."""
    helps = {
        str(number): f"hidden {sizes.hidden}, latent {sizes.latent}, depth {sizes.depth}: {PARAMETER_SET_USES[number]}"
        for number, sizes in PARAMETER_SETS.items()
    }
    return [(number, text) for number, text in helps.items() if number.startswith(incomplete)]


def _completed(names: Iterable[str], incomplete: str) -> list[tuple[str, str]]:
    return [(name, "") for name in names if name.startswith(incomplete)]


_COMPLETIONS = {"ecc": complete_codes, "dataset": complete_datasets, "params": complete_sets}


def _layer(given: dict[str, Any], options: dict[str, Any]) -> Layer:
    values = {key: value for key, value in given.items() if value not in (None, [])}
    code_options = {key: value for key, value in options.items() if value is not None}
    code = parse_code(values.pop("ecc", None))
    if isinstance(code, PluginRef):
        return Layer("flag", values, code.type, {**code.options, **code_options})
    return Layer("flag", values, None, code_options)


def _code_in(arguments: Sequence[str], lenient: bool) -> tuple[str, Mapping[str, FieldInfo]]:
    """Return the code whose options the command line may use, and its fields.

    A broken one is an error for whoever names it; where nobody does, its options are not there.
    """
    text = _named_in(arguments, _CODE_FLAGS)
    code = None if text is None else str(parse_code(text).type)
    if code is None:
        try:
            file = _named_in(arguments, ("--config",))
            code = named_code(lower_layers(expanded(file) if file else None))
        except BvaeError:
            if not lenient:
                raise
    try:
        return code or IMPLIED_CODE, registry.load("code", code or IMPLIED_CODE).model_fields
    except BvaeError:
        if text is not None or (code is not None and not lenient):
            raise
        return IMPLIED_CODE, {}


def _named_in(arguments: Sequence[str], flags: tuple[str, ...]) -> str | None:
    """Return the last value that any of the flags has, as ``--flag value`` or ``--flag=value``."""
    found = None
    for index, argument in enumerate(arguments):
        if argument == "--":
            break
        flag, equals, value = argument.partition("=")
        if flag in flags:
            following = arguments[index + 1] if index + 1 < len(arguments) else None
            found = value if equals else following
    return found


def _flags(parameters: Iterable[inspect.Parameter]) -> set[str]:
    flags: set[str] = set()
    for parameter in parameters:
        for item in getattr(parameter.annotation, "__metadata__", ()):
            flags |= set(getattr(item, "param_decls", None) or ())
    return flags


def _field_parameter(model: type[BaseModel], field: str) -> inspect.Parameter:
    info, option = model.model_fields[field], option_of(model, field)
    flags = flags_of(model, field)
    completion = _COMPLETIONS.get(field) or _choices_completion(info)
    return _parameter(field, info, flags, option.panel, option.metavar, completion)


def _code_parameters(code: str, fields: Mapping[str, FieldInfo], host_flags: set[str]) -> list[inspect.Parameter]:
    parameters = []
    for field, info in fields.items():
        flag = field.replace("_", "-")
        taken = {f"--{flag}", f"-{flag}"} & host_flags
        flags = [f"--ecc-{flag}"] if taken else [f"--{flag}", f"--ecc-{flag}"]
        panel = f"Options of {code}"
        parameters.append(_parameter(_CODE_DESTINATION + field, info, tuple(flags), panel, None, _choices_completion(info)))
    return parameters


def _parameter(
    destination: str,
    info: FieldInfo,
    flags: tuple[str, ...],
    panel: str,
    metavar: str | None,
    completion: Callable[[str], list[tuple[str, str]]] | None,
) -> inspect.Parameter:
    kind = _plain_type(info.annotation)
    help_text = (info.description or "") + _default_text(info)
    annotation: Any
    if kind is bool:
        on_off = [f"{flag}/--no-{flag.removeprefix('--')}" for flag in flags]
        annotation = Annotated[bool | None, typer.Option(*on_off, help=help_text, rich_help_panel=panel)]
    elif get_origin(kind) is list:
        annotation = Annotated[
            list[str] | None, typer.Option(*flags, help=help_text, metavar=metavar or "TEXT", rich_help_panel=panel)
        ]
    else:
        # Values stay text until pydantic reads them: a file, a variable and a flag are refused with the same words.
        annotation = Annotated[
            str | None,
            typer.Option(
                *flags,
                help=help_text,
                metavar=metavar or _metavar(kind),
                rich_help_panel=panel,
                autocompletion=completion,
            ),
        ]
    return inspect.Parameter(destination, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _plain_type(annotation: Any) -> Any:
    """Return the type without ``| None``."""
    if get_origin(annotation) in (typing.Union, types.UnionType):
        return next(item for item in get_args(annotation) if item is not type(None))
    return annotation


def _metavar(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    return {int: "INTEGER", float: "NUMBER", Path: "PATH"}.get(kind, "TEXT")


def _choices_completion(info: FieldInfo) -> Callable[[str], list[tuple[str, str]]] | None:
    kind = _plain_type(info.annotation)
    if get_origin(kind) is not Literal:
        return None
    choices = [str(choice) for choice in get_args(kind)]
    return lambda incomplete: _completed(choices, incomplete)


def _default_text(info: FieldInfo) -> str:
    if info.default in (None, [], "") or info.is_required():
        return ""
    if isinstance(info.default, list):
        return f" [default: {' '.join(f'{item:g}' for item in info.default)}]"
    default = info.default.label() if isinstance(info.default, PluginRef) else info.default
    return f" [default: {str(default).lower() if isinstance(default, bool) else default}]"
