"""Reed–Muller codes: the values of polynomials, and options that are no code."""

from __future__ import annotations

import itertools

import pytest
from pydantic import ValidationError

from bvae_cli.codes import gf2
from bvae_cli.codes.reed_muller import ReedMuller
from bvae_cli.errors import UsageError


@pytest.mark.parametrize(("r", "m"), [(r, m) for m in range(1, 5) for r in range(m + 1)])
def test_the_words_are_the_values_of_all_polynomials_of_so_low_a_degree(r: int, m: int) -> None:
    spec = ReedMuller(r=r, m=m)
    matrix, block = spec.generator_matrix(), spec.block()
    products = [set(chosen) for degree in range(r + 1) for chosen in itertools.combinations(range(m), degree)]
    values = [
        tuple(int(all(point >> variable & 1 for variable in product)) for point in range(2**m)) for product in products
    ]
    assert (block.n, block.k) == (2**m, len(products)) == (len(matrix[0]), len(matrix))
    assert gf2.rank((*matrix, *values)) == gf2.rank(matrix) == len(products)
    assert gf2.unit_columns(matrix) is not None
    assert block.min_distance == 2 ** (m - r) == gf2.min_distance(matrix)


def test_a_degree_above_the_variables_is_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match="r=4 is more than m=3") as caught:
        ReedMuller(r=4, m=3)
    assert caught.value.hint == "Polynomials in m bits have at most degree m."
    assert ReedMuller(r=3, m=3).block().k == 8
    assert (ReedMuller().r, ReedMuller().m) == (1, 4)


@pytest.mark.parametrize("options", [{"r": -1}, {"r": 9, "m": 9}, {"r": 0, "m": 0}, {"m": 10}])
def test_options_out_of_bounds_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        ReedMuller(**options)
    assert ReedMuller(r=8, m=9).block().k == 511
