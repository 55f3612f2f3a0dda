"""Entry points: which codes and data sets are installed, and loading one of them.

Names are listed without importing anything; a plugin is imported only when somebody asks for it by name (or for the
table of all). Our own codes and data sets enter by the same door as everybody's.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from bvae_cli.errors import BvaeError, PluginError, is_out_of_memory, unknown_name

Kind = Literal["code", "data set"]

API_VERSION = 1
_GROUPS: dict[Kind, str] = {"code": "bvae_cli.codes", "data set": "bvae_cli.datasets"}
_METHODS: dict[Kind, tuple[str, ...]] = {"code": ("build", "block"), "data set": ("load",)}
# `type` names the plugin itself in a configuration file's [ecc] table.
RESERVED_FIELDS = frozenset({"type"})


@dataclass(frozen=True)
class Origin:
    """The distribution that offers a name."""

    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class Row:
    """One installed name, loaded or not: ``spec`` or the sentence in ``problem`` is None."""

    name: str
    origins: tuple[Origin, ...]
    spec: type[Any] | None
    problem: str | None


def names(kind: Kind) -> list[str]:
    """Return the installed names of a kind, sorted, without importing any plugin."""
    return sorted(_table(kind))


def origins(kind: Kind, name: str) -> tuple[Origin, ...]:
    """Return the distributions that offer ``name`` (more than one is a clash)."""
    return tuple(_origin(entry_point) for entry_point in _found(kind, name))


def load(kind: Kind, name: str) -> type[Any]:
    """Import the plugin ``name`` and return its spec class (a pydantic model).

    Raises UsageError for an unknown name (with the nearest), PluginError where two packages claim the name, the import
    fails, or what was imported is not a spec of this API.
    """
    found = _found(kind, name)
    if len(found) > 1:
        raise PluginError(
            f"Two packages offer the {kind} '{name}': {' and '.join(str(_origin(ep)) for ep in found)}.",
            "Uninstall one of them.",
        )
    entry_point = found[0]
    origin = _origin(entry_point)
    try:
        with warnings.catch_warnings():
            # An option that hides a method is refused below, with its name; pydantic would say it to everybody.
            warnings.filterwarnings("ignore", message="Field name .* shadows an attribute")
            spec = entry_point.load()
    except BvaeError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"The {kind} '{name}' of {origin} cannot be imported: {type(error).__name__}: {error}.",
            f"Reinstall or update {origin.distribution}, or report this to its authors.",
        ) from error
    _check(kind, name, origin, spec)
    return spec  # type: ignore[no-any-return]  # an entry point is untyped by nature; _check looked at it


def rows(kind: Kind) -> list[Row]:
    """Load every installed plugin of a kind, guarded: a broken one is a row that says what is wrong with it."""
    result = []
    for name in names(kind):
        try:
            result.append(Row(name, origins(kind, name), load(kind, name), None))
        except BvaeError as error:
            result.append(Row(name, origins(kind, name), None, error.message))
    return result


@contextlib.contextmanager
def blaming(kind: Kind, name: str) -> Iterator[None]:
    """Turn a failure inside a plugin's own program into a PluginError that names its package."""
    try:
        yield
    except BvaeError:
        raise
    except Exception as error:
        if is_out_of_memory(error):  # no fault of the plugin
            raise
        origin = origins(kind, name)[0]
        raise PluginError(
            f"The {kind} '{name}' of {origin} failed: {type(error).__name__}: {error}.", hint_of_mistake(kind, name)
        ) from error


def hint_of_mistake(kind: Kind, name: str) -> str:
    """Return what to do about a plugin that is there and makes a mistake: its author reads this too."""
    return (
        f"Update {origins(kind, name)[0].distribution}, or report this to its authors; if that is you, "
        f"`bvae {kind.replace(' ', '')}s check {name}` says more."
    )


def _table(kind: Kind) -> Mapping[str, list[EntryPoint]]:
    # Reading the metadata of every distribution takes 10 ms and more: once for each state of the search path.
    return _read_table(kind, tuple((entry, _modified(entry)) for entry in sys.path))


@functools.lru_cache(maxsize=8)
def _read_table(kind: Kind, search_path: tuple[tuple[str, int], ...]) -> Mapping[str, list[EntryPoint]]:
    table: dict[str, dict[str, EntryPoint]] = defaultdict(dict)
    for entry_point in entry_points(group=_GROUPS[kind]):
        # One distribution can be seen twice (an editable install and its wheel): that is no clash.
        table[entry_point.name].setdefault(_origin(entry_point).distribution, entry_point)
    return {name: list(by_distribution.values()) for name, by_distribution in table.items()}


def _modified(entry: str) -> int:
    try:
        return os.stat(entry or os.curdir).st_mtime_ns  # noqa: PTH116 - an entry need not be a path at all
    except (OSError, ValueError):
        return 0


def _found(kind: Kind, name: str) -> list[EntryPoint]:
    table = _table(kind)
    if name not in table:
        raise unknown_name(kind, name, table)
    return table[name]


def _origin(entry_point: EntryPoint) -> Origin:
    distribution = entry_point.dist
    return Origin(distribution.name, distribution.version) if distribution else Origin("unknown package", "?")


def _check(kind: Kind, name: str, origin: Origin, spec: object) -> None:
    hint = f"Update {origin.distribution}, or report this to its authors."
    fields = getattr(spec, "model_fields", None) if isinstance(spec, type) else None
    missing = [method for method in _METHODS[kind] if not callable(getattr(spec, method, None))]
    if not isinstance(spec, type) or fields is None or missing or inspect.isabstract(spec):
        raise PluginError(f"The {kind} '{name}' of {origin} is not a spec class of bvae_cli.", hint)
    version = getattr(spec, "api_version", None)
    if version != API_VERSION:
        raise PluginError(
            f"The {kind} '{name}' of {origin} is written for plugin API {version}; this bvae speaks {API_VERSION}.",
            hint,
        )
    if reserved := sorted(RESERVED_FIELDS & set(fields)):
        raise PluginError(f"The {kind} '{name}' of {origin} has an option named '{reserved[0]}', which is reserved.", hint)
    inherited = spec.__mro__[1:]
    if methods := [field for field in fields if any(callable(base.__dict__.get(field)) for base in inherited)]:
        raise PluginError(f"The {kind} '{name}' of {origin} has an option and a method named '{methods[0]}'.", hint)
    if kind == "code" and getattr(spec, "family", None) != name:
        raise PluginError(
            f"The code '{name}' of {origin} calls its family '{getattr(spec, 'family', '')}': both names must be one.", hint
        )
