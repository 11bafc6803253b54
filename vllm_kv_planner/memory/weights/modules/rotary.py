"""Rotary caches: one per distinct rope on a rank, however many layers use it.

Source: vLLM 0.33 ``layers/rotary_embedding/__init__.py`` ``get_rope``,
which remembers what it made.
"""

from __future__ import annotations

from collections.abc import Iterator

from ....records import dataclass
from ..rank import Place
from ..tensor import Tensor


@dataclass(frozen=True)
class Rotary:
    """``cos_sin_cache``.

    Attributes:
        rows: Positions.
        width: Rotary dimensions.
        dtype: None for the engine's.
        variant: Tells ropes of equal size apart (their base differs).
        name: As vLLM names the layer.
    """

    rows: int
    width: int
    dtype: str | None = None
    variant: str = ""
    name: str = "rotary_emb"

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """The cache, shared over the rank."""
        inside = place.at(self.name, "rotary")
        yield inside.tensor("cos_sin_cache", (self.rows, self.width), self.dtype, self)
