"""compressed-tensors checkpoints (llm-compressor): schemes by group, layers by name or pattern.

Source: vLLM 0.33 ``layers/quantization/compressed_tensors/compressed_tensors.py``
(``get_scheme_dict``, ``_get_scheme_from_parts``), ``compressed_tensors_moe/``, ``utils.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from ....errors import UnsupportedError
from .base import PROJECTIONS, ExpertsMethod, LinearMethod, Quantization, Spec, UnquantizedExperts
from .blocks import Fp4Experts, Fp4Linear, Fp8Experts, Fp8Linear, Mxfp8
from .fp8 import block_size
from .mxfp4 import Mxfp4Experts
from .names import Targets, listed, renamed
from .packed import Int8Linear, PackedWNA16

_MAX_GROUPS = 64
_SCALES: Sequence[Spec] = (
    *((name, (1,), "float32") for name in ("k_scale", "v_scale", "q_scale")),
    *((name, (1,), "bfloat16") for name in ("k_zero_point", "v_zero_point", "q_zero_point")),
)


class CompressedTensors(Quantization):
    """Groups of layers, each with a scheme; layers to ignore."""

    name = "compressed-tensors"

    def __init__(self, config: Mapping[str, Any], *, is_composite: bool) -> None:
        ignored = listed(config, "ignore")
        self.ignored = Targets(renamed(ignored, is_composite=is_composite))
        self.groups: list[tuple[Targets, _Scheme]] = []
        groups = config.get("config_groups")
        groups = groups if isinstance(groups, Mapping) else {}
        if len(groups) > _MAX_GROUPS:
            raise UnsupportedError(
                f"quantization_config: {len(groups):,} config_groups; the stand-alone planner "
                f"reads at most {_MAX_GROUPS}"
            )
        for group in groups.values():
            if not isinstance(group, Mapping):
                raise UnsupportedError("quantization_config: a config group must be an object")
            targets = listed(group, "targets")
            if len(targets) == 1 and targets[0].endswith("Attention"):
                continue
            names = renamed(targets, is_composite=is_composite)
            scheme = _Scheme(group, str(config.get("format") or ""))
            self.groups.append((Targets(names), scheme))
        self.description = "compressed-tensors, " + ", ".join(
            dict.fromkeys(scheme.description for _, scheme in self.groups)
        )

    def linear(self, prefix: str) -> LinearMethod | None:
        """The first group that names the layer, or all linear layers."""
        scheme = self._scheme(prefix, "Linear")
        return None if scheme is None else scheme.linear

    def lm_head(self, prefix: str) -> LinearMethod | None:
        """Only where a group names it."""
        scheme = self._scheme(prefix, "ParallelLMHead")
        return None if scheme is None else scheme.linear

    def experts(self, prefix: str, projections: Sequence[str] = PROJECTIONS) -> ExpertsMethod:
        """By the names of the first expert's matrices."""
        schemes = [
            self._scheme(f"{prefix}.0.{name}", "RoutedExperts", "Linear") for name in projections
        ]
        scheme = schemes[-1]
        return UnquantizedExperts() if scheme is None else scheme.experts

    def attention(self, *, is_latent: bool) -> Sequence[Spec]:
        """Scales and zero points, for ``Attention`` but not for ``MLAAttention``."""
        return () if is_latent else _SCALES

    def _scheme(self, prefix: str, *classes: str) -> _Scheme | None:
        if prefix in self.ignored:
            return None
        for targets, scheme in self.groups:
            if prefix in targets:
                return scheme
        for targets, scheme in self.groups:
            if any(name in targets.names for name in classes):
                return scheme
        return None


class _Scheme:
    """How the layers of one group are stored."""

    def __init__(self, group: Mapping[str, Any], default_format: str) -> None:
        weights = group.get("weights")
        weights = weights if isinstance(weights, Mapping) else {}
        inputs = group.get("input_activations")
        has_inputs = isinstance(inputs, Mapping)
        static = has_inputs and not cast(Mapping[str, Any], inputs).get("dynamic")
        bits, kind = weights.get("num_bits"), weights.get("type")
        strategy = str(weights.get("strategy") or "tensor")
        group_size = weights.get("group_size")
        size = group_size if isinstance(group_size, int) and group_size > 0 else -1
        self.linear: LinearMethod
        self.experts: ExpertsMethod
        if kind == "float" and bits == 4 and size == 16:
            self.linear = Fp4Linear(16, has_inputs)
            self.experts = Fp4Experts(16, has_inputs)
        elif kind == "float" and bits == 4 and size == 32:
            self.linear = Mxfp4Linear()
            self.experts = Mxfp4Experts()
        elif kind == "float" and bits == 8 and size == 32:
            self.linear = self.experts = Mxfp8()
        elif kind == "float" and bits == 8:
            block = (128, 128)
            if strategy == "block":
                block = block_size(weights.get("block_structure"))
            self.linear = Fp8Linear(strategy, block, static)
            self.experts = Fp8Experts(strategy, block, static)
        elif kind == "int" and (bits == 4 or (bits == 8 and not has_inputs)):
            symmetric = weights.get("symmetric", True) is not False
            self.linear = self.experts = PackedWNA16(cast(int, bits), size, symmetric)
        elif kind == "int" and bits == 8:
            self.linear = self.experts = Int8Linear(strategy, static)
        else:
            raise UnsupportedError(
                f"quantization_config: weights of {str(bits)[:10]} bits, type {str(kind)[:20]}, "
                "in compressed-tensors are not known to the stand-alone planner"
            )
        self.description = f"{bits}-bit {kind} weights by {strategy}"
        self.format = str(group.get("format") or default_format)


class Mxfp4Linear:
    """4-bit floats with an 8-bit exponent per 32."""

    def linear(self, shape: Any) -> Sequence[Spec]:
        """Two weights a byte, an exponent per 32."""
        rows = sum(shape.outputs)
        return [
            ("weight_packed", (rows, shape.inputs // 2), "uint8"),
            ("weight_scale", (rows, shape.inputs // 32), "uint8"),
        ]
