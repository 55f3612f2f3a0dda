"""Arithmetic over GF(2) in plain Python: matrices, polynomials, weights of codewords and of coset leaders.

A word of bits is an integer whose lowest bit is its first position, a matrix is a sequence of rows of 0 and 1. Nothing here
imports torch or numpy, so that the command line can say what a code is worth without waiting for them.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import comb

Matrix = tuple[tuple[int, ...], ...]
# Codewords, or cosets, that are visited one by one.
MAX_VISITED = 1 << 16


def as_word(bits: Iterable[int]) -> int:
    """Return the integer of a row of bits.

    >>> as_word((1, 0, 1))
    5
    """
    return sum(bit << position for position, bit in enumerate(bits))


def as_bits(word: int, length: int) -> tuple[int, ...]:
    """Return the bits of an integer.

    >>> as_bits(5, 4)
    (1, 0, 1, 0)
    """
    return tuple(word >> position & 1 for position in range(length))


def transposed(matrix: Matrix) -> Matrix:
    """Return the transpose."""
    return tuple(zip(*matrix, strict=True))


def reduced(matrix: Matrix) -> tuple[Matrix, tuple[int, ...]]:
    """Return the reduced row echelon form without its zero rows, and the columns of its leading ones.

    >>> reduced(((1, 1, 0), (0, 1, 1), (1, 0, 1)))
    (((1, 0, 1), (0, 1, 1)), (0, 1))
    """
    length = len(matrix[0])
    rows = [as_word(row) for row in matrix]
    pivots: list[int] = []
    for column in range(length):
        found = next((index for index in range(len(pivots), len(rows)) if rows[index] >> column & 1), None)
        if found is None:
            continue
        place = len(pivots)
        rows[place], rows[found] = rows[found], rows[place]
        for index, row in enumerate(rows):
            if index != place and row >> column & 1:
                rows[index] = row ^ rows[place]
        pivots.append(column)
    return tuple(as_bits(row, length) for row in rows[: len(pivots)]), tuple(pivots)


def rank(matrix: Matrix) -> int:
    """Return the rank."""
    return len(reduced(matrix)[1])


def dual(matrix: Matrix) -> Matrix:
    """Return a basis of the words orthogonal to every row: a parity-check matrix of a generator matrix, and the reverse.

    >>> dual(((1, 1, 1),))
    ((1, 1, 0), (1, 0, 1))
    """
    length = len(matrix[0])
    rows, pivots = reduced(matrix)
    basis, leading = [], set(pivots)
    for free in (column for column in range(length) if column not in leading):
        word = [0] * length
        word[free] = 1
        for row, pivot in zip(rows, pivots, strict=True):
            word[pivot] = row[free]
        basis.append(tuple(word))
    return tuple(basis)


def unit_columns(matrix: Matrix) -> tuple[int, ...] | None:
    """Return for each row a column that is 1 there and 0 elsewhere: where a codeword shows that information bit.

    None where some row has no such column.

    >>> unit_columns(((1, 0, 1), (0, 1, 1)))
    (0, 1)
    """
    shown = {as_word(column): place for place, column in enumerate(transposed(matrix))}
    places = [shown.get(1 << row) for row in range(len(matrix))]
    return None if None in places else tuple(place for place in places if place is not None)


def unencoder(generator: Matrix) -> Matrix:
    """Return T ``[n, k]`` with m = c T mod 2 for every codeword c = m G.

    With P G reduced and its leading ones in the columns p, the codeword shows m P⁻¹ there, so m = c_p P.

    >>> unencoder(((1, 1, 0), (0, 1, 1)))
    ((1, 1), (0, 1), (0, 0))
    """
    n, k = len(generator[0]), len(generator)
    beside = tuple((*row, *(int(place == index) for place in range(k))) for index, row in enumerate(generator))
    rows, pivots = reduced(beside)
    places = {pivot: row[n:] for row, pivot in zip(rows, pivots, strict=True)}
    return tuple(places.get(column, (0,) * k) for column in range(n))


def weight_distribution(generator: Matrix) -> tuple[int, ...] | None:
    """Return A_w, the number of codewords of each weight w = 0…n; None where code and dual are both too large to visit.

    Of a high-rate code the dual is counted, and MacWilliams' identity A = 2^{k−n} Σ_w B_w K(w) turns it over (MacWilliams
    and Sloane 1977, ch. 5 §2).

    >>> weight_distribution(((1, 0, 0, 0, 0, 1, 1), (0, 1, 0, 0, 1, 0, 1), (0, 0, 1, 0, 1, 1, 0), (0, 0, 0, 1, 1, 1, 1)))
    (1, 0, 0, 7, 7, 0, 0, 1)
    """
    n, k = len(generator[0]), len(generator)
    if k <= n - k:
        return _counted(generator) if 2**k <= MAX_VISITED else None
    of_dual = _weights_of_dual(generator)
    return None if of_dual is None else tuple(_turned_over(of_dual, weight) for weight in range(n + 1))


def min_distance(generator: Matrix) -> int | None:
    """Return the least weight of a codeword other than 0, None where it cannot be counted.

    Of a high-rate code the numbers of codewords are turned over from the dual weight by weight, until one is not 0.
    """
    n, k = len(generator[0]), len(generator)
    if k <= n - k:
        weights = weight_distribution(generator)
        return None if weights is None else next(weight for weight, count in enumerate(weights) if weight and count)
    of_dual = _weights_of_dual(generator)
    return None if of_dual is None else next(weight for weight in range(1, n + 1) if _turned_over(of_dual, weight))


def coset_leaders(checks: Matrix, length: int) -> tuple[int, ...] | None:
    """Return a_w, the number of cosets whose lightest word has weight w; None where there are too many cosets.

    The least weight for a syndrome is its distance from 0 where each step adds a column of the checks.

    >>> coset_leaders(((1, 0, 1, 0, 1, 0, 1), (0, 1, 1, 0, 0, 1, 1), (0, 0, 0, 1, 1, 1, 1)), 7)
    (1, 7)
    """
    if 2 ** len(checks) > MAX_VISITED:
        return None
    columns = {as_word(column) for column in transposed(checks)} if checks else set()
    seen, edge, counts = {0}, [0], []
    while edge:
        counts.append(len(edge))
        following = {syndrome ^ column for syndrome in edge for column in columns} - seen
        seen |= following
        edge = list(following)
    return tuple(counts)


def leaders_of_cosets(checks: Matrix, length: int, most: int) -> list[list[int]] | None:
    """Return for each coset all of its lightest words; None where there are more than ``most`` of them in all.

    A lightest word without one of its ones is a lightest word of another coset, so that all are found weight by weight.

    >>> leaders_of_cosets(((1, 1),), 2, 10)
    [[0], [1, 2]]
    """
    columns = [as_word(column) for column in transposed(checks)] if checks else [0] * length
    found: dict[int, list[int]] = {0: [0]}
    edge, count = [(0, 0)], 1
    while edge:
        lighter = set(found)
        following = []
        for word, syndrome in edge:
            for place in range(word.bit_length(), length):
                reached = syndrome ^ columns[place]
                if reached not in lighter:
                    found.setdefault(reached, []).append(word | 1 << place)
                    following.append((word | 1 << place, reached))
        edge, count = following, count + len(following)
        if count > most:
            return None
    return list(found.values())


def polynomial_product(first: int, second: int) -> int:
    """Return the product of two polynomials over GF(2), each an integer whose bit i is the coefficient of x^i.

    >>> bin(polynomial_product(0b11, 0b11))
    '0b101'
    """
    product = 0
    while second:
        if second & 1:
            product ^= first
        first <<= 1
        second >>= 1
    return product


def polynomial_remainder(dividend: int, divisor: int) -> int:
    """Return the remainder of a division of polynomials over GF(2).

    >>> bin(polynomial_remainder(0b1011, 0b11))
    '0b1'
    """
    degree = divisor.bit_length()
    while dividend.bit_length() >= degree:
        dividend ^= divisor << (dividend.bit_length() - degree)
    return dividend


def polynomial_divisor(first: int, second: int) -> int:
    """Return the greatest common divisor of two polynomials over GF(2), by Euclid's algorithm.

    >>> bin(polynomial_divisor(0b101, 0b11))
    '0b11'
    """
    while second:
        first, second = second, polynomial_remainder(first, second)
    return first


def _weights_of_dual(generator: Matrix) -> tuple[int, ...] | None:
    n, k = len(generator[0]), len(generator)
    if 2 ** (n - k) > MAX_VISITED:
        return None
    checks = dual(generator)
    return _counted(checks) if checks else (1, *[0] * n)


def _turned_over(of_dual: tuple[int, ...], weight: int) -> int:
    """Return the number of words of a weight from the numbers of words of the dual, by MacWilliams' identity."""
    n = len(of_dual) - 1
    total = sum(count * _krawtchouk(weight, other, n) for other, count in enumerate(of_dual) if count)
    return total // sum(of_dual)


def _counted(generator: Matrix) -> tuple[int, ...]:
    """Visit every codeword once, in Gray order: each differs from the last by one row."""
    rows = [as_word(row) for row in generator]
    counts = [0] * (len(generator[0]) + 1)
    counts[0] = 1
    word = 0
    for index in range(1, 2 ** len(rows)):
        word ^= rows[(index & -index).bit_length() - 1]
        counts[word.bit_count()] += 1
    return tuple(counts)


def _krawtchouk(degree: int, x: int, n: int) -> int:
    return sum((-1) ** j * comb(x, j) * comb(n - x, degree - j) for j in range(degree + 1))
