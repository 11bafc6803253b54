"""Whole-number weights packed into 32-bit words: GPTQ, AWQ and compressed-tensors' formats."""

from __future__ import annotations

from collections.abc import Sequence

from ....records import dataclass
from .base import ExpertsShape, LinearShape, Spec


@dataclass(frozen=True)
class PackedLinear:
    """``qweight``, ``scales``, ``qzeros``.

    Source: vLLM 0.33 ``layers/quantization/auto_gptq.py`` and ``auto_awq.py``
    ``create_weights``: GPTQ packs along the inputs, AWQ along the outputs; sizes are the same.

    Attributes:
        bits: Of a weight.
        group_size: Inputs under one scale; -1 for all of them.
        has_zeros: Zero points are kept (always, in these two formats).
    """

    bits: int = 4
    group_size: int = 128
    has_zeros: bool = True

    def linear(self, shape: LinearShape) -> Sequence[Spec]:
        """Words of weights and zero points, scales."""
        rows = sum(shape.outputs)
        groups = 1 if self.group_size == -1 else shape.inputs // self.group_size
        found: list[Spec] = [
            ("qweight", (shape.inputs * self.bits // 32, rows), "int32"),
            ("scales", (groups, rows), shape.dtype),
        ]
        if self.has_zeros:
            found.append(("qzeros", (groups, rows * self.bits // 32), "int32"))
        return found

    def experts(self, shape: ExpertsShape) -> Sequence[Spec]:
        """The same for every expert's two products."""
        count, hidden, width = shape.num_experts, shape.hidden, shape.intermediate
        rows = shape.shards * width
        size = self.group_size
        first, second = (1, 1) if size == -1 else (hidden // size, width // size)
        found: list[Spec] = [
            ("w13_qweight", (count, hidden * self.bits // 32, rows), "int32"),
            ("w2_qweight", (count, width * self.bits // 32, hidden), "int32"),
            ("w13_scales", (count, first, rows), shape.dtype),
            ("w2_scales", (count, second, hidden), shape.dtype),
        ]
        if self.has_zeros:
            found.append(("w13_qzeros", (count, first, rows * self.bits // 32), "int32"))
            found.append(("w2_qzeros", (count, second, hidden * self.bits // 32), "int32"))
        return found


@dataclass(frozen=True)
class PackedWNA16:
    """compressed-tensors' ``pack-quantized``.

    Source: vLLM 0.33 ``compressed_tensors/schemes/compressed_tensors_wNa16.py``,
    ``compressed_tensors_moe_wna16.py``.

    Attributes:
        bits: Of a weight.
        group_size: Inputs under one scale; -1 for all of them.
        symmetric: Without zero points.
    """

    bits: int = 4
    group_size: int = 128
    symmetric: bool = True

    def linear(self, shape: LinearShape) -> Sequence[Spec]:
        """Words, scales, zero points, the shape."""
        rows = sum(shape.outputs)
        groups = 1 if self.group_size == -1 else shape.inputs // self.group_size
        found: list[Spec] = [
            ("weight_packed", (rows, shape.inputs * self.bits // 32), "int32"),
            ("weight_scale", (rows, groups), shape.dtype),
            ("weight_shape", (2,), "int64"),
        ]
        if not self.symmetric:
            found.append(("weight_zero_point", (rows * self.bits // 32, groups), "int32"))
        return found

    def experts(self, shape: ExpertsShape) -> Sequence[Spec]:
        """The same for every expert's two products."""
        count, hidden, width = shape.num_experts, shape.hidden, shape.intermediate
        rows = shape.shards * width
        size = self.group_size
        first, second = (1, 1) if size == -1 else (hidden // size, width // size)
        return [
            ("w13_weight_packed", (count, hidden * self.bits // 32, rows), "int32"),
            ("w2_weight_packed", (count, width * self.bits // 32, hidden), "int32"),
            ("w13_weight_scale", (count, first, rows), shape.dtype),
            ("w2_weight_scale", (count, second, hidden), shape.dtype),
            ("w13_weight_shape", (count, 2), shape.dtype),
            ("w2_weight_shape", (count, 2), shape.dtype),
        ]


@dataclass(frozen=True)
class Int8Linear:
    """8-bit whole numbers, one a byte, with float scales (compressed-tensors W8A8).

    Attributes:
        strategy: ``tensor`` or ``channel``.
        has_input_scale: Static activation scales.
    """

    strategy: str = "channel"
    has_input_scale: bool = False

    def linear(self, shape: LinearShape) -> Sequence[Spec]:
        """Weight, scales, input scales."""
        rows = sum(shape.outputs)
        scales = (rows, 1) if self.strategy == "channel" else (len(shape.outputs),)
        found: list[Spec] = [
            ("weight", (rows, shape.inputs), "int8"),
            ("weight_scale", scales, "float32"),
        ]
        if self.has_input_scale:
            found.append(("input_scale", (1,), "float32"))
        return found

    def experts(self, shape: ExpertsShape) -> Sequence[Spec]:
        """Weights and a scale per row."""
        count, hidden, width = shape.num_experts, shape.hidden, shape.intermediate
        rows = shape.shards * width
        return [
            ("w13_weight", (count, rows, hidden), "int8"),
            ("w2_weight", (count, hidden, width), "int8"),
            ("w13_weight_scale", (count, rows, 1), "float32"),
            ("w2_weight_scale", (count, hidden, 1), "float32"),
        ]
