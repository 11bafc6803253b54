"""What PyTorch's caching allocator counts for a tensor.

vLLM's profile reads ``allocated_bytes``, which counts whole blocks. Restated from PyTorch's
``c10/cuda/CUDACachingAllocator.cpp`` (``round_size``, ``get_allocation_size``, ``should_split``).
"""

from __future__ import annotations

MIB = 1 << 20
_ROUND = 512
_LARGE = 10 * MIB  # from here on a request gets a segment of its own …
_SEGMENT = 2 * MIB  # … in whole multiples of this
_UNSPLIT_REST = MIB  # a remainder up to this stays with the block
_SPLIT_LIMIT = 20 * MIB
"""``max_split_size_mb`` that vLLM sets while profiling, from 0.32 on."""


def round_up(value: int, multiple: int) -> int:
    """The next multiple of ``multiple``."""
    return -(-value // multiple) * multiple


def allocated_bytes(size: int, *, split_limited: bool = False) -> int:
    """Bytes counted for a fresh tensor of ``size`` bytes.

    A tensor of 10 MiB and more lies in a segment of whole 2 MiB. What is left of the segment is
    split off if it is more than 1 MiB, otherwise it counts with the tensor: 501 MiB count 502.
    With a split limit (vLLM 0.32 and later) a block above it is never split.
    """
    if size <= 0:
        return 0
    rounded = round_up(size, _ROUND)
    if size < _LARGE:
        return rounded
    segment = round_up(size, _SEGMENT)
    if segment - rounded <= _UNSPLIT_REST or (split_limited and size >= _SPLIT_LIMIT):
        return segment
    return rounded
