"""A phase of vLLM's profile run, and what PyTorch's caching allocator counts for its tensors.

vLLM's profile reads ``allocated_bytes``, which counts whole blocks. Restated from PyTorch's
``c10/cuda/CUDACachingAllocator.cpp`` (``round_size``, ``get_allocation_size``, ``should_split``).
"""

from __future__ import annotations

from ..records import dataclass

MIB = 1 << 20
_ROUND = 512
_LARGE = 10 * MIB  # from here on a request gets a segment of its own …
_SEGMENT = 2 * MIB  # … in whole multiples of this
_UNSPLIT_REST = MIB  # a remainder up to this stays with the block
_SPLIT_LIMIT = 20 * MIB
"""``max_split_size_mb`` that vLLM sets while loading (from 0.21 on), profiling (from 0.31 on)."""


def round_up(value: int, multiple: int) -> int:
    """The next multiple of ``multiple``."""
    return -(-value // multiple) * multiple


def allocated_bytes(size: int, *, split_limited: bool = False) -> int:
    """Bytes counted for a fresh tensor of ``size`` bytes.

    A tensor of 10 MiB and more lies in a segment of whole 2 MiB. What is left of the segment is
    split off if it is more than 1 MiB, otherwise it counts with the tensor: 501 MiB count 502.
    With a split limit a block above it is never split.
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


Parts = tuple[tuple[str, int], ...]
"""Tensors, or groups of them, by name; bytes each."""


@dataclass(frozen=True)
class Phase:
    """One phase at its worst moment; bytes on one rank, above the weights.

    Attributes:
        name: ``encoder``, ``forward`` or ``sampler``.
        parts: What lives then.
        uncertainty_bytes: How far off the derivation may be.
    """

    name: str
    parts: Parts
    uncertainty_bytes: int = 0

    def total_bytes(self, *, split_limited: bool = False) -> int:
        """What the allocator counts."""
        return sum(allocated_bytes(size, split_limited=split_limited) for _, size in self.parts)


def parts(**sizes: int) -> Parts:
    """Parts of the given sizes, those of zero left out."""
    return tuple((name, size) for name, size in sizes.items() if size > 0)
