"""A field of a configuration: what the command line says of it, and the words in which a wrong value is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError

from bvae_cli.errors import UsageError, nearest


class Option(NamedTuple):
    """What the command line says of a field beyond its type, bounds and description."""

    panel: str
    flags: tuple[str, ...] = ()
    decides: bool = True
    metavar: str | None = None
    added: bool = False


def option(panel: str, *flags: str, decides: bool = True, metavar: str | None = None, added: bool = False) -> Option:
    """Describe a field; one that decides the numbers of a run is part of its digest.

    Runs that were made before an option was ``added`` stay themselves: at its default it is no part of the digest.
    """
    return Option(panel, flags, decides, metavar, added)


def option_of(model: type[BaseModel], field: str) -> Option:
    """Return what the command line says of a field."""
    return next(item for item in model.model_fields[field].metadata if isinstance(item, Option))


def main_flag(model: type[BaseModel], field: str) -> str:
    """Return the flag by which a field is spoken of: its first long one."""
    return next(flag for flag in flags_of(model, field) if flag.startswith("--"))


def flags_of(model: type[BaseModel], field: str) -> tuple[str, ...]:
    """Return the flags of a field: its own, or ``--its-name``."""
    return option_of(model, field).flags or (f"--{field.replace('_', '-')}",)


def validated(model: type[Any], values: Mapping[str, Any], what: str, origins: Mapping[str, str] | None = None) -> Any:
    """Build a pydantic model; its first complaint becomes a UsageError of one sentence.

    ``origins`` says where a value came from, where that needs saying. Raises UsageError, with the nearest name for an
    unknown one.
    """
    for field, value in values.items():
        if field in model.model_fields:
            _require_meant(model, field, value)
    try:
        return model(**values)
    except ValidationError as error:
        raise _as_usage_error(model, error, what, origins or {}) from None


def _require_meant(model: type[BaseModel], field: str, value: Any) -> None:
    """Refuse what pydantic would take for something else: true for 1, and no path at all for the current folder."""
    annotation = model.model_fields[field].annotation
    kinds = set(_kinds(annotation))
    name = main_flag(model, field) if _has_option(model, field) else field
    if getattr(value, "ndim", 0):
        if Path in kinds or field == "dataset":
            raise UsageError(
                f"{name} takes a path, and got an array.", "Save it with numpy.save, and give the path of the .npy."
            )
        raise UsageError(f"{name} takes one value, and got an array.", _meaning(model, field, name))
    for item in value if isinstance(value, list | tuple) else [value]:
        if isinstance(item, bool) and kinds & {int, float} and bool not in kinds:
            demand = "a whole number" if float not in kinds else "a number"
            raise UsageError(f"{name} must be {demand}; got {str(item).lower()}.", _meaning(model, field, name))
        if item == "" and Path in kinds:
            raise UsageError(f"{name} names no path: it is empty.", _meaning(model, field, name))


def _kinds(annotation: Any) -> Iterator[Any]:
    """Return the plain types that an annotation is made of."""
    yield annotation
    for inner in get_args(annotation):
        yield from _kinds(inner)


def _as_usage_error(model: type[BaseModel], error: ValidationError, what: str, origins: Mapping[str, str]) -> UsageError:
    # An unknown name goes first: the missing one is often that name, misspelt.
    first = min(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden")
    field = str(first["loc"][0]) if first["loc"] else ""
    value = first.get("input")
    if first["type"] == "extra_forbidden":
        near = nearest(field, model.model_fields)
        known = ", ".join(model.model_fields) or "it has none"
        return UsageError(
            f"'{field}' is not an option of {what}.", f"Did you mean '{near}'?" if near else f"Options: {known}."
        )
    name = main_flag(model, field) if _has_option(model, field) else field
    hint = _meaning(model, field, name)
    if first["type"] == "missing":
        return UsageError(f"{what[0].upper()}{what[1:]} needs the option '{name}'.", hint)
    if not field:
        return UsageError(f"{what[0].upper()}{what[1:]} {_demand(first)}.")
    if first["type"] == "literal_error" and (near := nearest(str(value), get_args(_plain(model, field)))):
        hint = f"Did you mean '{near}'?"
    place = f" (from {origins[field]})" if field in origins else ""
    return UsageError(f"{name} {_demand(first)}; got {_shown(value)}{place}.", hint)


def _meaning(model: type[BaseModel], field: str, name: str) -> str | None:
    info = model.model_fields.get(field)
    return f"{name}: {info.description}" if info is not None and info.description else None


def _plain(model: type[BaseModel], field: str) -> Any:
    """Return the type of a field without ``| None``."""
    annotation = model.model_fields[field].annotation
    return next((item for item in get_args(annotation) if get_origin(item) is Literal), annotation)


def _has_option(model: type[BaseModel], field: str) -> bool:
    info = model.model_fields.get(field)
    return info is not None and any(isinstance(item, Option) for item in info.metadata)


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) else str(value)


def _demand(detail: Any) -> str:
    """Turn pydantic's type of complaint into words."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in ("int_parsing", "int_from_float", "int_type", "int_parsing_size"):
        return "must be a whole number"
    if kind in ("float_parsing", "float_type", "finite_number"):
        return "must be a number"
    if kind in ("bool_parsing", "bool_type"):
        return "must be true or false"
    bounds = {
        "greater_than": "must be greater than",
        "greater_than_equal": "must be at least",
        "less_than": "must be less than",
        "less_than_equal": "must be at most",
    }
    if kind in bounds:
        return f"{bounds[kind]} {next(iter(context.values()))}"
    if kind == "literal_error":
        return f"must be one of {context['expected']}"
    if kind in ("value_error", "assertion_error"):
        return f"is not valid: {context['error']}"
    return "is not valid"
