"""A figure of memory outside PyTorch."""

from __future__ import annotations

from ..records import dataclass


@dataclass(frozen=True)
class Outside:
    """Bytes outside PyTorch's tensors, how far off they may be, and where they come from."""

    size_bytes: int
    uncertainty_bytes: int
    how: str
