"""Sums of products of columns of numbers, and what they come to: the search for an expression."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import combinations, combinations_with_replacement, permutations, product
from typing import Any

Columns = Mapping[str, list[Any]]
"""Values by the name of a key, one for each sample."""


def is_number(value: Any) -> bool:
    """A number, and no switch."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _factor(target: Sequence[int], vector: Sequence[Any]) -> Fraction | None:
    if not all(1e-3 <= abs(value) < 1e15 for value in vector):
        return None
    first = Fraction(target[0]) / Fraction(vector[0]).limit_denominator(10**6)
    if first == 0 or first.denominator > 64 or abs(first.numerator) > 4096:
        return None
    for t, v in zip(target, vector, strict=True):
        if t * first.denominator != v * first.numerator:
            return None
    return first


def _spelled(factor: Fraction, name: str) -> str:
    text = name if factor.numerator == 1 else f"{factor.numerator} * {name}"
    return text if factor.denominator == 1 else f"{text} // {factor.denominator}"


def _products(vectors: Columns, most: int) -> Iterable[tuple[str, list[Any]]]:
    names = list(vectors)
    for count in range(1, most + 1):
        chosen = names if count < 3 else sorted(names, key=lambda n: "size" not in n)[:40]
        for each in combinations_with_replacement(chosen, count):
            column = list(vectors[each[0]])
            for name in each[1:]:
                column = [a * b for a, b in zip(column, vectors[name], strict=True)]
            yield " * ".join(each), column


def single(vectors: Columns, target: list[int]) -> str | None:
    """A product of up to three keys and a rational number; or a product over a key."""
    best: tuple[int, str] | None = None
    for count in (1, 2, 3):
        for name, column in _products(vectors, count):
            if name.count("*") != count - 1:
                continue
            factor = _factor(target, column)
            if factor is not None:
                cost = factor.numerator.bit_length() + 2 * factor.denominator.bit_length()
                if best is None or cost < best[0]:
                    best = cost, _spelled(factor, name)
        if best is not None:
            return best[1]
    for name, column in _products(vectors, 2):
        for under, divisor in vectors.items():
            if under in name or not all(divisor):
                continue
            factor = _factor([t * d for t, d in zip(target, divisor, strict=True)], column)
            if factor is not None and factor.denominator == 1:
                return f"{_spelled(factor, name)} // {under}"
    return None


def rounded(vectors: Columns, target: list[int]) -> str | None:
    """A product cut to a whole number, a rounded-up one, a key and a constant."""
    products = list(_products(vectors, 2))
    for name, column in products:
        if [int(v) for v in column] == target:
            return name
        if len({t - v for t, v in zip(target, column, strict=True)}) == 1:
            more = target[0] - column[0]
            if more == int(more) and abs(more) < 4096:
                return f"{name} {'+' if more > 0 else '-'} {abs(int(more))}"
        if text := _multiple(name, column, vectors, target):
            return text
    return _shared(vectors, target)


def _multiple(name: str, column: list[Any], vectors: Columns, target: list[int]) -> str | None:
    """A product, or two thirds of one (SwiGLU), rounded up to a multiple."""
    others = {n: c for n, c in vectors.items() if "multiple" in n}
    others |= {str(m): [m] * len(target) for m in (8, 16, 32, 64, 128, 256)}
    shapes = {name: column, f"2 * {name} // 3": [2 * v // 3 for v in column]}
    for (text, values), (multiple, many) in product(shapes.items(), others.items()):
        if all(many) and target == [
            -(-int(v) // int(m)) * int(m) for v, m in zip(values, many, strict=True)
        ]:
            return f"up({text}, {multiple})"
    return None


def _shared(vectors: Columns, target: list[int]) -> str | None:
    """A key over another: cut, rounded up, squared (patches of an image), with one more."""
    for (name, column), (under, divisor) in permutations(vectors.items(), 2):
        if not all(divisor) or not all(map(math.isfinite, (*column, *divisor))):
            continue
        shares = [int(a // b) for a, b in zip(column, divisor, strict=True)]
        forms = {
            f"{name} // {under}": shares,
            f"{name} // {under} // 2": [s // 2 for s in shares],
            f"({name} // {under} // 2 + 1) // 2": [(s // 2 + 1) // 2 for s in shares],
            f"2 * ({name} // {under})": [2 * s for s in shares],
            f"{name} // {under} * {under}": [
                s * int(b) for s, b in zip(shares, divisor, strict=True)
            ],
            f"({name} // {under}) * ({name} // {under})": [s * s for s in shares],
            f"({name} // {under}) * ({name} // {under}) + 1": [s * s + 1 for s in shares],
            f"({name} + {under} - 1) // {under}": [
                int((a + b - 1) // b) for a, b in zip(column, divisor, strict=True)
            ],
        }
        if name.endswith("[0]"):  # height; the width stands behind it, or is the same everywhere
            more, beside = (
                other if (other := each.replace("[0]", "[1]")) in vectors else each
                for each in (name, under)
            )
            if all(vectors[beside]):
                shares = [
                    s * int(a // b)
                    for s, a, b in zip(shares, vectors[more], vectors[beside], strict=True)
                ]
                text = f"({name} // {under}) * ({more} // {beside})"
                forms |= {text: shares, f"{text} + 1": [s + 1 for s in shares]}
        for text, values in forms.items():
            if values == target:
                return text
    return None


def summed(vectors: Columns, target: list[int]) -> str | None:
    """Two products with small factors added up, or three."""
    terms = [
        (name, column)
        for name, column in _products(vectors, 2)
        if all(isinstance(v, int) for v in column) and len(set(column)) > 1
    ][:900]
    rest: dict[tuple[Any, ...], str] = {}
    for name, column in terms:
        for factor in (1, 2, 3, 4):
            rest.setdefault(tuple(factor * v for v in column), _spelled(Fraction(factor), name))
    for name, column in terms:
        for factor in (1, 2, 3, 4):
            rests = {t - factor * v for t, v in zip(target, column, strict=True)}
            if len(rests) == 1 and 0 < (more := rests.pop()) < 100_000:
                return f"{_spelled(Fraction(factor), name)} + {more}"
    if text := _two_keys([(n, c) for n, c in terms if "*" not in n], target):
        return text
    for name, column in terms:
        for factor in (1, 2, 3, 4, -1, -2):
            left = tuple(t - factor * v for t, v in zip(target, column, strict=True))
            if left in rest:
                own = _spelled(Fraction(abs(factor)), name)
                return f"{rest[left]} {'+' if factor > 0 else '-'} {own}"
    return _three(terms, rest, target)


def _three(
    terms: list[tuple[str, list[Any]]], rest: Mapping[tuple[Any, ...], str], target: list[int]
) -> str | None:
    """Three products added up; ``rest`` names the third by its values."""
    few = [
        (n, c)
        for n, c in terms
        if min(c) > 0 and all(v <= t for v, t in zip(c, target, strict=True))
    ][:120]
    for (a, x), (b, y) in combinations(few, 2):
        for m in (1, 2):
            for n in (1, 2):
                left = tuple(t - m * v - n * w for t, v, w in zip(target, x, y, strict=True))
                if left in rest:
                    return f"{rest[left]} + {_spelled(Fraction(m), a)} + {_spelled(Fraction(n), b)}"
    return None


def _two_keys(terms: list[tuple[str, list[Any]]], target: list[int]) -> str | None:
    """A key more or less another, and a constant."""
    for (a, x), (b, y) in permutations(terms, 2):
        for sign, spelled in ((1, "+"), (-1, "-")):
            rests = {t - v - sign * w for t, v, w in zip(target, x, y, strict=True)}
            if len(rests) == 1 and abs(more := rests.pop()) < 4096:
                return f"{a} {spelled} {b} {'+' if more >= 0 else '-'} {abs(more)}"
    return None
