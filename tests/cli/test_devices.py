from __future__ import annotations

import pytest
import torch

from ..outcome import Bvae


def test_the_devices_the_choice_and_the_variables_are_shown(bvae: Bvae, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISABLE_AMP", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    shown = bvae("devices").succeeded().out
    for words in ("cpu", "chosen", "no GPU is there", "float32", torch.__version__, "DISABLE_AMP", "'1'", "not set"):
        assert words in shown
    facts = bvae("devices", "--json").succeeded().json()
    assert facts["chosen"]["device"] == "cpu"
    assert facts["chosen"]["precision_reason"] == "DISABLE_AMP is set"
    assert facts["devices"][0]["device"] == "cpu"
    assert facts["variables"]["DISABLE_AMP"] == "1"
