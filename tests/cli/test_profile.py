from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from bvae_cli.workflows import ceilings as ceilings_module
from bvae_cli.workflows import profile as profile_module
from bvae_cli.workflows.phases import PHASES
from bvae_cli.workflows.profile import Memory, Profile

from ..outcome import Bvae
from .conftest import TINY

GUIDE = Path(__file__).parents[2] / "docs" / "guide.md"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure badly, but at once."""
    monkeypatch.setattr(profile_module, "_ROUNDS", 1)
    monkeypatch.setattr(profile_module, "_SECONDS_OF_PLAIN_STEPS", 0.001)
    monkeypatch.setattr(profile_module, "_SECONDS_OF_WATCHED_STEPS", 0.001)
    monkeypatch.setattr(ceilings_module, "_SIDE", 64)
    monkeypatch.setattr(ceilings_module, "_SECONDS_OF_A_BLOCK", 1e-4)


def test_the_table_is_on_stdout_and_the_talk_on_stderr(bvae: Bvae, workplace: Path) -> None:
    outcome = bvae("train", *TINY, "--R", 3, "--profile").succeeded()
    first = [line.split()[0] for line in outcome.out.splitlines() if line.strip()]
    assert [name for name in first if name in PHASES] == list(PHASES)
    for word in ("step", "speed", "arithmetic", "float32", "bfloat16", "products", "held", "host"):
        assert word in first
    for words in ("images/s", "2.11 kFLOP for each image", "16 × 12 → 8", "of encoder", "code repetition(R=3)"):
        assert words in outcome.out
    assert "nothing that is trained is kept" in outcome.err
    assert "USDT" not in outcome.err
    assert "[W" not in outcome.err


def test_no_file_is_written(bvae: Bvae, workplace: Path) -> None:
    bvae("train", *TINY, "--profile", "--save-every-epoch").succeeded()
    assert [path.name for path in workplace.iterdir()] == ["bits.npy"]


def test_json_is_one_object_with_every_figure_and_the_guide_names_its_keys(bvae: Bvae, workplace: Path) -> None:
    outcome = bvae("train", *TINY, "--profile", "--json", "--quiet").succeeded()
    assert outcome.err == ""
    facts = outcome.json()
    assert list(facts) == [field.name for field in fields(Profile)]
    assert [phase["name"] for phase in facts["phases"]] == [*PHASES, "host"]
    guide = GUIDE.read_text(encoding="utf-8")
    for name in [*facts, *(field.name for field in fields(Memory)), *facts["phases"][0], *facts["peaks"][0]]:
        assert f"`{name}`" in guide


def test_the_trace_is_where_it_was_asked_for_and_a_line_says_what_opens_it(bvae: Bvae, workplace: Path) -> None:
    outcome = bvae("train", *TINY, "--profile", "--trace", "step.json").succeeded()
    assert "traceEvents" in json.loads(Path("step.json").read_text())
    assert "open step.json in chrome://tracing or https://ui.perfetto.dev" in outcome.err
    assert sorted(path.name for path in workplace.iterdir()) == ["bits.npy", "step.json"]


def test_a_trace_takes_the_place_of_nothing_and_that_is_said_before_anything_is_measured(
    bvae: Bvae, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bvae_cli.workflows.profile.profile", lambda *_: pytest.fail("it was measured"))
    content = Path("bits.npy").read_bytes()
    bvae("train", *TINY, "--profile", "--trace", "bits.npy").refused(2, "bits.npy is there already", "--trace")
    bvae("train", *TINY, "--profile", "--trace", ".").refused(3, "it is a folder")
    assert Path("bits.npy").read_bytes() == content


def test_a_profile_is_of_one_process(bvae: Bvae, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    bvae("train", *TINY, "--profile").refused(2, "torchrun", "one process")


def test_a_trace_that_cannot_be_written_exits_with_three(bvae: Bvae, workplace: Path) -> None:
    bvae("train", *TINY, "--profile", "--trace", "bits.npy/step.json").refused(3, "bits.npy")
