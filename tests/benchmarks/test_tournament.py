"""Contenders in turn, and what they compute."""

import json
import math
import subprocess
import sys
from typing import ClassVar

import performance
import pytest
import torch
from timing import tournament as module
from timing.setting import Scale, Setting
from timing.slow_path import training_loss

from bvae_cli.codes.uncoded import Uncoded
from bvae_cli.model.bvae import BinaryVAE
from bvae_cli.model.networks import Architecture
from bvae_cli.model.objective import training_losses


class Noted:
    """A contestant that notes when it was started, warmed up and given turns."""

    said: ClassVar[list[tuple[str, str]]] = []

    def __init__(self, setting):
        self.setting, self.missing, self.turns = setting, None, 0

    def imported(self):
        pass

    def warm_up(self):
        self.said.append(("warm", self.setting.implementation))

    def take_turn(self, seconds):
        assert seconds == 1.5
        self.said.append(("turn", self.setting.implementation))

    def dismiss(self):
        pass

    def close(self):
        self.said.append(("end", self.setting.implementation))

    def record(self):
        return {"implementation": self.setting.implementation}


def test_every_round_visits_every_contender_once_and_begins_with_another(monkeypatch):
    monkeypatch.setattr(module, "Contestant", Noted)
    monkeypatch.setattr(Noted, "said", [])
    names = list("abcdef")
    records = module.tournament([Setting(name) for name in names], Scale(rounds=3, seconds=1.5))
    assert [one["implementation"] for one in records] == names
    kinds, order = zip(*Noted.said, strict=True)
    # All are warm before the first turn, and live until after the last.
    assert list(kinds) == ["warm"] * 6 + ["turn"] * 18 + ["end"] * 6
    rounds = ["".join(order[start : start + 6]) for start in (6, 12, 18)]
    assert rounds == ["abcdef", "cdefab", "efabcd"]


def test_all_processes_end_when_one_cannot_go_on(monkeypatch):
    monkeypatch.setattr(module, "Contestant", Noted)
    monkeypatch.setattr(Noted, "said", [])
    monkeypatch.setattr(Noted, "take_turn", lambda self, seconds: math.sqrt(-1))
    with pytest.raises(ValueError, match="math domain"):
        module.tournament([Setting("a"), Setting("b")], Scale(rounds=1))
    assert Noted.said[-2:] == [("end", "a"), ("end", "b")]


def test_the_slow_path_has_the_loss_and_the_gradient_of_ours():
    torch.manual_seed(0)
    model = BinaryVAE(Uncoded().build(6), torch.full((20,), 0.3), Architecture(hidden=8, depth=2)).double()
    x, uniform = (torch.rand(5, 20) < 0.4).double(), torch.rand(5, 6).double()
    ours = training_losses(model, x, uniform, "reinmax", "codeword", 1.0).total(0.7, 0.01)
    slow = training_loss(model, x, uniform, 0.7)
    torch.testing.assert_close(slow, ours, rtol=1e-10, atol=0)
    gradients = [torch.autograd.grad(loss, list(model.parameters())) for loss in (slow, ours)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)
        assert one.abs().max() > 0


@pytest.mark.slow
def test_processes_work_in_turn_and_one_that_cannot_says_why():
    settings = [Setting("ours-fp32"), Setting("yardstick"), Setting("unheard of"), Setting("yardstick", device="cuda")]
    scale = Scale(rounds=2, seconds=0.01, quick=True)
    fitted = [scale.fitted(one)._replace(device=one.device) for one in settings]
    with module.contestants(fitted) as contestants:
        for one in contestants * 2:
            one.take_turn(0.01)
        records = [one.record() for one in contestants]
        processes = [one._process for one in contestants]
    for one in records[:2]:
        assert len(one["rates"]) == 2
        assert min(one["rates"]) > 0
    assert "KeyError" in records[2]["missing"]
    if not torch.cuda.is_available():
        assert records[3]["missing"] == "no CUDA device is there"
    assert all(process.poll() is not None for process in processes)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [["training", "quality"], ["sweeps"], ["start", "cuda", "many-seeds", "large-data"]])
def test_a_quick_run_goes_through_and_writes_data_and_page(tmp_path, parts):
    command = [sys.executable, performance.__file__, "--quick", "--docs", str(tmp_path), "--parts", *parts]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    data = json.loads((tmp_path / "data" / "performance.json").read_text())
    assert list(data["parts"]) == parts
    assert all(part["quick"] for part in data["parts"].values())
    ours = [one for part in data["parts"].values() for one in part.get("records", []) if one["implementation"] != "pythae"]
    assert [one["missing"] for one in ours if "missing" in one and "compiled" not in one["implementation"]] == []
    assert performance.main(["--check", "--docs", str(tmp_path)]) == 0
