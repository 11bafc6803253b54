"""From the resolved method and the checkpoint's config to what every layer holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ....engine_args.checkpoint_quantization import layer_quantization
from ....errors import UnsupportedError
from .auto_round import AutoRound
from .base import Quantization
from .compressed_tensors import CompressedTensors
from .fp8 import Fp8
from .modelopt import ModelOpt
from .mxfp4 import DeepSeekV4, GptOssMxfp4, Mxfp4
from .online import ONLINE, Online
from .whole_numbers import ExpertsInt8, Packed

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
