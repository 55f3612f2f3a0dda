"""The lower limits of pyproject.toml are what a lane of CI installs, each of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# What a lane installs; the other extras are tools, and no part of what is tried.
INSTALLED = [
    *PROJECT["dependencies"],
    *PROJECT["optional-dependencies"]["tensorboard"],
    *PROJECT["optional-dependencies"]["onnx"],
    *PROJECT["optional-dependencies"]["safetensors"],
    *PROJECT["optional-dependencies"]["test"],
]


def lower_limits(requirements: list[str]) -> dict[str, str]:
    limits = [re.fullmatch(r"([a-z0-9-]+)>=([0-9.]+)", requirement) for requirement in requirements]
    assert None not in limits, requirements
    return {limit[1]: limit[2] for limit in limits if limit is not None}


def pinned(name: str) -> dict[str, str]:
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    return dict(line.split("==") for line in lines if line)


def test_the_lowest_lane_installs_the_lower_limit_of_everything() -> None:
    assert pinned("constraints-lowest.txt") == lower_limits(INSTALLED)


def test_the_oldest_python_that_is_allowed_is_the_oldest_that_is_named() -> None:
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
    assert PROJECT["requires-python"] == f">={named[0]}"
    assert named == [f"3.{minor}" for minor in range(11, 11 + len(named))]


def test_what_this_project_is_tried_with_is_no_lower_than_what_it_asks_for() -> None:
    def parts(version: str) -> list[int]:
        return [int(part) for part in version.split(".")]

    limits = lower_limits(INSTALLED)
    for name, version in pinned("constraints.txt").items():
        assert parts(version) >= parts(limits.get(name, "0")), name
