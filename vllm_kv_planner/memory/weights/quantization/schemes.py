"""Checkpoints whose layers differ: compressed-tensors (llm-compressor) and AutoRound (``inc``).

Source: vLLM 0.33 ``layers/quantization/compressed_tensors/compressed_tensors.py``
(``get_scheme_dict``, ``_get_scheme_from_parts``), ``compressed_tensors_moe/``, ``utils.py``;
``layers/quantization/inc/inc.py`` (``INCConfig``), ``config_parser.py`` (``_resolve_raw``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from ....errors import UnsupportedError
from ....records import dataclass
from .base import PROJECTIONS, ExpertsMethod, LinearMethod, Quantization, Spec, UnquantizedExperts
from .blocks import Fp4, Fp8Experts, Fp8Linear, Int8, Mxfp4Experts, Mxfp4Linear, Mxfp8
from .floats import block_size
from .integers import PackedLinear, PackedWNA16, packed_linear
from .names import PACKED, ByLayerNumber, Targets, listed, parts_of, renamed
from .patterns import Patterns

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
            self.groups.append((Targets(names), _Scheme(group)))
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
        """By the name of the first expert's last matrix."""
        scheme = self._scheme(f"{prefix}.0.{projections[-1]}", "RoutedExperts", "Linear")
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

    def __init__(self, group: Mapping[str, Any]) -> None:
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
            self.linear = self.experts = Fp4(has_inputs)
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
            self.linear = self.experts = Int8(strategy, static)
        else:
            raise UnsupportedError(
                f"quantization_config: weights of {str(bits)[:10]} bits, type {str(kind)[:20]}, "
                "in compressed-tensors are not known to the stand-alone planner"
            )
        self.description = f"{bits}-bit {kind} weights by {strategy}"


_SPECIAL = frozenset("*+?^$()[]{}|\\")
_UNQUANTISED = 16


@dataclass(frozen=True)
class _Layer:
    """One layer's scheme: bits of a weight, and weights under one scale."""

    bits: object
    group_size: object


class AutoRound(Quantization):
    """``auto-round`` checkpoints of whole numbers, 8-bit floats in blocks, and MXFP."""

    name = "inc"

    def __init__(self, config: Mapping[str, Any], *, is_composite: bool) -> None:
        self.data_type = str(config.get("data_type") or "int")
        self.base = _Layer(config.get("bits"), config.get("group_size"))
        extra = config.get("extra_config")
        extra = extra if isinstance(extra, Mapping) else {}
        names = renamed((str(name) for name in extra), is_composite=is_composite)
        self.extra = dict(zip(names, extra.values(), strict=True))
        self.order = {name: number for number, name in enumerate(self.extra)}
        self.rules = [name for name in self.extra if _SPECIAL & set(name)]
        self.patterns = Patterns(map(_anywhere, self.rules), "expressions of extra_config")
        blocks = config.get("block_name_to_quantize") or config.get("to_quant_block_names")
        if isinstance(blocks, str):
            blocks = blocks.split(",")
        found = listed({"block_name_to_quantize": blocks}, "block_name_to_quantize")
        self.blocks = ByLayerNumber(renamed(found, is_composite=is_composite)) if found else None
        # kernels drop the zero points of symmetric weights, see ``estimate.processed``
        formats = f"{config.get('packing_format') or 'gptq'} {config.get('backend') or ''}"
        self.keeps_zeros = "gptq" not in formats or config.get("sym", True) is False
        self.description = f"AutoRound, {self.base.bits} bits, groups of {self.base.group_size}"
        self._method(self.base)  # refuses what is not known

    def linear(self, prefix: str) -> LinearMethod | None:
        """By the layer's own entry, else by the block it lies in."""
        return self._method(self._layer(prefix, is_head=False))

    def lm_head(self, prefix: str) -> LinearMethod | None:
        """Only where an entry or a block names it."""
        return self._method(self._layer(prefix, is_head=True))

    def experts(self, prefix: str, projections: Sequence[str] = PROJECTIONS) -> ExpertsMethod:
        """As a linear layer of that name."""
        layer = self._layer(prefix, is_head=False)
        if not _is_quantised(layer):
            return UnquantizedExperts()
        if "mx_fp" in self.data_type and layer.bits == 4:
            return Mxfp4Experts()
        method = self._method(layer)
        if isinstance(method, (PackedLinear, Mxfp8)):
            return method
        raise UnsupportedError(
            f"quantization_config: AutoRound experts of data_type {self.data_type[:20]!r} have no "
            "method in vLLM 0.33"
        )

    def _layer(self, prefix: str, *, is_head: bool) -> _Layer:
        own = self._named(prefix)
        if own is not None:
            return self._entry(own, quantised=True)
        quantised = not is_head
        if self.blocks is not None:
            quantised = any(prefix.startswith(name) for name in self.blocks.candidates(prefix))
        for merged in PACKED:
            parts = parts_of(prefix) if prefix.rpartition(".")[2] == merged else []
            entries = [self._matched(part) for part in parts]
            chosen = next((entry for entry in entries if entry is not None), None)
            if chosen is not None:
                return self._entry(chosen, quantised=quantised)
        return self._entry(self._matched(prefix), quantised=quantised)

    def _named(self, prefix: str) -> str | None:
        """The entry of that name, or of the end of it; ``model.`` before it left out."""
        if prefix in self.extra:
            return prefix
        outer = self.extra.get(f"model.{prefix}")
        if isinstance(outer, Mapping) and not _is_quantised(_Layer(outer.get("bits", 16), None)):
            return f"model.{prefix}"
        ends = [prefix[i + 1 :] for i, character in enumerate(prefix) if character == "."]
        found = [end for end in ends if end in self.extra]
        return min(found, key=self.order.__getitem__) if found else None

    def _matched(self, name: str) -> str | None:
        """The entry of that name, or the first whose expression is found in it."""
        if name in self.extra:
            return name
        first = self.patterns.first(name)
        return None if first is None else self.rules[first]

    def _entry(self, name: str | None, *, quantised: bool) -> _Layer:
        base = self.base if quantised else _Layer(_UNQUANTISED, -1)
        entry = None if name is None else self.extra[name]
        if not isinstance(entry, Mapping):
            return base
        return _Layer(entry.get("bits", base.bits), entry.get("group_size", base.group_size))

    def _method(self, layer: _Layer) -> LinearMethod | None:
        if not _is_quantised(layer):
            return None
        if self.data_type == "int" and layer.bits in (4, 8):
            return packed_linear("auto-round", layer.bits, layer.group_size)
        if self.data_type in ("fp", "fp8") and layer.bits == 8:
            return Fp8Linear("block", block_size(layer.group_size))
        if "mx_fp" in self.data_type and layer.bits in (4, 8):
            return Mxfp4Linear() if layer.bits == 4 else Mxfp8()
        raise UnsupportedError(
            f"quantization_config: AutoRound layers of {str(layer.bits)[:10]} bits, data_type "
            f"{self.data_type[:20]!r}, are not known to the stand-alone planner; --planner vllm "
            "can answer"
        )


def _is_quantised(layer: _Layer) -> bool:
    return not isinstance(layer.bits, int) or layer.bits < _UNQUANTISED


def _anywhere(expression: str) -> str:
    """An expression that is searched for, as one that matches from the beginning."""
    return expression if expression.startswith((".*", "^")) else ".*" + expression
