"""Weights quantised while they are loaded: ``--quantization fp8`` without such a checkpoint.

What counts is what stays in memory once each layer is loaded.
Source: vLLM 0.33 ``layers/quantization/online/`` (``OnlineQuantizationConfig``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .base import PROJECTIONS, ExpertsMethod, LinearMethod, Quantization, UnquantizedExperts
from .blocks import Fp4Experts, Fp8Experts, Fp8Linear, Mxfp8
from .mxfp4 import Mxfp4Experts
from .packed import Int8Linear

_LINEAR: Mapping[str, LinearMethod | None] = {
    "fp8": Fp8Linear("tensor"),
    "fp8_per_tensor": Fp8Linear("tensor"),
    "fp8_per_block": Fp8Linear("block"),
    "fp8_per_channel": Fp8Linear("channel"),
    "mxfp8": Mxfp8(),
    "mxfp4": None,
    "int8_per_channel_weight_only": None,
    "nvfp4_per_token": None,
}
_EXPERTS: Mapping[str, ExpertsMethod] = {
    "fp8": Fp8Experts("tensor"),
    "fp8_per_tensor": Fp8Experts("tensor"),
    "fp8_per_block": Fp8Experts("block"),
    "fp8_per_channel": Fp8Experts("channel"),
    "mxfp8": Mxfp8(),
    "mxfp4": Mxfp4Experts(),
    "int8_per_channel_weight_only": Int8Linear(),
    "nvfp4_per_token": Fp4Experts(),
}
ONLINE = frozenset(_LINEAR)
"""``--quantization`` values that need no quantised checkpoint."""


class Online(Quantization):
    """One shorthand of ``--quantization``."""

    def __init__(self, method: str) -> None:
        self.name = method
        self.description = f"quantised while loading ({method})"

    def linear(self, prefix: str) -> LinearMethod | None:
        """Every linear layer of the language model and its towers; heads stay as they are."""
        return _LINEAR[self.name or ""]

    def experts(self, prefix: str, projections: Sequence[str] = PROJECTIONS) -> ExpertsMethod:
        """Every layer's."""
        return _EXPERTS.get(self.name or "", UnquantizedExperts())
