"""The table of installed plugins of a kind."""

from __future__ import annotations

from typing import Any

from bvae_cli import registry
from bvae_cli.cli.render import show_json, show_table


def show_plugins(kind: registry.Kind, as_json: bool) -> None:
    """Print every installed plugin of a kind: origin, what it is, options, and what is wrong with a broken one."""
    rows = registry.rows(kind)
    if as_json:
        show_json([_facts(row) for row in rows])
        return
    licences = kind == "data set"
    columns = ["name", "from", "what", *(["licence"] if licences else []), "options", "state"]
    cells = [
        [
            row.name,
            ", ".join(map(str, row.origins)),
            getattr(row.spec, "summary", ""),
            *([getattr(row.spec, "licence", "")] if licences else []),
            _options(row),
            row.problem or "ok",
        ]
        for row in rows
    ]
    show_table(columns, cells)


def _facts(row: registry.Row) -> dict[str, Any]:
    fields = {} if row.spec is None else row.spec.model_fields
    return {
        "name": row.name,
        "origins": [str(origin) for origin in row.origins],
        "summary": getattr(row.spec, "summary", None),
        "licence": getattr(row.spec, "licence", None),
        "options": {
            name: {
                "description": info.description,
                "required": info.is_required(),
                "default": None if info.is_required() else str(info.default),
            }
            for name, info in fields.items()
        },
        "problem": row.problem,
    }


def _options(row: registry.Row) -> str:
    if row.spec is None:
        return ""
    shown = []
    for name, info in row.spec.model_fields.items():
        shown.append(name if info.is_required() or info.default is None else f"{name}={info.default}")
    return ", ".join(shown)
