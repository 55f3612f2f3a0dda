"""A file of safetensors is read as it was written, or refused; a stranger's header is believed nothing."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bvae_cli import runs
from bvae_cli.checkpoints import exported_bytes, read_weights, weights_bytes
from bvae_cli.errors import InputOutputError, UsageError
from bvae_cli.safetensors_files import SUFFIX, read_safetensors, safetensors_bytes
from bvae_cli.torch_files import UnreadableError

from .helpers import property_settings
from .test_checkpoints import CONFIG, WEIGHTS

pytest.importorskip("safetensors")  # an extra
# Another order than that of their names.
TENSORS = {"w": WEIGHTS["w"], "bits": WEIGHTS["bits"], "a": torch.tensor(3.5, dtype=torch.float64)}


def parts_of(content: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def of_parts(header: Any, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_weights_come_back_with_their_facts_and_anybody_reads_them(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    path = tmp_path / f"model{SUFFIX}"
    path.write_bytes(exported_bytes(CONFIG, TENSORS))
    back = read_weights(path)
    assert back.config == CONFIG
    assert back.weights.keys() == TENSORS.keys()
    assert all(torch.equal(back.weights[name], value) for name, value in TENSORS.items())
    assert {name: value.dtype for name, value in load_file(path).items()} == {n: v.dtype for n, v in TENSORS.items()}


def test_equal_weights_are_equal_bytes_in_whatever_order_they_come() -> None:
    turned = dict(reversed([(name, value.clone()) for name, value in TENSORS.items()]))
    assert len({exported_bytes(CONFIG, weights) for weights in (TENSORS, turned) for _ in range(5)}) == 1


def test_weights_of_torch_and_of_safetensors_turn_into_each_other(tmp_path: Path) -> None:
    first, second = tmp_path / "a.pt", tmp_path / "b.safetensors"
    first.write_bytes(weights_bytes(CONFIG, TENSORS))
    second.write_bytes(exported_bytes(read_weights(first).config, read_weights(first).weights))
    first.write_bytes(weights_bytes(read_weights(second).config, read_weights(second).weights))
    assert read_weights(first).config == CONFIG
    assert all(torch.equal(read_weights(first).weights[name], value) for name, value in TENSORS.items())


def test_the_folder_of_an_export_stands_for_its_weights(tmp_path: Path) -> None:
    for name in reversed(runs.EXPORTED_WEIGHTS.values()):
        (tmp_path / name).write_bytes(b"")
        assert runs.weights_file(tmp_path) == tmp_path / name
    (tmp_path / runs.WEIGHTS).write_bytes(b"")
    assert runs.weights_file(tmp_path) == tmp_path / runs.WEIGHTS


def test_a_file_of_which_one_bit_is_another_is_refused_or_the_same(tmp_path: Path) -> None:
    whole, path = exported_bytes(CONFIG, TENSORS), tmp_path / "x.safetensors"
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            back = read_weights(path)
        except InputOutputError:
            continue
        # Spaces fill the header up.
        assert back.config == CONFIG
        assert all(torch.equal(back.weights[name], value) for name, value in TENSORS.items())


def _with_facts(**facts: Any) -> bytes:
    header, data = parts_of(exported_bytes(CONFIG, TENSORS))
    told = json.loads(header["__metadata__"]["bvae"])
    told.update(facts)
    header["__metadata__"]["bvae"] = json.dumps({name: value for name, value in told.items() if value is not None})
    return of_parts(header, data)


def _with_header(**changes: Any) -> bytes:
    header, data = parts_of(exported_bytes(CONFIG, TENSORS))
    return of_parts({**header, **changes}, data)


DEEP = b'{"a":' * 5000 + b"1" + b"}" * 5000
FOREIGN: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "damaged or cut short"),
    "a length alone": (struct.pack("<Q", 8), "damaged or cut short"),
    "a length that lies": (struct.pack("<Q", 2**62) + b"{}", "damaged or cut short"),
    "a length that lies a little": (struct.pack("<Q", 3) + b"{}", "damaged or cut short"),
    "a header of another kind": (of_parts([], b""), "damaged or cut short"),
    "a deep header": (of_parts(DEEP, b""), "damaged or cut short"),
    "a header that is no text": (of_parts(b"\xff\xfe{}", b""), "damaged or cut short"),
    "a tensor beyond the end": (
        _with_header(w={"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}),
        "damaged or cut short",
    ),
    "a shape that overflows": (
        _with_header(w={"dtype": "F32", "shape": [2**33, 2**33, 0], "data_offsets": [0, 0]}),
        "damaged or cut short",
    ),
    "a type that nobody knows": (
        _with_header(w={"dtype": "F77", "shape": [6], "data_offsets": [0, 24]}),
        "damaged or cut short",
    ),
    "tensors over each other": (
        _with_header(v={"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}),
        "damaged or cut short",
    ),
    "a byte more": (exported_bytes(CONFIG, TENSORS) + b"x", "damaged or cut short"),
    "metadata of another kind": (_with_header(__metadata__=["bvae"]), "damaged or cut short"),
    "facts that are no JSON": (_with_header(__metadata__={"bvae": "{"}), "damaged or cut short"),
    "facts of another kind": (_with_header(__metadata__={"bvae": "[1]"}), "not written by bvae"),
    "weights alone": (_with_header(__metadata__={"format": "pt"}), "not written by bvae"),
    "no config": (_with_facts(config=None), "not written by bvae"),
    "an empty config": (_with_facts(config={}), "not written by bvae"),
    "a config of another kind": (_with_facts(config="{}"), "not written by bvae"),
    "another config": (_with_facts(config={**CONFIG, "digest": "other"}), "not those that were written"),
    "a later format": (_with_facts(format=99), "format 99"),
    "no number": (exported_bytes(CONFIG, {"w": torch.tensor([float("nan")])}), "not numbers"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_that_is_not_ours_is_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    content, words = FOREIGN[kind]
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputOutputError) as caught:
        read_weights(path)
    assert words in caught.value.message
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_a_header_longer_than_that_of_a_model_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bvae_cli.safetensors_files._LONGEST_HEADER", 100)
    with pytest.raises(UnreadableError, match="header"):
        read_safetensors(exported_bytes(CONFIG, TENSORS))


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputOutputError, match="no such file"):
        read_weights(tmp_path / "x.safetensors")


def test_without_the_library_a_file_is_refused_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="safetensors is not installed") as caught:
        read_weights(tmp_path / "x.safetensors")
    assert caught.value.hint == "pip install 'bvae-cli[safetensors]'"


numbers = st.integers(-1, 40) | st.sampled_from([2**31, 2**63, 2**64, -(2**63)])
tensors = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F64", "U8", "BOOL", "I64", "F4", "C64", ""]),
        "shape": st.lists(numbers, max_size=3),
        "data_offsets": st.lists(numbers, min_size=1, max_size=3),
    }
)
headers = st.dictionaries(st.sampled_from(["w", "b", "", "__metadata__"]), tensors | st.dictionaries(st.text(), st.text()))


@property_settings
@given(header=headers | st.binary(max_size=30), data=st.binary(max_size=40), claimed=st.none() | st.integers(0, 2**64 - 1))
def test_whatever_is_in_a_file_it_is_read_or_refused(header: Any, data: bytes, claimed: int | None) -> None:
    content = of_parts(header, data)
    if claimed is not None:
        content = struct.pack("<Q", claimed) + content[8:]
    try:
        found, facts = read_safetensors(content)
    except UnreadableError:
        return
    assert sum(value.numel() * value.element_size() for value in found.values()) <= len(data)
    assert isinstance(facts, dict)


@property_settings
@given(
    shapes=st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8).filter(
            lambda name: name != "__metadata__"
        ),
        st.lists(st.integers(1, 3), max_size=3),
        min_size=1,
        max_size=4,
    ),
    told=st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3),
)
def test_tensors_of_any_shape_and_facts_come_back(shapes: dict[str, list[int]], told: dict[str, Any]) -> None:
    tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
    found, facts = read_safetensors(safetensors_bytes(tensors, told))
    assert facts == told
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], value) for name, value in tensors.items())
