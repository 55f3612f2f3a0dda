from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from bvae_cli.datasets.bars_and_stripes import BarsAndStripes
from bvae_cli.datasets.drawn import Drawn, words_of
from bvae_cli.datasets.random_code import RandomCode
from bvae_cli.datasets.random_symbols import RandomSymbols
from bvae_cli.errors import UsageError

SMALL = [
    BarsAndStripes(height=2, width=2),
    BarsAndStripes(height=3, width=4),
    BarsAndStripes(height=4, width=2),
    RandomCode(n=9, k=4),
    RandomCode(n=9, k=4, epsilon=0.1),
    RandomCode(n=9, k=4, epsilon=0.5),
    RandomCode(n=6, k=6, epsilon=0.2),
    RandomCode(n=6, k=0, epsilon=0.2),
    RandomCode(n=6, k=0),
    RandomCode(n=10, k=7, epsilon=0.001, code_seed=5),
    RandomSymbols(n=5, k=2, q=3),
    RandomSymbols(n=5, k=2, q=3, epsilon=0.1),
    RandomSymbols(n=4, k=2, q=6, epsilon=0.5, code_seed=2),
    RandomSymbols(n=3, k=3, q=5, epsilon=0.2),
    RandomSymbols(n=3, k=0, q=4, epsilon=0.2),
]
_IDS = [f"{type(spec).__name__}-{number}" for number, spec in enumerate(SMALL)]


def all_words(bits: int) -> torch.Tensor:
    return words_of(torch.arange(2**bits), bits)


def all_rows(spec: Drawn) -> torch.Tensor:
    """Every row that there can be, in the order of their numbers to the base of their symbols."""
    length, base = math.prod(spec.shape()), getattr(spec, "q", 2)
    return torch.cartesian_prod(*[torch.arange(base)] * length).to(torch.int16 if base > 2 else torch.uint8)


@pytest.mark.parametrize("spec", SMALL, ids=_IDS)
def test_probabilities_sum_to_one_over_all_rows_and_give_the_entropy(spec) -> None:
    logs = spec.log_prob(all_rows(spec))
    probabilities = logs.exp()
    assert logs.dtype == torch.float64
    assert float(probabilities.sum()) == pytest.approx(1, abs=1e-12)
    entropy = -float((probabilities * logs.nan_to_num(neginf=0.0)).sum())
    assert spec.entropy() == pytest.approx(entropy, abs=1e-9)


@pytest.mark.parametrize("spec", SMALL, ids=_IDS)
def test_rows_are_drawn_of_that_distribution(spec) -> None:
    rows = 40_000
    drawn = spec.model_copy(update={"rows": rows}).load().train
    length, base = math.prod(spec.shape()), getattr(spec, "q", 2)
    expected = spec.log_prob(all_rows(spec)).exp().numpy() * rows
    numbers = (drawn.long() * base ** torch.arange(length - 1, -1, -1)).sum(1).numpy()
    counted = np.bincount(numbers, minlength=base**length)
    assert counted[expected == 0].sum() == 0
    seen = expected > 5
    chi_square = (((counted - expected) ** 2)[seen] / expected[seen]).sum()
    degrees = max(1, int(seen.sum()) - 1)
    assert chi_square < degrees + 6 * math.sqrt(2 * degrees)


@pytest.mark.parametrize("spec", SMALL, ids=_IDS)
def test_the_mean_log_probability_of_the_rows_is_minus_the_entropy(spec) -> None:
    splits = spec.load()
    logs = spec.log_prob(splits.train)
    spread = float(logs.std()) / math.sqrt(len(logs))
    assert float(logs.mean()) == pytest.approx(-spec.entropy(), abs=6 * spread + 1e-9)


def test_flipped_bits_are_the_sum_over_all_words() -> None:
    spec = RandomCode(n=8, k=3, epsilon=0.07)
    words = spec.model_copy(update={"epsilon": 0.0}).log_prob(all_words(8))
    codewords = all_words(8)[words > -math.inf]
    assert len(codewords) == 8
    distances = (all_words(8).unsqueeze(1) ^ codewords).sum(-1).double()
    summed = (0.07**distances * 0.93 ** (8 - distances)).mean(1)
    assert torch.allclose(spec.log_prob(all_words(8)).exp(), summed, atol=1e-15)


def test_replaced_symbols_are_the_sum_over_all_words() -> None:
    spec = RandomSymbols(n=5, k=2, q=4, epsilon=0.09, code_seed=3)
    rows = all_rows(spec)
    codewords = rows[spec.model_copy(update={"epsilon": 0.0}).log_prob(rows) > -math.inf]
    assert len(codewords) == 16
    distances = (rows.unsqueeze(1) != codewords).sum(-1).double()
    summed = ((0.09 / 3) ** distances * 0.91 ** (5 - distances)).mean(1)
    assert torch.allclose(spec.log_prob(rows).exp(), summed, atol=1e-15)


def test_bars_and_stripes_of_two_by_two_are_all_but_the_diagonals_and_corners() -> None:
    likely = all_words(4)[BarsAndStripes(height=2, width=2).log_prob(all_words(4)) > -math.inf]
    assert sorted("".join(map(str, row)) for row in likely.tolist()) == ["0000", "0011", "0101", "1010", "1100", "1111"]


@pytest.mark.parametrize(("height", "width", "patterns"), [(2, 2, 6), (3, 3, 14), (4, 4, 30), (3, 5, 38)])
def test_the_number_of_patterns_is_that_of_the_closed_form(height: int, width: int, patterns: int) -> None:
    spec = BarsAndStripes(height=height, width=width, rows=5000)
    assert spec.patterns() == patterns
    assert len(spec.load().train.unique(dim=0)) == patterns


@pytest.mark.parametrize(
    "spec",
    [
        BarsAndStripes(height=61, width=61, rows=50),
        RandomCode(n=82, k=62, rows=50),
        RandomCode(n=74, k=62, epsilon=0.01),
        RandomSymbols(n=256, k=100, q=32, rows=50),
        RandomSymbols(n=40, k=24, q=2, epsilon=0.01, rows=50),
    ],
)
def test_the_largest_sizes_are_drawn(spec) -> None:
    splits = spec.load()
    assert splits.problem() is None
    assert torch.isfinite(spec.log_prob(splits.train[:50])).all()
    assert math.isfinite(spec.entropy())


@pytest.mark.parametrize("kind", [BarsAndStripes, RandomCode, RandomSymbols])
def test_a_seed_decides_the_rows_and_says_so(kind) -> None:
    one, same, other = (kind(seed=seed, rows=100, validation_rows=20, test_rows=30).load() for seed in (1, 1, 2))
    assert one.digest() == same.digest() != other.digest()
    assert (len(one.train), len(one.validation), len(one.test)) == (100, 20, 30)
    assert "seed 1" in one.source
    assert one.source.startswith("rows drawn with the seed ")
    assert one.source.endswith(f"of an entropy of {kind().entropy():.6g} nats each")
    assert one.train_labels is None


def test_what_is_not_known_exactly_is_refused() -> None:
    with pytest.raises(UsageError, match=r"k 5 is more than n 4"):
        RandomCode(n=4, k=5)
    with pytest.raises(UsageError, match=r"n − k = 21"):
        RandomCode(n=31, k=10, epsilon=0.1)
    RandomCode(n=31, k=10)
    for wrong in ({"epsilon": 0.6}, {"n": 0}, {"k": 63}):
        with pytest.raises(ValidationError):
            RandomCode(**wrong)
    with pytest.raises(UsageError, match=r"k 5 is more than n 4"):
        RandomSymbols(n=4, k=5)
    with pytest.raises(UsageError, match=r"4\^9 is too much") as caught:
        RandomSymbols(n=12, k=3, epsilon=0.1)
    assert "n − k of at most 8" in str(caught.value)
    RandomSymbols(n=12, k=4, q=4, epsilon=0.1)
