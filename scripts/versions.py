"""Print, in a line each, the Python and the version of each library that pyproject.toml asks for.

python scripts/versions.py
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def main() -> None:
    """Print what is installed here beside what is asked for."""
    asked = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    print(f"Python {platform.python_version()}, asked for: {asked['requires-python']}")
    for requirement in asked["dependencies"]:
        name = re.split(r"[<>=!~;\[ ]", requirement, maxsplit=1)[0]
        print(f"{name} {importlib.metadata.version(name)}, asked for: {requirement}")


if __name__ == "__main__":
    main()
