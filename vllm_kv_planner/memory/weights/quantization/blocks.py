"""8-bit and 4-bit weights with scales: the tensors that several checkpoint formats share."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from ....errors import InputError
from ....kv_cache.spec import cdiv, round_up
from ....records import dataclass
from .base import ExpertsShape, LinearShape, Spec, StoredAlike, expert_biases

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
        scales: tuple[int, ...] = (len(shape.outputs),)
        if self.strategy == "block":
            n, k = self.block
            scales = (sum(cdiv(rows, n) for rows in shape.outputs), cdiv(shape.inputs, k))
        elif self.strategy == "channel":
            scales = (shape.rows, 1)
        found: list[Spec] = [
            ("weight", (shape.rows, shape.inputs), FP8),
            ("weight_scale", scales, self.scale_dtype),
        ]
        if self.has_input_scale:
            found.append(("input_scale", (len(shape.outputs),), "float32"))
        return found


@dataclass(frozen=True)
class Fp8Experts:
    """8-bit experts with float scales.

    Source: vLLM 0.33 ``layers/quantization/fp8.py`` ``Fp8MoEMethod``,
    ``compressed_tensors_moe_w8a8_fp8.py``, ``modelopt.py`` ``ModelOptFp8MoEMethod``.
    """

    strategy: str = "tensor"
    block: tuple[int, int] = (128, 128)
    has_input_scale: bool = False

    def experts(self, shape: ExpertsShape) -> Sequence[Spec]:
        """Weights, biases, scales, input scales."""
        count, shards = shape.num_experts, shape.shards
        hidden, width = shape.hidden, shape.intermediate
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
            found += [(f"{each}_input_scale", (count,), "float32") for each in ("w13", "w2")]
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
class Fp4(StoredAlike):
    """Two 4-bit floats a byte, an 8-bit scale per group, and scales per merged matrix (NVFP4).

    Source: vLLM 0.33 ``layers/quantization/modelopt.py`` ``ModelOptNvFp4FusedMoE``,
    ``compressed_tensors/schemes/compressed_tensors_w4a4_nvfp4.py``,
    ``compressed_tensors_moe_w4a4_nvfp4.py``.
    """

    has_input_scale: bool = True
    input_scale_dtype: str = "float32"

    def linear(self, shape: LinearShape) -> Sequence[Spec]:
        """Weight, scales, global scales."""
        merged = len(shape.outputs)
        found: list[Spec] = [
            ("weight", (shape.rows, shape.inputs // 2), "uint8"),
            ("weight_scale", (shape.rows, shape.inputs // 16), FP8),
            ("weight_scale_2", (merged,), "float32"),
        ]
        if self.has_input_scale:
            found.append(("input_scale", (merged,), self.input_scale_dtype))
        return found


@dataclass(frozen=True)
class Fp4Linear(Fp4):
    """ModelOpt's own linear layers (``KNvfp4Static.create_weights``), which refuse odd widths."""

    def linear(self, shape: LinearShape) -> Sequence[Spec]:
        """As any NVFP4 layer.

        Raises:
            InputError: A rank would hold a part of a group of 16.
        """
        if shape.inputs % 16:
            raise InputError(
                f"NVFP4: in features size is not multiple of 16 ({shape.inputs} on a rank)"
            )
        return super().linear(shape)


class Mxfp8(StoredAlike):
    """8-bit floats with a one-byte exponent per 32 of them (``ModelOptMxFp8``)."""

    def linear(self, shape: LinearShape) -> Sequence[Spec]:
        """Weight and scales."""
        return [
            ("weight", (shape.rows, shape.inputs), FP8),
            ("weight_scale", (shape.rows, shape.inputs // 32), "uint8"),
        ]


class Mxfp4Linear:
    """4-bit floats with an 8-bit exponent per 32."""

    def linear(self, shape: LinearShape) -> Sequence[Spec]:
        """Two weights a byte, an exponent per 32."""
        return [
            ("weight_packed", (shape.rows, shape.inputs // 2), "uint8"),
            ("weight_scale", (shape.rows, shape.inputs // 32), "uint8"),
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


@dataclass(frozen=True)
class Int8(StoredAlike):
    """8-bit whole numbers, one a byte, with float scales (compressed-tensors W8A8)."""

    strategy: str = "channel"
    has_input_scale: bool = False

    def linear(self, shape: LinearShape) -> Sequence[Spec]:
        """Weight, scales, input scales."""
        scales = (shape.rows, 1) if self.strategy == "channel" else (len(shape.outputs),)
        found: list[Spec] = [
            ("weight", (shape.rows, shape.inputs), "int8"),
            ("weight_scale", scales, "float32"),
        ]
        if self.has_input_scale:
            found.append(("input_scale", (1,), "float32"))
        return found

    def experts(self, shape: ExpertsShape) -> Sequence[Spec]:
        """Weights and a scale per row, whatever linear layers have."""
        return StoredAlike.experts(Int8(), shape)
