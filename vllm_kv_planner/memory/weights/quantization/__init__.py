"""How a checkpoint's layers are stored: a quantisation by its resolved method and config."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from ....engine_args.quantization import layer_quantization
from ....errors import UnsupportedError
from .base import Quantization

_METHODS: Mapping[str, str] = {
    **dict.fromkeys(("auto_gptq", "auto_awq", "moe_wna16"), "integers:Packed"),
    **dict.fromkeys(
        ("modelopt", "modelopt_fp4", "modelopt_mxfp8", "modelopt_mixed"), "floats:ModelOpt"
    ),
    "compressed-tensors": "schemes:CompressedTensors",
    "deepseek_v4_fp8": "floats:DeepSeekV4",
    "experts_int8": "integers:ExpertsInt8",
    "fp8": "floats:Fp8",
    "gpt_oss_mxfp4": "floats:GptOssMxfp4",
    "inc": "schemes:AutoRound",
    "mxfp4": "floats:Mxfp4",
}
"""Class by method; its module is imported with the first such checkpoint."""


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
    if checkpoint is None:
        from .floats import ONLINE, Online

        if method in ONLINE:
            return Online(method)
    if method not in _METHODS:
        raise UnsupportedError(
            f"--quantization {method}: how its layers are stored is not known to the stand-alone "
            "planner; --planner vllm asks vLLM itself"
        )
    kept = _made.get((method, is_composite))
    if checkpoint is None or kept is None or kept[0] is not checkpoint:
        module, _, name = _METHODS[method].partition(":")
        make = getattr(import_module(f"{__name__}.{module}"), name)
        kept = (checkpoint, make(checkpoint or {}, is_composite=is_composite))
        _made[method, is_composite] = kept
    return kept[1]


_made: dict[tuple[str, bool], tuple[Any, Quantization]] = {}
"""The last of each method, and what it was made of: its lists of names are long, and configs are
not changed once read."""
