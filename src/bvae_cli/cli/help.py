"""Help in sections, in plain text: quick to make, and the same in a log, a pipe and a terminal."""

from __future__ import annotations

from typing import Any

import typer


class SectionedCommand(typer.core.TyperCommand):
    """A command whose help groups the options by their panel."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one section for each panel, in the order in which they first appear."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                panel = getattr(parameter, "rich_help_panel", None)
                title = panel or ("Arguments" if parameter.param_type_name == "argument" else "Options")
                sections.setdefault(title, []).append(record)
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)
