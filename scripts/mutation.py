"""Change the source in one place at a time and ask the tests whether they notice (DeMillo, Lipton and Sayward 1978).

    python scripts/mutation.py run evaluation/statistics.py codes/gf2.py    # what is in the table and not done yet
    python scripts/mutation.py run --sample 100 codes/polar.py              # so many changes of a file, by chance
    python scripts/mutation.py survivors codes/gf2.py                       # what no test noticed
    python scripts/mutation.py note codes/gf2.py                            # into docs/data/mutation.json, to be judged
    python scripts/mutation.py page                                         # docs/mutation.md from that file

The changes are mutmut's (``pip install -e '.[test,mutation]'``). Its own runner leaves decorated functions and constants
alone and wraps the others, which a pydantic class does not bear; here each change is a source of its own. A process that
has imported torch once, and nothing of ours, is forked for each; the fork imports the changed module and runs the tests
that pass through the changed line, those of the module's own test file first, until one fails.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import math
import os
import random
import re
import resource
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from types import CodeType, ModuleType
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "bvae_cli"
# Of this tree, in this process and in those that tests start, which see the source as it is on the disk.
sys.path.insert(0, str(SOURCE.parent))
os.environ["PYTHONPATH"] = str(SOURCE.parent)
WORK = ROOT / "build" / "mutation"
DATA = ROOT / "docs" / "data" / "mutation.json"
PAGE = ROOT / "docs" / "mutation.md"

# Tests of a room beside those of a file's own test module. Compiled graphs take seconds each and see nothing more.
BESIDE = {
    "codes": ("tests/codes", "tests/conformance/test_families.py"),
    "model": ("tests/model/test_objective.py", "tests/model/test_terms.py", "tests/model/test_bvae.py"),
    "files.py": ("tests/test_files.py", "tests/test_runs.py"),
    "locks.py": ("tests/test_locks.py", "tests/test_locks_elsewhere.py"),
    "runs.py": ("tests/test_runs.py",),
    "checkpoints.py": ("tests/test_checkpoints.py", "tests/test_runs.py"),
    "evaluation": ("tests/evaluation/test_statistics.py", "tests/evaluation/test_interval_coverage.py"),
}
# What every code must do is tested here, also what is new since the clean run.
BASE = "tests/codes/test_base.py"
LEFT_OUT = ("tests/codes/test_compiled.py",)
# Clean seconds of tests that one change may take; a change that passes them all has survived.
MOST_SECONDS = 10.0
# A change may make a loop endless, or a list: processor time for a test beyond ten times its own, and memory.
GRACE_SECONDS = 5.0
MOST_BYTES = 8 << 30
PROCESSES = 2
SEED = 7


@dataclass(frozen=True)
class Mutant:
    """One change: the whole changed source, the lines that it touches, and the text before and after."""

    source: str
    first: int
    last: int
    was: str
    becomes: str
    in_message: bool

    @property
    def key(self) -> str:
        """Name a change by the source that it makes."""
        return hashlib.sha256(self.source.encode()).hexdigest()[:16]


def mutants_of(path: Path) -> list[Mutant]:
    """Return the changes of a file, in the order of its lines, each once; a tenth of a second for each, the first time."""
    noted = WORK / f"changes-{path.stem}-{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}.json"
    if not noted.exists():
        noted.write_text(json.dumps([asdict(mutant) for mutant in _mutants_of(path)]), encoding="utf-8")
    return [Mutant(**fields) for fields in json.loads(noted.read_text(encoding="utf-8"))]


def _mutants_of(path: Path) -> list[Mutant]:
    import libcst as cst
    from libcst.metadata import MetadataWrapper, ParentNodeProvider, PositionProvider
    from mutmut.mutation.mutators import mutation_operators, operator_string

    source = path.read_text(encoding="utf-8")
    wrapper = MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True)
    parents, positions = wrapper.resolve(ParentNodeProvider), wrapper.resolve(PositionProvider)
    found: dict[str, Mutant] = {}

    def ancestors(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        while node in parents:
            node = parents[node]
            yield node

    def untouched(node: cst.CSTNode) -> bool:
        # Types are not run, and what a type checker alone sees is not either.
        above = (node, *ancestors(node))
        return any(
            isinstance(one, cst.Annotation | cst.Import | cst.ImportFrom)
            or (isinstance(one, cst.If) and isinstance(one.test, cst.Name) and one.test.value == "TYPE_CHECKING")
            for one in above
        )

    def visit(node: cst.CSTNode) -> None:
        if untouched(node):
            return
        for kind, operator in mutation_operators:
            if not isinstance(node, kind):
                continue
            # Of a text one change is enough: lower and upper case say no more than other letters do.
            changes = list(operator(node))[: 1 if operator is operator_string else None]
            for change in changes:
                changed = wrapper.module.deep_replace(node, change).code
                if changed != source and changed not in found:
                    found[changed] = made(node, changed)
        for child in node.children:
            visit(child)

    def made(node: cst.CSTNode, changed: str) -> Mutant:
        place = positions[node]
        was, becomes = difference(source, changed)
        in_message = any(isinstance(one, cst.Raise) for one in ancestors(node))
        return Mutant(changed, place.start.line, place.end.line, was, becomes, in_message)

    visit(wrapper.module)
    return sorted(found.values(), key=lambda mutant: mutant.first)


def difference(before: str, after: str) -> tuple[str, str]:
    """Return the lines that a change touches, before and after, in one line each."""
    old, new = before.splitlines(), after.splitlines()
    start = next((place for place, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)) - 1)
    end = next((place for place, (a, b) in enumerate(zip(old[::-1], new[::-1], strict=False)) if a != b), 0)
    end = min(end, len(old) - start - 1, len(new) - start - 1)
    one_line = (" ".join(line.strip() for line in lines[start : len(lines) - end]) for lines in (old, new))
    return next(one_line), next(one_line)


class Changed(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Imports one module from a changed source, and leaves all others to Python."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        super().__init__(name, str(path))
        self._source = source

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        """Answer for the changed module alone."""
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self) if fullname == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        """Compile the changed source; the file on disk stays as it is."""
        return compile(self._source, self.path, "exec", dont_inherit=True)


class Chosen:
    """A pytest plugin that runs the named tests, in the order given, and measures each."""

    def __init__(self, wanted: Sequence[str] | None, clean: dict[str, float] | None = None, own: Sequence[str] = ()) -> None:
        self.wanted, self._clean, self._own = wanted, clean, own
        self.seconds: dict[str, float] = defaultdict(float)

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Leave out what is not wanted."""
        if self.wanted is not None:
            by_name = {item.nodeid: item for item in items}
            new = [name for name in by_name if name.split("::")[0] in self._own and name not in (self._clean or {})]
            items[:] = [by_name[name] for name in [*new, *self.wanted] if name in by_name]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Have the system end this process where a test takes much longer than it did."""
        if self._clean is not None:
            signal.setitimer(signal.ITIMER_PROF, GRACE_SECONDS + 10 * self._clean.get(nodeid, 0.0))

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Add up what a test took, with what it was given."""
        self.seconds[report.nodeid] += report.duration


class Watched(Chosen):
    """A pytest plugin that has coverage note which test passes through which line."""

    def __init__(self, coverage: Any) -> None:
        super().__init__(None)
        self._coverage = coverage

    def pytest_runtest_setup(self, item: Any) -> None:
        """Say whose lines come next."""
        # What is remembered from another test would hide that this one asks for it too.
        for name, module in list(sys.modules.items()):
            if name.startswith("bvae_cli.") and isinstance(module, ModuleType):
                for thing in vars(module).values():
                    if callable(getattr(thing, "cache_clear", None)):
                        thing.cache_clear()
        self._coverage.switch_context(item.nodeid)


def run_pytest(paths: Sequence[str], plugin: Chosen, *options: str) -> int:
    """Run tests in this process, a fork, from the root of the project."""
    import hypothesis
    import pytest

    # A failure is all that is asked for: the smallest example of it takes seconds to find.
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutation", phases=phases, database=None)
    hypothesis.settings.load_profile("mutation")
    quiet = ("-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist", "--doctest-modules", "-m", "not slow")
    return int(pytest.main([*quiet, *options, *paths], plugins=[plugin]))


def forked(work: Any, output: Path) -> int:
    """Run ``work()`` in a fork of this process, in a group of its own, and return its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()
        file = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.chdir(ROOT)
        status = work()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def tests_of(file: str) -> tuple[str, list[str]]:
    """Return the test file that mirrors a source, and all paths that hold tests of it."""
    folder, _, name = file.rpartition("/")
    own = f"tests/{folder}/test_{name}" if folder else f"tests/test_{name}"
    return own, [f"src/bvae_cli/{file}", *BESIDE[room_of(file)]]


def room_of(file: str) -> str:
    """Return the folder of a source, or itself where it lies in none."""
    return file.rpartition("/")[0] or file


@dataclass
class Clean:
    """What the unchanged tests of a room do: seconds of each test, and by file and line which tests pass there."""

    seconds: dict[str, float]
    lines: dict[str, dict[int, list[str]]]


def clean_run(room: str) -> Clean:
    """Run the tests of a room unchanged, or read what an earlier run noted of the same sources.

    A test that has been written since is run for every change of the source that its file mirrors, and those of every code
    for every change.
    """
    files = [SOURCE / room] if room.endswith(".py") else sorted((SOURCE / room).glob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    noted = WORK / f"clean-{room}-{digest}.json"
    if not noted.exists():
        child = forked(lambda: watch(room, noted), WORK / f"clean-{room}.log")
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            raise SystemExit(f"The tests fail before anything is changed ({status}): {WORK / f'clean-{room}.log'}")
    known = json.loads(noted.read_text(encoding="utf-8"))
    for name in known["modules"]:
        if name not in sys.modules:
            try:
                importlib.import_module(name)
            except Exception:  # what cannot be imported alone is imported in each fork
                continue
    lines = {file: {int(line): names for line, names in of.items()} for file, of in known["lines"].items()}
    return Clean(known["seconds"], lines)


def watch(room: str, noted: Path) -> int:
    """Run the tests of a room under coverage and note seconds, lines, and the modules of others that they import."""
    import coverage

    log = WORK / f"coverage-{room}"
    log.unlink(missing_ok=True)
    watching = coverage.Coverage(
        data_file=str(log), include=[str(SOURCE / room), str(SOURCE / room / "*.py")], config_file=False
    )
    watching.start()
    plugin = Watched(watching)
    paths = [f"src/bvae_cli/{room}", *BESIDE[room]]
    status = run_pytest(paths, plugin, *(f"--ignore={path}" for path in LEFT_OUT))
    watching.stop()
    watching.save()
    data = watching.get_data()
    lines = {
        str(Path(file).relative_to(SOURCE)): {
            line: [name for name in names if name] for line, names in data.contexts_by_lineno(file).items()
        }
        for file in data.measured_files()
    }
    modules = [name for name in sys.modules if name.split(".")[0] not in {"bvae_cli", "tests", "coverage", "conftest"}]
    text = json.dumps({"seconds": plugin.seconds, "lines": lines, "modules": modules})
    if not status:
        noted.write_text(text, encoding="utf-8")
    return status


def chosen_tests(file: str, mutant: Mutant, clean: Clean) -> list[str]:
    """Return the tests for a change: those through its lines, of the module's own test file first, the quick ones first."""
    own, _ = tests_of(file)
    passing = {name for line in range(mutant.first, mutant.last + 1) for name in clean.lines.get(file, {}).get(line, [])}
    mirrored: tuple[str, ...] = (own, f"src/bvae_cli/{file}")
    if not passing:  # run once, at import: every test that passes through the file may see it, and as many as may be run
        passing = {name for names in clean.lines.get(file, {}).values() for name in names}
        passing |= {name for name in clean.seconds if name.startswith(mirrored)}
        mirrored = ()
    ordered = sorted(passing, key=lambda name: (not name.startswith(mirrored), clean.seconds.get(name, 0.0)))
    chosen, spent = [], 0.0
    for name in ordered:
        spent += clean.seconds.get(name, 0.0)
        if spent > MOST_SECONDS and chosen:
            break
        chosen.append(name)
    return chosen


def test_mutant(file: str, mutant: Mutant, tests: Sequence[str], seconds: dict[str, float]) -> int:
    """Import the changed module in this fork and run the tests; 0 where none noticed."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    signal.setitimer(signal.ITIMER_PROF, 4 * GRACE_SECONDS)
    name = "bvae_cli." + file.removesuffix(".py").replace("/", ".")
    sys.meta_path.insert(0, Changed(name, SOURCE / file, mutant.source))
    # Before pytest puts its own importer first, which would read the file on disk.
    importlib.import_module(name)
    own = [path for path in (tests_of(file)[0], *([BASE] if room_of(file) == "codes" else [])) if (ROOT / path).exists()]
    paths = sorted({*(test.split("::")[0] for test in tests), *own})
    status = run_pytest(paths, Chosen(tests, seconds, own), "-x", "--tb=line")
    assert isinstance(sys.modules[name].__loader__, Changed)
    return status


def run(file: str, sample: int | None, every: bool, fresh: bool) -> None:
    """Try the changes of a file, as many at once as there are processes, and append what became of each.

    ``fresh`` notes of those that were not tried before that they came after the tests: they say what the tests see, where
    the others say what tests were written for.
    """
    clean = clean_run(room_of(file))
    all_of_file = mutants_of(SOURCE / file)
    shuffled = random.Random(SEED).sample(all_of_file, len(all_of_file))  # so that a larger sample holds the smaller one
    mutants = all_of_file if sample is None else shuffled[:sample]
    record = record_of(file)
    done = {} if every else {row["key"]: row for row in rows_of(record)}
    waiting = [mutant for mutant in mutants if done.get(mutant.key, {}).get("outcome") in (None, "survived")]
    print(f"{file}: {len(all_of_file)} changes, {len(mutants)} chosen, {len(waiting)} to try", flush=True)
    running: dict[int, tuple[Mutant, float, float, list[str]]] = {}
    started, counts = time.monotonic(), Counter[str]()
    gc.freeze()  # a collection in a fork would copy what it shares
    while waiting or running:
        while waiting and len(running) < PROCESSES:
            mutant = waiting.pop(0)
            tests = chosen_tests(file, mutant, clean)
            limit = 30 + 10 * (5 + sum(clean.seconds.get(name, 0.0) for name in tests))
            child = forked(lambda m=mutant, t=tests: test_mutant(file, m, t, clean.seconds), WORK / f"{mutant.key}.log")
            running[child] = mutant, time.monotonic(), limit, tests
        for child, (mutant, since, limit, tests) in list(running.items()):
            ended, status = os.waitpid(child, os.WNOHANG)
            late = time.monotonic() - since > limit
            if not ended and not late:
                continue
            if not ended:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
            code = os.waitstatus_to_exitcode(status) if ended else None
            outcome = "timed out" if code in (None, -signal.SIGPROF) else "survived" if code == 0 else "killed"
            log = WORK / f"{mutant.key}.log"
            noticed = re.search(r"^(?:FAILED|ERROR) (\S+)", log.read_text(errors="replace"), re.M)
            row = {
                "key": mutant.key,
                "line": mutant.first,
                "was": mutant.was,
                "becomes": mutant.becomes,
                "in_message": mutant.in_message,
                "outcome": outcome,
                "code": code,
                "by": noticed.group(1) if noticed else None,
                "tests": len(tests),
                "fresh": fresh and mutant.key not in done,
                "seconds": round(time.monotonic() - since, 2),
            }
            with record.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            counts[outcome] += 1
            log.unlink()
            del running[child]
        time.sleep(0.01)
    print(f"{file}: {dict(counts)} in {time.monotonic() - started:.0f} s", flush=True)


def rows_of(record: Path) -> list[dict[str, Any]]:
    """Return the last row of each change in a record."""
    if not record.exists():
        return []
    rows = {}
    for line in record.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows[row["key"]] = row
    return list(rows.values())


def record_of(file: str) -> Path:
    """Return where it is kept what became of the changes of a file."""
    return WORK / f"{file.replace('/', '-')}.jsonl"


def survivors(file: str) -> None:
    """Print the changes of a file that no test noticed."""
    for row in sorted(rows_of(record_of(file)), key=lambda row: row["line"]):
        if row["outcome"] == "survived":
            message = " (message)" if row["in_message"] else ""
            print(f"{row['key']} {file}:{row['line']} {row['outcome']} of {row['tests']} tests{message}")
            print(f"    - {row['was']}\n    + {row['becomes']}")


def note(file: str) -> None:
    """Write what became of a file's changes into the data of the page; judgements that stand there stay."""
    data = json.loads(DATA.read_text(encoding="utf-8")) if DATA.exists() else {}
    judged = {(row["was"], row["becomes"]): row for row in data.get(file, {}).get("survived", [])}
    present = {mutant.key for mutant in mutants_of(SOURCE / file)}
    history = [json.loads(line) for line in record_of(file).read_text(encoding="utf-8").splitlines()]
    at_first = {row["key"] for row in history if row["outcome"] == "survived"} & present
    rows = [row for row in rows_of(record_of(file)) if row["key"] in present]
    fresh = {row["key"] for row in history if row.get("fresh")} & present
    left = {row["key"] for row in rows if row["outcome"] == "survived"}
    survived = []
    for row in sorted((row for row in rows if row["outcome"] == "survived"), key=lambda row: row["line"]):
        judgement = judged.get((row["was"], row["becomes"]), {"kind": "not judged", "why": ""})
        plain = {name: row[name] for name in ("line", "was", "becomes")}
        survived.append({**plain, "fresh": row["key"] in fresh, "kind": judgement["kind"], "why": judgement["why"]})
    outcomes = Counter(row["outcome"] for row in rows)
    data[file] = {
        "changes": len(present),
        "tried": len(rows),
        "noticed": outcomes["killed"],
        "timed_out": outcomes["timed out"],
        "survived_at_first": len(at_first),
        "fresh": len(fresh),
        "fresh_mended": len(fresh & at_first - left),
        "survived": survived,
    }
    DATA.write_text(json.dumps(dict(sorted(data.items())), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927)."""
    z = NormalDist().inv_cdf(0.975)
    share = successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, middle - half), min(1.0, middle + half)


def page() -> None:
    """Write the page: a table of the files, and the survivors that are not equivalent."""
    data = json.loads(DATA.read_text(encoding="utf-8"))
    rooms = {"codes": "`codes`", "model": "`model/objective.py`", "evaluation": "`evaluation/statistics.py`"}
    rooms |= {file: f"`{file}`" for file in data if room_of(file) == file}
    lines = [
        _HEAD,
        _row("file", "changes", "tried", "noticed", "timed out", "survived at first", "now", *KINDS, "share left"),
    ]
    lines.append("|---" * (8 + len(KINDS)) + "|")
    for room, name in rooms.items():
        files = {file: row for file, row in data.items() if room_of(file) == room}
        lines += [_told(f"`{file}`", [row]) for file, row in files.items()] if len(files) > 1 else []
        if files:
            lines.append(_told(f"**{name}**", list(files.values())))
    lines += ["", *_of_fresh(data), "## What is left", ""]
    for file, row in data.items():
        left = [change for change in row["survived"] if change["kind"] != "equivalent"]
        if left:
            lines += [f"### {file}", ""]
            lines += [f"* line {c['line']}, {c['kind']}: {_code(c['becomes'])} {c['why']}".rstrip() for c in left] + [""]
    lines += ["## Equivalent", "", "Changes after which nothing is another: no test can see them.", ""]
    for file, row in data.items():
        equivalent = [change for change in row["survived"] if change["kind"] == "equivalent"]
        if equivalent:
            lines += [f"### {file}: equivalent", ""]
            lines += [f"* line {c['line']}: {_code(c['becomes'])} {c['why']}".rstrip() for c in equivalent] + [""]
    PAGE.write_text("\n".join(lines), encoding="utf-8")


KINDS = ("equivalent", "words", "cost", "device", "hole")
_HEAD = """---
orphan: true
---

# Mutation testing

What the tests of four rooms see when the source is changed in one place. `python scripts/mutation.py` makes the changes
(those of mutmut) and runs the tests that pass through each changed line; this page and its data, `docs/data/mutation.json`,
are what it wrote. Where fewer changes were tried than there are, they were drawn by chance with a fixed seed.

*noticed*: a test failed. *timed out*: a test took more than ten times its time and five seconds. *survived at first*:
no test saw it when it was first tried; most of these have a test now. *now*: no test sees it, and it was judged:
**equivalent**, nothing that can be observed changes; **words**, only the text of a message; **cost**, only memory or time;
**device**, only off the processor; **hole**, a test is missing. *share left*: all survivors that are not equivalent, of all
that were tried and are not equivalent, with the 95 % interval of Wilson where it is a sample. Of each file of `codes` about
as many changes were drawn, whatever its length. A change is tried with ten seconds of tests at
most: a survivor may yet fail one that is not among them.
"""


def _of_fresh(data: dict[str, dict[str, Any]]) -> list[str]:
    """Say what changes show that were drawn after the tests were written: nobody looked at them before."""
    tried = sum(row["fresh"] for row in data.values())
    if not tried:
        return []
    still = [change for row in data.values() for change in row["survived"] if change["fresh"]]
    equivalent = sum(change["kind"] == "equivalent" for change in still)
    unseen, of = sum(row["fresh_mended"] for row in data.values()) + len(still) - equivalent, tried - equivalent
    low, high = wilson(unseen, of)
    return [
        f"Tests were written for what survived first, so that the share left flatters them. Of {tried} further changes of "
        f"`codes`, drawn by chance and tried only then, {equivalent} are equivalent, and of the other {of} no test saw "
        f"{unseen}: {100 * unseen / of:.1f} % ({100 * low:.1f} to {100 * high:.1f}). Those that are no matter of cost or "
        "device have tests by now, which nothing further was drawn to try.\n"
    ]


def _row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _code(text: str) -> str:
    short = text if len(text) <= 150 else text[:147] + "…"
    return f"`` {short} ``" if "`" in short else f"`{short}`"


def _told(label: str, rows: Sequence[dict[str, Any]]) -> str:
    names = ("changes", "tried", "noticed", "timed_out", "survived_at_first")
    total = {name: sum(row[name] for row in rows) for name in names}
    kinds = Counter(change["kind"] for row in rows for change in row["survived"])
    left, of = sum(kinds.values()) - kinds["equivalent"], total["tried"] - kinds["equivalent"]
    share = f"{100 * left / of:.1f} %" if of else "–"
    if of and total["tried"] < total["changes"]:
        low, high = wilson(left, of)
        share += f" ({100 * low:.1f} to {100 * high:.1f})"
    return _row(label, *total.values(), sum(kinds.values()), *(kinds[kind] for kind in KINDS), share)


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "survivors", "note", "page", "count"])
    parser.add_argument("files", nargs="*", help="paths below src/bvae_cli")
    parser.add_argument("--sample", type=int, help="so many changes of each file, by chance")
    parser.add_argument("--every", action="store_true", help="try again what was noticed before")
    parser.add_argument("--fresh", action="store_true", help="note that the tests were written before what is tried now")
    arguments = parser.parse_intermixed_args()
    WORK.mkdir(parents=True, exist_ok=True)
    if arguments.what == "run":
        for name in ("torch", "pytest", "hypothesis", "pydantic", "scipy.stats"):
            importlib.import_module(name)
    for file in arguments.files:
        if arguments.what == "run":
            run(file, arguments.sample, arguments.every, arguments.fresh)
        elif arguments.what == "survivors":
            survivors(file)
        elif arguments.what == "note":
            note(file)
        else:
            print(file, len(mutants_of(SOURCE / file)))
    if arguments.what == "page":
        page()


if __name__ == "__main__":
    main()
