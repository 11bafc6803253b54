"""Whole-number weights packed into 32-bit words: GPTQ, AWQ, compressed-tensors; 8-bit experts.

Source: vLLM 0.33 ``layers/quantization/auto_gptq.py``, ``auto_awq.py``, ``moe_wna16.py``,
``experts_int8.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from ....errors import ConfigError, InputError, UnsupportedError
from ....records import dataclass
from .base import (
    PROJECTIONS,
    ExpertsMethod,
    ExpertsShape,
    LinearMethod,
    LinearShape,
    Quantization,
    Spec,
    StoredAlike,
    UnquantizedExperts,
)
from .blocks import Int8
from .names import Parts, listed, parts_of, renamed
from .patterns import Patterns


@dataclass(frozen=True)
class PackedLinear(StoredAlike):
    """``qweight``, ``scales``, ``qzeros``.

    Source: vLLM 0.33 ``layers/quantization/auto_gptq.py`` and ``auto_awq.py``
    ``create_weights``: GPTQ packs along the inputs, AWQ along the outputs; sizes are the same.

    Attributes:
        group_size: Inputs under one scale; -1 for all of them.
    """

    bits: int = 4
    group_size: int = 128

    def linear(self, shape: LinearShape) -> Sequence[Spec]:
        """Words of weights and zero points, scales."""
        groups = 1 if self.group_size == -1 else shape.inputs // self.group_size
        return [
            ("qweight", (shape.inputs * self.bits // 32, shape.rows), "int32"),
            ("scales", (groups, shape.rows), shape.dtype),
            ("qzeros", (groups, shape.rows * self.bits // 32), "int32"),
        ]


@dataclass(frozen=True)
class PackedWNA16:
    """compressed-tensors' ``pack-quantized``.

    Source: vLLM 0.33 ``compressed_tensors/schemes/compressed_tensors_wNa16.py``,
    ``compressed_tensors_moe_wna16.py``.

    Attributes:
        group_size: Inputs under one scale; -1 for all of them.
        symmetric: Without zero points.
    """

    bits: int = 4
    group_size: int = 128
    symmetric: bool = True

    def linear(self, shape: LinearShape) -> Sequence[Spec]:
        """Words, scales, zero points, the shape."""
        groups = 1 if self.group_size == -1 else shape.inputs // self.group_size
        found: list[Spec] = [
            ("weight_packed", (shape.rows, shape.inputs * self.bits // 32), "int32"),
            ("weight_scale", (shape.rows, groups), shape.dtype),
            ("weight_shape", (2,), "int64"),
        ]
        if not self.symmetric:
            found.append(("weight_zero_point", (shape.rows * self.bits // 32, groups), "int32"))
        return found

    def experts(self, shape: ExpertsShape) -> Sequence[Spec]:
        """The same for every expert's two products, without zero points.

        Raises:
            InputError: A rank would hold a part of a group.
        """
        count, hidden, width = shape.num_experts, shape.hidden, shape.intermediate
        rows = shape.shards * width
        size = self.group_size
        if size != -1 and (hidden % size or width % size):
            name, wrong = ("hidden_size", hidden) if hidden % size else ("expert's width", width)
            raise InputError(
                f"CompressedTensors WNA16 MoE requires the {name} on a rank ({wrong}) to be "
                f"divisible by group_size ({size}): a smaller --tensor-parallel-size, or "
                "--enable-expert-parallel"
            )
        first, second = (1, 1) if size == -1 else (hidden // size, width // size)
        return [
            ("w13_weight_packed", (count, hidden * self.bits // 32, rows), "int32"),
            ("w2_weight_packed", (count, width * self.bits // 32, hidden), "int32"),
            ("w13_weight_scale", (count, first, rows), shape.dtype),
            ("w2_weight_scale", (count, second, hidden), shape.dtype),
            ("w13_weight_shape", (count, 2), shape.dtype),
            ("w2_weight_shape", (count, 2), shape.dtype),
        ]


class Packed(Quantization):
    """4 or 8 bits a weight, in 32-bit words."""

    def __init__(self, config: Mapping[str, Any], *, is_composite: bool) -> None:
        self.name = str(config.get("quant_method") or "gptq")
        bits = config.get("bits", config.get("w_bit", 4))
        group = config.get("group_size", config.get("q_group_size", 128))
        self.method = packed_linear(self.name, bits, group)
        self.has_head = bool(config.get("lm_head"))
        # Symmetric GPTQ needs none: kernels drop them once loaded.
        self.keeps_zeros = self.name != "gptq" or config.get("sym") is False
        skipped = listed(config, "modules_to_not_convert")
        self.skipped = Parts(renamed(skipped, is_composite=is_composite))
        chosen = _flattened(config.get("modules_in_block_to_quantize"))
        self.chosen = Parts(renamed(chosen, is_composite=is_composite)) if chosen else None
        self.dynamic = DynamicRules(config.get("dynamic"), self.method, self.name)
        self.description = f"{self.name}, {bits} bits, groups of {group}"

    def linear(self, prefix: str) -> LinearMethod | None:
        """Unless left out by name (AWQ), not chosen, or by a rule (GPTQ's ``dynamic``)."""
        if has_part(self.skipped, prefix):
            return None
        if self.chosen is not None and not has_part(self.chosen, prefix):
            return None
        return self.dynamic.method(prefix)

    def lm_head(self, prefix: str) -> LinearMethod | None:
        """Where the checkpoint says that it is quantised."""
        return self.linear(prefix) if self.has_head else None

    def experts(self, prefix: str, projections: Sequence[str] = PROJECTIONS) -> ExpertsMethod:
        """As linear layers, whatever ``modules_in_block_to_quantize`` says."""
        if self.skipped.match(prefix):
            return UnquantizedExperts()
        return self.dynamic.method(prefix) or UnquantizedExperts()


class DynamicRules:
    """GPTQModel's rules: ``-:`` leaves out what matches, others change its bits or groups.

    Source: vLLM 0.33 ``layers/quantization/utils/gptq_utils.py`` ``get_dynamic_override``,
    ``override_config``.
    """

    def __init__(self, rules: object, base: PackedLinear, name: str) -> None:
        found = rules if isinstance(rules, Mapping) else {}
        first: dict[str, object] = {}  # of equal patterns the first one decides
        for rule, change in found.items():
            pattern = rule.removeprefix("-:").removeprefix("+:")
            first.setdefault(pattern, None if rule.startswith("-:") else change or {})
        self.base = base
        self.patterns = Patterns(first, "dynamic rules")
        self.methods = [
            None if change is None else _changed(base, name, change) for change in first.values()
        ]

    def method(self, prefix: str) -> PackedLinear | None:
        """By the first rule that matches; None where it leaves the layer out."""
        first = self.patterns.first(prefix)
        return self.base if first is None else self.methods[first]


def _changed(base: PackedLinear, name: str, change: object) -> PackedLinear:
    if not isinstance(change, Mapping):
        return base
    bits, group = change.get("bits", base.bits), change.get("group_size", base.group_size)
    return packed_linear(name, bits, group)


def packed_linear(name: str, bits: object, group_size: object) -> PackedLinear:
    """The method of layers with so many bits and inputs a group.

    Raises:
        UnsupportedError: Values that no such checkpoint has.
    """
    known = isinstance(bits, int) and bits in (2, 3, 4, 8) and not isinstance(bits, bool)
    whole = isinstance(group_size, int) and not isinstance(group_size, bool)
    if not known or not whole or (cast(int, group_size) < 1 and group_size != -1):
        raise UnsupportedError(
            f"quantization_config: {name[:40]} with bits {str(bits)[:20]} and group_size "
            f"{str(group_size)[:20]} is not known"
        )
    return PackedLinear(cast(int, bits), cast(int, group_size))


def has_part(names: Parts, prefix: str) -> bool:
    """``is_layer_skipped`` by parts of names: of a merged layer, or of all that it was made of."""
    parts = parts_of(prefix)
    return names.match(prefix) or (len(parts) > 1 and all(names.match(part) for part in parts))


def _flattened(found: object) -> list[str]:
    """``modules_in_block_to_quantize``: names, or lists of names."""
    listed = found if isinstance(found, list) else [None] if found else []
    names = [name for each in listed for name in (each if isinstance(each, list) else [each])]
    if not all(isinstance(name, str) for name in names):
        raise ConfigError(
            "quantization_config: modules_in_block_to_quantize must list names, or lists of names"
        )
    return cast("list[str]", names)


class ExpertsInt8(Quantization):
    """``experts_int8``: experts in 8 bits with a scale per row, the rest as it is."""

    name = "experts_int8"
    description = "experts in 8 bits"

    def experts(self, prefix: str, projections: Sequence[str] = PROJECTIONS) -> ExpertsMethod:
        """Every layer's."""
        return Int8()
