"""Rows of a file beside the tensor of the same values: whatever is taken of one is what is taken of the other."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from bvae_cli import mapped_table as table_module
from bvae_cli.datasets import mapped as mapped_module
from bvae_cli.datasets.base import Splits
from bvae_cli.datasets.mapped import MappedRows, joined
from bvae_cli.datasets.resident import ResidentBits
from bvae_cli.datasets.rows import Joined, Rows, bytes_in_memory, extremes, first_rows, mean_row, pieces, taken
from bvae_cli.mapped_table import MappedTable

from ..helpers import property_settings
from .refusal import refused

in_one_folder = settings(property_settings, suppress_health_check=[HealthCheck.function_scoped_fixture])


def bits(rows: int, features: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (rows, features), dtype=np.uint8)


def packed_rows(path: Path, values: np.ndarray, offset: int = 0) -> MappedRows:
    """Write bits packed, ``offset`` bytes into a file, and map them."""
    packed = np.packbits(values, axis=1)
    path.write_bytes(bytes(offset) + packed.tobytes())
    return MappedRows(MappedTable(path, offset, *packed.shape, np.dtype("uint8")), bits=values.shape[1])


def plain_rows(path: Path, values: np.ndarray, are_bits: bool) -> MappedRows:
    path.write_bytes(values.tobytes())
    return MappedRows(MappedTable(path, 0, *values.shape, values.dtype), are_bits=are_bits)


@pytest.fixture(params=["kept", "let go", "let go one by one"])
def pages(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """All ways in which rows of a map are read: as a small file's, as a large one's, as a very large one's."""
    if request.param != "kept":
        monkeypatch.setattr(table_module, "_PAGES_HELD", 24)
        monkeypatch.setattr(table_module, "_BYTES_OF_A_FAULT", 12 if request.param == "let go" else 24)
        monkeypatch.setattr(mapped_module, "_BYTES_AHEAD", 40)
    return str(request.param)


@in_one_folder
@given(
    rows=st.integers(1, 60),
    features=st.integers(1, 40),
    offset=st.integers(0, 9),
    size=st.integers(1, 70),
    seed=st.integers(0, 1000),
)
def test_packed_bits_are_taken_as_from_the_tensor_that_they_are(
    pages: str, rows: int, features: int, offset: int, size: int, seed: int, tmp_path: Path
) -> None:
    values = bits(rows, features, seed)
    index = np.random.default_rng(seed).permutation(rows)[: max(1, rows - 3)]
    whole, tensor = packed_rows(tmp_path / "bits", values, offset), torch.from_numpy(values)
    for mapped, expected in ((whole, tensor), (whole.indexed(index), tensor[torch.from_numpy(index)])):
        generator = torch.Generator().manual_seed(seed)
        numbers = torch.randint(len(expected), (2, 5), generator=generator)
        order = torch.randperm(len(expected), generator=generator)
        assert (mapped.shape, mapped.dtype, len(mapped)) == (tuple(expected.shape), torch.uint8, len(expected))
        assert torch.equal(mapped[numbers], expected[numbers])
        assert torch.equal(mapped[1:size], expected[1:size])
        same(mapped.split(size), expected.split(size))
        same(mapped.batches(order, size), [expected[part] for part in order.split(size)])
        assert torch.equal(taken(mapped, numbers), expected[numbers])
        assert torch.equal(taken(expected, numbers), expected[numbers])
        assert torch.equal(mapped.first(size)[:], expected[:size])


def same(found: Any, expected: Any) -> None:
    found, expected = list(found), list(expected)
    assert [part.shape for part in found] == [part.shape for part in expected]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("dtype", ["uint8", "bool", "int64", "float16", "float32", "float64", ">f4"])
@pytest.mark.parametrize("are_bits", [True, False])
def test_numbers_of_any_type_become_bits_or_float32(dtype: str, are_bits: bool, pages: str, tmp_path: Path) -> None:
    values = bits(30, 5).astype(dtype)
    mapped = plain_rows(tmp_path / "values", values, are_bits)
    expected = torch.from_numpy(values.astype("uint8" if are_bits else "float32"))
    assert mapped.dtype == expected.dtype
    order = torch.tensor([7, 0, 29, 7])
    assert torch.equal(mapped[order], expected[order])
    assert torch.equal(mapped[:], expected)


def test_grey_values_keep_what_they_are(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((20, 3))
    assert torch.equal(plain_rows(tmp_path / "v", values, False)[:], torch.from_numpy(values.astype("float32")))


def test_a_tensor_is_no_mapped_rows_and_mapped_rows_are_rows(tmp_path: Path) -> None:
    mapped = packed_rows(tmp_path / "bits", bits(4, 8))
    assert isinstance(mapped, Rows)
    assert isinstance(Joined([mapped]), Rows)
    assert not isinstance(torch.zeros(2, 2), Rows)
    assert (bytes_in_memory(mapped), bytes_in_memory(torch.zeros(2, 3))) == (0, 24)


def test_rows_are_taken_onto_the_device_that_they_were_sent_to(tmp_path: Path) -> None:
    mapped = packed_rows(tmp_path / "bits", bits(4, 8))
    assert mapped.device == torch.device("cpu")
    sent = mapped.first(3).to("meta")
    assert (sent.device, sent[:].device, len(sent)) == (torch.device("meta"), torch.device("meta"), 3)
    assert mapped.device == torch.device("cpu")


# --- what goes over all rows


@in_one_folder
@given(rows=st.integers(1, 50), features=st.integers(1, 20), seed=st.integers(0, 1000))
def test_mean_and_extremes_are_those_of_the_tensor(rows: int, features: int, seed: int, tmp_path: Path) -> None:
    values = bits(rows, features, seed)
    mapped, tensor = packed_rows(tmp_path / "bits", values), torch.from_numpy(values)
    # Sums of bits are whole numbers: the mean in float32 has one value, however it is summed.
    assert torch.equal(mean_row(mapped), tensor.float().mean(0))
    assert torch.equal(mean_row(tensor), tensor.float().mean(0))
    assert extremes(mapped) == (int(values.min()), int(values.max()))


def test_extremes_say_that_a_value_is_not_a_number() -> None:
    low, high = extremes(torch.tensor([[0.0, 1.0], [float("nan"), 0.5]]))
    assert low != low
    assert high != high


def test_what_goes_over_all_rows_takes_few_of_them_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = bits(40_000, 784)
    whole = packed_rows(tmp_path / "bits", values)
    parts = [whole.indexed(part) for part in np.split(np.random.default_rng(0).permutation(40_000), [30_000, 35_000])]
    taken: list[int] = []
    original = MappedRows._as_rows

    def counting(self: MappedRows, read: Any) -> Tensor:
        rows = original(self, read)
        taken.append(rows.numel())
        return rows

    monkeypatch.setattr(MappedRows, "_as_rows", counting)
    splits = Splits(*parts, feature_shape=(784,), source="", licence="")
    assert splits.problem() is None
    splits.digest()
    mean_row(splits.train)
    list(pieces(splits.all_rows()))
    assert sum(taken) > 3 * 40_000 * 784
    assert max(taken) <= 2**21


def test_batches_are_read_ahead_within_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped_module, "_BYTES_AHEAD", 2**12)
    mapped = packed_rows(tmp_path / "bits", bits(1000, 64))
    read: list[int] = []
    original = MappedTable.take

    def counting(self: MappedTable, rows: Any) -> np.ndarray:
        values = original(self, rows)
        read.append(values.nbytes)
        return values

    monkeypatch.setattr(MappedTable, "take", counting)
    list(mapped.batches(torch.randperm(1000), 100))
    assert read == [4000, 4000]
    list(mapped.batches(torch.randperm(1000), 1000))
    assert read[2:] == [8000]


# --- parts as one


@in_one_folder
@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4), size=st.integers(1, 60), seed=st.integers(0, 1000))
def test_joined_parts_are_their_rows_in_order_or_by_their_numbers(
    sizes: list[int], size: int, seed: int, tmp_path: Path
) -> None:
    tensors = [torch.from_numpy(bits(rows, 9, seed + place)) for place, rows in enumerate(sizes)]
    parts = [packed_rows(tmp_path / f"{place}", part.numpy()) if place % 2 else part for place, part in enumerate(tensors)]
    everything = torch.cat(tensors)
    numbers = torch.randperm(len(everything), generator=torch.Generator().manual_seed(seed))
    for one, expected in ((Joined(parts), everything), (Joined(parts, numbers), everything[numbers])):
        assert (one.shape, one.dtype, len(one)) == (tuple(expected.shape), torch.uint8, len(expected))
        same(one.split(size), expected.split(size))
        assert torch.equal(one[2:size], expected[2:size])
        assert torch.equal(one[numbers], expected[numbers])
        assert torch.equal(one[numbers[:4].reshape(1, -1)], expected[numbers[:4].reshape(1, -1)])
        same(one.batches(numbers, size), [expected[part] for part in numbers.split(size)])
        assert torch.equal(first_rows(one, size)[:], expected[:size])
        assert first_rows(one, 0) is one


def test_parts_of_one_table_are_rows_of_it_taken_as_they_lie_where_they_are_all_of_it(tmp_path: Path) -> None:
    everything = bits(60, 9)
    whole = packed_rows(tmp_path / "bits", everything)
    order = np.random.default_rng(0).permutation(60)
    parts = [whole.indexed(part) for part in np.split(order, [30, 50])]
    in_order = joined(parts, torch.from_numpy(order.argsort()))
    as_they_came = joined(parts, None)
    assert isinstance(in_order, MappedRows)
    assert isinstance(as_they_came, MappedRows)
    same(in_order.split(7), torch.from_numpy(everything).split(7))
    same(as_they_came.split(7), torch.from_numpy(everything[order]).split(7))
    few = joined(parts[:2], torch.tensor([3, 41, 3]))
    assert torch.equal(few[:], torch.from_numpy(everything[order[[3, 41, 3]]]))


def test_parts_of_several_tables_or_of_memory_are_joined_as_they_are(tmp_path: Path) -> None:
    one, other = (packed_rows(tmp_path / name, bits(4, 8)) for name in ("one", "other"))
    for parts in (
        [one, other],
        [one, torch.from_numpy(bits(4, 8))],
        [torch.from_numpy(bits(4, 8)), one],
        [one, one.as_numbers()],
    ):
        assert isinstance(joined(parts, None), Joined)


def test_parts_of_probabilities_and_of_bits_are_joined_as_probabilities() -> None:
    parts = [torch.tensor([[0.25], [0.5]]), torch.tensor([[1], [0]], dtype=torch.uint8)]
    for numbers in (None, torch.tensor([3, 0, 2, 1])):
        joined, order = Joined(parts, numbers), torch.arange(4) if numbers is None else numbers
        expected = torch.tensor([[0.25], [0.5], [1.0], [0.0]])[order]
        assert joined.dtype == expected.dtype
        assert joined[:].equal(expected)
        assert joined[torch.tensor([2, 1])].equal(expected[[2, 1]])


# --- the file


def test_a_file_that_is_cut_while_it_is_mapped_is_refused_and_does_not_end_the_process(tmp_path: Path) -> None:
    mapped = packed_rows(tmp_path / "bits", bits(10_000, 784))
    assert mapped[:2].shape == (2, 784)
    os.truncate(tmp_path / "bits", 98)
    with refused("bits", "changed since it was opened"):
        mapped[torch.tensor([9000])]


def test_a_file_that_is_written_while_it_is_mapped_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bits"
    mapped = packed_rows(path, bits(10, 8))
    os.utime(path, ns=(0, 0))
    with refused("changed since it was opened"):
        mapped[:1]


def test_a_file_that_another_takes_the_name_of_is_still_the_one_that_was_opened(tmp_path: Path) -> None:
    values = bits(10, 8)
    mapped = packed_rows(tmp_path / "bits", values)
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / "other").replace(tmp_path / "bits")
    assert torch.equal(mapped[:], torch.from_numpy(values))


_HELD = """
import sys
from pathlib import Path
import numpy as np, torch
from bvae_cli.datasets.mapped import MappedRows, joined
from bvae_cli.mapped_table import MappedTable

def held():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssFile")).split()[1])

path = Path(sys.argv[1])
table = MappedTable(path, 0, path.stat().st_size // 64, 64, np.dtype("uint8"))
rows, let_go = MappedRows(table), MappedTable._let_go
# What torch and numpy load of themselves when they are first used is not what the rows take.
next(iter(rows.batches(torch.randperm(2000), 1000)))
rows[torch.arange(20)]
seen = [held()]

def looking(table):
    seen.append(held())
    let_go(table)

MappedTable._let_go = looking
for batch in rows.batches(torch.randperm(len(rows)), 1000):
    pass
for batch in rows.split(1000):
    pass
rows[torch.randint(len(rows), (20_000,))]
print(max(seen) - seen[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's count of held pages is Linux's")
def test_the_pages_that_a_process_holds_do_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "128 MiB"
    path.write_bytes(bytes(128 << 20))
    done = subprocess.run([sys.executable, "-c", _HELD, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 40 << 10  # in KiB


@property_settings
@given(rows=st.integers(1, 40), features=st.integers(1, 40), size=st.integers(1, 50), seed=st.integers(0, 9))
def test_bits_that_are_kept_packed_are_the_bits(rows: int, features: int, size: int, seed: int) -> None:
    values = torch.from_numpy(bits(rows, features, seed))
    resident = ResidentBits.of(values, "cpu")
    assert isinstance(resident, Rows)
    assert (resident.shape, len(resident), resident.dtype) == (values.shape, rows, torch.uint8)
    assert bytes_in_memory(resident) == ResidentBits.bytes_of(values) == rows * math.ceil(features / 8)
    numbers = torch.randint(rows, (3, 4), generator=torch.Generator().manual_seed(seed))
    assert torch.equal(taken(resident, numbers), values[numbers])
    assert torch.equal(resident[: size // 2], values[: size // 2])
    assert torch.equal(torch.cat(list(resident.split(size))), values)
    assert torch.equal(torch.cat(list(resident.batches(numbers[0], size))), values[numbers[0]])
    assert torch.equal(resident.first(size).to("cpu")[:], values[:size])
