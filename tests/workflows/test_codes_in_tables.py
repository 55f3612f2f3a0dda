"""What ``encode`` writes into a table, ``decode`` and ``search`` read as they read the same in an array."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bvae_cli
from bvae_cli import extras
from bvae_cli.errors import UsageError
from bvae_cli.trained import DecodeConfig, SearchConfig
from bvae_cli.workflows import encode as encode_module
from bvae_cli.workflows import encoded_files
from bvae_cli.workflows.observing import TrainResult

pytest.importorskip("pyarrow")

WRITTEN: dict[str, dict[str, Any]] = {
    "words": {"write": "codewords"},
    "packed": {"write": "codewords", "packed": True},
    "information": {},
    "packed information": {"packed": True},
    "logits": {"write": "code-logits"},
    "half": {"write": "code-logits", "precision": "float16"},
    "information logits": {"write": "logits"},
}


@pytest.fixture
def place(trained: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that ``encode`` can write of all rows, in arrays and in tables of several groups of rows."""
    monkeypatch.setattr(encode_module, "_ROWS", 7)
    monkeypatch.setattr(encoded_files, "_ROWS_OF_A_GROUP", 20)
    monkeypatch.chdir(tmp_path)
    for name, options in WRITTEN.items():
        for suffix in ("npy", "parquet"):
            bvae_cli.encode(trained.folder, f"{name}.{suffix}", **options)
    return tmp_path


def facts_of(result: Any) -> dict[str, Any]:
    """Return a result without its times and the names of its files."""
    facts = dataclasses.asdict(result)
    others = ("codes", "queries", "file", "unsure_file", "seconds")
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in facts.items()
        if name not in others
    }


DECODED: tuple[dict[str, Any], ...] = ({}, {"write": "codewords", "packed": True}, {"write": "probabilities"})


@pytest.mark.parametrize(
    ("written", "options"),
    [
        *((written, options) for written in ("words", "packed", "logits", "half") for options in DECODED),
        ("words", {"flip": 0.1}),
        ("packed", {"flip": 0.1}),
        ("packed information", {"write": "probabilities"}),
        ("information logits", {"write": "codewords"}),
    ],
    ids=str,
)
def test_a_table_is_decoded_to_the_bytes_that_an_array_is(
    place: Path, trained: TrainResult, written: str, options: dict[str, Any]
) -> None:
    results = [
        bvae_cli.decode(
            f"{written}.{suffix}",
            weights=trained.folder,
            output=f"{suffix}.out.npy",
            unsure=f"{suffix}.unsure.npy",
            **options,
        )
        for suffix in ("npy", "parquet")
    ]
    assert facts_of(results[0]) == facts_of(results[1])
    for kind in ("out", "unsure"):
        assert Path(f"npy.{kind}.npy").read_bytes() == Path(f"parquet.{kind}.npy").read_bytes()


@pytest.mark.parametrize(
    ("query", "codes"),
    [
        ("words", "packed"),
        ("packed", "words"),
        ("information", "packed"),
        ("packed information", "information"),
        ("logits", "words"),
        ("half", "packed information"),
        ("information logits", "information"),
    ],
)
def test_a_table_is_searched_as_an_array_is(place: Path, trained: TrainResult, query: str, codes: str) -> None:
    results = [
        bvae_cli.search(f"{codes}.{of_codes}", f"{query}.{of_query}", weights=trained.folder, rows="0-8,50,3", neighbours=4)
        for of_codes, of_query in (("npy", "npy"), ("npy", "parquet"), ("parquet", "npy"), ("parquet", "parquet"))
    ]
    for other in results[1:]:
        assert facts_of(other) == facts_of(results[0])


def test_encoded_rows_find_themselves_in_a_table(place: Path, trained: TrainResult) -> None:
    result = bvae_cli.search("packed.parquet", weights=trained.folder, split="all", neighbours=1)
    assert (result.distances == 0).all()


def test_without_pyarrow_tables_are_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "_is_installed", lambda package: False)
    for configure in (
        lambda: DecodeConfig(codes=Path("codes.parquet")),
        lambda: SearchConfig(codes=Path("codes.parquet")),
        lambda: SearchConfig(codes=Path("codes.npy"), query=Path("query.parquet")),
    ):
        with pytest.raises(UsageError, match=r"pyarrow is not installed.*\n.*bvae-cli\[parquet\]"):
            configure()
    assert DecodeConfig(codes=Path("codes.npy")).codes == Path("codes.npy")
