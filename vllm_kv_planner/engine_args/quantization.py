"""Which quantization method runs: ``--quantization`` against checkpoint and device.

Restates of vLLM 0.33: ``ModelConfig._verify_quantization`` (vllm/config/model.py),
``VllmConfig._get_quantization_config`` (vllm/config/vllm.py), ``get_quant_config``
(vllm/model_executor/model_loader/weight_utils.py), and ``get_min_capability``,
``get_supported_act_dtypes`` and ``get_config_filenames`` of the classes in
vllm/model_executor/layers/quantization.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError, UnknownNameError, UnsupportedError
from ..gpu.gpu import NOT_CUDA
from ..records import dataclass
from .checkpoint_quantization import (
    checkpoint_method,
    checkpoint_quantization,
    layer_quantization,
    overriding_method,
)
from .flag_table import flag_of


@dataclass(frozen=True)
class Method:
    """What a method's class asks of the device, and where else it looks for its config."""

    min_capability: int
    """75 is compute capability 7.5."""
    dtypes: tuple[str, ...] = ("bfloat16", "float16")
    files: tuple[str, ...] = ()
    """Read where config.json has no quantization config."""
    needs_checkpoint: bool = False
    """Cannot be made from nothing, though it reads no file."""
    kernel_capability: int = 0
    """What its linear layers ask for, where that is more (Marlin; compressed-tensors schemes)."""


_GPTQ = Method(60, files=("quantize_config.json",), kernel_capability=75)
_AWQ = Method(75, files=("quantize_config.json", "quant_config.json"))
_MODELOPT = ("hf_quant_config.json",)
_ANY = ("float32", "float16", "bfloat16")
ONLINE = Method(75)
"""Weights quantised while they are loaded (``OnlineQuantizationConfig``)."""
ONLINE_SHORTHANDS = (
    *("fp8_per_tensor", "fp8_per_block", "fp8_per_channel", "mxfp8", "mxfp4"),
    *("int8_per_channel_weight_only", "nvfp4_per_token"),
)
"""``_ONLINE_SHORTHANDS`` of vllm/config/quantization.py."""

METHODS: dict[str, Method] = {
    "auto_awq": _AWQ,
    "auto_gptq": _GPTQ,
    "awq": _AWQ,
    "awq_marlin": _AWQ,
    "compressed-tensors": Method(70, _ANY, needs_checkpoint=True, kernel_capability=75),
    "deepseek_v4_fp8": Method(75),
    "experts_int8": Method(80),
    "fbgemm_fp8": Method(80, needs_checkpoint=True),
    "fp8": Method(75),
    "fp_quant": Method(100, ("bfloat16",)),
    "gpt_oss_mxfp4": Method(80, ("bfloat16",)),
    "gptq": _GPTQ,
    "gptq_marlin": _GPTQ,
    "humming": Method(75, needs_checkpoint=True),
    "inc": Method(60, files=("quantization_config.json",), kernel_capability=75),
    "modelopt": Method(80, files=_MODELOPT),
    "modelopt_fp4": Method(75, ("bfloat16", "float16", "float8_e4m3fn"), _MODELOPT),
    "modelopt_mixed": Method(75, files=_MODELOPT),
    "modelopt_mxfp8": Method(80, ("bfloat16",), _MODELOPT),
    "moe_wna16": Method(70, files=("quantize_config.json",), kernel_capability=75),
    "mxfp4": Method(80, ("bfloat16",)),
    "mxfp8": Method(80, ("bfloat16",), _MODELOPT),
    "online": Method(75, needs_checkpoint=True),
    "quark": Method(70, needs_checkpoint=True),
    "torchao": Method(75, _ANY, needs_checkpoint=True),
}


def resolve_quantization(
    requested: str | None,
    config: Mapping[str, Any],
    *,
    architecture: str,
    allow_deprecated: bool = False,
) -> str | None:
    """The method vLLM settles on; None for unquantised weights.

    ``config`` is the whole config.json. Raises InputError in vLLM's words where flag and
    checkpoint contradict each other or the method is deprecated, UnknownNameError for a method
    vLLM does not have.
    """
    method = None if requested is None else requested.lower()
    checkpoint = checkpoint_quantization(config)
    if checkpoint is not None:
        stated = checkpoint_method(checkpoint, architecture)
        claimed = overriding_method(checkpoint, stated, method, str(config.get("model_type", "")))
        if claimed is not None:
            method = claimed
        elif method is None:
            method = stated or None
        elif method != stated:
            raise InputError(
                f"Quantization method specified in the model config ({stated[:40] or None}) does "
                "not match the quantization method specified in the `quantization` argument "
                f"({method}). Leave --quantization out."
            )
    if method is None:
        return None
    known = flag_of("quantization").names
    if method not in known:
        raise UnknownNameError(
            f"Unknown quantization method: {method[:40]}. vLLM 0.33 has {', '.join(known)}"
        )
    if method in ("fbgemm_fp8", "fp_quant") and not allow_deprecated:
        raise InputError(
            f"The quantization method {method} is deprecated and will be removed in future "
            "versions of vLLM. To bypass, set `--allow-deprecated-quantization`."
        )
    return method


def check_quantization(
    method: str | None,
    config: Mapping[str, Any],
    *,
    dtype: str,
    compute_capability: tuple[int, int],
    has_online_config: bool = False,
) -> None:
    """Refuse what vLLM refuses once it makes the method's config.

    ``method`` is the resolved one, ``dtype`` the model's. ``has_online_config``: whether
    ``--quantization-config`` says how to quantise while loading. Raises InputError
    (UnsupportedError for configs in files that are not read here) in vLLM's words.
    """
    if method is None:
        return
    checkpoint = layer_quantization(config)
    if checkpoint is not None:
        from .quantization_checks import check_checkpoint

        check_checkpoint(method, checkpoint)
        rule = METHODS.get(method, ONLINE)
    else:
        rule = _from_nothing(method, has_online_config)
    capability = 10 * compute_capability[0] + compute_capability[1]
    if compute_capability == NOT_CUDA:  # Intel's platform has none, and vLLM then does not compare
        capability = 1000
    if capability < rule.min_capability:
        raise InputError(
            f"The quantization method {method} is not supported for the current GPU. Minimum "
            f"capability: {rule.min_capability}. Current capability: {capability}."
        )
    if capability < rule.kernel_capability:
        raise InputError(
            f"The quantization method {method} is not supported for the current GPU: its layers' "
            f"kernels need capability {rule.kernel_capability}. Current capability: {capability}."
        )
    if dtype not in rule.dtypes:
        raise InputError(
            f"{dtype} is not supported for quantization method {method}. Supported dtypes: "
            f"{', '.join(rule.dtypes)}"
        )


def _from_nothing(method: str, has_online_config: bool) -> Method:
    """What runs where the checkpoint has no quantization config."""
    if method == "fp8" or method in ONLINE_SHORTHANDS or (method == "online" and has_online_config):
        return ONLINE
    rule = METHODS[method]
    if rule.files:
        raise UnsupportedError(
            f"--quantization {method}: the model's config.json has no quantization config; vLLM "
            f"looks for {' or '.join(rule.files)} beside it (Cannot find the config file for "
            f"{method}), which is not read here"
        )
    if rule.needs_checkpoint:
        raise InputError(
            f"--quantization {method}: the model's config.json has no quantization config; "
            "vLLM cannot make this method's from nothing"
        )
    return rule
