"""How a checkpoint's layers are stored: a quantisation by its resolved method and config.

Weights may also be quantised while they are loaded (``--quantization fp8`` without such a
checkpoint); what counts is what stays in memory once each layer is loaded. Source: vLLM 0.33
``layers/quantization/online/`` (``OnlineQuantizationConfig``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ....engine_args.checkpoint_quantization import layer_quantization
from ....errors import UnsupportedError
from .base import PROJECTIONS, ExpertsMethod, LinearMethod, Quantization, UnquantizedExperts
from .blocks import Fp4Experts, Fp8Experts, Fp8Linear, Mxfp4Experts, Mxfp8
from .floats import DeepSeekV4, Fp8, GptOssMxfp4, ModelOpt, Mxfp4
from .integers import ExpertsInt8, Int8Linear, Packed
from .schemes import AutoRound, CompressedTensors

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


Make = Callable[[Mapping[str, Any], bool], Quantization]

_METHODS: Mapping[str, Make] = {
    "fp8": lambda config, composite: Fp8(config, is_composite=composite),
    "auto_gptq": lambda config, composite: Packed(config, is_composite=composite),
    "auto_awq": lambda config, composite: Packed(config, is_composite=composite),
    "moe_wna16": lambda config, composite: Packed(config, is_composite=composite),
    "compressed-tensors": lambda config, composite: CompressedTensors(
        config, is_composite=composite
    ),
    "modelopt": lambda config, composite: ModelOpt(config, is_composite=composite),
    "modelopt_fp4": lambda config, composite: ModelOpt(config, is_composite=composite),
    "modelopt_mxfp8": lambda config, composite: ModelOpt(config, is_composite=composite),
    "modelopt_mixed": lambda config, composite: ModelOpt(config, is_composite=composite),
    "gpt_oss_mxfp4": lambda config, composite: GptOssMxfp4(config),
    "mxfp4": lambda config, composite: Mxfp4(config, is_composite=composite),
    "deepseek_v4_fp8": lambda config, composite: DeepSeekV4(config, is_composite=composite),
    "inc": lambda config, composite: AutoRound(config, is_composite=composite),
    "experts_int8": lambda config, composite: ExpertsInt8(),
}


def quantization(
    method: str | None, config: Mapping[str, Any], *, is_composite: bool = False
) -> Quantization:
    """The quantisation of a checkpoint's layers.

    Args:
        method: As ``engine_args.quantization`` resolves it; None for none.
        config: The whole config.json.
        is_composite: A language model lies inside a bigger one, so names are mapped.

    Raises:
        UnsupportedError: A method whose tensors are not known here.
    """
    if method is None:
        return Quantization()
    checkpoint = layer_quantization(config)
    if checkpoint is None and method in ONLINE:
        return Online(method)
    make = _METHODS.get(method)
    if make is None:
        raise UnsupportedError(
            f"--quantization {method}: how its layers are stored is not known to the stand-alone "
            "planner; --planner vllm asks vLLM itself"
        )
    kept = _made.get((method, is_composite))
    if checkpoint is None or kept is None or kept[0] is not checkpoint:
        kept = (checkpoint, make(checkpoint or {}, is_composite))
        _made[method, is_composite] = kept
    return kept[1]


_made: dict[tuple[str, bool], tuple[Any, Quantization]] = {}
"""The last of each method, and what it was made of: its lists of names are long, and configs are
not changed once read."""
