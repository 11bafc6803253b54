"""GPTQ, AWQ, and experts quantised to 8 bits while they are loaded.

Source: vLLM 0.33 ``layers/quantization/auto_gptq.py``, ``auto_awq.py``, ``moe_wna16.py``,
``experts_int8.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ....errors import UnsupportedError
from .base import (
    PROJECTIONS,
    ExpertsMethod,
    ExpertsShape,
    LinearMethod,
    Quantization,
    Spec,
    UnquantizedExperts,
)
from .names import Parts, listed, renamed
from .packed import PackedLinear
from .patterns import Patterns


class Packed(Quantization):
    """4 or 8 bits a weight, in 32-bit words."""

    def __init__(self, config: Mapping[str, Any], *, is_composite: bool) -> None:
        self.name = str(config.get("quant_method") or "gptq")
        bits = config.get("bits", config.get("w_bit", 4))
        group = config.get("group_size", config.get("q_group_size", 128))
        if bits not in (2, 3, 4, 8) or not isinstance(group, int) or (group < 1 and group != -1):
            raise UnsupportedError(
                f"quantization_config: {self.name} with bits {str(bits)[:20]} and group_size "
                f"{str(group)[:20]} is not known"
            )
        self.method = PackedLinear(bits=bits, group_size=group)
        self.has_head = bool(config.get("lm_head"))
        # Symmetric GPTQ needs none: kernels drop them once loaded.
        self.keeps_zeros = self.name != "gptq" or config.get("sym") is False
        skipped = listed(config, "modules_to_not_convert")
        self.skipped = Parts(renamed(skipped, is_composite=is_composite))
        dynamic = config.get("dynamic")
        self.rules = list(dynamic if isinstance(dynamic, Mapping) else ())
        self.dynamic = Patterns(
            (rule.removeprefix("-:").removeprefix("+:") for rule in self.rules), "dynamic rules"
        )
        self.description = f"{self.name}, {bits} bits, groups of {group}"

    def linear(self, prefix: str) -> LinearMethod | None:
        """Unless left out by name (AWQ) or by a rule (GPTQ's ``dynamic``)."""
        if self._left_out(prefix):
            return None
        return self.method

    def lm_head(self, prefix: str) -> LinearMethod | None:
        """Where the checkpoint says that it is quantised."""
        return self.method if self.has_head else None

    def experts(self, prefix: str, projections: Sequence[str] = PROJECTIONS) -> ExpertsMethod:
        """As linear layers."""
        return UnquantizedExperts() if self._left_out(prefix) else self.method

    def _left_out(self, prefix: str) -> bool:
        if self.skipped.match(prefix):
            return True
        first = self.dynamic.first(prefix)
        return first is not None and self.rules[first].startswith("-:")


class ExpertsInt8(Quantization):
    """``experts_int8``: experts in 8 bits with a scale per row, the rest as it is."""

    name = "experts_int8"
    description = "experts in 8 bits"

    def experts(self, prefix: str, projections: Sequence[str] = PROJECTIONS) -> ExpertsMethod:
        """Every layer's."""
        return _Int8Experts()


class _Int8Experts:
    def experts(self, shape: ExpertsShape) -> Sequence[Spec]:
        """Weights, and a float32 scale per row."""
        count, hidden, width = shape.num_experts, shape.hidden, shape.intermediate
        rows = shape.shards * width
        return [
            ("w13_weight", (count, rows, hidden), "int8"),
            ("w2_weight", (count, hidden, width), "int8"),
            ("w13_scale", (count, rows), "float32"),
            ("w2_scale", (count, hidden), "float32"),
        ]
