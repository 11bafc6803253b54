"""Integer arithmetic shared by the cache rules."""

from __future__ import annotations

from collections.abc import Iterable
from math import lcm


def cdiv(a: int, b: int) -> int:
    """Ceiling of ``a / b`` for integers, exact at any size."""
    return -(-a // b)


def round_up(a: int, b: int) -> int:
    """Smallest multiple of ``b`` that is at least ``a``."""
    return cdiv(a, b) * b


def lcm_of(values: Iterable[int]) -> int:
    """Least common multiple; 1 for none."""
    return lcm(*values)


def next_power_of_two(a: int) -> int:
    """Smallest power of two that is at least ``a``, which is positive."""
    return 1 << (a - 1).bit_length()
