"""Say whether two wheels hold the same files with the same bytes: that of the checkout and that of the sdist.

python scripts/same_wheel.py FIRST.whl SECOND.whl
"""

from __future__ import annotations

import hashlib
import sys
import zipfile


def contents(path: str) -> dict[str, str]:
    """Return the sha256 of every file in a wheel, by name."""
    with zipfile.ZipFile(path) as wheel:
        return {name: hashlib.sha256(wheel.read(name)).hexdigest() for name in wheel.namelist()}


def main() -> None:
    """Compare the two wheels named on the command line; exit 1 where they differ."""
    first, second = (contents(path) for path in sys.argv[1:3])
    differing = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
    if differing:
        raise SystemExit(f"The wheels differ in {', '.join(differing)}.")
    print(f"The two wheels hold the same {len(first)} files.")


if __name__ == "__main__":
    main()
