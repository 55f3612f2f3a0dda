"""Parts that are a script of their own: it prints Markdown, which is kept and put on the page as it is."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parents[1]


def run(name: str, arguments: str) -> dict[str, Any]:
    """Run a script of ``benchmarks/``; return what it printed, and the data of its ``--json FILE`` where it has that.

    Raises CalledProcessError where it fails.
    """
    file = _FOLDER / name
    if not file.is_file():
        return {"missing": f"benchmarks/{name} is not there"}
    words = [sys.executable, str(file)]
    offered = subprocess.run([*words, "--help"], check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = {"command": f"python benchmarks/{name} {arguments}"}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.json"
        keeps = ["--json", str(data)] if "--json" in offered else []
        done = subprocess.run([*words, *arguments.split(), *keeps], check=True, stdout=subprocess.PIPE, text=True)
        if data.is_file():
            found["data"] = json.loads(data.read_text(encoding="utf-8"))
    return {**found, "printed": done.stdout.strip().splitlines()}


def section(part: dict[str, Any]) -> list[str]:
    """Return what the script printed."""
    if "missing" in part:
        return [f"Not measured: {part['missing']}.", ""]
    return [f"`{part['command']}`:", "", *part["printed"], ""]
