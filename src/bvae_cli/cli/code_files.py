"""Codes that are defined in a file of a person's own, before it is a package: found, and built from options."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from bvae_cli import registry
from bvae_cli.codes.base import CodeSpec
from bvae_cli.config import PluginRef, parse_code
from bvae_cli.errors import BvaeError, InputOutputError, PluginError, UsageError, unknown_name
from bvae_cli.fields import validated
from bvae_cli.paths import expanded

_PYTHON = re.compile(r"(?P<file>.+\.py)(:(?P<options>.*))?$")
_HINT = "`python {file}` shows the whole traceback."


def names_a_file(name: str) -> bool:
    """Say whether a word names a file and not an installed code."""
    if name.partition(":")[0] in registry.names("code"):
        return False
    # Unlike pathlib's, this is False for a word that is too long to be a path.
    return _PYTHON.match(name) is not None or os.path.isfile(name)  # noqa: PTH113


def refuse_other_files(name: str, action: str) -> None:
    """Raise UsageError where ``action`` cannot be done with a file: all but the check of a .py file."""
    python = _PYTHON.match(name)
    if python and action == "check":
        return
    if python:
        raise UsageError(
            f"`bvae codes {action}` takes installed codes, and '{name}' is a file.",
            f"`bvae codes check {name}` checks the codes in it.",
        )
    option = "ldpc --alist" if Path(name).suffix.lower() == ".alist" else "linear --matrix"
    raise UsageError(
        f"'{name}' is a file and no code.",
        f"A matrix is an option of a code: `bvae codes {action} {option} {name}`; only a .py file is itself checked.",
    )


@contextlib.contextmanager
def specs_of_file(name: str) -> Iterator[tuple[list[CodeSpec], list[str]]]:
    """Import a .py file, and give its codes with the options behind the colon, and a sentence for each left out.

    While it is open, the file can be imported by its stem here and in processes that are handed ``sys.path``: codes are
    pickled by the name of their module. Raises InputOutputError where there is no file, PluginError where it cannot be
    imported or defines no code, UsageError for wrong options.
    """
    match = _PYTHON.match(name)
    assert match is not None
    path = expanded(match["file"])
    if not path.is_file():
        raise InputOutputError(f"There is no file '{path}'.", "Name a .py file that defines a code, or an installed code.")
    code: PluginRef = parse_code(f"{path.stem}:{match['options'] or ''}")
    with _imported(path.resolve()) as module:
        yield _built(path, _classes(path, module), code.options)


@contextlib.contextmanager
def blaming_file(name: str, spec: CodeSpec) -> Iterator[None]:
    """Turn a failure inside the file's own program into a PluginError that names it."""
    try:
        yield
    except BvaeError:
        raise
    except Exception as error:
        raise PluginError(
            f"{type(spec).__name__} of {name} failed: {_said(error)}.", "`bvae codes check` needs a code that can be built."
        ) from error


@contextlib.contextmanager
def _imported(path: Path) -> Iterator[ModuleType]:
    module = path.stem
    if module in sys.modules or module in sys.stdlib_module_names or "." in module:
        raise PluginError(
            f"{path.name} cannot be imported: a module '{module}' is there already, or it is no name of one.",
            "Give the file another name.",
        )
    sys.path.insert(0, str(path.parent))
    importlib.invalidate_caches()  # the file may be younger than the last look at its folder
    try:
        with warnings.catch_warnings():
            # As for installed plugins: an option that hides a method would be said by pydantic, in its own words.
            warnings.filterwarnings("ignore", message="Field name .* shadows an attribute")
            try:
                found = importlib.import_module(module)
            except (Exception, SystemExit) as error:
                raise PluginError(
                    f"{path.name} cannot be imported: {_said(error)}.", _HINT.format(file=path.name)
                ) from error
        yield found
    finally:
        with contextlib.suppress(ValueError):  # the file may have changed the search path itself
            sys.path.remove(str(path.parent))
        sys.modules.pop(module, None)


def _said(error: BaseException) -> str:
    """Return the kind and the words of a failure in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".: ")


def _classes(path: Path, module: ModuleType) -> list[type[CodeSpec]]:
    """Return the codes that a file defines itself; one without a name that others derive from is their base."""
    own = [
        found
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, CodeSpec) and found.__module__ == module.__name__
    ]
    bases = {base for found in own for base in found.__mro__[1:]}
    classes = [
        found for found in dict.fromkeys(own) if not inspect.isabstract(found) and (found.family or found not in bases)
    ]
    if not classes:
        raise PluginError(f"{path.name} defines no code.", "A code is a class derived from BlockSpec or CodeSpec.")
    return classes


def _built(path: Path, classes: Sequence[type[CodeSpec]], options: Mapping[str, Any]) -> tuple[list[CodeSpec], list[str]]:
    """Build each class from those of the options that it has; one that lacks an option it needs is left out."""
    known = {field for found in classes for field in found.model_fields}
    if wrong := [option for option in options if option not in known]:
        raise unknown_name(f"option of a code in {path.name}, named", wrong[0], known)
    specs, left_out = [], []
    for found in classes:
        given = {option: value for option, value in options.items() if option in found.model_fields}
        missing = [name for name, info in found.model_fields.items() if info.is_required() and name not in given]
        if missing:
            left_out.append(f"{found.__name__} needs the option '{missing[0]}': {path}:{missing[0]}=…")
        else:
            specs.append(validated(found, given, f"the code '{found.family or found.__name__}'"))
    if not specs:
        raise UsageError(f"No code in {path.name} can be built without options.", f"{left_out[0]}.")
    return specs, left_out
