"""``fp8`` checkpoints: DeepSeek's 128 x 128 blocks, or one scale a matrix.

Source: vLLM 0.33 ``layers/quantization/fp8.py`` ``Fp8Config``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ....errors import UnsupportedError
from .base import PROJECTIONS, ExpertsMethod, LinearMethod, Quantization, Spec, UnquantizedExperts
from .blocks import Fp8Experts, Fp8Linear
from .names import SkippedLayers, listed, renamed


class Fp8(Quantization):
    """8-bit floats with scales by block or by matrix."""

    name = "fp8"

    def __init__(
        self, config: Mapping[str, Any], *, is_composite: bool, scale_dtype: str = "float32"
    ) -> None:
        skipped = listed(config, "ignored_layers", "modules_to_not_convert")
        self.skipped = SkippedLayers(renamed(skipped, is_composite=is_composite))
        block = config.get("weight_block_size")
        static = config.get("activation_scheme") == "static"
        strategy = "tensor"
        size = (128, 128)
        if block is not None:
            strategy, size = "block", block_size(block)
        self._linear = Fp8Linear(strategy, size, static, scale_dtype)
        self._experts = Fp8Experts(strategy, size, static)
        self.description = (
            f"8-bit floats, {size[0]} x {size[1]} blocks" if block else "8-bit floats, a scale each"
        )

    def linear(self, prefix: str) -> LinearMethod | None:
        """Unless the checkpoint leaves it out."""
        return None if prefix in self.skipped else self._linear

    def experts(self, prefix: str, projections: Sequence[str] = PROJECTIONS) -> ExpertsMethod:
        """Unless the checkpoint leaves them out."""
        return UnquantizedExperts() if prefix in self.skipped else self._experts

    def attention(self, *, is_latent: bool) -> Sequence[Spec]:
        """``BaseKVCacheMethod``, for ``Attention`` but not for ``MLAAttention``."""
        return () if is_latent else SCALES


SCALES: Sequence[Spec] = tuple(
    (name, (), "bfloat16") for name in ("q_scale", "k_scale", "v_scale", "prob_scale")
)


def block_size(value: object) -> tuple[int, int]:
    """``weight_block_size``: two positive numbers.

    Raises:
        UnsupportedError: It is anything else.
    """
    if isinstance(value, (list, tuple)) and len(value) == 2:
        rows, columns = value
        if isinstance(rows, int) and isinstance(columns, int) and rows > 0 and columns > 0:
            return rows, columns
    raise UnsupportedError("quantization_config: weight_block_size must be two positive numbers")
