"""8-bit and 4-bit float weights with scales: the tensors that several checkpoint formats share."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from ....kv_cache.spec import cdiv, round_up
from ....records import dataclass
from .base import ExpertsShape, LinearShape, Spec, expert_biases

FP8 = "float8_e4m3fn"


@dataclass(frozen=True)
class Fp8Linear:
    """8-bit weights with float scales.

    Source: vLLM 0.33 ``layers/quantization/fp8.py`` ``Fp8LinearMethod``,
    ``compressed_tensors/schemes/compressed_tensors_w8a8_fp8.py``, ``modelopt.py``.

    Attributes:
        strategy: ``tensor`` (a scale per merged matrix), ``channel`` (per row) or ``block``.
        block: Rows and columns of a block.
        has_input_scale: Static activation scales.
        scale_dtype: Of the scales.
    """

    strategy: str = "tensor"
    block: tuple[int, int] = (128, 128)
    has_input_scale: bool = False
    scale_dtype: str = "float32"

    def linear(self, shape: LinearShape) -> Sequence[Spec]:
        """Weight, scales, input scales."""
        rows = sum(shape.outputs)
        found: list[Spec] = [("weight", (rows, shape.inputs), FP8)]
        if self.strategy == "block":
            n, k = self.block
            scales: tuple[int, ...] = (
                sum(cdiv(o, n) for o in shape.outputs),
                cdiv(shape.inputs, k),
            )
        elif self.strategy == "channel":
            scales = (rows, 1)
        else:
            scales = (len(shape.outputs),)
        found.append(("weight_scale", scales, self.scale_dtype))
        if self.has_input_scale:
            found.append(("input_scale", (len(shape.outputs),), "float32"))
        return found


@dataclass(frozen=True)
class Fp8Experts:
    """8-bit experts with float scales.

    Source: vLLM 0.33 ``layers/quantization/fp8.py`` ``Fp8MoEMethod``,
    ``compressed_tensors_moe_w8a8_fp8.py``, ``modelopt.py`` ``ModelOptFp8MoEMethod``.

    Attributes:
        strategy: ``tensor``, ``channel`` or ``block``.
        block: Rows and columns of a block.
        has_input_scale: Static activation scales.
        shards_with_input_scale: Whether each merged matrix has its own.
        align_intermediate: What the kernel rounds an expert's width up to.
    """

    strategy: str = "tensor"
    block: tuple[int, int] = (128, 128)
    has_input_scale: bool = False
    shards_with_input_scale: bool = False
    align_intermediate: int = 1

    def experts(self, shape: ExpertsShape) -> Sequence[Spec]:
        """Weights, biases, scales, input scales."""
        count, hidden, shards = shape.num_experts, shape.hidden, shape.shards
        width = cdiv(shape.intermediate, self.align_intermediate) * self.align_intermediate
        found: list[Spec] = [
            ("w13_weight", (count, shards * width, hidden), FP8),
            ("w2_weight", (count, hidden, width), FP8),
            *expert_biases(shape, width, hidden, shape.dtype),
        ]
        if self.strategy == "block":
            n, k = self._block(width, hidden)
            first: tuple[int, ...] = (count, shards * cdiv(width, n), cdiv(hidden, k))
            second: tuple[int, ...] = (count, cdiv(hidden, n), cdiv(width, k))
        elif self.strategy == "channel":
            first, second = (count, shards * width, 1), (count, hidden, 1)
        else:
            first, second = (count, shards), (count,)
        found += [("w13_weight_scale", first, "float32"), ("w2_weight_scale", second, "float32")]
        if self.has_input_scale:
            inputs = (count, shards) if self.shards_with_input_scale else (count,)
            found.append(("w13_input_scale", inputs, "float32"))
            found.append(("w2_input_scale", (count,), "float32"))
        return found

    def _block(self, width: int, hidden: int) -> tuple[int, int]:
        """A finer grid where tensor parallelism cuts through blocks.

        Source: ``refine_fp8_moe_block_shape`` (layers/fused_moe/oracle/fp8.py).
        """
        n, k = self.block
        if width % n == 0 and width % k == 0:
            return n, k
        finer = gcd(n, k, width, hidden)
        return (n, k) if finer < 32 else (finer, finer)


@dataclass(frozen=True)
class Fp4Linear:
    """Two 4-bit floats a byte, an 8-bit scale per group, and scales per merged matrix.

    Source: vLLM 0.33 ``layers/quantization/modelopt.py``,
    ``compressed_tensors/schemes/compressed_tensors_w4a4_nvfp4.py``.

    Attributes:
        group_size: Weights under one scale.
        has_input_scale: Of the activations.
        input_scale_dtype: Of that scale.
    """

    group_size: int = 16
    has_input_scale: bool = True
    input_scale_dtype: str = "float32"

    def linear(self, shape: LinearShape) -> Sequence[Spec]:
        """Weight, scales, global scales."""
        rows, merged = sum(shape.outputs), len(shape.outputs)
        found: list[Spec] = [
            ("weight", (rows, shape.inputs // 2), "uint8"),
            ("weight_scale", (rows, shape.inputs // self.group_size), FP8),
            ("weight_scale_2", (merged,), "float32"),
        ]
        if self.has_input_scale:
            found.append(("input_scale", (merged,), self.input_scale_dtype))
        return found


@dataclass(frozen=True)
class Fp4Experts:
    """4-bit float experts.

    Source: vLLM 0.33 ``layers/quantization/modelopt.py`` ``ModelOptNvFp4FusedMoE``,
    ``compressed_tensors_moe_w4a4_nvfp4.py``.

    Attributes:
        group_size: Weights under one scale.
        has_input_scale: 4-bit activations.
    """

    group_size: int = 16
    has_input_scale: bool = True

    def experts(self, shape: ExpertsShape) -> Sequence[Spec]:
        """Weights, scales, global scales."""
        count, hidden, width, shards = (
            shape.num_experts,
            shape.hidden,
            shape.intermediate,
            shape.shards,
        )
        group = self.group_size
        found: list[Spec] = [
            ("w13_weight", (count, shards * width, hidden // 2), "uint8"),
            ("w2_weight", (count, hidden, width // 2), "uint8"),
            ("w13_weight_scale", (count, shards * width, hidden // group), FP8),
            ("w2_weight_scale", (count, hidden, width // group), FP8),
            ("w13_weight_scale_2", (count, shards), "float32"),
            ("w2_weight_scale_2", (count,), "float32"),
        ]
        if self.has_input_scale:
            found.append(("w13_input_scale", (count, shards), "float32"))
            found.append(("w2_input_scale", (count,), "float32"))
        return found


@dataclass(frozen=True)
class Mxfp8:
    """8-bit floats with a one-byte exponent per 32 of them (``ModelOptMxFp8``)."""

    def linear(self, shape: LinearShape) -> Sequence[Spec]:
        """Weight and scales."""
        rows = sum(shape.outputs)
        return [
            ("weight", (rows, shape.inputs), FP8),
            ("weight_scale", (rows, shape.inputs // 32), "uint8"),
        ]

    def experts(self, shape: ExpertsShape) -> Sequence[Spec]:
        """Weights and scales."""
        count, hidden, width = shape.num_experts, shape.hidden, shape.intermediate
        rows = shape.shards * width
        return [
            ("w13_weight", (count, rows, hidden), FP8),
            ("w2_weight", (count, hidden, width), FP8),
            ("w13_weight_scale", (count, rows, hidden // 32), "uint8"),
            ("w2_weight_scale", (count, hidden, width // 32), "uint8"),
        ]


class Mxfp4Linear:
    """4-bit floats with an 8-bit exponent per 32."""

    def linear(self, shape: LinearShape) -> Sequence[Spec]:
        """Two weights a byte, an exponent per 32."""
        rows = sum(shape.outputs)
        return [
            ("weight_packed", (rows, shape.inputs // 2), "uint8"),
            ("weight_scale", (rows, shape.inputs // 32), "uint8"),
        ]


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
        """Sizes rounded up for the kernel, two weights a byte.

        Source: ``layers/fused_moe/oracle/mxfp4.py``
        ``mxfp4_round_up_hidden_size_and_intermediate_size``.
        """
        count = shape.num_experts
        hidden = round_up(shape.hidden, self.align_hidden)
        width = round_up(shape.intermediate, self.align_intermediate)
        rows = shape.shards * width
        return [
            ("w13_weight", (count, rows, hidden // 2), "uint8"),
            ("w13_weight_scale", (count, rows, hidden // 32), "uint8"),
            ("w2_weight", (count, hidden, width // 2), "uint8"),
            ("w2_weight_scale", (count, hidden, width // 32), "uint8"),
            *expert_biases(shape, width, hidden, "bfloat16"),
        ]
