"""Bytes for people: GiB of 2^30 bytes, always written so."""

from __future__ import annotations

MIB = 1 << 20
GIB = 1 << 30


def gib(size: int) -> str:
    """``size`` bytes in GiB; small ones with the digits that still tell something, and in MiB.

    >>> gib(37_748_736)
    '0.0352 GiB (36.00 MiB)'
    """
    if size < 0:
        return f"-{gib(-size)}"
    if size < GIB:
        return f"{size / GIB:.4f} GiB ({size / MIB:,.2f} MiB)"
    return f"{size / GIB:,.2f} GiB"
