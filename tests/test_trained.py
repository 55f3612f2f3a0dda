"""What is said of a trained model's bits and rows is read, or refused in a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from bvae_cli.errors import UsageError
from bvae_cli.trained import SampleConfig


def test_bits_and_rows_are_read_by_number() -> None:
    assert SampleConfig(fix="m1=1, m7=0,m1=1").fixed == {1: 1, 7: 0}
    assert SampleConfig(sweep="m3,m1,m3").swept == [3, 1]
    assert SampleConfig(sweep="strongest").swept == []
    assert SampleConfig(posterior="5,0,4").rows == [5, 0, 4]
    assert SampleConfig(between="3, 8").rows == [3, 8]
    assert SampleConfig().fixed == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fix": "m1=1,m1=0"}, "m1 is 0 and that it is 1"),
        ({"fix": "m1=2"}, "'m1=2' fixes no bit"),
        ({"fix": "m0=1"}, "'m0=1' fixes no bit"),
        ({"fix": "m1=1,"}, "'' fixes no bit"),
        ({"fix": "m1"}, "'m1' fixes no bit"),
        ({"sweep": "m0"}, "'m0' is no bit"),
        ({"sweep": "m1;m2"}, "'m1;m2' is no bit"),
        ({"sweep": "m" + 20 * "9"}, "is no bit"),
        ({"posterior": "-1"}, "'-1' is no row"),
        ({"posterior": "one"}, "'one' is no row"),
        ({"between": "3"}, "does not name two rows"),
        ({"between": "3,3"}, "--between '3,3' names row 3 twice"),
        ({"posterior": "0,1,00"}, "--posterior '0,1,00' names row 0 twice"),
        ({"between": "1,2,3"}, "does not name two rows"),
        ({"sweep": "m1", "posterior": "0"}, "--sweep and --posterior ask for two sheets"),
        ({"posterior": "0", "fix": "m1=1"}, "--fix says nothing to --posterior"),
        ({"sweep": "m2,m1", "fix": "m1=1"}, "--sweep and --fix both name m1"),
    ],
)
def test_what_is_no_bit_or_contradicts_itself_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        SampleConfig(**options)
    assert words in caught.value.message
    assert caught.value.hint


def test_files_of_samples_are_named_for_what_was_asked() -> None:
    stems = {
        "samples_seed_0": {},
        "samples_seed_3_m1=1_m7=0": {"fix": "m7=0,m1=1", "seed": 3},
        "samples_seed_0_m1=1_t=0.5": {"fix": "m1=1", "temperature": 0.5},
        "sweep_m3_seed_0": {"sweep": "m3"},
        "sweep_m3_m1_seed_0_m2=0": {"sweep": "m3,m1", "fix": "m2=0"},
        "sweep_strongest_seed_0": {"sweep": "strongest"},
        "posterior_0_5_seed_0": {"posterior": "0,5"},
        "posterior_test_0_seed_0": {"posterior": "0", "split": "test"},
        "between_3_8_seed_0": {"between": "3,8"},
        "samples_seed_0_count=100": {"num_samples": 100},
        "sweep_m3_seed_0_count=64": {"sweep": "m3", "num_samples": 64},
        "posterior_0_seed_0_count=2": {"posterior": "0", "num_samples": 2},
        "posterior_0_seed_0_kmnist": {"posterior": "0", "dataset": "kmnist"},
        # What does not depend on the data does not tell them.
        "samples_seed_1": {"dataset": "kmnist", "seed": 1},
        "sweep_m2_seed_0": {"sweep": "m2", "dataset": "kmnist"},
    }
    for stem, said in stems.items():
        assert stem_of(**said) == stem
    long = [stem_of(sweep=",".join(f"m{bit}" for bit in range(1, last))) for last in (100, 101)]
    assert long[0] != long[1]
    assert all(name.startswith("sweep_m1_m2_m3_") and len(name) < 60 for name in long)
    of_data = [stem_of(between="3,8", dataset=f"kmnist:binarize={how}") for how in ("threshold", "fresh")]
    assert len({*of_data, stem_of(between="3,8")}) == 3
    assert all(name.startswith("between_3_8_seed_0_kmnist_") for name in of_data)


def stem_of(**said: Any) -> str:
    return SampleConfig(**said).file_stem(frozenset(said))
