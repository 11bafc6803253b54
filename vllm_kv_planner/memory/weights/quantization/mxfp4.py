"""4-bit floats with a one-byte exponent per 32: gpt-oss, Kimi K3, DeepSeek V4's experts.

Source: vLLM 0.33 ``layers/quantization/mxfp4.py``, ``models/deepseek_v4/quant_config.py``;
sizes are rounded up for the kernel before weights are allocated
(``layers/fused_moe/oracle/mxfp4.py`` ``mxfp4_round_up_hidden_size_and_intermediate_size``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ....kv_cache.math import round_up
from ....records import dataclass
from .base import (
    PROJECTIONS,
    ExpertsMethod,
    ExpertsShape,
    Quantization,
    Spec,
    UnquantizedExperts,
    expert_biases,
)
from .blocks import Fp4Experts
from .fp8 import Fp8

_BLOCK = 32


@dataclass(frozen=True)
class Mxfp4Experts:
    """Packed weights, exponents, biases.

    Attributes:
        align_hidden: What the kernel rounds the hidden size up to.
        align_intermediate: What it rounds an expert's width up to.
        prefers_triton: Its choice of kernels begins with Triton's on Hopper (gpt-oss).
    """

    align_hidden: int = 1
    align_intermediate: int = 1
    prefers_triton: bool = False

    def experts(self, shape: ExpertsShape) -> Sequence[Spec]:
        """Sizes rounded up, two weights a byte."""
        count = shape.num_experts
        hidden = round_up(shape.hidden, self.align_hidden)
        width = round_up(shape.intermediate, self.align_intermediate)
        rows = shape.shards * width
        return [
            ("w13_weight", (count, rows, hidden // 2), "uint8"),
            ("w13_weight_scale", (count, rows, hidden // _BLOCK), "uint8"),
            ("w2_weight", (count, hidden, width // 2), "uint8"),
            ("w2_weight_scale", (count, hidden, width // _BLOCK), "uint8"),
            *expert_biases(shape, width, hidden, "bfloat16"),
        ]


class Mxfp4(Quantization):
    """``mxfp4``: experts only; linear layers stay as they are (``Mxfp4Config``)."""

    name = "mxfp4"
    description = "experts in 4-bit floats, 32 to an exponent"

    def experts(self, prefix: str, projections: Sequence[str] = PROJECTIONS) -> ExpertsMethod:
        """Every layer's."""
        return Mxfp4Experts()

    def __init__(self, config: Mapping[str, Any], *, is_composite: bool = False) -> None:
        del config, is_composite


class GptOssMxfp4(Mxfp4):
    """``gpt_oss_mxfp4``: the same, with another choice of kernels."""

    name = "gpt_oss_mxfp4"

    def experts(self, prefix: str, projections: Sequence[str] = PROJECTIONS) -> ExpertsMethod:
        """Every layer's."""
        return Mxfp4Experts(prefers_triton=True)


class DeepSeekV4(Fp8):
    """``deepseek_v4_fp8``: 8-bit blocks, experts in 4 bits (MXFP4, or NVFP4 where it says so)."""

    name = "deepseek_v4_fp8"

    def __init__(
        self, config: Mapping[str, Any], *, is_composite: bool, expert_dtype: str = "fp4"
    ) -> None:
        small = expert_dtype == "fp4"
        scale = "float8_e8m0fnu" if small else "float32"
        super().__init__(config, is_composite=is_composite, scale_dtype=scale)
        self.has_small_experts = small
        self.is_nvfp4 = str(config.get("moe_quant_algo") or "").upper() == "NVFP4"
        if small:
            kind = "NVFP4" if self.is_nvfp4 else "MXFP4"
            self.description = f"8-bit float blocks, experts {kind}"

    def experts(self, prefix: str, projections: Sequence[str] = PROJECTIONS) -> ExpertsMethod:
        """Unless the checkpoint leaves them out."""
        if not self.has_small_experts:
            return super().experts(prefix, projections)
        if prefix in self.skipped:
            return UnquantizedExperts()
        return Fp4Experts() if self.is_nvfp4 else Mxfp4Experts()

    def attention(self, *, is_latent: bool) -> Sequence[Spec]:
        """Its attention is no ``Attention``."""
        return ()
