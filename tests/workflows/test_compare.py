"""A whole comparison of tiny models: what it trains, what it keeps, what it leaves, and that it goes on after anything."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bvae_cli import runs
from bvae_cli.arms import TUNING_SEED_OFFSET, CompareConfig
from bvae_cli.comparisons import COMPARISON, TABLE, TIMES, WAYS, Comparison, ComparisonFolder
from bvae_cli.errors import DivergedError, InterruptedRunError, UsageError
from bvae_cli.evaluation.metrics import METRICS
from bvae_cli.workflows.compare import CompareObserver, ComparisonPlan, RunStart, compare, plan_comparison
from bvae_cli.workflows.fit import EpochStats, Fit
from bvae_cli.workflows.train import train

from ..comparing import require_alike
from ..conftest import write_bits
from .conftest import TINY, config_for

MEASURED: dict[str, Any] = {
    "seeds": 2,
    "calibration_bins": 4,
    "iwae_samples": 4,
    "noise_epsilon": [0.0, 0.1],
    "bootstrap_samples": 100,
}


def config_in(folder: Path, **options: Any) -> CompareConfig:
    data = folder / "bits.npy"
    if not data.exists():
        write_bits(data, rows=400)
    here = {"dataset": data, "output_dir": folder / "weights", "results_dir": folder / "results"}
    return CompareConfig(**(here | TINY | MEASURED | {"ecc": "repetition:R=3"} | options))


class Watcher(CompareObserver):
    """Notes what happens, and may stop it."""

    def __init__(self, stop_at: int | None = None, stop_in_epoch: int | None = None) -> None:
        self.stop_at, self.stop_in_epoch = stop_at, stop_in_epoch
        self.started: list[RunStart] = []
        self.epochs: list[tuple[int, int]] = []
        self.trained: list[bool] = []
        self.measured = 0
        self.plan: ComparisonPlan | None = None

    def on_plan(self, plan: ComparisonPlan) -> None:
        self.plan = plan

    def on_run(self, start: RunStart) -> None:
        if start.number == self.stop_at and self.stop_in_epoch is None:
            raise KeyboardInterrupt
        self.started.append(start)

    def on_epoch(self, start: RunStart, stats: EpochStats) -> None:
        self.epochs.append((start.number, stats.epoch))
        if (start.number, stats.epoch) == (self.stop_at, self.stop_in_epoch):
            raise KeyboardInterrupt

    def on_run_done(self, start: RunStart, validation_loss: float | None, trained: bool) -> None:
        self.trained.append(trained)

    def on_measured(self, arm: str, seed: int, number: int, total: int) -> None:
        self.measured += 1


def without_times(value: Any) -> Any:
    """Return a comparison as it was read, without what the clock said and where it lay."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES | {"folder"}}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def read(folder: Path) -> Any:
    found = next((folder / "results").glob("*/" + COMPARISON))
    return without_times(json.loads(found.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison, Watcher]:
    """An uninterrupted, tuned comparison; tests must leave it as it is."""
    folder = tmp_path_factory.mktemp("whole")
    watcher = Watcher()
    comparison = compare(config_in(folder, tune=["lr=0.01,0.03"]), watcher)
    return folder, comparison, watcher


def test_every_arm_has_the_same_number_of_runs_with_seeds_of_its_own_for_the_tuning(
    whole: tuple[Path, Comparison, Watcher],
) -> None:
    _, comparison, watcher = whole
    assert comparison.protocol.seeds == [0, 1]
    assert comparison.protocol.tuning_seeds == [TUNING_SEED_OFFSET]
    assert [arm.name for arm in comparison.arms] == ["uncoded N=12", "uncoded K=4", "repetition(R=3) N=12"]
    assert all(len(arm.tuning) == 2 and len(arm.runs) == 2 for arm in comparison.arms)
    assert watcher.trained == [True] * (3 * 2 + 3 * 2)
    assert watcher.measured == 6
    assert watcher.plan is not None
    assert watcher.plan.runs == 12


def test_the_setting_of_the_least_validation_loss_is_what_the_verdict_is_trained_with(
    whole: tuple[Path, Comparison, Watcher],
) -> None:
    _, comparison, _ = whole
    for arm in comparison.arms:
        losses = {tuned.setting["lr"]: tuned.mean_loss for tuned in arm.tuning}
        assert arm.chosen["lr"] == min(losses, key=lambda lr: losses[lr])
        assert arm.settings["lr"] == float(arm.chosen["lr"])
        for run in arm.runs:
            saved = runs.load_checkpoint(Path(run.folder)).config["decides"]
            assert (saved["lr"], saved["seed"]) == (float(arm.chosen["lr"]), run.seed)


def test_every_metric_of_the_table_is_measured_for_every_arm_and_seed(whole: tuple[Path, Comparison, Watcher]) -> None:
    _, comparison, _ = whole
    # No labels, and codeword sampling: these three cannot be.
    absent = {"bitwise_surrogate", "stored_accuracy", "sample_frechet_distance"}
    for arm in comparison.arms:
        for run in arm.runs:
            assert {name.partition("@")[0] for name in run.metrics} == METRICS.keys() - absent


def test_the_table_has_a_row_for_each_arm_seed_and_metric_with_the_closed_form_beside_it(
    whole: tuple[Path, Comparison, Watcher],
) -> None:
    folder, comparison, _ = whole
    lines = next((folder / "results").glob("*/" + TABLE)).read_text(encoding="utf-8").splitlines()
    assert lines[0] == "arm,seed,metric,value,standard_error,closed_form"
    assert len(lines) == 1 + sum(len(run.metrics) for arm in comparison.arms for run in arm.runs)
    row = next(line for line in lines if line.startswith("repetition(R=3) N=12,0,channel_bit_error_rate@0.1,"))
    assert float(row.split(",")[-1]) == pytest.approx(3 * 0.1**2 - 2 * 0.1**3)


def test_each_coded_arm_is_held_against_each_without_a_code_and_holm_runs_over_all_claims(
    whole: tuple[Path, Comparison, Watcher],
) -> None:
    _, comparison, _ = whole
    claims = [effect for effect in comparison.effects if effect.claim]
    assert [(effect.reference, effect.metric) for effect in claims] == [
        (reference, metric)
        for reference in ("uncoded N=12", "uncoded K=4")
        for metric in ("iwae", "inference_bit_error_rate", "stored_nll@0.1")
    ]
    for effect in claims:
        values = [[run.metrics[effect.metric].mean for run in arm.runs] for arm in comparison.arms]
        names = [arm.name for arm in comparison.arms]
        arm, reference = values[names.index(effect.arm)], values[names.index(effect.reference)]
        assert effect.paired.differences == [mine - theirs for mine, theirs in zip(arm, reference, strict=True)]
        # Two seeds: the least p is ½, and six claims make it 1.
        assert effect.adjusted_p_value == 1.0
        assert effect.verdict == "not shown"
    assert any("With 2 seeds no claim can be significant" in sentence for sentence in comparison.cautions)


def test_the_interval_over_images_is_that_of_the_kept_values(whole: tuple[Path, Comparison, Watcher]) -> None:
    folder, comparison, _ = whole
    there = ComparisonFolder(next((folder / "results").iterdir()))
    effect = next(effect for effect in comparison.effects if effect.metric == "elbo" and effect.reference == "uncoded K=4")
    values = [np.mean([there.arrays(arm, seed)["elbo"] for seed in (0, 1)], axis=0) for arm in (2, 1)]
    difference = (values[0] - values[1]).astype(np.float64)
    assert effect.paired.mean == pytest.approx(float(difference.mean()), abs=1e-5)
    interval = effect.paired.image_interval
    assert interval is not None
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    assert interval.low == pytest.approx(difference.mean() - 1.96 * error, abs=0.7 * error)
    assert interval.high == pytest.approx(difference.mean() + 1.96 * error, abs=0.7 * error)


def test_the_same_command_again_trains_nothing_and_leaves_the_same_bytes(whole: tuple[Path, Comparison, Watcher]) -> None:
    folder, comparison, _ = whole
    files = {path: path.read_bytes() for path in (folder / "results").rglob("comparison.*")}
    stamps = {path: path.stat().st_mtime_ns for path in (folder / "weights").rglob("*.pt")}
    watcher = Watcher()
    again = compare(config_in(folder, tune=["lr=0.01,0.03"]), watcher)
    assert not any(watcher.trained)
    assert again == comparison
    assert {path: path.read_bytes() for path in files} == files
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_without_the_weights_what_was_measured_is_enough(whole: tuple[Path, Comparison, Watcher], tmp_path: Path) -> None:
    folder, comparison, _ = whole
    shutil.copytree(folder / "results", tmp_path / "results")
    watcher = Watcher()
    options = {"dataset": folder / "bits.npy", "tune": ["lr=0.01,0.03"]}
    again = compare(config_in(tmp_path, **options), watcher)
    assert not any(watcher.trained)
    assert again == comparison
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize(
    ("run", "epoch", "finished"), [(1, None, 0), (2, 2, 0), (3, 1, 2), (7, None, 6), (8, 1, 6), (8, 3, 6), (12, 3, 10)]
)
def test_a_comparison_that_was_interrupted_goes_on_and_ends_as_one_never_interrupted(
    whole: tuple[Path, Comparison, Watcher], tmp_path: Path, run: int, epoch: int | None, finished: int
) -> None:
    folder, _, _ = whole
    options = {"dataset": folder / "bits.npy", "tune": ["lr=0.01,0.03"]}
    with pytest.raises(InterruptedRunError) as caught:
        compare(config_in(tmp_path, **options), Watcher(run, epoch))
    also = ", as are the 2 under way" if epoch else ", as is the one under way"
    assert f"{finished} of 12 runs finished; they are kept{also}." in caught.value.message
    assert caught.value.exit_code == 130
    again = Watcher()
    compare(config_in(tmp_path, **options), again)
    assert again.trained == [False] * finished + [True] * (12 - finished)
    if epoch is not None:
        assert min(reached for number, reached in again.epochs if number == run) == epoch + 1
    assert read(tmp_path) == read(folder)


@pytest.mark.usefixtures("doubled")
def test_runs_of_equal_shape_are_trained_as_one_and_the_comparison_is_what_it_is_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    options: dict[str, Any] = {"tune": ["lr=0.01,0.03", "beta_max=0.5,1"], "tune_seeds": 2, "seeds": 3}
    compare(config_in(tmp_path, **options))
    compare(config_in(tmp_path / "alone", **options, models_at_once=1))
    places = (tmp_path, tmp_path / "alone")
    ways = [json.loads(next((folder / "results").glob(f"*/{WAYS}")).read_text()) for folder in places]
    assert [{purpose: way["models"] for purpose, way in of.items()} for of in ways] == [
        {"tuning": 8, "verdict": 3},
        {"tuning": 1, "verdict": 1},
    ]
    logs = [path.read_text() for path in (tmp_path / "weights").glob(f"*/{runs.LOG}")]
    assert sorted(log.count("one of 8 runs trained as one") for log in logs) == [0] * 9 + [1] * 24
    assert sum(log.count("one of 3 runs trained as one") for log in logs) == 9
    # Training is in float64; what is measured of its weights is in float32.
    one, other = (without_labels(read(folder)) for folder in places)
    require_alike(one, other, 1e-5, 1e-6)


def without_labels(comparison: Any) -> Any:
    """Leave out where the data lay and the command that names it."""
    return {**comparison, "command": None, "data": {**comparison["data"], "label": None, "source": None}}


@pytest.mark.slow
def test_workers_make_the_same_comparison_also_where_they_were_interrupted(
    whole: tuple[Path, Comparison, Watcher], tmp_path: Path
) -> None:
    folder, _, _ = whole
    options = {"dataset": folder / "bits.npy", "tune": ["lr=0.01,0.03"], "workers": 2, "threads": 2}
    with pytest.raises(InterruptedRunError, match=r"\d of 12 runs finished; they are kept, as"):
        compare(config_in(tmp_path, **options), Watcher(8, 2))
    watcher = Watcher()
    compare(config_in(tmp_path, **options), watcher)
    assert len(watcher.trained) == 12
    assert watcher.trained[:6] == [False] * 6
    assert watcher.measured == 6
    require_alike(read(tmp_path), read(folder), 1e-4, 1e-4)
    ways = json.loads(next((tmp_path / "results").glob(f"*/{WAYS}")).read_text())
    assert {purpose: (way["workers"], way["models"]) for purpose, way in ways.items()} == {
        "tuning": (2, 1),
        "verdict": (2, 1),
    }
    assert not list(tmp_path.rglob(".lock"))


def test_data_are_loaded_and_hashed_once_for_all_runs(tmp_path: Path, data_calls: list[str]) -> None:
    compare(config_in(tmp_path))
    assert data_calls == ["load", "digest"]


def test_runs_that_train_left_in_the_folder_of_runs_are_taken_and_not_trained_again(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    done = train(config_for(tmp_path, ecc="repetition:R=3", seed=1))
    watcher = Watcher()
    comparison = compare(config, watcher)
    assert watcher.trained == [False] + [True] * 5
    assert watcher.started[0].number == 6
    assert comparison.arms[2].runs[1].folder == str(done.folder)


def test_two_arms_that_differ_in_name_alone_come_out_equal_and_it_says_so(tmp_path: Path) -> None:
    # A repetition of one copy is the uncoded model under another name.
    comparison = compare(config_in(tmp_path, ecc="none", arm=["uncoded", "repetition:R=1"], seeds=3))
    assert len(comparison.verdict) == 1
    assert "no difference" in comparison.verdict[0]
    for effect in comparison.effects:
        assert not any(effect.paired.differences)
        assert effect.verdict in (None, "not shown")


def diverging_above(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Fit.finished_epoch

    def finished(fit: Fit, training_loss: float, kl: float, validation_loss: float, seconds: float) -> EpochStats:
        return real(fit, training_loss, kl, math.nan if fit.lr > rate else validation_loss, seconds)

    monkeypatch.setattr(Fit, "finished_epoch", finished)


def test_a_setting_that_diverges_is_never_chosen_and_where_all_do_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverging_above(0.02, monkeypatch)
    comparison = compare(config_in(tmp_path, tune=["lr=0.03,0.01"], seeds=1))
    for arm in comparison.arms:
        assert arm.tuning[0].mean_loss is None
        assert arm.tuning[0].runs[0].epochs == 0
        assert arm.chosen == {"lr": "0.01"}
    with pytest.raises(DivergedError, match="Every tuned setting"):
        compare(config_in(tmp_path, tune=["lr=0.03,0.04"], seeds=1))


def test_a_run_of_the_verdict_that_diverges_ends_the_comparison_and_the_others_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"ecc": "none", "arm": ["uncoded", "repetition:R=3,lr=0.03"]}
    with monkeypatch.context() as patch:
        diverging_above(0.02, patch)
        with pytest.raises(DivergedError, match=r"repetition.*, seed 0: Training diverged in epoch 1.* So did 1 more"):
            compare(config_in(tmp_path, **options))
    again = Watcher()
    compare(config_in(tmp_path, **options), again)
    assert again.trained == [False] * 2 + [True] * 2


def test_the_default_number_of_seeds_is_the_fewest_with_which_every_claim_can_be_significant(tmp_path: Path) -> None:
    plan, _ = plan_comparison(config_in(tmp_path, seeds=None))
    assert len(plan.seeds) == 8  # 2/2⁸ ≤ 0.05/6 < 2/2⁷
    plan, _ = plan_comparison(
        config_in(tmp_path, seeds=None, noise_epsilon=[0.0], ecc="none", arm=["uncoded", "repetition:R=3"])
    )
    assert len(plan.seeds) == 7  # two claims: 2/2⁷ ≤ 0.025 < 2/2⁶


def test_what_decides_a_comparison_changes_its_folder_and_where_it_lies_does_not(tmp_path: Path) -> None:
    def digest(**options: Any) -> str:
        return plan_comparison(config_in(tmp_path, **options))[0].digest

    plain = digest()
    assert digest(output_dir=tmp_path / "elsewhere", threads=1) == plain
    changed = ({"seeds": 3}, {"iwae_samples": 5}, {"noise_epsilon": [0.1]}, {"lr": 0.02}, {"tune": ["lr=0.1"]}, {"seed": 1})
    assert len({plain, *(digest(**options) for options in changed)}) == len(changed) + 1


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "mine"
    compare(config_in(tmp_path, out=out, seeds=1))
    with pytest.raises(UsageError, match="holds another comparison"):
        compare(config_in(tmp_path, out=out, seeds=2))
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("hello")
    with pytest.raises(UsageError, match="something else than a comparison"):
        compare(config_in(tmp_path, out=tmp_path / "letters"))


def test_fewer_test_images_than_the_bins_need_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="40 test images are too few for 10 bins"):
        compare(config_in(tmp_path, calibration_bins=10))
    assert not (tmp_path / "weights").exists()


def test_the_surrogate_of_bitwise_training_is_measured_under_its_own_name_only(tmp_path: Path) -> None:
    arms = ["repetition:R=3", "repetition:R=3,sampling=bitwise"]
    comparison = compare(config_in(tmp_path, ecc="none", arm=arms, seeds=1))
    named = ["bitwise_surrogate" in arm.runs[0].metrics for arm in comparison.arms]
    assert named == [False, True]
    assert all(effect.metric != "bitwise_surrogate" for effect in comparison.effects)
