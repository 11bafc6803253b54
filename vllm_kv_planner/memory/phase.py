"""A phase of vLLM's profile run: which tensors live at its worst moment."""

from __future__ import annotations

from ..records import dataclass
from .allocator import allocated_bytes

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
