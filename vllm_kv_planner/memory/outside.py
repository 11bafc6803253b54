"""A figure of memory outside PyTorch."""

from __future__ import annotations

from ..records import dataclass


@dataclass(frozen=True)
class Outside:
    """Bytes outside PyTorch's tensors, how far off they may be, and where they come from.

    ``cold_bytes`` of them are there only after a start that compiled the model.
    """

    size_bytes: int
    uncertainty_bytes: int
    how: str
    cold_bytes: int = 0
