"""``bvae compare`` and ``bvae report`` as a person types them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bvae_cli.comparisons import Comparison

from ..conftest import write_bits
from ..outcome import Bvae
from .conftest import TINY

QUICK = (*TINY, "--ecc", "repetition", "--R", 3, "--calibration-bins", 4, "--bootstrap-samples", 100, "--iwae-samples", 4)


@pytest.fixture
def place(workplace: Path) -> Path:
    write_bits(workplace / "bits.npy", rows=400)
    return workplace


def test_a_comparison_ends_with_a_table_a_verdict_and_the_report(bvae: Bvae, place: Path) -> None:
    done = bvae("compare", *QUICK, "--seeds", 2)
    assert done.code == 0
    for words in (
        "uncoded N=12",
        "uncoded K=4",
        "repetition(R=3) N=12",
        "IWAE-4 (nats)",
        "Verdict",
        "Caution: With 2 seeds",
    ):
        assert words in done.out
    folder = Path(re.findall(r"^folder  (.*)$", done.out, re.MULTILINE)[0])
    assert folder.parent == Path("results")
    assert {path.name for path in folder.iterdir()} >= {"comparison.json", "comparison.csv", "report.html", "figures"}
    assert Path(re.findall(r"^report  (.*)$", done.out, re.MULTILINE)[0]).is_file()


@pytest.mark.slow
def test_one_line_an_arm_and_seed_with_the_time_that_is_left(bvae: Bvae, place: Path) -> None:
    done = bvae("compare", *QUICK, "--seeds", 2)
    lines = [line for line in done.err.splitlines() if line.startswith("[")]
    assert len(lines) == 6
    assert re.fullmatch(
        r"\[1/6\] uncoded N=12, seed 0, verdict: trained in \d+ s, val_loss \d+\.\d\d; 5 runs left, about \d+ s", lines[0]
    )
    assert lines[-1].endswith("no run is left")
    assert "\x1b" not in done.err
    again = bvae("compare", *QUICK, "--seeds", 2)
    assert again.out == done.out
    assert all("there already" in line for line in again.err.splitlines() if line.startswith("["))


def test_quiet_says_nothing_and_json_is_the_comparison(bvae: Bvae, place: Path) -> None:
    done = bvae("compare", *QUICK, "--seeds", 1, "--json", "--quiet")
    assert done.err == ""
    comparison = Comparison.model_validate_json(done.out)
    assert json.loads(
        (Path("results") / next(Path("results").iterdir()).name / "comparison.json").read_text()
    ) == json.loads(done.out)
    assert comparison.protocol.seeds == [0]


def test_a_dry_run_says_which_arms_and_runs_there_would_be_and_does_nothing(bvae: Bvae, place: Path) -> None:
    done = bvae("compare", *QUICK, "--tune", "lr=0.01,0.03", "--dry-run")
    assert done.code == 0
    assert re.search(r"^runs +30$", done.out, re.MULTILINE)  # 3 arms × (2 settings + 8 seeds)
    assert "lr=0.01; lr=0.03, with seeds 1000000" in done.out
    assert not (place / "results").exists()
    plan = json.loads(bvae("compare", *QUICK, "--dry-run", "--json").out)
    assert plan["seeds"] == list(range(8))
    assert plan["runs"] == 24
    assert (plan["way"]["workers"], plan["way"]["models"]) == (1, 8)
    assert "too little for a measurement" in done.out
    assert [arm["latent"] for arm in plan["arms"]] == [12, 4, 12]


def test_a_k_that_no_set_has_is_said_before_it_begins(bvae: Bvae, place: Path) -> None:
    done = bvae("compare", *QUICK, "--seeds", 1)
    assert "Note: uncoded K=4: No parameter set has K = 4 code bits" in done.err


def test_arms_are_named_one_by_one(bvae: Bvae, place: Path) -> None:
    quick = [item for item in QUICK if item not in ("--ecc", "repetition", "--R", 3)]
    arms = ("--arm", "uncoded:latent=6", "--arm", "repetition:R=2,sampling=bitwise")
    done = bvae("compare", *quick, *arms, "--seeds", 1)
    assert done.code == 0
    assert "repetition(R=2) N=12, sampling=bitwise against uncoded N=6" in done.out


def test_the_report_is_drawn_again_without_training(bvae: Bvae, place: Path) -> None:
    done = bvae("compare", *QUICK, "--seeds", 1)
    folder = next((place / "results").iterdir())
    page = (folder / "report.html").read_bytes()
    (folder / "report.html").unlink()
    for path in (folder / "figures").iterdir():
        path.unlink()
    for path in (place / "weights").rglob("*.pt"):
        path.unlink()
    again = bvae("report", folder)
    assert again.code == 0
    assert (folder / "report.html").read_bytes() == page
    assert again.out.split("Verdict")[0] == done.out.split("Verdict")[0]
    assert Comparison.model_validate_json(bvae("report", folder, "--json").out).arms[0].name == "uncoded N=12"


def test_finished_models_are_compared_as_they_are(bvae: Bvae, place: Path) -> None:
    bvae("train", *TINY)
    bvae("train", *TINY, "--ecc", "repetition", "--R", 3)
    weights = sorted((place / "weights").iterdir(), key=lambda path: len(path.name))
    measured = ("--calibration-bins", 4, "--bootstrap-samples", 100)
    done = bvae("compare", "--baseline-weights", weights[0], "--ecc-weights", weights[1], *measured)
    assert done.code == 0
    assert "one model each" in done.out
    assert len(list((place / "weights").iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "needs a code"),
        (("--ecc", "repetiton"), 2, "no code 'repetiton'"),
        (("--arm", "uncoded:lattent=3"), 2, "'lattent' is not an option"),
        (("-n", 1, "--R", 3), 2, "not a multiple"),
        (("--R", 2, "--seeds", 0), 2, "--seeds must be at least 1"),
        (("--R", 2, "--noise-epsilon", 0.6), 2, "--noise-epsilon must be at most 0.5"),
        (("--R", 2, "--noise-epsilon", "x"), 2, "--noise-epsilon must be a number"),
        (("--R", 2, "--eval-subset", 50), 2, "50 test images are too few for 10 bins"),
        (("--R", 2, "--tune", "lr"), 2, "names no values"),
        (("--R", 2, "--tune", "lr=0"), 2, "--lr must be greater than 0"),
        (("--R", 2, "--sedes", 3), 2, "no option --sedes"),
        (("--R", 2, "--dataset", "nowhere.npy"), 3, "no file nowhere.npy"),
        (("--baseline-weights", "a"), 2, "--ecc-weights is missing"),
        (("--baseline-weights", "a", "--ecc-weights", "b"), 3, "no file a"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_sentence_with_a_hint(
    bvae: Bvae, workplace: Path, arguments: tuple[object, ...], code: int, words: str
) -> None:
    refused = bvae("compare", *arguments)
    assert refused.code == code
    assert words in refused.err
    assert "Hint: " in refused.err
    assert "Traceback" not in refused.err
    assert not (workplace / "results").exists()


def test_a_folder_without_a_comparison_has_no_report(bvae: Bvae, workplace: Path) -> None:
    refused = bvae("report", workplace)
    assert (refused.code, "holds no comparison.json" in refused.err) == (3, True)
    assert bvae("report", "nowhere").code == 3


def test_a_file_and_variables_speak_to_compare_too(bvae: Bvae, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "my.toml").write_text('seeds = 3\nnoise_epsilon = [0.0, 0.2]\narm = ["repetition:R=2"]\n')
    monkeypatch.setenv("BVAE_NOISE_EPSILON", "0,0.3")
    plan = json.loads(bvae("compare", *QUICK, "--config", "my.toml", "--dry-run", "--json").out)
    assert plan["seeds"] == [0, 1, 2]
    assert plan["claims"][-1] == "stored_nll@0.3"
    assert [arm["name"] for arm in plan["arms"]][-1] == "repetition(R=2) N=12"
    shown = bvae("config", "show", "compare", "--config", "my.toml")
    assert re.search(r"--noise-epsilon +noise_epsilon +0\.0, 0\.3 +environment", shown.out)


def test_the_guides_line_works_as_it_is_written(bvae: Bvae, workplace: Path) -> None:
    plan = json.loads(bvae("compare", "-n", 1, "--ecc-R", 2, "--eval-subset", 1000, "--dry-run", "--json").out)
    assert [arm["latent"] for arm in plan["arms"]] == [100, 50, 100]
