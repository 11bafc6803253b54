"""One tensor of a rank: what vLLM registers as a parameter or a buffer."""

from __future__ import annotations

import math

from ...records import dataclass

BYTES = {
    "complex64": 8,
    "float64": 8,
    "int64": 8,
    "float32": 4,
    "int32": 4,
    "bfloat16": 2,
    "float16": 2,
    "int16": 2,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "float8_e8m0fnu": 1,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}
"""Bytes of an element, by torch's names."""


@dataclass(frozen=True)
class Tensor:
    """A tensor that one rank holds.

    Attributes:
        name: As vLLM names it, from the model down: ``model.layers.0.mlp.down_proj.weight``.
        shape: On this rank.
        dtype: torch's name of it.
        part: What it belongs to, for the reader of the plan: ``attention``, ``experts`` ...
        shared: Set where several modules hold the same tensor, which counts once per rank.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    part: str
    shared: object | None = None

    @property
    def num_bytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) * BYTES[self.dtype]
