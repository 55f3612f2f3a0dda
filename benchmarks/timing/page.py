"""``docs/performance.md``, from what was measured: no figure stands there that is not in the data."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

PARTS = ("training", "sweeps", "many-seeds", "large-data", "start", "quality", "cuda")
# Of the processors' time: a machine on which nothing else is done stays below it.
_DISTURBED = 0.05
_COMMAND = "python benchmarks/performance.py"
_INTRODUCTION = f"""\
# Performance

<!-- Made by `{_COMMAND}` from docs/data/performance.json; do not edit. -->

How fast training is, beside what people write today and beside what the machine's arithmetic allows. One command measures
all of it, writes every round to `docs/data/performance.json`, and makes this page and its plots of that file:

```sh
{_COMMAND}                              # everything
{_COMMAND} --parts training start       # some parts, the others stay as they are
{_COMMAND} --page                       # the page again, from the file, without measuring
```

Each implementation, with each setting, lives in a process of its own over all rounds, so that imports, compilation and
first steps are not timed. In a round every one of them has one turn while the others sleep, and each round begins with
another. Figures are medians with quartiles over the rounds. A ratio is taken within a round, then its median and quartiles
over the rounds. A goal that is missed is said to be, and by how much.
"""


def module_of(part: str) -> ModuleType:
    """Return the module that measures a part and writes its section."""
    return import_module(f"timing.parts.{part.replace('-', '_')}")


def page(data: dict[str, Any]) -> str:
    """Return the page of the data."""
    machines: list[str] = []
    sections: list[str] = []
    for part in PARTS:
        module = module_of(part)
        sections += [f"## {module.TITLE}", ""]
        found = data["parts"].get(part)
        if found is None:
            sections += [f"Not measured yet: `{_COMMAND} --parts {part}`.", ""]
            continue
        machine = _machine(found)
        if machine not in machines:
            machines.append(machine)
        if found["quick"]:
            sections += ["**A quick run with tiny sizes: it shows that the command works, and measures nothing.**", ""]
        sections += [*_circumstances(part, found, machines.index(machine)), "", *module.section(found)]
    lines = [_INTRODUCTION]
    if machines:
        minutes = sum(found["minutes"] for found in data["parts"].values())
        lines += ["## Machine", "", *(f"{index + 1}. {machine}" for index, machine in enumerate(machines)), ""]
        lines += [f"The parts below took {minutes:.0f} minutes together.", ""]
    return "\n".join([*lines, *sections]).rstrip() + "\n"


def _machine(part: dict[str, Any]) -> str:
    machine, versions = part["machine"], part["versions"]
    flags = f" ({', '.join(machine['flags'])})" if machine["flags"] else ""
    memory = f", {machine['memory_gib']:g} GiB of memory" if machine["memory_gib"] else ""
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    named = [f"{name} {versions[name]}" for name in ("python", "torch", "numpy", "pythae") if versions.get(name)]
    libraries = ", ".join(" ".join(pair) for pair in versions["libraries"].items())
    cuda = f", CUDA {versions['cuda']}" if versions["cuda"] else ""
    commit = f" at {versions['commit']}" if versions["commit"] else ""
    return (
        f"{machine['processor']}, {machine['cores']} cores{flags}{memory}, {gpus}. {machine['system']}, "
        f"{', '.join(named)}{cuda}; bvae {versions['bvae-cli']}{commit}. torch computes with {versions['threads']} threads "
        f"({libraries}, vectors {versions['vectors']})."
    )


def _circumstances(name: str, part: dict[str, Any], machine: int) -> list[str]:
    load = " to ".join(f"{part[when][0]:.2f}" for when in ("load_before", "load_after") if part[when])
    lines = [
        f"`{_COMMAND} --parts {name}`, machine {machine + 1}, {part['date']}, {part['minutes']:.1f} minutes"
        + (f", load average {load}." if load else ".")
    ]
    others = part["share_of_others"]
    if others is not None:
        disturbed = "" if others < _DISTURBED else " **The machine was not quiet: measure again.**"
        lines.append(f"Other programs took {100 * others:.0f} % of the processors' time meanwhile.{disturbed}")
    records = part.get("records", [])
    if records:
        lines.append(f"{part['rounds']} rounds, a turn takes at least {part['turn_seconds']:g} s, seed {part['seed']}.")
    awake = [one["seconds_awake_in_sleep"] for one in records if "seconds_awake_in_sleep" in one]
    if awake:
        lines.append(f"No sleeper took more than {1000 * max(awake):.0f} ms of processor time between two of its turns.")
    return lines


def draw(data: dict[str, Any], folder: Path) -> None:
    """Write the plots of the parts that have some."""
    for part, found in data["parts"].items():
        module = module_of(part)
        if hasattr(module, "draw"):
            module.draw(found, folder)
