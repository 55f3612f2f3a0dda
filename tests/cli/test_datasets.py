from __future__ import annotations

from typing import Any

import bvae_cli

from ..outcome import Bvae


def by_name(bvae: Bvae) -> dict[str, Any]:
    return {row["name"]: row for row in bvae("datasets", "--json").succeeded().json()}


def test_every_data_set_is_a_row_with_origin_licence_and_options(bvae: Bvae) -> None:
    rows = by_name(bvae)
    assert {"binarized-mnist", "mnist", "arrays"} <= set(rows)
    for row in rows.values():
        assert row["origins"] == [f"bvae-cli {bvae_cli.__version__}"]
        assert row["problem"] is None
        assert row["licence"]
    assert rows["arrays"]["options"]["path"]["required"]
    assert not rows["arrays"]["options"]["validation"]["required"]


def test_the_table_says_the_same(bvae: Bvae) -> None:
    shown = bvae("datasets").succeeded().out
    for name in ("binarized-mnist", "mnist", "arrays"):
        (row,) = [line for line in shown.splitlines() if line.startswith(f" {name} ")]
        assert row.rstrip().endswith("ok")
    licences = {name: row["licence"] for name, row in by_name(bvae).items()}
    assert "licence" in shown.splitlines()[1]
    for name, licence in licences.items():
        assert any(line.startswith(f" {name} ") and licence in line for line in shown.splitlines())
