"""Which device and which precision: what a machine has is pretended, so that every machine tests every case."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from bvae_cli import devices
from bvae_cli.errors import ExitCode, UsageError


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with nothing but a CPU."""
    have(monkeypatch)
    return monkeypatch


def have(patch: pytest.MonkeyPatch, cuda: int = 0, mps: bool = False, capability: tuple[int, int] = (8, 0)) -> None:
    patch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    patch.setattr(torch.cuda, "device_count", lambda: cuda)
    patch.setattr(torch.cuda, "get_device_capability", lambda index=0: capability)
    patch.setattr(torch.backends.mps, "is_available", lambda: mps)


def test_auto_takes_cuda_before_mps_before_cpu(machine: pytest.MonkeyPatch) -> None:
    assert devices.choose().device == "cpu"
    have(machine, mps=True)
    assert devices.choose().device == "mps"
    have(machine, cuda=1, mps=True)
    assert devices.choose().device == "cuda"


def test_disable_mps_takes_the_cpu_and_says_why(machine: pytest.MonkeyPatch) -> None:
    have(machine, mps=True)
    for asked in ("auto", "mps"):
        machine.setenv("DISABLE_MPS", "1")
        choice = devices.choose(asked)
        assert choice.device == "cpu"
        assert "DISABLE_MPS" in choice.device_reason
        machine.setenv("DISABLE_MPS", "0")
        assert devices.choose(asked).device == "mps"


def test_bfloat16_is_automatic_exactly_on_gpus_that_have_it(machine: pytest.MonkeyPatch) -> None:
    assert devices.choose("cpu").precision == "float32"
    have(machine, cuda=1, capability=(8, 0))
    assert devices.choose().precision == "bfloat16"
    have(machine, cuda=1, capability=(7, 5))
    assert devices.choose().precision == "float32"
    have(machine, mps=True)
    assert devices.choose().precision == "float32"


def test_disable_amp_keeps_float32_whatever_is_asked(machine: pytest.MonkeyPatch) -> None:
    have(machine, cuda=1)
    machine.setenv("DISABLE_AMP", "1")
    for amp in ("auto", "bf16", "fp16", "off"):
        assert devices.choose("cuda", amp).precision == "float32"


def test_a_precision_that_is_asked_for_is_taken(machine: pytest.MonkeyPatch) -> None:
    have(machine, cuda=1)
    assert devices.choose("cuda", "off").precision == "float32"
    assert devices.choose("cuda", "fp16").autocast_dtype is torch.float16
    assert devices.choose("cpu", "bf16").autocast_dtype is torch.bfloat16
    assert devices.choose("cpu", "off").autocast_dtype is None


@pytest.mark.parametrize(
    ("cuda", "mps", "device", "amp", "words"),
    [
        (0, False, "cuda", "auto", "no CUDA device"),
        (0, False, "cuda:1", "auto", "no CUDA device"),
        (2, False, "cuda:2", "auto", "0…1"),
        (0, False, "mps", "auto", "no MPS device"),
        (0, False, "cpu", "fp16", "--amp bf16"),
        (0, True, "mps", "bf16", "no bfloat16"),
        (1, False, "cuda", "bf16", "no bfloat16"),
    ],
)
def test_what_the_machine_does_not_have_is_refused(
    machine: pytest.MonkeyPatch, cuda: int, mps: bool, device: str, amp: str, words: str
) -> None:
    have(machine, cuda, mps, capability=(7, 0))
    with pytest.raises(UsageError) as caught:
        devices.choose(device, amp)
    assert caught.value.exit_code == ExitCode.USAGE
    assert words in str(caught.value)


def test_hidden_gpus_are_told_from_missing_ones(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UsageError, match="CUDA_VISIBLE_DEVICES hides every GPU"):
        devices.choose("cuda")


def test_every_visible_gpu_can_be_chosen(machine: pytest.MonkeyPatch) -> None:
    have(machine, cuda=2)
    assert [devices.choose(name).device for name in ("cuda", "cuda:0", "cuda:1")] == ["cuda", "cuda:0", "cuda:1"]


def test_the_survey_holds_the_cpu_the_choice_and_the_variables(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("DISABLE_AMP", "yes")
    found = devices.survey()
    assert [device.device for device in found.devices] == ["cpu"]
    assert found.chosen == devices.choose()
    assert found.variables["DISABLE_AMP"] == "yes"
    assert found.variables["DISABLE_MPS"] is None
    assert found.torch_version == torch.__version__
    assert found.threads >= 1


def test_the_memory_of_a_device_is_what_the_survey_says_and_none_where_it_is_not_known(machine: pytest.MonkeyPatch) -> None:
    assert devices.memory_bytes("cpu") == devices.survey().devices[0].memory_bytes
    assert devices.memory_bytes("mps") is None
    properties = SimpleNamespace(total_memory=1 << 34)
    machine.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    assert devices.memory_bytes("cuda:0") == 1 << 34


# --- the memory that is left


def test_what_is_left_is_no_more_than_what_there_is() -> None:
    whole, left = devices.memory_bytes("cpu"), devices.available_bytes("cpu")
    assert whole is not None
    assert left is not None
    assert 0 < left <= whole
    assert devices.available_bytes("mps") is None


_LIMITED = """
import resource
from bvae_cli import devices
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 3_000_000_000, resource.RLIM_INFINITY))
print(devices.available_bytes("cpu"))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_limit_of_the_process_counts() -> None:
    done = subprocess.run([sys.executable, "-c", _LIMITED], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 3_000_000_000


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({"memory.max": "1000\n", "memory.current": "700\n", "memory.stat": "anon 1\ninactive_file 250\n"}, 550),
        ({"memory.max": "1000\n", "memory.current": "1300\n", "memory.stat": ""}, 0),
        ({"memory.max": "max\n", "memory.current": "700\n", "memory.stat": ""}, None),
        ({}, None),
    ],
)
def test_the_limit_of_a_container_counts_but_for_files_that_it_can_give_back(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, str], left: int | None
) -> None:
    known = {"/proc/self/cgroup": "0::/job\n"} | {f"/sys/fs/cgroup/job/{name}": text for name, text in files.items()}
    monkeypatch.setattr(devices, "_lines", lambda path: known.get(path, "").splitlines())
    assert devices._left_in_group() == left
