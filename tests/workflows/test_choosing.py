"""How to compute: what is asked for is done, what is measured is kept, and nothing of it changes what a run learns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bvae_cli import processor
from bvae_cli.codes.hamming import Hamming
from bvae_cli.config import TrainConfig
from bvae_cli.errors import UsageError
from bvae_cli.workflows import choosing
from bvae_cli.workflows.choosing import compiler_problem, computing_of
from bvae_cli.workflows.fit import Fit
from bvae_cli.workflows.train import train
from tests.helpers import small_model

DATA = (torch.rand(40, 5, generator=torch.Generator().manual_seed(1)) < 0.4).to(torch.uint8)
LONG, SHORT = 10_000, 10


@pytest.fixture(autouse=True)
def _machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine of two threads where nothing has been measured."""
    monkeypatch.setenv("BVAE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def trial(compiled: bool) -> Fit:
    return Fit(small_model(Hamming(r=3).build(7)), DATA, DATA[:1], epochs=5, batch_size=10, lr=0.01, compiled=compiled)


def chosen(steps: int = LONG, device: str = "cpu", **options: object) -> choosing.Computing:
    config = TrainConfig.model_validate({"ecc": "none", **options})
    return computing_of(config, "a shape", device, "float32", steps, trial)


def test_the_threads_that_are_asked_for_are_taken_without_a_measurement() -> None:
    computing = chosen(threads=1, compile="off")
    assert (computing.threads, computing.threads_reason, torch.get_num_threads()) == (1, "asked for", 1)
    assert processor.recalled("threads of 2, a shape") is None


def test_the_variable_of_openmp_decides_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert chosen(compile="off").threads_reason == "OMP_NUM_THREADS is set"


def test_a_short_run_and_another_device_measure_nothing() -> None:
    assert chosen(SHORT, compile="off").threads == 2
    assert "10 steps" in chosen(SHORT, compile="off").threads_reason
    assert chosen(device="cuda", compile="off").threads == 2
    assert processor.recalled("threads of 2, a shape") is None


def test_a_long_run_takes_the_fastest_number_and_measures_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    computing = chosen(compile="off")
    rates = processor.recalled("threads of 2, a shape")
    assert rates is not None
    assert set(rates) == {"1", "2"}
    assert computing.threads == max((1, 2), key=lambda count: rates[str(count)])
    assert torch.get_num_threads() == computing.threads
    torch.set_num_threads(2)
    monkeypatch.setattr(choosing, "_rates", lambda *_: pytest.fail("it was measured before"))
    assert chosen(compile="off") == computing


@pytest.mark.parametrize(("rates", "best"), [({"1": 5.0, "2": 4.0}, 1), ({"1": 2.0, "2": 4.0}, 2)])
def test_what_was_measured_decides_and_is_said(rates: dict[str, float], best: int) -> None:
    processor.remember("threads of 2, a shape", rates)
    computing = chosen(compile="off")
    assert computing.threads == best
    assert computing.threads_reason == f"measured: {max(rates.values()) / min(rates.values()):.2g} × as fast as {3 - best}"


def test_of_several_processes_none_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "_rates", lambda *_: pytest.fail("it was measured"))
    config = TrainConfig.model_validate({"ecc": "none"})
    computing = computing_of(config, "a shape", "cpu", "float32", LONG, trial, processes=3)
    assert str(computing) == (
        "2 CPU threads (3 processes share the machine), not compiled (3 processes exchange their gradients in every step)"
    )
    asked = TrainConfig.model_validate({"ecc": "none", "threads": 1, "compile": "off"})
    said = str(computing_of(asked, "a shape", "cpu", "float32", LONG, trial, 3))
    assert said == "1 CPU thread (asked for), not compiled (asked for)"


def test_candidates_are_the_powers_of_two_and_all() -> None:
    assert [choosing._candidates(most) for most in (1, 2, 3, 6, 8)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4, 6], [1, 2, 4, 8]]


def test_compiling_where_there_is_no_compiler_is_refused_and_auto_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UsageError, match="no C\\+\\+ compiler"):
        chosen(compile="on")
    computing = chosen(threads=1)
    assert (computing.compiled, computing.compiled_reason) == (False, "there is no C++ compiler")
    assert str(computing) == "1 CPU thread (asked for), not compiled (there is no C++ compiler)"


def test_what_has_no_whole_step_cannot_be_compiled() -> None:
    for device, precision, processes, word in (
        ("cpu", "float32", 2, "2 processes"),
        ("cuda", "float16", 1, "float16"),
        ("mps", "float32", 1, "mps"),
    ):
        assert word in str(compiler_problem(device, precision, processes))
    config = TrainConfig.model_validate({"ecc": "none", "compile": "on"})
    with pytest.raises(UsageError, match="2 processes exchange"):
        computing_of(config, "a shape", "cpu", "float32", LONG, trial, 2)


def test_a_run_too_short_to_repay_it_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "compiler_problem", lambda *_: None)
    monkeypatch.setattr(choosing, "_tried", lambda _: pytest.fail("it was tried"))
    assert "10 steps" in chosen(SHORT).compiled_reason
    # Two thousand steps of this model take a second or two.
    assert "too short to repay it" in chosen(2000).compiled_reason


def test_what_was_too_short_once_is_so_while_the_machine_has_more_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "compiler_problem", lambda *_: None)
    monkeypatch.setattr(choosing, "_tried", lambda _: pytest.fail("it was tried"))
    monkeypatch.setattr(choosing, "_seconds_of_a_step", lambda fit: 0.1)
    first = chosen(2000, threads=1)
    monkeypatch.setattr(choosing, "_seconds_of_a_step", lambda fit: 1.0)
    assert chosen(2000, threads=1) == first
    assert first.compiled_reason == "a run of about 200 s is too short to repay it"


@pytest.mark.parametrize(
    ("ratio", "seconds", "compiled", "word"),
    [
        (1.5, 20.0, True, "1.5 × as fast"),
        (0.8, 20.0, False, "0.8 × as fast"),
        (0.0, 20.0, False, "fails"),
        # Ten thousand seconds less the two thirds of them that it would take: not twice what compiling takes.
        (1.5, 2000.0, False, "does not repay 2000 s of compiling in about 10000 s"),
    ],
)
def test_a_long_run_is_compiled_where_that_was_measured_to_pay(
    monkeypatch: pytest.MonkeyPatch, ratio: float, seconds: float, compiled: bool, word: str
) -> None:
    monkeypatch.setattr(choosing, "compiler_problem", lambda *_: None)
    monkeypatch.setattr(choosing, "_seconds_of_a_step", lambda fit: 1.0)
    monkeypatch.setattr(choosing, "_tried", lambda _: {"ratio": ratio, "step": 1.0, "seconds": seconds})
    computing = chosen(threads=1)
    assert computing.compiled is compiled
    assert word in computing.compiled_reason
    tried: list[int] = []
    monkeypatch.setattr(choosing, "_tried", lambda _: tried.append(1) or {"ratio": 0.0, "step": 1.0, "seconds": 0.0})
    # What was measured is kept, a failure is not: the compiler may be mended.
    assert chosen(threads=1) == computing
    assert len(tried) == (ratio == 0)


def test_a_measurement_with_other_threads_does_not_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "compiler_problem", lambda *_: None)
    monkeypatch.setattr(choosing, "_seconds_of_a_step", lambda fit: 1.0)
    for threads, ratio in ((1, 1.5), (2, 0.5)):
        monkeypatch.setattr(choosing, "_tried", lambda _, ratio=ratio: {"ratio": ratio, "step": 1.0, "seconds": 20.0})
        assert chosen(threads=threads).compiled is (ratio > 1)


def test_what_is_tried_is_how_much_faster_compiled_steps_are_and_how_long_compiling_took(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = {"now": 0.0}

    class Timed:
        steps_per_epoch = 4

        def __init__(self, first: float, later: float) -> None:
            self.seconds = [first, *[later] * 20]

        def train_epoch(self) -> None:
            clock["now"] += self.seconds.pop(0)

    monkeypatch.setattr(choosing.time, "perf_counter", lambda: clock["now"])
    tried = choosing._tried(lambda compiled: Timed(30.0, 2.0) if compiled else Timed(5.0, 3.0))
    assert tried == {"ratio": 1.5, "step": 0.75, "seconds": 30.0}


def test_a_compiler_that_fails_is_not_used() -> None:
    class Broken:
        steps_per_epoch = 4

        def train_epoch(self) -> None:
            raise UsageError("The step cannot be compiled: ld: cannot find -lgomp")

    assert choosing._tried(lambda compiled: Broken() if compiled else trial(False))["ratio"] == 0.0


def test_the_trials_leave_the_run_as_it_would_have_been(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "_STEPS_WORTH_A_MEASUREMENT", 1)
    weights = []
    for folder, options in (("measured", {"compile": "auto"}), ("plain", {"compile": "off", "threads": 2})):
        values = {"dataset": "bits.npy", "hidden": 8, "latent": 4, "depth": 1, "epochs": 2, "batch_size": 7, **options}
        result = train(TrainConfig.model_validate({**values, "output_dir": folder}))
        weights.append((result.folder / "bvae_best_model_with.pt").read_bytes())
    assert processor.recalled("products") is not None
    assert weights[0] == weights[1]
