from __future__ import annotations

import bvae_cli

from ..outcome import Bvae


def test_every_code_is_a_row_with_origin_version_and_options(bvae: Bvae) -> None:
    rows = {row["name"]: row for row in bvae("codes", "--json").succeeded().json()}
    assert {"none", "repetition"} <= set(rows)
    for row in rows.values():
        assert row["origins"] == [f"bvae-cli {bvae_cli.__version__}"]
        assert row["problem"] is None
        assert row["summary"]
    assert rows["none"]["options"] == {}
    copies = rows["repetition"]["options"]["R"]
    assert (copies["required"], copies["default"]) == (False, "3")
    assert "opies" in copies["description"]


def test_the_table_says_the_same(bvae: Bvae) -> None:
    outcome = bvae("codes").succeeded()
    assert outcome.err == ""
    (row,) = [line for line in outcome.out.splitlines() if line.startswith(" repetition ")]
    assert f"bvae-cli {bvae_cli.__version__}" in row
    assert "R=3" in row
    assert row.rstrip().endswith("ok")


def test_an_option_that_is_not_there_is_refused(bvae: Bvae) -> None:
    bvae("codes", "--jsn").refused(2, "--jsn", "--json")
    bvae("codes", "repetition").refused(2, "repetition")
