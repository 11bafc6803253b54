"""What a checkpoint says of its own quantization, and the method vLLM 0.33 settles on.

Restates ``ModelArchConfigConvertorBase._normalize_quantization_config`` and
``get_quantization_config`` (vllm/transformers_utils/model_arch_config_convertor.py), the
``override_quantization_method`` of the classes in vllm/model_executor/layers/quantization,
``KimiK3ForConditionalGenerationConfig`` (vllm/model_executor/models/config.py) and
``ModelConfig._verify_quantization`` (vllm/config/model.py); of the KV cache
``resolve_kv_cache_dtype_string`` (vllm/utils/torch_utils.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError, InputError, UnknownNameError, UnsupportedError
from ..files.json_file import shown
from .flag_table import flag_of

Checkpoint = Mapping[str, Any]

_DEEPSEEK_V4 = ("deepseek_v4", "deepseek_v4_text", "deepseek_v41", "deepseek_v41_text")
# Names a user may give for these checkpoints; "marlin" is none of vLLM's methods otherwise.
_GPTQ_NAMES = (None, "gptq", "gptq_marlin", "auto_gptq", "marlin")
_AWQ_NAMES = (None, "awq", "awq_marlin", "auto_awq", "marlin")
_LEGACY_MODELOPT = {
    "FP8": "modelopt",
    "FP8_PER_CHANNEL_PER_TOKEN": "modelopt",
    "FP8_PB_WO": "modelopt",
    "NVFP4": "modelopt_fp4",
    "MIXED_PRECISION": "modelopt_mixed",
}
# Architectures whose compressed-tensors checkpoints of this format run as another method.
_RENAMED_FORMATS = {("KimiK3ForConditionalGeneration", "mxfp4-pack-quantized"): "mxfp4"}


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


def checkpoint_quantization(config: Mapping[str, Any]) -> Checkpoint | None:
    """The quantization config that decides the method: the whole config's, else the text part's."""
    for part in (config, config.get("text_config")):
        if isinstance(part, Mapping):
            found = _own(part, "quantization_config")
            found = _own(part, "compression_config") if found is None else found
            if found is not None:
                return found
    return None


def layer_quantization(config: Mapping[str, Any]) -> Checkpoint | None:
    """The quantization config that layers are built with (``get_quant_config``)."""
    found = _own(config, "quantization_config")
    text = config.get("text_config")
    if found is None and isinstance(text, Mapping):
        found = _own(text, "quantization_config")
    return _own(config, "compression_config") if found is None else found


def _own(part: Mapping[str, Any], key: str) -> Checkpoint | None:
    value = part.get(key)
    if value is None or isinstance(value, Mapping):
        return value
    raise ConfigError(f"config.json: {key} is {shown(value)}; expected an object")


def quant_method(checkpoint: Checkpoint) -> str:
    """``quant_method`` as vLLM normalises it; empty where the checkpoint names none."""
    producer = checkpoint.get("producer")
    inner = checkpoint.get("quantization")
    inner = inner if isinstance(inner, Mapping) else {}
    is_modelopt = isinstance(producer, Mapping) and producer.get("name") == "modelopt"
    if (is_modelopt or "modelopt_quant_config" in inner) and inner.get("quant_algo") is not None:
        algorithm = str(inner["quant_algo"]).upper()
        if algorithm not in _LEGACY_MODELOPT:
            raise UnsupportedError(f"Unknown ModelOpt quant algo: {algorithm[:40]}")
        return _LEGACY_MODELOPT[algorithm]
    method = str(checkpoint.get("quant_method") or "").lower()
    return method.replace("compressed_tensors", "compressed-tensors")


def checkpoint_method(checkpoint: Checkpoint, architecture: str) -> str:
    """``quant_method`` once the architecture's own config rule had its say."""
    method = quant_method(checkpoint)
    if method == "compressed-tensors":
        return _RENAMED_FORMATS.get((architecture, str(checkpoint.get("format"))), method)
    return method


def overriding_method(
    checkpoint: Checkpoint, method: str, requested: str | None, model_type: str
) -> str | None:
    """The method whose class claims the checkpoint, whatever its ``quant_method``; None: no class.

    Asked in vLLM's order. Raises InputError for gpt-oss with ``--quantization humming``.
    """
    if requested == "humming":
        if model_type == "gpt_oss" and method == "mxfp4":
            raise InputError(
                "For gpt-oss model, use '--moe-backend humming' instead of "
                "'--quantization humming'."
            )
        return "humming"
    claims = (
        ("auto_gptq", method == "gptq" and requested in _GPTQ_NAMES),
        ("auto_awq", method == "awq" and requested in _AWQ_NAMES),
        ("inc", method == "auto-round"),
        ("moe_wna16", requested == "moe_wna16" and _is_wna16(checkpoint, method)),
        (_modelopt_method(checkpoint, method), True),
        ("gpt_oss_mxfp4", method in ("mxfp4", "gpt_oss_mxfp4") and model_type == "gpt_oss"),
        (
            "deepseek_v4_fp8",
            method in ("fp8", "deepseek_v4_fp8")
            and (model_type in _DEEPSEEK_V4 or requested == "deepseek_v4_fp8"),
        ),
    )
    return next((name for name, claimed in claims if claimed and name), None)


def modelopt_algorithm(checkpoint: Checkpoint) -> str:
    """``quant_algo`` of a ModelOpt checkpoint, old layout or new, in upper case."""
    inner = checkpoint.get("quantization", checkpoint)
    return str(inner.get("quant_algo") or "").upper() if isinstance(inner, Mapping) else ""


def _modelopt_method(checkpoint: Checkpoint, method: str) -> str | None:
    if not method.startswith("modelopt"):
        return None
    algorithm = modelopt_algorithm(checkpoint)
    if algorithm == "FP8":
        return "modelopt"
    if "FP4" in algorithm:
        return "modelopt_fp4"
    if "MXFP8" in algorithm:
        return "modelopt_mxfp8"
    return "modelopt_mixed" if algorithm == "MIXED_PRECISION" else None


def _is_wna16(checkpoint: Checkpoint, method: str) -> bool:
    bits = checkpoint.get("bits")
    if method == "gptq":
        return bits in (4, 8) and ordered_activations(checkpoint) is None
    return method == "awq" and bits == 4


def ordered_activations(checkpoint: Checkpoint) -> str | None:
    """Why a GPTQ checkpoint's activation order is not supported, in vLLM's words; None: it is.

    Source: ``normalize_and_validate_gptq_desc_act`` (…/quantization/utils/gptq_utils.py).
    """
    ordered, group_size = checkpoint.get("desc_act", False), checkpoint.get("group_size")
    if ordered and group_size != -1:
        return (
            "GPTQ group activation ordering (desc_act=True) is no longer supported. Use a "
            "checkpoint with static activation ordering or desc_act=False."
        )
    rules = checkpoint.get("dynamic")
    for pattern, rule in rules.items() if isinstance(rules, Mapping) else ():
        if pattern.startswith("-:") or not isinstance(rule, Mapping):
            continue
        if rule.get("desc_act", ordered) and rule.get("group_size", group_size) != -1:
            return (
                "GPTQ group activation ordering (desc_act=True) is no longer supported, but is "
                f"enabled by dynamic rule {str(pattern)[:60]!r}. Use a checkpoint with static "
                "activation ordering or desc_act=False."
            )
    return None


_MODELOPT = {"fp8": "fp8_e4m3", "nvfp4": "nvfp4"}


def modelopt_kv_cache_dtype(quantization_config: Mapping[str, Any]) -> str | None:
    """What a ModelOpt checkpoint asks of the KV cache; None for any other checkpoint.

    Unknown algorithms give ``auto``, as in ``get_kv_cache_quant_algo_string``.
    """
    if not quant_method(quantization_config).startswith("modelopt"):
        return None
    inner = quantization_config.get("quantization", quantization_config)
    inner = inner if isinstance(inner, Mapping) else {}
    algorithm = (
        inner.get("kv_cache_scheme")
        or quantization_config.get("kv_cache_scheme")
        or inner.get("kv_cache_quant_algo")
        or quantization_config.get("kv_cache_quant_algo")
    )
    if isinstance(algorithm, Mapping):
        bits, kind = algorithm.get("num_bits"), algorithm.get("type")
        if bits == 8 and kind == "float" and algorithm.get("dynamic") is False:
            return _MODELOPT["fp8"]
        return _MODELOPT["nvfp4"] if bits == 4 and kind == "float" else "auto"
    if isinstance(algorithm, str):
        return _MODELOPT.get(algorithm.lower(), "auto")
    return None


def compressed_tensors_scheme(model: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The ``kv_cache_scheme`` of a compressed-tensors config.json, checked as vLLM checks it."""
    config = layer_quantization(model)
    if config is None or quant_method(config) != "compressed-tensors":
        return None
    scheme = config.get("kv_cache_scheme")
    if not isinstance(scheme, Mapping):
        return None
    bits, kind, strategy = scheme.get("num_bits"), scheme.get("type"), scheme.get("strategy")
    if kind != "float" or bits != 8:
        raise UnsupportedError(
            "Currently supported kv cache quantization is num_bits=8, type=float, however "
            f"received num_bits={bits}, type={kind}"
        )
    if strategy not in ("tensor", "attn_head"):
        raise UnsupportedError(
            "Invalid strategy for compressed-tensors KV cache; expected tensor or attn_head, "
            f"found {strategy}"
        )
    if not scheme.get("symmetric"):
        raise UnsupportedError(
            "Only support symmetric scaling factor for compressed-tensors KV cache"
        )
    return scheme
