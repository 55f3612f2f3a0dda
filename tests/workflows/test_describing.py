"""What is drawn of a data set: whole lines of each split, and no value where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bvae_cli.config import PluginRef
from bvae_cli.workflows.describing import Description, describe


def description_of(folder: Path, rows: np.ndarray) -> Description:
    np.save(folder / "rows.npy", rows)
    return describe(PluginRef(type="arrays", options={"path": str(folder / "rows.npy")}), columns=4, lines=2)


def test_each_split_fills_whole_lines_with_what_is_no_value(tmp_path: Path) -> None:
    description = description_of(tmp_path, np.eye(30)[:, :5])
    assert description.lines == (2, 1, 1)
    assert description.columns == 4
    blank = description.rows.isnan()
    assert blank.all(1).nonzero().flatten().tolist() == [11, 15]
    assert blank.any(1).sum() == 2


def test_values_that_are_all_the_same_are_grey(tmp_path: Path) -> None:
    np.save(tmp_path / "same.npy", np.full((30, 2), 7.0))
    options = {"path": str(tmp_path / "same.npy"), "likelihood": "gaussian"}
    rows = describe(PluginRef(type="arrays", options=options), columns=4, lines=1).rows
    assert rows[:4].unique().tolist() == pytest.approx([0.5])
