from __future__ import annotations

from pathlib import Path
from typing import Any

import bvae_cli

from ..outcome import Bvae
from .conftest import TINY


def by_name(bvae: Bvae) -> dict[str, Any]:
    return {row["name"]: row for row in bvae("datasets", "--json").succeeded().json()}


def test_every_data_set_is_a_row_with_origin_licence_and_options(bvae: Bvae) -> None:
    rows = by_name(bvae)
    assert {"binarized-mnist", "mnist", "arrays", "packed"} <= set(rows)
    for row in rows.values():
        assert row["origins"] == [f"bvae-cli {bvae_cli.__version__}"]
        assert row["problem"] is None
        assert row["licence"]
    assert rows["arrays"]["options"]["path"]["required"]
    assert not rows["arrays"]["options"]["validation"]["required"]


def test_the_table_says_the_same(bvae: Bvae) -> None:
    shown = bvae("datasets").succeeded().out
    for name in ("binarized-mnist", "mnist", "arrays", "packed"):
        (row,) = [line for line in shown.splitlines() if line.startswith(f" {name} ")]
        assert row.rstrip().endswith("ok")
    licences = {name: row["licence"] for name, row in by_name(bvae).items()}
    assert "licence" in shown.splitlines()[1]
    for name, licence in licences.items():
        assert any(line.startswith(f" {name} ") and licence in line for line in shown.splitlines())


def test_a_packed_file_is_trained_on_as_what_it_was_packed_from(bvae: Bvae, workplace: Path) -> None:
    outcome = bvae("datasets", "pack", "bits.npy", "packed.npz").succeeded()
    for words in ("48 training, 6 validation, 6 test", "12 bits, 12", "packed.npz"):
        assert words in outcome.out
    assert "bvae train --dataset packed.npz" in outcome.err
    assert bvae("train", *TINY, "--json").succeeded().json()["state"] == "finished"
    again = ("packed.npz" if word == "bits.npy" else word for word in TINY)
    assert bvae("train", *again, "--json").succeeded().json()["state"] == "already finished"


def test_what_was_packed_is_one_object(bvae: Bvae, workplace: Path) -> None:
    facts = bvae("datasets", "pack", "bits.npy", "packed.npz", "--json", "-q").succeeded().json()
    assert (facts["file"], facts["training_rows"], facts["features"]) == ("packed.npz", 48, 12)
    assert facts["bytes"] == Path("packed.npz").stat().st_size


def test_a_packed_file_is_written_anew_only_when_asked(bvae: Bvae, workplace: Path) -> None:
    Path("packed.npz").write_bytes(b"mine")
    bvae("datasets", "pack", "bits.npy", "packed.npz").refused(2, "packed.npz is there already", "--overwrite")
    assert Path("packed.npz").read_bytes() == b"mine"
    bvae("datasets", "pack", "bits.npy", "packed.npz", "--overwrite").succeeded()
    assert Path("packed.npz").read_bytes().startswith(b"PK")


def test_data_that_cannot_be_packed_are_refused(bvae: Bvae, workplace: Path) -> None:
    bvae("datasets", "pack", "none.npy", "p.npz").refused(3, "There is no file none.npy")
    bvae("datasets", "pack", "mnst", "p.npz").refused(2, "Did you mean 'mnist'?")
    Path("grey.csv").write_text("0.5,1\n" * 5)
    bvae("datasets", "pack", "grey.csv", "p.npz").refused(2, "not all bits")
    assert not Path("p.npz").exists()
