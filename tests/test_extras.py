"""What an extra brings along is asked for by name, and nothing is imported to know whether it is there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bvae_cli.errors import UsageError
from bvae_cli.extras import require_extra


def test_packages_that_are_there_are_not_imported() -> None:
    sys.modules.pop("this", None)
    require_extra("any", "this", "json")
    assert "this" not in sys.modules


def test_a_missing_package_is_named_with_the_extra_that_brings_it() -> None:
    with pytest.raises(UsageError) as caught:
        require_extra("onnx", "json", "no_such_package_1", "no_such_package_2")
    assert caught.value.message == "no_such_package_1 and no_such_package_2 are not installed."
    assert caught.value.hint == "pip install 'bvae-cli[onnx]'"
    with pytest.raises(UsageError, match=r"^no_such_package_1 is not installed\."):
        require_extra("onnx", "no_such_package_1")


def test_a_folder_of_that_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no_such_package_3").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="not installed"):
        require_extra("onnx", "no_such_package_3")
