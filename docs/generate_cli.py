"""Write ``docs/cli.md`` from the ``--help`` of every command; with ``--check``, fail where it differs.

python docs/generate_cli.py [--check]
"""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import typer

from bvae_cli.cli.app import app

_PAGE = Path(__file__).with_name("cli.md")
_INTRODUCTION = """\
# Commands and options

What `bvae --help` and `bvae COMMAND --help` print. A code other than `repetition` brings its own options: name it, as in
`bvae train --ecc NAME --help`, and they stand in place of the section "Options of repetition".

<!-- Made by `python docs/generate_cli.py`; do not edit. -->
"""
# What would change the text: a person's own settings, colours and the width of a terminal.
_FOREIGN = ("BVAE_", "_BVAE_", "COLUMNS", "FORCE_COLOR", "NO_COLOR", "TERMINAL_WIDTH", "PY_COLORS", "GITHUB_ACTIONS")


def page() -> str:
    """Return the page as it should be."""
    sections = [_INTRODUCTION, _section([])]
    group: Any = typer.main.get_command(app)
    sections += [_section([name]) for name in group.list_commands(None)]
    return "\n".join(sections)


def _section(arguments: list[str]) -> str:
    title = " ".join(["bvae", *arguments])
    return f"## `{title}`\n\n```text\n{_help(arguments)}```\n"


def _help(arguments: list[str]) -> str:
    with tempfile.TemporaryDirectory() as empty:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        environment |= {"BVAE_CONFIG_DIR": empty, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"}
        command = [sys.executable, "-m", "bvae_cli", *arguments, "--help"]
        done = subprocess.run(command, env=environment, capture_output=True, check=True, encoding="utf-8")
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines()) + "\n"


def main() -> int:
    """Write the page, or with ``--check`` say what differs."""
    wanted = page()
    if "--check" not in sys.argv[1:]:
        _PAGE.write_text(wanted, encoding="utf-8")
        return 0
    found = _PAGE.read_text(encoding="utf-8") if _PAGE.exists() else ""
    if found == wanted:
        return 0
    sys.stderr.writelines(
        difflib.unified_diff(found.splitlines(True), wanted.splitlines(True), "docs/cli.md", "bvae --help")
    )
    print("docs/cli.md is not what `bvae --help` says: run `python docs/generate_cli.py`.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
