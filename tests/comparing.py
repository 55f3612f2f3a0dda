"""Records of comparisons made by hand, for the tests of what is said and drawn of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bvae_cli.comparisons import (
    TIMES,
    ArmRecord,
    Comparison,
    ComparisonFolder,
    Curve,
    Data,
    Protocol,
    RunRecord,
    TunedSetting,
    TuningRun,
)
from bvae_cli.evaluation.inference import Reliability
from bvae_cli.evaluation.statistics import Estimate
from bvae_cli.workflows.verdict import cautions_of, effects_of, verdict_of


def protocol_of(seeds: int, **changed: Any) -> Protocol:
    values: dict[str, Any] = {
        "seeds": list(range(seeds)),
        "tuned": ["lr"],
        "tuning_seeds": [1_000_000],
        "settings": {"epochs": 5},
        "evaluation_rows": 100,
        "iwae_samples": 64,
        "noise_epsilon": [0.0, 0.1],
        "calibration_bins": 2,
        "bootstrap_samples": 100,
        "claims": ["iwae"],
        "alpha": 0.05,
        "finished_models": False,
    }
    return Protocol(**(values | changed))


def arm_record(name: str, code: str, stopped: str = "no improvement for 3 epochs", **metrics: list[float]) -> ArmRecord:
    """Return an arm with the given values of its metrics, a list of one value for each seed."""
    runs = [
        RunRecord(
            seed=seed,
            digest=f"{name}-{seed}",
            folder=f"weights/{name}-{seed}",
            stopped=stopped,
            epochs=3,
            best_epoch=2,
            validation_loss=99.0 - seed,
            curve=Curve(training=[110.0, 100.0, 98.0], validation=[108.0, 99.0 - seed, 99.5]),
            metrics={metric: Estimate(values[seed]) for metric, values in metrics.items()},
            reliability=Reliability(share=[0.25, 0.75], confidence=[0.6, 0.9], accuracy=[0.5, 0.95]),
            versions={"torch": "2.13.0"},
        )
        for seed in range(len(next(iter(metrics.values()))))
    ]
    return ArmRecord(
        name=name,
        code=code,
        code_digest="c0de",
        latent=12,
        information_bits=4,
        rate=1 / 3,
        hidden=8,
        depth=1,
        parameters=424,
        flop_per_image=2304,
        settings={"ecc": {"type": code, "options": {}}, "lr": 0.003, "seed": None},
        note=None,
        tuning=[],
        chosen={},
        closed_forms={},
        closed_form_curves={},
        runs=runs,
    )


def comparison_of(arms: list[ArmRecord] | None = None, **changed: Any) -> Comparison:
    """Return a comparison of an uncoded and a coded arm of three seeds, with what a report draws."""
    if arms is None:
        values = {
            "elbo": [-101.0, -102.0, -101.5],
            "iwae": [-95.0, -96.0, -95.5],
            "inference_bit_error_rate": [0.10, 0.11, 0.12],
            "calibration_error": [0.01, 0.02, 0.015],
            "channel_bit_error_rate@0": [0.0, 0.0, 0.0],
            "channel_bit_error_rate@0.1": [0.1, 0.101, 0.099],
            "channel_word_error_rate@0": [0.0, 0.0, 0.0],
            "channel_word_error_rate@0.1": [0.3, 0.31, 0.29],
            "stored_nll@0": [80.0, 81.0, 80.5],
            "stored_nll@0.1": [120.0, 121.0, 120.5],
            "stored_psnr@0": [15.0, 15.1, 15.2],
            "stored_psnr@0.1": [12.0, 12.1, 12.2],
            "stored_bit_error_rate@0": [0.0, 0.0, 0.0],
            "stored_bit_error_rate@0.1": [0.1, 0.1, 0.1],
            "parameters": [424.0] * 3,
        }
        better = {
            name: [value * 0.9 for value in of] if of[0] > 0 else [value + 1 for value in of] for name, of in values.items()
        }
        arms = [arm_record("uncoded N=12", "none", **values), arm_record("repetition(R=3) N=12", "repetition", **better)]
        known = {"channel_bit_error_rate@0.1": 0.028}
        curve = {"epsilon": [0.01, 0.1, 0.5], "channel_bit_error_rate": [0.0003, 0.028, 0.5]}
        arms[1] = arms[1].model_copy(update={"closed_forms": known, "closed_form_curves": curve})
    told = {name: changed.pop(name) for name in ("noise_epsilon", "tuned", "claims") if name in changed}
    claims = {"claims": ["iwae", "inference_bit_error_rate", "stored_nll@0.1"]}
    protocol = protocol_of(len(arms[0].runs), **(claims | told))
    grid = [
        TunedSetting(
            setting={"lr": lr}, runs=[TuningRun(seed=1_000_000, digest="d", epochs=3, validation_loss=loss)], mean_loss=loss
        )
        for lr, loss in (("0.001", 101.0), ("0.003", 99.0), ("0.01", 105.0))
    ]
    if protocol.tuned:
        arms = [arm.model_copy(update={"tuning": grid, "chosen": {"lr": "0.003"}}) for arm in arms]
    effects = effects_of(arms, protocol, lambda arm, seed: {})
    values_ = {
        "digest": "d1ge57",
        "command": "bvae compare -n 5 --ecc repetition --R 3",
        "data": Data(
            label="arrays:path=bits.npy",
            digest="da7a",
            source="bits.npy",
            likelihood="bernoulli",
            features=12,
            feature_shape=[12],
            training_rows=320,
            validation_rows=40,
            test_rows=40,
            classifier_accuracy=0.97,
        ),
        "protocol": protocol,
        "arms": arms,
        "effects": effects,
        "verdict": verdict_of(arms, effects, protocol),
        "cautions": cautions_of(arms, effects, protocol),
        "machine": {"bvae": "0.1.0", "torch": "2.13.0", "python": "3.11.7", "system": "Linux", "device": "cpu"},
    }
    return Comparison(**(values_ | changed))


def keep_pictures(folder: ComparisonFolder, comparison: Comparison) -> None:
    """Write the arrays that a report takes its pictures from."""
    names = ("original", "stored", "stored_noisy", "samples")
    for index, arm in enumerate(comparison.arms):
        folder.save_evaluation(index, arm.runs[0], {f"picture_{name}": np.full((4, 12), 0.5) for name in names})


def require_alike(one: Any, other: Any, relative: float, absolute: float, where: str = "") -> None:
    """Compare plain values: numbers within the tolerances, everything else exactly, but for times and folders."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name in one.keys() - TIMES - {"folder"}:
            require_alike(one[name], other[name], relative, absolute, f"{where}/{name}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for index, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            require_alike(mine, theirs, relative, absolute, f"{where}/{index}")
    elif isinstance(one, float) and isinstance(other, float):
        assert math.isclose(one, other, rel_tol=relative, abs_tol=absolute), f"{where}: {one} and {other}"
    else:
        assert one == other, where
